"""Optimizers on numpy arrays; the schedulers of their rates are in `lucid_train.optims.lr_scheduler`."""

from typing import TYPE_CHECKING

from lucid_train.lazy import lazy_names

if TYPE_CHECKING:
    from lucid_train.optims import lr_scheduler as lr_scheduler
    from lucid_train.optims.adam import Adam as Adam
    from lucid_train.optims.adam import AdamW as AdamW
    from lucid_train.optims.optimizer import Optimizer as Optimizer
    from lucid_train.optims.sgd import SGD as SGD
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__)
