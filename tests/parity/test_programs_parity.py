"""The two programs that this library was asked for first run as they stand and print what PyTorch prints."""

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as theirs

PROGRAM = """\
import lucid_train
import lucid_train.nn as nn
import lucid_train.optims as optim
from lucid_train.optims.lr_scheduler import StepLR, ExponentialLR

model = nn.Linear(10, 1)
optimizer = optim.SGD(model.parameters(), lr=0.1)
scheduler = {schedule}
for epoch in range(20):
    optimizer.step()
    scheduler.step()
    print(f"Epoch {{epoch+1}}, Learning Rate: {{scheduler.last_lr}}")
"""


def printed_by_pytorch(build: Callable[[Any], Any]) -> list[str]:
    optimizer = torch.optim.SGD(torch.nn.Linear(10, 1).parameters(), lr=0.1)
    scheduler = build(optimizer)
    lines = []
    for epoch in range(20):
        optimizer.step()
        scheduler.step()
        lines.append(f"Epoch {epoch + 1}, Learning Rate: {scheduler.get_last_lr()}")
    return lines


def printed(schedule: str) -> list[str]:
    command = [sys.executable, "-W", "error", "-c", PROGRAM.format(schedule=schedule)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.splitlines()


def test_the_step_program_prints_what_pytorch_prints() -> None:
    expected = printed_by_pytorch(lambda optimizer: theirs.StepLR(optimizer, step_size=5, gamma=0.5))
    assert printed("StepLR(optimizer, step_size=5, gamma=0.5)") == expected


def test_the_exponential_program_prints_what_pytorch_prints_but_for_its_rounding() -> None:
    expected = printed_by_pytorch(lambda optimizer: theirs.ExponentialLR(optimizer, gamma=0.9))
    lines = printed("ExponentialLR(optimizer, gamma=0.9)")
    number = re.compile(r"\[(\S+)\]$")
    assert [number.sub("", line) for line in lines] == [number.sub("", line) for line in expected]
    # PyTorch multiplies the rounded rate of the epoch before: 0.07290000000000002, where 0.1 * 0.9 ** 3 is 0.0729.
    rates, theirs_rates = ([float(number.findall(line)[0]) for line in each] for each in (lines, expected))
    assert rates == pytest.approx(theirs_rates, rel=1e-14, abs=0)
