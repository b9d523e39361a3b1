"""Schedules that are given as functions of the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from attrs import field, frozen

from lucid_train.schedules.length import every
from lucid_train.schedules.schedule import Schedule, function, function_words, stored

# How far apart the products lie that are remembered, so that going back costs at most as many factors.
_STRIDE = 1024


@final
@frozen(repr=False)
class Function(Schedule):
    """Multiply the base by a function of the time: `base * f(t)`, within 1 ulp of the function's value.

    Args:
        f: A pure function of `t`, an int from 0. Settings and states leave it out.

    >>> Function(lambda t: 1 / (1 + t)).table(3)
    [1.0, 0.5, 0.3333333333333333]
    """

    # Left out of the hash, as a callable object need not have one.
    f: Callable[[int], float] = field(validator=stored(function), hash=False)

    def affine(self, t: int) -> tuple[float, float]:
        scale = self.f(t)
        return scale if type(scale) is float else _as_float(scale, t), 0.0

    def words(self, unit: str = "epoch") -> str:
        return f"times {function_words(self.f, unit)}"


class _Products:
    """The products of the factors so far: the last one, and every 1024th. A copy starts without any."""

    __slots__ = ("last", "marks")

    def __init__(self) -> None:
        self.last = 0, 1.0
        self.marks = [1.0]

    def __reduce__(self) -> tuple[Any, ...]:
        return _Products, ()


@final
@frozen(repr=False)
class Multiplicative(Schedule):
    """Multiply the value by a function of the time, again at every time: `base * f(1) * f(2) * ... * f(t)`.

    The product is within `t` ulp. It goes on from the last time that was asked for; a time far ahead asks the function
    for every time on the way.

    Args:
        f: A pure function of `t`, an int from 1. Settings and states leave it out.

    >>> Multiplicative(lambda t: 0.5).table(3)
    [1.0, 0.5, 0.25]
    """

    f: Callable[[int], float] = field(validator=stored(function), hash=False)
    _products: _Products = field(factory=_Products, init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        products = self._products
        at, product = products.last
        if not at <= t <= at + _STRIDE:
            mark = min(t // _STRIDE, len(products.marks) - 1)
            at, product = mark * _STRIDE, products.marks[mark]
        while at < t:
            at += 1
            factor = self.f(at)
            product *= factor if type(factor) is float else _as_float(factor, at)
            if at == len(products.marks) * _STRIDE:
                products.marks.append(product)
        products.last = t, product
        return product, 0.0

    def words(self, unit: str = "epoch") -> str:
        return f"times {function_words(self.f, unit)}, again {every(1, unit)}"


def _as_float(value: Any, t: int) -> float:
    """Return what a function gave at time `t` as a float, or refuse what is no number."""
    try:
        if not isinstance(value, (str, bytes)):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"'f({t})' must be a number: {value!r}")
