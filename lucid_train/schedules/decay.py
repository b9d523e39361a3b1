"""Schedules that fall from the start: by a power, along a polynomial, with the inverse of the time; or in pieces."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from typing import Any, ClassVar, Literal, final

from attrs import field, frozen

from lucid_train.schedules.length import Length, Place, Span, count_or_share, counted, every, share
from lucid_train.schedules.schedule import OURS, Schedule, between, min_ratio, optional_length, store, stored
from lucid_train.validation import choice, flag, listed, real_number


def _period(instance: Any, attribute: Any, value: Any) -> None:
    if isinstance(value, float) and value >= 1:
        number = real_number(attribute.name, value)
        store(instance, attribute.name, int(number) if number.is_integer() else number)
    else:
        store(instance, attribute.name, count_or_share(attribute.name, value))


def _share_of_base(instance: Any, attribute: Any, value: Any) -> None:
    store(instance, attribute.name, real_number(attribute.name, value, least=0, most=1))


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
    min_ratio: float = field(default=0.0, validator=_share_of_base, metadata={OURS: True})
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
    min_ratio: float = field(default=0.0, validator=_share_of_base, metadata={OURS: True})
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


@final
@frozen(repr=False)
class Rex(Schedule):
    """Fall slowly at first and fast at the end, to 0 or a share of the base.

    With `p = t / total_iters` the value is `base * (1 - p) / (1 / 2 + (1 - p) / 2)`, within 4 ulp, and 0 from
    `total_iters` on: Chen, Wolfe and Kyrillidis, REX (arXiv 2107.04197). With `min_ratio` it is
    `base * (min_ratio + (1 - min_ratio) * ...)`.

    Args:
        total_iters: Epochs or steps from the base to the end, at least 1; a share of the run; or as long as its part of
            it.
        min_ratio: The last value as a share of the base, from 0 to 1.

    >>> [round(value, 3) for value in Rex(4).table(6)]
    [1.0, 0.857, 0.667, 0.4, 0.0, 0.0]
    """

    duration: ClassVar[str] = "total_iters"

    total_iters: Length = field(default=None, validator=stored(count_or_share))
    min_ratio: float = field(default=0.0, validator=_share_of_base)
    _total_iters: int = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        total = self._total_iters
        if t >= total:
            return self.min_ratio, 0.0
        left = total - t
        return 2 * left / (total + left) + self.min_ratio * (t / (total + left)), 0.0

    def words(self, unit: str = "epoch") -> str:
        return f"REX to {f'{self.min_ratio:g} of the base' if self.min_ratio else '0'}{self._over(unit)}"


@final
@frozen(repr=False)
class InverseSqrt(Schedule):
    """Fall with the inverse square root of the time: `base * (timescale / (timescale + t)) ** 0.5`, within 2 ulp.

    It begins at the base. After a warm-up of as many steps it is the base times `(timescale / step) ** 0.5`, as in
    fairseq, T5 and transformers.

    Args:
        timescale: Epochs or steps until `2 ** -0.5` of the base, at least 1; or a share of the run.

    >>> [round(value, 3) for value in InverseSqrt(4).warmup(4, start=0.0).table(17)[::4]]
    [0.0, 1.0, 0.707, 0.577, 0.5]
    """

    timescale: int | str = field(validator=stored(count_or_share))
    _timescale: int = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        return sqrt(self._timescale / (self._timescale + t)), 0.0

    def words(self, unit: str = "epoch") -> str:
        return f"inverse square root over {counted(self.timescale, unit)}"


@final
@frozen(repr=False)
class InverseTime(Schedule):
    """Divide the base by what grows with the time: `base / (1 + decay_rate * t / decay_steps) ** power`.

    It is within `4 + 2 * power` ulp. Keras' InverseTimeDecay; with `power`, the law of timm and of Shen et al., Power
    Scheduler (arXiv 2408.13359).

    Args:
        decay_steps: Epochs or steps until it is divided by `(1 + decay_rate) ** power`, at least 1; or a share of the
            run.
        decay_rate: How fast it falls. Positive and finite.
        power: Of the law. Positive and finite.
        staircase: Whether it falls every `decay_steps` only, `t // decay_steps` in place of `t / decay_steps`.

    >>> [round(value, 3) for value in InverseTime(2).table(5)]
    [1.0, 0.667, 0.5, 0.4, 0.333]
    """

    decay_steps: int | str = field(validator=stored(count_or_share))
    decay_rate: float = field(default=1.0, validator=stored(real_number, above=0))
    power: float = field(default=1.0, validator=stored(real_number, above=0))
    staircase: bool = field(default=False, validator=stored(flag))
    _decay_steps: int = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        place = t // self._decay_steps if self.staircase else t / self._decay_steps
        grown = 1.0 + self.decay_rate * place
        return (1.0 / grown if self.power == 1.0 else grown**-self.power), 0.0

    def words(self, unit: str = "epoch") -> str:
        rate = "" if self.decay_rate == 1.0 else f" at a rate of {self.decay_rate:g}"
        power = "" if self.power == 1.0 else f" to the power {self.power:g}"
        steps = ", in steps" if self.staircase else ""
        return f"inverse time{power}{rate} over {counted(self.decay_steps, unit)}{steps}"


def _places(instance: Any, attribute: Any, value: Any) -> None:
    name = attribute.name
    places = tuple(count_or_share(f"{name}[{index}]", each) for index, each in enumerate(listed(name, value, "epochs")))
    if not places:
        raise ValueError(f"{name!r} must hold at least one place: []")
    # A count and a share compare only in a run of known length.
    counts: list[Place] = [each for each in places if isinstance(each, int)]
    shares: list[Place] = [share(each) for each in places if isinstance(each, str)]
    if any(one >= other for each in (counts, shares) for one, other in pairwise(each)):
        raise ValueError(f"{name!r} must rise: {list(places)}")
    store(instance, name, places)


def _factors(instance: Any, attribute: Any, value: Any) -> None:
    name, places = attribute.name, instance.milestones
    factors = [real_number(f"{name}[{at}]", each, least=0) for at, each in enumerate(listed(name, value, "factors"))]
    if len(factors) != len(places) + 1:
        raise ValueError(f"{name!r} must be one more than the {len(places)} milestones: {factors}")
    store(instance, name, tuple(factors))


@final
@frozen(repr=False)
class Piecewise(Schedule):
    """Hold one factor of the base after the other, or go from one to the next.

    Left to itself the value is `base * factors[k]` with `k` the number of milestones `<= t`, within 1 ulp. With
    `interpolate` it goes from `base * factors[0]` at 0 to `base * factors[k]` at `milestones[k - 1]`, along lines or
    half cosines, within 8 ulp, and stays at the last one.

    Args:
        milestones: Epochs or steps, at least 1, or shares of the run; rising.
        factors: Shares of the base, at least 0; above 1 the value is above the base. One more than the milestones.
        interpolate: "linear" or "cosine"; left out, the value jumps.

    >>> Piecewise([2, 3], [1.0, 0.5, 2.0]).table(5)
    [1.0, 1.0, 0.5, 2.0, 2.0]
    >>> Piecewise([2, 4], [0.0, 1.0, 0.5], interpolate="linear").table(6)
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.5]
    """

    milestones: Sequence[int | str] = field(validator=_places)
    factors: Sequence[float] = field(validator=_factors)
    interpolate: Literal["linear", "cosine"] | None = field(default=None, validator=choice("linear", "cosine"))
    _milestones: tuple[int, ...] = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        milestones = self._milestones
        passed = bisect_right(milestones, t)
        if self.interpolate is None or passed == len(milestones):
            return self.factors[passed], 0.0
        start = milestones[passed - 1] if passed else 0
        here, there = self.factors[passed], self.factors[passed + 1]
        return (
            here if t == start else between(self.interpolate, here, there, t - start, milestones[passed] - start)
        ), 0.0

    @property
    def ends_at(self) -> int | None:
        return self._milestones[-1] if self.is_sized else None

    def words(self, unit: str = "epoch") -> str:
        way = {None: "then", "linear": "linearly to", "cosine": "along a cosine to"}[self.interpolate]
        at = "after" if self.interpolate is None else "at"
        rest = [
            f"{way} {factor:g} {at} {counted(place, unit)}"
            for place, factor in zip(self.milestones, self.factors[1:], strict=True)
        ]
        return f"{self.factors[0]:g} of the base, {', '.join(rest)}"

    def _fill(self, span: Span) -> None:
        super()._fill(span)
        if isinstance(self._milestones, tuple):
            places = [self._count("milestones", place, span) for place in self.milestones]
            if any(one >= other for one, other in pairwise(places)):
                raise ValueError(f"'milestones' must rise in the run: {places}, from {list(self.milestones)}")
