"""Training callbacks, learning-rate schedules and a console display for people who own their training step.

>>> from lucid_train import Trainer, nn, optims, schedules
>>> from lucid_train.callbacks import LRSchedulerCallback
>>> optimizer = optims.SGD(nn.Linear(2, 1).parameters(), lr=1.0)
>>> schedule = LRSchedulerCallback(schedules.Exponential(gamma=0.5))
>>> history = Trainer(optimizer=optimizer, epochs=3, callbacks=[schedule]).fit()
>>> [record.lr for record in history]
[(1.0,), (0.5,), (0.25,)]
"""

import os
from typing import TYPE_CHECKING

from lucid_train.lazy import lazy_names

if TYPE_CHECKING:
    from lucid_train import callbacks as callbacks
    from lucid_train import data as data
    from lucid_train import nn as nn
    from lucid_train import optims as optims
    from lucid_train import schedules as schedules
    from lucid_train import testing as testing
    from lucid_train.callback import TRANSIENT as TRANSIENT
    from lucid_train.callback import Callback as Callback
    from lucid_train.callback import Hook as Hook
    from lucid_train.callback import Ranks as Ranks
    from lucid_train.callback import on as on
    from lucid_train.command import Command as Command
    from lucid_train.events import CommandAnswered as CommandAnswered
    from lucid_train.events import EpochEnd as EpochEnd
    from lucid_train.events import EpochReport as EpochReport
    from lucid_train.events import EpochStart as EpochStart
    from lucid_train.events import EvaluateEnd as EvaluateEnd
    from lucid_train.events import EvaluateStart as EvaluateStart
    from lucid_train.events import Event as Event
    from lucid_train.events import FitEnd as FitEnd
    from lucid_train.events import FitError as FitError
    from lucid_train.events import FitStart as FitStart
    from lucid_train.events import Saved as Saved
    from lucid_train.events import StepEnd as StepEnd
    from lucid_train.events import StepStart as StepStart
    from lucid_train.history import EpochRecord as EpochRecord
    from lucid_train.history import EvaluationRecord as EvaluationRecord
    from lucid_train.history import History as History
    from lucid_train.metrics import StepResult as StepResult
    from lucid_train.recording.replay import replay as replay
    from lucid_train.saving.checkpoint import CheckpointError as CheckpointError
    from lucid_train.saving.checkpoint import read_checkpoint as read_checkpoint
    from lucid_train.saving.checkpoint import write_checkpoint as write_checkpoint
    from lucid_train.saving.weights import load_weights as load_weights
    from lucid_train.training.find_lr import find_lr as find_lr
    from lucid_train.training.lr_curve import LRCurve as LRCurve
    from lucid_train.training.run import Run as Run
    from lucid_train.training.track import track as track
    from lucid_train.training.trainer import Trainer as Trainer
    from lucid_train.version import __version__ as __version__
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__)

if not os.path.isdir(os.path.join(__path__[0], "callbacks")):
    # A checkout, with callbacks/ beside this folder, not in it. If the package is installed too, its catalogue is used
    # although the checkout shadows the engine, as happens when Python is started in the checkout's root.
    # pkgutil.extend_path does the same, but importing pkgutil takes as long as starting Python.
    import sys

    _folders = [os.path.join(entry or os.curdir, __name__) for entry in sys.path if isinstance(entry, str)]
    __path__ += [path for path in _folders if os.path.isdir(os.path.join(path, "callbacks")) and path not in __path__]
