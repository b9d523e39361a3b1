"""Schedules bound to any optimizer with `param_groups`, usable without the rest of this package.

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
    from lucid_train.optims.lr_scheduler.names import ChainedScheduler as ChainedScheduler
    from lucid_train.optims.lr_scheduler.names import ConstantLR as ConstantLR
    from lucid_train.optims.lr_scheduler.names import CosineAnnealingLR as CosineAnnealingLR
    from lucid_train.optims.lr_scheduler.names import CosineAnnealingWarmRestarts as CosineAnnealingWarmRestarts
    from lucid_train.optims.lr_scheduler.names import CyclicLR as CyclicLR
    from lucid_train.optims.lr_scheduler.names import ExponentialLR as ExponentialLR
    from lucid_train.optims.lr_scheduler.names import LambdaLR as LambdaLR
    from lucid_train.optims.lr_scheduler.names import LinearLR as LinearLR
    from lucid_train.optims.lr_scheduler.names import MultiplicativeLR as MultiplicativeLR
    from lucid_train.optims.lr_scheduler.names import MultiStepLR as MultiStepLR
    from lucid_train.optims.lr_scheduler.names import NoamLR as NoamLR
    from lucid_train.optims.lr_scheduler.names import OneCycleLR as OneCycleLR
    from lucid_train.optims.lr_scheduler.names import PolynomialLR as PolynomialLR
    from lucid_train.optims.lr_scheduler.names import SequentialLR as SequentialLR
    from lucid_train.optims.lr_scheduler.names import StepLR as StepLR
    from lucid_train.optims.lr_scheduler.plateau import ReduceLROnPlateau as ReduceLROnPlateau
    from lucid_train.optims.lr_scheduler.scheduler import LRScheduler as LRScheduler
    from lucid_train.optims.lr_scheduler.scheduler import ParamScheduler as ParamScheduler
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__)
