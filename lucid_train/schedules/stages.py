"""Schedules of several stages: warm-up, stable, decay; and one factor of the base after the other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, Self, final

from attrs import field, frozen

from lucid_train.schedules.length import (
    Length,
    Missing,
    Place,
    Span,
    check_rising,
    count_or_share,
    counted,
    later,
    rounded,
)
from lucid_train.schedules.schedule import (
    Floored,
    Schedule,
    min_ratio,
    store,
    stored,
)
from lucid_train.schedules.shape import Shape, between, check_shape, shares
from lucid_train.validation import choice, listed, real_number


def _warmup_shape(instance: Any, attribute: Any, value: Any) -> None:
    check_shape(attribute.name, value, instance.start)


def _decay_shape(instance: Any, attribute: Any, value: Any) -> None:
    check_shape(attribute.name, value, instance.min_ratio)


@final
@frozen(repr=False)
class WSD(Floored, Schedule):
    """Warm up, stay at the base, and decay at the end of the run: warm-up, stable, decay.

    The warm-up goes from `base * start` at 0 to the base at `warmup`, as `warmup(..., shape=warmup_shape)` does. In the
    last `decay` epochs or steps, with `p` from 0 at their beginning to 1 at the end of the run, the value is
    `eta_min + (base - eta_min) * f(p)`, and `f(p)` is `1 - sqrt(p)`, `1 - p`, `cos(pi * p / 2) ** 2`, or
    `min_ratio ** p` for "exponential": within 8 ulp, and one more for each unit of the logarithm of `min_ratio` for
    "exponential". The last value of the run is still above the floor, as in all schedules here: the floor is the value
    at the end of the run, where no update is made. Hu et al., MiniCPM (arXiv 2404.06395); the shape by Haegele et al.
    (arXiv 2405.18392).

    The parts must add up: longer than its part of the run they are refused, and so is a `stable` that leaves a rest.
    transformers starts at `start=min_ratio`, 0 by default, and goes to the floor where its counts do not add up.

    Args:
        warmup: Length of the warm-up: a count, 0 for none, or a share of the run.
        decay: Length of the decay: a count, at least 1, or a share of the run.
        shape: Of the decay: "linear", "cosine", "1-sqrt" or "exponential", for which `min_ratio` must be given.
        eta_min: The lowest value of the decay. At least 0; above the base, one warning says so.
        min_ratio: The lowest value of the decay as a share of the base, from 0 to 1, instead of `eta_min`.
        start: The share of the base at time 0, from 0 to 1; above 0 for an "exponential" warm-up.
        warmup_shape: Of the warm-up: "linear", "cosine", "1-sqrt" or "exponential".
        stable: How long it stays at the base: a count, 0 for not at all, or a share of the run. Left out, for the rest.

    >>> WSD(2, 4, shape="linear", start=0.0).sized(10).table(11)
    [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """

    # `warmup` is what puts a warm-up before any schedule.
    warmup_length: int | str = field(default="5%", validator=stored(count_or_share, least=0), alias="warmup")
    decay: int | str = field(default="20%", validator=stored(count_or_share))
    shape: Shape = field(default="1-sqrt", validator=_decay_shape)
    eta_min: float = field(default=0.0, validator=stored(real_number, least=0))
    min_ratio: float = field(default=0.0, validator=min_ratio)
    start: float = field(default=0.1, validator=stored(real_number, least=0, most=1))
    warmup_shape: Shape = field(default="linear", validator=_warmup_shape)
    stable: Length = field(default=None, validator=stored(count_or_share, least=0))
    _joints: tuple[int, int, int] = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        warm, stable, end = self._joints
        if t < warm:
            return (self.start if t == 0 else between(self.warmup_shape, self.start, 1.0, t, warm)), 0.0
        if t <= stable:
            return 1.0, 0.0
        if t >= end:
            return self.min_ratio, self.eta_min
        if self.shape == "exponential":
            return between(self.shape, 1.0, self.min_ratio, t - stable, end - stable), 0.0
        left, fallen = shares(self.shape, t - stable, end - stable)
        return left + self.min_ratio * fallen, self.eta_min * fallen

    @property
    def ends_at(self) -> int | None:
        return self._joints[2] if self.is_sized else None

    @property
    def _ends(self) -> bool:
        return self.stable is not None

    def _extent(self, span: Span) -> Place | None:
        parts = [None if each is None else span.extent(each) for each in (self.warmup_length, self.stable, self.decay)]
        return None if None in parts else sum(part for part in parts if part is not None)

    def _within(self, span: Span) -> Self:
        if not any(
            isinstance(length, str) or length is None for length in (self.warmup_length, self.stable, self.decay)
        ):
            self._places(span)  # counts that are known may still not add up to the run
        return super()._within(span)

    def _fill(self, span: Span) -> None:
        store(self, "_joints", self._places(span))

    def _places(self, span: Span) -> Any:
        """Return when the warm-up, the stable part and the decay end, from its beginning; Missing while not known."""
        lengths = {"warmup": self.warmup_length, "stable": self.stable, "decay": self.decay}
        extents = {name: span.extent(length) for name, length in lengths.items() if length is not None}
        missing = [name for name, extent in extents.items() if extent is None]
        if span.end is None and self.stable is None:
            missing.append("stable")
        if missing:
            return Missing(repr(missing[0]), self)
        places: list[Place] = [span.start]
        for length, extent in ((lengths[name], extents[name]) for name in extents):
            place = places[-1] + (extent or 0)
            places.append(later(places[-1], place) if length else place)
        begin, warm, *others = map(rounded, places)
        counts = [one - other for one, other in zip([warm, *others], [begin, warm, *others], strict=False)]
        if self.stable is None:
            counts[1] = max(1, rounded(extents["decay"] or 0))
        total = sum(counts)
        if span.end is not None and (
            total > span.end - begin or (self.stable is not None and total < span.end - begin)
        ):
            names = ", ".join(map(repr, extents))
            raise ValueError(
                f"{names} of {self!r} must {'fit into' if self.stable is None else 'add up to'} its part of the run, "
                f"{span.end - begin}: {' + '.join(map(str, counts))}"
            )
        end = total if span.end is None else span.end - begin
        return counts[0], end - counts[-1], end

    def _longest(self) -> int:
        return sum(each for each in (self.warmup_length, self.stable, self.decay) if isinstance(each, int))

    def settings(self, *, resolved: bool = False) -> dict[str, Any]:
        settings = super().settings(resolved=resolved)
        if resolved:
            warm, stable, end = self._joints
            settings |= {"warmup": warm, "stable": stable - warm, "decay": end - stable}
        return settings

    def words(self, unit: str = "epoch") -> str:
        way = "" if self.warmup_shape == "linear" else f"{self.warmup_shape} "
        start = {0.0: " from 0", 0.1: ""}.get(self.start, f" from {self.start:g} of the base")
        over = "" if isinstance(self.warmup_length, str) else "over "
        first = f"{way}warm-up {over}{counted(self.warmup_length, unit)}{start}, then " if self.warmup_length else ""
        return f"{first}constant, then {self.shape} to {self.floor_words()} in the last {counted(self.decay, unit)}"


def _places(instance: Any, attribute: Any, value: Any) -> None:
    name = attribute.name
    places = tuple(count_or_share(f"{name}[{index}]", each) for index, each in enumerate(listed(name, value, "epochs")))
    if not places:
        raise ValueError(f"{name!r} must hold at least one place: []")
    check_rising(name, places)
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
