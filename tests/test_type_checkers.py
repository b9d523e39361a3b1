"""What type checkers find in a program that is written on the library."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAM = """
from attrs import define, field

import lucid_train
from lucid_train.callback import Callback, Hook, on
from lucid_train.events import EpochEnd, Event, StepEnd


@define(kw_only=True)
class BatchLost(Event):
    number: int = 0


@define(eq=False)
class Good(Callback):
    patience: int = 3
    loss: float = field(default=0.0, init=False)

    def on_epoch_end(self, event: EpochEnd) -> None:
        super().on_epoch_end(event)
        self.loss = event.metrics["loss"]

    def on_batch_lost(self, event: BatchLost) -> None:
        event.run.stop(f"batch {event.number} is lost")

    @on(StepEnd, every=2, when=lambda event: event.loss > 1)
    def look(self, event: StepEnd) -> None:
        event.run.emit(BatchLost(run=event.run, number=event.step))

    def hooks(self, event: type[Event]) -> list[Hook]:
        return super().hooks(event)


@define(eq=False)
class Wrong(Callback):
    def on_epoch_end(self, event: StepEnd) -> None:  # wrong
        print(event.loss)

    @on(EpochEnd, when=lambda event: event.loss > 1)  # wrong
    def look(self, event: EpochEnd) -> None:
        print(event.epoch)


Good(patience="3")  # wrong
lucid_train.Trainer(callbacks=[Good()]).fit()
lucid_train.Traner()  # wrong
"""
WRONG = [number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# wrong")]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def checked(*command: str, at: Path) -> str:
    """Return what a checker says of the program."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=at, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_mypy_strict_finds_a_hook_with_another_event_a_misspelt_name_and_nothing_else(program: Path) -> None:
    pytest.importorskip("mypy")
    cache = ROOT / ".mypy_cache" / "programs"
    found = checked("mypy", "--strict", "--follow-imports=silent", "--cache-dir", str(cache), str(program), at=ROOT)
    assert [int(line) for line in re.findall(r"program\.py:(\d+): error:", found)] == WRONG, found
    assert 'incompatible with supertype "lucid_train.callback.Callback"; supertype defines' in found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_pyright_strict_finds_the_same(program: Path) -> None:
    pytest.importorskip("basedpyright")
    settings = program.parent / "pyrightconfig.json"
    settings.write_text(f'{{"typeCheckingMode": "strict", "extraPaths": ["{ROOT}"]}}')
    found = checked("basedpyright", "--pythonpath", sys.executable, at=program.parent)
    assert {int(line) for line in re.findall(r"program\.py:(\d+):\d+ - error:", found)} == set(WRONG), found
    assert 'overrides class "Callback" in an incompatible manner' in found
