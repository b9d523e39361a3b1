"""Trainer: what a run is made of, and the loop that trains it."""

from __future__ import annotations

import inspect
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field

from lucid_train.callback import (
    Callback,
    E,
    FirstListener,
    FunctionListener,
    R,
    Ranks,
    Subscription,
    check_state_is_known,
)
from lucid_train.description import add_note, attributed, class_labels, hook_name, object_name, parameter_count
from lucid_train.events import EpochEnd, EpochReport, EpochStart, EvaluateEnd, EvaluateStart, StepEnd, StepStart
from lucid_train.group.discovery import check_group, open_group, place
from lucid_train.group.exchanges import Exchanges, alone
from lucid_train.group.protocol import Group
from lucid_train.history import EpochRecord, EvaluationRecord, History
from lucid_train.metrics import Metrics, Output, Part, StepResult, combined, computed, detached, evaluation, to_parts
from lucid_train.optims.param_groups import Attributes, param_groups, snapshot_lrs, snapshot_values
from lucid_train.progress import Progress, unstructure
from lucid_train.protocols import HasParamGroups, MetricObject, Stateful
from lucid_train.saving.metric_state import check_saves, unsaved_metrics
from lucid_train.saving.random_state import Generator, RandomState, is_generator
from lucid_train.saving.settings import Options, is_accepted
from lucid_train.saving.state import Participants, check_other_world, find_checkpoint
from lucid_train.training.dispatch import Dispatcher, call
from lucid_train.training.feed import Feed
from lucid_train.training.fit import Fit
from lucid_train.training.modes import has_eval_mode, networks, restore_modes, training_modes
from lucid_train.training.replicas import compare_replicas
from lucid_train.training.run import Run, Stop
from lucid_train.training.source import generators, set_epoch
from lucid_train.validation import check_call, checked, flag, function, metric_name, one_of, whole_number

if TYPE_CHECKING:
    from lucid_train.saving.checkpoint.directory import Loaded
    from lucid_train.training.plan import Plan

_ARGS, _KWARGS = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
_NO_BATCH, _STEPPED = object(), object()
# The losses of so many steps are kept before they are added up.
_STEPS_AT_ONCE = 2048


def _data(name: str, value: Any) -> None:
    if not isinstance(value, Iterable) and not hasattr(value, "__getitem__"):
        raise TypeError(f"{name!r} must be iterable, one pass is one epoch: {value!r}")


def _optimizer(name: str, value: Any) -> None:
    param_groups(value)


def _evaluate_every(name: str, value: Any) -> tuple[int | None, int | None]:
    """Return the epochs between two evaluations, or the steps."""
    if isinstance(value, str) and (match := re.fullmatch(r"([1-9]\d{0,17}) steps?", value)):
        return None, int(match[1])
    if isinstance(value, (str, bool, float)) or not hasattr(value, "__index__"):
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"{name!r} must be a number of epochs or of steps such as '500 steps': {value!r}")
    return whole_number(name, value, least=1), None


def _prefix(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name!r} must be a string, '' for none: {value!r}")


def _extras(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name!r} must be a mapping of names to what is to be saved: {value!r}")
    for key, each in value.items():
        if not (isinstance(key, str) and (is_generator(each) or hasattr(each, "load_state_dict"))):
            rule = "a random generator or an object with state_dict() and load_state_dict(), under a name"
            raise TypeError(f"'{name}[{key!r}]' must be {rule}: {each!r}")
        if _is_metric(each) and not each.state_dict():
            cure = f"pass Trainer(metrics={{{key!r}: ...}})"
            raise TypeError(
                f"'{name}[{key!r}]' must not be a metric whose state_dict() is empty, {cure}: {each!r:.200}"
            )


def _is_metric(value: Any) -> bool:
    return all(callable(getattr(value, method, None)) for method in ("update", "compute", "reset"))


