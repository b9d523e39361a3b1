"""A real PyTorch training under a schedule, the display and an evaluation, against the same loop written by hand."""

from __future__ import annotations

import io
from functools import partial
from importlib.util import find_spec
from math import cos, pi
from typing import Any

from measure import Row, best_of
from rich.console import Console

from lucid_train import Trainer, schedules
from lucid_train.callbacks import LRSchedulerCallback, RichLogger
from lucid_train.data import digits

EPOCHS, BATCH, LR = 15, 32, 0.05


class Setup:
    """A multilayer perceptron on the digits, and what a step and an evaluation of it are."""

    def __init__(self) -> None:
        import torch

        torch.manual_seed(0)
        images, labels, test_images, test_labels = (torch.from_numpy(array) for array in digits())
        self.data = [*zip(images.float().split(BATCH), labels.split(BATCH), strict=True)]
        self.held_out = test_images.float(), test_labels
        self.model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LR, momentum=0.9)
        self.criterion = torch.nn.CrossEntropyLoss()
        self.no_grad = torch.no_grad

    def step(self, batch: Any) -> Any:
        x, y = batch
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss

    def evaluate(self) -> Any:
        x, y = self.held_out
        self.model.eval()
        with self.no_grad():
            loss = self.criterion(self.model(x), y)
        self.model.train()
        return {"loss": loss}


def by_hand(epochs: int = EPOCHS, batches: int | None = None) -> None:
    """Train with the rate by its formula, the mean loss, an evaluation and a line per epoch."""
    setup = Setup()
    data = setup.data[:batches]
    steps, done = epochs * len(data), 0
    for epoch in range(1, epochs + 1):
        total: Any = 0.0
        for batch in data:
            setup.optimizer.param_groups[0]["lr"] = LR * cos(pi * done / (2 * steps)) ** 2
            total += setup.step(batch).detach()
            done += 1
        found = setup.evaluate()
        line = f"epoch {epoch}/{epochs} loss {float(total) / len(data):.4f} val_loss {float(found['loss']):.4f}"
        assert "nan" not in line


def ours(epochs: int = EPOCHS, batches: int | None = None) -> None:
    """Train the same with the Trainer."""
    setup = Setup()
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    Trainer(
        step=setup.step,
        data=setup.data[:batches],
        epochs=epochs,
        model=setup.model,
        optimizer=setup.optimizer,
        evaluate=setup.evaluate,
        callbacks=[LRSchedulerCallback(schedules.Cosine(), interval="step"), RichLogger(console=console)],
    ).fit()


def parts(whole: float, epochs_of_a_step: float, one_step: float, steps: int) -> tuple[float, float, float]:
    """Return what a step, an epoch beside its steps, and the rest of a training take.

    Args:
        whole: Seconds of EPOCHS epochs of so many steps.
        epochs_of_a_step: Seconds of EPOCHS epochs of one step.
        one_step: Seconds of one epoch of one step.
        steps: Steps of an epoch.
    """
    step = (whole - epochs_of_a_step) / (EPOCHS * (steps - 1))
    epoch = (epochs_of_a_step - one_step) / (EPOCHS - 1) - step
    return step, epoch, one_step - epoch - step


def rows() -> list[Row]:
    """Measure everything."""
    if not find_spec("torch"):
        return []
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the network is so small that threads cost more than they gain
    try:
        sizes: list[dict[str, int]] = [{}, {"batches": 1}, {"epochs": 1, "batches": 1}]
        seconds = best_of(*(partial(train, **size) for size in sizes for train in (ours, by_hand)), repeats=25)
    finally:
        torch.set_num_threads(threads)
    length = len(Setup().data)
    mine, hand = parts(*seconds[::2], length), parts(*seconds[1::2], length)
    what, against = "a PyTorch training, schedule, display, evaluation", "the loop by hand"
    return [
        Row(f"{what}: {EPOCHS} epochs of {length} steps", seconds[0], seconds[1], against, budget=1.1),
        Row("of it, a step", mine[0], hand[0], against),
        Row("of it, an epoch beside its steps", mine[1], hand[1], against),
        Row("of it, once: network, data, and the start and end of a fit", mine[2], hand[2], against),
    ]
