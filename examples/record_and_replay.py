"""Record a run, continue it in the same files, read the recording as data, and replay it to another callback.

Pass a folder for the logs: `python record_and_replay.py runs`. Then, during the run or later, on this machine or on one
that shares its disk:

    lucid-train watch runs/digits.jsonl
    lucid-train show runs/*.jsonl
    lucid-train replay runs/digits.jsonl --speed 10
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lucid_train import Trainer, nn, optims, replay, schedules
from lucid_train.callbacks import CSVLogger, EarlyStopping, EventLog, LRSchedulerCallback
from lucid_train.data import batches, digits

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
images, labels, test_images, test_labels = digits(seed=0)
rng = np.random.default_rng(0)
model = nn.Sequential(nn.Linear(64, 32, rng=rng), nn.ReLU(), nn.Linear(32, 10, rng=rng))
criterion = nn.CrossEntropyLoss()
optimizer = optims.SGD(model.parameters(), lr=0.05, momentum=0.9)


def train_step(batch: tuple[NDArray[np.float64], NDArray[np.intp]]) -> float:
    """Do one update."""
    x, y = batch
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    model.backward(criterion.backward())
    optimizer.step()
    return loss


trainer = Trainer(
    step=train_step,
    data=batches(images, labels, batch_size=32, seed=0),
    model=model,
    optimizer=optimizer,
    evaluate=lambda: criterion(model(test_images), test_labels),
    epochs=6,
    callbacks=[
        LRSchedulerCallback(schedules.Exponential(gamma=0.9)),
        EventLog(folder / "digits.jsonl"),  # every event, one line of JSON each
        CSVLogger(folder / "digits.csv"),  # one row per epoch
    ],
)
trainer.fit()
history = trainer.fit(epochs=12)  # continues in the same files, as a resumed process does

# The run as data: columns as numpy arrays, from the history or from the log alone.
columns = replay(folder / "digits.jsonl").arrays()
assert np.array_equal(columns["val_loss"], history.arrays()["val_loss"])
print("columns:", ", ".join(columns))
print(f"lowest val_loss {columns['val_loss'].min():.4f} in epoch {columns['epoch'][columns['val_loss'].argmin()]}")

# What would early stopping have done? It receives the recorded run, event by event.
stopper = EarlyStopping("val_loss", patience=2, min_delta=0.02)
print("with early stopping:", replay(folder / "digits.jsonl", [stopper]))
