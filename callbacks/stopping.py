"""Callbacks that end a run: it no longer improves, a metric is NaN or infinite, time is up."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from typing import Any, Literal, final

from attrs import define, field

from lucid_train.callback import TRANSIENT, Callback, Hook
from lucid_train.events import EpochEnd, EpochReport, EpochStart, EvaluateEnd, Event, FitEnd, FitStart, StepEnd
from lucid_train.monitor import Mode, Monitor
from lucid_train.progress import check_like
from lucid_train.protocols import Stateful
from lucid_train.training.run import Run
from lucid_train.validation import checked, choice, flag, metric_name, one_of, real_number, whole_number


@final
@define(eq=False)
class EarlyStopping(Callback):
    """Stop the run when a metric has not improved for `patience` epochs.

    An epoch without evaluation, which lacks the metric, does not count; where evaluations within epochs have it, they
    count instead of epochs. A NaN is no improvement, and is neither as good as nor worse than a threshold.

    Args:
        monitor: The metric's name.
        patience: Epochs in a row without an improvement that end the run. At least 1.
        mode: Whether "min" or "max" is better. Left out, it follows if the name ends in loss or accuracy.
        min_delta: By how much the metric must improve to count as improved. At least 0.
        stopping_threshold: A value that is good enough: the run ends when the metric is as good or better.
        divergence_threshold: A value that is not worth training on from: the run ends when the metric is worse.
        min_epochs: Complete epochs before which neither the patience nor `stopping_threshold` ends the run; what is
            waited for is counted from the first one. A divergence ends it at any time. At least 0.
        restore_best: When the run has completed or was stopped, load the weights of its best epoch into the model.
            They are kept in memory. A later fit continues from them.
        model: The model to restore, with `state_dict` and `load_state_dict`; by default the run's.

    Raises:
        ValueError: If the mode is left out and does not follow from the name, or `divergence_threshold` is better than
            `stopping_threshold`, or equal; in `fit`, if the metric does not exist, or with
            `restore_best` if there is no model.
    """

    monitor: str = field(default="val_loss", validator=checked(metric_name))
    patience: int = field(default=5, kw_only=True, validator=checked(whole_number, least=1))
    mode: Mode | None = field(default=None, kw_only=True, validator=checked(one_of, choices=("min", "max")))
    min_delta: float = field(default=0.0, kw_only=True, validator=checked(real_number, least=0))
    stopping_threshold: float | None = field(default=None, kw_only=True, validator=checked(real_number))
    divergence_threshold: float | None = field(default=None, kw_only=True, validator=checked(real_number))
    min_epochs: int = field(default=0, kw_only=True, validator=checked(whole_number, least=0))
    restore_best: bool = field(default=False, kw_only=True, validator=checked(flag))
    model: Stateful | None = field(default=None, kw_only=True, repr=False)
    best: float | None = field(default=None, init=False, repr=False)
    best_epoch: int | None = field(default=None, init=False, repr=False)
    _waited: int = field(default=0, init=False, repr=False)
    _ended: bool = field(default=False, init=False, repr=False)  # whether the patience has ended a fit
    _best_weights: Any = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.mode = self.monitored().mode
        good, bad = self.stopping_threshold, self.divergence_threshold
        if good is not None and bad is not None and not self._is_worse(bad, good):
            side = ">" if self.mode == "min" else "<"
            raise ValueError(f"'divergence_threshold' must be {side} stopping_threshold, {good!r}: {bad!r}")

    def on_fit_start(self, event: FitStart) -> None:
        event.run.check_metric(self.monitor, event)
        if self.restore_best and self._model(event) is None:
            raise ValueError("EarlyStopping(restore_best=True) needs a model: pass Trainer(model=...) or model=...")
        if self.restore_best and self._best_weights is not None:
            check_like("the best weights", self._best_weights, self._model(event).state_dict())
        if self._ended and event.run.reason is None:
            # A call of fit after one that the patience ended grants it again. The count alone does not say so: before
            # `min_epochs` it may be beyond the patience, and a run that is resumed there keeps it.
            self._waited, self._ended = 0, False

    def on_evaluate_end(self, event: EvaluateEnd) -> None:
        self.on_epoch_end(event)

    def on_epoch_end(self, event: EpochEnd | EvaluateEnd) -> None:
        monitor = self.monitored()
        value = event.run.value_of(self.monitor, event)
        if value is None:
            return
        if monitor.is_better(value, than=self.best):
            self.best, self.best_epoch, self._waited = value, event.epoch, 0
            if self.restore_best:
                self._best_weights = copy.deepcopy(self._model(event).state_dict())
        else:
            self._waited += 1
        good, bad = self.stopping_threshold, self.divergence_threshold
        if bad is not None and self._is_worse(value, bad):
            event.run.stop(f"{self.monitor} is {value:.6g}, worse than {bad:.6g}", for_good=True)
            return
        complete = event.epoch if isinstance(event, EpochEnd) else event.epoch - 1
        if complete < self.min_epochs:
            return
        if good is not None and (value == good or self._is_worse(good, value)):
            event.run.stop(f"{self.monitor} is {value:.6g}, as good as {good:.6g} or better", for_good=True)
        elif self._waited >= self.patience:
            self._ended = True
            best = "never a number" if self.best is None else f"best {self.best:.6g} in epoch {self.best_epoch}"
            unit = "epoch" if isinstance(event, EpochEnd) else "evaluation"
            waited = f"{self._waited} {unit}{'s' * (self._waited > 1)}"
            event.run.stop(f"{self.monitor} has not improved for {waited} ({best})", for_good=True)

    def on_fit_end(self, event: FitEnd) -> None:
        if self.restore_best and self._best_weights is not None and event.status in ("completed", "stopped"):
            self._model(event).load_state_dict(copy.deepcopy(self._best_weights))

    def monitored(self) -> Monitor:
        return Monitor(self.monitor, self.mode, self.min_delta)

    def describe(self) -> dict[str, str]:
        count = "an epoch" if self.patience == 1 else f"{self.patience} epochs"
        rules = [f"after {count} without a {'lower' if self.mode == 'min' else 'higher'} {self.monitor}"]
        good, bad = ("<=", ">") if self.mode == "min" else (">=", "<")
        if self.stopping_threshold is not None:
            rules.append(f"at {self.monitor} {good} {self.stopping_threshold:g}")
        if self.min_epochs:
            rules.append(f"not before epoch {self.min_epochs}")
        if self.divergence_threshold is not None:
            rules.append(f"at any time at {self.monitor} {bad} {self.divergence_threshold:g}")
        return {"stopping": ", ".join(rules)}

    def _is_worse(self, value: float, than: float) -> bool:
        return value > than if self.mode == "min" else value < than

    def _model(self, event: FitStart | EpochEnd | EvaluateEnd | FitEnd) -> Any:
        return event.run.model if self.model is None else self.model


@final
@define(eq=False)
class TerminateOnNaN(Callback):
    """Stop the run when a metric is NaN or infinite.

    Args:
        monitor: The metric to check; by default all of them, those of the evaluation included.
        interval: "step" checks after every step, which waits for a tensor's device each time, and at the end of an
            epoch; "epoch" only at the end of an epoch.
        action: "stop" ends the fit in good order, "raise" raises a FloatingPointError from it.

    Raises:
        ValueError: In `fit`, if the metric does not exist at the end of an epoch.
        FloatingPointError: In `fit`, with action="raise".
    """

    monitor: str | None = field(default=None, validator=checked(metric_name))
    interval: Literal["step", "epoch"] = field(default="step", kw_only=True, validator=choice("step", "epoch"))
    action: Literal["stop", "raise"] = field(default="stop", kw_only=True, validator=choice("stop", "raise"))

    def hooks(self, event: type[Event]) -> list[Hook]:
        return [] if event is StepEnd and self.interval == "epoch" else super().hooks(event)

    def on_fit_start(self, event: FitStart) -> None:
        if self.monitor is not None:
            event.run.check_metric(self.monitor, event)

    def on_step_end(self, event: StepEnd) -> None:
        self._check(event.run, event.metrics, f"epoch {event.epoch}, step {event.step}")

    def on_epoch_end(self, event: EpochEnd) -> None:
        if self.monitor is not None:
            event.run.check_metric(self.monitor, event)
        self._check(event.run, event.metrics, f"epoch {event.epoch}")

    def on_evaluate_end(self, event: EvaluateEnd) -> None:
        if event.within_epoch:
            self._check(event.run, event.metrics, f"epoch {event.epoch}, step {event.step}")

    def _check(self, run: Run, metrics: Mapping[str, float], place: str) -> None:
        for name, value in metrics.items():
            if self.monitor in (None, name) and not math.isfinite(value):
                reason = f"{name} is {value} in {place}"
                if self.action == "raise":
                    raise FloatingPointError(reason)
                run.stop(reason, for_good=True)


@final
@define(eq=False)
class TimeLimit(Callback):
    """Stop the run before a wall-clock limit: when another step as long as the longest so far might exceed it.

    Args:
        seconds: The limit, counted from the start of the fit. Above 0.
        margin: Seconds to leave for what follows the last step: an evaluation, a checkpoint. At least 0.
        earlier: Whether the time of the run's earlier fits counts too, including those before it was resumed.

    >>> from lucid_train import Trainer
    >>> Trainer(epochs=1_000_000, callbacks=[TimeLimit(0.01)]).fit().status
    'stopped'
    """

    seconds: float = field(validator=checked(real_number, above=0))
    margin: float = field(default=0.0, kw_only=True, validator=checked(real_number, least=0))
    earlier: bool = field(default=False, kw_only=True, validator=checked(flag))
    seconds_spent: float = field(default=0.0, init=False, repr=False)
    seconds_longest: float = field(default=0.0, init=False, repr=False)
    _spent_before: float = field(default=0.0, init=False, repr=False, metadata=TRANSIENT)
    _began: float = field(default=0.0, init=False, repr=False, metadata=TRANSIENT)
    _latest: float = field(default=0.0, init=False, repr=False, metadata=TRANSIENT)

    def settings(self) -> dict[str, Any]:
        return {}  # the next job may have another limit

    def describe(self) -> dict[str, str]:
        return {"stopping": f"after {self.seconds:g} s"}

    def on_fit_start(self, event: FitStart) -> None:
        self._began = self._latest = time.monotonic()
        self._spent_before = self.seconds_spent
        self._check(event.run)

    def on_epoch_start(self, event: EpochStart) -> None:
        self._latest = time.monotonic()

    def on_step_end(self, event: StepEnd) -> None:
        now = time.monotonic()
        self.seconds_longest = max(self.seconds_longest, now - self._latest)
        self._latest = now
        self._check(event.run)

    def on_epoch_report(self, event: EpochReport) -> None:
        self._check(event.run)

    def _check(self, run: Run) -> None:
        elapsed = time.monotonic() - self._began
        self.seconds_spent = self._spent_before + elapsed
        counted = self.seconds_spent if self.earlier else elapsed
        if counted + self.seconds_longest + self.margin >= self.seconds:
            run.stop(f"the time limit of {self.seconds:g} s is reached")
