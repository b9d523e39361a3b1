"""Schedules that begin below the base: in one jump, and Noam's."""

from __future__ import annotations

from math import inf
from typing import Any, ClassVar, final

from attrs import field, frozen

from lucid_train.schedules.length import Length, Span, count_or_share, counted
from lucid_train.schedules.schedule import (
    Schedule,
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
