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
    if epochs.size > _POINTWISE:
        return long_array_at(schedule, epochs.astype(np.int64, copy=False))
    return _pointwise(schedule, epochs)


def long_array_at(schedule: LRScheduler, epochs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the rates of many epochs, by numpy's functions where the schedule has them."""
    rates = None
    with np.errstate(over="ignore", invalid="ignore"):
        if _has_array_form(type(schedule)):
            rates = schedule.rates_array(epochs)
            if rates is None and (line := schedule.linear_array(epochs)) is not None:
                rates = _on_the_line(schedule, epochs, *line)
    if rates is None:
        return _pointwise(schedule, epochs)
    if not rates.max(initial=0.0) < math.inf:
        first = int(np.argmin(np.isfinite(rates).all(axis=1)))
        raise schedule._bad_rates(int(epochs[first]), rates[first].tolist())
    return rates


def _on_the_line(schedule: LRScheduler, epochs: NDArray[np.int64], slope: Any, offset: Any) -> NDArray[np.float64]:
    rates = np.empty((epochs.size, len(schedule.base_lrs)))
    for column, base_lr in zip(rates.T, schedule.base_lrs, strict=True):
        np.multiply(slope, base_lr, out=column)
        if isinstance(offset, np.ndarray) or offset:
            column += offset
    return rates


def _pointwise(schedule: LRScheduler, epochs: NDArray[Any]) -> NDArray[np.float64]:
    rows = [schedule._rates_checked(epoch) for epoch in epochs.tolist()]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(schedule.base_lrs))


def _has_array_form(kind: type[LRScheduler]) -> bool:
    # A class may define the rates anew over arrays that it inherits; those are not its curve then.
    arrays = {"linear_array", "rates_array"}
    ways = arrays | {"rates", "rates_from", "linear"}
    return next(bool(vars(base).keys() & arrays) for base in kind.__mro__ if vars(base).keys() & ways)
