"""Schedules that multiply the base rate by a power."""

from __future__ import annotations

from lucid_train.arguments import real_number, whole_number
from lucid_train.optims.lr_scheduler.base import LRScheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray


class StepLR(LRScheduler):
    """Multiply the rate by `gamma` once every `step_size` epochs.

    Epoch `t`, counted from 0, runs at `base_lr * gamma ** (t // step_size)`, within 2 ulp.

    Args:
        optimizer: Anything with `param_groups`, a sequence of dicts with "lr".
        step_size: Epochs between two drops. At least 1.
        gamma: Factor of one drop. Positive and finite; above 1 the rate grows.
        last_epoch: The last epoch already done, or -1; see LRScheduler.
        base_lrs: The rates to start from, one per group, where the optimizer's own are not meant; see LRScheduler.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> from lucid_train import nn, optims
    >>> scheduler = StepLR(optims.SGD(nn.Linear(10, 1).parameters(), lr=0.1), step_size=2, gamma=0.5)
    >>> [scheduler.lr_at(epoch) for epoch in range(4)]
    [[0.1], [0.1], [0.05], [0.05]]
    """

    def __init__(
        self,
        optimizer: Any,
        step_size: int,
        gamma: float = 0.1,
        last_epoch: int = -1,
        *,
        base_lrs: Sequence[float] | None = None,
    ) -> None:
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch, base_lrs=base_lrs)

    def validate(self) -> None:
        self.step_size = whole_number("step_size", self.step_size, least=1)
        self.gamma = real_number("gamma", self.gamma, above=0)

    def linear(self, t: int) -> tuple[float, float]:
        return self.gamma ** (t // self.step_size), 0.0

    def linear_array(self, t: NDArray[np.int64]) -> tuple[Any, Any]:
        return self.gamma ** (t // self.step_size), 0.0


class ExponentialLR(LRScheduler):
    """Multiply the rate by `gamma` every epoch.

    Epoch `t`, counted from 0, runs at `base_lr * gamma ** t`, within 2 ulp.

    Args:
        optimizer: Anything with `param_groups`, a sequence of dicts with "lr".
        gamma: Factor of one epoch. Positive and finite; above 1 the rate grows.
        last_epoch: The last epoch already done, or -1; see LRScheduler.
        base_lrs: The rates to start from, one per group, where the optimizer's own are not meant; see LRScheduler.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> from lucid_train import nn, optims
    >>> scheduler = ExponentialLR(optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0), gamma=0.5)
    >>> [scheduler.lr_at(epoch) for epoch in range(4)]
    [[1.0], [0.5], [0.25], [0.125]]
    """

    def __init__(
        self,
        optimizer: Any,
        gamma: float,
        last_epoch: int = -1,
        *,
        base_lrs: Sequence[float] | None = None,
    ) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch, base_lrs=base_lrs)

    def validate(self) -> None:
        self.gamma = real_number("gamma", self.gamma, above=0)

    def linear(self, t: int) -> tuple[float, float]:
        return self.gamma**t, 0.0

    def linear_array(self, t: NDArray[np.int64]) -> tuple[Any, Any]:
        return self.gamma**t, 0.0
