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
    from lucid_train.optims.lr_scheduler.base import LRScheduler as LRScheduler
    from lucid_train.optims.lr_scheduler.compose import ChainedScheduler as ChainedScheduler
    from lucid_train.optims.lr_scheduler.compose import SequentialLR as SequentialLR
    from lucid_train.optims.lr_scheduler.cosine import CosineAnnealingLR as CosineAnnealingLR
    from lucid_train.optims.lr_scheduler.cosine import CosineAnnealingWarmRestarts as CosineAnnealingWarmRestarts
    from lucid_train.optims.lr_scheduler.cyclic import CyclicLR as CyclicLR
    from lucid_train.optims.lr_scheduler.decay import ExponentialLR as ExponentialLR
    from lucid_train.optims.lr_scheduler.decay import MultiStepLR as MultiStepLR
    from lucid_train.optims.lr_scheduler.decay import PolynomialLR as PolynomialLR
    from lucid_train.optims.lr_scheduler.decay import StepLR as StepLR
    from lucid_train.optims.lr_scheduler.functions import LambdaLR as LambdaLR
    from lucid_train.optims.lr_scheduler.functions import MultiplicativeLR as MultiplicativeLR
    from lucid_train.optims.lr_scheduler.one_cycle import OneCycleLR as OneCycleLR
    from lucid_train.optims.lr_scheduler.plateau import ReduceLROnPlateau as ReduceLROnPlateau
    from lucid_train.optims.lr_scheduler.recipe import Recipe as Recipe
    from lucid_train.optims.lr_scheduler.warmup import ConstantLR as ConstantLR
    from lucid_train.optims.lr_scheduler.warmup import LinearLR as LinearLR
    from lucid_train.optims.lr_scheduler.warmup import NoamLR as NoamLR
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__)
