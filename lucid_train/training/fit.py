"""Fit: one call of `Trainer.fit`, from its first event to its last."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from time import sleep
from types import TracebackType
from typing import Any, TypeVar

from attrs import asdict, define, field

from lucid_train.command import Command
from lucid_train.description import add_note, error_text, object_name
from lucid_train.events import FitEnd, FitError, FitStart, Status
from lucid_train.optims.param_groups import versions
from lucid_train.schedules.length import counted
from lucid_train.training.commands import NO_EVALUATION, answer_to, execute
from lucid_train.training.run import Control, Request, Run, Stop, exit_code
from lucid_train.training.signals import hold_child_errors
from lucid_train.training.track import Tracked, current

T = TypeVar("T")
# How often this process looks whether a signal that has ended a worker has reached it too, and seconds between two
# looks. They are counted: by the clock, one that stands still for as long would look no more, and miss the signal.
_LOOKS, _APART = 500, 0.01


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
        unchanged: The optimizers, with the `versions` of their parameters when the fit began, until it is checked that
            the steps change them.
        watched_from: The last step before that.
        updates: How many steps have performed an update in this fit.
        is_ending: Whether the loop is over: commands are carried out no more.
        is_accumulating: Whether the last step has performed no update, as one that accumulates gradients for a later.
        given_up: Whether the interruption has ended what can be done again, so that the fit ends at once.
    """

    run: Run
    can_be_saved: Callable[[], bool] = lambda: True
    began: float = field(default=0.0, init=False)
    unchanged: list[tuple[Any, int]] = field(factory=list, init=False)
    watched_from: int = field(default=0, init=False)
    updates: int = field(default=0, init=False)
    is_ending: bool = field(default=False, init=False)
    is_accumulating: bool = field(default=False, init=False)
    given_up: bool = field(default=False, init=False)
    # Commands that wait for an update, as they save the run.
    _postponed: list[Command] = field(factory=list, init=False)
    _child_error: BaseException | None = field(default=None, init=False)
    _registrations: ExitStack = field(factory=ExitStack, init=False)
    # Where the evaluation of the fit has come to within which this one takes place, if it does.
    _outer: Tracked | None = field(default=None, init=False)

    def __enter__(self) -> Fit:
        self.run._fit = self
        if not self.exchanges.is_alone:
            self.requests.append(Request(self.carry_out, "any"))  # the first on all processes
        self._outer = current.get()
        current.set(self.tracked)
        self.set_status("running", None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        run = self.run
        try:
            if error is not None and error is not self.interruption:
                self.exchanges.fail(error)
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
                self.agree("at its end")
                self.safe_point()
        finally:
            self.leave()

    def open(self) -> None:
        """Let every callback receive FitStart."""
        self.dispatcher.open(FitStart(self.run))

    def watch_parameters(self) -> None:
        """Note how often the parameters of the optimizers have been changed, and after which step that is."""
        self.watched_from = self.run.step
        optimizers = {id(each): each for each in (self.run.optimizer, *(each for each, _, _ in self.claims))}
        noted = [(each, versions(each)) for each in optimizers.values()]
        self.unchanged = [(optimizer, before) for optimizer, before in noted if before is not None]

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Leave out of account what an evaluation changes in the parameters, such as an average that is put in."""
        began = [versions(optimizer) for optimizer, _ in self.unchanged]
        try:
            yield
        finally:
            self.unchanged = [
                (optimizer, before + now - first)
                for (optimizer, before), first in zip(self.unchanged, began, strict=True)
                if first is not None and (now := versions(optimizer)) is not None
            ]

    def check_parameters(self) -> None:
        """Warn of steps that have changed no parameter of an optimizer, once."""
        watched, self.unchanged = self.unchanged, []
        for optimizer, before in watched:
            if versions(optimizer) == before:
                steps = counted(self.run.step - self.watched_from, "step")
                warnings.warn(
                    f"no parameter of the {object_name(optimizer)} has changed in {steps}: a step calls "
                    "loss.backward() and then the step() of this optimizer, which is built on model.parameters()",
                    UserWarning,
                    stacklevel=6,
                )

    # In a run of several processes: what one wants becomes a decision when all know, and take it at the same step.

    def agree(self, place: str) -> None:
        """Exchange what the processes want, and do it."""
        if self.exchanges.is_alone:
            return
        given = self.exchanges.exchange(place, self._wishes)
        asked = [len(each["numbers"]) - 2 for each in given]  # without that of a stop, and that of commands
        if len(set(asked)) > 1:
            raise ValueError(
                f"'run.agreement' must be called equally often on all processes, by a callback that runs on all: "
                f"{asked[:8]} times on each"
            )
        self._grant([max(numbers) for numbers in zip(*(each["numbers"] for each in given), strict=True)], given)

    def vote(self) -> None:
        """Do what the vote before has decided, and post the next, if one is due."""
        if self.exchanges.is_alone or self.stopping or self.run.step < self.exchanges.due:
            return
        if found := self.exchanges.read():
            given = self.exchanges.exchange("going to stop", self._wishes) if found[0] else []
            self._grant(found, given)
        if not self.stopping:
            self.exchanges.post(self.run.step, self._wishes["numbers"])

    @property
    def _wishes(self) -> dict[str, Any]:
        stops = [[each.reason, each.for_good, each.code] for each in self.wishes]
        return {"numbers": [float(bool(stops)), *(each.number for each in self.requests)], "stops": stops}

    def _grant(self, largest: list[float], given: list[dict[str, Any]]) -> None:
        for request, number in zip(self.requests, largest[1:], strict=False):
            if request.is_granted(number):
                request.made = False
                self.deferred.append(request.function)
                self.attention = True
        stops = [Stop(*each) for one in given for each in one["stops"]]
        if not stops:
            return
        del self.wishes[: len(given[self.exchanges.rank]["stops"])]  # not what a signal has added since
        # The first rank's of the strongest wish is the one; a run that is over for one is over for all.
        stop = max(stops, key=lambda each: each.strength)
        self.run.grant(stop)
        for each in stops:
            if each.for_good:
                self.run.grant(each)
        if stop.code is not None and self.interruption is None:
            own = self.own_interruption
            self.own_interruption: BaseException | None = None
            if own is None or exit_code(own) != stop.code:
                own = KeyboardInterrupt() if stop.code == 128 + signal.SIGINT else SystemExit(stop.code)
            self.interruption: BaseException | None = own

    # What is asked of the run while it trains.

    def carry_out(self) -> None:
        if self.is_ending:
            return
        taken = self.commands[:]
        del self.commands[: len(taken)]  # not what another thread has added since
        given = [[asdict(each) for each in taken]]
        if not self.exchanges.is_alone:
            given = self.exchanges.exchange("carrying out commands", given[0])
        for command in (Command(**each) for one in given for each in one):
            if command.name in ("save", "set"):
                self._postponed.append(command)
            else:
                execute(command, self, self.run)
        if self._postponed:
            self._carry_out_postponed()

    def _carry_out_postponed(self) -> None:
        """Carry out the commands that save the run; while it has gradients that would be lost, after a step more."""
        accumulating = [self.is_accumulating]
        if not self.exchanges.is_alone:
            accumulating = self.exchanges.exchange("carrying out commands that save", self.is_accumulating)
        if any(accumulating):
            self.attention = True
            return
        commands, self._postponed = self._postponed, []
        for command in commands:
            execute(command, self, self.run)

    def answer_evaluations(self, metrics: Mapping[str, float] | None) -> None:
        """Answer those who have asked for an evaluation with what it has found; None is that there can be none."""
        asked, self.unevaluated = self.unevaluated, []
        if not asked:
            return
        run, text = self.run, NO_EVALUATION
        if metrics is not None:
            found = ", ".join(f"{name} {value:.6g}" for name, value in metrics.items())
            text = f"after step {run.step}: {found or 'no metrics'}"
        for command in asked:
            run.emit(answer_to(command, run, text, done=metrics is not None))

    def safe_point(self) -> None:
        """Call what was asked for between two steps, and what was deferred until the run can be saved, if it can."""
        # In this order, as a signal may ask for a stop at any moment: its flag must not be lost.
        self.attention, can_be_saved = False, self.can_be_saved()
        if self.stopping or ((self.deferred or self._postponed) and not can_be_saved):
            self.attention = True
        while self.between:
            self.between.pop(0)()
        if not can_be_saved:
            return
        if self._postponed and not self.is_ending:
            self._carry_out_postponed()
        if self.stopping:
            self._call_endings()  # what comes next may take long: the end of the epoch is still evaluated
        while self.deferred:
            self.deferred.pop(0)()

    def finish(self) -> None:
        """Call what was deferred until the loop is over, and raise what interrupted it."""
        self._call_endings()
        self.safe_point()
        left = [*self.unevaluated, *self._postponed]
        self.unevaluated: list[Command] = []
        self._postponed = []
        for command in left:  # the same on all processes
            self.run.emit(answer_to(command, self.run, "the fit ended before it could be done", done=False))
        self.is_ending = True
        if self.interruption is not None:
            self.exchanges.settle()
            raise self.interruption

    def _call_endings(self) -> None:
        for function in self.endings:
            function()

    # A worker of the data that is killed ends in an error that PyTorch raises in its handler of SIGCHLD: anywhere, in
    # the middle of a step too. It is held back until a batch is taken or the run is evaluated, which can be done again.

    def watch_children(self) -> None:
        """Hold back such errors from now on, if something raises them by now."""
        hold_child_errors(self._hold, self._registrations)

    def raise_child_error(self) -> None:
        """Raise one that was held back."""
        if self._child_error is not None:
            raise self._child_error

    def _hold(self, error: BaseException) -> bool:
        self._child_error = error
        self.attention: bool = True
        return not self.repeatable

    def repeat(self, function: Callable[[], T]) -> T | None:
        """Call what can be done again; return None if the interruption of the fit has ended it, see `gives_up`."""
        try:
            self.repeatable: bool = True
            result = function()
            self.repeatable = False
        except BaseException as error:
            self.repeatable = False
            if not self.gives_up(error):
                raise
            return None
        return result

    def gives_up(self, error: BaseException) -> bool:
        """Return whether the fit ends in good order though an error has left what can be done again.

        It does if it is being interrupted. A signal to a group of processes may reach the workers first: then it is
        waited for.
        """
        if self._child_error is not None:
            for _ in range(_LOOKS):
                if not self.endings or self.run.interruption is not None:
                    break
                sleep(_APART)
        interruption = self.run.interruption
        # Workers hand a KeyboardInterrupt of their own on: Ctrl-C has reached them too.
        expected = error is interruption or isinstance(error, (Exception, KeyboardInterrupt))
        if interruption is None or self.insisted or not expected:
            return False
        if error is not interruption:
            interruption.__context__ = error
        if not self.exchanges.is_alone:
            raise interruption  # the others may be inside a step that waits for this process: nothing can be saved
        self.given_up = True
        return True

    def forgo_saving(self, why: str) -> None:
        """Save this run no more, because it would not go on exactly, and let its reason say so."""
        if self.can_be_saved():
            self.run.reason = f"{self.run.reason}, and not saved: {why}"
        self.can_be_saved = lambda: False

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
            self.set_status("interrupted", "interrupted by Ctrl-C")
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
        self._registrations.close()
        for request in self.requests:  # whoever may make one holds it, and it holds them
            request.function = _nothing
        self.run._fit = self.interruption = self._child_error = None
        current.set(self._outer)


def _nothing() -> None:
    """Do nothing: the fit is over."""
