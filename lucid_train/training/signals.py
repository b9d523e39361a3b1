"""Signals during a fit: one handler per signal, shared by all that interrupt a run or clean up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from time import monotonic
from types import FrameType
from typing import Any, Literal, cast

from attrs import define, field

from lucid_train.training.run import Run

# Seconds between two signals of which the second is no copy of the first: two Ctrl-C of one person, and others.
_APART_KEYS, _APART = 0.1, 0.5


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
    """Interrupts a run after the current step when a signal arrives.

    Ctrl-C leaves `fit` as a KeyboardInterrupt, another signal as SystemExit(128 + its number), the exit code that a
    shell reports for a process that the signal ended. A second Ctrl-C does not wait for the step. Another second
    signal waits neither for a batch nor for an evaluation, but lets a step finish. One that follows within half a
    second, or a tenth for Ctrl-C, is taken for a copy of the first, which a launcher has forwarded. A
    handler that was installed before is called as well; a signal that is ignored stays ignored.

    Args:
        run: The run to interrupt.
        signals: The signals to catch.

    Attributes:
        caught: What leaves `fit` because of the first signal, or None if none has arrived.
    """

    run: Run
    signals: Iterable[signal.Signals]
    _registrations: ExitStack = field(factory=ExitStack, init=False)
    caught: BaseException | None = field(default=None, init=False)
    _caught_at: float = field(default=0.0, init=False)

    def catch(self) -> None:
        """Begin to catch the signals; outside the main thread, where Python sets no handlers, do nothing."""
        for number in dict.fromkeys(self.signals):
            self._registrations.enter_context(_registered(number, self))

    def release(self) -> None:
        """Catch no more signals."""
        self._registrations.close()

    def interrupt(self, number: int) -> None:
        """Interrupt the run; the handler of the signal calls this."""
        keyboard = number == signal.SIGINT
        if self.caught is None:
            self.caught, self._caught_at = KeyboardInterrupt() if keyboard else SystemExit(128 + number), monotonic()
            by = "Ctrl-C" if keyboard else signal.Signals(number).name
            self.run.interrupt(self.caught, f"interrupted by {by}")
        elif monotonic() - self._caught_at < (_APART_KEYS if keyboard else _APART):
            return
        elif keyboard:
            self.run.insist()
            raise KeyboardInterrupt
        elif self.run.is_repeatable:
            raise self.caught


def cleanup_at(name: Literal["SIGTERM", "SIGTSTP"], cleanup: Callable[[], None]) -> ExitStack:
    """Call `cleanup` before SIGTERM ends the process, or Ctrl-Z suspends it, until what is returned is closed.

    It is not called where the signal interrupts a run or has a handler, or there is no such signal.
    """
    number = getattr(signal, name, None)
    return ExitStack() if number is None else _registered(number, cleanup)


def hold_child_errors(hold: Callable[[BaseException], bool], stack: ExitStack) -> None:
    """Let a function decide on each error of the present handler of SIGCHLD, until the stack is closed.

    Args:
        hold: Returns whether it holds the error back; otherwise it is raised, wherever the program is.
        stack: Puts the handler back.
    """
    number = getattr(signal, "SIGCHLD", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        return
    current: Any = signal.getsignal(number)
    if callable(current) and not (isinstance(current, _ChildHandler) and current.hold == hold):
        handler = _ChildHandler(current, hold)
        signal.signal(number, handler)
        stack.callback(handler.remove)


@define(eq=False, repr=False)  # `signal.getsignal` takes the repr of each handler
class _ChildHandler:
    """A handler of SIGCHLD that calls the one before, whose errors may be held back.

    Other code may go on to call it after it was removed; then it is the one before.
    """

    previous: Callable[[int, FrameType | None], object]
    hold: Callable[[BaseException], bool] | None
    process: int = field(factory=os.getpid, init=False)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        try:
            self.previous(number, frame)
        except Exception as error:
            if self.hold is None or self.process != os.getpid() or not self.hold(error):
                raise

    def remove(self) -> None:
        """Give the signal back to the handler before, unless other code has set one since."""
        self.hold = None
        if cast("object", signal.getsignal(signal.SIGCHLD)) is self:
            signal.signal(signal.SIGCHLD, self.previous)


@define(eq=False, repr=False)
class _Handler:
    """The handler of one signal for all who register, so that the order in which they do so does not matter.

    The signal interrupts the runs of the catchers. Where there are none, and no handler was installed before, the
    cleanups run, the latest first, and the process ends, or is suspended until it continues here.
    """

    number: int
    previous: Any
    registered: list[SignalCatcher | Callable[[], None]] = field(factory=list, init=False)
    process: int = field(factory=os.getpid, init=False)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        catchers = [each for each in reversed(self.registered) if isinstance(each, SignalCatcher)]
        cleanups = [each for each in reversed(self.registered) if not isinstance(each, SignalCatcher)]
        if self.process != os.getpid():  # this process was forked
            if catchers and number == signal.SIGINT:
                return  # Ctrl-C reaches every process of the terminal, and the current step still needs its workers
            catchers, cleanups = [], []
        for catcher in catchers:
            catcher.interrupt(number)
        if callable(self.previous):
            # Interrupting the run replaces the KeyboardInterrupt that Python itself would raise here.
            if not (catchers and self.previous is signal.default_int_handler):
                self.previous(number, frame)
        elif not catchers and self.is_installed:  # else whoever called this handler decides
            try:
                for cleanup in cleanups:
                    cleanup()
            finally:
                signal.signal(number, self.previous)
                signal.raise_signal(number)
                if self.registered:  # it was suspended, and may be once more
                    signal.signal(number, self)

    @property
    def is_installed(self) -> bool:
        """Whether the signal is handled here, not by a handler that other code has set since."""
        return signal.getsignal(self.number) is self

    def remove(self, entry: SignalCatcher | Callable[[], None]) -> None:
        """Forget who has registered; the last one gives the signal back to the handler before."""
        self.registered.remove(entry)
        if not self.registered and self.is_installed:
            signal.signal(self.number, self.previous)


def _registered(number: int, entry: SignalCatcher | Callable[[], None]) -> ExitStack:
    """Register a catcher or a cleanup until the stack is closed; where no handler can or should be set, do nothing."""
    stack = ExitStack()
    handler = _handler(number) if threading.current_thread() is threading.main_thread() else None
    if handler is not None:
        handler.registered.append(entry)
        stack.callback(handler.remove, entry)
    return stack


def _handler(number: int) -> _Handler | None:
    """Return our handler of a signal, which is installed if need be, or None if the signal must be left alone."""
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