def _metrics(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        rule = "a mapping of names to objects with update(), compute() and reset()"
        raise TypeError(f"{name!r} must be {rule}: {value!r:.200}")
    for key, each in value.items():
        metric_name(name, key)
        if isinstance(each, type) or not _is_metric(each):
            cure = ", pass an instance" if isinstance(each, type) else ""
            raise TypeError(f"'{name}[{key!r}]' must have update(), compute() and reset(){cure}: {each!r:.200}")
        check_saves(f"{name}[{key!r}]", each)


def _step(name: str, value: Any) -> None:
    parameters = _parameters(function(name, value))
    # The names of arguments say what they are: the batch among others, or the parts of one.
    inner = ", ".join(parameters) if "batch" in parameters else "*batch"
    cure = f"pass step=lambda batch: {_called(name, value)}({inner})" if parameters else ""
    check_call(f"{name!r}", value, "one argument, the batch", cure)


def _evaluate(name: str, value: Any) -> None:
    if not callable(value):
        raise TypeError(f"{name!r} must be a function without arguments, itself and not its result: {value!r:.200}")
    cure = f"pass evaluate=lambda: {_called(name, value)}({', '.join(_parameters(value))})"
    check_call(f"{name!r}", value, "no argument", cure, count=0)


def _parameters(value: Any) -> list[str]:
    """Return the names of the arguments that a function requires, as far as it says so."""
    try:
        found = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return []
    required = [each for each in found if each.default is each.empty and each.kind not in (_ARGS, _KWARGS)]
    return [f"{each.name}={each.name}" if each.kind is each.KEYWORD_ONLY else each.name for each in required]


def _called(name: str, value: Any) -> str:
    """Return the name by which a program may call a function."""
    return found if (found := object_name(value)).isidentifier() else name


def _model(name: str, value: Any) -> None:
    if isinstance(value, type) or not (hasattr(value, "state_dict") and hasattr(value, "load_state_dict")):
        cure = ", pass an instance" if isinstance(value, type) else ""
        raise TypeError(f"{name!r} must have state_dict() and load_state_dict(){cure}: {value!r:.200}")


def _group(name: str, value: Any) -> None:
    if value is not None:
        check_group(name, value)


def _callbacks(name: str, value: tuple[Any, ...]) -> None:
    for index, callback in enumerate(value):
        if not isinstance(callback, Callback):
            cure = "derive it from lucid_train.Callback"
            if isinstance(callback, type):
                cure = f"pass an instance, {callback.__name__}(...)"
            elif callback is None:
                cure = "leave it out"
            elif isinstance(callback, (list, tuple)):
                cure = "put them into the list itself: [*more, ...]"
            elif hasattr(callback, "affine") or hasattr(callback, "step"):
                cure = "pass LRSchedulerCallback(...) of it"
            elif inspect.isroutine(callback):
                cure = "or add it with trainer.on(EpochEnd)"
            raise TypeError(f"'{name}[{index}]' must be a Callback, {cure}: {callback!r:.200}")
        if any(callback is other for other in value[:index]):
            raise ValueError(f"'{name}[{index}]' must not be in the list twice: {callback!r}")
        check_state_is_known(callback)


def _as_tuple(callbacks: Iterable[Callback]) -> tuple[Callback, ...]:
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"'callbacks' must be a list of callbacks, [...]: {callbacks!r:.200}")
    return tuple(callbacks)


