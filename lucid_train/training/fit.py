"""Fit: one call of `Trainer.fit`, from its first event to its last."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from types import TracebackType
from typing import Any

from attrs import define, field

from lucid_train.callback import Callback
from lucid_train.events import FitEnd, FitError, Status
from lucid_train.progress import Progress
from lucid_train.training.dispatch import Dispatcher, add_note
from lucid_train.training.run import Run


@define(eq=False)
class Fit:
    """Who receives the events of one fit, what has been asked of it, and how it ends.

    It is a context manager. On leaving it, every callback that has received FitStart receives FitEnd, and before it
    FitError if an exception is leaving as well, the last callback first.

    Args:
        run: The run.
        progress: What the run has come to.
        dispatcher: The callbacks.
        state_dict: Returns the state of the run; None if it cannot be saved.

    Attributes:
        attention: Whether there is something to do after the step in hand: a stop, or a function for a safe point.
        stopping: Whether the fit is to end.
        claims: The optimizers that callbacks schedule, each with its callback.
        began: perf_counter() when the open epoch would have begun without a break; None while none is being trained.
    """

    run: Run
    progress: Progress
    dispatcher: Dispatcher
    state_dict: Callable[[], dict[str, Any]] | None = None
    attention: bool = field(default=False, init=False)
    stopping: bool = field(default=False, init=False)
    claims: list[tuple[Any, Callback]] = field(factory=list, init=False)
    began: float | None = field(default=None, init=False)
    _deferred: list[Callable[[], object]] = field(factory=list, init=False)
    _endings: list[Callable[[], object]] = field(factory=list, init=False)
    _interruption: BaseException | None = field(default=None, init=False)

    def __enter__(self) -> Fit:
        self.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        run = self.run
        try:
            if error is not None and not any(str(n).startswith("raised by ") for n in getattr(error, "__notes__", ())):
                add_note(error, f"raised in epoch {run.epoch} after step {run.step}")  # by step, data or evaluate
            self.conclude(error)
            # No local name may hold FitError: the traceback's frames would then keep the exception alive.
            failure = self.dispatcher.close(
                [self._end()] if error is None else [FitError(run, error=error), self._end()], error
            )
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

    def stop(self, reason: str) -> None:
        """End after the step in hand; see `Run.stop`."""
        if not self.stopping:
            self.stopping = self.attention = True
            self.run.reason = reason

    def interrupt(self, error: BaseException, reason: str) -> None:
        """Stop, and raise an exception when all else is done; see `Run.interrupt`."""
        self.stop(reason)
        if self._interruption is None:
            self._interruption = error

    def at_safe_point(self, function: Callable[[], object]) -> None:
        """Call a function at the next safe point; see `Run.at_safe_point`."""
        self._deferred.append(function)
        self.attention = True

    def before_end(self, function: Callable[[], object]) -> None:
        """Call a function when the loop is over; see `Run.before_end`."""
        self._endings.append(function)

    def safe_point(self) -> None:
        """Call what has been put off until the run can be saved."""
        self.count_seconds()
        # In this order, as a signal may ask for a stop at any time: the flag must not be lost.
        self.attention = False
        if self.stopping:
            self.attention = True
        while self._deferred:
            self._deferred.pop(0)()

    def finish(self) -> None:
        """Call what has been put off until the loop is over, and raise what interrupted it."""
        for function in self._endings:
            function()
        if self._interruption is not None:
            raise self._interruption

    def conclude(self, error: BaseException | None = None) -> None:
        """Settle how the fit has ended, with the exception that is leaving it, if one is."""
        if error is not None and error is self._interruption:
            self.set_status("interrupted", self.run.reason)
        elif isinstance(error, KeyboardInterrupt):
            self.set_status("interrupted", "interrupted by the keyboard")
        elif error is not None:
            self.set_status("failed", _described(error))
        elif self.stopping and len(self.run.history) < self.run.epochs:
            self.set_status("stopped", self.run.reason)
        else:  # a stop that came with the last epoch has stopped nothing
            self.set_status("completed", None)

    def set_status(self, status: Status, reason: str | None) -> None:
        """Say how the fit stands, in the run and in its history."""
        self.run.status = self.run.history.status = status
        self.run.reason = self.run.history.reason = reason

    def enter(self) -> None:
        """Let the run serve this fit."""
        self.run._fit = self
        self.set_status("running", None)

    def leave(self) -> None:
        """Separate the run from this fit."""
        self.run._fit = self._interruption = None

    def count_seconds(self) -> None:
        """Bring the seconds of the open epoch up to date."""
        if self.began is not None and self.progress.phase != "between":
            self.progress.seconds = perf_counter() - self.began

    def _end(self) -> FitEnd:
        run = self.run
        return FitEnd(run, status=run.status, reason=run.reason, history=run.history)


def _described(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}".rstrip(": ")
    except Exception:  # one whose own __str__ fails must not keep FitError and FitEnd from the callbacks
        return type(error).__name__
