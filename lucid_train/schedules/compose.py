"""Schedules made of schedules: one after the other, each on top of the one before, or multiplied."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, final

from attrs import evolve, field, frozen

from lucid_train.schedules.length import Missing, Span, count_or_share, later, rounded, share
from lucid_train.schedules.schedule import Schedule, check_is_value, store

if TYPE_CHECKING:
    from collections import abc
    from collections.abc import Callable
    from typing import Any

    from lucid_train.schedules.length import Length, Place

    Affine = Callable[[int], tuple[float, float]]


@final
@frozen(repr=False)
class Until:
    """A schedule with an end, as `until` returns it. It is no schedule before `then` has said what follows."""

    schedule: Schedule
    end: int | str

    def __attrs_post_init__(self) -> None:
        check_is_value(self.schedule)
        store(self, "end", count_or_share("end", self.end))
        before = self.schedule.milestones if isinstance(self.schedule, Sequence) else ()
        if not _rise((*before, self.end)):
            raise ValueError(f"'end' must be after the ends before it, {list(before)}: {self.end!r}")

    def then(self, following: Schedule) -> Sequence:
        """Return the schedule followed by another one, which starts from its own beginning."""
        return joined(self.schedule, self.end, following)

    def __call__(self, *_: object) -> float:
        raise ValueError(f"a schedule must not end before the run; say what comes then: {self!r}.then(...)")

    def __repr__(self) -> str:
        text = f"({self.schedule!r})" if isinstance(self.schedule, Product) else repr(self.schedule)
        return f"{text}.until({self.end!r})"


def _parts(instance: Any, attribute: Any, value: Any) -> None:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{attribute.name!r} must be a list of schedules: {value!r}")
    parts = tuple(value)
    if not any(part is not None for part in parts):
        raise ValueError(f"{attribute.name!r} must hold at least one schedule: {list(parts)}")
    for index, part in enumerate(parts):
        if part is not None or not isinstance(instance, Sequence):
            check_is_value(part, f"{attribute.name}[{index}]")
    store(instance, attribute.name, parts)


def _milestones(instance: Any, attribute: Any, value: Any) -> None:
    name, parts = attribute.name, instance.parts
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name!r} must be a list of places: {value!r}")
    milestones = tuple(
        None if each is None else count_or_share(f"{name}[{index}]", each) for index, each in enumerate(tuple(value))
    )
    if len(milestones) != len(parts) - 1:
        raise ValueError(f"{name!r} must be one less than the {len(parts)} parts: {list(milestones)}")
    for index, (part, milestone) in enumerate(zip(parts, milestones, strict=False)):
        if milestone is None and (part is None or not part._ends):
            raise ValueError(f"'{name}[{index}]' must be given, as this part does not end by itself: {part!r}")
    if not _rise(milestones):
        raise ValueError(f"{name!r} must rise: {list(milestones)}")
    store(instance, name, milestones)


def _rise(milestones: abc.Sequence[Length]) -> bool:
    """Whether the counts rise, and the shares; how the ones lie to the others is known when the run is."""
    counts: list[Place] = [each for each in milestones if isinstance(each, int)]
    shares: list[Place] = [share(each) for each in milestones if isinstance(each, str)]
    return all(one < other for places in (counts, shares) for one, other in pairwise(places))


@final
@frozen(repr=False)
class Sequence(Schedule):
    """One schedule after the other, each from its own beginning: what `then` makes.

    From `milestones[i - 1]` on, the value at `t` is that of `parts[i]` at `t - milestones[i - 1]`, as exact as it is
    alone. Shares are rounded where the places lie in the run, so that the parts add up to it, and a part lasts at
    least 1.

    Args:
        parts: The schedules. None is a part that leaves the value standing: the base, if it comes first, or else the
            last value of the part before it.
        milestones: Where all but the first of them begin, from the beginning of the first: counts, shares of the run,
            or None where the part before says itself how long it lasts. One less than parts.

    >>> from lucid_train.schedules import Exponential, Linear
    >>> Sequence([Linear(0.5, total_iters=2), Exponential(0.5)], milestones=[2]).table(5)
    [0.5, 0.75, 1.0, 0.5, 0.25]
    """

    parts: abc.Sequence[Schedule | None] = field(validator=_parts)
    milestones: abc.Sequence[Length] = field(validator=_milestones)
    _milestones: tuple[int, ...] = field(init=False, repr=False, eq=False)
    _starts: tuple[int, ...] = field(init=False, repr=False, eq=False)
    _affines: tuple[Affine, ...] = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        index = bisect_right(self._milestones, t)
        return self._affines[index](t - self._starts[index])

    @property
    def absolute(self) -> bool:
        return self.parts[0] is not None and all(part is None or part.absolute for part in self.parts)

    @property
    def has_shift(self) -> bool:
        return any(part is not None and part.has_shift for part in self.parts)

    @property
    def _ends(self) -> bool:
        return self.parts[-1] is not None and self.parts[-1]._ends

    def _extent(self, span: Span) -> Place | None:
        start, last = self._places(span)[-1], self.parts[-1]
        extent = None if start is None or last is None else last._extent(evolve(span, start=start))
        return None if start is None or extent is None else later(start, start + extent) - span.start

    def _places(self, span: Span) -> list[Place | None]:
        """Return where in the run each part begins, exactly; None where that is not known."""
        places: list[Place | None] = [span.start]
        for part, milestone in zip(self.parts, self.milestones, strict=False):
            before, place = places[-1], None
            if milestone is not None:
                extent = span.extent(milestone)
                place = None if extent is None else span.start + extent
            elif before is not None and part is not None:
                extent = part._extent(evolve(span, start=before))
                place = None if extent is None else before + extent
            if place is not None and before is not None:
                if place <= before:
                    raise ValueError(f"{part!r} must end after it begins, at {float(before):g}: {float(place):g}")
                place = later(before, place)
            places.append(place)
        return places

    def _fill(self, span: Span) -> None:
        places = self._places(span)
        ends = [*(None if place is None else rounded(place) for place in places[1:]), span.end]
        parts = []
        for part, start, end in zip(self.parts, places, ends, strict=True):
            known = Span() if start is None else Span(span.run, start, end)
            parts.append(None if part is None else part._within(known))
        store(self, "parts", tuple(parts))
        begin = rounded(span.start)
        joints: Any = tuple(end - begin for end in ends[:-1] if end is not None)
        if None in ends[:-1]:
            index = ends.index(None)
            part = parts[index] if self.milestones[index] is None else None
            own = None if part is None else part._missing()
            joints = Missing(f"'milestones[{index}]'", self) if own is None else own
        store(self, "_milestones", joints)
        starts = (0, *([] if isinstance(joints, Missing) else joints))
        store(self, "_starts", starts)
        affines: list[Affine] = []
        for index, part in enumerate(parts[: len(starts)]):
            if part is not None:
                affines.append(part.affine)
            elif affines:
                affines.append(_Standing(affines[-1], starts[index] - 1 - starts[index - 1]).affine)
            else:
                affines.append(_base)
        store(self, "_affines", tuple(affines))

    def __repr__(self) -> str:
        first = self.parts[0]
        if None in self.parts or isinstance(first, Sequence):  # which no sentence says
            return f"Sequence({list(self.parts)!r}, {list(self.milestones)!r})"
        text = f"({first!r})" if isinstance(first, Product) else repr(first)
        for end, part in zip(self.milestones, self.parts[1:], strict=True):
            text += f".then({part!r})" if end is None else f".until({end!r}).then({part!r})"
        return text


def joined(first: Schedule, end: Length, following: Schedule) -> Sequence:
    """Return `first` up to `end`, None for as long as it lasts by itself, and from there on `following`."""
    if isinstance(first, Sequence):
        return Sequence((*first.parts, following), (*first.milestones, end))
    return Sequence((first, following), (end,))


@frozen
class _Standing:
    """The value of a part at one time, for as long as the next one leaves it standing."""

    part: Affine
    at: int

    def affine(self, t: int) -> tuple[float, float]:
        return self.part(self.at)


def _base(t: int) -> tuple[float, float]:
    return 1.0, 0.0


@final
@frozen(repr=False)
class Chain(Schedule):
    """Schedules on top of one another: the value of each is the base of the next.

    The value is `s_n(... s_2(s_1(base, t), t) ..., t)`. Where each is a multiple of its base, that is the product of
    the factors in any order. Each part adds its own bound and 1 ulp.

    Args:
        parts: The schedules; all but the first must depend on their base.

    >>> from lucid_train.schedules import Constant, Exponential
    >>> Chain([Constant(0.25, total_iters=2), Exponential(0.5)]).table(4)
    [0.25, 0.125, 0.25, 0.125]
    """

    parts: abc.Sequence[Schedule] = field(validator=_parts)
    _first: Affine = field(init=False, repr=False, eq=False)
    _others: tuple[Affine, ...] = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        scale, shift = self._first(t)
        for part in self._others:
            more, base = part(t)
            scale *= more
            shift = shift * more + base
        return scale, shift

    @property
    def absolute(self) -> bool:
        return self.parts[0].absolute

    @property
    def has_shift(self) -> bool:
        return any(part.has_shift for part in self.parts)

    def _fill(self, span: Span) -> None:
        for index, part in enumerate(self.parts[1:], 1):
            if part.absolute:
                raise ValueError(f"'parts[{index}]' must depend on its base, or come first: {part!r}")
        super()._fill(span)
        first, *others = [part.affine for part in self.parts]
        store(self, "_first", first)
        store(self, "_others", tuple(others))

    def __repr__(self) -> str:
        return f"Chain({list(self.parts)!r})"


def _is_schedule(instance: Any, attribute: Any, value: Any) -> None:
    check_is_value(value, attribute.name)


def _is_multiple(instance: Any, attribute: Any, value: Any) -> None:
    check_is_value(value, attribute.name)
    if value.has_shift:
        raise ValueError(f"{attribute.name!r} must be a multiple of its base, without a shift: {value!r}")


@final
@frozen(repr=False)
class Product(Schedule):
    """A schedule times the scale of another: what `a * b` makes.

    Args:
        schedule: Any schedule.
        factor: One that is a multiple of its base at all times.

    >>> from lucid_train.schedules import Constant, Step
    >>> (Step(1, gamma=0.5) * Constant(0.5, total_iters=2)).table(4)
    [0.5, 0.25, 0.25, 0.125]
    """

    schedule: Schedule = field(validator=_is_schedule)
    factor: Schedule = field(validator=_is_multiple)
    _first: Affine = field(init=False, repr=False, eq=False)
    _second: Affine = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        scale, shift = self._first(t)
        factor, extra = self._second(t)
        if extra:  # of a schedule of the user's own, which need not say that it has one
            raise ValueError(f"'factor' must be a multiple of its base, without a shift: {self.factor!r} at {t}")
        return scale * factor, shift * factor

    @property
    def absolute(self) -> bool:
        return self.schedule.absolute

    @property
    def has_shift(self) -> bool:
        return self.schedule.has_shift

    def _fill(self, span: Span) -> None:
        super()._fill(span)
        store(self, "_first", self.schedule.affine)
        store(self, "_second", self.factor.affine)

    def __repr__(self) -> str:
        factor = f"({self.factor!r})" if isinstance(self.factor, Product) else repr(self.factor)
        return f"{self.schedule!r} * {factor}"
