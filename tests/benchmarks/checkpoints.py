"""What a checkpoint costs, against numpy.save and fsync of the same bytes, and how much memory it takes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from measure import Row, best_of

from lucid_train import EpochStart, StepEnd, Trainer, read_checkpoint, write_checkpoint
from lucid_train.callbacks import Checkpoint

PARAMETERS = 100_000_000
EPOCHS = 100_000
REPEATS = 5

# The peak of a process that holds the model and saves it, or does not.
MEMORY = """
import sys, tempfile
import numpy as np
from lucid_train import write_checkpoint
model = {"weight": np.ones(int(sys.argv[1]), np.float32)}
if sys.argv[2] == "save":
    with tempfile.TemporaryDirectory(dir=".") as folder:
        write_checkpoint(folder + "/state", {"model": model})
# Not getrusage: its figure is that of the process that started this one, if that was larger.
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


class Model:
    """Something of so many parameters whose state is its arrays themselves, as PyTorch's is."""

    def __init__(self) -> None:
        self.weight = np.ones(PARAMETERS, dtype=np.float32)

    def state_dict(self) -> dict[str, Any]:
        """Return the arrays."""
        return {"weight": self.weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the numbers."""
        self.weight[...] = state["weight"]


def save_with_numpy(path: Path, array: Any) -> None:
    """Write an array and force it to the disk: the yardstick."""
    with open(path, "wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())


def peak(mode: str) -> float:
    """Return the most memory that a process needed, as Linux tells it."""
    command = [sys.executable, "-c", MEMORY, str(PARAMETERS), mode]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) * 1024


def blocked(folder: Path, model: Model) -> float:
    """Return how long a step waits for a checkpoint in the background."""
    waits: list[float] = []
    checkpoint = Checkpoint(folder, every=None, background=True, signals=())
    trainer = Trainer(lambda batch: None, [1, 2], model=model, callbacks=[checkpoint])

    def ask(event: Any) -> None:
        checkpoint.save()
        began = perf_counter()
        event.run.at_safe_point(lambda: waits.append(perf_counter() - began))

    trainer.on(StepEnd, at=1)(ask)
    trainer.fit()
    return min(waits)


def with_epochs_behind(folder: Path, epochs: int) -> tuple[float, float, float]:
    """Return how long a save takes after so many epochs, and a resume until its first epoch; and a file's bytes."""
    began: list[float] = []
    saves: list[float] = []

    def trainer(goal: int) -> Trainer:
        def step(batch: object) -> float:
            return 0.5

        checkpoint = Checkpoint(folder, every=None, signals=(), weights=False)
        made = Trainer(step, [1], epochs=goal, evaluate=lambda: {"val_loss": 0.5}, callbacks=[checkpoint])

        @made.on(EpochStart)
        def note(event: EpochStart) -> None:
            began.append(perf_counter())
            if event.epoch > epochs:
                checkpoint.save()
                event.run.at_safe_point(lambda: saves.append(perf_counter() - began[-1]))

        return made

    trainer(epochs).fit()
    began.clear()
    resumed = perf_counter()
    trainer(epochs + REPEATS).fit(epochs + REPEATS, resume="auto")
    return min(saves), began[0] - resumed, (folder / "last.safetensors").stat().st_size


def rows() -> list[Row]:
    """Measure everything."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        few, many = with_epochs_behind(Path(name) / "few", 1), with_epochs_behind(Path(name) / "many", EPOCHS)
    model = Model()
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        ours, theirs = best_of(
            lambda: write_checkpoint(folder / "ours", {"model": model.state_dict()}),
            lambda: save_with_numpy(folder / "theirs.npy", model.weight),
            repeats=REPEATS,
        )
        read, loaded = best_of(
            lambda: read_checkpoint(folder / "ours"), lambda: np.load(folder / "theirs.npy"), repeats=REPEATS
        )
        (copy,) = best_of(model.weight.copy, repeats=REPEATS)
        wait = min(blocked(folder / f"{number}", model) for number in range(2))
    held, needed = peak("hold"), peak("save")
    what = f"of {PARAMETERS:,} float32"
    return [
        Row(f"a checkpoint {what}", ours, theirs, "numpy.save and fsync", budget=2),
        Row(f"reading one {what}, verified", read, loaded, "numpy.load"),
        Row("what a step waits, in the background", wait, copy, "a copy of the array", budget=1.5),
        Row(f"a save after {EPOCHS:,} epochs", many[0], few[0], "one after the first", budget=2),
        Row(f"its file after {EPOCHS:,} epochs", many[2], few[2], "that after the first", budget=1.1, unit="B"),
        Row(f"resuming after {EPOCHS:,} epochs", many[1], 1.0, "a second", budget=1),
        Row("peak memory of a save", needed, held, "the process with its model", budget=1.2, unit="B"),
    ]


def main() -> None:
    """Print the rows."""
    for row in rows():
        print(f"{row.what}: {row.ours:.4g} {row.unit}, {row.ratio:.2f} x {row.against}, budget {row.budget}")


if __name__ == "__main__":
    main()
