"""Training callbacks, learning-rate schedules and a console display for people who own their training step.

>>> from lucid_train import Trainer, nn, optims
>>> from lucid_train.callbacks import ExponentialLRCallback
>>> optimizer = optims.SGD(nn.Linear(2, 1).parameters(), lr=1.0)
>>> history = Trainer(optimizer=optimizer, epochs=3, callbacks=[ExponentialLRCallback(gamma=0.5)]).fit()
>>> [record.lr for record in history]
[(1.0,), (0.5,), (0.25,)]
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lucid_train import callbacks, checkpoint, data, nn, optims, schedules, testing
    from lucid_train.callback import TRANSIENT, Callback, on
    from lucid_train.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
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
    from lucid_train.history import EpochRecord, History
    from lucid_train.metrics import NoUpdate
    from lucid_train.playback import replay
    from lucid_train.run import Run
    from lucid_train.trainer import Trainer

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
    "Event",
    "FitEnd",
    "FitError",
    "FitStart",
    "History",
    "NoUpdate",
    "Run",
    "StepEnd",
    "StepStart",
    "Trainer",
    "callbacks",
    "checkpoint",
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

_MODULES = ("callbacks", "checkpoint", "data", "nn", "optims", "schedules", "testing")
_HOMES = {
    "TRANSIENT": "callback",
    "Callback": "callback",
    "CheckpointError": "checkpoint",
    "EpochRecord": "history",
    "History": "history",
    "NoUpdate": "metrics",
    "Run": "run",
    "Trainer": "trainer",
    "on": "callback",
    "read_checkpoint": "checkpoint",
    "replay": "playback",
    "write_checkpoint": "checkpoint",
}

if not os.path.isdir(os.path.join(__path__[0], "callbacks")):
    # A checkout, where callbacks/ stands beside this folder. If the package is installed as well, the catalogue is
    # found there although the checkout shadows the engine, as it does for whoever starts Python in its root.
    # pkgutil.extend_path does the same, but loading pkgutil takes as long as starting Python.
    import sys

    folders = [os.path.join(entry or os.curdir, __name__) for entry in sys.path if isinstance(entry, str)]
    __path__ += [path for path in folders if os.path.isdir(os.path.join(path, "callbacks")) and path not in __path__]


def __getattr__(name: str) -> "Any":
    # Loaded when asked for, so that a schedule can be imported alone (PEP 562).
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'events')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
