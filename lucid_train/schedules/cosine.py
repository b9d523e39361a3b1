"""Schedules along half a cosine."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from math import pi, sin
from operator import itemgetter
from typing import Any, ClassVar, Literal, final

from attrs import field, frozen

from lucid_train.schedules.length import Length, Span, count_or_share, counted, every
from lucid_train.schedules.schedule import OURS, Floored, Schedule, min_ratio, optional_length, store, stored
from lucid_train.schedules.shape import shares
from lucid_train.validation import choice, real_number, whole_number

After = Literal["restart", "hold", "mirror"]
check_after: Callable[[Any, Any, Any], None] = choice("restart", "hold", "mirror")


@final
@frozen(repr=False)
class Cosine(Floored, Schedule):
    """Fall along half a cosine, from the base to `eta_min` at `T_max`.

    The value at `t <= T_max` is `eta_min + (base - eta_min) * cos(pi * cycles * t / T_max) ** (2 * power)`, by default
    `cos(pi * t / (2 * T_max)) ** 2`, within `8 * power` ulp: the half-angle form of Loshchilov and Hutter, SGDR (ICLR
    2017), equation 5. It is evaluated from the nearer end of the curve, because the cosine of an angle close to pi / 2
    loses what the angle was rounded by. The value is exactly the base at 0 and, with half a wave, exactly `eta_min`
    at `T_max`. From a base below `eta_min` it rises.

    Args:
        T_max: Epochs or steps from the base to `eta_min`, at least 1; a share of the run; or as long as its part of it.
        eta_min: The lowest value. At least 0; above the base, one warning says so.
        after: What follows `T_max`. "restart": at the next time the value is the base again, a cycle is `T_max + 1`
            long. "hold": it stays at its last value. "mirror": it goes back the same way, as PyTorch's and Lucid's
            do, a cycle is `2 * T_max` long.
        min_ratio: The lowest value as a share of the base, from 0 to 1, instead of `eta_min`.
        cycles: Waves in `T_max`, above 0: 0.5 goes down once, 1 down and up again, 1.5 down, up and down.
        power: What the curve is raised to, optax's exponent. Positive and finite.

    >>> [round(value, 3) for value in Cosine(T_max=2).table(4)]
    [1.0, 0.5, 0.0, 1.0]
    >>> [round(value, 3) for value in Cosine(T_max=4, min_ratio=0.1, cycles=1).table(5)]
    [1.0, 0.55, 0.1, 0.55, 1.0]
    """

    duration: ClassVar[str] = "T_max"

    T_max: Length = field(default=None, validator=stored(count_or_share))
    eta_min: float = field(default=0.0, validator=stored(real_number, least=0))
    after: After = field(default="restart", validator=check_after)
    min_ratio: float = field(default=0.0, validator=min_ratio, metadata={OURS: True})
    cycles: float = field(default=0.5, validator=stored(real_number, above=0), metadata={OURS: True})
    power: float = field(default=1.0, validator=stored(real_number, above=0), metadata={OURS: True})
    _T_max: int = field(init=False, repr=False, eq=False)
    _is_usual: bool = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        T_max = self._T_max
        if t > T_max:
            t = self._folded(t)
        if not self._is_usual:
            return self._unusual(t)
        if t + t < T_max:
            fallen = sin(pi * t / (2 * T_max)) ** 2
            return 1.0 - fallen, self.eta_min * fallen
        left = sin(pi * (T_max - t) / (2 * T_max)) ** 2
        return left, self.eta_min * (1.0 - left)

    def _unusual(self, t: int) -> tuple[float, float]:
        """Return the scale and the shift with a ratio, waves or a power."""
        # In integers, so that the place in the wave is exact; a wave's second half is its first one backwards.
        halves, of = (2.0 * self.cycles).as_integer_ratio()
        t, half = t * halves, self._T_max * of
        left, fallen = shares("cosine", half - abs(half - t % (2 * half)), half)
        if self.power != 1.0:
            left = left**self.power
            fallen = 1.0 - left
        return left + self.min_ratio * fallen, self.eta_min * fallen

    def _fill(self, span: Span) -> None:
        super()._fill(span)
        store(self, "_is_usual", self.cycles == 0.5 and self.power == 1.0 and not self.min_ratio)

    def restarts(self, length: int) -> tuple[int, ...]:
        cycle = self._T_max + 1
        return tuple(range(cycle, length, cycle)) if self.after == "restart" else ()

    def words(self, unit: str = "epoch") -> str:
        ways = {"restart": "", "hold": ", held there", "mirror": " and back"}
        # How it goes on matters only where it may be over before the run is.
        after = "" if self.T_max is None else ways[self.after]
        waves = "" if self.cycles == 0.5 else f" in {self.cycles:g} waves"
        power = "" if self.power == 1.0 else f" of power {self.power:g}"
        return f"cosine{power} to {self.floor_words()}{waves}{self._over(unit)}{after}"

    def _folded(self, t: int) -> int:
        """Return the time up to `T_max` that has the value of time `t`."""
        T_max = self._T_max
        match self.after:
            case "hold":
                return T_max
            case "restart":
                return t % (T_max + 1)
            case _:
                return T_max - abs(T_max - t % (2 * T_max))


def _factor(instance: Any, attribute: Any, value: Any) -> None:
    value = real_number(attribute.name, value, least=1)
    store(instance, attribute.name, int(value) if value.is_integer() else value)


def _cycles(instance: Any, attribute: Any, value: Any) -> None:
    if value is not None:
        value = whole_number(attribute.name, value, least=1)
        if instance.T_0 is None and instance.T_mult != 1:
            raise ValueError(f"'T_0' must be given where 'T_mult' is not 1: {instance.T_mult}")
    elif instance.T_0 is None:
        raise ValueError("'T_0' must be given, or 'cycles', of which as many fill the run: None")
    store(instance, attribute.name, value)


class _Descents:
    """Where descents begin, their lengths and numbers, as far as they were asked for; a copy has the first alone.

    The one that was asked for last is at hand, as the next time mostly lies in it.
    """

    __slots__ = ("known", "latest")

    def __init__(self, length: Any) -> None:
        self.latest: tuple[float, float, int] = (0, length, 0)
        self.known: list[tuple[float, float, int]] = [self.latest]

    def __reduce__(self) -> tuple[Any, ...]:
        return _Descents, (self.known[0][1],)


@final
@frozen(repr=False)
class WarmRestarts(Floored, Schedule):
    """Fall along half a cosine, again and again, each time `T_mult` times as slowly.

    The `i`-th descent, from 0, is `T_i = T_0 * T_mult**i` long and begins at the base, or at `base * gamma**i`. At its
    time `t`, counted from 0, the value is `eta_min + (base * gamma**i - eta_min) * cos(pi * t / (2 * T_i)) ** 2`,
    within 8 ulp where `T_mult` is whole: Loshchilov and Hutter, SGDR (ICLR 2017), equation 5. The last value of a
    descent is above `eta_min`. With `min_ratio` it is the base times `min_ratio + (1 - min_ratio) * gamma**i` of the
    same cosine, as in Keras. The time may be a float.

    Args:
        T_0: Epochs or steps of the first descent, at least 1; a share of the run; or None where `cycles` descents of
            equal length, whole or not, fill its part of the run.
        T_mult: How many times longer each descent is than the one before. At least 1; it may be a fraction.
        eta_min: The lowest value. At least 0; above the base, one warning says so.
        min_ratio: The lowest value as a share of the base, from 0 to 1, instead of `eta_min`.
        gamma: How many times as high each descent begins as the one before. Above 0, at most 1.
        cycles: How many descents there are, at least 1; then it stays at the lowest value. Left out, without end.

    >>> [round(value, 3) for value in WarmRestarts(T_0=2, T_mult=2).table(7)]
    [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    >>> round(WarmRestarts(T_0=2)(0.5), 3)
    0.854
    >>> [round(value, 3) for value in WarmRestarts(cycles=2).sized(5).table(6)]
    [1.0, 0.655, 0.095, 0.905, 0.345, 0.0]
    """

    fractional: ClassVar[bool] = True

    T_0: Length = field(default=None, validator=optional_length)
    T_mult: float = field(default=1, validator=_factor)
    eta_min: float = field(default=0.0, validator=stored(real_number, least=0))
    min_ratio: float = field(default=0.0, validator=min_ratio, metadata={OURS: True})
    gamma: float = field(default=1.0, validator=stored(real_number, above=0, most=1), metadata={OURS: True})
    cycles: int | None = field(default=None, validator=_cycles, metadata={OURS: True})
    _T_0: int = field(init=False, repr=False, eq=False)
    # When the last descent ends, if all are equally long.
    _end: int | None = field(init=False, repr=False, eq=False)
    _descents: _Descents = field(init=False, repr=False, eq=False)

    def affine(self, t: float) -> tuple[float, float]:
        length: float = self._T_0
        descent = 0
        if self._end is not None and t >= self._end:
            return self.min_ratio, self.eta_min
        if self.T_mult != 1:
            begin, length, descent = self._descents.latest
            if not begin <= t < begin + length:
                if (found := self._descent(t)) is None:
                    return self.min_ratio, self.eta_min
                begin, length, descent = found
            t -= begin
        else:
            if self.T_0 is None:  # the place is exact in units of a share of a time
                t *= self.cycles or 1
            if self.gamma != 1.0:
                descent = int(t // length)
            t %= length
        left, fallen = shares("cosine", t, length)
        if descent and self.gamma != 1.0:
            height = self.gamma**descent
            return self.min_ratio + (1.0 - self.min_ratio) * height * left, self.eta_min * fallen
        return left + self.min_ratio * fallen, self.eta_min * fallen

    def _descent(self, t: float) -> tuple[float, float, int] | None:
        """Return where the descent of time `t` begins, its length and its number from 0; None after the last one."""
        descents = self._descents.known
        begin, length, number = descents[-1]
        while t >= begin + length:
            if number + 1 == self.cycles:  # not by a formula of the end, whose rounding is another
                return None
            begin, length, number = begin + length, length * self.T_mult, number + 1
            # Not by append: another thread may have come as far meanwhile.
            descents[number : number + 1] = [(begin, length, number)]
        found = self._descents.latest = descents[bisect_right(descents, t, key=itemgetter(0)) - 1]
        return found

    @property
    def ends_at(self) -> int | None:
        return self._end if self.is_sized else None

    def settings(self, *, resolved: bool = False) -> dict[str, Any]:
        settings = super().settings(resolved=resolved)
        if resolved and self.T_0 is None:
            whole, rest = divmod(self._T_0, self.cycles or 1)
            # A fraction can be compared, and is refused as a T_0.
            settings["T_0"] = self._T_0 / (self.cycles or 1) if rest else whole
        return settings

    def words(self, unit: str = "epoch") -> str:
        height = "" if self.gamma == 1.0 else f", each from {self.gamma:g} of the height"
        if self.T_0 is None:
            return f"cosine to {self.floor_words()}, {self.cycles} times{height}"
        again = every(self.T_0, unit)
        if self.T_mult != 1:
            again = f"after {counted(self.T_0, unit)}, then each {self.T_mult:g} times as long"
        times = "" if self.cycles is None else f", {self.cycles} in all"
        return f"cosine to {self.floor_words()}, restarted {again}{height}{times}"

    def _fill(self, span: Span) -> None:
        super()._fill(span)
        end: int | None = None
        if self.cycles is not None and self.T_mult == 1 and isinstance(self._T_0, int):
            end = self._T_0 * (1 if self.T_0 is None else self.cycles)
        store(self, "_end", end)
        store(self, "_descents", _Descents(self._T_0))
