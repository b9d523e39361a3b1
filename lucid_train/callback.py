"""Callback, the base of everything that listens to a run, and `on`, which marks its methods as listeners."""

from __future__ import annotations

import copy
import difflib
import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

import attrs
from attrs import define, field

from lucid_train import events
from lucid_train.command import Command
from lucid_train.description import attributed, hook_name, plain_settings
from lucid_train.events import BASES, Event, event_classes, hook_names
from lucid_train.monitor import Monitor
from lucid_train.progress import is_of_kind
from lucid_train.validation import check_call, check_entries, checked, flag, function, unknown_values, whole_number

# What receives an event: a bound method or a function of one argument.
Hook = Callable[[Any], object]
C = TypeVar("C")
E = TypeVar("E", bound=Event)
R = TypeVar("R")
# On which processes of a run a callback runs.
Ranks: TypeAlias = Literal["all", "first"]

# What was done in words, or what says it later, and raises a ValueError if it could not be done.
Answer: TypeAlias = str | Callable[[], str]

# Metadata of a field that is neither a setting nor state: a thread, a display, an open file. It is not copied.
TRANSIENT = {"transient": True}

# The attribute of a marked method that holds its subscriptions.
_MARK = "__lucid_train_on__"

_ONE_EVENT = "one argument, the event"


def _emitted(instance: object, attribute: Any, event: Any) -> None:
    if isinstance(event, type) and issubclass(event, Event) and event not in BASES:
        return
    cure = "such as StepEnd"
    if isinstance(event, Event):
        cure = f"such as {type(event).__name__}, no instance"
    elif inspect.isroutine(event):
        cure = "given in parentheses, as in on(StepEnd)"
    elif isinstance(name := getattr(event, "name", event), str):  # the name of an enum's member, as those of Ignite
        known = {_plain(hook): hook for hook in hook_names()} | {
            _plain(hook): ours for hook, ours in _ELSEWHERE.items()
        }
        near = difflib.get_close_matches(_plain(name), known, n=1, cutoff=0.8)
        cure = next((f"pass {cls.__name__}" for cls in event_classes() if near and cls.hook == known[near[0]]), cure)
    raise TypeError(f"'event' must be the class of an event that is emitted, {cure}: {event!r}")


def _plain(name: str) -> str:
    return name.lower().removeprefix("on_").replace("_", "")


def _as_counts(at: Iterable[int] | int | None) -> frozenset[int] | None:
    if isinstance(at, str) or not (at is None or isinstance(at, (int, Iterable))):
        raise TypeError(f"'at' must be a set of counts: {at!r}")
    counts = [at] if isinstance(at, int) else at
    return None if counts is None else frozenset(whole_number("at", count, least=1) for count in counts)


@define(frozen=True)
class Scheduled:
    """A number that a callback schedules: the rates of an optimizer, another key of its groups, or an attribute.

    Args:
        schedule: The schedule, or a tuple, list or mapping with one per group; None where the rates are not known
            beforehand: they follow a metric, or a scheduler that is not of this library.
        optimizer: The optimizer, or None for the run's.
        interval: What the schedule counts, "epoch" or "step".
        length: How many of them the run has, where that is not the fit's.
        at: How many of them are done.
        bases: The base values, one per group, or None for those of the optimizer's groups.
        text: The schedule in words, where there is none: in a recorded run, or of another library's scheduler.
        key: What is scheduled: a key of the groups, or the name of an attribute.
        on: The object whose attribute it is, or None for an optimizer's groups.
    """

    schedule: Any = None
    optimizer: Any = None
    interval: Literal["epoch", "step"] = "epoch"
    length: int | None = None
    at: int = 0
    bases: tuple[float, ...] | None = None
    text: str | None = None
    key: str = "lr"
    on: Any = None


