"""Schedules that go up and down between bounds and do not depend on the base."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sin
from typing import Any, ClassVar, Literal, TypeAlias, final

from attrs import field, frozen

from lucid_train.schedules.length import Length, Missing, Span, count_or_share, counted
from lucid_train.schedules.schedule import Schedule, function, function_words, store, stored
from lucid_train.validation import choice, flag, one_of, real_number

# The last time of a phase; its start, end and length, whole or not; and the values at its ends.
Phase: TypeAlias = tuple[float, float, float, float, float, float]

# A quarter of a turn.
_QUARTER = pi / 2


def _step_size_down(instance: Any, attribute: Any, value: Any) -> None:
    value = instance.step_size_up if value is None else count_or_share(attribute.name, value, least=0)
    store(instance, attribute.name, value)


def _mode(instance: Any, attribute: Any, value: Any) -> None:
    if instance.scale_fn is None:
        one_of(attribute.name, value, ("triangular", "triangular2", "exp_range"))


@final
@frozen(repr=False)
class Cyclic(Schedule):
    """Go up and down between two bounds, independently of the base.

    The value is `base_lr * (1 - a) + max_lr * a`, within 4 ulp; `a` climbs from 0 to 1 in `step_size_up` epochs or
    steps, falls back in `step_size_down`, and so on, times the mode's scale: 1 for "triangular", `0.5 ** (cycle - 1)`
    for "triangular2", `gamma ** t` for "exp_range", for which it is 6 ulp. Smith, Cyclical Learning Rates (2017). With
    `max_lr` below `base_lr` it goes down first, as a momentum does that is cycled along with a rate; the bounds are
    then in ulp of `base_lr`.

    Args:
        base_lr: Where it starts. At least 0.
        max_lr: The other bound. At least 0.
        step_size_up: Epochs or steps from the first bound to the other, at least 1; or a share of the run.
        step_size_down: Epochs or steps back, at least 0, or a share of the run; left out, as many.
        mode: "triangular", "triangular2" or "exp_range"; ignored with a `scale_fn`.
        gamma: For "exp_range". Above 0, at most 1.
        scale_fn: A scale of your own, a pure function with values from 0 to 1. Settings and states leave it out.
        scale_mode: What `scale_fn` receives: the number of the "cycle", from 1, or of the "iterations", from 0.

    >>> Cyclic(base_lr=0.25, max_lr=0.75, step_size_up=2).table(5)
    [0.25, 0.5, 0.75, 0.5, 0.25]
    """

    base_lr: float = field(validator=stored(real_number, least=0))
    max_lr: float = field(validator=stored(real_number, least=0))
    step_size_up: int | str = field(default=2000, validator=stored(count_or_share))
    step_size_down: int | str | None = field(default=None, validator=_step_size_down)
    mode: Literal["triangular", "triangular2", "exp_range"] = field(default="triangular", validator=_mode)
    gamma: float = field(default=1.0, validator=stored(real_number, above=0, most=1))
    scale_fn: Callable[[float], float] | None = field(default=None, validator=stored(function), hash=False)
    scale_mode: Literal["cycle", "iterations"] = field(default="cycle", validator=choice("cycle", "iterations"))
    _step_size_up: int = field(init=False, repr=False, eq=False)
    _step_size_down: int = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        up, down = self._step_size_up, self._step_size_down
        cycle, place = divmod(t, up + down)
        height = place / up if place <= up else (up + down - place) / down
        if self.scale_fn is not None:
            height *= float(self.scale_fn(cycle + 1 if self.scale_mode == "cycle" else t))
        elif self.mode == "triangular2":
            height *= 0.5**cycle
        elif self.mode == "exp_range":
            height *= self.gamma**t
        return 0.0, self.base_lr * (1.0 - height) + self.max_lr * height

    def words(self, unit: str = "epoch") -> str:
        up, down = (counted(each, unit) for each in (self.step_size_up, self.step_size_down or 0))
        cycle = f"{up} up, as many down" if up == down else f"{up} up, {down} down"
        modes = {
            "triangular": "",
            "triangular2": ", halved each time",
            "exp_range": f", times {self.gamma:g} every {unit}",
        }
        scale = (
            modes[self.mode]
            if self.scale_fn is None
            else f", times {function_words(self.scale_fn, self.scale_mode.rstrip('s'))}"
        )
        return f"from {self.base_lr:g} to {self.max_lr:g} and back, {cycle}{scale}"

    @property
    def absolute(self) -> bool:
        return True

    def settings(self, *, resolved: bool = False) -> dict[str, Any]:
        settings = super().settings(resolved=resolved)
        settings.pop("scale_fn", None)
        return settings


class _Phased:
    """The way from corner to corner, along half cosines or lines, that a rate and its momentum share."""

    __slots__ = ()
    _phases: tuple[Phase, ...]
    _is_linear: bool

    def affine(self, t: float) -> tuple[float, float]:
        # The first phase that has not ended, though a phase may end before the one that it follows.
        for last, start, end, length, first, second in self._phases:  # noqa: B007  # used below
            if t <= last:
                break
        else:
            t = last
        done, left = (t - start) / length, (end - t) / length
        if self._is_linear:
            return 0.0, first * left + second * done
        # From the nearer corner, as the cosine of an angle close to pi / 2 loses what the angle was rounded by.
        if done < left:
            root = sin(_QUARTER * done)
            return 0.0, first * (1.0 - root * root) + second * (root * root)
        root = sin(_QUARTER * left)
        return 0.0, first * (root * root) + second * (1.0 - root * root)

    @property
    def absolute(self) -> bool:
        return True


@final
@frozen(repr=False)
class OneCycle(_Phased, Schedule):
    """Go up to `max_lr` once and then far down, independently of the base.

    It starts at `max_lr / div_factor`, is highest at `pct_start * total_steps - 1`, and ends, at `total_steps - 1`, at
    `max_lr / div_factor / final_div_factor`, where it stays (PyTorch refuses to go on). From one corner to the next it
    follows half a cosine or a line, within 16 ulp; the corners are exact. Smith and Topin, Super-Convergence (2018).

    Args:
        max_lr: The highest value. At least 0.
        total_steps: Length of the curve, at least 1; a share of the run; or as long as its part of it.
        pct_start: Share of the curve that goes up, from 0 to 1.
        anneal_strategy: "cos" or "linear".
        div_factor: What the highest value is divided by to give the first one. Positive and finite.
        final_div_factor: What the first value is divided by to give the last one. Positive and finite.
        three_phase: Go down as slowly as up, to the first value, and then on to the last one.

    >>> schedule = OneCycle(max_lr=1.0, total_steps=10, div_factor=4, final_div_factor=10)
    >>> [round(schedule(step), 3) for step in (0, 1, 2, 5, 9)]
    [0.25, 0.625, 1.0, 0.621, 0.025]
    """

    duration: ClassVar[str] = "total_steps"

    max_lr: float = field(validator=stored(real_number, least=0))
    total_steps: Length = field(default=None, validator=stored(count_or_share))
    pct_start: float = field(default=0.3, validator=stored(real_number, least=0, most=1))
    anneal_strategy: Literal["cos", "linear"] = field(default="cos", validator=choice("cos", "linear"))
    div_factor: float = field(default=25.0, validator=stored(real_number, above=0))
    final_div_factor: float = field(default=1e4, validator=stored(real_number, above=0))
    three_phase: bool = field(default=False, validator=stored(flag))
    _total_steps: int = field(init=False, repr=False, eq=False)
    _phases: tuple[Phase, ...] = field(init=False, repr=False, eq=False)
    _is_linear: bool = field(init=False, repr=False, eq=False)

    def momentum(self, base_momentum: float = 0.85, max_momentum: float = 0.95) -> OneCycleMomentum:
        """Return the momentum that goes with it: lowest where this is highest.

        >>> momentum = OneCycle(max_lr=1.0, total_steps=10).momentum()
        >>> [round(momentum(step), 3) for step in (0, 1, 2, 5, 9)]
        [0.95, 0.9, 0.85, 0.889, 0.95]
        """
        return OneCycleMomentum(self, base_momentum, max_momentum)

    def words(self, unit: str = "epoch") -> str:
        return f"one cycle up to {self.max_lr:g}{self._over(unit)}"

    def _fill(self, span: Span) -> None:
        super()._fill(span)
        store(self, "_is_linear", self.anneal_strategy == "linear")
        first = self.max_lr / self.div_factor
        store(self, "_phases", self._corners(first, self.max_lr, first / self.final_div_factor))

    def _corners(self, first: float, highest: float, last: float) -> Any:
        """Return the phases between these values; Missing while the length is not known."""
        total = self._total_steps
        if isinstance(total, Missing):
            return total
        up = self.pct_start * total
        # The corners and the times, whole or not, at which they lie.
        if self.three_phase:
            corners, ends = [first, highest, first, last], [up - 1, 2 * up - 2, total - 1.0]
        else:
            corners, ends = [first, highest, last], [up - 1, total - 1.0]
        phases = []
        for start, end, first, second in zip([0.0, *ends], ends, corners, corners[1:], strict=False):
            # A phase without length, at the start of which PyTorch divides by 0, is at its end.
            start = start if start < end else end - 1
            phases.append((min(end, ends[-1]), start, end, end - start, first, second))
            if end >= ends[-1]:  # what would follow lies beyond the end of the curve
                break
        return tuple(phases)


def _one_cycle(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, OneCycle):
        raise TypeError(f"{attribute.name!r} must be a OneCycle: {value!r}")


def _max_momentum(instance: Any, attribute: Any, value: Any) -> None:
    value = real_number(attribute.name, value, least=0, below=1)
    if instance.base_momentum > value:
        raise ValueError(f"'base_momentum' must be <= 'max_momentum', {value}: {instance.base_momentum}")
    store(instance, attribute.name, value)


@final
@frozen(repr=False)
class OneCycleMomentum(_Phased, Schedule):
    """The momentum that goes with a OneCycle: from `max_momentum` down to `base_momentum` and back.

    Args:
        cycle: The schedule of the rate.
        base_momentum: The momentum at the highest rate. At least 0 and below 1.
        max_momentum: The momentum at either end. At least `base_momentum` and below 1.
    """

    cycle: OneCycle = field(validator=_one_cycle)
    base_momentum: float = field(default=0.85, validator=stored(real_number, least=0, below=1))
    max_momentum: float = field(default=0.95, validator=_max_momentum)
    _phases: tuple[Phase, ...] = field(init=False, repr=False, eq=False)
    _is_linear: bool = field(init=False, repr=False, eq=False)

    @property
    def _ends(self) -> bool:
        return self.cycle._ends

    def _extent(self, span: Span) -> Any:
        return self.cycle._extent(span)

    def _fill(self, span: Span) -> None:
        super()._fill(span)
        store(self, "_is_linear", self.cycle._is_linear)
        store(self, "_phases", self.cycle._corners(self.max_momentum, self.base_momentum, self.max_momentum))

    def words(self, unit: str = "epoch") -> str:
        return f"from {self.max_momentum:g} down to {self.base_momentum:g} and back{self.cycle._over(unit)}"
