"""Tracker: the base of callbacks that send a run to an experiment tracker."""

from __future__ import annotations

import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

from attrs import define, field

from lucid_train.callback import TRANSIENT, Callback, Hook, Ranks, Subscription
from lucid_train.description import class_labels, object_name, parameter_count, plain_settings
from lucid_train.events import (
    EpochReport,
    EvaluateEnd,
    Event,
    FitEnd,
    FitError,
    FitStart,
    Saved,
    Status,
    StepEnd,
)
from lucid_train.metrics import copied, to_metrics
from lucid_train.recording.placeholders import RecordedCallback
from lucid_train.training.plan import schedule_text
from lucid_train.training.run import Run
from lucid_train.validation import checked, flag, real_number, whole_number

# How many steps and records wait to be sent at most; of more, the oldest are given up.
_MOST_WAITING = 100_000
# How many numbers are sent at once at most, and seconds between two tries.
_MOST_AT_ONCE = 1000
_SECONDS_BETWEEN = 1.0

T = TypeVar("T")


@define(frozen=True)
class Point:
    """One number of a run.

    Args:
        name: Of an epoch or an evaluation the metric's, and "lr", "epoch" and "seconds" (a metric with such a name gets
            the prefix `metric_`); of a step the metric's after "step/".
        value: The number; NaN and the infinities are possible.
        step: Steps of the run that were done, from 0.
        time: When it came to be known, in seconds since 1970.
    """

    name: str
    value: float
    step: int
    time: float


@define(frozen=True)
class Opening:
    """What a tracker is opened for.

    Args:
        run_id: The run's id at the tracker: that in the checkpoint, or a new one.
        begun: Whether the tracker has a run of this id, because the run is resumed or fitted once more.
        step: Steps that are done. What the tracker has beyond them is trained again.
        parameters: The settings of the run by dotted names, as plain JSON values without mappings and lists.
    """

    run_id: str
    begun: bool
    step: int
    parameters: Mapping[str, bool | int | float | str | None]


def _config(instance: object, attribute: Any, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"'config' must be a mapping of your program's own settings: {value!r}")


