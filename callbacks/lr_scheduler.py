"""Callbacks that advance schedules: of the learning rates, of other keys of the groups, and of attributes."""

from __future__ import annotations

import copy
import inspect
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeGuard, final

from attrs import define, evolve, field, setters

from lucid_train.callback import TRANSIENT, Callback, Hook, Scheduled
from lucid_train.command import Command
from lucid_train.description import error_text, object_name
from lucid_train.events import EpochEnd, EvaluateEnd, Event, FitEnd, FitStart, StepEnd
from lucid_train.history import is_reserved
from lucid_train.monitor import Monitor
from lucid_train.optims.lr_scheduler.scheduler import (
    WRONG_ORDER,
    LRScheduler,
    ParamScheduler,
    Schedules,
    bases_name,
    check_keys,
    checked_bases,
    is_sized,
    schedules_sized,
)
from lucid_train.optims.lr_scheduler.torch_state import foreign_settings, progress
from lucid_train.optims.param_groups import Attributes, param_groups, place, read_value, stored_under, write_value
from lucid_train.progress import check_like
from lucid_train.protocols import HasParamGroups, Steppable
from lucid_train.schedules.cosine import After, Cosine, check_after
from lucid_train.schedules.decay import Exponential, Step
from lucid_train.schedules.length import counted
from lucid_train.schedules.schedule import Schedule, check_is_value
from lucid_train.training.run import Run
from lucid_train.validation import check_entries, checked, choice, metric_name, real_number, whole_number

Interval = Literal["epoch", "step"]

_interval = choice("epoch", "step")


def _optimizer(instance: object, attribute: Any, value: object) -> None:
    if value is not None:
        param_groups(value)


def _schedule_or_scheduler(instance: object, attribute: Any, value: Any) -> None:
    cure = None
    if isinstance(value, type):
        cure = "pass an instance, a schedule such as Cosine() or a scheduler that is built on its optimizer"
    elif hasattr(value, "param_groups"):
        cure = "no optimizer, which is that of the Trainer or given as optimizer=..."
    elif inspect.isroutine(value):
        cure = "pass schedules.Function(f) of a function f"
    elif isinstance(value, str):
        cure = "such as Cosine() of lucid_train.schedules"
    if cure is not None:
        raise TypeError(
            f"{attribute.name!r} must be a schedule or a scheduler, {cure}: {' '.join(repr(value).split()):.200}"
        )
    if _is_steppable(value):
        return
    _check_schedules(attribute.name, value)


def _check_schedules(name: str, value: Any) -> None:
    parts = value.values() if isinstance(value, Mapping) else value
    for part in [value] if isinstance(value, Schedule) or not isinstance(parts, Iterable) else parts:
        check_is_value(part, name)


@contextmanager
def _of_state(name: str) -> Iterator[None]:
    """Let an error of what a state is loaded into say so."""
    try:
        yield
    except (TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"the state of {name} does not fit: {error_text(error)}") from error


