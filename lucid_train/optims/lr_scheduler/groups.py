"""Settings that are one number for all groups, or a list with one for each."""

from __future__ import annotations

from lucid_train.validation import real_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def per_group(name: str, value: Any, count: int, **rule: float) -> float | list[float]:
    """Return a number as a float, or a list of them as a list of floats, or refuse it.

    Args:
        name: The argument's name, for the error.
        value: A number that holds for every group, those added later too, or a list or tuple with one per group.
        count: How many groups there are.
        **rule: What `real_number` takes: least, above, most, below.

    Raises:
        TypeError: If it is neither.
        ValueError: If a number is out of bounds, or the list has not one per group.
    """
    if not isinstance(value, (list, tuple)):
        return real_number(name, value, **rule)
    if len(value) != count:
        raise ValueError(f"{name!r} must be one number or one per group, {count}: {value!r}")
    return [real_number(f"{name}[{index}]", number, **rule) for index, number in enumerate(value)]


def spread(value: float | Sequence[float], count: int) -> list[float]:
    """Return a setting as a list with one number per group."""
    return list(value) if isinstance(value, (list, tuple)) else [float(value)] * count  # type: ignore[arg-type]  # a float


def gathered(own: Any, values: Sequence[Any]) -> Any:
    """Return PyTorch's list of one number per group in the form that our setting has, a number where all are equal."""
    return values[0] if not isinstance(own, list) and values and all(value == values[0] for value in values) else values
