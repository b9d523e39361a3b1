"""Schedules along half a cosine."""

from __future__ import annotations

from bisect import bisect_right
from math import pi, sin

from lucid_train.optims.lr_scheduler.base import LRScheduler
from lucid_train.validation import one_of, real_number, whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    import numpy as np
    from numpy.typing import NDArray


class CosineAnnealingLR(LRScheduler):
    """Lower the rate along half a cosine, from the base rate to `eta_min` at epoch `T_max`.

    Epoch `t <= T_max`, counted from 0, runs at `eta_min + (base_lr - eta_min) * cos(pi * t / (2 * T_max)) ** 2`, within
    8 ulp: the half-angle form of Loshchilov and Hutter, SGDR (ICLR 2017), equation 5. It is evaluated from the nearer
    end of the curve, because the cosine of an angle close to pi / 2 loses what the angle was rounded by. The rate is
    exactly the base rate at 0 and exactly `eta_min` at `T_max`.

    Args:
        optimizer: Anything with `param_groups`, a sequence of dicts with "lr".
        T_max: Epochs from the base rate to `eta_min`. At least 1.
        eta_min: The lowest rate. At least 0 and at most every group's base rate.
        last_epoch: The last epoch already done, or -1; see LRScheduler.
        after: What follows `T_max`. "restart": the next epoch is at the base rate again, a cycle has `T_max + 1`
            epochs. "hold": the rate stays at `eta_min`. "mirror": it climbs back the way it came, as PyTorch's and
            Lucid's does, a cycle has `2 * T_max` epochs.
        base_lrs: The rates to start from, one per group, where the optimizer's own are not meant; see LRScheduler.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> from lucid_train import nn, optims
    >>> scheduler = CosineAnnealingLR(optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0), T_max=2)
    >>> [round(scheduler.lr_at(epoch)[0], 3) for epoch in range(4)]
    [1.0, 0.5, 0.0, 1.0]
    """

    def __init__(
        self,
        optimizer: Any,
        T_max: int,
        eta_min: float = 0.0,
        last_epoch: int = -1,
        *,
        after: Literal["restart", "hold", "mirror"] = "restart",
        base_lrs: Sequence[float] | None = None,
    ) -> None:
        self.T_max = T_max
        self.eta_min = eta_min
        self.after = after
        super().__init__(optimizer, last_epoch, base_lrs=base_lrs)

    def validate(self) -> None:
        self.T_max = whole_number("T_max", self.T_max, least=1)
        self.eta_min = below_base_rates("eta_min", self.eta_min, self.base_lrs)
        one_of("after", self.after, ("restart", "hold", "mirror"))

    def linear(self, t: int) -> tuple[float, float]:
        T_max = self.T_max
        if t > T_max:
            t = self._folded(t)
        if t + t < T_max:
            fallen = sin(pi * t / (2 * T_max)) ** 2
            return 1.0 - fallen, self.eta_min * fallen
        left = sin(pi * (T_max - t) / (2 * T_max)) ** 2
        return left, self.eta_min * (1.0 - left)

    def linear_array(self, t: NDArray[np.int64]) -> tuple[Any, Any]:
        if t.max() > self.T_max:
            t = self._folded(t)
        return falling(t, self.T_max, self.eta_min)

    def _folded(self, t: Any) -> Any:
        """Return the epoch of the first descent that has the rate of epoch `t`, any epoch or an array of them."""
        T_max = self.T_max
        match self.after:
            case "hold":
                return T_max if isinstance(t, int) else t.clip(max=T_max)
            case "restart":
                return t % (T_max + 1)
            case _:
                return T_max - abs(T_max - t % (2 * T_max))

    def _translated(self, state: dict[str, Any]) -> dict[str, Any]:
        # PyTorch's curve climbs back: up to T_max it is ours whatever comes after, beyond it only "mirror" is.
        if "after" in state:
            return state
        epoch = whole_number("last_epoch", state.get("last_epoch", 0), least=0)
        descending = epoch <= real_number("T_max", state.get("T_max", 0))
        return {**state, "after": self.after if descending else "mirror"}


