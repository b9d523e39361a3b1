"""Training callbacks, learning-rate schedules and a console display for people who own their training step.

>>> from lucid_train import Trainer, nn, optims
>>> from lucid_train.callbacks import ExponentialLRCallback
>>> optimizer = optims.SGD(nn.Linear(2, 1).parameters(), lr=1.0)
>>> history = Trainer(optimizer=optimizer, epochs=3, callbacks=[ExponentialLRCallback(gamma=0.5)]).fit()
>>> [record.lr for record in history]
[(1.0,), (0.5,), (0.25,)]
"""

import os
from typing import TYPE_CHECKING

from lucid_train.lazy import lazy_names

if TYPE_CHECKING:
    from lucid_train import callbacks, data, nn, optims, schedules, testing
    from lucid_train.callback import TRANSIENT, Callback, Hook, on
    from lucid_train.events import (
        EpochEnd,
        EpochReport,
        EpochStart,
        EvaluateEnd,
        EvaluateStart,
        Event,
        FitEnd,
        FitError,
        FitStart,
        StepEnd,
        StepStart,
    )
    from lucid_train.history import EpochRecord, EvaluationRecord, History
    from lucid_train.metrics import NoUpdate
    from lucid_train.recording.replay import replay
    from lucid_train.saving.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
    from lucid_train.training.run import Run
    from lucid_train.training.trainer import Trainer

__all__ = [
    "TRANSIENT",
    "Callback",
    "CheckpointError",
    "EpochEnd",
    "EpochRecord",
    "EpochReport",
    "EpochStart",
    "EvaluateEnd",
    "EvaluateStart",
    "EvaluationRecord",
    "Event",
    "FitEnd",
    "FitError",
    "FitStart",
    "History",
    "Hook",
    "NoUpdate",
    "Run",
    "StepEnd",
    "StepStart",
    "Trainer",
    "callbacks",
    "data",
    "nn",
    "on",
    "optims",
    "read_checkpoint",
    "replay",
    "schedules",
    "testing",
    "write_checkpoint",
]

if not os.path.isdir(os.path.join(__path__[0], "callbacks")):
    # A checkout, with callbacks/ beside this folder, not in it. If the package is installed too, its catalogue is used
    # although the checkout shadows the engine, as happens when Python is started in the checkout's root.
    # pkgutil.extend_path does the same, but importing pkgutil takes as long as starting Python.
    import sys

    folders = [os.path.join(entry or os.curdir, __name__) for entry in sys.path if isinstance(entry, str)]
    __path__ += [path for path in folders if os.path.isdir(os.path.join(path, "callbacks")) and path not in __path__]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "callback": ("TRANSIENT", "Callback", "Hook", "on"),
        "events": (
            "EpochEnd",
            "EpochReport",
            "EpochStart",
            "EvaluateEnd",
            "EvaluateStart",
            "Event",
            "FitEnd",
            "FitError",
            "FitStart",
            "StepEnd",
            "StepStart",
        ),
        "history": ("EpochRecord", "EvaluationRecord", "History"),
        "metrics": ("NoUpdate",),
        "recording.replay": ("replay",),
        "saving.checkpoint": ("CheckpointError", "read_checkpoint", "write_checkpoint"),
        "training.run": ("Run",),
        "training.trainer": ("Trainer",),
    },
    modules=("callbacks", "data", "nn", "optims", "schedules", "testing"),
)
