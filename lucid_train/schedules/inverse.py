"""Schedules that divide the base by what grows with the time."""

from __future__ import annotations

from math import sqrt
from typing import ClassVar, final

from attrs import field, frozen

from lucid_train.schedules.length import Length, count_or_share, counted
from lucid_train.schedules.schedule import Schedule, stored
from lucid_train.validation import flag, real_number


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
    min_ratio: float = field(default=0.0, validator=stored(real_number, least=0, most=1))
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
