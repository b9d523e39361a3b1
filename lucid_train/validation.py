"""The rules that arguments must satisfy; a refusal names the argument, the rule and the value."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def whole_number(name: str, value: Any, *, least: int) -> int:
    """Return `value` as an int, or refuse it.

    Args:
        name: The argument's name, for the error.
        value: An int or anything that stands for one exactly, as numpy's integers do. No bool, no float.
        least: The smallest value allowed.

    Raises:
        TypeError: If `value` is no integer.
        ValueError: If it is below `least`.
    """
    try:
        number = None if _dtype(value) == "bool" else operator.index(value)
    except TypeError:  # an array of several has __index__ too
        number = None
    if number is None:
        raise TypeError(f"{name!r} must be an int: {value!r}")
    if number < least:
        raise ValueError(f"{name!r} must be >= {least}: {number}")
    return number


def real_number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> float:
    """Return `value` as a finite float, or refuse it.

    Args:
        name: The argument's name, for the error.
        value: A number, or a 0-d array or tensor that holds one. No bool, no string, no complex number.
        least: The smallest value allowed.
        above: A bound that the value must exceed.
        most: The largest value allowed.
        below: A bound that the value must stay under.

    Raises:
        TypeError: If `value` is no real number.
        ValueError: If it is infinite, NaN or out of bounds.
    """
    if isinstance(value, (str, bytes)) or _dtype(value).startswith(("bool", "complex")):
        raise TypeError(f"{name!r} must be a number: {value!r}")
    try:
        number = float(value)
    except OverflowError:  # an int that no float is large enough for
        number = math.inf if value > 0 else -math.inf
    except (TypeError, ValueError, RuntimeError):  # as arrays and tensors of several say it
        raise TypeError(f"{name!r} must be a number: {value!r}") from None
    bounds = ((">=", least), (">", above), ("<=", most), ("<", below))
    rules = [f"{sign} {bound:g}" for sign, bound in bounds if bound is not None]
    out = (
        (least is not None and number < least)
        or (above is not None and number <= above)
        or (most is not None and number > most)
        or (below is not None and number >= below)
    )
    if out or not math.isfinite(number):
        rules += [] if out and rules else ["finite"]
        raise ValueError(f"{name!r} must be {' and '.join(rules)}: {number}")
    return number


def one_of(name: str, value: T, choices: Iterable[T]) -> T:
    """Return `value`, or refuse it if it is none of `choices`.

    Raises:
        ValueError: If `value` is not among them.
    """
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(f"{name!r} must be one of {', '.join(map(repr, choices))}: {value!r}")
    return value


def flag(name: str, value: Any) -> bool:
    """Return `value` as a bool, or refuse what is neither True nor False.

    Raises:
        TypeError: If it is neither; numpy's bools are.
    """
    if not isinstance(value, bool) and not (_dtype(value) == "bool" and getattr(value, "ndim", 0) == 0):
        raise TypeError(f"{name!r} must be True or False: {value!r}")
    return bool(value)


def function(name: str, value: T) -> T:
    """Return `value`, or refuse what cannot be called.

    Raises:
        TypeError: If it is not callable.
    """
    if not callable(value):
        raise TypeError(f"{name!r} must be a function: {value!r}")
    return value


def metric_name(name: str, value: Any) -> str:
    """Return `value`, or refuse what cannot be the name of a metric.

    Raises:
        TypeError: If it is no string, or an empty one.
    """
    if not isinstance(value, str) or not value:
        raise TypeError(f"{name!r} must be the name of a metric: {value!r}")
    return value


def check_entries(what: str, state: Any, expected: Iterable[str]) -> None:
    """Refuse a state whose entries are not those expected.

    Raises:
        ValueError: Naming what is missing and what is unknown, or if it is no dict.
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"{what} must be a dict: {state!r:.80}")
    names = set(expected)
    missing, unknown = sorted(names - state.keys()), sorted(state.keys() - names, key=repr)
    if missing or unknown:
        wrong = [f"{name!r} is missing" for name in missing] + [f"{name!r} is unknown" for name in unknown]
        raise ValueError(f"{what} does not fit: {', '.join(wrong)}")


def _dtype(value: Any) -> str:
    # Numpy's and PyTorch's bools are no subclass of Python's, and their complex numbers may pass float().
    return str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")


def checked(check: Callable[..., Any], **rule: Any) -> Callable[[Any, Any, Any], None]:
    """Return an attrs validator that applies `check` from this module; None passes where the default is None."""

    def validator(instance: Any, attribute: Any, value: Any) -> None:
        if value is not None or attribute.default is not None:
            check(attribute.name, value, **rule)

    return validator
