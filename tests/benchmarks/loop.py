"""What the Trainer costs per step, against loops written by hand."""

from __future__ import annotations

import io
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from attrs import define, field
from measure import Row, best_of
from rich.console import Console

from lucid_train import Callback, EpochEnd, StepEnd, Trainer
from lucid_train.callbacks import RichLogger
from lucid_train.saving.fingerprint import fingerprint

STEPS = 100_000
data = range(STEPS)


def constant(batch: object) -> float:
    """Do as little as a step function can."""
    return 0.5


@define(eq=False)
class Listener(Callback):
    """Listens to every step and does next to nothing."""

    seen: int = field(default=0, init=False)

    def on_step_end(self, event: StepEnd) -> None:
        self.seen += 1


@define(eq=False)
class EpochListener(Callback):
    """Listens to epochs only."""

    seen: int = field(default=0, init=False)

    def on_epoch_end(self, event: EpochEnd) -> None:
        self.seen += 1


class Given:
    """What a hand-written loop would pass to its listeners."""

    __slots__ = ("epoch", "output", "step")

    def __init__(self, epoch: int, step: int, output: object) -> None:
        self.epoch, self.step, self.output = epoch, step, output


def bare() -> None:
    """Train as one would without any library."""
    step = constant
    for batch in data:
        step(batch)


def trainer(*callbacks: Callback) -> Callable[[], object]:
    """Return a fit of one epoch with these callbacks."""
    return lambda: Trainer(step=constant, data=data, callbacks=callbacks).fit()


def by_hand(listeners: list[Listener]) -> Callable[[], None]:
    """Return a loop that calls the same methods as the Trainer would, with an object that says what happened."""

    def run() -> None:
        step = constant
        hooks = [listener.on_step_end for listener in listeners]
        for number, batch in enumerate(data, 1):
            output = step(batch)
            given: Any = Given(1, number, output)
            for hook in hooks:
                hook(given)

    return run


def rows() -> list[Row]:
    """Measure everything."""
    ten = [Listener() for _ in range(10)]
    epochs_only = [EpochListener() for _ in range(10)]
    plain, ours, ours_epochs, ours_ten, hand_ten = (
        seconds / STEPS
        for seconds in best_of(bare, trainer(), trainer(*epochs_only), trainer(*ten), by_hand(ten), repeats=15)
    )
    batch = np.random.default_rng(0).standard_normal((64, 3, 224, 224), np.float32)
    noted, read = best_of(lambda: fingerprint(batch), lambda: batch.sum(), repeats=10)
    table = [
        Row("a step, nobody listens to steps", ours, plain, "bare loop", extra=150e-9),
        Row("a step, ten callbacks that listen to epochs", ours_epochs, ours, "the same without them", budget=1.05),
        Row("a step, ten callbacks that listen to it", ours_ten, hand_ten, "loop calling the ten methods", budget=1.5),
    ]
    # Of 1,000 batches 10 are noted: number 1, 2, 4, ... 512.
    table.append(Row("fingerprints in 1,000 batches of 38 MB", 10 * noted, 1000 * read, "a sum over each", budget=0.05))
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    many = range(2_000_000)
    began = perf_counter()
    Trainer(step=constant, data=many, callbacks=[RichLogger(console=console)]).fit()
    middle = perf_counter()
    Trainer(step=constant, data=many).fit()
    logged, silent = (middle - began) / len(many), (perf_counter() - middle) / len(many)
    table.append(Row("a step under RichLogger, on a terminal", logged, silent, "without it", extra=500e-9))
    return table
