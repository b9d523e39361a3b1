"""The training of `tests/benchmarks/peers_training.py`, beside other frameworks; here ours and the loop by hand run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_ours_and_the_loop_by_hand_come_to_the_same_loss_and_write_no_control_character() -> None:
    command = [sys.executable, str(ROOT / "tests/benchmarks/peers_training.py"), "1", "lucid_train"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout
    titles, _, hand, ours = ([cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines())
    rows = [dict(zip(titles, row, strict=True)) for row in (hand, ours)]
    assert [row[""] for row in rows] == ["the loop by hand", "lucid_train"]
    assert [row["control characters"] for row in rows] == ["0", "0"]
    assert len({(row["loss"], row["accuracy"]) for row in rows}) == 1
