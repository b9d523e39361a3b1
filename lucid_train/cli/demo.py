"""`lucid-train demo`: a multilayer perceptron learns handwritten digits, with a schedule and the display."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentDefaultsHelpFormatter, Namespace
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lucid_train.callback import Callback
from lucid_train.callbacks.event_log import EventLog
from lucid_train.callbacks.lr_scheduler import CosineAnnealingLRCallback, ExponentialLRCallback, StepLRCallback
from lucid_train.callbacks.rich_logger import RichLogger
from lucid_train.callbacks.stopping import TerminateOnNaN
from lucid_train.data import batches, digits
from lucid_train.history import History
from lucid_train.nn.layers import Linear, ReLU, Sequential
from lucid_train.nn.losses import CrossEntropyLoss
from lucid_train.optims.sgd import SGD
from lucid_train.training.trainer import Trainer
from lucid_train.validation import one_of

# How each schedule is made for a number of epochs.
SCHEDULES: dict[str, Callable[[int], Callback]] = {
    "step": lambda epochs: StepLRCallback(step_size=max(1, epochs // 3), gamma=0.3),
    "exponential": lambda epochs: ExponentialLRCallback(gamma=0.9),
    "cosine": lambda epochs: CosineAnnealingLRCallback(T_max=max(1, epochs)),
}


def add_command(commands: Any) -> None:
    """Add `demo` to the commands of an argparse parser."""
    summary = "train on the handwritten digits that ship with the package"
    description = "Train a multilayer perceptron on 1,198 handwritten digits and test it on 599 others."
    parser = commands.add_parser("demo", help=summary, description=description)
    parser.formatter_class = ArgumentDefaultsHelpFormatter
    parser.add_argument("--scheduler", choices=SCHEDULES, default="cosine", help="the schedule of the learning rate")
    parser.add_argument("--lr", type=float, default=0.05, help="the base learning rate")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the training data")
    parser.add_argument("--batch-size", type=int, default=8, help="digits per step")
    parser.add_argument("--hidden", type=int, default=128, help="units of the hidden layer")
    parser.add_argument("--momentum", type=float, default=0.9, help="momentum of the gradient descent")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split, the weights and the order of the data")
    record = "record the run, for lucid-train watch, show and replay (default: no record)"
    parser.add_argument("--log", metavar="FILE", default=SUPPRESS, help=record)
    parser.set_defaults(command=run)


def run(arguments: Namespace) -> int:
    """Train as the command line asks; return the exit code."""
    settings = {name: value for name, value in vars(arguments).items() if name not in ("command", "log")}
    logs = [EventLog(arguments.log)] if "log" in arguments else []
    history = train(**settings, callbacks=[RichLogger(monitor="val_accuracy"), *logs])
    if history:
        best = history.best("val_accuracy")
        print(f"held-out accuracy {history[-1].metrics['val_accuracy']:.2%}, best {best.metrics['val_accuracy']:.2%}")
    return 0 if history.status == "completed" else 1


def train(
    *,
    scheduler: str = "cosine",
    lr: float = 0.05,
    epochs: int = 30,
    batch_size: int = 8,
    hidden: int = 128,
    momentum: float = 0.9,
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Train the demo's model; the same arguments give the same numbers to the last bit.

    Args:
        scheduler: "step", "exponential" or "cosine".
        lr: The base learning rate. At least 0.
        epochs: Passes over the training data.
        batch_size: Digits per step. At least 1.
        hidden: Units of the hidden layer. At least 1.
        momentum: Momentum of the gradient descent. At least 0.
        seed: Seed of the split, the weights and the order of the data. At least 0.
        callbacks: Callbacks that run after the schedule's.

    Returns:
        The history, with "loss", "accuracy", "val_loss" and "val_accuracy" of each epoch.

    Raises:
        ValueError: If an argument is out of its range.
    """
    images, labels, test_images, test_labels = digits(seed)
    rng = np.random.default_rng(seed)
    model = Sequential(Linear(64, hidden, rng=rng), ReLU(), Linear(hidden, 10, rng=rng))
    criterion = CrossEntropyLoss()
    optimizer = SGD(model.parameters(), lr=lr, momentum=momentum)
    schedule = SCHEDULES[one_of("scheduler", scheduler, SCHEDULES)](epochs)

    def metrics(scores: Any, expected: Any) -> dict[str, float]:
        return {"loss": criterion(scores, expected), "accuracy": float((scores.argmax(axis=1) == expected).mean())}

    def step(batch: tuple[Any, Any]) -> dict[str, float]:
        images, labels = batch
        optimizer.zero_grad()
        found = metrics(model(images), labels)
        model.backward(criterion.backward())
        optimizer.step()
        return found

    def evaluate() -> dict[str, float]:
        return metrics(model(test_images), test_labels)

    data = batches(images, labels, batch_size=batch_size, seed=seed)
    listed = [schedule, TerminateOnNaN(), *callbacks]
    trainer = Trainer(step, data, epochs=epochs, model=model, optimizer=optimizer, evaluate=evaluate, callbacks=listed)
    return trainer.fit()