@define(frozen=True)
class Subscription(Generic[E]):
    """Mark a method of a Callback, of any name, as a listener; written as a decorator, `@on(StepEnd, every=100)`.

    All conditions given must hold. The count of a step event is its step, that of an epoch event its epoch; your own
    events are counted as they are emitted, from 1 in each fit, unless they define `count`.

    Args:
        event: The event's class.
        every: Receive it when the count is a multiple of this. At least 1.
        at: Receive it at these counts only, each at least 1.
        once: Receive it only the first time in each fit.
        when: Receive it when this function of the event is true.

    Raises:
        ValueError: If a count is below 1.

    >>> from lucid_train import StepEnd
    >>> class Heartbeat(Callback):
    ...     @on(StepEnd, every=100)
    ...     def beat(self, event):
    ...         print(f"step {event.step}")
    """

    event: type[E] = field(validator=_emitted)
    every: int = field(default=1, kw_only=True, validator=checked(whole_number, least=1))
    at: frozenset[int] | None = field(default=None, kw_only=True, converter=_as_counts)
    once: bool = field(default=False, kw_only=True, validator=checked(flag))
    when: Callable[[E], object] | None = field(default=None, kw_only=True, validator=checked(function))

    # It returns the method itself. Its type then takes any event, as it may be marked for a second one.
    def __call__(self, method: Callable[[C, E], R]) -> Callable[[C, Any], R]:
        method.__dict__.setdefault(_MARK, []).append(self)
        return method

    def wrap(self, hook: Hook) -> Hook:
        """Return a function that calls `hook` with the events that meet the conditions, counted from its first call."""
        if self == Subscription(self.event):
            return hook
        emitted, done = 0, False

        def receive(event: E) -> None:
            nonlocal emitted, done
            emitted += 1
            count = emitted if event.count is None else event.count
            met = count % self.every == 0 and (self.at is None or count in self.at)
            if not done and met and (self.when is None or self.when(event)):
                done = self.once
                hook(event)

        receive.__wrapped__ = hook  # type: ignore[attr-defined]  # as functools.wraps does, for the listener's name
        return receive


on = Subscription


def _subscriptions(method: Any) -> list[Subscription[Any]]:
    """Return what `on` has marked a method with."""
    return getattr(method, _MARK, [])


# What the hooks and events of Keras, Lightning, transformers, skorch and Ignite are here; and those that have no
# counterpart, as what happens within a step and an evaluation is the program's own.
_ELSEWHERE = {
    name: hook
    for hook, names in {
        "on_fit_start": "on_train_begin on_train_start on_init_end on_sanity_check_start on_started",
        "on_fit_end": "on_train_end on_completed",
        "on_fit_error": "on_exception on_keyboard_interrupt on_exception_raised",
        "on_epoch_start": "on_epoch_begin on_epoch_started on_train_epoch_start on_train_epoch_begin",
        "on_epoch_end": "on_train_epoch_end on_epoch_completed",
        "on_epoch_report": "on_log",
        "on_step_start": "on_step_begin on_batch_begin on_batch_start on_train_batch_begin on_train_batch_start "
        "on_iteration_started",
        "on_step_end": "on_batch_end on_train_batch_end on_substep_end on_optimizer_step on_iteration_completed",
        "on_evaluate_start": "on_evaluate_begin on_test_begin on_test_start on_test_epoch_start on_validation_begin "
        "on_validation_start on_validation_epoch_start on_validation_epoch_begin",
        "on_evaluate_end": "on_evaluate on_test_end on_test_epoch_end on_validation_end on_validation_epoch_end "
        "on_sanity_check_end",
        "on_saved": "on_save on_save_checkpoint",
    }.items()
    for name in names.split()
}
_OWN_CODE = re.compile(
    "on_(before|after|grad|pre)_|on_(validation|test|predict|prediction)_(batch|step)|on_predict|on_load_checkpoint"
)


def _check_hook(cls: type[Callback], name: str, method: Any) -> None:
    marked = bool(_subscriptions(method))
    if not marked and name not in hook_names():
        near = difflib.get_close_matches(name, hook_names(), n=1)
        hint = f"did you mean {near[0]}?" if near else f"the hooks are {', '.join(sorted(hook_names()))}"
        if name in _ELSEWHERE:
            hint = f"write {_ELSEWHERE[name]}(self, event)"
        elif _OWN_CODE.match(name):
            hint = "what it would do belongs in your own step function or evaluate"
        raise TypeError(f"{cls.__name__}.{name} is not a hook; {hint}")
    if method is not None and not callable(getattr(cls, name)):
        raise TypeError(f"{cls.__name__}.{name} must be a method, it is a hook: {method!r}")
    if inspect.isfunction(method):
        place, cure = f"{cls.__name__}.{name}", f"write {name}(self, event): the run is event.run"
        check_call(place, method, _ONE_EVENT, cure, count=2)
        if "logs" in inspect.signature(method).parameters:  # Keras's, which can be called with an event
            raise TypeError(f"{place} must take {_ONE_EVENT}: {name}{inspect.signature(method)}; {cure}")


