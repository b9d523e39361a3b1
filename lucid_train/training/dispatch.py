"""Who receives an event: looked up once per fit, called in list order."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import Any

from attrs import define, field

from lucid_train.callback import Callback, FunctionListener, Hook
from lucid_train.description import add_note, attributed, class_labels, hook_name
from lucid_train.events import Event


@define(eq=False)
class Dispatcher:
    """The listeners of one fit.

    Callbacks receive an event in list order: each sees the effects of those before it. Nothing is re-sorted, and no
    exception is swallowed.

    Args:
        callbacks: The callbacks.

    Attributes:
        seconds: Seconds by "Callback.hook" while they are measured, else None.
    """

    callbacks: tuple[Callback, ...]
    seconds: dict[str, float] | None = field(default=None, init=False)
    _started: int = field(default=0, init=False)
    # The hooks that the callbacks gave for an event, and their names. They are kept apart from those that are called,
    # which may be timed: `every` and `once` count from the moment at which a callback is asked.
    _found: dict[type[Event], list[tuple[str, Hook]]] = field(factory=dict, init=False)
    _hooks: dict[type[Event], list[Hook]] = field(factory=dict, init=False)

    def listeners(self, event: type[Event]) -> list[Hook]:
        """Return the hooks that receive an event, in list order.

        Raises:
            TypeError: If it is no event.
        """
        if event not in self._hooks:
            if not issubclass(event, Event):
                raise TypeError(f"'event' must be an event, an instance of a class derived from Event: {event!r}")
            if event not in self._found:
                self._found[event] = list(self._named_hooks(event))
            seconds = self.seconds
            self._hooks[event] = [
                hook if seconds is None else _timed(hook, name, seconds) for name, hook in self._found[event]
            ]
        return self._hooks[event]

    def measure(self) -> None:
        """Measure how long each hook takes, from the next epoch on; without this call nothing is timed."""
        if self.seconds is None:
            self.seconds = {}
            self._hooks.clear()

    def _named_hooks(self, event: type[Event]) -> Iterator[tuple[str, Hook]]:
        for callback, label in zip(self.callbacks, class_labels(self.callbacks), strict=True):
            for hook in _hooks_of(callback, event):
                yield label if isinstance(callback, FunctionListener) else hook_name(hook, owner=label), hook

    def open(self, event: Event) -> None:
        """Emit the first event of a fit, counting the callbacks that have started in case one of them fails."""
        for callback in self.callbacks:
            self._started += 1
            call(_hooks_of(callback, type(event)), event)

    def emit(self, event: Event) -> None:
        """Emit an event to all listeners."""
        call(self.listeners(type(event)), event)

    def close(self, events: Iterable[Event], error: BaseException | None = None) -> BaseException | None:
        """Emit the last events to all callbacks that have started, the last one first, even if some of them fail.

        Their exceptions are attached to `error` as notes. Without an `error`, the first of them takes its place and is
        returned, to be raised by the caller.
        """
        # A traceback must not hold this frame, which holds the exception: only the collector could free it then.
        first, origin = error, None if error is None else error.__traceback__
        try:
            for event in events:
                for callback in reversed(self.callbacks[: self._started]):
                    try:
                        call(_hooks_of(callback, type(event)), event)
                    except BaseException as failure:
                        if first is None:
                            first = failure
                        elif failure is error:  # a hook of FitError has raised it again
                            failure.__traceback__ = origin
                        elif failure is not first:
                            _attach(failure, first)
            return first if error is None else None
        finally:
            del first, error


def call(hooks: list[Hook], event: Event) -> None:
    """Call each hook with the event; an exception keeps its type and gets a note that names the hook."""
    hook: Any = None
    try:
        for hook in hooks:
            hook(event)
    except BaseException as error:
        add_note(error, f"raised by {hook_name(hook)} on {_occasion(event)}")
        raise


def _hooks_of(callback: Callback, event: type[Event]) -> list[Hook]:
    return attributed(f"{type(callback).__name__}.hooks for {event.__name__}", callback.hooks, event)


def _attach(failure: BaseException, error: BaseException) -> None:
    if failure.__context__ is error:
        failure.__context__ = None  # the note is attached to it already
    lines = "".join(traceback.format_exception(failure)).rstrip()
    add_note(error, f"while closing, another exception was raised:\n{lines}")


def _timed(hook: Hook, name: str, seconds: dict[str, float]) -> Hook:
    seconds.setdefault(name, 0.0)  # one method may receive several events

    def timed(event: Event) -> None:
        began = perf_counter()
        try:
            hook(event)
        finally:
            seconds[name] += perf_counter() - began

    timed.__wrapped__ = hook  # type: ignore[attr-defined]  # as functools.wraps does, for the hook's name
    return timed


def _occasion(event: Event) -> str:
    """Return the event's name and its place in the run, as "StepEnd in epoch 1, step 3"."""
    run: Any = event.run
    name = type(event).__name__
    if run is None or not run.epoch:
        return name
    step = getattr(event, "step", run.step)
    return f"{name} in epoch {run.epoch}" + (f", step {step}" if step else "")
