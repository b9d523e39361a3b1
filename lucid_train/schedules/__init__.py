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
    from lucid_train.schedules.cosine import Cosine as Cosine
    from lucid_train.schedules.cosine import WarmRestarts as WarmRestarts
    from lucid_train.schedules.cycle import Cyclic as Cyclic
    from lucid_train.schedules.cycle import OneCycle as OneCycle
    from lucid_train.schedules.cycle import OneCycleMomentum as OneCycleMomentum
    from lucid_train.schedules.decay import Exponential as Exponential
    from lucid_train.schedules.decay import MultiStep as MultiStep
    from lucid_train.schedules.decay import Polynomial as Polynomial
    from lucid_train.schedules.decay import Step as Step
    from lucid_train.schedules.function import Function as Function
    from lucid_train.schedules.function import Multiplicative as Multiplicative
    from lucid_train.schedules.inverse import InverseSqrt as InverseSqrt
    from lucid_train.schedules.inverse import InverseTime as InverseTime
    from lucid_train.schedules.inverse import Rex as Rex
    from lucid_train.schedules.schedule import Chain as Chain
    from lucid_train.schedules.schedule import Linear as Linear
    from lucid_train.schedules.schedule import Product as Product
    from lucid_train.schedules.schedule import Ramp as Ramp
    from lucid_train.schedules.schedule import Schedule as Schedule
    from lucid_train.schedules.schedule import Sequence as Sequence
    from lucid_train.schedules.schedule import Skipped as Skipped
    from lucid_train.schedules.stages import WSD as WSD
    from lucid_train.schedules.stages import Piecewise as Piecewise
    from lucid_train.schedules.warmup import Constant as Constant
    from lucid_train.schedules.warmup import Noam as Noam
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__)
