"""Callback, the base of everything that listens to a run, and `on`, which marks a listener."""

from __future__ import annotations

import copy
import copyreg
import difflib
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal, TypeVar

import attrs
from attrs import define

from lucid_train.events import EpochEvent, Event, hook_names
from lucid_train.monitor import Monitor
from lucid_train.validation import check_entries, flag, function, whole_number

Hook = Callable[[Any], object]
F = TypeVar("F", bound=Callable[..., object])

# Metadata of a field that is neither a setting nor state: a thread, a display, an open file. It is not copied.
TRANSIENT = {"transient": True}


@define(frozen=True)
class Scheduled:
    """What a callback schedules: the rates of an optimizer.

    Args:
        schedule: The schedule, or a tuple, list or mapping with one per group; None where the rates are not known
            beforehand: they follow a metric, or a scheduler that is not of this library.
        optimizer: The optimizer, or None for the run's.
        interval: What the schedule counts, "epoch" or "step".
        length: The epochs or steps of the run, where they are not those of the fit.
        at: How many of them are done.
        bases: The base rates, one per group, or None for those of the optimizer's groups.
    """

    schedule: Any = None
    optimizer: Any = None
    interval: Literal["epoch", "step"] = "epoch"
    length: int | None = None
    at: int = 0
    bases: tuple[float, ...] | None = None


@define(frozen=True)
class Listening:
    """Which events a listener hears; made by `on`, which says what the fields mean."""

    event: type[Event]
    every: int = 1
    at: frozenset[int] | None = None
    once: bool = False
    when: Callable[[Any], object] | None = None

    def filtered(self, hook: Hook) -> Hook:
        """Return `hook`, called only for the events that are meant; counting begins anew with each call of this."""
        if self == Listening(self.event):
            return hook
        every, at, once, when = self.every, self.at, self.once, self.when
        emitted = 0
        done = False

        def heard(event: Event) -> None:
            nonlocal emitted, done
            emitted += 1
            count = emitted if event.count is None else event.count
            if done or count % every or (at is not None and count not in at) or (when and not when(event)):
                return
            done = once
            hook(event)

        heard.__wrapped__ = hook  # type: ignore[attr-defined]  # functools.wraps' name, for the note on an exception
        return heard


def on(
    event: type[Event],
    *,
    every: int = 1,
    at: Iterable[int] | int | None = None,
    once: bool = False,
    when: Callable[[Any], object] | None = None,
) -> Callable[[F], F]:
    """Mark a method of a Callback as a listener; its name means nothing then.

    All conditions given must hold. The count of a step event is its step, of an epoch event its epoch; events of your
    own are counted as they are emitted, anew in each fit, unless they define `count`.

    Args:
        event: The event's class.
        every: Hear it when the count is a multiple of this. At least 1.
        at: Hear it at these counts only, each at least 1.
        once: Hear it only the first time in each fit.
        when: Hear it when this function of the event is true.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a count is below 1.

    >>> from lucid_train import StepEnd
    >>> class Heartbeat(Callback):
    ...     @on(StepEnd, every=100)
    ...     def beat(self, event):
    ...         print(f"step {event.step}")
    """
    listening = listening_to(event, every=every, at=at, once=once, when=when)

    def mark(method: F) -> F:
        method.__dict__.setdefault("listens", []).append(listening)
        return method

    return mark


def listening_to(
    event: type[Event],
    *,
    every: int = 1,
    at: Iterable[int] | int | None = None,
    once: bool = False,
    when: Callable[[Any], object] | None = None,
) -> Listening:
    """Return the checked conditions of a listener; the arguments are those of `on`."""
    if not (isinstance(event, type) and issubclass(event, Event)) or event in (Event, EpochEvent):
        raise TypeError(f"'event' must be the class of an event that is emitted, such as StepEnd: {event!r}")
    flag("once", once)
    if when is not None:
        function("when", when)
    if isinstance(at, str) or not (at is None or isinstance(at, (int, Iterable))):
        raise TypeError(f"'at' must be a set of counts: {at!r}")
    counts = None if at is None else [at] if isinstance(at, int) else at
    chosen = None if counts is None else frozenset(whole_number("at", count, least=1) for count in counts)
    return Listening(event, whole_number("every", every, least=1), chosen, once, when)


