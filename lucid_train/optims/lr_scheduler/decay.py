"""Schedules that lower the rate from the start: by a power, or along a polynomial."""

from __future__ import annotations

from bisect import bisect_right

from lucid_train.optims.lr_scheduler.base import LRScheduler
from lucid_train.validation import real_number, whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
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


class MultiStepLR(LRScheduler):
    """Multiply the rate by `gamma` at every milestone.

    Epoch `t`, counted from 0, runs at `base_lr * gamma ** k` with `k` the number of milestones `<= t`, within 2 ulp.

    Args:
        optimizer: Anything with `param_groups`, a sequence of dicts with "lr".
        milestones: Epochs, at least 0, in any order; one that comes twice counts twice.
        gamma: Factor of one drop. Positive and finite; above 1 the rate grows.
        last_epoch: The last epoch already done, or -1; see LRScheduler.
        base_lrs: The rates to start from, one per group, where the optimizer's own are not meant; see LRScheduler.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> from lucid_train import nn, optims
    >>> optimizer = optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0)
    >>> scheduler = MultiStepLR(optimizer, milestones=[2, 3], gamma=0.5)
    >>> [scheduler.lr_at(epoch) for epoch in range(5)]
    [[1.0], [1.0], [0.5], [0.25], [0.25]]
    """

    def __init__(
        self,
        optimizer: Any,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
        *,
        base_lrs: Sequence[float] | None = None,
    ) -> None:
        if isinstance(milestones, (str, bytes)) or not hasattr(milestones, "__iter__"):
            raise TypeError(f"'milestones' must be a list of epochs: {milestones!r}")
        self.milestones = list(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch, base_lrs=base_lrs)

    def validate(self) -> None:
        checked = (whole_number(f"milestones[{i}]", epoch, least=0) for i, epoch in enumerate(self.milestones))
        self.milestones = sorted(checked)
        self.gamma = real_number("gamma", self.gamma, above=0)

    def linear(self, t: int) -> tuple[float, float]:
        return self.gamma ** bisect_right(self.milestones, t), 0.0

    def linear_array(self, t: NDArray[np.int64]) -> tuple[Any, Any]:
        import numpy as np

        powers = np.array([self.gamma**k for k in range(len(self.milestones) + 1)])
        return powers[np.searchsorted(self.milestones, t, side="right")], 0.0

    def _translated(self, state: dict[str, Any]) -> dict[str, Any]:
        # PyTorch counts how often each comes; JSON makes strings of the epochs.
        if isinstance(counts := state.get("milestones"), dict):
            state["milestones"] = sorted(int(epoch) for epoch, count in counts.items() for _ in range(count))
        return state


class PolynomialLR(LRScheduler):
    """Lower the rate to 0 along a polynomial.

    Epoch `t`, counted from 0, runs at `base_lr * (1 - t / total_iters) ** power`, within `2 + power` ulp, and at 0 from
    `total_iters` on.

    Args:
        optimizer: Anything with `param_groups`, a sequence of dicts with "lr".
        total_iters: Epochs from the base rate to 0. At least 1.
        power: Of the polynomial; 1 is a straight line. Positive and finite.
        last_epoch: The last epoch already done, or -1; see LRScheduler.
        base_lrs: The rates to start from, one per group, where the optimizer's own are not meant; see LRScheduler.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> from lucid_train import nn, optims
    >>> scheduler = PolynomialLR(optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0), total_iters=4)
    >>> [scheduler.lr_at(epoch) for epoch in range(6)]
    [[1.0], [0.75], [0.5], [0.25], [0.0], [0.0]]
    """

    def __init__(
        self,
        optimizer: Any,
        total_iters: int = 5,
        power: float = 1.0,
        last_epoch: int = -1,
        *,
        base_lrs: Sequence[float] | None = None,
    ) -> None:
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch, base_lrs=base_lrs)

    def validate(self) -> None:
        self.total_iters = whole_number("total_iters", self.total_iters, least=1)
        self.power = real_number("power", self.power, above=0)

    def linear(self, t: int) -> tuple[float, float]:
        left = self.total_iters - t
        return ((left / self.total_iters) ** self.power, 0.0) if left > 0 else (0.0, 0.0)

    def linear_array(self, t: NDArray[np.int64]) -> tuple[Any, Any]:
        left = (self.total_iters - t).clip(min=0) / self.total_iters
        return (left if self.power == 1 else left**self.power), 0.0
