"""The program of docs/guides/many_processes.md prints what the page shows: on one process, and under torchrun once."""

import re
import sys
from pathlib import Path

import pytest

from tests.support.launchers import completed, torchrun
from tests.support.pages import DOCS
from tests.support.readme import timeless

TEXT = (DOCS / "guides/many_processes.md").read_text("utf-8").partition("## A program for one and for two")[2]
[PROGRAM] = re.findall(r"^```python\n(import os\n.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
SHOWN = re.search(r"^```text\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)[1]  # type: ignore[index]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def epochs(text: str) -> list[str]:
    return [timeless(line) for line in text.splitlines() if line.startswith(("epoch", "best"))]


def test_its_program_shows_the_same_epochs_on_one_process_and_on_two(tmp_path: Path) -> None:
    printed = {}
    for name, command in {"one": [sys.executable, "train.py"], "two": torchrun("train.py")}.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "train.py").write_text(PROGRAM)
        printed[name] = completed(command, folder=folder).stdout
    assert timeless(printed["two"]) == timeless(SHOWN)
    assert epochs(printed["one"]) == epochs(SHOWN)