@define(eq=False)
class Callback:
    """The base of all callbacks: a class whose `on_...` methods hear the events of a run.

    Decorate a subclass with `@define(eq=False)`. Its public fields are settings, shown in the repr. Fields with
    `init=False` are state, which `state_dict` and `load_state_dict` carry; mark those that are neither, a thread or an
    open file, with `metadata=TRANSIENT`. A method `on_x` that is the hook of no event is refused when the class is
    defined.

    >>> from attrs import define, field
    >>> @define(eq=False)
    ... class Count(Callback):
    ...     epochs: int = field(default=0, init=False, repr=False)
    ...
    ...     def on_epoch_end(self, event):
    ...         self.epochs += 1
    """

    # The methods marked with `on` and their conditions, in the order of definition, those of the bases first.
    _marked: ClassVar[tuple[tuple[str, Listening], ...]] = ()

    def __init_subclass__(cls) -> None:
        for name, method in vars(cls).items():
            marked = hasattr(method, "listens")
            if name.startswith("on_") and not marked and name not in hook_names():
                near = difflib.get_close_matches(name, hook_names(), n=1)
                hint = f"did you mean {near[0]}?" if near else f"the hooks are {', '.join(sorted(hook_names()))}"
                raise TypeError(f"{cls.__name__}.{name} is not a hook; {hint}")
            if name.startswith("on_") and method is not None and not callable(getattr(cls, name)):
                raise TypeError(f"{cls.__name__}.{name} must be a method, it is a hook: {method!r}")
            if inspect.isfunction(method) and (name.startswith("on_") or marked):
                _check_signature(f"{cls.__name__}.{name}", method, None, None)
        if getattr(vars(cls).get("__setstate__"), "__module__", "").startswith("attr"):
            # The one that attrs gives a slotted class sets the fields and loses what else a subclass may have.
            del cls.__setstate__
        names = dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base))
        cls._marked = tuple(
            (name, listening) for name in names for listening in getattr(getattr(cls, name, None), "listens", ())
        )

    def hooks(self, event: type[Event]) -> list[Hook]:
        """Return what hears an event here, in the order of definition; asked once per fit for each kind of event."""
        named = getattr(self, event.hook, None)
        found: list[Hook] = [] if named is None or hasattr(named, "listens") else [named]
        marked = [(name, conditions) for name, conditions in self._marked if conditions.event is event]
        return found + [conditions.filtered(getattr(self, name)) for name, conditions in marked]

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the state: the fields with `init=False`, without their underscores.

        Raises:
            TypeError: If such a field has no default and is not set.
        """
        names = _names(self)
        unset = [name for name in names if not hasattr(self, name)]
        if unset:
            raise TypeError(f"{type(self).__name__}.{unset[0]} must have a default, as a field with init=False")
        return {name.lstrip("_"): copy.deepcopy(getattr(self, name)) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state that `state_dict` returned.

        Raises:
            ValueError: If entries are missing or unknown; nothing has changed then.
        """
        names = {name.lstrip("_"): name for name in _names(self)}
        check_entries(f"the state of {type(self).__name__}", state, names)
        for name, value in state.items():
            setattr(self, names[name], copy.deepcopy(value))

    def settings(self) -> dict[str, Any]:
        """Return the settings as plain JSON, as a checkpoint remembers them and a resumed run compares them.

        What is no plain value is described by its class. Leave out what does not change the training.
        """
        fields = [f for f in attrs.fields(type(self)) if f.init and not f.metadata.get("transient", False)]
        return {f.name: described(getattr(self, f.name)) for f in fields if not f.name.startswith("_")}

    def resume(self, state: dict[str, Any], *, accepted: bool) -> None:
        """Take over the state in a checkpoint, before FitStart.

        Args:
            state: What `state_dict` returned.
            accepted: Whether the settings differ from those in the checkpoint, which the user has accepted: those here
                count.
        """
        self.load_state_dict(state)

    def checkpoints(self) -> str | os.PathLike[str] | None:
        """Return the directory in which this callback keeps checkpoints of the run, or None if it keeps none."""
        return None

    def monitored(self) -> Monitor | None:
        """Return the metric by which this callback judges the run, or None if it goes by none."""
        return None

    def schedules(self) -> tuple[Scheduled, ...]:
        """Return what this callback schedules, for the plan, the log and the display; nothing by default."""
        return ()

    def reset(self) -> None:
        """Bring the state back to what it was before the first fit.

        Raises:
            TypeError: If a field with `init=False` has no default.
        """
        values = {name: _default(self, name) for name in _names(self)}
        unknown = [name for name, value in values.items() if value is attrs.NOTHING]
        if unknown:
            raise TypeError(f"{type(self).__name__}.{unknown[0]} must have a default, as a field with init=False")
        for name, value in values.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        # Not __getstate__: attrs gives every slotted class one of its own, which knows nothing of transient fields.
        transient = _names(self, transient=True)
        names = [*(f.name for f in attrs.fields(type(self)) if hasattr(self, f.name)), *getattr(self, "__dict__", ())]
        values = {name: getattr(self, name) for name in names if name not in transient}
        return copyreg.__newobj__, (type(self),), values  # type: ignore[attr-defined]  # missing from typeshed

    def __setstate__(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)
        # Made here, for a lock or a thread can be neither copied nor pickled.
        for name in _names(self, transient=True):
            if (value := _default(self, name)) is not attrs.NOTHING:
                object.__setattr__(self, name, value)


