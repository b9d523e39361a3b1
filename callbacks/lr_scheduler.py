"""Callbacks that advance a learning-rate schedule: any scheduler, or one of the three that are built for you."""

from __future__ import annotations

import copy
import inspect
import warnings
from typing import Any, Literal, final

from attrs import define, field, setters

from lucid_train.callback import Callback, Hook
from lucid_train.description import plain_settings
from lucid_train.events import EpochEnd, Event, FitStart, StepEnd
from lucid_train.optims.lr_scheduler.base import LRScheduler
from lucid_train.optims.lr_scheduler.cosine import CosineAnnealingLR
from lucid_train.optims.lr_scheduler.decay import ExponentialLR, StepLR
from lucid_train.optims.lr_scheduler.rebuild import rebuilding
from lucid_train.optims.lr_scheduler.recipe import Recipe
from lucid_train.optims.param_groups import param_groups, snapshot_lrs, write_rate
from lucid_train.saving.settings import is_progress, scheduler_settings
from lucid_train.training.run import Run
from lucid_train.validation import check_entries, checked, metric_name, one_of, real_number, whole_number

Interval = Literal["epoch", "step"]

_interval = checked(one_of, choices=("epoch", "step"))


def _optimizer(instance: object, attribute: Any, value: object) -> None:
    if value is not None:
        param_groups(value)


def _scheduler(instance: object, attribute: Any, value: Any) -> None:
    if isinstance(value, type):
        cure = f"or a recipe such as Recipe({value.__name__}, ...)"
        raise TypeError(f"'scheduler' must be a scheduler, an object with step(), {cure}: {value!r}")
    if not callable(getattr(value, "step", None)) and not callable(value):
        kinds = "an object with step(), or a recipe, a function that builds one on an optimizer"
        raise TypeError(f"'scheduler' must be a scheduler, {kinds}: {value!r}")


def claimed_optimizer(callback: Any, run: Run) -> Any:
    """Return the optimizer that `callback` builds its schedule on: its own or the run's.

    Raises:
        ValueError: If there is neither, or another callback schedules it already.
    """
    optimizer = run.optimizer if callback.optimizer is None else callback.optimizer
    if optimizer is None:
        name = type(callback).__name__
        raise ValueError(f"{name} needs an optimizer: pass Trainer(optimizer=...) or {name}(..., optimizer=...)")
    run.claim(optimizer, callback)
    return optimizer


def run_length(run: Run, interval: Interval) -> int | None:
    """Return the epochs of the run, or its steps, or None where that is unknown."""
    if interval == "epoch":
        return run.epochs or None
    return run.epochs * run.steps_per_epoch or None if run.steps_per_epoch is not None else None


