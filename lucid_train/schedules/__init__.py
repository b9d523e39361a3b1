"""Schedules as values: what a number, such as a learning rate, is at time `t`.

>>> from lucid_train import schedules
>>> schedule = schedules.Cosine().warmup("20%", start=0.5)
>>> [round(value, 3) for value in schedule.sized(10).table(10)]
[0.5, 0.75, 1.0, 0.962, 0.854, 0.691, 0.5, 0.309, 0.146, 0.038]
>>> schedule
Linear(0.5, total_iters='20%').then(Cosine())
"""

from typing import TYPE_CHECKING

from lucid_train.lazy import lazy_names

if TYPE_CHECKING:
    from lucid_train.schedules.cosine import Cosine, WarmRestarts
    from lucid_train.schedules.cycle import Cyclic, OneCycle, OneCycleMomentum
    from lucid_train.schedules.decay import Exponential, MultiStep, Polynomial, Step
    from lucid_train.schedules.function import Function, Multiplicative
    from lucid_train.schedules.schedule import Chain, Linear, Product, Schedule, Sequence
    from lucid_train.schedules.warmup import Constant, Noam

__all__ = [
    "Chain",
    "Constant",
    "Cosine",
    "Cyclic",
    "Exponential",
    "Function",
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
    "WarmRestarts",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "cosine": ("Cosine", "WarmRestarts"),
        "cycle": ("Cyclic", "OneCycle", "OneCycleMomentum"),
        "decay": ("Exponential", "MultiStep", "Polynomial", "Step"),
        "function": ("Function", "Multiplicative"),
        "schedule": ("Chain", "Linear", "Product", "Schedule", "Sequence"),
        "warmup": ("Constant", "Noam"),
    },
)
