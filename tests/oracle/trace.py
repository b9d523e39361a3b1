"""The golden trace: every event of a few fixed runs, with its plain fields, in the order in which it was emitted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from attrs import define

from lucid_train import (
    Callback,
    EpochEnd,
    EpochReport,
    EpochStart,
    EvaluateEnd,
    EvaluateStart,
    Event,
    FitEnd,
    FitError,
    FitStart,
    History,
    StepEnd,
    StepResult,
    StepStart,
    Trainer,
)
from lucid_train.callbacks import CosineAnnealingLRCallback, EarlyStopping, ExponentialLRCallback

from .setups import Optimizer


@define
class WeightSeen(Event):
    """An event of the user's own."""

    weight: float = 0.0


@define(eq=False)
class Seer(Callback):
    """Emits an event of its own at every evaluation."""

    def on_evaluate_end(self, event: EvaluateEnd) -> None:
        event.run.emit(WeightSeen(event.run, weight=event.metrics["val_loss"]))


# What is written down of each event; fields that it may have besides are not looked at.
FIELDS: dict[type[Event], tuple[str, ...]] = {
    FitStart: (),
    EpochStart: ("epoch",),
    StepStart: ("epoch", "step", "batch"),
    StepEnd: ("epoch", "step", "metrics", "updated"),
    EvaluateStart: ("epoch",),
    EvaluateEnd: ("epoch", "metrics"),
    WeightSeen: ("weight",),
    EpochEnd: ("epoch", "metrics", "lr"),
    EpochReport: ("epoch", "record"),
    FitError: ("error",),
    FitEnd: ("status", "reason"),
}
RECORD = ("epoch", "steps", "metrics", "lr", "last_lr")


class Training:
    """One weight that is pulled towards the batches: floats alone, so that every machine finds the same."""

    def __init__(self, callbacks: Iterable[Callback], **options: Any) -> None:
        self.weight = 2.0
        self.calls = 0
        self.failing: set[int] = set()
        self.seen: list[list[Any]] = []
        self.optimizer = Optimizer(2)
        self.trainer = Trainer(
            self.step,
            [1.0, 3.0, 2.0, 0.5],
            optimizer=self.optimizer,
            evaluate=lambda: {"loss": self.weight * self.weight},
            evaluate_every=2,
            callbacks=callbacks,
            **options,
        )
        for event in FIELDS:
            self.trainer.on(event)(self.note)

    def step(self, batch: float) -> Any:
        self.calls += 1
        if self.calls in self.failing:
            raise RuntimeError(f"call {self.calls} failed")
        error = self.weight - batch
        if self.calls % 5 == 0:
            return StepResult({"loss": error * error}, updated=False)
        self.weight -= self.optimizer.param_groups[0]["lr"] * 2 * error
        return {"loss": error * error, "error": abs(error)} if self.calls % 3 == 0 else error * error

    def note(self, event: Event) -> None:
        values = {name: plain(getattr(event, name)) for name in FIELDS[type(event)]}
        self.seen.append([type(event).__name__, values])

    def outcome(self, history: History) -> dict[str, Any]:
        return {
            "events": self.seen,
            "history": [plain(record) for record in history],
            "status": [history.status, history.reason],
            "weight": self.weight,
            "calls": self.calls,
        }


def plain(value: Any) -> Any:
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if hasattr(value, "last_lr"):
        return {name: plain(getattr(value, name)) for name in RECORD}
    return list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, dict) else value


def stopped_and_gone_on() -> dict[str, Any]:
    """Three epochs; a stop in the middle of the second, a second fit, and a third one with nothing left to do."""
    schedule = CosineAnnealingLRCallback(7, 0.001, interval="step")
    training = Training([schedule, EarlyStopping("val_loss", patience=3), Seer()], epochs=3)
    training.trainer.on(StepEnd, at=6)(lambda event: event.run.stop("seen enough"))
    training.trainer.fit()
    training.trainer.fit()
    with pytest.warns(UserWarning, match="nothing left to train"):
        return training.outcome(training.trainer.fit())


def failed_and_tried_again() -> dict[str, Any]:
    """A step that fails in the second epoch and is tried again by the next fit."""
    training = Training([Seer(), ExponentialLRCallback(0.5)], epochs=2)
    training.failing = {6}
    with pytest.raises(RuntimeError, match="call 6 failed"):
        training.trainer.fit()
    return training.outcome(training.trainer.fit(3))


def stopped_early() -> dict[str, Any]:
    """A metric that does not improve ends the run; the schedule has advanced, and the epoch is reported."""
    training = Training([ExponentialLRCallback(0.9), EarlyStopping("val_loss", patience=1, min_delta=100.0)], epochs=9)
    return training.outcome(training.trainer.fit())


TRACES = {
    "stopped and gone on": stopped_and_gone_on,
    "failed and tried again": failed_and_tried_again,
    "stopped early": stopped_early,
}
