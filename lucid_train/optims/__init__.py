"""Optimizers on numpy arrays; the learning-rate schedules are in `lucid_train.optims.lr_scheduler`."""

from typing import TYPE_CHECKING

from lucid_train.lazy import lazy_names

if TYPE_CHECKING:
    from lucid_train.optims import lr_scheduler
    from lucid_train.optims.adam import Adam, AdamW
    from lucid_train.optims.optimizer import Optimizer
    from lucid_train.optims.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "lr_scheduler"]

_HOMES = {"adam": ("Adam", "AdamW"), "optimizer": ("Optimizer",), "sgd": ("SGD",)}
__getattr__, __dir__ = lazy_names(__name__, _HOMES, modules=("lr_scheduler",))