@define(eq=False)
class Callback:
    """The base of all callbacks: a class whose `on_...` methods receive the events of a run.

    Decorate a subclass with `@define(eq=False)`. Its public fields are settings, shown in the repr. Fields with
    `init=False` are state, which `state_dict` and `load_state_dict` carry; mark those that are neither, a thread or an
    open file, with `metadata=TRANSIENT`. Only the hooks that a subclass overrides are called. A method `on_x` that is
    the hook of no event is refused when the class is defined; a value that is no field, as a resumed run would lose
    it, when a Trainer is given the callback.

    In a run of several processes a callback runs on all of them. One that writes a file or shows something has
    `ranks: ClassVar[Ranks] = "first"` in its class and runs in the first process alone: it must not change the run,
    but may stop it. A run may be resumed with others of this kind, or with none.

    >>> from attrs import define, field
    >>> @define(eq=False)
    ... class Count(Callback):
    ...     epochs: int = field(default=0, init=False, repr=False)
    ...
    ...     def on_epoch_end(self, event):
    ...         self.epochs += 1
    """

    # In a run of several processes: on which it runs. What decides anything, or changes the run, runs on "all"; what
    # writes a file or shows something on the "first" alone.
    ranks: ClassVar[Ranks] = "all"
    # The methods marked with `on` and their subscriptions, in the order of definition, those of the bases first.
    _marked: ClassVar[list[tuple[str, Subscription[Any]]]] = []

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, method in vars(cls).items():
            if name.startswith("on_") or _subscriptions(method):
                _check_hook(cls, name, method)
        for base in cls.__mro__[cls.__mro__.index(Callback) + 1 :]:
            for name in vars(base).keys() & vars(Callback).keys() & hook_names():
                if getattr(cls, name) is getattr(Callback, name):
                    raise TypeError(f"{cls.__name__} must have {base.__name__} before Callback in its bases: {name}")
        # attrs gives a slotted class a __getstate__ and a __setstate__ that know its fields, TRANSIENT ones included,
        # and nothing else; it does not where the class itself has one of the two.
        if "__setstate__" not in vars(cls):
            cls.__setstate__ = cls.__setstate__  # type: ignore[method-assign]  # what is inherited becomes its own
        names = dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base))
        cls._marked = [(name, each) for name in names for each in _subscriptions(getattr(cls, name, None))]

    def on_fit_start(self, event: events.FitStart) -> None:
        """A fit begins; nothing has been trained in it yet."""

    def on_epoch_start(self, event: events.EpochStart) -> None:
        """An epoch begins; the pass over its data has not begun yet."""

    def on_step_start(self, event: events.StepStart) -> None:
        """The step function is about to be called."""

    def on_step_end(self, event: events.StepEnd) -> None:
        """The step function has returned."""

    def on_evaluate_start(self, event: events.EvaluateStart) -> None:
        """An evaluation begins."""

    def on_evaluate_end(self, event: events.EvaluateEnd) -> None:
        """An evaluation is done."""

    def on_epoch_end(self, event: events.EpochEnd) -> None:
        """The metrics of an epoch are final: change the run here."""

    def on_epoch_report(self, event: events.EpochReport) -> None:
        """All that callbacks do on EpochEnd is done: show and save here."""

    def on_saved(self, event: events.Saved) -> None:
        """A checkpoint is durable."""

    def on_command_answered(self, event: events.CommandAnswered) -> None:
        """A command has been carried out, or refused."""

    def on_fit_error(self, event: events.FitError) -> None:
        """An exception is leaving the fit."""

    def on_fit_end(self, event: events.FitEnd) -> None:
        """The fit is over, also after an exception; the last callback is the first to receive this."""

    def hooks(self, event: type[Event]) -> list[Hook]:
        """Return the listeners to an event, in the order of definition. A fit asks once for each class of events."""
        named = getattr(self, event.hook, None)
        inherited = getattr(named, "__func__", named) is getattr(Callback, event.hook, None)
        found: list[Hook] = [] if named is None or inherited or _subscriptions(named) else [named]
        return found + [each.wrap(getattr(self, name)) for name, each in self._marked if each.event is event]

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the state: the fields with `init=False`, without their underscores.

        Raises:
            TypeError: If such a field has no default and is not set, or a value would be lost that is no field.
        """
        check_state_is_known(self)
        values = {
            f.name: getattr(self, f.name) if hasattr(self, f.name) else _first_value(self, f) for f in _state(self)
        }
        cure = "a field that is no state has metadata=lucid_train.TRANSIENT"
        return {
            name.lstrip("_"): attributed(f"copying {type(self).__name__}.{name}; {cure}", copy.deepcopy, value)
            for name, value in values.items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state that `state_dict` returned.

        Raises:
            ValueError: If entries are missing, unknown or not of their field's type; nothing has changed then.
        """
        cls, named = type(self), {f.name.lstrip("_"): f for f in _state(self)}
        check_entries(f"the state of {cls.__name__}", state, named)
        with suppress(Exception):  # annotations may name what is imported for type checkers only
            attrs.resolve_types(cls)
            named = {f.name.lstrip("_"): f for f in _state(self)}
        for name, value in state.items():
            kind = named[name].type
            if not (value is None and named[name].default is None) and not is_of_kind(kind, value):
                wanted = kind.__name__ if isinstance(kind, type) else kind
                raise ValueError(f"'{cls.__name__}.{named[name].name}' must be of its type, {wanted}: {value!r:.80}")
        for name, value in state.items():
            setattr(self, named[name].name, copy.deepcopy(value))

    def settings(self) -> dict[str, Any]:
        """Return the settings as plain JSON, to be saved in a checkpoint and compared by a run that resumes from it.

        A value that JSON lacks is described by its class. Leave out what does not change the training.
        """
        fields = [f for f in attrs.fields(type(self)) if f.init and not f.metadata.get("transient", False)]
        return {f.name: plain_settings(getattr(self, f.name)) for f in fields if not f.name.startswith("_")}

    def measured_in(self) -> Literal["epoch", "step"] | None:
        """Return in what the run's length is counted, if it changes what this callback does; its setting "length"."""
        return None

    def resume(self, state: dict[str, Any], *, accepted: bool) -> None:
        """Load the state in a checkpoint, before FitStart.

        Args:
            state: What `state_dict` returned.
            accepted: Whether the settings differ from those in the checkpoint and the user has accepted that: the ones
                here count.
        """
        self.load_state_dict(state)

    def checkpoints(self) -> str | os.PathLike[str] | None:
        """Return the directory in which this callback keeps checkpoints of the run, or None if it keeps none."""
        return None

    def monitored(self) -> Monitor | None:
        """Return the metric by which this callback judges the run, or None if there is none."""
        return None

    def epoch_metrics(self) -> Mapping[str, float]:
        """Return metrics that this callback adds to those of an epoch's steps, once all its steps are done.

        They come before the evaluation, and again in a run that is interrupted in it, and reach EpochEnd, the history
        and all that record or show an epoch. In a run of several processes all give the same names, and the mean of
        their numbers counts; `run.exchange` may be used here.
        """
        return {}

    def schedules(self) -> tuple[Scheduled, ...]:
        """Return what this callback schedules, for the plan, the log and the display; nothing by default."""
        return ()

    def during_evaluation(self, event: events.EvaluateStart) -> AbstractContextManager[object]:
        """Return what holds while `evaluate` runs, and ends with it, also when it raises; nothing by default.

        It is entered after all callbacks have received EvaluateStart, in list order, and left before any receives
        EvaluateEnd. A run that is interrupted meanwhile is saved, and evaluated again when it goes on: what is not
        undone at the end must not be done twice. Write it with `contextlib.contextmanager`.
        """
        return nullcontext()

    def handle_command(self, command: Command) -> Answer | None:
        """Do a command's part that is this callback's, if it has one; see `Run.command`.

        It is called at a safe point for "save" and "set"; "stop" and "evaluate" are the Trainer's. In a run of several
        processes it is called on all of them, and not for a callback that runs on the first alone.

        Returns:
            What was done, in words; or a function that returns them, called when what was asked for at this safe point
            has been done; None if it has no part in the command.

        Raises:
            ValueError: If it cannot be done, saying why. Nothing has changed then.
        """
        return None

    def describe(self) -> Mapping[str, str]:
        """Return what a person wants to know of this callback before the run begins, in words, by labels.

        A display's header shows it: {"stopping": "after 5 epochs without a better val_loss"}. The texts of several
        callbacks under one label are joined.
        """
        return {}

    def reset(self) -> None:
        """Set the state back to what it was before the first fit.

        Raises:
            TypeError: If a field with `init=False` has no default, or a value would remain that is no field.
        """
        check_state_is_known(self)
        values = {f.name: _first_value(self, f) for f in _state(self)}
        for name, value in values.items():
            setattr(self, name, value)

    def __getstate__(self) -> dict[str, Any]:
        found: Any = object.__getstate__(self)
        parts = found if isinstance(found, tuple) else (found,)  # the attributes in __dict__ and those in slots
        transient = {f.name for f in _state(self, transient=True)}
        return {name: value for part in parts for name, value in (part or {}).items() if name not in transient}

    def __setstate__(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)
        for attribute in _state(self, transient=True):
            if attribute.default is not attrs.NOTHING:
                object.__setattr__(self, attribute.name, _first_value(self, attribute))


