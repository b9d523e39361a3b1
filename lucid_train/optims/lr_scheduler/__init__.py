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

from typing import TYPE_CHECKING

from lucid_train.lazy import lazy_names

if TYPE_CHECKING:
    from lucid_train.optims.lr_scheduler.base import LRScheduler
    from lucid_train.optims.lr_scheduler.compose import ChainedScheduler, SequentialLR
    from lucid_train.optims.lr_scheduler.cosine import CosineAnnealingLR, CosineAnnealingWarmRestarts
    from lucid_train.optims.lr_scheduler.cyclic import CyclicLR
    from lucid_train.optims.lr_scheduler.decay import ExponentialLR, MultiStepLR, PolynomialLR, StepLR
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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "base": ("LRScheduler",),
        "compose": ("ChainedScheduler", "SequentialLR"),
        "cosine": ("CosineAnnealingLR", "CosineAnnealingWarmRestarts"),
        "cyclic": ("CyclicLR",),
        "decay": ("ExponentialLR", "MultiStepLR", "PolynomialLR", "StepLR"),
        "functions": ("LambdaLR", "MultiplicativeLR"),
        "one_cycle": ("OneCycleLR",),
        "plateau": ("ReduceLROnPlateau",),
        "recipe": ("Recipe",),
        "warmup": ("ConstantLR", "LinearLR", "NoamLR"),
    },
)
