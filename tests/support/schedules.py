"""Schedules of a user's own, and what schedulers do when they are stepped."""

from collections.abc import Callable
from typing import Any

import pytest
from attrs import frozen

from lucid_train.optims.lr_scheduler import CosineAnnealingLR, ExponentialLR, LRScheduler, StepLR
from lucid_train.schedules import Schedule


class Inverse(Schedule):
    """A user's own: one method."""

    def affine(self, t: int) -> tuple[float, float]:
        return 1 / (1 + t), 0.0


@frozen
class Line(Schedule):
    """A user's own with a setting: a share of the base, and something added to it."""

    drop: float

    def affine(self, t: int) -> tuple[float, float]:
        return 1 / (1 + t), self.drop * t


def inverse_lr(optimizer: Any) -> LRScheduler:
    return LRScheduler(optimizer, Inverse())


def line_lr(optimizer: Any, drop: float = 0.01) -> LRScheduler:
    return LRScheduler(optimizer, Line(drop))


KINDS: dict[str, Callable[[Any], LRScheduler]] = {
    "step": lambda optimizer: StepLR(optimizer, 2, 0.5),
    "exponential": lambda optimizer: ExponentialLR(optimizer, 0.9),
    "cosine": lambda optimizer: CosineAnnealingLR(optimizer, 5, 0.01),
    "a user's own": line_lr,
}
each_kind = pytest.mark.parametrize("build", KINDS.values(), ids=KINDS)


def walk(scheduler: LRScheduler, epochs: int) -> list[list[float]]:
    """Return the rates of as many epochs, the present one first."""
    seen = []
    for _ in range(epochs):
        seen.append(scheduler.last_lr)
        scheduler.step()
    return seen


def walk_with_momenta(scheduler: LRScheduler, epochs: int) -> list[list[tuple[Any, Any]]]:
    """Return the rate and the momentum of each group for as many epochs, as they stand in the optimizer."""
    seen = []
    for _ in range(epochs):
        seen.append([(group["lr"], group["momentum"]) for group in scheduler.optimizer.param_groups])
        scheduler.step()
    return seen
