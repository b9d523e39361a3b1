"""Schedules that fall from the start: by a power, or along a polynomial."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, ClassVar, final

from attrs import field, frozen

from lucid_train.schedules.length import Length, Span, count_or_share, counted, every
from lucid_train.schedules.schedule import OURS, Schedule, min_ratio, optional_length, store, stored
from lucid_train.validation import flag, listed, real_number


def _period(instance: Any, attribute: Any, value: Any) -> None:
    if isinstance(value, float) and value >= 1:
        number = real_number(attribute.name, value)
        store(instance, attribute.name, int(number) if number.is_integer() else number)
    else:
        store(instance, attribute.name, count_or_share(attribute.name, value))


@final
@frozen(repr=False)
class Step(Schedule):
    """Multiply the base by `gamma` every `step_size` epochs: `base * gamma ** (t // step_size)`, within 2 ulp.

    Args:
        step_size: Epochs or steps between two drops, or a share of the run. At least 1; it may be a fraction, such as
            2.4.
        gamma: Factor of one drop. Positive and finite; above 1 the value grows.
        min_ratio: The share of the base, from 0 to 1, below which it does not fall.

    >>> Step(step_size=2, gamma=0.5).table(4, base=0.1)
    [0.1, 0.1, 0.05, 0.05]
    """

    step_size: float | str = field(validator=_period)
    gamma: float = field(default=0.1, validator=stored(real_number, above=0))
    min_ratio: float = field(default=0.0, validator=stored(real_number, least=0, most=1), metadata={OURS: True})
    _step_size: float = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        scale = self.gamma ** (t // self._step_size)
        return (max(scale, self.min_ratio) if self.min_ratio else scale), 0.0

    def words(self, unit: str = "epoch") -> str:
        return f"times {self.gamma:g} {every(self.step_size, unit)}{_floor_words(self.min_ratio)}"


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


def _floor_words(ratio: float) -> str:
    return f", not below {ratio:g} of the base" if ratio else ""


@final
@frozen(repr=False)
class Exponential(Schedule):
    """Multiply the base by `gamma` every epoch: `base * gamma ** t`, within 2 ulp; or by so much in `every` epochs.

    With `every` it is `base * gamma ** (t / every)`, within 4 ulp and one more for each unit of the logarithm of
    `gamma`: Step with the same numbers falls at once by what this falls little by little.

    Args:
        gamma: Factor of one epoch or step, or of `every` of them. Positive and finite; above 1 the value grows.
        every: In how many epochs or steps it is multiplied by `gamma`, at least 1; a share of the run; or None for its
            whole part of it.
        min_ratio: The share of the base, from 0 to 1, below which it does not fall.

    >>> Exponential(0.5).table(4)
    [1.0, 0.5, 0.25, 0.125]
    >>> Exponential(0.25, every=2, min_ratio=0.1).table(4)
    [1.0, 0.5, 0.25, 0.125]
    """

    gamma: float = field(validator=stored(real_number, above=0))
    every: Length = field(default=1, validator=optional_length, metadata={OURS: True})
    min_ratio: float = field(default=0.0, validator=stored(real_number, least=0, most=1), metadata={OURS: True})
    _every: int = field(init=False, repr=False, eq=False)
    _is_usual: bool = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        if self._is_usual:
            return self.gamma**t, 0.0
        whole, rest = divmod(t, self._every)
        scale = self.gamma**whole * self.gamma ** (rest / self._every)
        return max(scale, self.min_ratio), 0.0

    def _fill(self, span: Span) -> None:
        super()._fill(span)
        store(self, "_is_usual", self.every == 1 and not self.min_ratio)

    def words(self, unit: str = "epoch") -> str:
        if self.every is None:
            return f"exponential to {self.gamma:g} of the base{_floor_words(self.min_ratio)}"
        over = every(1, unit) if self.every == 1 else f"in {counted(self.every, unit)}"
        return f"times {self.gamma:g} {over}{_floor_words(self.min_ratio)}"


@final
@frozen(repr=False)
class Polynomial(Schedule):
    """Go from the base to 0, or to `end`, along a polynomial.

    The value is `end + (base - end) * (1 - t / total_iters) ** power`, within `2 + power` ulp where `end` and
    `min_ratio` are 0, else within `8 + power` ulp of the greater of base and end; and `end` from `total_iters` on. A
    base below `end` rises.

    Args:
        total_iters: Epochs or steps from the base to the end, at least 1; a share of the run; or as long as its part of
            it.
        power: Of the polynomial; 1 is a straight line. Positive and finite.
        end: The last value. At least 0.
        min_ratio: The last value as a share of the base, from 0 to 1, instead of `end`.
        cycle: After each `total_iters`, go on from above towards the end, more slowly: `total_iters` is the next
            multiple of it that is at least `t`, as in Keras.

    >>> Polynomial(4).table(6)
    [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    >>> Polynomial(4, min_ratio=0.5, cycle=True).table(9)
    [1.0, 0.875, 0.75, 0.625, 0.5, 0.6875, 0.625, 0.5625, 0.5]
    """

    duration: ClassVar[str] = "total_iters"

    total_iters: Length = field(default=None, validator=stored(count_or_share))
    power: float = field(default=1.0, validator=stored(real_number, above=0))
    end: float = field(default=0.0, validator=stored(real_number, least=0), metadata={OURS: True})
    min_ratio: float = field(default=0.0, validator=min_ratio, metadata={OURS: True})
    cycle: bool = field(default=False, validator=stored(flag), metadata={OURS: True})
    _total_iters: int = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        total = self._total_iters
        if self.cycle and t > total:
            total *= -(-t // total)
        left = total - t
        scale = (left / total) ** self.power if left > 0 else 0.0
        return scale + self.min_ratio * (1.0 - scale), self.end * (1.0 - scale)

    @property
    def has_shift(self) -> bool:
        return self.end != 0.0

    @property
    def ends_at(self) -> int | None:
        return None if self.cycle else super().ends_at

    def words(self, unit: str = "epoch") -> str:
        shape = "linear" if self.power == 1.0 else f"polynomial of power {self.power:g}"
        end = f"{self.min_ratio:g} of the base" if self.min_ratio else f"{self.end:g}"
        return f"{shape} to {end}{self._over(unit)}{', again and again' if self.cycle else ''}"
