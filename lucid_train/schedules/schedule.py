"""Schedule: what a number is at time `t`, as a value; and what schedules are joined, chained and multiplied to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import abc
from collections.abc import Callable
from copy import copy
from functools import partial
from math import isfinite, isinf
from re import sub
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias, final, overload

from attrs import NOTHING, define, evolve, field, fields, frozen

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
from lucid_train.schedules.shape import Shape, between, check_shape
from lucid_train.validation import listed, one_of, real_number, unknown_values, whole_number

if TYPE_CHECKING:
    import numpy as np
    from attrs import frozen as _frozen_for_checkers  # type checkers let frozen classes inherit from frozen ones alone
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
else:
    # Not frozen, so that a subclass which assigns its settings is refused with what to write, see `check_is_value`.
    _frozen_for_checkers = partial(define, unsafe_hash=True)

Affine: TypeAlias = Callable[[int], tuple[float, float]]

# How a constructor, or `sized` on a fresh copy, sets a field of a frozen class.
store: Callable[[object, str, Any], None] = object.__setattr__

# Marks, in the metadata of a field, what PyTorch's schedule of that name does not have: the settings leave it out while
# it is at its default, so that a state has PyTorch's entries.
OURS = "not PyTorch's"


def stored(check: Callable[..., Any], **rule: Any) -> Callable[[Any, Any, Any], None]:
    """Return an attrs validator that stores what `check` returns; None passes where it is the default.

    It replaces a converter, which does not know the name of its field, so that a float stays a float whether 1,
    `np.float32(1)` or a 0-d array was given.
    """

    def validator(instance: Any, attribute: Any, value: Any) -> None:
        if value is not None or attribute.default is not None:
            store(instance, attribute.name, check(attribute.alias, value, **rule))

    return validator


def optional_length(instance: Any, attribute: Any, value: Any) -> None:
    """Check a length that may be None though that is not its default; an attrs validator."""
    if value is not None:
        store(instance, attribute.name, count_or_share(attribute.name, value))


def function(name: str, value: Any) -> Any:
    """Check that `value` is a function and return it.

    Raises:
        TypeError: If it cannot be called, or is a class.
    """
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{name!r} must be a function of t: {value!r}")
    return value


@_frozen_for_checkers(repr=False)
class Schedule(ABC):
    """What a number is at time `t`: the base of all schedules.

    A schedule is a value. It knows no optimizer and has no state, equals every schedule of its class with the same
    settings, and can be evaluated at any time. Time is counted from 0, in epochs or in steps. Almost every schedule is
    a line in its base value, so a schedule of your own is one method, `affine`. One with settings is decorated with
    `@attrs.frozen`, and its settings are fields.

    A field that is a length may be a count, in the schedule's own time; a share of the whole run, such as "5%", rounded
    half up and at least 1; or None where that means as long as its part of the run. `sized` makes counts of them: for
    each such field of your own, declare a private one for the count,
    `_half_life: int = attrs.field(init=False, repr=False, eq=False)` for `half_life`, and read that in `affine`. A
    schedule that ends names the field that says when in `duration`, so that `then` may follow it.

    >>> class Inverse(Schedule):
    ...     def affine(self, t):
    ...         return 1 / (1 + t), 0.0
    >>> Inverse()(3)
    0.25
    >>> Inverse().table(4, base=0.2)
    [0.2, 0.1, 0.06666666666666667, 0.05]
    >>> Inverse().warmup(2, start=0.5).table(4)
    [0.5, 0.75, 1.0, 0.5]
    """

    # The field that says when the schedule ends, for one that does.
    duration: ClassVar[str | None] = None
    # Whether `t` may lie between two whole times.
    fractional: ClassVar[bool] = False

    # How long the run is that it was sized for: what a table of all values needs.
    _run_length: int | None = field(default=None, init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        self._fill(Span())

    @abstractmethod
    def affine(self, t: int) -> tuple[float, float]:
        """Return the scale and the shift at time `t >= 0`: the value is `base * scale + shift`.

        It must be a pure function of `t`. It does not check its argument; calling the schedule does.
        """

    @overload
    def __call__(self, t: float, base: float = 1.0) -> float: ...

    @overload
    def __call__(self, t: NDArray[np.integer[Any]], base: float = 1.0) -> NDArray[np.float64]: ...

    def __call__(self, t: Any, base: float = 1.0) -> Any:
        """Return the value at time `t`.

        Args:
            t: An int, at least 0, or an integer array of shape (n,). WarmRestarts takes a float too.
            base: What the schedule scales, such as a base rate.

        Returns:
            A float, or a float64 array of shape (n,), each value equal to that of the int to the last bit.

        Raises:
            ValueError: If `t` is negative, a length is not known yet, or the value is NaN.
            OverflowError: If the value is beyond the largest float.
        """
        base = real_number("base", base)
        if getattr(t, "shape", ()):
            import numpy as np

            return np.array([self._value(each, base) for each in listed_times(t)], dtype=np.float64)
        if self.fractional and not hasattr(t, "__index__"):
            return self._value(real_number("t", t, least=0), base)
        return self._value(whole_number("t", t, least=0), base)

    def with_base(self, base: float) -> WithBase:
        """Return the schedule as a function of `t` alone, which JAX can trace where the schedule was `sized`.

        >>> from lucid_train.schedules import Exponential
        >>> Exponential(0.5).with_base(0.1)(1)
        0.05
        """
        self.check_sized()
        return WithBase(self, real_number("base", base))

    def table(self, n: int, base: float = 1.0) -> list[float]:
        """Return the first `n` values."""
        n, base = whole_number("n", n, least=0), real_number("base", base)
        return [self._value(t, base) for t in range(n)]

    def curve(self, length: int, base: float = 1.0) -> tuple[list[int], list[float]]:
        """Return times and values to draw, for a run of this length: all, or 100,000 of a longer one.

        Raises:
            ValueError: If the run is too short for a part of it.
        """
        schedule, count = self.sized(length), min(length, 100_000)
        times = [length * index // count for index in range(count)]
        base = real_number("base", base)
        return times, [schedule._value(t, base) for t in times]

    def plot(
        self, *others: Schedule, length: int | None = None, base: float = 1.0, figure: Figure | None = None
    ) -> Figure:
        """Return a figure of the values of this schedule, and of others, in a run of this length.

        A notebook shows the figure; elsewhere save it with `figure.savefig("rates.png")`. This needs matplotlib:
        `pip install lucid-train[plot]`.

        Args:
            *others: More schedules, for the same picture.
            length: Epochs or steps of the run, at least 1. By default the schedule's own end; or, where it has none,
                three times its longest setting in epochs or steps, and at least 100.
            base: What the schedules scale, such as a base rate.
            figure: An empty figure to draw in; by default a new one.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError: If the run is too short for a part of a schedule.
        """
        from lucid_train.plot import lines  # which loads more than a scheduler needs

        shown = (self, *others)
        for index, each in enumerate(others):
            check_is_value(each, f"others[{index}]")
        if length is None:
            length = max(each._drawn_length() for each in shown)
        return lines({repr(each): each.curve(length, base) for each in shown}, "t", figure)

    def _repr_html_(self) -> str:
        """Return the schedule with its curve, as a notebook shows it."""
        from lucid_train.plot import html_page, html_panels, html_text

        title = html_text(repr(self))
        try:
            curve = self.curve(self._drawn_length())
        except Exception as error:  # of a function of the user's own, too; the schedule is shown all the same
            return html_page([title, html_text(f"no curve: {error}")])
        return html_page([title, html_panels([{"value for a base of 1": curve}], "t")])

    def _drawn_length(self) -> int:
        end = self.ends_at
        return end + 1 if end is not None else max(100, 3 * self._longest())

    def _longest(self) -> int:
        """Return the largest length among the settings, as far as they are counts."""
        names = {each.name for each in fields(type(self))}
        values = [getattr(self, name) for name in names if f"_{name}" in names]
        items = [item for value in values for item in (value if isinstance(value, tuple) else (value,))]
        counts = [item for item in items if isinstance(item, int)]
        return max([0, *counts, *(part._longest() for part in self._parts())])

    @property
    def absolute(self) -> bool:
        """Whether the value never depends on the base, as the scale is 0 at all times."""
        return False

    @property
    def has_shift(self) -> bool:
        """Whether the value may be more than a multiple of the base."""
        return self.absolute or any(part.has_shift for part in self._parts())

    @property
    def is_sized(self) -> bool:
        """Whether all lengths are known, so that the schedule can be called."""
        return self._missing() is None

    def check_sized(self) -> None:
        """Raise the ValueError that names the first length which is not known yet, if there is one."""
        if (missing := self._missing()) is not None:
            missing.refuse()

    def sized(self, length: int) -> Self:
        """Return the schedule with its lengths known, for a run of so many epochs or steps.

        It equals this one and has the same settings. Lengths that are known stay as they are, and one that was sized
        before is returned as it is.

        Raises:
            ValueError: If the run is too short for a part of it.

        >>> from lucid_train.schedules import Polynomial
        >>> Polynomial().sized(4).table(5)
        [1.0, 0.75, 0.5, 0.25, 0.0]
        """
        run = whole_number("length", length, least=1)
        if self._run_length is not None:
            return self
        sized = self._within(Span(run=run, start=0, end=run))
        sized = copy(self) if sized is self else sized
        store(sized, "_run_length", run)
        return sized

    def until(self, end: int | str) -> Until:
        """Return the schedule with an end; say with `then` what comes from there on.

        Args:
            end: The first time that is no longer its own, counted from its beginning; or a share of the run.

        Raises:
            ValueError: If it is below 1 or no share; by `then`, if it is not after the ends before it.

        >>> from lucid_train.schedules import Constant, Polynomial
        >>> Constant().until("50%").then(Polynomial()).sized(8).table(8)
        [1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
        """
        return Until(self, end)

    def then(self, following: Schedule) -> Sequence:
        """Return this schedule followed by another one, which starts from its own beginning.

        Raises:
            ValueError: If this one does not end by itself and has no end from `until`.

        >>> from lucid_train.schedules import Exponential, Linear
        >>> Linear(0.5, total_iters=2).then(Exponential(0.5)).table(5)
        [0.5, 0.75, 1.0, 0.5, 0.25]
        """
        if not self._ends:
            raise ValueError(f"'then' must follow an end, as in .until('5%').then(...): {self!r}")
        return joined(self, None, following)

    def warmup(self, length: int | str, start: float = 0.1, shape: Shape = "linear") -> Schedule:
        """Return the schedule after a warm-up from a share of the base to the whole.

        The value is `base * start` at time 0 and the whole base, this schedule's first value, at `length`.

        Args:
            length: Length of the warm-up; everything in this schedule comes so much later. 0 is none at all.
            start: The share of the base at time 0, from 0 to 1; above 0 for "exponential".
            shape: The way from one to the other: "linear", or "cosine", "1-sqrt" or "exponential" as in Ramp.

        >>> from lucid_train.schedules import Step
        >>> Step(2, gamma=0.5).warmup(2, start=0.0).table(5)
        [0.0, 0.5, 1.0, 1.0, 0.5]
        >>> Step(2, gamma=0.5).warmup(2, start=0.25, shape="exponential").table(3)
        [0.25, 0.5, 1.0]
        """
        length = count_or_share("length", length, least=0)
        start = real_number("start", start, least=0, most=1)
        check_shape("shape", shape, start)
        if length == 0:
            return self
        return (Linear(start, 1.0, length) if shape == "linear" else Ramp(start, 1.0, length, shape)).then(self)

    def skip(self, n: int | str) -> Schedule:
        """Return the schedule without its first `n` times: its value at `t` is that of this one at `t + n`.

        A part that is skipped into began so much earlier: its lengths count from there.

        Args:
            n: A count, at least 0, or a share of the run.

        >>> from lucid_train.schedules import Linear, Polynomial
        >>> Polynomial(4).skip(1).table(4)
        [0.75, 0.5, 0.25, 0.0]
        >>> Linear(0.0, total_iters=2).then(Polynomial().skip(2)).sized(8).table(8)  # shares and lengths of the run
        [0.0, 0.5, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
        """
        n = count_or_share("n", n, least=0)
        return self if n == 0 else Skipped(self, n)

    def __mul__(self, factor: Schedule) -> Product:
        if not isinstance(factor, Schedule):
            return NotImplemented

        return Product(self, factor)

    def settings(self, *, resolved: bool = False) -> dict[str, Any]:
        """Return the settings by name, as plain JSON, for states, logs and comparisons.

        Functions are left out, and of a schedule of PyTorch's what PyTorch's does not have, unless it is given. A
        schedule within a schedule is a dict with the name of its class under "class".

        Args:
            resolved: Give the counts that `sized` has found in place of shares and lengths left out.

        Raises:
            TypeError: If a setting is neither plain JSON nor a function.

        >>> from lucid_train.schedules import Cosine
        >>> Cosine().settings(), Cosine().sized(9).settings(resolved=True)
        ({'T_max': None, 'eta_min': 0.0, 'after': 'restart'}, {'T_max': 9, 'eta_min': 0.0, 'after': 'restart'})
        """
        own = {each.name for each in fields(type(self))}
        settings = {}
        for each in (each for each in fields(type(self)) if each.init):
            name = each.name
            if each.metadata.get(OURS) and getattr(self, name) == each.default:
                continue
            value = getattr(self, f"_{name}" if resolved and f"_{name}" in own else name)
            if isinstance(value, Schedule) or not callable(value):
                settings[str(each.alias)] = _plain(f"{type(self).__name__}.{name}", value, resolved)
        return settings

    def restarts(self, length: int) -> tuple[int, ...]:
        """Return the times, of the first `length`, at which it begins again at the base, as a cosine does by default.

        >>> from lucid_train.schedules import Cosine
        >>> Cosine(T_max=4).warmup(2).restarts(10), Cosine(T_max=4, after="hold").restarts(10)
        ((7,), ())
        """
        return tuple(sorted({t for part in self._parts() for t in part.restarts(length)}))

    def words(self, unit: str = "epoch") -> str:
        """Return the schedule in words, as a display shows it; by default the name of its class and its settings.

        Args:
            unit: What it counts, "epoch" or "step".

        >>> from lucid_train.schedules import Cosine
        >>> Cosine().warmup("5%").words()
        'warm-up 5 %, then cosine to 0'
        """
        name = sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", type(self).__name__).lower()
        own = [(each.alias, getattr(self, each.name)) for each in fields(type(self)) if each.init]
        return ", ".join([name, *(f"{each} {_worded(value, unit)}" for each, value in own)])

    def _over(self, unit: str) -> str:
        """Return how long the schedule lasts, to be added to its words; nothing if that is its part of the run."""
        length = None if self.duration is None else getattr(self, self.duration)
        return "" if length is None else f" over {counted(length, unit)}"

    @property
    def ends_at(self) -> int | None:
        """The time at which it has come to its end, with all of its parts; None if it goes on, or is not sized.

        >>> from lucid_train.schedules import Cosine, Exponential
        >>> Cosine(T_max=4).warmup(2).ends_at, Cosine().sized(9).ends_at, Exponential(0.5).ends_at
        (6, 9, None)
        """
        if not self.is_sized:
            return None
        own = None if self.duration is None else getattr(self, f"_{self.duration}", getattr(self, self.duration))
        ends = [own, *(part.ends_at for part in self._parts())]
        return max((end for end in ends if end is not None and isfinite(end)), default=None)

    @property
    def floor(self) -> float:
        """The highest `eta_min` of it and its parts, 0 where there is none; from a base below, it rises to that.

        >>> from lucid_train.schedules import Cosine
        >>> Cosine(T_max=4, eta_min=0.01).warmup(2).floor
        0.01
        """
        return max((part.floor for part in self._parts()), default=0.0)

    def __repr__(self) -> str:
        shown = []
        for index, each in enumerate(each for each in fields(type(self)) if each.init):
            if (value := getattr(self, each.name)) != each.default:
                # Without the address that is in the repr of most callable objects.
                text = getattr(value, "__qualname__", None) or sub(r"( object)? at 0x[0-9A-Fa-f]+", "", repr(value))
                shown.append(text if index == 0 or each.default is NOTHING else f"{each.alias}={text}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _value(self, t: Any, base: float) -> float:
        try:
            scale, shift = self.affine(t)
            value = base * scale + shift
        except OverflowError:
            value = float("inf")
        if not isfinite(value):
            if isinf(value):
                raise OverflowError(f"{self!r} exceeds the largest float at {t}")
            raise ValueError(f"{self!r} must be a number at {t}: {value}")
        return value

    @property
    def _ends(self) -> bool:
        return self.duration is not None and getattr(self, self.duration) is not None

    def _extent(self, span: Span) -> Place | None:
        """Return how long the schedule lasts if it ends by itself, exactly; None while that is not known."""
        return span.extent(getattr(self, self.duration)) if self.duration is not None and self._ends else None

    def _within(self, span: Span) -> Self:
        if self.is_sized:
            return self
        sized = copy(self)
        sized._fill(span)
        return sized

    def _fill(self, span: Span) -> None:
        """Set the private count of every length, and size the schedules among the fields, as far as a span says."""
        names = [each.name for each in fields(type(self))]
        for name in names:
            value = getattr(self, name, None)
            if isinstance(value, Schedule):
                store(self, name, value._within(span))
            elif isinstance(value, tuple) and any(isinstance(item, Schedule) for item in value):
                store(self, name, tuple(item._within(span) if isinstance(item, Schedule) else item for item in value))
            elif f"_{name}" in names:
                store(self, f"_{name}", self._count(name, value, span))

    def _count(self, name: str, value: Any, span: Span) -> Any:
        """Return the count that a field for a length, or for a tuple of places, stands for."""
        if isinstance(value, tuple):
            counts = [self._count(name, place, span) for place in value]
            missing = [count for count in counts if isinstance(count, Missing)]
            return missing[0] if missing else tuple(sorted(counts))
        begin = rounded(span.start)
        if value is None and span.end is not None:
            if span.end <= begin:
                raise ValueError(f"{name!r} of {self!r} must be given: its part begins at {begin}, ends at {span.end}")
            return span.end - begin
        if value is None or (extent := span.extent(value)) is None:
            return Missing(repr(name), self)
        if not isinstance(value, str):
            return value
        is_place = name == self.duration or isinstance(getattr(self, name), tuple)
        return max(1, rounded(span.start + extent) - begin if is_place else rounded(extent))

    def _parts(self) -> list[Schedule]:
        """Return the schedules among the fields."""
        values = [getattr(self, each.name) for each in fields(type(self)) if each.init]
        items = [item for value in values for item in (value if isinstance(value, tuple) else (value,))]
        return [item for item in items if isinstance(item, Schedule)]

    def _missing(self) -> Missing | None:
        """Return what stands for the first length that is not known, or None."""
        for part in self._parts():
            if (missing := part._missing()) is not None:
                return missing
        own = [getattr(self, each.name) for each in fields(type(self)) if not each.init]
        return next((value for value in own if isinstance(value, Missing)), None)


@final
@define(unsafe_hash=True)
class WithBase:
    """A schedule as a function of `t` alone: what `with_base` returns.

    An array that is not numpy's, such as one that JAX traces in `jit`, `vmap` or `scan`, is looked up in a table of the
    values from 0 to `n`, where `n` is the length that the schedule was `sized` for. The table is made once, at the
    first such call. Below 0 the value of 0 holds, beyond `n` that of `n`: an error cannot be raised in traced code.

    Args:
        schedule: A schedule whose lengths are known.
        base: What it scales.
    """

    schedule: Schedule
    base: float
    _table: Any = field(default=None, init=False, repr=False, eq=False)

    @overload
    def __call__(self, t: float) -> float: ...

    @overload
    def __call__(self, t: NDArray[np.integer[Any]]) -> NDArray[np.float64]: ...

    def __call__(self, t: Any) -> Any:
        """Return the value at time `t`.

        Args:
            t: What the schedule takes; or an integer array, of any shape, of a library with the array API, such as JAX.

        Returns:
            What the schedule returns; for such an array one of the same library and shape, in its default float type:
            each value is that of the int, rounded to this type.

        Raises:
            TypeError: If `t` does not hold integers.
            ValueError: If `t` is such an array and the schedule was not `sized`.
        """
        space = t.__array_namespace__() if hasattr(t, "__array_namespace__") else None
        if space is None or space.__name__ == "numpy":
            return self.schedule(t, self.base)
        if not space.isdtype(t.dtype, "integral"):
            raise TypeError(f"'t' must be an int or an integer array: {t!r}")
        last = self.schedule._run_length
        if last is None:
            raise ValueError(f"{self.schedule!r} needs the length of the run for arrays of JAX: call .sized(n) first")
        if self._table is None:
            import numpy as np

            # Of numpy's, as an array that is made while JAX traces must not outlive the trace.
            self._table = np.array(self.schedule.table(last + 1, self.base))
        # The clipping has JAX's own arithmetic, whose indices beyond the end would be the last one but below 0 wrap.
        return space.asarray(self._table)[space.clip(t, 0, last)]


def listed_times(t: Any) -> list[int]:
    """Return an integer array of times as a list, or refuse it.

    Raises:
        TypeError: If it does not hold integers.
        ValueError: If it is not of shape (n,), or a time is negative.
    """
    import numpy as np

    times = np.asarray(t)
    if times.dtype.kind not in "iu":
        raise TypeError(f"'t' must be an int or an integer array: {t!r}")
    if times.ndim != 1 or times.min(initial=0) < 0:
        raise ValueError(f"'t' must be {'one-dimensional' if times.ndim != 1 else '>= 0'}: {t!r}")
    return [int(time) for time in times]


def check_is_value(schedule: object, name: str = "schedule") -> None:
    """Refuse what is no schedule, and a schedule with settings that are no fields: it would not be saved or compared.

    Raises:
        TypeError: If it is no Schedule, or its class is not decorated with `@attrs.frozen` and has settings.
    """
    if not isinstance(schedule, Schedule):
        cure = "; say with .then(...) what follows" if isinstance(schedule, Until) else ""
        raise TypeError(f"{name!r} must be a Schedule: {schedule!r}{cure}")
    kind = type(schedule)
    unknown = {each for each, _ in unknown_values(schedule)}
    if unknown or kind.__hash__ is None:
        which = f", for its settings {', '.join(sorted(unknown))}" if unknown else ""
        raise TypeError(f"{kind.__name__} must be decorated with @attrs.frozen{which}: {schedule!r}")


def _worded(value: Any, unit: str) -> str:
    """Return a setting in words: never an address, nor a repr."""
    if isinstance(value, Schedule):
        return f"({value.words(unit)})"
    if isinstance(value, (list, tuple)):
        return ", ".join(_worded(item, unit) for item in value)
    if isinstance(value, float):
        return f"{value:g}"
    if callable(value):
        return function_words(value, unit)
    return str(value) if value is None or isinstance(value, (str, int)) else type(value).__name__


def function_words(function: Any, unit: str) -> str:
    """Return a function in words, by its name if it has one: "decayed(epoch)"."""
    name = str(getattr(function, "__name__", type(function).__name__))
    return f"{name}({unit})" if name.isidentifier() else f"a function of the {unit}"


def _plain(name: str, value: Any, resolved: bool) -> Any:
    if isinstance(value, Schedule):
        return {"class": type(value).__name__, **value.settings(resolved=resolved)}
    if isinstance(value, (list, tuple)):
        return [_plain(name, item, resolved) for item in value]
    if isinstance(value, dict):
        return {key: _plain(name, item, resolved) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{name!r} must be plain JSON, or a function: {value!r}")


@final
@frozen(repr=False)
class Linear(Schedule):
    """Move linearly from one share of the base to another: the usual warm-up.

    The value is `base * (start_factor * (n - t) + end_factor * t) / n` with `n = total_iters`, within 4 ulp; from
    `total_iters` on exactly `base * end_factor`.

    Args:
        start_factor: The share at 0, from 0 to 1.
        end_factor: The share from `total_iters` on, from 0 to 1.
        total_iters: Epochs or steps from one to the other, at least 1; a share of the run; or as long as its part of
            it.

    >>> Linear(0.5, total_iters=2).table(4)
    [0.5, 0.75, 1.0, 1.0]
    """

    duration: ClassVar[str] = "total_iters"

    start_factor: float = field(validator=stored(real_number, least=0, most=1))
    end_factor: float = field(default=1.0, validator=stored(real_number, least=0, most=1))
    total_iters: Length = field(default=None, validator=stored(count_or_share))
    _total_iters: int = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        n = self._total_iters
        if t >= n:
            return self.end_factor, 0.0
        # Not start + (end - start) * t / n, which cancels where the end is much lower.
        return self.start_factor * ((n - t) / n) + self.end_factor * (t / n), 0.0

    def words(self, unit: str = "epoch") -> str:
        length = self._over(unit)
        if self.end_factor == 1.0 and length:
            start = {0.0: " from 0", 0.1: ""}.get(self.start_factor, f" from {self.start_factor:g} of the base")
            return f"warm-up{length.removeprefix(' over') if isinstance(self.total_iters, str) else length}{start}"
        start = "" if self.start_factor == 1.0 else f" from {self.start_factor:g}"
        return f"linear{start} to {f'{self.end_factor:g} of the base' if self.end_factor else '0'}{length}"


def min_ratio(instance: Any, attribute: Any, value: Any) -> None:
    """Check a floor that is a share of the base, beside which there is none in absolute terms."""
    value = real_number(attribute.name, value, least=0, most=1)
    absolute = "end" if hasattr(instance, "end") else "eta_min"
    if value and getattr(instance, absolute):
        raise ValueError(f"{attribute.name!r} must be left out where {absolute!r} is given: {value}")
    store(instance, attribute.name, value)


class Floored:
    """A floor: `eta_min`, a value, or `min_ratio`, a share of the base."""

    __slots__ = ()
    eta_min: float
    min_ratio: float

    @property
    def has_shift(self) -> bool:
        return self.eta_min != 0.0

    @property
    def floor(self) -> float:
        return self.eta_min

    def floor_words(self) -> str:
        """Return the floor in words."""
        return f"{self.min_ratio:g} of the base" if self.min_ratio else f"{self.eta_min:g}"


def _ramp_shape(instance: Any, attribute: Any, value: Any) -> None:
    one_of(attribute.name, value, ("cosine", "1-sqrt", "exponential"))
    check_shape(attribute.name, value, instance.start_factor, instance.end_factor)


@final
@frozen(repr=False)
class Ramp(Schedule):
    """Move from one share of the base to another along a curve; Linear moves along a line.

    With `p = t / total_iters`, a fall from `high` to `low` has at `t` the value `base * (low + (high - low) * f(p))`,
    `f(p)` being `cos(pi * p / 2) ** 2` for "cosine" and `1 - sqrt(p)` for "1-sqrt" (Haegele et al., arXiv 2405.18392):
    within 8 ulp. A rise is the same read backwards, `f(1 - p)`. For "exponential" it is
    `base * start_factor * (end_factor / start_factor) ** p`, within 4 ulp and one more for each unit of the logarithm
    of their ratio. From `total_iters` on it is exactly `base * end_factor`.

    Args:
        start_factor: The share at 0, from 0 to 1.
        end_factor: The share from `total_iters` on, from 0 to 1.
        total_iters: Epochs or steps from one to the other, at least 1; a share of the run; or as long as its part of
            it.
        shape: "cosine", "1-sqrt", or "exponential", for which neither share may be 0.

    >>> [round(value, 3) for value in Ramp(1.0, 0.0, 4, shape="1-sqrt").table(6)]
    [1.0, 0.5, 0.293, 0.134, 0.0, 0.0]
    """

    duration: ClassVar[str] = "total_iters"

    start_factor: float = field(validator=stored(real_number, least=0, most=1))
    end_factor: float = field(default=1.0, validator=stored(real_number, least=0, most=1))
    total_iters: Length = field(default=None, validator=stored(count_or_share))
    shape: Literal["cosine", "1-sqrt", "exponential"] = field(default="cosine", validator=_ramp_shape)
    _total_iters: int = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        n = self._total_iters
        if t >= n:
            return self.end_factor, 0.0
        if t == 0:
            return self.start_factor, 0.0
        return between(self.shape, self.start_factor, self.end_factor, t, n), 0.0

    def words(self, unit: str = "epoch") -> str:
        length = self._over(unit)
        if self.end_factor == 1.0 and length:
            start = {0.0: " from 0", 0.1: ""}.get(self.start_factor, f" from {self.start_factor:g} of the base")
            length = length.removeprefix(" over") if isinstance(self.total_iters, str) else length
            return f"{self.shape} warm-up{length}{start}"
        start = "" if self.start_factor == 1.0 else f" from {self.start_factor:g}"
        return f"{self.shape}{start} to {f'{self.end_factor:g} of the base' if self.end_factor else '0'}{length}"


def _is_schedule(instance: Any, attribute: Any, value: Any) -> None:
    check_is_value(value, attribute.name)


@final
@frozen(repr=False)
class Skipped(Schedule):
    """A schedule without its first times: its value at `t` is that of the schedule at `t + n`. It is what `skip` makes.

    Args:
        schedule: Any schedule. Its lengths and shares count from its own beginning, `n` before.
        n: Epochs or steps, at least 1, or a share of the run.

    >>> Skipped(Linear(0.0, total_iters=4), 1).table(4)
    [0.25, 0.5, 0.75, 1.0]
    """

    schedule: Schedule = field(validator=_is_schedule)
    n: int | str = field(validator=stored(count_or_share))
    _n: int = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        return self.schedule.affine(t + self._n)

    def restarts(self, length: int) -> tuple[int, ...]:
        return tuple(t - self._n for t in self.schedule.restarts(length + self._n) if t > self._n)

    @property
    def ends_at(self) -> int | None:
        end = self.schedule.ends_at if self.is_sized else None
        return None if end is None else max(end - self._n, 0)

    @property
    def absolute(self) -> bool:
        return self.schedule.absolute

    @property
    def _ends(self) -> bool:
        return self.schedule._ends

    def _extent(self, span: Span) -> Place | None:
        start = self._start(span)
        extent = None if start is None else self.schedule._extent(evolve(span, start=start))
        return None if start is None or extent is None else extent - (span.start - start)

    def _start(self, span: Span) -> Place | None:
        """Return where in the run the schedule begins, at least 1 before; None while that is not known."""
        if (skipped := span.extent(self.n)) is None:
            return None
        start = span.start - skipped
        return start if rounded(start) < rounded(span.start) else rounded(span.start) - 1

    def _fill(self, span: Span) -> None:
        if (start := self._start(span)) is None:
            store(self, "_n", Missing("'n'", self))
            return
        store(self, "schedule", self.schedule._within(evolve(span, start=start)))
        store(self, "_n", rounded(span.start) - rounded(start))

    def words(self, unit: str = "epoch") -> str:
        return f"{self.schedule.words(unit)}, without the first {counted(self.n, unit)}"

    def __repr__(self) -> str:
        text = f"({self.schedule!r})" if isinstance(self.schedule, Product) else repr(self.schedule)
        return f"{text}.skip({self.n!r})"


@final
@frozen(repr=False)
class Until:
    """A schedule with an end, as `until` returns it. It is no schedule before `then` has said what follows."""

    schedule: Schedule
    end: int | str = field(validator=stored(count_or_share))

    def then(self, following: Schedule) -> Sequence:
        """Return the schedule followed by another one, which starts from its own beginning."""
        return joined(self.schedule, self.end, following)

    def __call__(self, *_: object) -> float:
        raise ValueError(f"a schedule must not end before the run; say what comes then: {self!r}.then(...)")

    def __repr__(self) -> str:
        text = f"({self.schedule!r})" if isinstance(self.schedule, Product) else repr(self.schedule)
        return f"{text}.until({self.end!r})"


def _check_parts(instance: Any, attribute: Any, value: Any) -> None:
    parts = listed(attribute.name, value, "schedules")
    if not any(part is not None for part in parts):
        raise ValueError(f"{attribute.name!r} must hold at least one schedule: {list(parts)}")
    for index, part in enumerate(parts):
        if part is not None or not isinstance(instance, Sequence):
            check_is_value(part, f"{attribute.name}[{index}]")
    store(instance, attribute.name, parts)


def _check_milestones(instance: Any, attribute: Any, value: Any) -> None:
    name, parts = attribute.name, instance.parts
    milestones = tuple(
        None if each is None else count_or_share(f"{name}[{index}]", each)
        for index, each in enumerate(listed(name, value, "places"))
    )
    if len(milestones) != len(parts) - 1:
        raise ValueError(f"{name!r} must be one less than the {len(parts)} parts: {list(milestones)}")
    for index, (part, milestone) in enumerate(zip(parts, milestones, strict=False)):
        if milestone is None and (part is None or not part._ends):
            raise ValueError(f"'{name}[{index}]' must be given, as this part does not end by itself: {part!r}")
    check_rising(name, milestones)
    store(instance, name, milestones)


@final
@frozen(repr=False)
class Sequence(Schedule):
    """One schedule after the other, each from its own beginning: what `then` makes.

    From `milestones[i - 1]` on, the value at `t` is that of `parts[i]` at `t - milestones[i - 1]`, as exact as it is
    alone. Shares are rounded where the places lie in the run, so that the parts add up to it, and a part lasts at
    least 1.

    Args:
        parts: The schedules. None is a part that does not change the value: it stays the base, if it comes first, or
            else the last value of the part before it.
        milestones: Where all but the first of them begin, from the beginning of the first: counts, shares of the run,
            or None where the part before says itself how long it lasts. One less than parts.

    >>> from lucid_train.schedules import Exponential, Linear
    >>> Sequence([Linear(0.5, total_iters=2), Exponential(0.5)], milestones=[2]).table(5)
    [0.5, 0.75, 1.0, 0.5, 0.25]
    """

    parts: abc.Sequence[Schedule | None] = field(validator=_check_parts)
    milestones: abc.Sequence[Length] = field(validator=_check_milestones)
    _milestones: tuple[int, ...] = field(init=False, repr=False, eq=False)
    _starts: tuple[int, ...] = field(init=False, repr=False, eq=False)
    _affines: tuple[Affine, ...] = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        index = bisect_right(self._milestones, t)
        return self._affines[index](t - self._starts[index])

    def restarts(self, length: int) -> tuple[int, ...]:
        spans = zip(self.parts, self._starts, (*self._milestones, length), strict=True)
        found = [(start, part.restarts(min(end, length) - start)) for part, start, end in spans if part is not None]
        return tuple(start + t for start, times in found for t in times)

    @property
    def ends_at(self) -> int | None:
        last = self.parts[-1]
        end = None if last is None or not self.is_sized else last.ends_at
        return None if end is None else self._starts[-1] + end

    @property
    def absolute(self) -> bool:
        return self.parts[0] is not None and all(part is None or part.absolute for part in self.parts)

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
        begin = rounded(span.start)
        joints = tuple(end - begin for end in ends[:-1] if end is not None)
        is_known = len(joints) == len(self.milestones)
        store(self, "parts", tuple(parts))
        store(self, "_milestones", joints if is_known else self._unknown(ends.index(None)))
        store(self, "_starts", (0, *joints))
        store(self, "_affines", self._affines_of_parts() if is_known else ())

    def _unknown(self, index: int) -> Missing:
        """Return what is missing for a joint: the length of the part before, or the share itself."""
        part = self.parts[index] if self.milestones[index] is None else None
        missing = None if part is None else part._missing()
        return Missing(f"'milestones[{index}]'", self) if missing is None else missing

    def _affines_of_parts(self) -> tuple[Affine, ...]:
        affines: list[Affine] = []
        for part, start, before in zip(self.parts, self._starts, (0, *self._starts), strict=False):
            if part is not None:
                affines.append(part.affine)
            else:
                affines.append(partial(_standing, affines[-1], start - 1 - before) if affines else _base)
        return tuple(affines)

    def words(self, unit: str = "epoch") -> str:
        found: list[str] = []
        for part, end in zip(self.parts, (*self.milestones, None), strict=True):
            text = "unchanged" if part is None else part.words(unit)
            lasts = None if part is None or part.duration is None else getattr(part, part.duration)
            if end is not None and (found or lasts != end):  # else it has said so itself
                text += f" until {counted(end, unit) if isinstance(end, str) else f'{unit} {end:,}'}"
            found.append(text)
        return ", then ".join(found)

    def __repr__(self) -> str:
        first = self.parts[0]
        if None in self.parts or isinstance(first, Sequence):  # which `then` and `until` cannot write
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


def _standing(part: Affine, at: int, t: int) -> tuple[float, float]:
    """Return what a part gave at its last time, for as long as the next one leaves it standing."""
    return part(at)


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

    parts: abc.Sequence[Schedule] = field(validator=_check_parts)
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

    def _fill(self, span: Span) -> None:
        for index, part in enumerate(self.parts[1:], 1):
            if part.absolute:
                raise ValueError(f"'parts[{index}]' must depend on its base, or come first: {part!r}")
        super()._fill(span)
        first, *others = [part.affine for part in self.parts]
        store(self, "_first", first)
        store(self, "_others", tuple(others))

    def words(self, unit: str = "epoch") -> str:
        return ", together with ".join(part.words(unit) for part in self.parts)

    def __repr__(self) -> str:
        return f"Chain({list(self.parts)!r})"


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

    def affine(self, t: int) -> tuple[float, float]:
        scale, shift = self.schedule.affine(t)
        factor, extra = self.factor.affine(t)
        if extra:  # of a schedule of the user's own, which need not say that it has one
            raise ValueError(f"'factor' must be a multiple of its base, without a shift: {self.factor!r} at {t}")
        return scale * factor, shift * factor

    @property
    def absolute(self) -> bool:
        return self.schedule.absolute

    def words(self, unit: str = "epoch") -> str:
        return f"{self.schedule.words(unit)}, together with {self.factor.words(unit)}"

    def __repr__(self) -> str:
        factor = f"({self.factor!r})" if isinstance(self.factor, Product) else repr(self.factor)
        return f"{self.schedule!r} * {factor}"