@define(eq=False)
class FunctionListener(Callback):
    """A function that listens, as `Trainer.on` adds it."""

    listening: Listening
    function: Hook

    def hooks(self, event: type[Event]) -> list[Hook]:
        return [self.listening.filtered(self.function)] if event is self.listening.event else []


def collecting(listeners: list[FunctionListener], listening: Listening) -> Callable[[F], F]:
    """Return a decorator that adds a function to `listeners`; one that cannot be called with an event is refused."""

    def add(function: F) -> F:
        check_listener(function)
        listeners.append(FunctionListener(listening, function))
        return function

    return add


def described(value: Any) -> Any:
    """Return a setting as plain JSON; what is no plain value as the name of its class, a function as its own."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (list, tuple)):
        return [described(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((described(item) for item in value), key=repr)
    if isinstance(value, Mapping):
        return {str(name): described(item) for name, item in value.items()}
    named = value if callable(value) and hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def check_listener(function: Any) -> None:
    """Refuse what cannot be called with an event.

    Raises:
        TypeError: If it is no function of one argument, or one whose body a call does not run.
    """
    if not callable(function):
        raise TypeError(f"a listener must be a function of the event: {function!r}")
    _check_signature(getattr(function, "__name__", repr(function)), function, None)


def _check_signature(name: str, function: Callable[..., object], *arguments: None) -> None:
    lazy = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    if any(kind(function) for kind in lazy):
        raise TypeError(f"{name} must be a plain function, neither async nor with yield: its body would never run")
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C do not tell
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        raise TypeError(f"{name} must take one argument, the event: {name}{signature}") from None


def _names(callback: Callback, *, transient: bool = False) -> list[str]:
    """Return the names of the state fields, or of the transient ones."""
    fields = [f for f in attrs.fields(type(callback)) if not f.init]
    return [f.name for f in fields if bool(f.metadata.get("transient", False)) is transient]


def _default(callback: Callback, name: str) -> Any:
    """Return the first value of a field, attrs.NOTHING if it has none."""
    default = getattr(attrs.fields(type(callback)), name).default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class, typed as a function
        return default.factory(callback) if default.takes_self else default.factory()
    return default
