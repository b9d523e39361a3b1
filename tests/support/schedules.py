"""Schedules of a user's own, and what schedulers do when they are stepped."""

from collections.abc import Callable
from typing import Any

import pytest

from lucid_train.optims.lr_scheduler import CosineAnnealingLR, ExponentialLR, LRScheduler, StepLR


class InverseLR(LRScheduler):
    """A user's own: one method."""

    def rates(self, t: int) -> list[float]:
        return [base_lr / (1 + t) for base_lr in self.base_lrs]


KINDS: dict[str, Callable[[Any], LRScheduler]] = {
    "step": lambda optimizer: StepLR(optimizer, 2, 0.5),
    "exponential": lambda optimizer: ExponentialLR(optimizer, 0.9),
    "cosine": lambda optimizer: CosineAnnealingLR(optimizer, 5, 0.01),
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
