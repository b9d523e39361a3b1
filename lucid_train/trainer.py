"""Trainer: the loop, and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat
from time import perf_counter
from types import GeneratorType
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field

from lucid_train.arguments import checked, whole_number
from lucid_train.callback import Callback, FunctionListener, Hook, check_listener, listening_to
from lucid_train.dispatch import Dispatcher, add_note, call
from lucid_train.events import (
    EpochEnd,
    EpochReport,
    EpochStart,
    EvaluateEnd,
    EvaluateStart,
    Event,
    FitEnd,
    FitError,
    FitStart,
    StepEnd,
    StepStart,
)
from lucid_train.history import EpochRecord, History
from lucid_train.metrics import NoUpdate, detached, to_metrics
from lucid_train.optims.lr_scheduler.rates import hold_rates, param_groups
from lucid_train.rehearsal import Rehearsal
from lucid_train.run import OpenEpoch, Run

if TYPE_CHECKING:
    from lucid_train.plan import Plan

F = TypeVar("F", bound=Hook)


def _callable_or_none(instance: object, attribute: Any, value: object) -> None:
    if value is not None and not callable(value):
        raise TypeError(f"{attribute.name!r} must be a function: {value!r}")


def _iterable_or_none(instance: object, attribute: Any, value: object) -> None:
    if value is not None and not isinstance(value, Iterable) and not hasattr(value, "__getitem__"):
        raise TypeError(f"{attribute.name!r} must be iterable, one pass is one epoch: {value!r}")


def _optimizer_or_none(instance: object, attribute: Any, value: object) -> None:
    if value is not None:
        param_groups(value)


def _callbacks(instance: object, attribute: Any, value: tuple[object, ...]) -> None:
    for index, callback in enumerate(value):
        if not isinstance(callback, Callback):
            cure = "pass an instance" if isinstance(callback, type) else "derive it from lucid_train.Callback"
            raise TypeError(f"'callbacks[{index}]' must be a Callback, {cure}: {callback!r}")
        if any(callback is other for other in value[:index]):
            raise ValueError(f"'callbacks[{index}]' must not be in the list twice: {callback!r}")


def _as_tuple(callbacks: Iterable[Callback]) -> tuple[Callback, ...]:
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"'callbacks' must be a list of callbacks: {callbacks!r}")
    return tuple(callbacks)


@define(eq=False)
class Trainer:
    """Runs a step function over data, epoch by epoch, and tells callbacks what happens.

    With neither `step` nor `data` it is a rehearsal: every event is emitted, and the optimizer, if any, is stepped once
    per step.

    Args:
        step: What one step does: takes a batch and returns None, a loss, a mapping of metrics, or a NoUpdate.
        data: Any iterable of batches; one pass is one epoch. Without it the step function is called with None,
            `steps_per_epoch` times.
        epochs: The epoch to go on to. At least 0.
        steps_per_epoch: Steps in an epoch, where it is not a whole pass; needed for endless data. At least 1.
        model: What callbacks save and restore: anything with `state_dict` and `load_state_dict`.
        optimizer: Anything with `param_groups`, a sequence of dicts with "lr".
        evaluate: Called without arguments after the steps of an epoch; returns a mapping of metrics, or one number,
            which is recorded as "val_loss". A name that the steps use too is recorded with "val_" before it.
        evaluate_every: Evaluate in epochs that are a multiple of this. At least 1.
        callbacks: Callbacks in the order in which they hear.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> history = Trainer(step=lambda batch: batch / 2, data=[1, 3], epochs=2).fit()
    >>> history.metric("loss")
    [1.0, 1.0]
    """

    step: Callable[[Any], Any] | None = field(default=None, validator=_callable_or_none)
    data: Iterable[Any] | None = field(default=None, validator=_iterable_or_none, repr=False)
    epochs: int = field(default=1, kw_only=True, validator=checked(whole_number, least=0))
    steps_per_epoch: int | None = field(default=None, kw_only=True, validator=checked(whole_number, least=1))
    model: Any = field(default=None, kw_only=True, repr=False)
    optimizer: Any = field(default=None, kw_only=True, validator=_optimizer_or_none, repr=False)
    evaluate: Callable[[], Any] | None = field(default=None, kw_only=True, validator=_callable_or_none)
    evaluate_every: int = field(default=1, kw_only=True, validator=checked(whole_number, least=1))
    callbacks: tuple[Callback, ...] = field(default=(), kw_only=True, converter=_as_tuple, validator=_callbacks)
    _listeners: list[FunctionListener] = field(factory=list, init=False, repr=False)
    _run: Run | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.data is not None and self.step is None:
            raise ValueError("'step' must be given with data: None")

    def on(self, event: type[Event], **conditions: Any) -> Callable[[F], F]:
        """Let a function listen, after the callbacks, from the next fit on; for use as a decorator.

        Args:
            event: The event's class.
            **conditions: `every`, `at`, `once` and `when`, as for `lucid_train.on`.

        Raises:
            TypeError: If a condition is of the wrong kind, or the function does not take one argument.
            ValueError: If a condition is out of its range.

        >>> trainer = Trainer(epochs=4)
        >>> @trainer.on(EpochEnd, every=2)
        ... def show(event):
        ...     print(event.epoch)
        >>> history = trainer.fit()
        2
        4
        """
        listening = listening_to(event, **conditions)

        def add(function: F) -> F:
            check_listener(function)
            self._listeners.append(FunctionListener(listening, function))
            return function

        return add

    def fit(self, epochs: int | None = None, *, restart: bool = False) -> History:
        """Train on to the last epoch, from where the fit before left off; a batch whose step failed is tried again.

        Args:
            epochs: The epoch to go on to; by default the Trainer's `epochs`.
            restart: Forget what was trained: count from epoch 1 with a new history, callbacks as they were at first.
                The model and the optimizer's own state are yours to restore.

        Returns:
            The history of all epochs since the start, whichever fit trained them.

        Raises:
            RuntimeError: If a fit of this Trainer is running already.
            ValueError: If `epochs` is below 0, or the data ends too early.
        """
        goal = self.epochs if epochs is None else whole_number("epochs", epochs, least=0)
        run = self._entered(restart)
        dispatcher = Dispatcher([*self.callbacks, *self._listeners])
        self._refuse_data(goal - len(run.history))
        if goal <= len(run.history) and run.history:
            message = f"nothing left to train: {len(run.history)} epochs are done; pass more epochs, or restart=True"
            warnings.warn(message, UserWarning, stacklevel=2)
        run.steps_per_epoch = self.steps_per_epoch or self._length() or run.steps_per_epoch
        run.begin(dispatcher, goal)
        try:
            dispatcher.open(FitStart(run))
            while len(run.history) < goal and not run.stopping:
                self._epoch(run)
        except BaseException as error:
            if not any(str(note).startswith("raised by ") for note in getattr(error, "__notes__", ())):
                add_note(error, f"raised in epoch {run.epoch} after step {run.step}")  # by step, data or evaluate
            run.conclude(error)
            # No local name may hold the event: the traceback's frames would then keep the exception alive.
            dispatcher.close([FitError(run, error=error), self._end(run)], error)
            raise
        else:
            run.conclude()
            failure = dispatcher.close([self._end(run)])
            if failure is not None:
                run.conclude(failure)
                try:
                    raise failure
                finally:
                    del failure
        finally:
            run.leave()
        return run.history

    def plan(self, epochs: int | None = None) -> Plan:
        """Return what `fit(epochs)` would do, who hears what and every rate; nothing is trained, nothing changes."""
        from lucid_train.plan import planned

        goal = self.epochs if epochs is None else whole_number("epochs", epochs, least=0)
        return planned(self, self._run or Run(), [*self.callbacks, *self._listeners], goal, self._length())

    def _entered(self, restart: bool) -> Run:
        if self._run is not None and self._run.status == "running":
            raise RuntimeError("this Trainer is training already: fit() must not be called within fit()")
        if restart:
            self._run = None
            for callback in self.callbacks:
                callback.reset()
        run = self._run = self._run or Run()
        run.model = self.model
        run.optimizer = run.optimizer if self.optimizer is None else self.optimizer
        run.evaluate_every = 1 if self.evaluate is None else self.evaluate_every
        return run

    def _refuse_data(self, epochs: int) -> None:
        length = self._length()
        if self.steps_per_epoch is not None and length is not None and self.steps_per_epoch > length:
            raise ValueError(f"'steps_per_epoch' must be <= the {length} batches of data: {self.steps_per_epoch}")
        if isinstance(self.data, GeneratorType) and self.steps_per_epoch is None and epochs > 1:
            raise ValueError(f"'data' must be iterable {epochs} times; a generator is not, pass a list: {self.data!r}")

    @staticmethod
    def _end(run: Run) -> FitEnd:
        return FitEnd(run, status=run.status, reason=run.reason, history=run.history)

    def _epoch(self, run: Run) -> None:
        """Train one epoch, or what is left of the one that the last fit did not finish."""
        began = perf_counter()
        if run.open_epoch is None:
            run.epoch = len(run.history) + 1
            run.steps_per_epoch = self.steps_per_epoch or self._length() or run.steps_per_epoch
            batches = self._pass()
            run.open_epoch = OpenEpoch(batches, run.step, one_shot=batches is self.data)
            run.emit(EpochStart(run, epoch=run.epoch))
        part = run.open_epoch
        if part.broken and not part.one_shot:
            part.batches = self._pass(run.epoch_step + len(part.pending))
        try:
            finished = part.trained = part.trained or self._steps(run, part)
            metrics = self._evaluated(run, part.means.read()) if finished else {}
        finally:
            part.seconds += perf_counter() - began
        if not finished:
            return
        began = perf_counter()
        lr = tuple(run.last_lr if part.rates is None else map(float, part.rates))
        try:
            run.emit(EpochEnd(run, epoch=run.epoch, metrics=metrics, lr=lr))
        finally:  # if it fails, the epoch is over all the same: a schedule that has advanced must not do so again
            record = EpochRecord(
                epoch=run.epoch,
                steps=run.epoch_step,
                seconds=part.seconds + perf_counter() - began,
                metrics=metrics,
                lr=lr,
                last_lr=tuple(run.last_lr),
            )
            run.history.append(record)
            run.open_epoch = None
        run.emit(EpochReport(run, record=record))

    def _steps(self, run: Run, part: OpenEpoch) -> bool:
        """Do the steps of an epoch until its end or a stop; return whether it has come to its end."""
        step = self.step or Rehearsal(run)
        epoch = run.epoch
        starts, ends = run.listeners(StepStart), run.listeners(StepEnd)
        heard = bool(starts or ends)
        # What makes up the cost of a step stays in local names: the listeners, and the sum of losses that are floats.
        (total, count), updated = part.means.floats, False
        batch = trained = object()
        if run.stopping:
            return False
        batches = part.remaining(self.steps_per_epoch and self.steps_per_epoch - run.epoch_step)
        try:
            for batch in batches:
                if starts:
                    call(starts, StepStart(run, epoch, run.step + 1, batch))
                output = step(batch)
                run.step += 1
                batch = trained  # before the next one is made, this one's memory is free
                if isinstance(output, float):
                    total += output
                    count += 1
                    updated = True
                elif output is None:
                    updated = True
                else:
                    part.means.add(output)
                    updated = updated or type(output) is not NoUpdate
                if heard:
                    if run.optimizer is not None and type(output) is not NoUpdate:
                        part.rates = hold_rates(run.optimizer)
                    if ends:
                        call(ends, StepEnd(run, epoch, run.step, detached(output)))
                if run.stopping:
                    break
        finally:
            if batch is not trained:  # its step failed: it is the first of the next fit
                part.pending = (batch,)
            part.means.floats = total, count
            # Without a listener nothing changes the rates between two updates, and one look at the end will do.
            if updated and not heard and run.optimizer is not None:
                part.rates = hold_rates(run.optimizer)
        done = run.epoch_step
        if run.stopping and done != run.steps_per_epoch:
            return False
        self._refuse_shortage(run, part, done)
        if not part.one_shot:
            run.steps_per_epoch = done
        return True

    def _refuse_shortage(self, run: Run, part: OpenEpoch, done: int) -> None:
        if part.one_shot and done == 0 and run.step:
            raise ValueError(
                f"'data' must be iterable more than once: it ran dry in epoch {run.epoch}; pass a list, "
                f"or an object whose __iter__ begins a new pass: {self.data!r}"
            )
        if self.steps_per_epoch is not None and done < self.steps_per_epoch:
            raise ValueError(
                f"'steps_per_epoch' must be <= the batches of a pass: {self.steps_per_epoch}, "
                f"but epoch {run.epoch} had {done}"
            )

    def _pass(self, done: int = 0) -> Iterator[Any]:
        """Return an iterator over the data that stands behind the first `done` batches."""
        batches = repeat(None, self.steps_per_epoch or 1) if self.data is None else iter(self.data)
        for _ in islice(batches, done):
            pass
        return batches

    def _length(self) -> int | None:
        """Return the number of batches in a pass, or None where that is unknown."""
        if self.data is None:
            return self.steps_per_epoch or 1
        try:
            return len(self.data)  # type: ignore[arg-type]  # not every iterable is sized
        except (TypeError, NotImplementedError):  # PyTorch's DataLoader has a len() that raises for iterable datasets
            return None

    def _evaluated(self, run: Run, metrics: dict[str, float]) -> dict[str, float]:
        """Return the metrics of the steps together with those of the evaluation, if it is due."""
        if self.evaluate is None or run.epoch % self.evaluate_every:
            return metrics
        run.emit(EvaluateStart(run, epoch=run.epoch))
        found: dict[str, float] = {}
        for name, value in to_metrics(self.evaluate(), name="val_loss").items():
            recorded = f"val_{name}" if name in metrics else name
            if recorded in metrics or recorded in found:
                raise ValueError(f"'evaluate' must not return {name!r}: another metric has the name {recorded!r}")
            found[recorded] = value
        run.emit(EvaluateEnd(run, epoch=run.epoch, metrics=found))
        return {**metrics, **found}
