"""Run: what a callback may see of a training run, and what it may ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from time import monotonic
from types import GeneratorType
from typing import Any

from attrs import define, field

from lucid_train.callback import Callback, Hook
from lucid_train.events import Event, Status
from lucid_train.history import EpochRecord, History
from lucid_train.metrics import Means
from lucid_train.optims.param_groups import read_rates
from lucid_train.training.dispatch import Dispatcher


@define(eq=False)
class OpenEpoch:
    """What is known of an epoch that has begun and is not finished yet; the Trainer keeps it."""

    batches: Iterator[Any]
    first_step: int
    one_shot: bool = False
    trained: bool = False
    # A batch that was taken and whose step failed.
    pending: tuple[Any, ...] = ()
    means: Means = field(factory=Means)
    seconds: float = 0.0
    # When the part of it began that is being trained now; None while none is.
    began: float | None = None
    # Where the random generators stood before the pass and before its first batch, if that can matter.
    random: list[dict[str, Any]] | None = None
    # What the last update used; a tensor's rate as a copy, not as a float, so that no device waits.
    rates: list[Any] | None = None

    @property
    def broken(self) -> bool:
        """Whether an exception ended the pass early: a generator that raises cannot go on, other iterators can."""
        return isinstance(self.batches, GeneratorType) and self.batches.gi_frame is None and not self.trained

    def record(self, run: Run, metrics: dict[str, float], lr: tuple[float, ...], seconds: float) -> EpochRecord:
        """Return the finished epoch; `seconds` is what it took besides its steps and its evaluation."""
        return EpochRecord(
            epoch=run.epoch,
            steps=run.epoch_step,
            seconds=self.seconds + seconds,
            metrics=metrics,
            lr=lr,
            last_lr=tuple(run.last_lr),
        )

    def remaining(self, count: int | None) -> Iterator[Any]:
        """Return the batches to go on with, at most `count`."""
        # Made anew for each fit, as an islice is at its end once what it reads has failed.
        batches = self.batches if count is None else islice(self.batches, count - len(self.pending))
        pending, self.pending = self.pending, ()
        return chain(pending, batches) if pending else batches


@define(eq=False)
class Run:
    """One training run, over as many fits as it takes.

    Attributes:
        model: The Trainer's model, or None.
        optimizer: The Trainer's optimizer, or that of the callback that schedules one, or None.
        epochs: The epoch that the fit goes on to.
        steps_per_epoch: Steps in an epoch, or None while that is unknown.
        evaluate_every: Evaluations take place in epochs that are a multiple of this.
        epoch: The number of the epoch at hand, from 1; 0 before the first.
        step: Steps done, counted through the whole run.
        history: The finished epochs.
        resumed: Whether the run was taken up from a checkpoint.
        status: "ready", "running", "completed", "stopped", "interrupted" or "failed".
        reason: Why the run was stopped or failed, or None.
    """

    model: Any = None
    optimizer: Any = None
    epochs: int = 1
    steps_per_epoch: int | None = None
    evaluate_every: int = 1
    epoch: int = field(default=0, init=False)
    step: int = field(default=0, init=False)
    history: History = field(factory=History, init=False)
    resumed: bool = field(default=False, init=False, repr=False)
    status: Status = field(default="ready", init=False)
    reason: str | None = field(default=None, init=False)
    open_epoch: OpenEpoch | None = field(default=None, init=False, repr=False)
    stopping: bool = field(default=False, init=False, repr=False)
    over: str | None = field(default=None, init=False, repr=False)
    # Whether the latest pass over the data was given up before its end.
    left_pass: bool = field(default=False, init=False, repr=False)
    # What is to be called when the event at hand has been heard by all; the Trainer looks at it after each step.
    requests: list[Callable[[], object]] = field(factory=list, init=False, repr=False)
    interruption: BaseException | None = field(default=None, init=False, repr=False)
    _endings: list[Callable[[], object]] = field(factory=list, init=False, repr=False)
    _state: Callable[[], dict[str, Any]] | None = field(default=None, init=False, repr=False)
    _dispatcher: Dispatcher | None = field(default=None, init=False, repr=False)
    _claims: list[tuple[Any, str, Callback]] = field(factory=list, init=False, repr=False)

    @property
    def callbacks(self) -> tuple[Callback, ...]:
        """The callbacks of the fit at hand, in the order in which they hear; none between fits."""
        return () if self._dispatcher is None else self._dispatcher.callbacks

    @property
    def epoch_step(self) -> int:
        """Steps done in the epoch at hand."""
        part = self.open_epoch  # looked at once: a display reads this from a thread of its own
        return 0 if part is None else self.step - part.first_step

    @property
    def last_lr(self) -> list[float]:
        """The rates that the optimizer has now, for the next update: a fresh list, one per group; [] without one."""
        return [] if self.optimizer is None else read_rates(self.optimizer)

    def clock(self) -> float:
        """Return the seconds of a clock that goes as the run goes: this process's, or a replay's, by recorded times."""
        return monotonic()

    def evaluated(self, epoch: int) -> bool:
        """Return whether the metrics of an epoch are all there are: it is one that is evaluated, or none ever is."""
        return epoch % self.evaluate_every == 0

    def stop(self, reason: str = "stopped by a callback", *, for_good: bool = False) -> None:
        """End the fit after the step in hand.

        An epoch whose steps are all done is still finished: evaluated, ended and reported. One that is left in the
        middle stays open, and the next `fit` goes on in it.

        Args:
            reason: Why, for the log and the history. The first reason given stays.
            for_good: Whether the run has come to its end, so that one which is resumed from here does not go on either.
        """
        if for_good and self.over is None:
            self.over = reason
        if not self.stopping:
            self.stopping = True
            self.reason = reason

    def interrupt(self, error: BaseException, reason: str) -> None:
        """End the fit after the step in hand, as `stop` does, with status "interrupted", and let `error` leave `fit`.

        Args:
            error: A KeyboardInterrupt or SystemExit, raised when everything else is done.
            reason: Why, for the log and the history.
        """
        self.stop(reason)
        if self.interruption is None:
            self.interruption = error

    def when_settled(self, function: Callable[[], object]) -> None:
        """Call a function at the next moment at which the run can be saved, once.

        That is when FitStart, EpochStart, StepEnd or EpochReport, whichever is next or is at hand, has been heard by
        all; or FitEnd, unless the fit has failed. In between some callbacks would have heard what others have not.
        """
        self.requests.append(function)

    def before_end(self, function: Callable[[], object]) -> None:
        """Call a function when the loop of this fit is over in good order, before anybody hears FitEnd."""
        self._endings.append(function)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the Trainer, from which a run can go on; call it when the run is settled.

        Raises:
            RuntimeError: If no fit is running.
        """
        if self._state is None:
            raise RuntimeError("no fit is running; ask the Trainer for its state_dict()")
        return self._state()

    def emit(self, event: Event) -> None:
        """Let every callback hear an event, one of your own for example, in list order.

        Raises:
            RuntimeError: If no fit is running.
        """
        if self._dispatcher is None:
            raise RuntimeError(f"no fit is running that could hear {event!r}")
        self._dispatcher.emit(event)

    def listeners(self, event: type[Event]) -> list[Hook]:
        """Return all that hear this kind of event, in list order; empty if nobody does."""
        return [] if self._dispatcher is None else self._dispatcher.listeners(event)

    def measure_hooks(self) -> None:
        """Measure from the next epoch of this fit on how long each hook takes; asked for in FitStart, it is all."""
        if self._dispatcher is not None:
            self._dispatcher.measure()

    @property
    def hook_seconds(self) -> dict[str, float]:
        """The seconds spent so far in each hook, as "EarlyStopping.on_epoch_end"; {} unless they are measured."""
        return {} if self._dispatcher is None or self._dispatcher.seconds is None else dict(self._dispatcher.seconds)

    def claim(self, optimizer: Any, callback: Callback, keys: Iterable[str] = ("lr",)) -> None:
        """Say that `callback` sets these keys of `optimizer`'s groups; it becomes the run's if the run has none.

        Raises:
            ValueError: If another callback of this fit sets one of them already.
        """
        for key in keys:
            for claimed, name, owner in self._claims:
                if claimed is optimizer and name == key and owner is not callback:
                    raise ValueError(
                        f"'callbacks' must have one schedule per optimizer: {owner!r} and {callback!r} set the same "
                        f"{'rates' if key == 'lr' else key}; join them in one: first.until(5).then(second)"
                    )
            self._claims.append((optimizer, key, callback))
        if self.optimizer is None:
            self.optimizer = optimizer

    def begin(
        self, dispatcher: Dispatcher, epochs: int, state: Callable[[], dict[str, Any]], over: str | None = None
    ) -> None:
        """Enter a fit; the Trainer does this."""
        self._dispatcher = dispatcher
        self._state = state
        self.interruption = None
        self.epochs = epochs
        self.stopping, self.over = False, None
        self._conclude("running", None)
        if over is not None:
            self.stop(over, for_good=True)

    def settle(self) -> None:
        """Do what was put off until now; the Trainer does this."""
        while self.requests:
            self.requests.pop(0)()

    def finish(self) -> None:
        """Do what is to be done at the end of the loop, and raise what interrupted it; the Trainer does this."""
        for function in self._endings:
            function()
        if self.interruption is not None:
            raise self.interruption

    def conclude(self, error: BaseException | None = None) -> None:
        """Settle how the fit ended; the Trainer does this."""
        if error is not None and error is self.interruption:
            self._conclude("interrupted", self.reason)
        elif isinstance(error, KeyboardInterrupt):
            self._conclude("interrupted", "interrupted by the keyboard")
        elif error is not None:
            self._conclude("failed", _described(error))
        elif self.stopping and len(self.history) < self.epochs:
            self._conclude("stopped", self.reason)
        else:  # a stop that came with the last epoch has stopped nothing
            self._conclude("completed", None)

    def leave(self) -> None:
        """Let go of the fit's callbacks; the Trainer does this."""
        self._dispatcher = self._state = self.interruption = None
        self._claims.clear()
        self._endings.clear()
        self.requests.clear()

    def _conclude(self, status: Status, reason: str | None) -> None:
        self.status = self.history.status = status
        self.reason = self.history.reason = reason


def _described(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}".rstrip(": ")
    except Exception:  # one whose own __str__ fails must not keep the callbacks from hearing of it
        return type(error).__name__
