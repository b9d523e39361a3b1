"""Schedules as values: what a number, such as a learning rate, is at time `t`.

>>> from lucid_train import schedules
>>> schedule = schedules.Cosine().warmup("20%", start=0.5)
>>> [round(value, 3) for value in schedule.sized(10).table(10)]
[0.5, 0.75, 1.0, 0.962, 0.854, 0.691, 0.5, 0.309, 0.146, 0.038]
>>> schedule
Linear(0.5, total_iters='20%').then(Cosine())
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from lucid_train.schedules.compose import Chain, Product, Sequence, Until
    from lucid_train.schedules.cosine import Cosine, WarmRestarts
    from lucid_train.schedules.cycle import Cyclic, OneCycle, OneCycleMomentum
    from lucid_train.schedules.decay import Exponential, MultiStep, Polynomial, Step
    from lucid_train.schedules.function import Function, Multiplicative
    from lucid_train.schedules.length import Length
    from lucid_train.schedules.schedule import Schedule, check_is_value
    from lucid_train.schedules.warmup import Constant, Linear, Noam

_HOMES = {
    "Chain": "compose",
    "Constant": "warmup",
    "Cosine": "cosine",
    "Cyclic": "cycle",
    "Exponential": "decay",
    "Function": "function",
    "Length": "length",
    "Linear": "warmup",
    "MultiStep": "decay",
    "Multiplicative": "function",
    "Noam": "warmup",
    "OneCycle": "cycle",
    "OneCycleMomentum": "cycle",
    "Polynomial": "decay",
    "Product": "compose",
    "Schedule": "schedule",
    "Sequence": "compose",
    "Step": "decay",
    "Until": "compose",
    "WarmRestarts": "cosine",
    "check_is_value": "schedule",
}

__all__ = [
    "Chain",
    "Constant",
    "Cosine",
    "Cyclic",
    "Exponential",
    "Function",
    "Length",
    "Linear",
    "MultiStep",
    "Multiplicative",
    "Noam",
    "OneCycle",
    "OneCycleMomentum",
    "Polynomial",
    "Product",
    "Schedule",
    "Sequence",
    "Step",
    "Until",
    "WarmRestarts",
    "check_is_value",
]


def __getattr__(name: str) -> "Any":
    # Loaded when asked for, so that one schedule costs no more than itself (PEP 562).
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
