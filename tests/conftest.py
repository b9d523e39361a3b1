"""What several test modules need: a callback that remembers events, an optimizer that remembers rates, killed runs."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from hypothesis import settings

from lucid_train import Callback, Event, read_checkpoint
from lucid_train.callback import Hook
from lucid_train.testing import differing

settings.register_profile("untimed", deadline=None)  # a machine that is busy proves nothing
settings.load_profile("untimed")


@define(eq=False)
class Recorder(Callback):
    """Remembers the events of the given classes, or of all of them."""

    classes: tuple[type[Event], ...] = ()
    seen: list[Event] = field(factory=list, init=False, repr=False)

    def hooks(self, event: type[Event]) -> list[Hook]:
        return [self.seen.append] if event in self.classes or not self.classes else []


class RateWitness:
    """An optimizer that does nothing but remember the rates that it read in each step."""

    def __init__(self, *rates: Any) -> None:
        self.param_groups = [{"params": [], "lr": rate} for rate in rates]
        self.used: list[tuple[float, ...]] = []

    def step(self) -> None:
        self.used.append(tuple(float(group["lr"]) for group in self.param_groups))


@pytest.fixture
def recorder() -> Callable[..., Any]:
    return lambda *classes: Recorder(classes)


@pytest.fixture
def rate_witness() -> Callable[..., Any]:
    return RateWitness


def _ran(arguments: list[str], delay: float | None) -> bool:
    """Run a program, kill it so many seconds after it says that it is ready, and return whether it came to its end."""
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    if delay is not None:
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=100)
    assert process.returncode in (0, -signal.SIGKILL), errors
    return process.returncode == 0


@pytest.fixture
def survives(tmp_path: Path) -> Callable[[str, int, float], None]:
    """Run a program once through, and again killed so many times at random moments; compare what they came to.

    The program gets the directory of its checkpoints and the file for its result, and prints a line before it trains.
    """

    def check(program: str, kills: int, longest: float) -> None:
        file = tmp_path / "program.py"
        file.write_text(program)
        assert _ran([sys.executable, str(file), str(tmp_path / "straight"), str(tmp_path / "expected")], None)
        expected = read_checkpoint(tmp_path / "expected")
        chance = random.Random(kills)
        done = 0
        for attempt in range(kills + 1):
            result = tmp_path / f"result-{attempt}"
            command = [sys.executable, str(file), str(tmp_path / f"killed-{attempt}"), str(result)]
            while not _ran(command, None if done == kills else chance.uniform(0.0, longest)):
                done += 1
            assert differing(expected, read_checkpoint(result)) == []
            if done == kills:
                return
        raise AssertionError(f"only {done} of {kills} runs were killed")

    return check