@define(eq=False)
class ScheduleCallback(Callback):
    """The base of the callbacks of this module: advances one scheduler, after the update, at one interval.

    Its state is the scheduler's. A subclass says what it advances, in `scheduler_for`, and has the field `interval`.
    """

    scheduler: Any = field(default=None, init=False, repr=False)
    _pending: dict[str, Any] | None = field(default=None, init=False, repr=False)
    # Whether settings that differ from those in a checkpoint have been accepted.
    _accepted: bool = field(default=False, init=False, repr=False)
    # Whether the next step is the first one after a state was loaded.
    _taken_up: bool = field(default=False, init=False, repr=False)

    def scheduler_for(self, run: Run) -> Any:
        """Return the scheduler to advance in `run`, the one at hand if it is the right one."""
        raise TypeError(f"{type(self).__name__} must define scheduler_for(self, run)")

    def foreseen(self, run: Run, stand_in: Any) -> tuple[Any, int]:
        """Return a scheduler whose `lr_at` gives the rates to come, and its epoch, for the plan; nothing changes.

        Args:
            run: What is known of the run.
            stand_in: An optimizer with copies of the groups, to build a schedule on.
        """
        scheduler = self.scheduler
        if scheduler is None:
            try:
                scheduler = self.built_on(stand_in, run)
            except TypeError:
                return None, 0  # PyTorch's schedulers take PyTorch's optimizers only
            if self._pending is not None:
                scheduler.load_state_dict(self._pending)
        return (scheduler, scheduler.last_epoch) if hasattr(scheduler, "lr_at") else (None, 0)

    def built_on(self, optimizer: Any, run: Run) -> Any:
        """Return a new scheduler on `optimizer`."""
        raise TypeError(f"{type(self).__name__} must define built_on(self, optimizer, run)")

    def hooks(self, event: type[Event]) -> list[Hook]:
        # The event of the other interval is not listened to, so that it costs nothing.
        unheard = StepEnd if getattr(self, "interval", "epoch") == "epoch" else EpochEnd
        return [] if event is unheard else super().hooks(event)

    def on_fit_start(self, event: FitStart) -> None:
        with rebuilding(getattr(self, "optimizer", None) or event.run.optimizer, self._pending):
            self.scheduler = self.scheduler_for(event.run)
        if self._pending is not None and self.scheduler is not None:
            self._load(self._pending)
            self._pending = None

    def on_epoch_end(self, event: EpochEnd) -> None:
        self._advance()

    def on_step_end(self, event: StepEnd) -> None:
        if event.updated:
            self._advance()

    def _advance(self, *metric: float) -> None:
        if not self._taken_up:
            self.scheduler.step(*metric)
            return
        self._taken_up = False
        with warnings.catch_warnings():
            # PyTorch's schedulers miss an update where it was performed before the checkpoint.
            warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler.step\(\)` before", UserWarning)
            self.scheduler.step(*metric)

    def state_dict(self) -> dict[str, Any]:
        return {"scheduler": self._pending if self.scheduler is None else copy.deepcopy(self.scheduler.state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.resume(state, accepted=False)

    def resume(self, state: dict[str, Any], *, accepted: bool) -> None:
        check_entries(f"the state of {type(self).__name__}", state, ["scheduler"])
        self._accepted, self._taken_up = accepted, True
        if self.scheduler is None:
            self._pending = copy.deepcopy(state["scheduler"])
        elif state["scheduler"] is not None:
            self._load(state["scheduler"])

    def _load(self, state: dict[str, Any]) -> None:
        if not self._accepted:
            self.scheduler.load_state_dict(state)
        elif isinstance(self.scheduler, LRScheduler):
            self.scheduler.load_state_dict(state, prefer="constructor")
        else:  # PyTorch's take over every setting that is in the state
            self.scheduler.load_state_dict({name: value for name, value in state.items() if is_progress(name)})


@define(eq=False)
class BuiltScheduleCallback(ScheduleCallback):
    """The base of the callbacks that build their schedule at FitStart, on their own optimizer or the run's."""

    optimizer: Any = field(default=None, kw_only=True, validator=_optimizer, repr=False)
    interval: Interval = field(default="epoch", kw_only=True, validator=_interval)

    def build(self, optimizer: Any) -> LRScheduler:
        """Return a new schedule on `optimizer`."""
        raise TypeError(f"{type(self).__name__} must define build(self, optimizer)")

    def built_on(self, optimizer: Any, run: Run) -> Any:
        return self.build(optimizer)

    def scheduler_for(self, run: Run) -> Any:
        optimizer = claimed_optimizer(self, run)
        at_hand = self.scheduler
        return at_hand if at_hand is not None and at_hand.optimizer is optimizer else self.build(optimizer)


@final
@define(eq=False, repr=False)
class LRSchedulerCallback(ScheduleCallback):
    """Advance any scheduler that has `step()`: this library's, PyTorch's, Lucid's.

    A recipe is built when the fit starts, on the run's optimizer; from then on the attribute `scheduler` is what it has
    built, and `recipe` the recipe. A later fit goes on with the same scheduler.

    Args:
        scheduler: The scheduler, built on its optimizer; or a recipe: a Recipe, or any function of an optimizer that
            returns a scheduler.
        interval: What one step of it stands for: "epoch", or "step" for every update that the step function performs.
        monitor: The metric that is handed to `scheduler.step(metric)` at the end of an epoch, for schedulers that
            follow one, as ReduceLROnPlateau does. An epoch without it, one that is not evaluated, is passed over.
        optimizer: The optimizer that a recipe is built on; by default the run's.
        length: How many epochs, or updates with interval="step", the run has, for the shares of a Recipe. By default
            the fit's epochs, times the steps of an epoch. Needed where that is unknown, or fewer updates than steps are
            performed.

    Raises:
        TypeError: If the scheduler has no `step()` that can be called so.
        ValueError: If `interval` is neither, or `monitor` is given for steps; when the fit starts, if a recipe lacks an
            optimizer or needs a length that is not known.

    >>> from lucid_train.optims.lr_scheduler import CosineAnnealingLR, Recipe
    >>> LRSchedulerCallback(Recipe(CosineAnnealingLR).warmup("5%"), interval="step")  # doctest: +ELLIPSIS
    LRSchedulerCallback(scheduler=Recipe(LinearLR, start_factor=0.1).until('5%').then(CosineAnnealingLR), ...)
    """

    scheduler: Any = field(validator=_scheduler, on_setattr=setters.NO_OP)
    interval: Interval = field(default="epoch", validator=_interval)
    monitor: str | None = field(default=None, kw_only=True, validator=checked(metric_name))
    optimizer: Any = field(default=None, kw_only=True, validator=_optimizer, repr=False)
    length: int | None = field(default=None, kw_only=True, validator=checked(whole_number, least=1))
    recipe: Any = field(default=None, init=False, repr=False)
    _first: tuple[dict[str, Any], list[Any]] | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.monitor is not None and self.interval == "step":
            raise ValueError(f"'monitor' must be None with interval='step': {self.monitor!r}")
        if callable(getattr(self.scheduler, "step", None)):
            if self.optimizer is not None:
                raise ValueError(f"'optimizer' must be None with a scheduler that is built: {self.scheduler!r}")
            self._check_step(self.scheduler)
        else:
            self.recipe, self.scheduler = self.scheduler, None

    def _check_step(self, scheduler: Any) -> None:
        try:
            inspect.signature(scheduler.step).bind(*([] if self.monitor is None else [0.0]))
        except TypeError as error:
            cure = "" if self.monitor else "; if it follows a metric, name it: monitor='val_loss'"
            raise TypeError(f"'scheduler' cannot be stepped, {error}{cure}: {scheduler!r}") from None

    def __repr__(self) -> str:
        # The setting is what was given, a recipe for one, whatever it has built since.
        given = self.scheduler if self.recipe is None else self.recipe
        settings = {"interval": self.interval, "monitor": self.monitor, "length": self.length}
        shown = ", ".join(f"{name}={value!r}" for name, value in {"scheduler": given, **settings}.items())
        return f"{type(self).__name__}({shown})"

    def built_on(self, optimizer: Any, run: Run) -> Any:
        length = run_length(run, self.interval) if self.length is None else self.length
        scheduler = self.recipe(optimizer, length) if isinstance(self.recipe, Recipe) else self.recipe(optimizer)
        if not callable(getattr(scheduler, "step", None)):
            raise TypeError(f"'scheduler' must build a scheduler, an object with step(): {self.recipe!r}")
        self._check_step(scheduler)
        return scheduler

    def scheduler_for(self, run: Run) -> Any:
        if self.recipe is not None:
            optimizer = claimed_optimizer(self, run)
            at_hand = self.scheduler
            if at_hand is None and run.epochs == 0:
                return None  # there is nothing to train, and no length to take shares of
            return at_hand if at_hand is not None and at_hand.optimizer is optimizer else self.built_on(optimizer, run)
        optimizer = getattr(self.scheduler, "optimizer", None)
        if optimizer is not None:
            run.claim(optimizer, self)
            if self._first is None and hasattr(self.scheduler, "state_dict"):
                self._first = copy.deepcopy(self.scheduler.state_dict()), snapshot_lrs(optimizer)
        return self.scheduler

    def on_epoch_end(self, event: EpochEnd) -> None:
        if self.monitor is None:
            self._advance()
        elif self.monitor in event.metrics:
            self._advance(event.metrics[self.monitor])
        elif event.run.evaluated(event.epoch):
            known = ", ".join(event.metrics) or "none"
            raise ValueError(f"'monitor' must be one of the metrics, {known}: {self.monitor!r}")

    def settings(self) -> dict[str, Any]:
        given = self.recipe.described() if isinstance(self.recipe, Recipe) else plain_settings(self.recipe)
        return {**super().settings(), "scheduler": given if self.recipe else scheduler_settings(self.scheduler)}

    def reset(self) -> None:
        if self.recipe is not None:
            self.scheduler = self._pending = None
            return
        if self._first is None:
            return
        state, rates = self._first
        self.scheduler.load_state_dict(copy.deepcopy(state))
        for group, rate in zip(self.scheduler.optimizer.param_groups, rates, strict=False):
            write_rate(group, rate)


@final
@define(eq=False)
class StepLRCallback(BuiltScheduleCallback):
    """Multiply the rate by `gamma` once every `step_size` epochs; see StepLR.

    Args:
        step_size: Epochs, or updates with interval="step", between two drops. At least 1.
        gamma: Factor of one drop. Positive and finite.
        optimizer: The optimizer to schedule; by default the run's.
        interval: What the schedule counts, "epoch" or "step".

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.
    """

    step_size: int = field(validator=checked(whole_number, least=1))
    gamma: float = field(default=0.1, validator=checked(real_number, above=0))

    def build(self, optimizer: Any) -> LRScheduler:
        return StepLR(optimizer, self.step_size, self.gamma)


@final
@define(eq=False)
class ExponentialLRCallback(BuiltScheduleCallback):
    """Multiply the rate by `gamma` every epoch; see ExponentialLR.

    Args:
        gamma: Factor of one epoch, or of one update with interval="step". Positive and finite.
        optimizer: The optimizer to schedule; by default the run's.
        interval: What the schedule counts, "epoch" or "step".

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.
    """

    gamma: float = field(validator=checked(real_number, above=0))

    def build(self, optimizer: Any) -> LRScheduler:
        return ExponentialLR(optimizer, self.gamma)


@final
@define(eq=False)
class CosineAnnealingLRCallback(BuiltScheduleCallback):
    """Lower the rate along half a cosine, to `eta_min` at `T_max`; see CosineAnnealingLR.

    Args:
        T_max: Epochs, or updates with interval="step", from the base rate to `eta_min`. At least 1.
        eta_min: The lowest rate. At least 0 and at most every group's base rate.
        after: What follows `T_max`: "restart", "hold" or "mirror".
        optimizer: The optimizer to schedule; by default the run's.
        interval: What the schedule counts, "epoch" or "step".

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range; `eta_min` above a base rate when the fit starts.
    """

    T_max: int = field(validator=checked(whole_number, least=1))
    eta_min: float = field(default=0.0, validator=checked(real_number, least=0))
    after: Literal["restart", "hold", "mirror"] = field(
        default="restart", validator=checked(one_of, choices=("restart", "hold", "mirror"))
    )

    def build(self, optimizer: Any) -> LRScheduler:
        return CosineAnnealingLR(optimizer, self.T_max, self.eta_min, after=self.after)
