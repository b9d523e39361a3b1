"""A thread that writes one checkpoint while training continues."""

from __future__ import annotations

import threading
from collections.abc import Callable

from attrs import define, field


@define(eq=False)
class Writer:
    """Runs one job at a time in a thread, and raises the job's error in the thread that waits for it.

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
        """Whether the last job is still running."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, job: Callable[[], object]) -> None:
        """Wait for the previous job and start this one.

        Raises:
            BaseException: What the previous job raised; this one is not started then.
        """
        self.wait()

        def run() -> None:
            try:
                job()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=run, name="lucid-train-checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait for the running job, if there is one.

        Raises:
            BaseException: What the job raised. It is raised once.
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
