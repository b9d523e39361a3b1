"""Checks of arguments and states; every error names the argument, the rule and the value."""

from __future__ import annotations

import math
import operator
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from inspect import (
    get_annotations,
    getattr_static,
    isasyncgenfunction,
    iscoroutinefunction,
    isgeneratorfunction,
    signature,
)
from typing import Any, TypeAlias, TypeVar

from attrs import fields

T = TypeVar("T")

# Annotations of what is no value of an object, and what a class has in place of values.
_CONSTANT = re.compile(r"['\"]?([\w.]+\.)?(ClassVar|Final)\b")
_PROPERTIES = (property, cached_property)
Bound: TypeAlias = float | None


def whole_number(name: str, value: Any, *, least: int) -> int:
    """Check an integer and return it as an int.

    Args:
        name: The argument's name, for the error.
        value: An int or an object that represents one exactly, such as numpy's integers. Not a bool, not a float.
        least: The smallest value allowed.

    Raises:
        TypeError: If `value` is not an integer.
        ValueError: If it is below `least`.
    """
    try:
        number = None if dtype_name(value) == "bool" else operator.index(value)
    except TypeError:  # an array of several numbers has __index__ too
        number = None
    if number is None:
        raise TypeError(f"{name!r} must be an int: {value!r}")
    if number < least:
        raise ValueError(f"{name!r} must be >= {least}: {number}")
    return number


def real_number(
    name: str, value: Any, *, least: Bound = None, above: Bound = None, most: Bound = None, below: Bound = None
) -> float:
    """Check a finite real number and return it as a float.

    Args:
        name: The argument's name, for the error.
        value: A number, or a 0-d array or tensor that holds one. Not a bool, a string or a complex number.
        least: The smallest value allowed.
        above: The value must be greater than this.
        most: The largest value allowed.
        below: The value must be less than this.

    Raises:
        TypeError: If `value` is not a real number.
        ValueError: If it is infinite, NaN or out of bounds.
    """
    if isinstance(value, (str, bytes)) or dtype_name(value).startswith(("bool", "complex")):
        raise TypeError(f"{name!r} must be a number: {value!r}")
    # numpy before 2.4 converts an array of one number, with a warning.
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 0) > 0:
        raise TypeError(f"{name!r} must be a number: {value!r}")
    try:
        number = float(value)
    except OverflowError:  # an int too large for a float
        number = math.inf if value > 0 else -math.inf
    except (TypeError, ValueError, RuntimeError):  # what arrays and tensors of several numbers raise
        raise TypeError(f"{name!r} must be a number: {value!r}") from None
    # The sign of each rule, its bound, and what breaks it; NaN breaks none.
    rules = (
        (">=", least, operator.lt),
        (">", above, operator.le),
        ("<=", most, operator.gt),
        ("<", below, operator.ge),
    )
    given = [(sign, bound, breaks) for sign, bound, breaks in rules if bound is not None]
    out = any(breaks(number, bound) for _, bound, breaks in given)
    if out or not math.isfinite(number):
        wanted = [f"{sign} {bound:g}" for sign, bound, _ in given] + ([] if out else ["finite"])
        raise ValueError(f"{name!r} must be {' and '.join(wanted)}: {number}")
    return number


def one_of(name: str, value: T, choices: Iterable[T]) -> T:
    """Check that `value` is one of `choices` and return it.

    Raises:
        ValueError: If it is not.
    """
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(f"{name!r} must be one of {', '.join(map(repr, choices))}: {value!r}")
    return value


def flag(name: str, value: Any) -> bool:
    """Check a bool, Python's or numpy's, and return it as Python's.

    Raises:
        TypeError: If `value` is not a bool.
    """
    if not isinstance(value, bool) and not (dtype_name(value) == "bool" and getattr(value, "ndim", 0) == 0):
        raise TypeError(f"{name!r} must be True or False: {value!r}")
    return bool(value)


def function(name: str, value: T) -> T:
    """Check that `value` is callable and return it.

    Raises:
        TypeError: If it is not.
    """
    if not callable(value):
        raise TypeError(f"{name!r} must be a function: {value!r}")
    return value


