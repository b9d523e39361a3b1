"""A thread that writes one checkpoint while training continues."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

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

    _thread: Thread | None = field(default=None, init=False)
    _error: BaseException | None = field(default=None, init=False)

    @property
    def busy(self) -> bool:
        """Whether the last job is still running."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, job: Callable[[], object]) -> None:
        """Wait for the previous job and start this one.

        Raises:
            BaseException: What the previous job raised; this one is not started then.
            RuntimeError: If the system starts no more threads.
        """
        self.wait()

        def run() -> None:
            try:
                job()
            except BaseException as error:
                self._error = error

        # No executor, which refuses to work in a thread that outlives the main one.
        thread = Thread(target=run, name="lucid-train-checkpoint")
        thread.start()
        self._thread = thread

    def wait(self) -> None:
        """Wait for the running job, if there is one.

        Raises:
            BaseException: What the job raised. It is raised once.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback holds this frame
