"""The catalogue of callbacks; each is loaded when it is first asked for."""

from typing import TYPE_CHECKING

from lucid_train.lazy import lazy_names

if TYPE_CHECKING:
    from lucid_train.callbacks.checkpoint import Checkpoint
    from lucid_train.callbacks.csv_logger import CSVLogger
    from lucid_train.callbacks.event_log import EventLog
    from lucid_train.callbacks.lr_scheduler import (
        CosineAnnealingLRCallback,
        ExponentialLRCallback,
        LRSchedulerCallback,
        StepLRCallback,
    )
    from lucid_train.callbacks.rich_logger import RichLogger
    from lucid_train.callbacks.stopping import EarlyStopping, TerminateOnNaN, TimeLimit

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "checkpoint": ("Checkpoint",),
        "csv_logger": ("CSVLogger",),
        "event_log": ("EventLog",),
        "lr_scheduler": (
            "CosineAnnealingLRCallback",
            "ExponentialLRCallback",
            "LRSchedulerCallback",
            "StepLRCallback",
        ),
        "rich_logger": ("RichLogger",),
        "stopping": ("EarlyStopping", "TerminateOnNaN", "TimeLimit"),
    },
)
