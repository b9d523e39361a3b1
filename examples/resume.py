"""A run that may be interrupted at any time, and continues when the same command is started again.

    python examples/resume.py [directory]

With a directory, interrupt it yourself with Ctrl-C, SIGTERM or SIGKILL. Without one, it trains once straight through
and once in two parts, and shows that the results are equal to the last bit.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lucid_train import History, StepEnd, Trainer, nn, optims, schedules
from lucid_train.callbacks import Checkpoint, LRSchedulerCallback, TimeLimit
from lucid_train.data import batches, digits


def build(directory: Path) -> Trainer:
    """Return a Trainer on the digits, with its checkpoints in a directory."""
    images, labels, test_images, test_labels = digits()
    model = nn.Sequential(nn.Linear(64, 32, rng=0), nn.ReLU(), nn.Linear(32, 10, rng=1))
    criterion = nn.CrossEntropyLoss()
    optimizer = optims.Adam(model.parameters(), lr=0.01)
    noise = np.random.default_rng(2)

    def step(batch: tuple[NDArray[np.float64], NDArray[np.intp]]) -> float:
        x, y = batch
        optimizer.zero_grad()
        loss = criterion(model(x + 0.1 * noise.standard_normal(x.shape)), y)
        model.backward(criterion.backward())
        optimizer.step()
        return loss

    return Trainer(
        step=step,
        data=batches(images, labels, batch_size=32),
        epochs=10,
        model=model,
        optimizer=optimizer,
        evaluate=lambda: {"accuracy": float((model(test_images).argmax(axis=1) == test_labels).mean())},
        extras={"noise": noise},  # a generator of our own: its state belongs to the run
        callbacks=[
            LRSchedulerCallback(schedules.Cosine()),
            Checkpoint(directory, every=20, interval="step", monitor="val_accuracy"),
            TimeLimit(3600, margin=60),  # the limit of a batch system
        ],
    )


def outcome(trainer: Trainer, history: History) -> tuple[object, ...]:
    """Return the results of a run, to be compared bit for bit."""
    weights = [array.tobytes() for array in trainer.state_dict()["model"].values()]
    return weights, history.metric("loss"), history.metric("val_accuracy"), [record.lr for record in history]


if len(sys.argv) > 1:
    print(build(Path(sys.argv[1])).fit(resume="auto"))
    sys.exit()

with tempfile.TemporaryDirectory() as folder:
    straight = build(Path(folder) / "straight")
    expected = outcome(straight, straight.fit(resume="auto"))

    interrupted = build(Path(folder) / "parts")
    interrupted.on(StepEnd, at=137)(lambda event: event.run.stop("interrupted for the example"))
    print(interrupted.fit(resume="auto"))

    resumed = build(Path(folder) / "parts")  # the same command again
    history = resumed.fit(resume="auto")
    print(history, f"accuracy {history.best('val_accuracy').metrics['val_accuracy']:.1%}")
    print("equal to the last bit:", outcome(resumed, history) == expected)
