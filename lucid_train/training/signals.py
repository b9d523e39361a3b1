"""Signals that ask for an end: the step in hand finishes, and what is to be done at the end is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from attrs import define, field

from lucid_train.training.run import Run


def signal_named(name: str, value: Any) -> signal.Signals:
    """Return the signal of a name such as "SIGTERM".

    Raises:
        ValueError: If there is none here, or it cannot be caught.
    """
    known = [each.name for each in signal.Signals if each.name not in ("SIGKILL", "SIGSTOP")]
    if value not in known:
        raise ValueError(f"{name!r} must name signals that can be caught here, such as 'SIGTERM': {value!r}")
    return signal.Signals[value]


@define(eq=False)
class SignalCatcher:
    """Interrupts a run when a signal comes, and hands it on to the handler that was there before.

    Ctrl-C leaves `fit` as a KeyboardInterrupt, another signal as SystemExit with the exit code that a shell gives to
    a process that it ended, 128 and the signal's number. A second Ctrl-C ends at once. A signal that is ignored stays
    so.

    Args:
        run: The run to interrupt.
        signals: The signals to catch.
    """

    _run: Run
    _signals: Iterable[signal.Signals]
    _previous: dict[int, Any] = field(factory=dict, init=False)
    caught: BaseException | None = field(default=None, init=False)

    def catch(self) -> None:
        """Begin; in another thread than the main one, where Python sets no handlers, nothing happens."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in self._signals:
            previous = signal.getsignal(number)
            # None is a handler that was not set from Python and could not be put back.
            if previous is not None and previous is not signal.SIG_IGN:
                self._previous[number] = previous
                signal.signal(number, self._handler)

    def release(self) -> None:
        """Put back the handlers that were there before, unless somebody has set another one since."""
        for number, previous in self._previous.items():
            if signal.getsignal(number) == self._handler:
                signal.signal(number, previous)
        self._previous.clear()

    def _handler(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        keyboard = number == signal.SIGINT
        if self.caught is not None and keyboard:
            raise KeyboardInterrupt
        if self.caught is None:
            self.caught = KeyboardInterrupt() if keyboard else SystemExit(128 + number)
            self._run.interrupt(self.caught, "interrupted by the keyboard" if keyboard else f"interrupted by {name}")
        previous: Callable[[int, FrameType | None], Any] | Any = self._previous.get(number)
        if callable(previous) and previous is not signal.default_int_handler:
            previous(number, frame)
