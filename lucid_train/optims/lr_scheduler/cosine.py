"""Schedules along half a cosine."""

from __future__ import annotations

from math import pi, sin

from lucid_train.arguments import one_of, real_number, whole_number
from lucid_train.optims.lr_scheduler.base import LRScheduler

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
        self.eta_min = real_number("eta_min", self.eta_min, least=0)
        one_of("after", self.after, ("restart", "hold", "mirror"))
        for index, base_lr in enumerate(self.base_lrs):
            # A float32 rate of 0.01 reads as 0.0099999998 and is meant to be 0.01.
            if self.eta_min > base_lr * (1 + 1e-6):
                raise ValueError(f"'eta_min' must be <= the base rate {base_lr} of group {index}: {self.eta_min}")

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
        import numpy as np

        T_max = self.T_max
        if t.max() > T_max:
            t = self._folded(t)
        early = 2 * t < T_max
        near = np.sin(np.where(early, t, T_max - t) * pi / (2 * T_max)) ** 2
        left = np.where(early, 1.0 - near, near)
        return left, self.eta_min * np.where(early, near, 1.0 - near)

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
