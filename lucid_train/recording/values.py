"""Values as strict JSON: numbers that JSON has no literal for, metrics, rates, and what a user's own event carries."""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeGuard, TypeVar

from lucid_train.description import short_text
from lucid_train.saving.bounded_json import check_hashes

T = TypeVar("T")

# Readers refuse larger counts: floats are made of them, and a sum of them must not overflow.
_MOST_COUNT = 2**62 - 1
# Python reads no integer of more than 4,300 digits.
_LARGEST_INT = 10**1000
_DEEPEST = 10
_JSON_KINDS: dict[type, str] = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}


def _checked_dict(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    check_hashes([key for key, _ in pairs])
    return dict(pairs)


# How what JSON lacks is made of the content of an object with one of these tags for its only key.
_TAGS: dict[str, Callable[[Any], Any]] = {"!float": float, "!repr": str, "!tuple": tuple, "!dict": _checked_dict}


def pack_number(value: Any) -> float | str:
    """Return a number as a float, or as "nan", "inf" or "-inf", which `float` reads."""
    number = float(value)
    return number if math.isfinite(number) else str(number)


def pack_metrics(metrics: Mapping[str, Any]) -> dict[str, float | str]:
    """Return metrics with their numbers packed."""
    return {name: pack_number(value) for name, value in metrics.items()}


def pack_rates(rates: Iterable[Any]) -> list[float | str]:
    """Return learning rates with their numbers packed."""
    return list(map(pack_number, rates))


def pack_scheduled(scheduled: Mapping[str, Iterable[Any]]) -> dict[str, list[float | str]]:
    """Return numbers per group, by name, with their numbers packed."""
    return {name: pack_rates(values) for name, values in scheduled.items()}


def pack_value(value: Any, depth: int = 0) -> Any:
    """Return any value as JSON. What JSON lacks becomes an object whose only key begins with "!"."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Integral) and -_LARGEST_INT < int(value) < _LARGEST_INT:
        return int(value)
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Rational):
        number = float(value)
        return number if math.isfinite(number) else {"!float": str(number)}
    if depth == _DEEPEST or not isinstance(value, (list, tuple, Mapping)):
        return {"!repr": short_text(value)}
    pack = partial(pack_value, depth=depth + 1)
    if not isinstance(value, Mapping):
        packed = list(map(pack, value))
        return packed if isinstance(value, list) else {"!tuple": packed}
    if all(isinstance(key, str) and not key.startswith("!") for key in value):
        return {key: pack(item) for key, item in value.items()}
    return {"!dict": [[pack(key), pack(item)] for key, item in value.items()]}


def read_value(packed: Any) -> Any:
    """Return the value that `pack_value` packed, or the repr of what JSON cannot hold.

    Raises:
        ValueError: If `packed` does not come from `pack_value`.
    """
    if isinstance(packed, list):
        return list(map(read_value, packed))
    if not isinstance(packed, dict):
        return packed
    entries = {key: read_value(item) for key, item in packed.items()}
    if not any(key.startswith("!") for key in packed):
        return entries
    try:
        [(tag, content)] = entries.items()
        return _TAGS[tag](content)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError(f"{packed!r:.80} is not what a tag of this format has") from None


def read_number(name: str, packed: Any) -> float:
    """Return the float that `pack_number` packed; `name` is for the error.

    Raises:
        ValueError: If it is not a number.
    """
    if packed in ("nan", "inf", "-inf") or is_number(packed):
        return float(packed)
    raise ValueError(f"{name!r} must be a number: {packed!r:.80}")


def read_count(name: str, packed: Any, *, least: int = 0) -> int:
    """Return a number of epochs, steps or the like; `name` is for the error.

    Raises:
        ValueError: If it is not an int, or out of bounds.
    """
    if type(packed) is not int or not least <= packed <= _MOST_COUNT:
        raise ValueError(f"{name!r} must be an int from {least} to {_MOST_COUNT}: {packed!r:.80}")
    return packed


def read_metrics(name: str, packed: Any) -> dict[str, float]:
    """Return the metrics that `pack_metrics` packed; `name` is for the error.

    Raises:
        ValueError: If they are not an object of numbers.
    """
    return {metric: read_number(metric, value) for metric, value in read_json(name, packed, dict).items()}


def read_rates(name: str, packed: Any) -> tuple[float, ...]:
    """Return the rates that `pack_rates` packed; `name` is for the error.

    Raises:
        ValueError: If they are not a list of numbers.
    """
    return tuple(read_number(name, rate) for rate in read_json(name, packed, list))


def read_scheduled(name: str, packed: Any) -> dict[str, tuple[float, ...]]:
    """Return the numbers per group that `pack_scheduled` packed; `name` is for the error.

    Raises:
        ValueError: If they are not an object of lists of numbers.
    """
    return {key: read_rates(key, values) for key, values in read_json(name, packed, dict).items()}


def read_json(name: str, packed: Any, kind: type[T]) -> T:
    """Return an object, a list, a string or a boolean of JSON as it is; `name` is for the error.

    Raises:
        ValueError: If it is not of this kind.
    """
    if not isinstance(packed, kind):
        raise ValueError(f"{name!r} must be {_JSON_KINDS[kind]}: {packed!r:.80}")
    return packed


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a finite number of JSON."""
    # Compared, because an int beyond all floats cannot be converted.
    return type(value) in (int, float) and -sys.float_info.max <= value <= sys.float_info.max