@define(eq=False, repr=False)
class Trainer:
    """Runs a step function over data, epoch by epoch, and emits the events that callbacks receive.

    With neither `step` nor `data` it is a rehearsal: every event is emitted, and the optimizer, if any, is stepped once
    per step.

    Args:
        step: What one step does: takes a batch and returns None, a loss, a mapping of metrics, or a StepResult.
        data: Any iterable of batches; one pass is one epoch. Without it the step function is called with None,
            `steps_per_epoch` times.
        epochs: The epoch to go on to. At least 0.
        steps_per_epoch: Steps in an epoch, where it is not a whole pass; needed for endless data. At least 1.
        model: What callbacks save and restore: anything with `state_dict` and `load_state_dict`. It is trained in the
            training mode that it is in.
        optimizer: Anything with `param_groups`, a sequence of dicts with "lr".
        evaluate: Called without arguments; returns a mapping of metrics, or one number, which is the "loss". The
            training mode of every module of the model, and of extras, is put back afterwards.
        evaluate_every: A number of epochs, at least 1: evaluate at the end of those that are a multiple of it, and
            record what is found with the epoch. Or a number of steps such as "500 steps": evaluate after those whose
            number, counted through the run, is a multiple of it, and record what is found in `history.evaluations`.
        evaluate_prefix: What stands before the names of what `evaluate` returns when they are recorded, unless they
            begin so already: "loss" becomes "val_loss". With "" names are left alone.
        eval_mode: Whether to call `eval()` before `evaluate`, on the model and on extras all of whose `modules()` have
            a boolean `training`; `plan()` says on which.
        extras: What else belongs to the state of the run, by name: random generators of Python, numpy or PyTorch that
            the data or the step draws from, and anything with `state_dict` and `load_state_dict`.
        group: The processes that train the run together, as a `lucid_train.group.Group`; `Solo()` says that this one
            does so alone. By default those of `torch.distributed`, if that is initialised when a fit starts, else those
            of MPI, if mpi4py is imported, else this process.
        metrics: Metric objects by the names under which they are recorded, with `update`, `compute` and `reset`, as
            those of torchmetrics. The step function calls `update`; they are reset before an epoch and computed at its
            end, and what they have gathered is saved. Those whose names begin with `evaluate_prefix` belong to
            `evaluate`, which calls their `update`: they are reset before it and computed after it. One that computes
            a mapping, as a collection does, is recorded under a name for each of its numbers: that of "f1" in "val" is
            "val_f1".
        callbacks: Callbacks in the order in which they receive an event.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> history = Trainer(step=lambda batch: batch / 2, data=[1, 3], epochs=2).fit()
    >>> history.metric("loss")
    [1.0, 1.0]
    """

    step: Callable[[Any], Output] | None = field(default=None, validator=checked(_step))
    data: Iterable[Any] | None = field(default=None, validator=checked(_data), repr=False)
    epochs: int = field(default=1, kw_only=True, validator=checked(whole_number, least=0))
    steps_per_epoch: int | None = field(default=None, kw_only=True, validator=checked(whole_number, least=1))
    model: Stateful | None = field(default=None, kw_only=True, validator=checked(_model), repr=False)
    optimizer: HasParamGroups | None = field(default=None, kw_only=True, validator=checked(_optimizer), repr=False)
    evaluate: Callable[[], Metrics] | None = field(default=None, kw_only=True, validator=checked(_evaluate))
    evaluate_every: int | str = field(default=1, kw_only=True, validator=checked(_evaluate_every))
    evaluate_prefix: str = field(default="val_", kw_only=True, validator=checked(_prefix))
    eval_mode: bool = field(default=True, kw_only=True, validator=checked(flag))
    extras: Mapping[str, Stateful | Generator] = field(
        factory=dict, kw_only=True, validator=checked(_extras), repr=False
    )
    metrics: Mapping[str, MetricObject] = field(factory=dict, kw_only=True, validator=checked(_metrics), repr=False)
    group: Group | None = field(default=None, kw_only=True, validator=checked(_group), repr=False)
    callbacks: tuple[Callback, ...] = field(
        default=(), kw_only=True, converter=_as_tuple, validator=checked(_callbacks)
    )
    _listeners: list[FunctionListener] = field(factory=list, init=False, repr=False)
    _feed: Feed = field(init=False, repr=False)
    _progress: Progress = field(factory=Progress, init=False, repr=False)
    _run: Run = field(init=False, repr=False)
    # What the processes of the current fit exchange.
    _exchanges: Exchanges = field(factory=alone, init=False, repr=False)
    # The options of the optimizers, as the program had set them when the run began, and as the last fit has left them.
    _options: dict[str, Options] | None = field(default=None, init=False, repr=False)
    _left: dict[str, Options] | None = field(default=None, init=False, repr=False)
    # A state that was loaded, until the next fit has brought data and generators to where they stood in it.
    _loaded: dict[str, Any] | None = field(default=None, init=False, repr=False)
    # What may differ from it.
    _accepted: list[str] = field(factory=list, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.data is not None and self.step is None:
            raise ValueError("'step' must be given with data: None")
        if self.evaluate is None and (of_evaluation := [*self._metrics_of(evaluation=True)]):
            raise ValueError(f"'evaluate' must be given with a metric of it, metrics[{of_evaluation[0]!r}]: None")
        self._feed = Feed(self.data, self.steps_per_epoch)
        self._run = Run(progress=self._progress)

    def __repr__(self) -> str:
        length, done = Feed(self.data, self.steps_per_epoch).length_of_epoch, len(self._progress.history)
        steps = "" if self.data is None or length is None else f" of {length:,} step{'s' * (length != 1)}"
        title = f"Trainer: {self.epochs:,} epoch{'s' * (self.epochs != 1)}{steps}, {self._run.status}"
        lines = [title + (f" after epoch {done:,}" if done else "")]
        parts = {name: getattr(self, name) for name in ("step", "data", "model", "optimizer", "evaluate")}
        texts = {name: hook_name(part) for name, part in parts.items() if part is not None}
        if (count := None if self.model is None else parameter_count(self.model)) is not None:
            texts["model"] += f", {count:,} parameters"
        if self.evaluate is not None and self.evaluate_every != 1:
            texts["evaluate"] += f", every {self.evaluate_every}" + " epochs" * (
                not isinstance(self.evaluate_every, str)
            )
        texts |= {"extras": ", ".join(self.extras), "metrics": ", ".join(self.metrics)}
        texts |= {"callbacks": ", ".join(class_labels(self.callbacks))}
        return "\n".join([*lines, *(f"  {name:<9}  {text}" for name, text in texts.items() if text)])

    def on(
        self,
        event: type[E],
        *,
        every: int = 1,
        at: Iterable[int] | int | None = None,
        once: bool = False,
        when: Callable[[E], object] | None = None,
        ranks: Ranks = "all",
    ) -> Callable[[Callable[[E], R]], Callable[[Any], R]]:
        """Let a function listen, after the callbacks, from the next fit on; for use as a decorator.

        Args:
            event: The event's class.
            every: Receive it when the count is a multiple of this; for counts see `lucid_train.on`.
            at: Receive it at these counts only.
            once: Receive it only the first time in each fit.
            when: Receive it when this function of the event is true.
            ranks: In a run of several processes, whether "all" receive it or the "first" alone.

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
        subscription = Subscription(event, every=every, at=at, once=once, when=when)
        listener = FirstListener if one_of("ranks", ranks, ("all", "first")) == "first" else FunctionListener

        def add(function: Callable[[E], R]) -> Callable[[Any], R]:  # any, as it may be added for a second event
            self._listeners.append(listener(subscription, function))
            return function

        return add

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the run, from which a Trainer set up in the same way goes on exactly.

        It is plain JSON but for the arrays of model, optimizer and callbacks, which may be the live ones. Within a fit,
        ask for it with `run.at_safe_point`.
        """
        return self._state()

    def _state(self, history: bool = True) -> dict[str, Any]:
        if self._loaded is not None:
            return self._loaded
        self._update()
        epochs = self._goal(None) if self._run.status == "ready" else self._run.epochs
        participants = self._participants(epochs)
        return participants.state(self._progress, self._options or participants.options(), history=history)

    def load_state_dict(self, state: Mapping[str, Any], *, accept: str | Iterable[str] = ()) -> None:
        """Take over a state; the next `fit` goes on from there.

        An exception of the model's own `load_state_dict`, or another object's, leaves as it is.

        Args:
            state: What `state_dict` returned.
            accept: Names of what may differ in the set-up, as the error gives them, or "all"; what is here counts.

        Raises:
            ValueError: If the set-up differs, or entries are missing, unknown or of the wrong type, naming them.
        """
        self._restore(state, _names(accept), self._goal(None))

    def _restore(self, state: Mapping[str, Any], accept: list[str], goal: int) -> None:
        """Take over a state, to go on to the epoch `goal`."""
        if self._run.status == "running":
            raise RuntimeError("this Trainer is training: a state must not be loaded within fit()")
        self._update()
        participants = self._participants(goal)
        progress, options = participants.restore(state, accept, self._options_here())
        self._begin_run(progress, resumed=True)
        is_other = state["setup"]["world_size"] != self._world_size
        self._feed.accepts_other = is_accepted("data", accept) or is_other
        self._loaded, self._options, self._accepted = dict(state), options, accept

    def fit(
        self,
        epochs: int | None = None,
        *,
        restart: bool = False,
        resume: str | os.PathLike[str] | None = None,
        accept: str | Iterable[str] = (),
    ) -> History:
        """Train on to the last epoch, from where the fit before left off.

        A batch whose step failed is tried again, and so is one that the data failed to give: the pass is then repeated
        up to it.

        Args:
            epochs: The epoch to go on to; by default the Trainer's `epochs`.
            restart: Forget what was trained: count from epoch 1 with a new history, callbacks as they were at first.
                The model and the optimizer's own state are yours to restore. The checkpoints of before are moved to a
                folder `earlier-1` (or 2 ...) in their directory when the first one of the new run is written.
            resume: Go on from a checkpoint: a file, a directory, of which the newest whole one is taken, or "auto", the
                directory of the Checkpoint callback, where a first run starts from the beginning.
            accept: What may differ from the set-up in the checkpoint, by the names that the error gives, or "all"; what
                is here counts. More epochs than before are no difference, and `epochs` is accepted if given here.
                "stopped" goes on where a callback ended the run, "data" with data that gives other batches than before,
                and "history", which "all" does not include, from a checkpoint whose history is lost, without it.

        Returns:
            The history of all epochs since the start, whichever fit trained them.

        Raises:
            RuntimeError: If a fit of this Trainer is running already.
            ValueError: If `epochs` is below 0, the data has no batch or ends too early, or the checkpoint is of another
                set-up, or of data that gave other batches.
            FileNotFoundError: If there is no checkpoint to resume from.
            CheckpointError: If it is damaged.
        """
        goal, accepted = self._goal(epochs), _names(accept)
        if self._run.status == "running":
            raise RuntimeError("this Trainer is training already: fit() must not be called within fit()")
        if resume is not None and restart:
            raise ValueError("'resume' must not be given with restart=True: to resume is not to start over")
        group = open_group() if self.group is None else self.group
        self._exchanges = Exchanges(group, owned=self.group is None)
        with self._exchanges:
            if resume is not None and (found := self._found_checkpoint(resume, accepted)) is not None:
                self._restore(found.state, [*accepted, *(() if epochs is None else ("epochs",))], goal)
                self._run.source = found.file, found.recorded
            return self._fit(goal, restart=restart, goes_on=resume == "auto")

    def _found_checkpoint(self, resume: str | os.PathLike[str], accepted: list[str]) -> Loaded | None:
        """Return the checkpoint to go on from, the same for all processes, with what each of them had of its own.

        Raises:
            ValueError: If it is of a run of other processes that cannot be continued by these.
        """
        found, exchanges = find_checkpoint(resume, self.callbacks, self._exchanges), self._exchanges
        if found is not None and is_accepted("world_size", accepted):
            check_other_world(found, exchanges.world_size, accepted)
        return found

    def _fit(self, goal: int, *, restart: bool, goes_on: bool) -> History:
        if restart:
            self._options = self._options_here()
            self._begin_run(Progress())
            for callback in self.callbacks:
                callback.reset()
        self._update()
        run, progress, feed, exchanges = self._run, self._progress, self._feed, self._exchanges
        feed.check_epochs(goal - len(progress.history))
        self._options = self._options or self._options_here()
        finished_reason = None if self._loaded is None else progress.finished_reason
        if (done := _nothing_left(progress, goal, finished_reason)) is not None:
            warnings.warn(f"nothing left to train: {done}", UserWarning, stacklevel=3)
        feed.note_length(progress)
        run.epochs, run.goes_on, progress.finished_reason = goal, goes_on, None
        known = self._participants(goal).optimizer
        callbacks = [each for each in (*self.callbacks, *self._listeners) if exchanges.is_first or each.ranks == "all"]
        dispatcher = Dispatcher(tuple(callbacks))
        live: dict[str, Any] = {"setup": partial(self._setup, goal), "live_state": self._live_state}
        fit = Fit(dispatcher, self._state, run, feed.can_be_saved, exchanges=exchanges, **live)
        with ExitStack() as leaving, fit:
            leaving.callback(self._note_options, goal)
            labelled = zip(class_labels(self.callbacks), self.callbacks, strict=True)
            first = [label for label, each in labelled if each.ranks == "first" or each.checkpoints() is not None]
            fit.first_only = frozenset(first)
            if finished_reason is not None:
                run.grant(Stop(finished_reason, for_good=True))
            fit.open()
            if self.step is not None:
                fit.watch_parameters()
            if known is None:
                self._options |= self._participants(goal).meet(self._loaded, self._options, self._accepted)
            optimizers = [(each, callback) for each, _, callback in fit.claims if not isinstance(each, Attributes)]
            run.unsaved = self._participants(goal).unsaved(optimizers)
            run.unsaved_metrics = unsaved_metrics(networks(self.model, self.extras), self.metrics.values())
            if (loaded := self._loaded) is not None:
                fit.repeat(lambda: self._resume(loaded))
                self._loaded = loaded if fit.given_up else None
            if not exchanges.is_alone:
                self._meet(goal, fit)
            fit.safe_point()
            fit.began = perf_counter() - progress.seconds
            # A stop leaves an epoch open, unless all its steps are done.
            while len(progress.history) < goal and (not fit.stopping or progress.steps_are_done) and not fit.given_up:
                self._turn(fit)
                fit.safe_point()
            fit.finish()
        return run.history

    def _meet(self, goal: int, fit: Fit) -> None:
        """Check that all processes are about to train the same run, and begin to vote."""
        run, feed, exchanges = self._run, self._feed, self._exchanges
        if feed.length_of_epoch is None:
            raise ValueError(
                f"'steps_per_epoch' must be given in a run of {exchanges.world_size} processes whose data has no "
                f"len(): all must do as many steps"
            )
        position = [run.epoch, run.step, self._progress.phase]
        run.own_weights = compare_replicas(exchanges, self._participants(goal), self._options or {}, position)
        fit.agree("at FitStart")
        exchanges.begin(run.step)

    def plan(self, epochs: int | None = None, *, updates_per_epoch: int | None = None) -> Plan:
        """Return what `fit(epochs)` would do: who receives which event, and every rate. Nothing is trained.

        Args:
            epochs: The epoch to go on to; by default the Trainer's `epochs`.
            updates_per_epoch: How many of an epoch's steps perform an update. By default as many as in the steps done,
                or as the length of the schedule says if that is less than there are steps, or else all of them. At
                least 1.

        Raises:
            ValueError: If there are fewer steps in an epoch, or the schedule does not fit the run.
        """
        from lucid_train.training.plan import planned

        self._update()
        if updates_per_epoch is not None:
            whole_number("updates_per_epoch", updates_per_epoch, least=1)
        listeners = [*self.callbacks, *self._listeners]
        return planned(self, self._run, listeners, self._goal(epochs), self._feed.length_of_epoch, updates_per_epoch)

    def _goal(self, epochs: int | None) -> int:
        return whole_number("epochs", self.epochs if epochs is None else epochs, least=0)

    def _update(self) -> None:
        """Hand on what may have been set since the last fit."""
        run, every = self._run, 1 if self.evaluate is None else self.evaluate_every
        run.model, run.optimizer = self.model, run.optimizer if self.optimizer is None else self.optimizer
        run.trains = self.step is not None or self.optimizer is not None
        run.evaluate_every, run.evaluate_steps = _evaluate_every("evaluate_every", every)
        run.evaluate_prefix, run.evaluates = self.evaluate_prefix, self.evaluate is not None
        self._feed.data, self._feed.steps_per_epoch = self.data, self.steps_per_epoch

    def _begin_run(self, progress: Progress, *, resumed: bool = False) -> None:
        self._progress, self._run, self._loaded = progress, Run(progress=progress, resumed=resumed), None
        self._feed.begin_run()

    @property
    def _world_size(self) -> int:
        return place()[1] if self.group is None else self.group.world_size

    @property
    def _random(self) -> RandomState:
        own = {name: each for name, each in self.extras.items() if is_generator(each)}
        return RandomState({**generators(self.data), **own})

    def _participants(self, epochs: int) -> Participants:
        every = None if self.evaluate is None else self.evaluate_every
        settings = epochs, self._feed.length_of_epoch, every, self._world_size
        optimizer = self._run.optimizer
        if optimizer is None:  # that of the first callback which brings one
            brought = (each.optimizer for callback in self.callbacks for each in callback.schedules())
            optimizer = next((each for each in brought if each is not None), None)
        metrics = self._metrics_of(evaluation=False)
        return Participants(
            self.model, optimizer, self.callbacks, self.extras, metrics, self._feed, self._random, settings
        )

    def _setup(self, goal: int) -> dict[str, Any]:
        return dict(unstructure(self._participants(goal).setup(self._options or {})))

    def _live_state(self) -> dict[str, Any]:
        objects = evolve(self._participants(0), metrics={}).objects()
        random = self._random
        if self._feed.is_stateful:
            of_data = generators(self.data)
            random = RandomState({name: each for name, each in random.own.items() if name not in of_data})
        return {**{name: objects[name] for name in ("model", "optimizer", "extras")}, "random": random.read()}

    def _metrics_of(self, *, evaluation: bool) -> dict[str, MetricObject]:
        """Return the metric objects of the evaluation or those of the steps."""
        prefix = self.evaluate_prefix
        belongs = {name: bool(prefix) and f"{name}_".startswith(prefix) for name in self.metrics}
        return {name: each for name, each in self.metrics.items() if belongs[name] is evaluation}

    def _note_options(self, goal: int) -> None:
        self._left = None
        with suppress(Exception):  # what is leaving the fit counts, not what a broken optimizer says to this
            self._left = self._participants(goal).options()

    def _options_here(self) -> dict[str, Options]:
        """Return the options of the optimizers as the program has set them, not as the last fit has left them."""
        here = self._participants(0).options()
        return here if self._options is None or here != self._left else self._options

    def _resume(self, state: Mapping[str, Any]) -> None:
        """Bring the data and the generators to where they stood, now that callbacks have begun."""
        random, rank = self._random, self._exchanges.rank
        self._feed.resume(state["data"], self._progress, random, state["random"])
        if rank >= state["setup"]["world_size"]:  # a process that the run did not have has the first one's generators
            random.reseed(
                [*(name for name in random.read() if name != "own"), *(f"own.{name}" for name in random.own)], rank
            )

    # The state machine: each turn does what the phase of the progress says comes next, and sets the phase that follows.

    def _turn(self, fit: Fit) -> None:
        progress = self._progress
        turns = {"between": self._open, "evaluation": self._evaluate, "asked": self._evaluate, "end": self._close}
        if fit.unevaluated and progress.phase == "steps":
            progress.phase = "asked"
        if progress.phase == "between":
            fit.began = perf_counter()
        try:
            turns.get(progress.phase, self._steps)(fit)
        finally:
            if progress.phase != "between":
                progress.seconds = perf_counter() - fit.began

    def _open(self, fit: Fit) -> None:
        """Begin an epoch: callbacks may still decide what its pass over the data will be."""
        run, progress = self._run, self._progress
        _reset(self._metrics_of(evaluation=False))
        progress.open_epoch()
        set_epoch(self.data, progress.epoch)
        self._feed.note_length(progress)
        run.emit(EpochStart(run, epoch=progress.epoch))

    def _steps(self, fit: Fit) -> None:
        """Do steps until the pass is over, an evaluation is due, or the fit needs attention."""
        run, progress, feed, means = self._run, self._progress, self._feed, self._progress.means
        random = self._random
        step, optimizer, epoch = self.step or _rehearsal(run.optimizer), run.optimizer, progress.epoch
        starts, ends = run.listeners(StepStart), run.listeners(StepEnd)
        listened, scheduled = bool(starts or ends), any(key != "lr" for _, key, _ in fit.claims)
        every = run.evaluate_steps
        evaluate_at = None if every is None else (progress.step // every + 1) * every
        pause_at = progress.step + (1 if fit.unevaluated else _STEPS_AT_ONCE)
        length = None if fit.exchanges.is_alone or self.steps_per_epoch is not None else feed.length  # of all processes
        is_whole = length is not None and progress.epoch_step >= length
        if not fit.exchanges.is_alone:
            pause_at = min(pause_at, max(fit.exchanges.due, progress.step + 1))
        if length is not None and not is_whole:
            pause_at = min(pause_at, progress.first_step + length)
        # What makes up the cost of a step stays in local names: the listeners, and the losses that are floats.
        losses: list[float] = []
        collect, began, skipped, exhausted = losses.append, progress.step, 0, False
        batch: Any = _NO_BATCH
        waits, waited = fit.waits, 0.0 if fit.waits is None else fit.waits.seconds
        starts_pass, entered = progress.phase == "start", perf_counter()
        opened = entered
        try:
            fit.repeatable = True
            feed.open_pass(progress, random)
            opened = perf_counter()
            if not starts_pass:  # what a resume does again is no wait of the epoch's
                entered = opened
            batches = feed.batches(progress, random, pause_at if evaluate_at is None else min(evaluate_at, pause_at))
            batches = self._none_of(batches) if is_whole else batches
            fit.watch_children()
            fit.raise_child_error()
            for batch in batches if waits is None else waits.timed(batches, progress.step):
                fit.repeatable = False
                if starts:
                    call(starts, StepStart(run, epoch, progress.step + 1, batch))
                output = step(batch)
                progress.step += 1
                batch = _STEPPED  # before the next one is made, this one's memory is free
                if isinstance(output, float):
                    collect(output)
                elif output is not None:
                    means.add(output)
                if type(output) is StepResult and not output.updated:
                    skipped += 1
                elif listened and optimizer is not None:
                    progress.rates = snapshot_lrs(optimizer)
                    if scheduled:
                        progress.scheduled = run.held_scheduled(snapshot_values)
                elif listened and scheduled:
                    progress.scheduled = run.held_scheduled(snapshot_values)
                if ends:
                    call(ends, StepEnd(run, epoch, progress.step, detached(output)))
                if fit.attention:
                    break
                batch = _NO_BATCH
                fit.repeatable = True
            else:
                exhausted = progress.step != pause_at
        except BaseException as error:
            fit.repeatable = False
            if batch is _NO_BATCH:
                feed.give_up_pass(progress, random)
                if fit.gives_up(error):
                    if progress.epoch_step and feed.draws(progress):
                        fit.forgo_saving("random numbers may have been drawn for the next batch")
                    return
            elif batch is not _STEPPED:
                fit.exchanges.in_step = True
                feed.give_back(batch, progress)
                if self.data is None and isinstance(error, Exception):
                    add_note(error, "step was called with None for its batch: this Trainer has no data=...")
            raise
        finally:
            fit.repeatable = False
            if progress.step > began:
                fit.is_accumulating = type(output) is StepResult and not output.updated
            progress.seconds_in_steps += perf_counter() - entered
            if waits is not None and waits.every == 1:
                progress.seconds_waiting += opened - entered + waits.seconds - waited
            if losses:
                means.extend(losses)
            means.condense()
            updates = progress.step - began - skipped
            progress.updates += updates
            fit.updates += updates
            # Without a listener nothing changes the rates between two updates, so they are read once, at the end.
            if updates and not listened:
                progress.rates = None if optimizer is None else snapshot_lrs(optimizer)
                progress.scheduled = run.held_scheduled(snapshot_values)
            if progress.step == evaluate_at:
                progress.phase = "evaluation"
        if exhausted and progress.phase == "steps":
            self._check_length_of_pass()
            feed.complete_pass(progress)
            progress.phase = "end"
        if fit.unchanged and fit.updates and (progress.phase == "end" or progress.step == pause_at):
            fit.check_parameters()
        if progress.phase == "steps":
            fit.vote()

    def _check_length_of_pass(self) -> None:
        """Refuse a pass that ends early where other processes may go on."""
        progress, length = self._progress, self._feed.length_of_epoch
        if not self._exchanges.is_alone and length is not None and progress.epoch_step < length:
            raise self._other_length(f"{progress.epoch_step}")

    def _none_of(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Refuse a batch beyond the length of the data: other processes may be at the epoch's end, and wait there."""
        for _ in batches:
            raise self._other_length("more")
        yield from ()

    def _other_length(self, found: str) -> ValueError:
        epoch, rank = self._progress.epoch, self._exchanges.rank
        return ValueError(
            f"'data' must give as many batches on all processes, {self._feed.length_of_epoch} as its len() says: epoch "
            f"{epoch} had {found} on rank {rank}; pass steps_per_epoch"
        )

    def _evaluate(self, fit: Fit) -> None:
        """Evaluate within the epoch, as is due or somebody has asked for."""
        run, progress = self._run, self._progress
        epoch, step, asked = progress.epoch, progress.step, progress.phase == "asked"
        if self.evaluate is None:  # it was set to None since the evaluation fell due
            progress.phase = "steps"
            fit.answer_evaluations(None)
            return
        began = perf_counter()
        place: dict[str, Any] = {"epoch": epoch, "step": step, "within_epoch": True, "asked": asked}
        output = self._evaluated(fit, self.evaluate, EvaluateStart(run, **place))
        if fit.given_up:
            return
        own = self._found(output, progress.means.names)
        _, found, seconds = self._combined("within an epoch", {}, own, perf_counter() - began)
        record = EvaluationRecord(epoch=epoch, step=step, seconds=seconds, metrics=found, asked=asked)
        progress.history.evaluations.append(record)
        progress.phase = "steps"
        # Callbacks change the run here: if one fails, the evaluation is over all the same.
        run.emit(EvaluateEnd(run, **place, metrics=found))
        fit.answer_evaluations(found)
        fit.agree(f"after an evaluation in epoch {epoch}")  # a vote would come at a step that depends on the clock

    def _evaluated(self, fit: Fit, evaluate: Callable[[], Any], start: EvaluateStart) -> Any:
        """Call `evaluate`. One that fails or is given up is done again when the run goes on, with the same numbers.

        One that somebody has asked for leaves the random generators as they were.
        """
        fit.run.emit(start)
        random, output, done = self._random, None, False
        before, switched = random.read(), networks(self.model, self.extras).values()
        modes = training_modes(switched)
        fit.watch_children()
        _reset(self._metrics_of(evaluation=True))
        try:
            with fit.evaluation(), ExitStack() as leaving:
                for callback in fit.run.callbacks:
                    leaving.enter_context(callback.during_evaluation(start))
                # Left first: a module may change its weights with its mode, as those of LoRA do.
                leaving.callback(restore_modes, modes)
                for network in switched if self.eval_mode else ():
                    if has_eval_mode(network):
                        network.eval()
                output = fit.repeat(evaluate)
                done = not fit.given_up
        finally:
            if start.asked or not done:
                random.write(before)
        if fit.given_up:
            for callback in filter(_changes_with_evaluations, fit.run.callbacks):
                fit.forgo_saving(f"{object_name(callback)} may have changed the run until EvaluateEnd")
        return output

    def _found(self, output: Any, taken: Iterable[str]) -> dict[str, Part] | None:
        """Return the metrics of an evaluation that has returned `output`, under names that no other metric has.

        They are None where it has returned None, as it may in a process that leaves it to others.
        """
        if output is None and not self._exchanges.is_alone:
            return None
        found = evaluation(output, self.evaluate_prefix, {*taken, *self._metrics_of(evaluation=False)})
        return found | computed(self._metrics_of(evaluation=True), found)

    def _combined(
        self, where: str, of_steps: Mapping[str, Part], of_evaluation: Mapping[str, Part] | None, seconds: float
    ) -> tuple[dict[str, float], dict[str, float], float]:
        """Return the metrics of the steps and of an evaluation over all processes, and the first one's seconds."""
        if self._exchanges.is_alone:
            return combined([of_steps], "the steps"), combined([of_evaluation or {}], "'evaluate'"), seconds
        own = {"steps": of_steps, "evaluation": of_evaluation, "seconds": seconds, "done": self._progress.epoch_step}
        given = self._exchanges.exchange(f"{where} {self._progress.epoch}", own)
        if len(set(done := [each["done"] for each in given])) > 1:
            raise ValueError(f"'data' must give as many batches on all processes: {done[:8]}; pass steps_per_epoch")
        if all(each["evaluation"] is None for each in given):
            evaluation(None, "", ())  # which refuses it
        found = combined([each["evaluation"] or {} for each in given], "'evaluate'")
        return combined([each["steps"] for each in given], "the steps"), found, given[0]["seconds"]

    def _close(self, fit: Fit) -> None:
        """Evaluate the epoch, if that is due, and end it."""
        run, progress = self._run, self._progress
        epoch, step, means = progress.epoch, progress.step, progress.means
        began = perf_counter()
        metrics = means.read()
        progress.seconds_in_steps += perf_counter() - began  # a device may have had steps to do
        of_steps = computed(self._metrics_of(evaluation=False), metrics)
        of_steps |= _of_callbacks(run, [*metrics, *of_steps])
        evaluates = self.evaluate is not None and run.evaluate_every is not None and run.evaluated(epoch)
        own: dict[str, Part] | None = {}
        if self.evaluate is not None and evaluates:
            output = self._evaluated(fit, self.evaluate, EvaluateStart(run, epoch=epoch, step=step))
            if fit.given_up:
                return
            own = self._found(output, [*metrics, *of_steps])
        if not self._exchanges.is_alone:
            of_steps = means.parts() | of_steps
        seconds = perf_counter() - fit.began
        of_all, found, first_seconds = self._combined("at the end of epoch", of_steps, own, seconds)
        metrics = metrics | of_all if self._exchanges.is_alone else of_all  # in the same order on all processes
        if evaluates:
            run.emit(EvaluateEnd(run, epoch=epoch, step=step, metrics=found))
            fit.answer_evaluations(found)
            metrics |= found
        lr = tuple(run.last_lr if progress.rates is None else map(float, progress.rates))
        # Without an update the values that stand, also of what is scheduled only since.
        used = run.scheduled | progress.scheduled
        scheduled = {name: tuple(map(float, values)) for name, values in used.items()}
        try:
            run.emit(EpochEnd(run, epoch=epoch, metrics=metrics, lr=lr))
        finally:  # if it fails, the epoch is over all the same: a schedule that has advanced must not do so again
            seconds = perf_counter() - fit.began if self._exchanges.is_alone else first_seconds
            last_lr = tuple(run.last_lr)
            record = EpochRecord(
                epoch=epoch,
                steps=progress.epoch_step,
                seconds=seconds,
                metrics=metrics,
                lr=lr,
                last_lr=last_lr,
                scheduled=scheduled,
            )
            progress.close_epoch(record)
            self._feed.end_pass()
        run.emit(EpochReport(run, record=record))
        fit.agree(f"after epoch {epoch}")


def _rehearsal(optimizer: Any) -> Callable[[Any], None]:
    """Return the step function of a Trainer that has none: it steps the optimizer, if that can be stepped."""
    step = getattr(optimizer, "step", lambda: None)

    def rehearse(batch: object) -> None:
        step()

    return rehearse


def _of_callbacks(run: Run, taken: Iterable[str]) -> dict[str, Part]:
    """Return the metrics that callbacks give an epoch, as sums and weights.

    Raises:
        TypeError: If one is no number.
        ValueError: If a name is taken, or one of several processes gives them alone.
    """
    found: dict[str, Part] = {}
    for callback in run.callbacks:
        if type(callback).epoch_metrics is not Callback.epoch_metrics:
            source = f"{object_name(callback)}.epoch_metrics()"
            given = to_parts(callback.epoch_metrics(), source)
            if given and callback.ranks == "first" and run.world_size > 1:
                raise ValueError(f"{source} must be given by all processes, its class has ranks = 'first'")
            for name, part in given.items():
                if name in found or name in taken:
                    raise ValueError(f"'callbacks' must give metrics of names that no other has: {name!r}, by {source}")
                found[name] = part
    return found


def _reset(metrics: Mapping[str, MetricObject]) -> None:
    for name, metric in metrics.items():
        attributed(f"metrics[{name!r}].reset", metric.reset)


def _changes_with_evaluations(callback: Callback) -> bool:
    """Return whether a callback may change the run when an evaluation starts: it has not said that it never does."""
    passive = type(callback).settings is not Callback.settings and not callback.settings()
    return not passive and bool(callback.hooks(EvaluateStart))


def _nothing_left(progress: Progress, goal: int, finished_reason: str | None) -> str | None:
    """Return why a fit is not going to train, or None if it is."""
    if finished_reason is not None:
        return f"{finished_reason}; pass accept='stopped' to go on"
    done = len(progress.history)
    return f"{done} epochs are done; pass more epochs, or restart=True" if done and goal <= done else None


def _names(accept: str | Iterable[str]) -> list[str]:
    return [accept] if isinstance(accept, str) else list(accept)
