"""The shapes of the way from one value to another."""

from __future__ import annotations

from math import pi, sin, sqrt
from typing import Any, Literal, TypeAlias

from lucid_train.validation import one_of

Shape: TypeAlias = Literal["linear", "cosine", "1-sqrt", "exponential"]


def shares(shape: str, t: float, n: float) -> tuple[float, float]:
    """Return how much of the start, and of the end, a fall has at time `t` of `n`; the two add up to 1."""
    if shape == "linear":
        return (n - t) / n, t / n
    if shape == "1-sqrt":
        fallen = sqrt(t / n)
        return (n - t) / n / (1.0 + fallen), fallen
    # From the nearer end, as the cosine of an angle close to pi / 2 loses what the angle was rounded by.
    if t + t < n:
        fallen = sin(pi * t / (2 * n)) ** 2
        return 1.0 - fallen, fallen
    left = sin(pi * (n - t) / (2 * n)) ** 2
    return left, 1.0 - left


def between(shape: str, start: float, end: float, t: float, n: float) -> float:
    """Return what lies at time `t` of `n` on the way from `start` to `end`; a rise is a fall read backwards."""
    if shape == "exponential":
        return float(start * (end / start) ** (t / n))
    if end < start:
        high, low = shares(shape, t, n)
        return start * high + end * low
    high, low = shares(shape, n - t, n)
    return end * high + start * low


def check_shape(name: str, shape: Any, *ends: float) -> None:
    """Refuse what is no shape, and an exponential one that would have to start or end at 0.

    Raises:
        ValueError: If it is one of these.
    """
    one_of(name, shape, ("linear", "cosine", "1-sqrt", "exponential"))
    if shape == "exponential" and min(ends) == 0.0:
        raise ValueError(
            f"{name!r} must be 'linear', 'cosine' or '1-sqrt' from or to 0, which no power reaches: {shape!r}"
        )
