"""Who listens to what, worked out once per fit, and the order in which they hear it."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from contextlib import suppress
from time import perf_counter
from typing import Any

from lucid_train.callback import Callback, Hook
from lucid_train.events import Event


class Dispatcher:
    """The listeners of one fit.

    Callbacks hear an event in list order: each sees the effects of those before it. Nothing is re-sorted, and no
    exception is swallowed.
    """

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self.callbacks = tuple(callbacks)
        # Seconds by "Callback.hook", while they are measured; two callbacks of one class are told apart by number.
        self.seconds: dict[str, float] | None = None
        self._started = 0
        # What the callbacks gave for each event, asked for once: counts of `every` and `once` live as long as the fit.
        self._found: dict[type[Event], list[tuple[Callback, Hook]]] = {}
        self._hooks: dict[type[Event], list[Hook]] = {}

    def listeners(self, event: type[Event]) -> list[Hook]:
        """Return all that hear an event, in list order; empty if nobody does.

        Raises:
            TypeError: If it is no event.
        """
        if event not in self._hooks:
            if not issubclass(event, Event):
                raise TypeError(f"'event' must be an event, an instance of a class derived from Event: {event!r}")
            if event not in self._found:
                self._found[event] = [
                    (callback, hook) for callback in self.callbacks for hook in _asked(callback, event)
                ]
            self._hooks[event] = [
                hook if self.seconds is None else _timed(hook, f"{self._label(callback)}.{_name(hook)}", self.seconds)
                for callback, hook in self._found[event]
            ]
        return self._hooks[event]

    def measure(self) -> None:
        """Measure from the next epoch on how long each hook takes; whoever does not ask pays nothing."""
        if self.seconds is None:
            self.seconds = {}
            self._hooks.clear()

    def _label(self, callback: Callback) -> str:
        alike = [other for other in self.callbacks if type(other) is type(callback)]
        number = next(index for index, other in enumerate(alike, 1) if other is callback)
        return type(callback).__name__ if len(alike) == 1 else f"{type(callback).__name__}#{number}"

    def open(self, event: Event) -> None:
        """Emit the first event of a fit, and note which callbacks have begun, should one of them fail."""
        for callback in self.callbacks:
            self._started += 1
            call(_asked(callback, type(event)), event)

    def emit(self, event: Event) -> None:
        """Let everybody hear an event."""
        call(self.listeners(type(event)), event)

    def close(self, events: Iterable[Event], error: BaseException | None = None) -> BaseException | None:
        """Let all callbacks that have begun hear the last events, the last one first, whatever any of them does.

        Their own exceptions are attached to `error` as notes. Without an `error`, the first of them takes its place:
        it is returned, to be raised when all have heard.
        """
        first = error
        # A traceback must not hold this frame, which holds the exception: only the collector could free it then.
        origin = None if error is None else error.__traceback__
        try:
            for event in events:
                for callback in reversed(self.callbacks[: self._started]):
                    try:
                        call(_asked(callback, type(event)), event)
                    except BaseException as failure:
                        if first is None:
                            first = failure
                        elif failure is error:  # raised once more by a hook of FitError
                            failure.__traceback__ = origin
                        elif failure is not first:
                            _attach(failure, first)
            return first if error is None else None
        finally:
            del first, error


def _asked(callback: Callback, event: type[Event]) -> list[Hook]:
    try:
        return callback.hooks(event)
    except BaseException as error:
        add_note(error, f"raised by {type(callback).__name__}.hooks for {event.__name__}")
        raise


def call(hooks: list[Hook], event: Event) -> None:
    """Let each hook hear the event; an exception keeps its type and gets a note that names the hook."""
    hook: Any = None
    try:
        for hook in hooks:
            hook(event)
    except BaseException as error:
        add_note(error, f"raised by {_full_name(hook)}{_place(event)}")
        raise


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception, if it is one that can be changed: a frozen dataclass cannot, and leaves as it is."""
    with suppress(Exception):
        error.add_note(note)


def _attach(failure: BaseException, error: BaseException) -> None:
    if failure.__context__ is error:
        failure.__context__ = None  # the note hangs on it already
    lines = "".join(traceback.format_exception(failure)).rstrip()
    add_note(error, f"while closing, another exception was raised:\n{lines}")


def _timed(hook: Hook, name: str, seconds: dict[str, float]) -> Hook:
    seconds[name] = 0.0

    def timed(event: Event) -> None:
        began = perf_counter()
        try:
            hook(event)
        finally:
            seconds[name] += perf_counter() - began

    timed.__wrapped__ = hook  # type: ignore[attr-defined]  # functools.wraps' name, for the note on an exception
    return timed


def _name(hook: Any) -> str:
    while hasattr(hook, "__wrapped__"):
        hook = hook.__wrapped__
    return str(getattr(hook, "__name__", repr(hook)))


def _full_name(hook: Any) -> str:
    while hasattr(hook, "__wrapped__"):
        hook = hook.__wrapped__
    owner = getattr(hook, "__self__", None)
    return _name(hook) if owner is None else f"{type(owner).__name__}.{_name(hook)}"


def _place(event: Event) -> str:
    run: Any = event.run
    if run is None or not run.epoch:
        return f" on {type(event).__name__}"
    step = getattr(event, "step", run.step)
    return f" on {type(event).__name__} in epoch {run.epoch}" + (f", step {step}" if step else "")