class CosineAnnealingWarmRestarts(LRScheduler):
    """Lower the rate along half a cosine, again and again, each time `T_mult` times as slowly.

    The `i`-th descent, from 0, takes `T_i = T_0 * T_mult**i` epochs and begins at the base rate. Its epoch `t`, counted
    from 0, runs at `eta_min + (base_lr - eta_min) * cos(pi * t / (2 * T_i)) ** 2`, within 8 ulp: Loshchilov and Hutter,
    SGDR (ICLR 2017), equation 5. The last epoch of a descent is above `eta_min`.

    Args:
        optimizer: Anything with `param_groups`, a sequence of dicts with "lr".
        T_0: Epochs of the first descent. At least 1.
        T_mult: How many times longer each descent is than the one before. At least 1.
        eta_min: The lowest rate. At least 0 and at most every group's base rate.
        last_epoch: The last epoch already done, or -1; see LRScheduler.
        base_lrs: The rates to start from, one per group, where the optimizer's own are not meant; see LRScheduler.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> from lucid_train import nn, optims
    >>> scheduler = CosineAnnealingWarmRestarts(optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0), T_0=2, T_mult=2)
    >>> [round(scheduler.lr_at(epoch)[0], 3) for epoch in range(7)]
    [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    """

    def __init__(
        self,
        optimizer: Any,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
        *,
        base_lrs: Sequence[float] | None = None,
    ) -> None:
        self.T_0 = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch, base_lrs=base_lrs)

    def validate(self) -> None:
        self.T_0 = whole_number("T_0", self.T_0, least=1)
        self.T_mult = whole_number("T_mult", self.T_mult, least=1)
        self.eta_min = below_base_rates("eta_min", self.eta_min, self.base_lrs)
        # First epoch and length of each descent, as far as one has been asked for.
        self._starts, self._lengths = [0], [self.T_0]
        self._here = 0, self.T_0

    def linear(self, t: int) -> tuple[float, float]:
        if self.T_mult == 1:
            length = self.T_0
            t %= length
        else:
            start, length = self._here
            if not start <= t < start + length:
                self._reach(t)
                at = bisect_right(self._starts, t) - 1
                start, length = self._here = self._starts[at], self._lengths[at]
            t -= start
        if t + t < length:
            fallen = sin(pi * t / (2 * length)) ** 2
            return 1.0 - fallen, self.eta_min * fallen
        left = sin(pi * (length - t) / (2 * length)) ** 2
        return left, self.eta_min * (1.0 - left)

    def linear_array(self, t: NDArray[np.int64]) -> tuple[Any, Any]:
        import numpy as np

        if self.T_mult == 1:
            return falling(t % self.T_0, self.T_0, self.eta_min)
        self._reach(int(t.max()))
        starts, lengths = np.array(self._starts), np.array(self._lengths)
        at = np.searchsorted(starts, t, side="right") - 1
        return falling(t - starts[at], lengths[at], self.eta_min)

    def _reach(self, t: int) -> None:
        starts, lengths = list(self._starts), list(self._lengths)
        while t >= starts[-1] + lengths[-1]:
            starts.append(starts[-1] + lengths[-1])
            lengths.append(lengths[-1] * self.T_mult)
        self._starts, self._lengths = starts, lengths

    def _translated(self, state: dict[str, Any]) -> dict[str, Any]:
        # PyTorch counts within the descent as well, and miscounts when it is rebuilt with last_epoch.
        return {name: value for name, value in state.items() if name not in ("T_i", "T_cur")}


def falling(t: NDArray[np.int64], length: Any, eta_min: float) -> tuple[Any, Any]:
    """Return slope and offset along half a cosine of `length` epochs, for an array of epochs `t <= length`."""
    import numpy as np

    early = 2 * t < length
    near = np.sin(np.where(early, t, length - t) * pi / (2 * length)) ** 2
    return np.where(early, 1.0 - near, near), eta_min * np.where(early, near, 1.0 - near)


def below_base_rates(name: str, value: Any, base_lrs: Sequence[float]) -> float:
    """Return a lowest rate as a float, or refuse it.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is negative, not finite, or above the base rate of a group.
    """
    lowest = real_number(name, value, least=0)
    for index, base_lr in enumerate(base_lrs):
        # A float32 rate of 0.01 reads as 0.0099999998 and is meant to be 0.01.
        if lowest > base_lr * (1 + 1e-6):
            raise ValueError(f"{name!r} must be <= the base rate {base_lr} of group {index}: {lowest}")
    return lowest
