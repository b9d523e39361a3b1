"""The catalogue of callbacks; each is loaded when it is first asked for."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lucid_train.callbacks.checkpoint import Checkpoint
    from lucid_train.callbacks.csv_logger import CSVLogger
    from lucid_train.callbacks.early_stopping import EarlyStopping
    from lucid_train.callbacks.event_log import EventLog
    from lucid_train.callbacks.lr_scheduler import (
        CosineAnnealingLRCallback,
        ExponentialLRCallback,
        LRSchedulerCallback,
        StepLRCallback,
    )
    from lucid_train.callbacks.rich_logger import RichLogger
    from lucid_train.callbacks.terminate_on_nan import TerminateOnNaN
    from lucid_train.callbacks.time_limit import TimeLimit

__all__ = [
    "CSVLogger",
    "Checkpoint",
    "CosineAnnealingLRCallback",
    "EarlyStopping",
    "EventLog",
    "ExponentialLRCallback",
    "LRSchedulerCallback",
    "RichLogger",
    "StepLRCallback",
    "TerminateOnNaN",
    "TimeLimit",
]

_HOMES = {
    "CSVLogger": "csv_logger",
    "Checkpoint": "checkpoint",
    "EarlyStopping": "early_stopping",
    "EventLog": "event_log",
    "RichLogger": "rich_logger",
    "TerminateOnNaN": "terminate_on_nan",
    "TimeLimit": "time_limit",
}


def __getattr__(name: str) -> "Any":
    # So that a schedule's callback does not load rich (PEP 562).
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'lr_scheduler')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
