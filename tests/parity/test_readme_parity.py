"""The README's program with PyTorch prints what follows it, but for times and the last digits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.parity import setups as with_torch
from tests.support import setups as with_numpy
from tests.support.readme import PROGRAMS, TEXT, timeless

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
(PROGRAM,) = (program for program in PROGRAMS if program.needs_torch)


def test_the_program_prints_what_it_says(tmp_path: Path) -> None:
    printed, said = timeless(PROGRAM.run(tmp_path)), timeless(PROGRAM.output)
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", said)
    found, expected = ([float(number.replace(",", "")) for number in NUMBER.findall(text)] for text in (printed, said))
    assert found == pytest.approx(expected, rel=0.05)  # the last digits of a sum are the processor's
    assert sorted(path.name for path in (tmp_path / "runs/digits").glob("*.safetensors"))[-1] == "last.safetensors"


def test_as_many_set_ups_are_exact_as_it_says() -> None:
    all_of_them = [*with_numpy.SETUPS.values(), *with_torch.SETUPS.values()]
    refused = sum(setup.refused is not None for setup in all_of_them)
    said = f"of {len(all_of_them)} set-ups {len(all_of_them) - refused} are exact and {refused} are refused by name"
    assert said in " ".join(TEXT.split())