@define(eq=False, kw_only=True)
class Tracker(Callback, ABC):
    """The base of callbacks that send a run to an experiment tracker; a subclass writes `open`, `send` and `close`.

    These three are called in a thread of the tracker's own, one after another; `prepare`, which imports packages, in
    the thread that trains. A step never waits: what it returned is read, and sent, in the thread. Numbers that could
    not be sent are kept, 100,000 steps and records at most, and sent again. No number is sent twice: not what `sent`
    says that the tracker has, when a run is resumed, nor a step that a metric has come to already.

    Opening and ending a fit each wait up to `timeout` seconds for the tracker, and the interpreter's exit not at all.
    If the tracker cannot be opened, a warning says so and the training goes on without it; a run that it opens later
    than that is ended as failed. Another warning says what stayed unsent in the end. A fit does not open a tracker that
    hangs in a call of the fit before.

    Args:
        step_every: Send the metrics of every step whose number is a multiple of this; by default of none. At least 1.
        config: Settings of your program, to be shown as parameters beside those of the run.
        timeout: Seconds to wait for the tracker when a fit starts and when it ends. Above 0.
        strict: Wait at every epoch, and raise what would otherwise be a warning.

    Raises:
        ImportError: When the fit starts, if the tracker's package is not installed.
        RuntimeError: When the fit starts or later, if `strict` and the tracker cannot be reached.
    """

    ranks: ClassVar[Ranks] = "first"

    step_every: int | None = field(default=None, validator=checked(whole_number, least=1))
    config: Mapping[str, Any] = field(factory=dict, validator=_config)
    timeout: float = field(default=10.0, validator=checked(real_number, above=0))
    strict: bool = field(default=False, validator=checked(flag))
    _tracker_run_id: str | None = field(default=None, init=False, repr=False)
    _worker: _Worker | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _thread: threading.Thread | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)

    def prepare(self) -> None:  # a tracker without a package has nothing to import
        """Import what `open` and `send` need; called in the thread that trains, before `open`."""

    @abstractmethod
    def open(self, opening: Opening) -> str | None:
        """Create the run at the tracker, or open it again, and return its id there, if the tracker has given it one."""

    def sent(self) -> Mapping[str, int] | None:
        """Return the last step that the tracker has of each metric, called after `open` if it had the run.

        None, the default, means that it has all metrics of the steps that are done, and none beyond.
        """
        return None

    @abstractmethod
    def send(self, points: Sequence[Point]) -> None:
        """Send these numbers, and return when a kill can no longer lose them.

        They are sent again later if this raises.
        """

    @abstractmethod
    def close(self, status: Status) -> None:
        """End the run at the tracker.

        Args:
            status: "completed", "stopped", "interrupted" or "failed".
        """

    def metric_name(self, name: str) -> str:
        """Return the name that a metric has at the tracker, where some are not allowed."""
        return name

    def waits(self) -> bool:
        """Return whether the run waits at every epoch and evaluation until all is sent; for those that write files.

        Where that takes longer than `timeout`, it does not wait again until something was sent.
        """
        return False

    def settings(self) -> dict[str, Any]:
        return {}  # nothing here changes the training: a run may be resumed with another tracker, or none

    def hooks(self, event: type[Event]) -> list[Hook]:
        if event is not StepEnd:
            return super().hooks(event)
        return [] if self.step_every is None else [Subscription(StepEnd, every=self.step_every).wrap(self._take_step)]

    def on_fit_start(self, event: FitStart) -> None:
        run = event.run
        self.prepare()
        begun = self._tracker_run_id is not None and run.step > 0  # a Trainer of its own begins a run of its own
        run_id = self._tracker_run_id if self._tracker_run_id is not None and begun else uuid4().hex
        opening = Opening(run_id, begun, run.step, _parameters(run, self.config))
        self._worker = worker = _Worker(self, self.strict)
        self._thread = worker.start(opening, self._thread)
        if not worker.opened.wait(self.timeout) or worker.failure is not None:
            self._worker = None
            worker.abandon()
            cause = worker.failure or self._no_answer()
            self._complain(f"could not be opened, and is sent nothing in this fit: {cause}", worker.failure)
            return
        self._tracker_run_id = worker.run_id
        now = time.time()
        for record in run.history.records():
            worker.add(int(record["step"]), _numbers(record), now)
        self._flush()

    def on_evaluate_end(self, event: EvaluateEnd) -> None:
        if event.within_epoch and self._worker is not None:
            self._worker.add(event.step, dict(event.metrics), time.time())
            self._flush()

    def on_epoch_report(self, event: EpochReport) -> None:
        if self._worker is not None:
            self._worker.add(event.run.step, _numbers(event.run.history.row(-1)), time.time())
            self._flush()

    def on_saved(self, event: Saved) -> None:
        self._flush()

    def on_fit_error(self, event: FitError) -> None:
        if self._worker is not None:
            self._worker.flush()

    def on_fit_end(self, event: FitEnd) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.finish(event.status)
        done = worker.wait(self.timeout)
        worker.abandon()
        if done and self._thread is not None:
            self._thread.join(self.timeout)  # it has nothing left to do but to end
        unsent, lost = worker.unsent(), worker.lost
        if unsent or lost or not done or worker.failure is not None:
            what = f"has {unsent + lost} steps and records fewer" if unsent or lost else "may show the run as going on"
            self._complain(f"{what}: {worker.failure or self._no_answer()}", worker.failure)

    def _take_step(self, event: StepEnd) -> None:
        if self._worker is not None:
            self._worker.add(event.step, copied(event.output), time.time(), of_step=True)

    def _flush(self) -> None:
        worker = self._worker
        if worker is None:
            return
        worker.flush()
        if self.strict:
            if not worker.wait(self.timeout):
                self._complain(f"could not be sent to: {worker.failure or self._no_answer()}", worker.failure)
        elif self.waits() and not worker.stalled:  # it may hang for long: not once more at every epoch
            worker.stalled = not worker.wait(self.timeout)

    def _no_answer(self) -> str:
        return f"no answer within {self.timeout:g} s"

    def _complain(self, what: str, cause: BaseException | None) -> None:
        text = f"{type(self).__name__} {what}"
        if self.strict:
            raise RuntimeError(text) from cause
        warnings.warn(text, RuntimeWarning, stacklevel=2)


