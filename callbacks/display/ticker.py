"""A thread that does something now and then."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Ticker:
    """Calls a function once per interval, in a thread of its own.

    Args:
        interval: Seconds between two calls.
        tick: What to call; it must not raise.
    """

    def __init__(self, interval: float, tick: Callable[[], None]) -> None:
        self._interval = interval
        self._tick = tick
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """Whether it is ticking."""
        return self._thread is not None and not self._done.is_set()

    def start(self) -> None:
        """Begin; where no thread can be had, nothing ticks."""
        thread = threading.Thread(target=self._run, name="lucid_train display", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return
        self._thread = thread

    def stop(self) -> None:
        """End, and wait until the thread has ended."""
        self._done.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            # Not for ever: at SIGTERM the thread may wait for what the interrupted code holds.
            self._thread.join(timeout=2)
        self._thread = None
        self._tick = _nothing

    def _run(self) -> None:
        while not self._done.wait(self._interval):
            self._tick()


def _nothing() -> None:
    pass
