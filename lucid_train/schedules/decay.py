"""Schedules that fall from the start: by a power, or along a polynomial."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, ClassVar, final

from attrs import field, frozen

from lucid_train.schedules.length import Length, count_or_share, counted, every
from lucid_train.schedules.schedule import Schedule, store, stored
from lucid_train.validation import listed, real_number


@final
@frozen(repr=False)
class Step(Schedule):
    """Multiply the base by `gamma` every `step_size` epochs: `base * gamma ** (t // step_size)`, within 2 ulp.

    Args:
        step_size: Epochs or steps between two drops, or a share of the run. At least 1.
        gamma: Factor of one drop. Positive and finite; above 1 the value grows.

    >>> Step(step_size=2, gamma=0.5).table(4, base=0.1)
    [0.1, 0.1, 0.05, 0.05]
    """

    step_size: int | str = field(validator=stored(count_or_share))
    gamma: float = field(default=0.1, validator=stored(real_number, above=0))
    _step_size: int = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        return self.gamma ** (t // self._step_size), 0.0

    def words(self, unit: str = "epoch") -> str:
        return f"times {self.gamma:g} {every(self.step_size, unit)}"


def _in_order(instance: Any, attribute: Any, value: Any) -> None:
    name = attribute.name
    places = [
        count_or_share(f"{name}[{index}]", each, least=0) for index, each in enumerate(listed(name, value, "epochs"))
    ]
    # Places among which there are shares can be ordered only for a run.
    in_order = places if any(isinstance(place, str) for place in places) else sorted(places)
    store(instance, name, tuple(in_order))


@final
@frozen(repr=False)
class MultiStep(Schedule):
    """Multiply the base by `gamma` at every milestone.

    The value is `base * gamma ** k` with `k` the number of milestones `<= t`, within 2 ulp.

    Args:
        milestones: Epochs or steps, at least 0, or shares of the run, in any order; one that comes twice counts twice.
        gamma: Factor of one drop. Positive and finite; above 1 the value grows.

    >>> MultiStep([2, 3], gamma=0.5).table(5)
    [1.0, 1.0, 0.5, 0.25, 0.25]
    """

    milestones: Sequence[int | str] = field(validator=_in_order)
    gamma: float = field(default=0.1, validator=stored(real_number, above=0))
    _milestones: tuple[int, ...] = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        return self.gamma ** bisect_right(self._milestones, t), 0.0

    def words(self, unit: str = "epoch") -> str:
        return f"times {self.gamma:g} after {', '.join(counted(each, unit) for each in self.milestones)}"


@final
@frozen(repr=False)
class Exponential(Schedule):
    """Multiply the base by `gamma` every epoch: `base * gamma ** t`, within 2 ulp.

    Args:
        gamma: Factor of one epoch or step. Positive and finite; above 1 the value grows.

    >>> Exponential(0.5).table(4)
    [1.0, 0.5, 0.25, 0.125]
    """

    gamma: float = field(validator=stored(real_number, above=0))

    def affine(self, t: int) -> tuple[float, float]:
        return self.gamma**t, 0.0

    def words(self, unit: str = "epoch") -> str:
        return f"times {self.gamma:g} {every(1, unit)}"


@final
@frozen(repr=False)
class Polynomial(Schedule):
    """Fall from the base to 0 along a polynomial.

    The value is `base * (1 - t / total_iters) ** power`, within `2 + power` ulp, and 0 from `total_iters` on.

    Args:
        total_iters: Epochs or steps from the base to 0, at least 1; a share of the run; or as long as its part of it.
        power: Of the polynomial; 1 is a straight line. Positive and finite.

    >>> Polynomial(4).table(6)
    [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """

    duration: ClassVar[str] = "total_iters"

    total_iters: Length = field(default=None, validator=stored(count_or_share))
    power: float = field(default=1.0, validator=stored(real_number, above=0))
    _total_iters: int = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        left = self._total_iters - t
        return ((left / self._total_iters) ** self.power, 0.0) if left > 0 else (0.0, 0.0)

    def words(self, unit: str = "epoch") -> str:
        shape = "linear" if self.power == 1.0 else f"polynomial of power {self.power:g}"
        return f"{shape} to 0{self._over(unit)}"
