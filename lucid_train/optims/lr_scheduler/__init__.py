"""Learning-rate schedulers for any optimizer with `param_groups`, usable without anything else of this package.

>>> from lucid_train import nn, optims
>>> optimizer = optims.SGD(nn.Linear(10, 1).parameters(), lr=0.1)
>>> scheduler = StepLR(optimizer, step_size=5, gamma=0.5)
>>> for epoch in range(5):
...     optimizer.step()
...     scheduler.step()
>>> scheduler.last_lr
[0.05]
"""

from typing import TYPE_CHECKING

from lucid_train.lazy import lazy_names

if TYPE_CHECKING:
    from lucid_train.optims.lr_scheduler.names import (
        ChainedScheduler,
        ConstantLR,
        CosineAnnealingLR,
        CosineAnnealingWarmRestarts,
        CyclicLR,
        ExponentialLR,
        LambdaLR,
        LinearLR,
        MultiplicativeLR,
        MultiStepLR,
        NoamLR,
        OneCycleLR,
        PolynomialLR,
        SequentialLR,
        StepLR,
    )
    from lucid_train.optims.lr_scheduler.plateau import ReduceLROnPlateau
    from lucid_train.optims.lr_scheduler.scheduler import LRScheduler, ParamScheduler

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
    "ParamScheduler",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "names": [name for name in __all__ if name not in ("LRScheduler", "ParamScheduler", "ReduceLROnPlateau")],
        "plateau": ("ReduceLROnPlateau",),
        "scheduler": ("LRScheduler", "ParamScheduler"),
    },
)
