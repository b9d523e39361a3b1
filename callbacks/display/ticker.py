"""A thread that calls a function at intervals, and the lock under which the display draws."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from queue import Empty, SimpleQueue


class Ticker:
    """Calls a function once per interval, in a thread of its own.

    Args:
        interval: Seconds between two calls, and before the first.
        tick: The function; it must not raise. True is its last call.
    """

    def __init__(self, interval: float, tick: Callable[[], object]) -> None:
        self._interval = interval
        self._tick = tick
        self._stopped = False
        # Wakes the thread. A signal may interrupt `stop` and call it again: a threading.Event would wait for itself.
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """Whether the function is being called."""
        return self._thread is not None and not self._stopped

    def start(self) -> None:
        """Start the thread; where the system allows no more threads, do nothing."""
        thread = threading.Thread(target=self._run, name="lucid_train ticker", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return
        self._thread = thread

    def stop(self) -> None:
        """Stop the thread, and wait for it to end."""
        self._stopped = True
        self._wakes.put(None)
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            # With a timeout: at SIGTERM the thread may wait for a lock that the interrupted code holds.
            thread.join(timeout=2)
        self._tick = int  # releases what the function refers to

    def _run(self) -> None:
        while not self._stopped:
            with suppress(Empty):
                self._wakes.get(timeout=self._interval)
                return
            if self._tick() is True:
                return


@cache
def drawing_lock() -> threading.RLock:
    """Return the lock that a thread holds while it draws on any terminal.

    It is held whenever this process forks, as the workers of a DataLoader make it do: a child that found it taken would
    wait for it forever.
    """
    lock = threading.RLock()
    if hasattr(os, "register_at_fork"):  # what is registered cannot be removed again
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
