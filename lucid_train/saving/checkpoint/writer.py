"""A thread that writes one checkpoint while training goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from attrs import define, field


@define(eq=False)
class Writer:
    """Does one piece of work at a time in a thread, and hands on what it raised.

    >>> writer, written = Writer(), []
    >>> writer.begin(lambda: written.append("whole"))
    >>> writer.wait()
    >>> written
    ['whole']
    """

    _thread: threading.Thread | None = field(default=None, init=False)
    _error: BaseException | None = field(default=None, init=False)

    @property
    def busy(self) -> bool:
        """Whether the last piece of work is not done yet."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, work: Callable[[], object]) -> None:
        """Start a piece of work, once the one before is done.

        Raises:
            BaseException: What the one before raised; this one is not started then.
        """
        self.wait()

        def run() -> None:
            try:
                work()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=run, name="lucid-train-checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait for the work in hand, if any.

        Raises:
            BaseException: What it raised, once.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error
