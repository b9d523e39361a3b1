"""The catalogue of callbacks; each is loaded when it is first asked for."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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

__all__ = [
    "CSVLogger",
    "CosineAnnealingLRCallback",
    "EarlyStopping",
    "EventLog",
    "ExponentialLRCallback",
    "LRSchedulerCallback",
    "RichLogger",
    "StepLRCallback",
    "TerminateOnNaN",
]

_HOMES = {
    "CSVLogger": "csv_logger",
    "EarlyStopping": "early_stopping",
    "EventLog": "event_log",
    "RichLogger": "rich_logger",
    "TerminateOnNaN": "terminate_on_nan",
}


def __getattr__(name: str) -> "Any":
    # So that a schedule's callback does not load rich (PEP 562).
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'lr_scheduler')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
