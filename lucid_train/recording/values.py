"""Values as strict JSON: numbers that are none, metrics, rates, and whatever an event of one's own carries."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

_LARGEST = 2**62
_DEEPEST = 10
# Python reads integers of up to 4,300 digits from text.
_LARGEST_VALUE = 10**1000
_LONGEST_REPR = 1000


def pack_number(value: Any) -> float | str:
    """Return a float as strict JSON has it: NaN and the infinities as strings, which `float` reads."""
    number = float(value)
    return number if math.isfinite(number) else str(number)


def pack_metrics(metrics: Mapping[str, Any]) -> dict[str, float | str]:
    """Return metrics as strict JSON has them."""
    return {name: pack_number(value) for name, value in metrics.items()}


def pack_value(value: Any, depth: int = 0) -> Any:
    """Return any value as strict JSON has it. What JSON lacks is an object with one key that begins with "!"."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Integral) and -_LARGEST_VALUE < int(value) < _LARGEST_VALUE:
        return int(value)
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Rational):
        number = float(value)
        return number if math.isfinite(number) else {"!float": str(number)}
    if depth < _DEEPEST:
        if isinstance(value, (list, tuple)):
            packed = [pack_value(item, depth + 1) for item in value]
            return packed if isinstance(value, list) else {"!tuple": packed}
        if isinstance(value, Mapping):
            if all(isinstance(key, str) and not key.startswith("!") for key in value):
                return {key: pack_value(item, depth + 1) for key, item in value.items()}
            return {"!dict": [[pack_value(key, depth + 1), pack_value(item, depth + 1)] for key, item in value.items()]}
    return {"!repr": short_text(value)}


def short_text(value: Any, text_of: Callable[[Any], str] = repr) -> str:
    """Return the repr of anything, or its str, within bounds; also of what fails to have one."""
    try:
        text = text_of(value)
    except Exception as error:
        text = f"<{type(value).__name__}, whose {text_of.__name__} raises {type(error).__name__}>"
    return text if len(text) <= _LONGEST_REPR else text[: _LONGEST_REPR - 3] + "..."


def read_value(packed: Any) -> Any:
    """Return what `pack_value` was given, or the repr of what JSON cannot hold.

    Raises:
        ValueError: If it was not `pack_value` that wrote it.
    """
    if isinstance(packed, list):
        return [read_value(item) for item in packed]
    if not isinstance(packed, dict):
        return packed
    if len(packed) != 1 or not next(iter(packed)).startswith("!"):
        return {key: read_value(item) for key, item in packed.items()}
    [(tag, content)] = packed.items()
    if tag == "!float":
        return read_number(content)
    if tag == "!repr" and isinstance(content, str):
        return content
    if tag == "!tuple" and isinstance(content, list):
        return tuple(read_value(item) for item in content)
    if tag == "!dict" and isinstance(content, list) and all(isinstance(i, list) and len(i) == 2 for i in content):
        try:
            return {read_value(key): read_value(item) for key, item in content}
        except TypeError:
            raise ValueError("it has a key that is none") from None
    raise ValueError(f"{tag!r} is no value that a log holds")


def read_number(packed: Any) -> float:
    """Return the float that `pack_number` was given.

    Raises:
        ValueError: If it is no number.
    """
    if packed in ("nan", "inf", "-inf") or is_number(packed):
        return float(packed)
    raise ValueError(f"{packed!r} is no number")


def read_count(packed: Any, *, least: int = 0) -> int:
    """Return a number of epochs, steps or the like.

    Raises:
        ValueError: If it is none, or beyond all bounds.
    """
    if type(packed) is not int or not least <= packed < _LARGEST:
        raise ValueError(f"{packed!r} is no count")
    return packed


def read_rates(packed: Any) -> tuple[float, ...]:
    """Return the rates of an event.

    Raises:
        ValueError: If these are none.
    """
    if not isinstance(packed, list):
        raise ValueError("the rates are no list")
    return tuple(map(read_number, packed))


def read_metrics(packed: Any) -> dict[str, float]:
    """Return the metrics of an event.

    Raises:
        ValueError: If these are none.
    """
    if not isinstance(packed, dict):
        raise ValueError("the metrics are no object")
    return {name: read_number(value) for name, value in packed.items()}


def is_number(value: Any) -> bool:
    """Return whether this is a finite number, as JSON has them."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False
