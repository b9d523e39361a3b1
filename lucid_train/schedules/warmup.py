"""Schedules that begin below the base: in one jump, Noam's, and warm-up, stable, decay."""

from __future__ import annotations

from math import inf
from typing import Any, ClassVar, Self, final

from attrs import field, frozen

from lucid_train.schedules.length import Length, Missing, Place, Span, count_or_share, counted, later, rounded
from lucid_train.schedules.schedule import (
    Floored,
    Schedule,
    Shape,
    between,
    check_shape,
    min_ratio,
    shares,
    store,
    stored,
)
from lucid_train.validation import real_number, whole_number


@final
@frozen(repr=False)
class Constant(Schedule):
    """Hold a share of the base: `base * factor`, within 1 ulp, and from `total_iters` on exactly the base.

    Args:
        factor: The share, from 0 to 1.
        total_iters: When the base itself takes over: epochs or steps, at least 1, or a share of the run. Left out,
            never.

    >>> Constant(0.5, total_iters=2).table(4)
    [0.5, 0.5, 1.0, 1.0]
    """

    duration: ClassVar[str] = "total_iters"

    factor: float = field(default=1.0, validator=stored(real_number, least=0, most=1))
    total_iters: Length = field(default=None, validator=stored(count_or_share))
    _total_iters: float = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        return (self.factor if t < self._total_iters else 1.0), 0.0

    def words(self, unit: str = "epoch") -> str:
        return "constant" if self.factor == 1.0 else f"{self.factor:g} of the base{self._over(unit)}"

    def settings(self, *, resolved: bool = False) -> dict[str, Any]:
        # JSON has no number for a length without end.
        return super().settings(resolved=resolved and self.total_iters is not None)

    def _count(self, name: str, value: Any, span: Span) -> Any:
        return inf if value is None else super()._count(name, value, span)


@final
@frozen(repr=False)
class Noam(Schedule):
    """Rise along a line, then fall with the inverse square root of the step.

    The value at step `t`, counted from 0, is `base * factor * d_model**-0.5 * min(n**-0.5, n * warmup_steps**-1.5)`
    with `n = t + 1`, within 6 ulp: Vaswani et al., Attention Is All You Need (2017), section 5.3. With a base of 1 the
    values are the paper's.

    Args:
        d_model: Width of the model. At least 1.
        warmup_steps: The step of the highest value, `base * factor * (d_model * warmup_steps) ** -0.5`: at least 1, or
            a share of the run.
        factor: Scale of the whole curve. Positive and finite.

    >>> [round(Noam(d_model=16, warmup_steps=4)(step), 6) for step in (0, 1, 3, 15)]
    [0.03125, 0.0625, 0.125, 0.0625]
    """

    d_model: int = field(validator=stored(whole_number, least=1))
    warmup_steps: int | str = field(default=4000, validator=stored(count_or_share))
    factor: float = field(default=1.0, validator=stored(real_number, above=0))
    _warmup_steps: int = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        n, warmup = t + 1, self._warmup_steps
        scale = self.factor * self.d_model**-0.5
        return scale * (n * warmup**-1.5 if n < warmup else n**-0.5), 0.0

    def words(self, unit: str = "epoch") -> str:
        return f"warm-up {counted(self.warmup_steps, unit)}, then the inverse square root (Noam)"


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
        stable: How long it stays at the base: a count, at least 1, or a share of the run. Left out, for what is left.

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
    stable: Length = field(default=None, validator=stored(count_or_share))
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

    def words(self, unit: str = "epoch") -> str:
        way = "" if self.warmup_shape == "linear" else f"{self.warmup_shape} "
        start = {0.0: " from 0", 0.1: ""}.get(self.start, f" from {self.start:g} of the base")
        over = "" if isinstance(self.warmup_length, str) else "over "
        first = f"{way}warm-up {over}{counted(self.warmup_length, unit)}{start}, then " if self.warmup_length else ""
        return f"{first}constant, then {self.shape} to {self.floor_words()} in the last {counted(self.decay, unit)}"
