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

from lucid_train.optims.lr_scheduler.base import LRScheduler
from lucid_train.optims.lr_scheduler.cosine import CosineAnnealingLR
from lucid_train.optims.lr_scheduler.decay import ExponentialLR, StepLR

__all__ = ["CosineAnnealingLR", "ExponentialLR", "LRScheduler", "StepLR"]