class _Worker:
    """The thread that calls a tracker, and what waits for it.

    Attributes:
        opened: Set when the tracker is open, or cannot be opened.
        run_id: The run's id at the tracker.
        failure: What the tracker raised last, or None since it has taken something.
        stalled: Whether a wait was in vain, and the tracker has taken nothing since.
        lost: How many steps and records were given up, because too many waited.
    """

    def __init__(self, tracker: Tracker, patient: bool) -> None:
        self.opened = threading.Event()
        self.run_id = ""
        self.failure: Exception | None = None
        self.stalled = False
        self.lost = 0
        self._tracker, self._patient = tracker, patient
        self._waiting: deque[tuple[int, Any, float, bool]] = deque()
        self._points: list[Point] = []  # of entries that were taken from those, and are not sent yet
        self._taken = 0  # how many entries they are of
        self._last: dict[str, int] = {}
        self._floor = -1  # the last step of a metric that is not in those
        self._changed = threading.Condition()
        self._urgent = self._busy = self._abandoned = self._closed = False
        self._status: Status | None = None

    def start(self, opening: Opening, before: threading.Thread | None) -> threading.Thread:
        """Open the tracker in a thread as soon as the one before has ended, and send what is added from then on."""
        name = f"lucid_train.{type(self._tracker).__name__}"
        thread = threading.Thread(target=self._work, args=(opening, before), name=name, daemon=True)
        thread.start()
        return thread

    def add(self, step: int, output: Any, time: float, *, of_step: bool = False) -> None:
        """Let numbers wait to be sent; it does not wait, unless the tracker is strict and too many are waiting."""
        if len(self._waiting) >= _MOST_WAITING:
            if self._patient:
                self.flush()
                self.wait(self._tracker.timeout)
            else:
                self._waiting.popleft()
                self.lost += 1
        self._waiting.append((step, output, time, of_step))

    def flush(self) -> None:
        """Let all that waits be sent now."""
        with self._changed:
            self._urgent = True
            self._changed.notify_all()

    def finish(self, status: Status) -> None:
        """Let all that waits be sent, and the run at the tracker be ended."""
        with self._changed:
            self._status, self._urgent = status, True
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until all is done, or a try has failed that is not for the end; return whether all is."""
        with self._changed:
            ended = self._status is not None
            self._changed.wait_for(lambda: self._is_done() or (self.failure is not None and not ended), seconds)
            return self._is_done()

    def _is_done(self) -> bool:
        if self._status is not None:
            return self._closed  # the thread looks at nothing more then, and ends
        return not (self._busy or self._urgent or self.unsent())

    def abandon(self) -> None:
        """Let the thread end as soon as the tracker lets go of it."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def unsent(self) -> int:
        """Return how many steps and records still wait."""
        return len(self._waiting) + self._taken

    def _work(self, opening: Opening, before: threading.Thread | None) -> None:
        if before is not None:  # that of a fit whose tracker still does not answer, and must not be called by two
            before.join()
        if self._abandoned:
            return
        try:
            self.run_id = self._tracker.open(opening) or opening.run_id
        except Exception as error:
            self.failure = error
            self.opened.set()
            return
        try:
            sent = self._tracker.sent() if opening.begun else {}
            self._last, self._floor = dict(sent or {}), opening.step if sent is None else -1
        except Exception as error:
            self.failure, self._abandoned = error, True
        self.opened.set()
        while not self._abandoned:
            with self._changed:
                if not self._urgent or self.failure is not None:
                    self._changed.wait(_SECONDS_BETWEEN)
                self._urgent, self._busy = False, True
            self._send_all()
            with self._changed:
                self._busy = False
                self._changed.notify_all()
        if self._status is None:  # the fit goes on without the tracker, whose run would stay open
            with suppress(Exception):
                self._tracker.close("failed")

    def _send_all(self) -> None:
        """Send what waits, and end the run if that is asked for and nothing is left."""
        try:
            while (self._points or self._waiting) and not self._abandoned:
                self._take()
                if self._points:
                    self._tracker.send(self._points)
                    self.stalled = False
                    for point in self._points:
                        self._last[point.name] = point.step
                self._points, self._taken, self.failure = [], 0, None
            if self._status is not None and not self._abandoned:
                self._tracker.close(self._status)
                self._closed = self._abandoned = True
                self.failure = None
        except Exception as error:
            self.failure = error

    def _take(self) -> None:
        """Turn waiting entries into numbers, without those that the tracker has."""
        newest: dict[str, int] = {}
        if self._points:  # those of a try that failed
            return
        while self._waiting and len(self._points) < _MOST_AT_ONCE:
            step, output, when, of_step = self._waiting.popleft()
            self._taken += 1
            numbers = to_metrics(output) if of_step else output
            for key, value in numbers.items():
                name = self._tracker.metric_name(f"step/{key}" if of_step else key)
                if step > newest.get(name, self._last.get(name, self._floor)):
                    newest[name] = step
                    self._points.append(Point(name, float(value), step, when))


def _numbers(record: Mapping[str, float]) -> dict[str, float]:
    """Return what is sent of an epoch, or of an evaluation within one, as the history has it."""
    left_out = ("step", "steps") if "steps" in record else ("step", "epoch", "seconds")
    return {name: float(value) for name, value in record.items() if name not in left_out}


def _parameters(run: Run, config: Mapping[str, Any]) -> dict[str, bool | int | float | str | None]:
    """Return the settings of a run by dotted names."""
    found: dict[str, Any] = {"epochs": run.epochs}
    if run.evaluates:
        found["evaluate_every"] = run.evaluate_every if run.evaluate_steps is None else f"{run.evaluate_steps} steps"
    if run.model is not None:
        found |= {"model": object_name(run.model), "parameters": parameter_count(run.model)}
    if run.optimizer is not None:
        found["optimizer"] = object_name(run.optimizer)
    for index, rate in enumerate(run.last_lr if not run.step else ()):
        found[f"optimizer.lr_{index}" if index else "optimizer.lr"] = rate
    for label, callback in zip(class_labels(run.callbacks), run.callbacks, strict=True):
        found[label] = repr(callback) if isinstance(callback, RecordedCallback) else callback.settings()
        if callback.schedules():
            found[f"{label}.schedule"] = schedule_text(callback, run)
    found["config"] = config
    return dict(_flat("", plain_settings(found)))


def _flat(name: str, value: Any) -> Iterable[tuple[str, bool | int | float | str | None]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), each)
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value))
    else:
        yield name, value


def imported(module: str, extra: str, tracker: object) -> Any:
    """Return a tracker's package, imported.

    Args:
        module: Its name.
        extra: The extra that installs it.
        tracker: Whom it is for.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise ImportError(
            f"{type(tracker).__name__} needs {module}: pip install 'lucid-train[{extra}]'", name=module
        ) from error
