"""Checks of the arrays that modules and losses are given."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def floats(name: str, value: ArrayLike) -> NDArray[Any]:
    """Return `value` as an array of floats; integers become float64, floats are not copied."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name!r} must be an array of real numbers: {array.dtype}")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def require_shape(name: str, array: NDArray[Any], shape: tuple[int | str, ...]) -> None:
    """Check an array's shape; a name in `shape` stands for any size."""
    fits = array.ndim == len(shape) and all(
        isinstance(size, str) or size == length for size, length in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise ValueError(f"{name!r} must have shape ({wanted}): {array.shape}")


def require_rows(name: str, array: NDArray[Any]) -> None:
    """Check that an array has elements; the mean of none would be NaN."""
    if not array.size:
        raise ValueError(f"{name!r} must not be empty: shape {array.shape}")
