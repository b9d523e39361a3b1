"""Run: what a callback may see of a training run, and what it may ask for."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any, Literal

from attrs import define, field, frozen

from lucid_train.callback import Callback, Hook
from lucid_train.command import Command
from lucid_train.events import EpochEnd, EpochReport, EvaluateEnd, Event, FitStart, Status
from lucid_train.group.exchanges import MOST_WISHES, Exchanges, alone
from lucid_train.history import History
from lucid_train.metrics import Snapshot
from lucid_train.monitor import Monitor
from lucid_train.optims.param_groups import Attributes, held_values, identities, read_rates
from lucid_train.progress import Progress
from lucid_train.training.dispatch import Dispatcher
from lucid_train.training.track import Tracked

# Every seventh step, a prime as batches that workers make in turn come late in turn. Not the first, which waits for the
# workers to start: it would count seven times.
_STEPS_PER_SAMPLE, _SAMPLE = 7, 3
_END = object()


@define(eq=False)
class Waits:
    """How long steps wait for their batches, measured for every seventh, or for all.

    Attributes:
        every: Each step whose number is a multiple of it is measured, in effect.
        seconds: How long those that are measured have waited.
        samples: How many were.
    """

    every: int = field(default=_STEPS_PER_SAMPLE, init=False)
    seconds: float = field(default=0.0, init=False)
    samples: int = field(default=0, init=False)

    @property
    def mean(self) -> float | None:
        """Seconds per batch, or None before the first."""
        return self.seconds / self.samples if self.samples else None

    def timed(self, batches: Iterable[Any], step: int) -> Iterator[Any]:
        """Yield the batches of the steps after `step`."""
        source = iter(batches)
        yield from islice(source, (_SAMPLE - step) % self.every)
        while True:
            began = perf_counter()
            batch = next(source, _END)
            self.seconds += perf_counter() - began
            if batch is _END:
                return
            self.samples += 1
            yield batch
            del batch  # its memory is free before the next one is made
            yield from islice(source, self.every - 1)


@frozen
class Stop:
    """A wish that the fit ends.

    Args:
        reason: Why.
        for_good: Whether the run is over.
        code: The exit code of an interruption: 130 because of Ctrl-C, 128 + the number of another signal; or None.
    """

    reason: str
    for_good: bool = False
    code: int | None = None

    @property
    def strength(self) -> float:
        """The order of wishes, of which the strongest is granted, an interruption before a mere stop."""
        return -math.inf if self.code is None else self.code


def exit_code(error: BaseException) -> int:
    """Return the exit code of a program that a KeyboardInterrupt or SystemExit leaves."""
    if not isinstance(error, SystemExit):
        return 130
    return error.code if isinstance(error.code, int) else int(error.code is not None)


@define(eq=False)
class Request:
    """A function that all processes call at the same safe point, once they agree.

    Args:
        function: The function.
        of: Whether "any" process decides that it is called by asking for it, or "all" have to ask.

    Attributes:
        made: Whether this process asks for it.
    """

    function: Callable[[], object]
    of: Literal["any", "all"]
    made: bool = field(default=False, init=False)

    @property
    def number(self) -> float:
        """What this process gives in a vote."""
        return float(self.made if self.of == "any" else not self.made)

    def is_granted(self, largest: float) -> bool:
        """Return whether the function is called, given the largest number of all processes."""
        return (largest == 0) is (self.of == "all")


@define(eq=False)
class Control:
    """What a run needs of the fit that is running: its callbacks, and what they have asked for. A `Fit` is one.

    Args:
        dispatcher: The callbacks.
        state_dict: Returns the state of the run, with or without its history; None if it cannot be saved.
        exchanges: The processes of the run.
        setup: Returns how the run is set up, as plain JSON; None where nothing is trained.
        live_state: Returns the states of what a step changes, as they are now; None where nothing is trained.

    Attributes:
        attention: Whether there is something to do after the current step: a stop, or a call at a safe point.
        stopping: Whether the fit is to end.
        interruption: What is to leave the fit when all else is done, or None.
        wishes: In a run of several processes, that this one wants the fit to end, until all know.
        own_interruption: What interrupts the run in this process, until all know; or None.
        requests: What processes may ask for, in the same order on all of them.
        insisted: Whether the fit is to end at once, without being saved.
        repeatable: Whether what runs now can be done again: a batch is being taken, or the run evaluated.
        deferred: What to call at the next safe point.
        between: What to call after the current step.
        endings: What to call when the fit is about to end.
        alerts: What to call when the run is interrupted.
        tracked: How far an evaluation has come.
        waits: Measures how long steps wait for their batches, if somebody wants to know.
        claims: The keys of optimizers' groups, and the attributes, that callbacks schedule, each with its callback.
        first_only: The labels of the callbacks whose state is the first process's, as they run there alone, or save.
        namesakes: The metrics of the steps that a callback follows, of which a warning has been given.
        commands: What is asked of the run, until it is carried out.
        unevaluated: Commands that ask for an evaluation which has not taken place yet.
    """

    dispatcher: Dispatcher
    state_dict: Callable[[bool], dict[str, Any]] | None
    exchanges: Exchanges = field(factory=alone, kw_only=True)
    setup: Callable[[], dict[str, Any]] | None = field(default=None, kw_only=True)
    live_state: Callable[[], dict[str, Any]] | None = field(default=None, kw_only=True)
    attention: bool = field(default=False, init=False)
    stopping: bool = field(default=False, init=False)
    interruption: BaseException | None = field(default=None, init=False)
    wishes: list[Stop] = field(factory=list, init=False)
    own_interruption: BaseException | None = field(default=None, init=False)
    requests: list[Request] = field(factory=list, init=False)
    insisted: bool = field(default=False, init=False)
    repeatable: bool = field(default=False, init=False)
    deferred: list[Callable[[], object]] = field(factory=list, init=False)
    between: list[Callable[[], object]] = field(factory=list, init=False)
    tracked: Tracked = field(factory=Tracked, init=False)
    waits: Waits | None = field(default=None, init=False)
    endings: list[Callable[[], object]] = field(factory=list, init=False)
    alerts: list[Callable[[], object]] = field(factory=list, init=False)
    claims: list[tuple[Any, str, Callback]] = field(factory=list, init=False)
    first_only: frozenset[str] = field(default=frozenset(), init=False)
    namesakes: set[str] = field(factory=set, init=False)
    commands: list[Command] = field(factory=list, init=False)
    unevaluated: list[Command] = field(factory=list, init=False)

    def carry_out(self) -> None:
        """Carry out the commands that this process and others have been given, at a safe point of all of them."""
        raise NotImplementedError


@define(eq=False)
class Run:
    """One training run, over as many fits as it takes.

    Attributes:
        model: The Trainer's model, or None.
        optimizer: The Trainer's optimizer, or that of the callback that schedules one, or None.
        epochs: The epoch that the fit goes on to.
        evaluate_every: Evaluations take place in epochs that are a multiple of this; None if steps decide.
        evaluate_steps: Evaluations take place after steps that are a multiple of this; None if epochs decide.
        evaluate_prefix: What the names of an evaluation's metrics begin with; "" if that is not known.
        evaluates: Whether there are evaluations, as far as is known.
        resumed: Whether the run goes on from a checkpoint.
        goes_on: Whether the same program goes on from the newest checkpoint: `fit` was called with resume="auto".
        trains: Whether there are weights to be trained: the Trainer has a step function or an optimizer.
        unsaved_metrics: The metrics in the model, or in extras, whose state is not part of the run's, by their places.
        own_weights: Whether the weights of some process differ from those of the first, so that each saves its own.
        unsaved: The first callback that schedules an optimizer which is not part of the run's state, by its label.
        source: The checkpoint that it goes on from, if `fit` has read it: the file, and where its history is.
        status: "ready", "running", "completed", "stopped", "interrupted" or "failed".
        reason: Why the run was stopped or failed, or None.
    """

    model: Any = None
    optimizer: Any = None
    epochs: int = 1
    evaluate_every: int | None = 1
    evaluate_steps: int | None = None
    evaluate_prefix: str = field(default="", repr=False)
    evaluates: bool = field(default=True, repr=False)
    resumed: bool = field(default=False, repr=False)
    goes_on: bool = field(default=False, init=False, repr=False)
    trains: bool = field(default=False, repr=False)
    unsaved_metrics: list[str] = field(factory=list, init=False, repr=False)
    own_weights: bool = field(default=False, init=False, repr=False)
    unsaved: str | None = field(default=None, init=False, repr=False)
    source: tuple[Path, dict[str, Any] | None] | None = field(default=None, init=False, repr=False)
    _progress: Progress = field(factory=Progress, repr=False)
    status: Status = field(default="ready", init=False)
    reason: str | None = field(default=None, init=False)
    _fit: Control | None = field(default=None, init=False, repr=False)

    @property
    def epoch(self) -> int:
        """The number of the current epoch, from 1; 0 before the first."""
        return self._progress.epoch

    @property
    def step(self) -> int:
        """Steps done, counted through the whole run."""
        return self._progress.step

    @property
    def epoch_step(self) -> int:
        """Steps done in the current epoch."""
        return self._progress.epoch_step

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps in an epoch, or None while that is unknown."""
        return self._progress.steps_per_epoch

    @property
    def history(self) -> History:
        """The finished epochs."""
        return self._progress.history

    @property
    def finished_reason(self) -> str | None:
        """Why a callback has ended the run for good, so that it does not go on when it is resumed; or None."""
        return self._progress.finished_reason

    @property
    def callbacks(self) -> tuple[Callback, ...]:
        """The callbacks of the current fit, in list order; none between fits."""
        return () if self._fit is None else self._fit.dispatcher.callbacks

    @property
    def monitored(self) -> Monitor | None:
        """The metric by which the best epoch is found, chosen for a display or else by the first callback with one."""
        found = [(callback, monitor) for callback in self.callbacks if (monitor := callback.monitored()) is not None]
        # A display changes nothing: the training depends on none of its settings, and it keeps no checkpoints.
        found.sort(key=lambda each: bool(each[0].settings()) or each[0].checkpoints() is not None)
        return found[0][1] if found else None

    @property
    def last_lr(self) -> list[float]:
        """The rates that the optimizer has now, for the next update, as a fresh list, one per group; [] without one."""
        return [] if self.optimizer is None else read_rates(self.optimizer)

    @property
    def total_steps(self) -> int | None:
        """The steps of the run when all its epochs are done, or None while that is unknown.

        >>> from lucid_train import schedules
        >>> run = Run(epochs=4, progress=Progress(steps_per_epoch=10))
        >>> schedules.Linear(0.0, 1.0, "50%").sized(run.total_steps)(10)
        0.5
        """
        steps = self._progress.steps_per_epoch
        return None if steps is None else steps * self.epochs or None

    @property
    def scheduled(self) -> dict[str, list[float]]:
        """What schedules set besides the rates, for the next update, by name, as one number per group.

        Where several optimizers or objects have numbers of one name, those of the one that is scheduled first come
        first.
        """
        return {name: list(map(float, values)) for name, values in self.held_scheduled(held_values).items()}

    def held_scheduled(self, read: Callable[[Any, str], list[Any]]) -> dict[str, list[Any]]:
        """Return what `scheduled` is read from: what `read` gives for an optimizer and a key."""
        found: dict[str, list[Any]] = {}
        for optimizer, key, _ in () if (fit := self._fit) is None else fit.claims:
            if key != "lr":
                found.setdefault(key, []).extend(read(optimizer, key))
        return found

    @property
    def interruption(self) -> BaseException | None:
        """What is going to leave `fit` because of a signal, or None if none has arrived."""
        return None if (fit := self._fit) is None else fit.interruption or fit.own_interruption

    @property
    def is_repeatable(self) -> bool:
        """Whether what runs now, an evaluation or the fetch of a batch, can be given up and done again."""
        return self._fit is not None and self._fit.repeatable

    def clock(self) -> float:
        """Return the seconds of a clock that goes as the run goes: this process's, or a replay's, by recorded times."""
        return monotonic()

    def evaluated(self, epoch: int) -> bool:
        """Return whether an epoch's metrics are complete: it is one that is evaluated, or none ever is.

        Where evaluations take place within epochs: whether one has taken place.
        """
        return bool(self.history.evaluations) if self.evaluate_every is None else epoch % self.evaluate_every == 0

    def check_metric(self, name: str, event: FitStart | EpochEnd | EpochReport | EvaluateEnd) -> None:
        """Refuse the name of a metric that a callback follows where there can be none, or has been none.

        Raises:
            ValueError: At FitStart, if it is one of an evaluation and there are none; later, if it has not come by the
                end of the first epoch that could have it.
        """
        of_evaluation = bool(self.evaluate_prefix) and name.startswith(self.evaluate_prefix)
        if isinstance(event, FitStart):
            if of_evaluation and not self.evaluates:
                cure = f"pass evaluate=..., or monitor={name.removeprefix(self.evaluate_prefix)!r}"
                raise ValueError(
                    f"'monitor' must be a metric of the steps, as the Trainer has no evaluate: {name!r}; {cure}"
                )
            return
        known, of_steps = self._metrics_of(event), bool(self.evaluate_prefix) and not of_evaluation
        complete = of_evaluation if isinstance(event, EvaluateEnd) else of_steps or self.evaluated(event.epoch)
        if complete and name not in known:
            plain = name.removeprefix("train_")  # as Lightning and others name the metrics of the steps
            near = [plain] if plain in known else get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            if of_steps and not self._progress.means.names and not isinstance(event, EpochReport):
                hint = "; the step function returned none: let it return the loss"
            elif not near and of_steps and self.evaluates:
                hint = f"; those of the evaluation begin with {self.evaluate_prefix!r}"
            raise ValueError(f"'monitor' must be one of the metrics, {', '.join(known) or 'none'}: {name!r}{hint}")

    def value_of(self, name: str, event: EpochEnd | EpochReport | EvaluateEnd) -> float | None:
        """Return the metric that a callback follows, once for each time that it is measured; otherwise None.

        A metric of the steps, or of an evaluation at an epoch's end, comes with EpochEnd and EpochReport; that of an
        evaluation within an epoch with its EvaluateEnd; one that somebody has asked for is not measured for callbacks.
        If it is one of the steps and the evaluation has it too, under a name of its own, a warning says so, once in a
        fit.

        Raises:
            ValueError: If there is no such metric by the end of the first epoch that could have it.
        """
        if isinstance(event, EvaluateEnd) and (event.asked or not event.within_epoch):
            return None
        self.check_metric(name, event)
        metrics = event.record.metrics if isinstance(event, EpochReport) else event.metrics
        twin = f"{self.evaluate_prefix}{name}"
        warned = set() if self._fit is None else self._fit.namesakes
        if twin != name and name in metrics and twin in self._metrics_of(event) and name not in warned:
            warned.add(name)
            sentence = f"a callback follows {name!r}, which is of the training steps; the evaluation gives {twin!r}"
            warnings.warn(sentence, UserWarning, stacklevel=2)
        return metrics.get(name)

    def _metrics_of(self, event: EpochEnd | EpochReport | EvaluateEnd) -> list[str]:
        """Return the names of the metrics that are known at an event, those of the steps or of an evaluation first."""
        metrics = event.record.metrics if isinstance(event, EpochReport) else event.metrics
        if isinstance(event, EvaluateEnd):
            return [*sorted(self._progress.means.names), *metrics]
        within = self.history.evaluations[-1].metrics if self.history.evaluations else ()
        return list(dict.fromkeys([*metrics, *within]))

    def stop(self, reason: str = "stopped by a callback", *, for_good: bool = False) -> None:
        """End the fit after the current step; in a run of several processes, after a later one, the same on all.

        An epoch whose steps are all done is still finished: evaluated, ended and reported. One that is left in the
        middle stays open, and the next `fit` goes on in it.

        Args:
            reason: Why, for the log and the history. The first reason given stays.
            for_good: Whether the run is over, so that one which is resumed from here does not go on either.

        Raises:
            TypeError: If the reason is not a string.
        """
        if not isinstance(reason, str):
            raise TypeError(f"'reason' must be a string: {reason!r}")
        self._wish(Stop(reason, for_good))

    def _wish(self, stop: Stop) -> None:
        fit = self._fit
        if fit is None or fit.exchanges.is_alone:
            self.grant(stop)
            return
        # One that adds nothing is left out: a callback may ask after every step until all know.
        known = fit.wishes
        is_stronger = not fit.stopping and all(each.strength < stop.strength for each in known)
        if is_stronger or (stop.for_good and not any(each.for_good for each in known)):
            known.append(stop)

    def grant(self, stop: Stop) -> None:
        """End the fit after the current step, as all processes know by now."""
        if stop.for_good and self._progress.finished_reason is None:
            self._progress.finished_reason = stop.reason
        if self._fit is not None and not self._fit.stopping:
            self.reason = stop.reason
            self._fit.stopping = self._fit.attention = True

    def interrupt(self, error: BaseException, reason: str) -> None:
        """End the fit after the current step, as `stop` does, with status "interrupted", and let `error` leave `fit`.

        Args:
            error: A KeyboardInterrupt or SystemExit, raised when everything else is done.
            reason: Why, for the log and the history.
        """
        fit = self._fit
        self._wish(Stop(reason, code=exit_code(error)))
        if fit is None or fit.interruption is not None or fit.own_interruption is not None:
            return
        if fit.exchanges.is_alone:
            fit.interruption = error
        else:
            fit.own_interruption = error
        for alert in fit.alerts:
            alert()

    def insist(self) -> None:
        """Let the next KeyboardInterrupt end the fit without saving it, as the second Ctrl-C does."""
        if self._fit is not None:
            self._fit.insisted = True

    def at_interruption(self, function: Callable[[], object]) -> None:
        """Call a function as soon as a signal interrupts this fit, while the current step still runs.

        It is called within the handler of the signal, between any two instructions of the program: it must not print,
        wait, or take a lock. It may start a thread that does.

        Raises:
            RuntimeError: If no fit is running.
        """
        self._running("be interrupted").alerts.append(function)

    def agreement(self, function: Callable[[], object], of: Literal["any", "all"] = "any") -> Callable[[], None]:
        """Return a function that asks for a call of `function` on all processes, at the same safe point.

        What one process alone decides, by its clock or a signal, is done on all this way. Use it in a hook of FitStart,
        in the same order on all processes; what is returned may be called at any moment of this fit, in any thread. In
        a run of one process the next safe point is the one.

        Args:
            function: Called without arguments.
            of: Whether "any" process may ask for it, or "all" have to.

        Raises:
            RuntimeError: If no fit is running.
            ValueError: If there are more of them than a vote has room for.
        """
        fit = self._running("agree")
        if len(fit.requests) == MOST_WISHES - 1:
            raise ValueError(
                f"'function' must be one of at most {MOST_WISHES - 1} that processes agree on: {function!r}"
            )
        request = Request(function, of)
        fit.requests.append(request)

        def ask() -> None:
            if self._running("agree").exchanges.is_alone:
                self.at_safe_point(request.function)
            request.made = True

        return ask

    def command(self, command: Command) -> None:
        """Let all processes carry out a command at the same safe point; any thread of any process may ask for it.

        `CommandAnswered` says what came of it, unless the fit fails before.

        Raises:
            TypeError: If it is not a Command.
            RuntimeError: If no fit is running.
        """
        if not isinstance(command, Command):
            raise TypeError(f"'command' must be a Command, as Command('save'): {command!r}")
        fit = self._running("carry out a command")
        fit.commands.append(command)
        if fit.exchanges.is_alone:
            self.at_safe_point(fit.carry_out)
        else:
            fit.requests[0].made = True

    def exchange(self, place: str, value: Any = None) -> list[Any]:
        """Give a value to all processes, wait for them, and return what each gives, in the order of their ranks.

        Use it in a hook that runs on all of them. If one of them has failed in the meantime, all raise.

        Args:
            place: Where in the run this is, such as "MyCallback at EpochEnd", which must be the same on all.
            value: Plain JSON; floats are exact.

        Raises:
            RuntimeError: If no fit is running, a process has failed, or is at another place.
        """
        return self._running("exchange anything").exchanges.exchange(place, value)

    @property
    def rank(self) -> int:
        """The number of this process among those that train the run, from 0."""
        return 0 if self._fit is None else self._fit.exchanges.rank

    @property
    def world_size(self) -> int:
        """How many processes train the run."""
        return 1 if self._fit is None else self._fit.exchanges.world_size

    @property
    def first_only(self) -> frozenset[str]:
        """The labels of the callbacks whose state is the first process's, as they run there alone, or save."""
        return frozenset() if self._fit is None else self._fit.first_only

    @property
    def connection(self) -> str:
        """What connects these processes, such as "torch.distributed"."""
        return "one process" if self._fit is None else self._fit.exchanges.group.name

    def at_safe_point(self, function: Callable[[], object]) -> None:
        """Call a function at the next moment at which the run can be saved, once.

        That is when all callbacks have received FitStart, EpochStart, StepEnd, the EvaluateEnd of an evaluation within
        an epoch, or EpochReport, whichever is next or current; or FitEnd, unless the fit has failed. In between, some
        callbacks would have received what others have not.

        Raises:
            RuntimeError: If no fit is running.
        """
        fit = self._running("reach a safe point")
        fit.deferred.append(function)
        fit.attention = True

    def after_step(self, function: Callable[[], object]) -> None:
        """Call a function in the thread that trains, between two steps, once; any thread may ask for it.

        Without a fit it is not called, and in a replay neither. It must not raise.
        """
        if (fit := self._fit) is not None:
            fit.between.append(function)
            fit.attention = True

    def before_end(self, function: Callable[[], object]) -> None:
        """Call a function when this fit is about to end in good order, before any callback receives FitEnd.

        The run can be saved then: what the function asks for with `at_safe_point` is called next. It is called at each
        safe point at which the fit has been stopped or interrupted: the last epoch may still be evaluated after that.

        Raises:
            RuntimeError: If no fit is running.
        """
        self._running("end").endings.append(function)

    def state_dict(self, *, history: bool = True) -> dict[str, Any]:
        """Return the state of the Trainer, from which a run can go on; call it at a safe point.

        Args:
            history: Whether the history is in it. Without it, it costs the same after many epochs as after few.

        Raises:
            RuntimeError: If no fit is running.
        """
        if self._fit is None or self._fit.state_dict is None:
            raise RuntimeError("no fit is running; ask the Trainer for its state_dict()")
        return self._fit.state_dict(history)

    def live_state(self) -> dict[str, Any] | None:
        """Return the states of model, optimizer, extras and random generators as they are now, within a step too.

        The arrays may be the live ones. Generators of data that says itself where it stands are left out: when it draws
        from them is its own affair. In a replay, and without a fit, it is None.
        """
        return None if self._fit is None or self._fit.live_state is None else self._fit.live_state()

    def setup(self) -> dict[str, Any] | None:
        """Return how the run is set up, as plain JSON: its length, its classes, and the settings of its callbacks.

        Callbacks that only show and record are left out. In a replay, and without a fit, it is None.
        """
        if self._fit is None or self._fit.setup is None:
            return None
        found = self._fit.setup()
        callbacks = found["callbacks"].items()
        own = {label: settings for label, settings in callbacks if settings or label not in self.first_only}
        return {**found, "callbacks": own}

    def emit(self, event: Event) -> None:
        """Let every callback receive an event, one of your own for example, in list order.

        Raises:
            RuntimeError: If no fit is running.
        """
        if self._fit is None:
            self._running(f"receive {event!r}")  # which raises; the text takes longer than most hooks
        else:
            self._fit.dispatcher.emit(event)

    def listeners(self, event: type[Event]) -> list[Hook]:
        """Return all hooks for this kind of event, in list order; empty if there are none."""
        return [] if self._fit is None else self._fit.dispatcher.listeners(event)

    def measure_hooks(self) -> None:
        """Measure how long each hook takes, from the next epoch of this fit on, or from the first if FitStart asks."""
        if self._fit is not None:
            self._fit.dispatcher.measure()

    @property
    def hook_seconds(self) -> dict[str, float]:
        """The seconds spent so far in each hook, as "EarlyStopping.on_epoch_end"; {} unless they are measured."""
        return {} if self._fit is None else dict(self._fit.dispatcher.seconds or {})

    def measure_waits(self, *, all_steps: bool = False) -> None:
        """Measure how long steps wait for their batches, from the next epoch of this fit on, or from the first.

        Args:
            all_steps: Whether every step is measured, as `seconds_waiting` needs it, and not every seventh.
        """
        if self._fit is not None:
            self._fit.waits = self._fit.waits or Waits()
            if all_steps:
                self._fit.waits.every = 1

    @property
    def seconds_in_steps(self) -> float:
        """How long the steps of the open epoch have taken, with the waits for their batches; read it at its end.

        Evaluations and saves are left out, and what callbacks do between steps is not.
        """
        return self._progress.seconds_in_steps

    @property
    def seconds_waiting(self) -> float:
        """How long of that they have waited for batches; 0 unless `measure_waits` has asked for all steps."""
        return self._progress.seconds_waiting

    @property
    def seconds_per_batch(self) -> float | None:
        """How long a step waits for its batch, in the mean; None unless it is measured."""
        waits = None if self._fit is None else self._fit.waits
        return None if waits is None else waits.mean

    @property
    def tracked(self) -> tuple[int, int | None] | None:
        """How many items of the evaluation are done, and of how many; None unless it uses `lucid_train.track`."""
        tracked = None if self._fit is None else self._fit.tracked
        # Read once: another thread may change it.
        return None if tracked is None or (done := tracked.done) is None else (done, tracked.total)

    def snapshot(self) -> Snapshot:
        """Return the means of the open epoch's metrics as they are now; ask for it between two steps."""
        return self._progress.means.snapshot()

    def claim(self, optimizer: Any, callback: Callback, keys: Iterable[str] = ("lr",)) -> None:
        """Say that `callback` sets these keys of `optimizer`'s groups; it becomes the run's if the run has none.

        Args:
            optimizer: The optimizer, or the `Attributes` of an object.
            callback: The callback.
            keys: The keys, or the names of the attributes.

        Raises:
            RuntimeError: If no fit is running.
            ValueError: If another callback of this fit sets one of them already.
        """
        claims = self._running("schedule an optimizer").claims
        own, of_object = identities(optimizer), isinstance(optimizer, Attributes)
        for key in keys:
            for claimed, name, owner in claims:
                if owner is not callback and name == key and own & identities(claimed):
                    what = "rates" if key == "lr" else key
                    place = f"the {type(optimizer.target).__name__}" if of_object else "one optimizer"
                    raise ValueError(
                        f"'callbacks' must have one schedule per number: {owner!r} and {callback!r} set the same "
                        f"{what} of {place}; keep one, or join them: first.until(5).then(second)"
                    )
            claims.append((optimizer, key, callback))
        if self.optimizer is None and not of_object:
            self.optimizer = optimizer

    def _running(self, use: str) -> Control:
        if self._fit is None:
            raise RuntimeError(f"no fit is running that could {use}")
        return self._fit
