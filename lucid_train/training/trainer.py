"""Trainer: the loop, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

from attrs import define, field

from lucid_train.callback import Callback, F, FunctionListener, collecting, listening_to
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
from lucid_train.history import History
from lucid_train.metrics import NoUpdate, detached, evaluation
from lucid_train.optims.param_groups import snapshot_lrs
from lucid_train.saving.random_state import RandomState
from lucid_train.saving.state import capture, find, go_on, names, restore, warn_if_nothing_is_left
from lucid_train.training import arguments as given
from lucid_train.training.dispatch import Dispatcher, add_note, call
from lucid_train.training.feed import Passes
from lucid_train.training.rehearsal import Rehearsal
from lucid_train.training.run import OpenEpoch, Run
from lucid_train.validation import checked, whole_number

if TYPE_CHECKING:
    from lucid_train.training.plan import Plan


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
        extras: What else belongs to the state of the run, by name: random generators of Python, numpy or PyTorch that
            the data or the step draws from, and anything with `state_dict` and `load_state_dict`.
        callbacks: Callbacks in the order in which they hear.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> history = Trainer(step=lambda batch: batch / 2, data=[1, 3], epochs=2).fit()
    >>> history.metric("loss")
    [1.0, 1.0]
    """

    step: Callable[[Any], Any] | None = field(default=None, validator=given.callable_or_none)
    data: Iterable[Any] | None = field(default=None, validator=given.iterable_or_none, repr=False)
    epochs: int = field(default=1, kw_only=True, validator=checked(whole_number, least=0))
    steps_per_epoch: int | None = field(default=None, kw_only=True, validator=checked(whole_number, least=1))
    model: Any = field(default=None, kw_only=True, repr=False)
    optimizer: Any = field(default=None, kw_only=True, validator=given.optimizer_or_none, repr=False)
    evaluate: Callable[[], Any] | None = field(default=None, kw_only=True, validator=given.callable_or_none)
    evaluate_every: int = field(default=1, kw_only=True, validator=checked(whole_number, least=1))
    extras: Mapping[str, Any] = field(factory=dict, kw_only=True, validator=given.savable, repr=False)
    callbacks: tuple[Callback, ...] = field(default=(), kw_only=True, converter=given.as_tuple, validator=given.listed)
    _listeners: list[FunctionListener] = field(factory=list, init=False, repr=False)
    _run: Run | None = field(default=None, init=False, repr=False)
    _loaded: dict[str, Any] | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.data is not None and self.step is None:
            raise ValueError("'step' must be given with data: None")

    def on(
        self,
        event: type[Event],
        *,
        every: int = 1,
        at: Iterable[int] | int | None = None,
        once: bool = False,
        when: Callable[[Any], object] | None = None,
    ) -> Callable[[F], F]:
        """Let a function listen, after the callbacks, from the next fit on; for use as a decorator.

        Args:
            event: The event's class.
            every: Hear it when the count is a multiple of this; for counts see `lucid_train.on`.
            at: Hear it at these counts only.
            once: Hear it only the first time in each fit.
            when: Hear it when this function of the event is true.

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
        return collecting(self._listeners, listening_to(event, every=every, at=at, once=once, when=when))

    @property
    def passes(self) -> Passes:
        """How the data is passed over."""
        return Passes(self.data, self.steps_per_epoch)

    @property
    def _random(self) -> RandomState:
        return RandomState.of(self.passes.generators(), self.extras)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the run, from which a Trainer set up in the same way goes on exactly.

        It is plain JSON but for the arrays of model, optimizer and callbacks, which may be the live ones. Within a fit,
        ask for it with `run.when_settled`.
        """
        if self._loaded is not None:
            return self._loaded
        return capture(self, self._run or Run(model=self.model, optimizer=self.optimizer), self._random)

    def load_state_dict(self, state: Mapping[str, Any], *, accept: str | Iterable[str] = ()) -> None:
        """Take over a state; the next `fit` goes on from there.

        Args:
            state: What `state_dict` returned.
            accept: Names of what may differ in the set-up, as the error gives them, or "all"; what is here counts.

        Raises:
            ValueError: If the set-up differs, or entries are missing or unknown, naming them.
        """
        self._load(state, self.epochs, names(accept))

    def fit(
        self,
        epochs: int | None = None,
        *,
        restart: bool = False,
        resume: str | os.PathLike[str] | None = None,
        accept: str | Iterable[str] = (),
    ) -> History:
        """Train on to the last epoch, from where the fit before left off; a batch whose step failed is tried again.

        Args:
            epochs: The epoch to go on to; by default the Trainer's `epochs`.
            restart: Forget what was trained: count from epoch 1 with a new history, callbacks as they were at first.
                The model and the optimizer's own state are yours to restore.
            resume: Go on from a checkpoint: a file, a directory, of which the newest whole one is taken, or "auto", the
                directory of the Checkpoint callback, where a first run starts from the beginning.
            accept: What may differ from the set-up in the checkpoint, by the names that the error gives, or "all"; what
                is here counts. `epochs`, if given, is accepted; "stopped" goes on where a callback ended the run.

        Returns:
            The history of all epochs since the start, whichever fit trained them.

        Raises:
            RuntimeError: If a fit of this Trainer is running already.
            ValueError: If `epochs` is below 0, the data ends too early, or the checkpoint is of another set-up.
            FileNotFoundError: If there is no checkpoint to resume from.
            CheckpointError: If it is damaged.
        """
        goal = self.epochs if epochs is None else whole_number("epochs", epochs, least=0)
        if resume is not None and (state := find(resume, self, restart)) is not None:
            self._load(state, goal, [*names(accept), *(() if epochs is None else ("epochs",))])
        run, dispatcher = self._entered(restart), Dispatcher([*self.callbacks, *self._listeners])
        self.passes.refuse(goal - len(run.history))
        over = None if self._loaded is None else run.over
        warn_if_nothing_is_left(run, goal, over)
        run.steps_per_epoch = self.steps_per_epoch or self.passes.length or run.steps_per_epoch
        run.begin(dispatcher, goal, self.state_dict, over)
        try:
            dispatcher.open(FitStart(run))
            if self._loaded is not None:
                go_on(self, run, self._random, self._loaded)
                self._loaded = None
            run.settle()
            while len(run.history) < goal and not run.stopping:
                self._epoch(run)
            run.finish()
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
            if failure is None:
                run.settle()
            else:
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
        from lucid_train.training.plan import planned

        goal = self.epochs if epochs is None else whole_number("epochs", epochs, least=0)
        return planned(self, self._run or Run(), [*self.callbacks, *self._listeners], goal, self.passes.length)

    def _load(self, state: Mapping[str, Any], epochs: int, accept: list[str]) -> None:
        if self._run is not None and self._run.status == "running":
            raise RuntimeError("this Trainer is training: a state must not be loaded within fit()")
        self._run = restore(self, state, epochs, accept)
        self._loaded = dict(state)

    def _entered(self, restart: bool) -> Run:
        if self._run is not None and self._run.status == "running":
            raise RuntimeError("this Trainer is training already: fit() must not be called within fit()")
        if restart:
            self._run = self._loaded = None
            for callback in self.callbacks:
                callback.reset()
        run = self._run = self._run or Run()
        run.model, run.evaluate_every = self.model, 1 if self.evaluate is None else self.evaluate_every
        run.optimizer = run.optimizer if self.optimizer is None else self.optimizer
        return run

    @staticmethod
    def _end(run: Run) -> FitEnd:
        return FitEnd(run, status=run.status, reason=run.reason, history=run.history)

    def _epoch(self, run: Run) -> None:
        """Train one epoch, or what is left of the one that the last fit did not finish."""
        began = perf_counter()
        if run.open_epoch is None:
            run.epoch = len(run.history) + 1
            run.steps_per_epoch = self.steps_per_epoch or self.passes.length or run.steps_per_epoch
            part = run.open_epoch = self.passes.begin(run, self._random)
            part.began = began
            run.emit(EpochStart(run, epoch=run.epoch))
            if part.random is not None:
                part.random.append(self._random.read())
            run.settle()
        part = run.open_epoch
        part.began = began
        if part.broken and not part.one_shot:
            part.batches = self.passes.again(run.epoch_step + len(part.pending))
        try:
            finished = part.trained = part.trained or self._steps(run, part)
            metrics = self._evaluated(run, part.means.read()) if finished else {}
        finally:
            part.seconds += perf_counter() - began
            part.began = None
        if not finished:
            return
        began = perf_counter()
        lr = tuple(run.last_lr if part.rates is None else map(float, part.rates))
        try:
            run.emit(EpochEnd(run, epoch=run.epoch, metrics=metrics, lr=lr))
        finally:  # if it fails, the epoch is over all the same: a schedule that has advanced must not do so again
            record = part.record(run, metrics, lr, perf_counter() - began)
            run.history.append(record)
            run.open_epoch = None
        run.emit(EpochReport(run, record=record))
        run.settle()

    def _steps(self, run: Run, part: OpenEpoch) -> bool:
        """Do the steps of an epoch until its end or a stop; return whether it has come to its end."""
        step = self.step or Rehearsal(run)
        epoch, requests = run.epoch, run.requests
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
                        part.rates = snapshot_lrs(run.optimizer)
                    if ends:
                        call(ends, StepEnd(run, epoch, run.step, detached(output)))
                if requests:
                    part.means.floats = total, count
                    if updated and not heard and run.optimizer is not None:
                        part.rates = snapshot_lrs(run.optimizer)
                    run.settle()
                if run.stopping and run.epoch_step != run.steps_per_epoch:  # else the pass comes to its own end
                    run.left_pass = self.data is not None
                    break
            else:
                run.left_pass = self.steps_per_epoch is not None and self.data is not None
        finally:
            if batch is not trained:  # its step failed: it is the first of the next fit
                part.pending = (batch,)
            part.means.floats = total, count
            # Without a listener nothing changes the rates between two updates, and one look at the end will do.
            if updated and not heard and run.optimizer is not None:
                part.rates = snapshot_lrs(run.optimizer)
        if run.stopping and run.epoch_step != run.steps_per_epoch:
            return False
        self.passes.refuse_shortage(run, part)
        if not part.one_shot:
            run.steps_per_epoch = run.epoch_step
        return True

    def _evaluated(self, run: Run, metrics: dict[str, float]) -> dict[str, float]:
        """Return the metrics of the steps together with those of the evaluation, if it is due."""
        if self.evaluate is None or run.epoch % self.evaluate_every:
            return metrics
        run.emit(EvaluateStart(run, epoch=run.epoch))
        found = evaluation(self.evaluate(), metrics)
        run.emit(EvaluateEnd(run, epoch=run.epoch, metrics=found))
        return {**metrics, **found}
