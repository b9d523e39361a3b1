"""A thread that writes one checkpoint while training continues."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

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

    _job: Future[object] | None = field(default=None, init=False)

    @property
    def busy(self) -> bool:
        """Whether the last job is still running."""
        return self._job is not None and not self._job.done()

    def begin(self, job: Callable[[], object]) -> None:
        """Wait for the previous job and start this one.

        Raises:
            BaseException: What the previous job raised; this one is not started then.
        """
        self.wait()
        thread = ThreadPoolExecutor(1, thread_name_prefix="lucid-train-checkpoint")
        self._job = thread.submit(job)
        thread.shutdown(wait=False)  # the thread ends with its one job

    def wait(self) -> None:
        """Wait for the running job, if there is one.

        Raises:
            BaseException: What the job raised. It is raised once.
        """
        if self._job is not None:
            wait([self._job])
            try:
                self._job.result()
            finally:
                self._job = None  # a name of its own here would keep the error, and with it the state, in a cycle
