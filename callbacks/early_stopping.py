"""EarlyStopping: a run that no longer improves goes no further."""

from __future__ import annotations

import copy
import math
from typing import Any, Literal, final

from attrs import define, field

from lucid_train import Callback, EpochEnd, FitEnd, FitStart
from lucid_train.arguments import checked, one_of, real_number, whole_number


def _switch(instance: object, attribute: Any, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{attribute.name!r} must be True or False: {value!r}")


@final
@define(eq=False)
class EarlyStopping(Callback):
    """Stop the run when a metric has not improved for `patience` epochs.

    An epoch that is not evaluated, and so lacks the metric, is passed over. A NaN is no improvement.

    Args:
        monitor: The metric's name.
        patience: Epochs in a row without an improvement that end the run. At least 1.
        mode: Whether "min" or "max" is better.
        min_delta: What the metric must gain to count as improved. At least 0.
        restore_best: Give the model the weights of its best epoch when the run has completed or was stopped. They are
            kept in memory. A later fit goes on from them.
        model: The model to restore, with `state_dict` and `load_state_dict`; by default the run's.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range, or the metric does not exist; with `restore_best`, if there is
            no model.
    """

    monitor: str = field(default="val_loss")
    patience: int = field(default=5, kw_only=True, validator=checked(whole_number, least=1))
    mode: Literal["min", "max"] = field(default="min", kw_only=True, validator=checked(one_of, choices=("min", "max")))
    min_delta: float = field(default=0.0, kw_only=True, validator=checked(real_number, least=0))
    restore_best: bool = field(default=False, kw_only=True, validator=_switch)
    model: Any = field(default=None, kw_only=True, repr=False)
    best: float | None = field(default=None, init=False, repr=False)
    best_epoch: int | None = field(default=None, init=False, repr=False)
    _waited: int = field(default=0, init=False, repr=False)
    _best_weights: Any = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.monitor, str) or not self.monitor:
            raise TypeError(f"'monitor' must be the name of a metric: {self.monitor!r}")

    def on_fit_start(self, event: FitStart) -> None:
        if self.restore_best and self._model(event) is None:
            raise ValueError("EarlyStopping(restore_best=True) needs a model: pass Trainer(model=...) or model=...")
        if self._waited >= self.patience and not event.run.stopping:
            self._waited = 0  # it ended the fit before; being called again, it is patient again

    def on_epoch_end(self, event: EpochEnd) -> None:
        if self.monitor not in event.metrics:
            if event.run.evaluated(event.epoch):
                known = ", ".join(event.metrics) or "none"
                raise ValueError(f"'monitor' must be one of the metrics, {known}: {self.monitor!r}")
            return
        value = event.metrics[self.monitor]
        if self._improved(value):
            self.best, self.best_epoch, self._waited = value, event.epoch, 0
            if self.restore_best:
                self._best_weights = copy.deepcopy(self._model(event).state_dict())
            return
        self._waited += 1
        if self._waited >= self.patience:
            best = "never a number" if self.best is None else f"best {self.best:.6g} in epoch {self.best_epoch}"
            epochs = f"{self._waited} epoch{'s' * (self._waited > 1)}"
            event.run.stop(f"{self.monitor} has not improved for {epochs} ({best})", for_good=True)

    def on_fit_end(self, event: FitEnd) -> None:
        if self._best_weights is not None and event.status in ("completed", "stopped"):
            self._model(event).load_state_dict(copy.deepcopy(self._best_weights))

    def _improved(self, value: float) -> bool:
        if math.isnan(value):
            return False
        if self.best is None:
            return True
        gain = self.best - value if self.mode == "min" else value - self.best
        return gain > self.min_delta

    def _model(self, event: FitStart | EpochEnd | FitEnd) -> Any:
        return event.run.model if self.model is None else self.model
