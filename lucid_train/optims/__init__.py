"""Optimizers on numpy arrays; the learning-rate schedules are in `lucid_train.optims.lr_scheduler`."""

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lucid_train.optims import lr_scheduler
    from lucid_train.optims.adam import Adam, AdamW
    from lucid_train.optims.optimizer import Optimizer
    from lucid_train.optims.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "lr_scheduler"]

_HOMES = {"SGD": "sgd", "Adam": "adam", "AdamW": "adam", "Optimizer": "optimizer"}


def __getattr__(name: str) -> "Any":
    # Loaded when asked for, so that a schedule can be imported without numpy (PEP 562).
    if name == "lr_scheduler":
        return importlib.import_module(f"{__name__}.lr_scheduler")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
