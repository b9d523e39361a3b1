"""Steer a run from outside: save, evaluate, go on with a tenth of the rate, stop.

From another terminal, while this program trains with its log in a folder that is given, `python steer.py runs`:

    lucid-train control runs/digits.jsonl set lr=0.005
    lucid-train control runs/digits.jsonl evaluate
    lucid-train control runs/digits.jsonl stop

Here the program gives the commands to itself, as a person would in another terminal.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lucid_train import CommandAnswered, EpochReport, Trainer, nn, optims, schedules
from lucid_train.callbacks import Checkpoint, EventLog, LRSchedulerCallback
from lucid_train.data import batches, digits

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
log = folder / "digits.jsonl"
images, labels, test_images, test_labels = digits(seed=0)
model = nn.Linear(64, 10, rng=0)
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
    epochs=100_000,
    callbacks=[
        LRSchedulerCallback(schedules.Exponential(gamma=0.99999)),
        Checkpoint(folder / "digits", every=None),
        EventLog(log, heartbeat=0.2),  # which looks for commands as often
    ],
)
commands = [["set", "lr=0.005"], ["evaluate"], ["stop"]]
senders: list[subprocess.Popen[bytes]] = []


@trainer.on(EpochReport, at=1)
@trainer.on(CommandAnswered)
def command(event: EpochReport | CommandAnswered) -> None:
    """Give the next command, in a process of its own."""
    if isinstance(event, CommandAnswered):
        print(f"{event.command}: {event.answer}")
        assert event.done
    if commands:
        words = [sys.executable, "-m", "lucid_train", "control", str(log), *commands.pop(0)]
        senders.append(subprocess.Popen(words, stdout=subprocess.DEVNULL))


history = trainer.fit()
assert history.status == "stopped"
assert [sender.wait() for sender in senders] == [0, 0, 0]
assert history[-1].last_lr[0] < 0.01
print(f"{history.reason}, after {len(history)} epochs")
