"""Fit: one call of `Trainer.fit`, from its first event to its last."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from attrs import define, field

from lucid_train.description import add_note, error_text
from lucid_train.events import FitEnd, FitError, FitStart, Status
from lucid_train.training.run import Control, Run


@define(eq=False)
class Fit(Control):
    """One fit: how it begins, what is done at its safe points, and how it ends.

    It is a context manager. On leaving it, every callback that has received FitStart receives FitEnd, and before it
    FitError if an exception is leaving as well, the last callback first.

    Args:
        run: The run.
        can_be_saved: Returns whether the run can be saved now, if all callbacks have received the same events.

    Attributes:
        began: perf_counter() when the open epoch would have begun, had it been trained without a break.
    """

    run: Run
    can_be_saved: Callable[[], bool] = lambda: True
    began: float = field(default=0.0, init=False)

    def __enter__(self) -> Fit:
        self.run._fit = self
        self.set_status("running", None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        run = self.run
        try:
            notes = [] if error is None else map(str, getattr(error, "__notes__", ()))
            if error is not None and run.epoch and not any(note.startswith("raised by ") for note in notes):
                add_note(error, f"raised in epoch {run.epoch} after step {run.step}")  # by step, data or evaluate
            failure = self.close(error)
            if failure is not None:
                self.conclude(failure)
                try:
                    raise failure
                finally:
                    del failure
            if error is None:
                self.safe_point()
        finally:
            self.leave()

    def open(self) -> None:
        """Let every callback receive FitStart."""
        self.dispatcher.open(FitStart(self.run))

    def safe_point(self) -> None:
        """Call what was deferred until the run can be saved, if it can."""
        if not self.can_be_saved():
            return
        # In this order, as a signal may ask for a stop at any moment: its flag must not be lost.
        self.attention = False
        if self.stopping:
            self.attention = True
        while self.deferred:
            self.deferred.pop(0)()

    def finish(self) -> None:
        """Call what was deferred until the loop is over, and raise what interrupted it."""
        for function in self.endings:
            function()
        self.safe_point()
        if self.interruption is not None:
            raise self.interruption

    def close(self, error: BaseException | None = None) -> BaseException | None:
        """Let callbacks receive the last events; return an exception of theirs if there has been none before."""
        self.conclude(error)
        run, end = self.run, FitEnd(self.run, status=self.run.status, reason=self.run.reason, history=self.run.history)
        # No local name may hold an exception or FitError: frames of its traceback would then keep it alive.
        return self.dispatcher.close([end] if error is None else [FitError(run, error=error), end], error)

    def conclude(self, error: BaseException | None = None) -> None:
        """Set the status with which the fit has ended, given the exception that is leaving it, if one is."""
        if error is not None and error is self.interruption:
            self.set_status("interrupted", self.run.reason)
        elif isinstance(error, KeyboardInterrupt):
            self.set_status("interrupted", "interrupted by the keyboard")
        elif error is not None:
            self.set_status("failed", error_text(error))
        elif self.stopping and len(self.run.history) < self.run.epochs:
            self.set_status("stopped", self.run.reason)
        else:  # a stop that came with the last epoch has stopped nothing
            self.set_status("completed", None)

    def set_status(self, status: Status, reason: str | None) -> None:
        """Set the status, of the run and of its history."""
        self.run.status = self.run.history.status = status
        self.run.reason = self.run.history.reason = reason

    def leave(self) -> None:
        """Separate the run from this fit."""
        self.run._fit = self.interruption = None
