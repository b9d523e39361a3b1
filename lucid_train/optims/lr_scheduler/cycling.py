"""The base of the schedules that cycle rate and momentum between corners."""

from __future__ import annotations

from lucid_train.optims.lr_scheduler.base import LRScheduler
from lucid_train.optims.lr_scheduler.groups import per_group, spread
from lucid_train.optims.param_groups import write_rate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    import numpy as np
    from numpy.typing import NDArray

    from lucid_train.optims.param_groups import Group

    # What stands at a corner of the curve, one number per group: the rates, and the momenta if they are cycled.
    Corner: TypeAlias = tuple[list[float], list[float]]
    Place: TypeAlias = tuple[Corner, Corner, float, float]


class CyclingLR(LRScheduler):
    """The base of CyclicLR and OneCycleLR: every epoch lies between two corners.

    A subclass says between which ones and where, in `between`, and sets the fields named here before the base is
    called.
    """

    cycle_momentum: bool
    base_momentum: Any
    max_momentum: Any

    def between(self, t: int) -> Place:
        """Return two corners and the weights that they have in epoch `t`."""
        raise TypeError(f"{type(self).__name__} must define between(self, t)")

    def rates(self, t: int) -> list[float]:
        (first, _), (second, _), near, far = self.between(t)
        return [low * near + high * far for low, high in zip(first, second)]  # noqa: B905  # of one length, checked once

    def momenta(self, t: int) -> list[float] | None:
        if not self.cycle_momentum:
            return None
        (_, first), (_, second), near, far = self.between(t)
        return [low * near + high * far for low, high in zip(first, second)]  # noqa: B905  # as above

    def _advanced(self, t: int, groups: Sequence[Group]) -> bool:
        (low, slow), (high, fast), near, far = self.between(t)
        if not (0.0 <= far <= 1.0 and len(low) == len(groups)):
            return False
        cycling = self.cycle_momentum
        index = 0  # counted by hand, as in `step`
        for group in groups:
            if type(group["lr"]) is float:
                group["lr"] = low[index] * near + high[index] * far
            else:
                write_rate(group, low[index] * near + high[index] * far)
            if cycling:
                if "betas" in group:
                    group["betas"] = (slow[index] * near + fast[index] * far, *group["betas"][1:])
                else:
                    group["momentum"] = slow[index] * near + fast[index] * far
            index += 1  # noqa: SIM113
        self.last_epoch = t
        self._ledger.place = low, high, near, far
        return True

    def validate(self) -> None:
        if not isinstance(self.cycle_momentum, bool):
            raise TypeError(f"'cycle_momentum' must be True or False: {self.cycle_momentum!r}")
        count = len(self.base_lrs)
        self.base_momentum = per_group("base_momentum", self.base_momentum, count, least=0, below=1)
        self.max_momentum = per_group("max_momentum", self.max_momentum, count, least=0, below=1)
        bounds = zip(spread(self.base_momentum, count), spread(self.max_momentum, count), strict=True)
        for low, high in bounds:
            if low > high:
                raise ValueError(f"'base_momentum' must be <= 'max_momentum', {high}: {low}")
        if self.cycle_momentum:
            for index, group in enumerate(self.optimizer.param_groups):
                if "momentum" not in group and "betas" not in group:
                    raise ValueError(
                        f"'cycle_momentum' must be False for an optimizer without 'momentum' and 'betas', "
                        f"as in group {index}: True"
                    )

    def _momenta_of_corners(self) -> tuple[list[float], list[float]]:
        """Return the momenta where the rate is low and where it is high."""
        count = len(self.base_lrs)
        return spread(self.max_momentum, count), spread(self.base_momentum, count)


def blend(near: NDArray[np.float64], far: NDArray[np.float64], low: list[float], high: list[float]) -> Any:
    """Return the rates, of shape (n, groups), at places with these weights between two corners."""
    import numpy as np

    rates = np.empty((len(near), len(low)))
    for column, bottom, top in zip(rates.T, low, high, strict=True):
        np.multiply(near, bottom, out=column)
        column += far * top
    return rates
