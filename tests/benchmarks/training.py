"""A real PyTorch training under a schedule, the display and an evaluation, against the same loop written by hand."""

from __future__ import annotations

import io
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


def by_hand() -> None:
    """Train with the rate by its formula, the mean loss, an evaluation and a line per epoch."""
    setup = Setup()
    steps, done = EPOCHS * len(setup.data), 0
    for epoch in range(1, EPOCHS + 1):
        total: Any = 0.0
        for batch in setup.data:
            setup.optimizer.param_groups[0]["lr"] = LR * cos(pi * done / (2 * steps)) ** 2
            total += setup.step(batch).detach()
            done += 1
        found = setup.evaluate()
        line = f"epoch {epoch}/{EPOCHS} loss {float(total) / len(setup.data):.4f} val_loss {float(found['loss']):.4f}"
        assert "nan" not in line


def ours() -> None:
    """Train the same with the Trainer."""
    setup = Setup()
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    Trainer(
        step=setup.step,
        data=setup.data,
        epochs=EPOCHS,
        model=setup.model,
        optimizer=setup.optimizer,
        evaluate=setup.evaluate,
        callbacks=[LRSchedulerCallback(schedules.Cosine(), interval="step"), RichLogger(console=console)],
    ).fit()


def rows() -> list[Row]:
    """Measure everything."""
    if not find_spec("torch"):
        return []
    trained, hand = best_of(ours, by_hand, repeats=15)
    return [Row("a PyTorch training, schedule, display, evaluation", trained, hand, "the loop by hand", budget=1.1)]
