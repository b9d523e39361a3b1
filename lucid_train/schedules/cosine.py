"""Schedules along half a cosine."""

from __future__ import annotations

from math import pi, sin
from typing import ClassVar, Literal, final

from attrs import field, frozen

from lucid_train.schedules.length import Length, count_or_share, counted, every
from lucid_train.schedules.schedule import Schedule, stored
from lucid_train.validation import choice, real_number, whole_number

After = Literal["restart", "hold", "mirror"]
check_after = choice("restart", "hold", "mirror")


class _Floored:
    """What a floor of `eta_min` asks of the base."""

    __slots__ = ()
    eta_min: float

    @property
    def has_shift(self) -> bool:
        return self.eta_min != 0.0

    def check_base(self, name: str, base: float) -> None:
        # More than the rounding of a float32: a rate of 0.01 may read as 0.0099999998.
        if self.eta_min > base * (1 + 1e-6):
            raise ValueError(f"'eta_min' must be <= {name}, {base}: {self.eta_min}")


@final
@frozen(repr=False)
class Cosine(_Floored, Schedule):
    """Fall along half a cosine, from the base to `eta_min` at `T_max`.

    The value at `t <= T_max` is `eta_min + (base - eta_min) * cos(pi * t / (2 * T_max)) ** 2`, within 8 ulp: the
    half-angle form of Loshchilov and Hutter, SGDR (ICLR 2017), equation 5. It is evaluated from the nearer end of the
    curve, because the cosine of an angle close to pi / 2 loses what the angle was rounded by. The value is exactly the
    base at 0 and exactly `eta_min` at `T_max`.

    Args:
        T_max: Epochs or steps from the base to `eta_min`, at least 1; a share of the run; or as long as its part of it.
        eta_min: The lowest value. At least 0; at most the base, which is checked when there is one.
        after: What follows `T_max`. "restart": at the next time the value is the base again, a cycle is `T_max + 1`
            long. "hold": it stays at `eta_min`. "mirror": it climbs back the same way, as PyTorch's and Lucid's
            do, a cycle is `2 * T_max` long.

    >>> [round(value, 3) for value in Cosine(T_max=2).table(4)]
    [1.0, 0.5, 0.0, 1.0]
    """

    duration: ClassVar[str] = "T_max"

    T_max: Length = field(default=None, validator=stored(count_or_share))
    eta_min: float = field(default=0.0, validator=stored(real_number, least=0))
    after: After = field(default="restart", validator=check_after)
    _T_max: int = field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        T_max = self._T_max
        if t > T_max:
            t = self._folded(t)
        if t + t < T_max:
            fallen = sin(pi * t / (2 * T_max)) ** 2
            return 1.0 - fallen, self.eta_min * fallen
        left = sin(pi * (T_max - t) / (2 * T_max)) ** 2
        return left, self.eta_min * (1.0 - left)

    def restarts(self, length: int) -> tuple[int, ...]:
        cycle = self._T_max + 1
        return tuple(range(cycle, length, cycle)) if self.after == "restart" else ()

    def words(self, unit: str = "epoch") -> str:
        ways = {"restart": "", "hold": ", held there", "mirror": " and back"}
        # How it goes on matters only where it may be over before the run is.
        after = "" if self.T_max is None else ways[self.after]
        return f"cosine to {self.eta_min:g}{self._over(unit)}{after}"

    def _folded(self, t: int) -> int:
        """Return the time of the first descent that has the value of time `t`."""
        T_max = self._T_max
        match self.after:
            case "hold":
                return T_max
            case "restart":
                return t % (T_max + 1)
            case _:
                return T_max - abs(T_max - t % (2 * T_max))


@final
@frozen(repr=False)
class WarmRestarts(_Floored, Schedule):
    """Fall along half a cosine, again and again, each time `T_mult` times as slowly.

    The `i`-th descent, from 0, is `T_i = T_0 * T_mult**i` long and begins at the base. At its time `t`, counted from 0,
    the value is `eta_min + (base - eta_min) * cos(pi * t / (2 * T_i)) ** 2`, within 8 ulp: Loshchilov and Hutter, SGDR
    (ICLR 2017), equation 5. The last value of a descent is above `eta_min`. The time may be a float.

    Args:
        T_0: Epochs or steps of the first descent, at least 1; or a share of the run.
        T_mult: How many times longer each descent is than the one before. At least 1.
        eta_min: The lowest value. At least 0; at most the base, which is checked when there is one.

    >>> [round(value, 3) for value in WarmRestarts(T_0=2, T_mult=2).table(7)]
    [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    >>> round(WarmRestarts(T_0=2)(0.5), 3)
    0.854
    """

    fractional: ClassVar[bool] = True

    T_0: int | str = field(validator=stored(count_or_share))
    T_mult: int = field(default=1, validator=stored(whole_number, least=1))
    eta_min: float = field(default=0.0, validator=stored(real_number, least=0))
    _T_0: int = field(init=False, repr=False, eq=False)

    def affine(self, t: float) -> tuple[float, float]:
        length = self._T_0
        if self.T_mult == 1:
            t %= length
        else:
            while t >= length:
                t -= length
                length *= self.T_mult
        if t + t < length:
            fallen = sin(pi * t / (2 * length)) ** 2
            return 1.0 - fallen, self.eta_min * fallen
        left = sin(pi * (length - t) / (2 * length)) ** 2
        return left, self.eta_min * (1.0 - left)

    def words(self, unit: str = "epoch") -> str:
        again = every(self.T_0, unit)
        if self.T_mult != 1:
            again = f"after {counted(self.T_0, unit)}, then each {self.T_mult} times as long"
        return f"cosine to {self.eta_min:g}, restarted {again}"
