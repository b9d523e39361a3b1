"""`lucid-train demo`: a small network learns handwritten digits, with all that belongs around a training."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from lucid_train.callback import Callback
from lucid_train.callbacks.checkpoint import Checkpoint
from lucid_train.callbacks.event_log import EventLog
from lucid_train.callbacks.lr_scheduler import LRSchedulerCallback
from lucid_train.callbacks.rich_logger import RichLogger
from lucid_train.callbacks.stopping import EarlyStopping, TerminateOnNaN
from lucid_train.data import batches, digits
from lucid_train.history import History
from lucid_train.nn.layers import Linear, ReLU, Sequential
from lucid_train.nn.losses import CrossEntropyLoss
from lucid_train.optims.sgd import SGD
from lucid_train.schedules.cosine import Cosine
from lucid_train.schedules.decay import Exponential, Step
from lucid_train.training.track import track
from lucid_train.training.trainer import Trainer
from lucid_train.validation import one_of, whole_number

SCHEDULES: dict[str, Callable[[], Callback]] = {
    "step": lambda: LRSchedulerCallback(Step("33%", gamma=0.3)),
    "exponential": lambda: LRSchedulerCallback(Exponential(gamma=0.7)),
    "cosine": lambda: LRSchedulerCallback(Cosine().warmup("5%"), interval="step"),
}
# Epochs, and digits per step: with numpy, and with PyTorch, whose network takes longer.
_SIZES = {False: (15, 8), True: (8, 64)}


def add_command(commands: Any) -> None:
    """Add `demo` to the commands of an argparse parser."""
    summary = "train on the handwritten digits that ship with the package, for a few seconds"
    description = """Train a small network on 1,198 handwritten digits, each shifted by up to a pixel in every
        direction, and test it on 599 others. Ctrl-C stops in good order."""
    parser = commands.add_parser("demo", help=summary, description=description)
    add, ((epochs, size), (torch_epochs, torch_size)) = parser.add_argument, _SIZES.values()
    add(
        "--torch",
        action="store_true",
        help="train a convolutional network of PyTorch (default: a multilayer perceptron of numpy arrays)",
    )
    add("--scheduler", choices=SCHEDULES, default="cosine", help="schedule of the learning rate (default: cosine)")
    add("--lr", type=float, default=0.03, help="base learning rate (default: 0.03)")
    add("--epochs", type=int, help=f"passes over the training data (default: {epochs}, with --torch {torch_epochs})")
    add("--batch-size", type=int, help=f"digits per step (default: {size}, with --torch {torch_size})")
    add("--hidden", type=int, default=256, help="units of the hidden layer (default: 256)")
    add("--momentum", type=float, default=0.9, help="momentum of the gradient descent (default: 0.9)")
    add("--seed", type=int, default=0, help="seed of the split, the weights and the order of the data (default: 0)")
    add(
        "--directory",
        metavar="DIR",
        help="where checkpoints go, and a run that was interrupted goes on (default: a new temporary directory)",
    )
    add("--log", metavar="FILE", help="record the run, for lucid-train watch, show and replay (default: no record)")
    parser.set_defaults(command=run)


def run(arguments: Namespace) -> int:
    """Train as the command line asks; return the exit code."""
    ours = ("command", "directory", "log")
    settings = {name: value for name, value in vars(arguments).items() if name not in ours}
    directory = Path(arguments.directory or tempfile.mkdtemp(prefix="lucid-train-demo-"))
    logs = [] if arguments.log is None else [EventLog(arguments.log)]
    callbacks = [
        EarlyStopping("val_accuracy", patience=8, restore_best=True),
        Checkpoint(directory, monitor="val_accuracy"),
        RichLogger(),
        *logs,
    ]
    try:
        # In a new directory the same command would not find the run.
        train(**settings, callbacks=callbacks, resume="auto" if arguments.directory else None)
    except KeyboardInterrupt:
        if not arguments.directory and any(directory.iterdir()):
            print(f"the same command with --directory {directory} goes on from there")
        raise
    finally:
        if arguments.directory is None:
            with suppress(OSError):  # something was saved
                directory.rmdir()
    return 0


def train(
    *,
    torch: bool = False,
    scheduler: str = "cosine",
    lr: float = 0.03,
    epochs: int | None = None,
    batch_size: int | None = None,
    hidden: int = 256,
    momentum: float = 0.9,
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
    resume: str | None = None,
) -> History:
    """Train the demo's model; the same arguments give the same numbers to the last bit.

    Args:
        torch: Train a convolutional network of PyTorch, not a multilayer perceptron of numpy arrays.
        scheduler: "step", "exponential" or "cosine", which comes after a warm-up.
        lr: The base learning rate. At least 0.
        epochs: Passes over the training data; by default 15, with PyTorch 8.
        batch_size: Digits per step. At least 1; by default 8, with PyTorch 64.
        hidden: Units of the hidden layer. At least 1.
        momentum: Momentum of the gradient descent. At least 0.
        seed: Seed of the split, the weights and the order of the data. At least 0.
        callbacks: Callbacks that run after the schedule's.
        resume: As `Trainer.fit` has it.

    Returns:
        The history, with "loss", "accuracy", "val_loss" and "val_accuracy" of each epoch.

    Raises:
        ValueError: If an argument is out of its range, or PyTorch is not installed.
    """
    schedule = SCHEDULES[one_of("scheduler", scheduler, SCHEDULES)]()
    usual_epochs, usual_size = _SIZES[torch]
    epochs, size = usual_epochs if epochs is None else epochs, usual_size if batch_size is None else batch_size
    parts = (_torch_parts if torch else _numpy_parts)(
        lr, whole_number("batch_size", size, least=1), hidden, momentum, seed
    )
    trainer = Trainer(**parts, epochs=epochs, callbacks=[schedule, TerminateOnNaN(interval="epoch"), *callbacks])
    return trainer.fit(resume=resume)


def _shifted_digits(seed: int) -> tuple[Any, ...]:
    """Return images of shape (n, 9, 64), each shifted by up to a pixel, and labels of shape (n,): to train, to test."""
    images, labels, test_images, test_labels = digits(seed)
    padded = (np.pad(each.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1))) for each in (images, test_images))
    train, test = (
        np.stack([each[:, y : y + 8, x : x + 8].reshape(-1, 64) for y in range(3) for x in range(3)], axis=1)
        for each in padded
    )
    return train, labels, test, test_labels


def _numpy_parts(lr: float, batch_size: int, hidden: int, momentum: float, seed: int) -> dict[str, Any]:
    """Return what a Trainer needs to train a multilayer perceptron of numpy arrays."""
    images, labels, test_images, test_labels = _shifted_digits(seed)
    rng = np.random.default_rng(seed)
    model = Sequential(Linear(64, hidden, rng=rng), ReLU(), Linear(hidden, 10, rng=rng))
    criterion = CrossEntropyLoss()
    optimizer = SGD(model.parameters(), lr=lr, momentum=momentum)

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
        # A digit's scores are the means of those of its nine shifts.
        return metrics(np.stack([model(shifts).mean(axis=0) for shifts in track(test_images)]), test_labels)

    data = batches(images.reshape(-1, 64), labels.repeat(9), batch_size=batch_size, seed=seed)
    return {"step": step, "data": data, "model": model, "optimizer": optimizer, "evaluate": evaluate}


def _torch_parts(lr: float, batch_size: int, hidden: int, momentum: float, seed: int) -> dict[str, Any]:
    """Return what a Trainer needs to train a convolutional network of PyTorch."""
    try:
        torch: Any = import_module("torch")
    except ModuleNotFoundError as error:
        raise ValueError("'--torch' needs PyTorch, which is not installed: pip install torch") from error
    torch.set_num_threads(1)  # threads cost more than they gain on a network this small
    images, labels, test_images, test_labels = map(torch.from_numpy, _shifted_digits(seed))
    images, test_images = (each.float().unflatten(-1, (1, 8, 8)) for each in (images, test_images))
    nn, generator = torch.nn, torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, whole_number("hidden", hidden, least=1)),
        nn.ReLU(),
        nn.Linear(hidden, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)

    def metrics(scores: Any, expected: Any) -> dict[str, Any]:
        loss = nn.functional.cross_entropy(scores, expected)
        return {"loss": loss, "accuracy": (scores.argmax(dim=1) == expected).float().mean()}

    def step(batch: tuple[Any, Any]) -> dict[str, Any]:
        images, labels = batch
        optimizer.zero_grad()
        found = metrics(model(images), labels)
        found["loss"].backward()
        optimizer.step()
        return found

    def evaluate() -> dict[str, Any]:
        with torch.no_grad():
            return metrics(torch.stack([model(shifts).mean(dim=0) for shifts in track(test_images)]), test_labels)

    dataset = torch.utils.data.TensorDataset(images.flatten(0, 1), labels.repeat_interleave(9))
    data = torch.utils.data.DataLoader(dataset, batch_size=batch_size, shuffle=True, generator=generator)
    return {"step": step, "data": data, "model": model, "optimizer": optimizer, "evaluate": evaluate}