def check_call(name: str, function: Callable[..., object], takes: str, cure: str = "", *, count: int = 1) -> None:
    """Refuse a function that cannot be called with so many arguments, or whose body would not run.

    Args:
        name: What to call it in the error.
        function: The function. One written in C that has no signature passes.
        takes: What it must take, in words.
        cure: What to write instead.
        count: The number of arguments.

    Raises:
        TypeError: If it is async, has a yield, or takes another number of arguments.
    """
    if any(never_runs(function) for never_runs in (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)):
        raise TypeError(f"{name} must be a plain function, neither async nor with yield: its body would never run")
    try:
        arguments = signature(function)
    except (TypeError, ValueError):
        return
    try:
        arguments.bind(*(None,) * count)
    except TypeError as error:
        text = f"{getattr(function, '__name__', type(function).__name__)}{arguments}"
        raise TypeError(f"{name} must take {takes}: {text}{cure and f'; {cure}'}") from error


def listed(name: str, value: Any, what: str) -> tuple[Any, ...]:
    """Check a list, or anything else that can be iterated and is no string, and return its items.

    Raises:
        TypeError: If it is none; `what` says what it should hold.
    """
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name!r} must be a list of {what}: {value!r}")
    return tuple(value)


def metric_name(name: str, value: Any) -> str:
    """Check the name of a metric and return it.

    Raises:
        TypeError: If `value` is not a string, or an empty one.
    """
    if not isinstance(value, str) or not value:
        raise TypeError(f"{name!r} must be the name of a metric: {value!r}")
    return value


def text(instance: object, attribute: Any, value: Any) -> None:
    """Check a field that is a text which is not empty.

    Raises:
        TypeError: If it is not.
    """
    if not isinstance(value, str) or not value:
        raise TypeError(f"{attribute.name!r} must be a text that is not empty: {value!r}")


def optional_text(instance: object, attribute: Any, value: Any) -> None:
    """Check a field that is a text which is not empty, or None.

    Raises:
        TypeError: If it is neither.
    """
    if value is not None:
        text(instance, attribute, value)


def check_entries(what: str, state: Any, expected: Iterable[str], *, optional: Iterable[str] = ()) -> None:
    """Check that a state is a dict with exactly the expected entries, and perhaps optional ones.

    Raises:
        ValueError: If it is not a dict, or naming the entries that are missing or unknown.
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"{what} must be a dict: {state!r:.80}")
    names = set(expected)
    missing, unknown = sorted(names - state.keys()), sorted(state.keys() - names - set(optional), key=repr)
    if missing or unknown:
        wrong = [f"{name!r} is missing" for name in missing] + [f"{name!r} is unknown" for name in unknown]
        raise ValueError(f"{what} does not fit: {', '.join(wrong)}")


def unknown_values(instance: Any) -> Iterator[tuple[str, type | None]]:
    """Yield the names under which an attrs object may keep values that are no fields, with the class that has each.

    What stands in the object itself comes last, with None. Constants, properties and special names are left out.
    """
    cls = type(instance)
    known = {each.name for each in fields(cls)}
    for base in (*cls.__mro__, None):
        for name in getattr(instance, "__dict__", ()) if base is None else _declared(base):
            is_special = name.startswith("__") and name.endswith("__")
            if not (name in known or is_special or isinstance(getattr_static(cls, name, None), _PROPERTIES)):
                yield name, base


def _declared(cls: type) -> list[str]:
    """Return the names that a class itself annotates or lists as slots; those that attrs has given it are left out."""
    if sys.version_info >= (3, 14):  # annotations may name what is imported for type checkers only
        import annotationlib

        annotations = annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    else:
        annotations = get_annotations(cls)
    names = [name for name, kind in annotations.items() if not _CONSTANT.match(str(kind))]
    slots = vars(cls).get("__slots__", ())
    slots = [slots] if isinstance(slots, str) else list(slots)
    if "__attrs_attrs__" in vars(cls):  # its slots are fields and cached properties
        return [name for name in names if name not in slots]
    return names + slots


def dtype_name(value: Any) -> str:
    """Return the name of the dtype of an array or a tensor, and of the class of any other value."""
    # numpy's and PyTorch's bools are not subclasses of Python's, and float() may accept their complex numbers.
    return str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")


def checked(check: Callable[..., Any], **rule: Any) -> Callable[[Any, Any, Any], None]:
    """Return an attrs validator that applies a check of this module; None is valid where it is the default."""

    def validator(instance: Any, attribute: Any, value: Any) -> None:
        if value is not None or attribute.default is not None:
            check(attribute.name, value, **rule)

    return validator


def choice(*choices: object) -> Callable[[Any, Any, Any], None]:
    """Return an attrs validator that applies `one_of`."""
    return checked(one_of, choices=choices)