def _listener(instance: object, attribute: Any, function: Any) -> None:
    if not callable(function):
        raise TypeError(f"a listener must be a function of the event: {function!r}")
    check_call(getattr(function, "__name__", repr(function)), function, _ONE_EVENT)


@define(eq=False)
class FunctionListener(Callback):
    """A function that listens, as `Trainer.on` adds it; one that cannot be called with an event is refused."""

    subscription: Subscription[Any]
    function: Hook = field(validator=_listener)

    @property
    def __name__(self) -> str:
        return hook_name(self.function)

    def hooks(self, event: type[Event]) -> list[Hook]:
        return [self.subscription.wrap(self.function)] if event is self.subscription.event else []


@define(eq=False)
class FirstListener(FunctionListener):
    """A function that listens in the first process of a run alone."""

    ranks: ClassVar[Ranks] = "first"


def check_state_is_known(callback: Callback) -> None:
    """Refuse a callback that keeps a value which attrs does not know: it is not saved, and a resumed run loses it.

    A callback whose class has both `state_dict` and `load_state_dict` of its own is trusted with its state.

    Raises:
        TypeError: Naming the value and the cure.
    """
    cls = type(callback)
    if cls.state_dict is not Callback.state_dict and cls.load_state_dict is not Callback.load_state_dict:
        return
    saved = [f.name.lstrip("_") for f in _state(callback)]
    for name in saved:
        if saved.count(name) > 1:
            raise TypeError(f"{cls.__name__}.{name} and {cls.__name__}._{name} must not both be state, under one name")
    for name, base in unknown_values(callback):
        cure = "declare it in a class decorated with @define(eq=False), with init=False if it is state"
        if base is not None and "__attrs_attrs__" in vars(base):
            cure = f"annotate every field of {base.__name__}"  # one that is not makes attrs ignore all annotations
        elif base is not None:
            instead = " instead of @dataclass" if "__dataclass_fields__" in vars(base) else ""
            cure = f"decorate {base.__name__} with @define(eq=False){instead}"
        raise TypeError(f"{cls.__name__}.{name} is no attrs field, so a resumed run would lose it: {cure}")


def _state(callback: Callback, *, transient: bool = False) -> list[attrs.Attribute[Any]]:
    """Return the state fields, or the transient ones."""
    fields = [f for f in attrs.fields(type(callback)) if not f.init]
    return [f for f in fields if bool(f.metadata.get("transient", False)) is transient]


def _first_value(callback: Callback, attribute: attrs.Attribute[Any]) -> Any:
    default: Any = attribute.default
    if default is attrs.NOTHING:
        name = f"{type(callback).__name__}.{attribute.name}"
        raise TypeError(f"{name} must have a default, as a field with init=False")
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class, typed as a function
        return default.factory(callback) if default.takes_self else default.factory()
    return default
