"""SIGTERM with the worker processes of a DataLoader: to all at once, to them first, to the training process first."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.support.ends import MOMENTS, ORDERS


def table(methods: Sequence[str], workers: Sequence[int], persistent: Sequence[bool]) -> list[dict[str, Any]]:
    """Return runs that are ended at each moment and in each order, with callbacks in this order or the other."""
    rows = product(methods, workers, persistent, MOMENTS, ORDERS)
    names = ("method", "workers", "persistent", "moment", "order")
    return [dict(zip(names, row, strict=True)) | {"reverse": bool(n % 2)} for n, row in enumerate(rows)]


def ended(rows: list[dict[str, Any]]) -> list[Any]:
    command = [sys.executable, "-m", "tests.support.ends", json.dumps(rows)]
    # In a group of its own, which is what the signals are sent to.
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True, timeout=600)
    found = [json.loads(line.removeprefix("RESULT ")) for line in done.stdout.splitlines() if "RESULT" in line]
    assert len(found) == len(rows), done.stderr
    return [result for result in found if result[1] != [143, True, 0, True]]


def test_sigterm_ends_in_good_order_and_the_run_goes_on_exactly() -> None:
    assert ended(table(["fork"], [2], [False])) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_sigterm_ends_in_good_order_however_workers_are_started(method: str, workers: int, persistent: bool) -> None:
    assert ended(table([method], [workers], [persistent])) == []


def test_the_exit_code_is_that_of_sigterm(tmp_path: Path) -> None:
    row = {"method": "fork", "workers": 2, "persistent": True, "moment": "evaluation", "order": "group"}
    command = [sys.executable, "-m", "tests.support.ends", json.dumps([row]), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True, timeout=100)
    assert (done.returncode, done.stderr) == (143, "")
    assert done.stdout.splitlines()[-1].startswith("interrupted by SIGTERM")
