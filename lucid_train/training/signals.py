"""Signals during a fit: one handler per signal, shared by all that interrupt a run or clean up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from attrs import define, field

from lucid_train.training.run import Run


def signal_named(name: str, value: Any) -> signal.Signals:
    """Return the signal called `value`, such as "SIGTERM", for the argument `name`.

    Raises:
        ValueError: If there is no such signal on this system, or it cannot be caught.
    """
    known = [each.name for each in signal.Signals if each.name not in ("SIGKILL", "SIGSTOP")]
    if value not in known:
        raise ValueError(f"{name!r} must name signals that can be caught here, such as 'SIGTERM': {value!r}")
    return signal.Signals[value]


@define(eq=False)
class SignalCatcher:
    """Interrupts a run when a signal arrives, after the step in hand.

    Ctrl-C leaves `fit` as a KeyboardInterrupt, another signal as SystemExit(128 + its number), the exit code that a
    shell reports for a process that the signal ended. A second Ctrl-C ends the step at once. A handler that was
    installed before is called as well; a signal that is ignored stays ignored.

    Args:
        run: The run to interrupt.
        signals: The signals to catch.

    Attributes:
        caught: What leaves `fit` because of the first signal, or None if none has arrived.
    """

    _run: Run
    _signals: Iterable[signal.Signals]
    _handlers: list[_Handler] = field(factory=list, init=False)
    caught: BaseException | None = field(default=None, init=False)

    def catch(self) -> None:
        """Begin to catch the signals; outside the main thread, where Python sets no handlers, do nothing."""
        for number in dict.fromkeys(self._signals):
            if (handler := _installed(number)) is not None:
                handler.catchers.append(self)
                self._handlers.append(handler)

    def release(self) -> None:
        """Catch no more signals."""
        while self._handlers:
            handler = self._handlers.pop()
            handler.catchers.remove(self)
            handler.uninstall_if_unused()

    def interrupt(self, number: int) -> None:
        """Interrupt the run; the handler of the signal calls this."""
        keyboard = number == signal.SIGINT
        if self.caught is None:
            self.caught = KeyboardInterrupt() if keyboard else SystemExit(128 + number)
            by = "the keyboard" if keyboard else signal.Signals(number).name
            self._run.interrupt(self.caught, f"interrupted by {by}")
        elif keyboard:
            raise KeyboardInterrupt


@contextmanager
def cleanup_at_sigterm(cleanup: Callable[[], None]) -> Iterator[None]:
    """Call `cleanup` before SIGTERM ends the process; not where the signal interrupts a run or has a handler."""
    handler = _installed(signal.SIGTERM)
    if handler is None:
        yield
        return
    handler.cleanups.append(cleanup)
    try:
        yield
    finally:
        handler.cleanups.remove(cleanup)
        handler.uninstall_if_unused()


@define(eq=False)
class _Handler:
    """The handler of one signal for all who register, so that the order in which they do so does not matter.

    The signal interrupts the runs of the catchers. Where there are none, and no handler was installed before, the
    cleanups run, the latest first, and the process ends.
    """

    number: int
    previous: Any
    catchers: list[SignalCatcher] = field(factory=list, init=False)
    cleanups: list[Callable[[], None]] = field(factory=list, init=False)
    process: int = field(factory=os.getpid, init=False)

    @property
    def installed(self) -> bool:
        """Whether it is called when the signal arrives, rather than by a handler that somebody has set since."""
        return signal.getsignal(self.number) is self

    def __call__(self, number: int, frame: FrameType | None) -> None:
        forked = self.process != os.getpid()
        if forked and self.catchers and number == signal.SIGINT:
            return  # Ctrl-C reaches every process of the terminal, and the step in hand still needs its workers
        catchers, cleanups = ([], []) if forked else (self.catchers[::-1], self.cleanups[::-1])
        for catcher in catchers:
            catcher.interrupt(number)
        if callable(self.previous):
            # Interrupting the run replaces the KeyboardInterrupt that Python itself would raise here.
            if not (catchers and self.previous is signal.default_int_handler):
                self.previous(number, frame)
        elif not catchers and self.installed:  # else whoever called this handler decides
            try:
                for cleanup in cleanups:
                    cleanup()
            finally:
                signal.signal(number, self.previous)
                signal.raise_signal(number)

    def uninstall_if_unused(self) -> None:
        """Put back the previous handler once nobody is registered, unless somebody has set another one since."""
        if not (self.catchers or self.cleanups) and self.installed:
            signal.signal(self.number, self.previous)


def _installed(number: int) -> _Handler | None:
    """Return our handler of a signal, installing it if need be; None where no handler can be set or none should be."""
    if threading.current_thread() is not threading.main_thread():
        return None
    current: Any = signal.getsignal(number)
    if isinstance(current, _Handler):
        if current.process == os.getpid():
            return current
        current = current.previous  # this process was forked, and has its parent's handler
    # None is a handler that was not set from Python and could not be put back.
    if current is None or current is signal.SIG_IGN:
        return None
    handler = _Handler(number, current)
    signal.signal(number, handler)
    return handler