@define(eq=False)
class _ScheduleCallback(Callback):
    """The base of the callbacks here: it binds a schedule when the fit starts, and from then on advances it."""

    optimizer: HasParamGroups | None = field(
        default=None, kw_only=True, validator=_optimizer, on_setattr=setters.frozen, repr=False
    )
    interval: Interval = field(default="epoch", kw_only=True, validator=_interval, on_setattr=setters.frozen)
    # What drives the schedule, once a fit has started.
    scheduler: Any = field(default=None, init=False, repr=False)
    # A state that was loaded before there was a scheduler.
    _saved: dict[str, Any] | None = field(default=None, init=False, repr=False)
    # Whether the next step is the first one after a state was loaded.
    _resumed: bool = field(default=False, init=False, repr=False)
    # The base values that `reset` goes back to, by key.
    _bases: dict[str, list[float]] = field(factory=dict, init=False, repr=False)
    # Those before a command has set another value; {} if none has.
    _first_bases: dict[str, list[float]] = field(factory=dict, init=False, repr=False, metadata=TRANSIENT)
    # The length of the run when a schedule was bound that is measured in it.
    _run_length: int | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    # Where the scheduler stood when this callback had stepped it, and whether it has stood elsewhere since.
    _stands_at: Any = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _moved: bool = field(default=False, init=False, repr=False, metadata=TRANSIENT)
    # Whether it is known which numbers are 0 and stay 0.
    _checked: bool = field(default=False, init=False, repr=False, metadata=TRANSIENT)
    # The updates that the fit would perform if each of its steps performed one.
    _updates: int = field(default=0, init=False, repr=False, metadata=TRANSIENT)

    def _schedules(self) -> Mapping[str, Any]:
        """Return the schedule, or one per group, of each key."""
        raise NotImplementedError

    def _target(self, run: Run) -> Any:
        """Return the optimizer whose groups are scheduled, or the `Attributes` of an object."""
        optimizer = run.optimizer if self.optimizer is None else self.optimizer
        if optimizer is None:
            name = type(self).__name__
            raise ValueError(f"{name} needs an optimizer: pass Trainer(optimizer=...) or {name}(..., optimizer=...)")
        return optimizer

    def hooks(self, event: type[Event]) -> list[Hook]:
        # The events of the other interval are not listened to, so that they cost nothing.
        return [] if event in ((StepEnd, FitEnd) if self.interval == "epoch" else (EpochEnd,)) else super().hooks(event)

    def schedules(self) -> tuple[Scheduled, ...]:
        if (scheduler := self.scheduler) is not None:
            optimizer, at, schedules, bases = (
                scheduler.optimizer,
                scheduler.last_epoch,
                scheduler.schedules,
                scheduler.bases,
            )
        else:
            optimizer, at, schedules = self.optimizer, (self._saved or {}).get("last_epoch") or 0, self._schedules()
            bases = self._bases if self._saved is None else self._saved_bases(self._saved)
        return tuple(
            Scheduled(
                each,
                None if isinstance(optimizer, Attributes) else optimizer,
                self.interval,
                at=at,
                bases=tuple(bases.get(key, ())) or None,
                key=key,
            )
            for key, each in schedules.items()
        )

    def on_fit_start(self, event: FitStart) -> None:
        self._bind(event.run)
        self._stands_at, self._moved = getattr(self.scheduler, "last_epoch", None), False
        if self._stands_at == 0 and not self._checked:
            self._checked = True
            _warn_of_zeros(self.scheduler)
        self._updates = run_length(event.run, "step") or 0

    def _bind(self, run: Run) -> None:
        """Bind the schedule to the optimizer, or go on with what is bound."""
        name, schedules = type(self).__name__, self._schedules()
        target = self._target(run)
        run.claim(target, self, schedules)
        if self._drives(target):
            unsized = {key: each for key, each in schedules.items() if not is_sized(each)}
            warn_of_longer_run(name, _shown(unsized), self._run_length, run, self.interval)
            return
        if run.epochs == 0 and self._saved is None:  # nothing to train, and no length to take shares of
            return
        saved, self._saved = self._saved, None
        length = run_length(run, self.interval)
        schedules = {key: schedules_sized(each, length, name) for key, each in schedules.items()}
        if saved is None or saved["last_epoch"] is None:
            self.scheduler = _bound(target, schedules, -1, self._bases)
        else:
            done = whole_number("last_epoch", saved["last_epoch"], least=0) - 1
            bases = self._saved_bases(_resumed(saved, target.param_groups))
            with _of_state(name):
                self.scheduler = _bound(target, schedules, done, bases)
        self._bases, self._run_length = {}, None if self.measured_in() is None else length

    def _drives(self, target: Any) -> bool:
        """Return whether there is a scheduler, and on this target."""
        bound = None if self.scheduler is None else self.scheduler.optimizer
        if isinstance(bound, Attributes) and isinstance(target, Attributes):
            return bound.target is target.target
        return bound is target

    def _saved_bases(self, state: Mapping[str, Any]) -> dict[str, list[float]]:
        """Return the base values in a state, by key; those that are not known yet are left out."""
        return {key: values for key in self._schedules() if (values := state[bases_name(key)])}

    def handle_command(self, command: Command) -> str | None:
        scheduler, key = self.scheduler, command.key
        if command.name != "set" or scheduler is None or key not in self._keys():
            return None
        if not isinstance(scheduler, LRScheduler):
            raise ValueError(f"{key!r} must be scheduled by this library to be set: {object_name(scheduler)}")
        bases = {} if scheduler.follows_metric else scheduler.bases
        before = scheduler.rescale(key, command.value)
        self._first_bases = self._first_bases or bases
        of_base = f", its base from {bases[key][0]:.6g} to {scheduler.bases[key][0]:.6g}" if bases else ""
        return f"{key} from {before:.6g} to {command.value:.6g}{of_base}"

    def _keys(self) -> Collection[str]:
        """Return the keys that the scheduler sets."""
        return self._schedules()

    def on_epoch_end(self, event: EpochEnd) -> None:
        self._advance()

    def on_step_end(self, event: StepEnd) -> None:
        if event.updated:
            self._advance()

    def on_fit_end(self, event: FitEnd) -> None:
        """Warn of a schedule that the steps would have brought to its end, had all of them performed an update."""
        end, done = _end(self.scheduler), getattr(self.scheduler, "last_epoch", None)
        name = "ParamSchedulerCallback" if isinstance(self, ParamSchedulerCallback) else "LRSchedulerCallback"
        if event.status == "completed" and done is not None and done < end <= max(self._updates, event.run.step):
            warnings.warn(
                f"{self!r} never reaches its end: {end} updates were planned and {done} were performed; make it "
                f"{done} long, with {name}(..., length={done}) where it is as long as the run",
                UserWarning,
                stacklevel=2,
            )

    def state_dict(self) -> dict[str, Any]:
        if self._saved is not None:
            return copy.deepcopy(self._saved)
        at, bases = (None, {}) if self.scheduler is None else (self.scheduler.last_epoch, self.scheduler.bases)
        return {"last_epoch": at, **{bases_name(key): bases.get(key, []) for key in self._schedules()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.resume(state, accepted=False)

    def resume(self, state: dict[str, Any], *, accepted: bool) -> None:
        self._load(state, "last_epoch", *map(bases_name, self._schedules()))
        self.scheduler = None  # it is built again when the fit starts, on an optimizer that is restored by then

    def _load(self, state: dict[str, Any], *entries: str) -> None:
        name = f"the state of {type(self).__name__}"
        check_entries(name, state, entries)
        if "last_epoch" in entries:
            with _of_state(type(self).__name__):
                if state["last_epoch"] is not None:
                    whole_number("last_epoch", state["last_epoch"], least=0)
                for entry in entries[1:]:
                    checked_bases(entry, state[entry])
        elif not isinstance(self.scheduler, LRScheduler) and hasattr(self.scheduler, "state_dict"):
            check_like(name, state["scheduler"], self.scheduler.state_dict())
        self._saved, self._resumed = copy.deepcopy(state), True

    def reset(self) -> None:
        saved, self._saved = self._saved, None
        if self.scheduler is not None:
            self._bases = self._first_bases or self.scheduler.bases
        elif saved is not None:
            self._bases = self._saved_bases(saved)
        self.scheduler, self._first_bases = None, {}

    def _advance(self, *metric: float) -> None:
        scheduler = self.scheduler
        stood, stands = self._stands_at, getattr(scheduler, "last_epoch", None)
        if self._resumed:
            self._resumed = False
            with _without_order_warning():
                scheduler.step(*metric)
        else:
            scheduler.step(*metric)
        self._stands_at = getattr(scheduler, "last_epoch", None)
        if stood != stands and not self._moved:
            self._moved = True
            warnings.warn(
                f"the {type(scheduler).__name__} of {type(self).__name__} is stepped by other code too: it has gone "
                f"from epoch {stood} to {stands} since the callback's last step; leave it to one of them",
                UserWarning,
                stacklevel=2,
            )


@final
@define(eq=False)
class LRSchedulerCallback(_ScheduleCallback):
    """Advance a schedule of the learning rates, after the update.

    A schedule is bound to the optimizer when the fit starts; from then on `scheduler` is the scheduler that drives it.
    A later fit goes on with the same one.

    Args:
        schedule: A schedule, or one per group as a list or as a mapping by the group's "name"; or a scheduler that is
            built on its optimizer, anything with `step()`: this library's, PyTorch's, Lucid's.
        interval: What one step of it stands for: "epoch", or "step" for every update that the step function performs.
        monitor: The metric that is handed to `scheduler.step(metric)` at the end of an epoch, for schedulers that
            follow one, as ReduceLROnPlateau does, whose mode must not contradict the metric's name. An epoch without
            it, one that is not evaluated, is passed over.
        optimizer: The optimizer that a schedule is bound to; by default the run's.
        length: How many epochs, or updates with interval="step", the run has, for lengths that are shares of the run or
            left out. By default the fit's epochs, times the steps of an epoch. Needed where that is not known, or fewer
            updates than steps are performed.

    Raises:
        TypeError: If the scheduler has no `step()` that can be called so.
        ValueError: When the fit starts, if there is no optimizer, or a length is needed and not known.

    >>> from lucid_train.schedules import Cosine
    >>> LRSchedulerCallback(Cosine().warmup("5%"), length=9)
    LRSchedulerCallback(schedule=Linear(0.1, total_iters='5%').then(Cosine()), interval='epoch', monitor=None, length=9)
    """

    schedule: Schedules | Steppable = field(validator=_schedule_or_scheduler, on_setattr=setters.frozen)
    interval: Interval = field(default="epoch", kw_only=True, validator=_interval, on_setattr=setters.frozen)
    monitor: str | None = field(default=None, kw_only=True, validator=checked(metric_name))
    length: int | None = field(
        default=None, kw_only=True, validator=checked(whole_number, least=1), on_setattr=setters.frozen
    )
    # Of a scheduler that was given: its state, and what its groups held, that `reset` goes back to; and whether
    # settings that differ from those in a loaded state were accepted.
    _first: tuple[Any, list[dict[str, float]]] | None = field(default=None, init=False, repr=False)
    _accepted: bool = field(default=False, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.monitor is not None and self.interval == "step":
            raise ValueError(f"'monitor' must be None with interval='step': {self.monitor!r}")
        if _is_steppable(given := self.schedule):
            if self.optimizer is not None:
                raise ValueError(f"'optimizer' must be None with a scheduler, which has its own: {self.schedule!r}")
            try:
                inspect.signature(given.step).bind(*([] if self.monitor is None else [0.0]))
            except TypeError as error:
                cure = "" if self.monitor else "; if it follows a metric, name it: monitor='val_loss'"
                raise TypeError(f"'schedule' cannot be stepped, {error}{cure}: {self.schedule!r}") from None
            monitored, implied = self.monitored(), Monitor.mode_of(self.monitor or "")
            if monitored is not None and implied not in (None, monitored.mode):
                kind = type(self.schedule).__name__
                raise ValueError(
                    f"'monitor' contradicts {kind}(mode={monitored.mode!r}), pass mode={implied!r}: {self.monitor!r}"
                )
            self.scheduler: Any = self.schedule
        elif self.monitor is not None:
            raise ValueError(f"'monitor' must be None with a schedule, which follows no metric: {self.monitor!r}")
        elif self.length is not None:
            object.__setattr__(self, "schedule", schedules_sized(self.schedule, self.length, type(self).__name__))

    @property
    def _is_given(self) -> bool:
        """Whether it is a scheduler that was given, not a schedule."""
        return _is_steppable(self.schedule)

    def _schedules(self) -> Mapping[str, Any]:
        return {"lr": self.schedule}

    def hooks(self, event: type[Event]) -> list[Hook]:
        return [] if event is EvaluateEnd and self.monitor is None else super().hooks(event)

    def schedules(self) -> tuple[Scheduled, ...]:
        scheduler = self.scheduler
        if self._is_given and (not isinstance(scheduler, LRScheduler) or scheduler.follows_metric):
            return (Scheduled(None, getattr(scheduler, "optimizer", None), self.interval, text=self._words()),)
        return tuple(evolve(each, length=self.length) for each in super().schedules())

    def _keys(self) -> Collection[str]:
        keys = self.scheduler.schedules if isinstance(self.scheduler, LRScheduler) else ()
        return keys or ("lr",)

    def _words(self) -> str:
        """Return a scheduler in words that is no function of time, or not of this library."""
        factor, patience = (getattr(self.schedule, name, None) for name in ("factor", "patience"))
        if self.monitor is None or not isinstance(factor, float) or not isinstance(patience, int):
            return object_name(self.schedule) + (", per step" if self.interval == "step" else "")
        held = getattr(self.schedule, "schedule", None)
        scaled = f"{held.words(self.interval)}, " if isinstance(held, Schedule) else ""
        return (
            f"{scaled}times {factor:g} when {self.monitor} has not improved for more than {counted(patience, 'epoch')}"
        )

    def monitored(self) -> Monitor | None:
        mode = getattr(self.schedule, "mode", None)
        return None if self.monitor is None or mode not in ("min", "max") else Monitor(self.monitor, mode)

    def on_fit_start(self, event: FitStart) -> None:
        if self.monitor is not None:
            event.run.check_metric(self.monitor, event)
        super().on_fit_start(event)

    def _bind(self, run: Run) -> None:
        if not self._is_given:
            super()._bind(run)
            return
        scheduler, saved, self._saved = self.scheduler, self._saved, None
        if getattr(scheduler, "optimizer", None) is not None:
            run.claim(scheduler.optimizer, self, self._keys())
        self._remember_first()
        if saved is None:
            return
        state = saved["scheduler"]
        if isinstance(scheduler, LRScheduler):
            with _of_state(type(self).__name__):
                state = _resumed(state, scheduler.optimizer.param_groups)
                scheduler.load_state_dict(state, prefer="constructor" if self._accepted else None)
            return
        if getattr(scheduler, "optimizer", None) is not None:
            state = _resumed(state, scheduler.optimizer.param_groups)
        # PyTorch's take over every setting that is in the state.
        scheduler.load_state_dict(progress(state) if self._accepted else state)

    def on_epoch_end(self, event: EpochEnd | EvaluateEnd) -> None:
        if self.monitor is None:
            self._advance()
        elif (value := event.run.value_of(self.monitor, event)) is not None:
            self._advance(value)

    def on_evaluate_end(self, event: EvaluateEnd) -> None:
        self.on_epoch_end(event)

    def state_dict(self) -> dict[str, Any]:
        if self._is_given and self._saved is None:
            return {"scheduler": copy.deepcopy(self.scheduler.state_dict())}
        return super().state_dict()

    def resume(self, state: dict[str, Any], *, accepted: bool) -> None:
        if not self._is_given:
            super().resume(state, accepted=accepted)
            return
        self._load(state, "scheduler")
        self._accepted = accepted
        self._remember_first()  # before the optimizer is restored

    def measured_in(self) -> Interval | None:
        return None if self._is_given or is_sized(self.schedule) else self.interval

    def settings(self) -> dict[str, Any]:
        given = self.schedule
        if not self._is_given:
            return {**super().settings(), "schedule": repr(given), "length": self.length or self._run_length}
        own = given.settings() if isinstance(given, LRScheduler) else foreign_settings(given)
        return {**super().settings(), "schedule": {"class": type(given).__name__, **own}}

    def reset(self) -> None:
        if not self._is_given:
            super().reset()
            return
        self._saved = None
        if self._first is not None:
            state, held = self._first
            self.scheduler.load_state_dict(copy.deepcopy(state))
            for group, values in zip(self.scheduler.optimizer.param_groups, held, strict=False):
                for key, value in values.items():
                    write_value(group, key, value)

    def _remember_first(self) -> None:
        """Remember where a scheduler stands that was given, and what it may have written, for `reset`."""
        optimizer = getattr(self.scheduler, "optimizer", None)
        if self._first is None and optimizer is not None and hasattr(self.scheduler, "state_dict"):
            held = [
                {key: read_value(group, key) for key in ("lr", "momentum") if stored_under(group, key) in group}
                for group in optimizer.param_groups
            ]
            self._first = copy.deepcopy(self.scheduler.state_dict()), held


def _numbers(instance: ParamSchedulerCallback, attribute: Any, value: Mapping[str, Any]) -> None:
    check_keys(value)
    for key, schedules in value.items():
        if is_reserved(key) and (key != "lr" or instance.on is not None):
            raise ValueError(f"{key!r} must not be scheduled, the record of an epoch has a column of that name")
        _check_schedules(key, schedules)


@final
@define(eq=False, init=False)
class ParamSchedulerCallback(_ScheduleCallback):
    """Advance schedules of any numbers, after the update: of keys of an optimizer's groups, or of attributes.

    `ParamSchedulerCallback(weight_decay=Cosine(), momentum=Linear(0.9))` sets keys of the groups,
    `ParamSchedulerCallback(kl_weight=Linear(0.0, 1.0, "20%"), on=model, interval="step")` the attribute
    `model.kl_weight`. The base of each is the value that is there when the first fit starts, which must not be 0 for a
    schedule that scales it. There may be several of these callbacks, beside that of the rates, but one per number. The
    numbers are in the plan, the records of the epochs, the log and the display.

    Args:
        **numbers: A schedule, or for keys of groups one per group as a list or as a mapping by the group's "name", of
            each number. "momentum" is the first of the betas where a group has them.
        interval: What one step of them stands for: "epoch", or "step" for every update that the step function performs.
        on: The object whose attributes are set, instead of an optimizer's groups. They hold a float, or a tensor or a
            0-d array, which is filled in place. The object is not saved, but what a schedule needs to go on is.
        optimizer: The optimizer whose groups are set; by default the run's.
        length: How many epochs, or updates with interval="step", the run has; see LRSchedulerCallback.

    Raises:
        TypeError: When the fit starts, if a group or the object has no such number.
        ValueError: When the fit starts, if there is no optimizer, or a length is needed and not known.

    >>> from lucid_train.schedules import Cosine
    >>> ParamSchedulerCallback(weight_decay=Cosine(), interval="step")
    ParamSchedulerCallback(weight_decay=Cosine(), interval='step', length=None)
    """

    on: Any = field(default=None, kw_only=True, on_setattr=setters.frozen, repr=False)
    numbers: Mapping[str, Schedules] = field(kw_only=True, validator=_numbers, on_setattr=setters.frozen, repr=False)
    length: int | None = field(
        default=None, kw_only=True, validator=checked(whole_number, least=1), on_setattr=setters.frozen
    )

    def __init__(
        self,
        *,
        interval: Interval = "epoch",
        on: Any = None,
        optimizer: HasParamGroups | None = None,
        length: int | None = None,
        **numbers: Schedules,
    ) -> None:
        self.__attrs_init__(interval=interval, on=on, optimizer=optimizer, length=length, numbers=numbers)

    def __attrs_post_init__(self) -> None:
        if self.on is not None and self.optimizer is not None:
            raise ValueError(f"'optimizer' must be None with on=..., whose attributes are set: {self.optimizer!r:.200}")
        if hasattr(self.on, "param_groups"):
            raise ValueError(f"'on' must be no optimizer, which is given as optimizer=...: {self.on!r:.200}")
        if self.length is not None:
            sized = {key: schedules_sized(each, self.length, type(self).__name__) for key, each in self.numbers.items()}
            object.__setattr__(self, "numbers", sized)

    def _schedules(self) -> Mapping[str, Any]:
        return self.numbers

    def _target(self, run: Run) -> Any:
        if self.on is not None:
            return Attributes(self.on)
        optimizer, model = super()._target(run), run.model
        for key in self.numbers:
            if hasattr(model, key) and not any(stored_under(group, key) in group for group in param_groups(optimizer)):
                raise TypeError(
                    f"'optimizer.param_groups' must have {key!r} to be scheduled, which is an attribute of the "
                    f"{type(model).__name__}; pass {type(self).__name__}({key}=..., on=model)"
                )
        return optimizer

    def schedules(self) -> tuple[Scheduled, ...]:
        return tuple(evolve(each, length=self.length, on=self.on) for each in super().schedules())

    def measured_in(self) -> Interval | None:
        return None if all(map(is_sized, self.numbers.values())) else self.interval

    def settings(self) -> dict[str, Any]:
        numbers = {key: repr(each) for key, each in self.numbers.items()}
        on = None if self.on is None else object_name(self.on)
        return {**super().settings(), "numbers": numbers, "on": on, "length": self.length or self._run_length}

    def __repr__(self) -> str:
        shown = {**self.numbers, "interval": self.interval, "length": self.length}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


@final
@define(eq=False)
class StepLRCallback(_ScheduleCallback):
    """Multiply the rates by `gamma` once every `step_size` epochs.

    Short for `LRSchedulerCallback(schedules.Step(step_size, gamma))`.

    Args:
        step_size: Epochs, or updates with interval="step", between two drops. At least 1.
        gamma: Factor of one drop. Positive and finite.
        optimizer: The optimizer to schedule; by default the run's.
        interval: What the schedule counts, "epoch" or "step".
    """

    step_size: int = field(validator=checked(whole_number, least=1), on_setattr=setters.frozen)
    gamma: float = field(default=0.1, validator=checked(real_number, above=0), on_setattr=setters.frozen)

    def _schedules(self) -> Mapping[str, Any]:
        return {"lr": Step(self.step_size, self.gamma)}


@final
@define(eq=False)
class ExponentialLRCallback(_ScheduleCallback):
    """Multiply the rates by `gamma` every epoch.

    Short for `LRSchedulerCallback(schedules.Exponential(gamma))`.

    Args:
        gamma: Factor of one epoch, or of one update with interval="step". Positive and finite.
        optimizer: The optimizer to schedule; by default the run's.
        interval: What the schedule counts, "epoch" or "step".
    """

    gamma: float = field(validator=checked(real_number, above=0), on_setattr=setters.frozen)

    def _schedules(self) -> Mapping[str, Any]:
        return {"lr": Exponential(self.gamma)}


@final
@define(eq=False)
class CosineAnnealingLRCallback(_ScheduleCallback):
    """Lower the rates along half a cosine, to `eta_min` at `T_max`.

    Short for `LRSchedulerCallback(schedules.Cosine(T_max, eta_min, after))`.

    Args:
        T_max: Epochs, or updates with interval="step", from the base rates to `eta_min`. At least 1.
        eta_min: The lowest rate. At least 0; of a group whose base rate is below it, one warning says so.
        after: What follows `T_max`: "restart", "hold" or "mirror".
        optimizer: The optimizer to schedule; by default the run's.
        interval: What the schedule counts, "epoch" or "step".
    """

    T_max: int = field(validator=checked(whole_number, least=1), on_setattr=setters.frozen)
    eta_min: float = field(default=0.0, validator=checked(real_number, least=0), on_setattr=setters.frozen)
    after: After = field(default="restart", validator=check_after, on_setattr=setters.frozen)

    def _schedules(self) -> Mapping[str, Any]:
        return {"lr": Cosine(self.T_max, self.eta_min, self.after)}


def run_length(run: Run, interval: Interval) -> int | None:
    """Return the epochs of the run, or its steps, or None where that is unknown."""
    return run.total_steps if interval == "step" else run.epochs or None


def _warn_of_zeros(scheduler: Any) -> None:
    """Warn of numbers that a scheduler, if it is one of ours, leaves at 0, as its schedules are multiples of that."""
    if not isinstance(scheduler, LRScheduler) or scheduler.follows_metric:
        return
    for key, schedules in scheduler.schedules.items():
        each = schedules if isinstance(schedules, tuple) else (schedules,)
        bases = scheduler.bases[key]
        # A schedule of the user's own need not say that it has a shift.
        if not bases or any(bases) or any(one.has_shift or one(0, 0.0) or one(1, 0.0) for one in each):
            continue
        group = scheduler.optimizer.param_groups[0]
        where = place(group, 0) if isinstance(scheduler.optimizer, Attributes) else "the optimizer"
        warnings.warn(
            f"the {key!r} of {where} is 0 and stays 0, as {each[0]!r} is a multiple of it; set it to the value that "
            "the schedule scales, or use a schedule with values of its own, as OneCycle",
            UserWarning,
            stacklevel=3,
        )


def warn_of_longer_run(name: str, what: str, measured: int | None, run: Run, interval: Interval) -> None:
    """Warn of a fit that makes the run longer than it was when a callback measured its schedule in it.

    Args:
        name: The class of the callback.
        what: What it has, as it was written.
        measured: How long the run was then, in epochs or steps; None if nothing was measured in it.
        run: The run.
        interval: What the callback counts.
    """
    length = run_length(run, interval)
    if measured is not None and length is not None and length > measured:
        warnings.warn(
            f"{what} of {name} was measured in an earlier fit, for a run of {counted(measured, interval)}, and this "
            f"one makes it {counted(length, interval)}; pass {name}(..., length={length}) before the first fit, or "
            f"begin again with fit({run.epochs}, restart=True)",
            UserWarning,
            stacklevel=3,
        )


def _shown(schedules: Mapping[str, Schedules]) -> str:
    """Return schedules as they were written, each but that of the rates with its key."""
    return ", ".join(repr(each) if key == "lr" else f"{key}={each!r}" for key, each in schedules.items())


def _bound(target: Any, schedules: Mapping[str, Any], done: int, bases: Mapping[str, list[float]]) -> LRScheduler:
    """Return a scheduler on a target, from the base values that are known."""
    if [*schedules] == ["lr"]:
        return LRScheduler(target, schedules["lr"], done, base_lrs=bases.get("lr"))
    return ParamScheduler(target, done, bases=bases, **schedules)


def _resumed(state: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the state of a scheduler, but from the base values and rates of groups that have been resumed.

    They differ where the user has accepted others than those in the checkpoint.
    """
    found = dict(state)
    if isinstance(first := state.get("initial_lrs"), list):  # of a plateau: what it has come down to, from these
        now = [float(group.get("initial_lr", rate)) for group, rate in zip(groups, first, strict=False)]
        growths = [each / rate if rate and each != rate else 1.0 for each, rate in zip(now, first, strict=False)]
        scaled = [level * growth for level, growth in zip(state["base_lrs"], growths, strict=False)]
        found |= {"base_lrs": [*scaled, *state["base_lrs"][len(scaled) :]]}
    for name, values in state.items():
        if not isinstance(values, list) or (name == "base_lrs" and first is not None) or name == "initial_lrs":
            continue
        if name == "_schedulers":  # those of PyTorch's that are made of others
            found[name] = [_resumed(each, groups) if isinstance(each, Mapping) else each for each in values]
        elif name == "current_lrs" or name.startswith("base_"):
            key = {"current_lrs": "lr", "base_lrs": "initial_lr"}.get(name, f"initial_{name.removeprefix('base_')}")
            held = [group.get(key) for group in groups[: len(values)]] + [None] * (len(values) - len(groups))
            found[name] = [_changed(saved, value) for saved, value in zip(values, held, strict=True)]
    return found


def _changed(saved: Any, held: Any) -> Any:
    """Return the number that is held, if it is another one than that which was saved, else what was saved."""
    are_numbers = hasattr(saved, "__float__") and hasattr(held, "__float__")
    return float(held) if are_numbers and saved != held else saved


def _end(scheduler: Any) -> int:
    """Return the time at which the schedule of a scheduler, ours or PyTorch's, has come to its end; 0 if it goes on."""
    if not isinstance(scheduler, LRScheduler):
        found = [getattr(scheduler, name, None) for name in ("total_steps", "T_max", "total_iters")]
        return max((end for end in found if type(end) is int), default=0)
    schedules = [] if scheduler.follows_metric else scheduler.schedules.values()
    ends = [each.ends_at for some in schedules for each in (some if isinstance(some, tuple) else (some,))]
    return max((end for end in ends if end is not None), default=0)


def _is_steppable(value: object) -> TypeGuard[Steppable]:
    return callable(getattr(value, "step", None)) and not isinstance(value, (type, Schedule))


@contextmanager
def _without_order_warning() -> Iterator[None]:
    """Let no scheduler miss an update that was performed before the checkpoint, PyTorch's or ours."""
    with warnings.catch_warnings():
        for message in (WRONG_ORDER, "Detected call of `lr_scheduler.step()` before"):
            warnings.filterwarnings("ignore", re.escape(message), UserWarning)
        yield
