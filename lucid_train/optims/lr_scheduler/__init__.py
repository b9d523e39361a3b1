"""Learning-rate schedules for any optimizer with `param_groups`, usable without anything else of this package.

>>> from lucid_train import nn, optims
>>> optimizer = optims.SGD(nn.Linear(10, 1).parameters(), lr=0.1)
>>> scheduler = StepLR(optimizer, step_size=5, gamma=0.5)
>>> for epoch in range(5):
...     optimizer.step()
...     scheduler.step()
>>> scheduler.last_lr
[0.05]
"""

import importlib

from lucid_train.optims.lr_scheduler.base import LRScheduler
from lucid_train.optims.lr_scheduler.cosine import CosineAnnealingLR, CosineAnnealingWarmRestarts
from lucid_train.optims.lr_scheduler.decay import ExponentialLR, MultiStepLR, PolynomialLR, StepLR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lucid_train.optims.lr_scheduler.compose import ChainedScheduler, SequentialLR
    from lucid_train.optims.lr_scheduler.cyclic import CyclicLR
    from lucid_train.optims.lr_scheduler.functions import LambdaLR, MultiplicativeLR
    from lucid_train.optims.lr_scheduler.one_cycle import OneCycleLR
    from lucid_train.optims.lr_scheduler.plateau import ReduceLROnPlateau
    from lucid_train.optims.lr_scheduler.recipe import Recipe
    from lucid_train.optims.lr_scheduler.warmup import ConstantLR, LinearLR, NoamLR

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "NoamLR",
    "OneCycleLR",
    "PolynomialLR",
    "Recipe",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]

_HOMES = {
    "ChainedScheduler": "compose",
    "ConstantLR": "warmup",
    "CyclicLR": "cyclic",
    "LambdaLR": "functions",
    "LinearLR": "warmup",
    "MultiplicativeLR": "functions",
    "NoamLR": "warmup",
    "OneCycleLR": "one_cycle",
    "Recipe": "recipe",
    "ReduceLROnPlateau": "plateau",
    "SequentialLR": "compose",
}


def __getattr__(name: str) -> "Any":
    # Loaded when asked for, so that one schedule costs no more than itself (PEP 562).
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
