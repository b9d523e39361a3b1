"""The rates of many epochs at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lucid_train.optims.lr_scheduler.base import LRScheduler

# Up to this many points the formula itself is asked, so that each value equals the int's to the last bit; beyond it,
# numpy's functions, which may differ from the C library's in the last place.
_POINTWISE = 65_536


def array_at(schedule: LRScheduler, t: Any) -> NDArray[np.float64]:
    """Return the rates of the epochs `t`, an integer array of shape (n,), as an array of shape (n, groups)."""
    epochs = np.asarray(t)
    if epochs.dtype.kind not in "iu":
        raise TypeError(f"'t' must be an int or an integer array: {t!r}")
    if epochs.ndim != 1 or epochs.min(initial=0) < 0:
        rule = "one-dimensional" if epochs.ndim != 1 else ">= 0"
        raise ValueError(f"'t' must be {rule}: {t!r}")
    line = None
    if epochs.size > _POINTWISE and _has_array_form(type(schedule)):
        with np.errstate(over="ignore"):
            line = schedule.linear_array(epochs.astype(np.int64, copy=False))
    if line is None:
        rows = [schedule._rates_checked(epoch) for epoch in epochs.tolist()]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(schedule.base_lrs))
    slope, offset = line
    rates = np.empty((epochs.size, len(schedule.base_lrs)))
    with np.errstate(over="ignore"):
        for column, base_lr in zip(rates.T, schedule.base_lrs, strict=True):
            np.multiply(slope, base_lr, out=column)
            column += offset
    if not rates.max(initial=0.0) < math.inf:
        raise schedule._overflow(int(epochs[np.argmin(np.isfinite(rates).all(axis=1))]))
    return rates


def _has_array_form(kind: type[LRScheduler]) -> bool:
    # A class may define `rates` or `linear` over a `linear_array` that it inherits; that is not its curve then.
    ways = {"rates", "linear", "linear_array"}
    return next("linear_array" in vars(base) for base in kind.__mro__ if vars(base).keys() & ways)
