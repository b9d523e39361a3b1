"""EventLog: the events of a run as lines of JSON."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import Any, ClassVar, final

from attrs import define, field

from lucid_train.callback import TRANSIENT, Callback, Hook, Ranks, Subscription
from lucid_train.callbacks.display.ticker import Ticker
from lucid_train.description import object_name, parameter_count, short_text
from lucid_train.events import Event, FitEnd, FitStart, StepEnd, StepStart
from lucid_train.files import as_path, rotate, writable_path
from lucid_train.recording.digests import after_step, before_step, pack_setup, versions, weights
from lucid_train.recording.lines import FORMAT, RUN_FIELDS, pack_event, pack_fields, pack_records, write_line
from lucid_train.recording.mailbox import Mailbox, can_control
from lucid_train.recording.resume_point import ResumePoint, find_resume_point, open_step
from lucid_train.recording.writer import this_process
from lucid_train.saving.lock import try_lock
from lucid_train.training.plan import number_text
from lucid_train.training.run import Run
from lucid_train.validation import checked, flag, real_number, whole_number

# While no step is done, during a long evaluation for example, only every tenth heartbeat is written.
_IDLE_HEARTBEATS = 10


@final
@define(eq=False)
class EventLog(Callback):
    """Write the events of a run to a file as they happen, one line of JSON each.

    `lucid-train watch`, `show` and `replay` read such a file, and so does `lucid_train.replay`. Each line is complete
    before the run goes on: if the process is killed, the log still has all that happened. Steps are recorded only on
    request. How far the run has come is noted once per heartbeat, from a thread, at no cost to the step.

    A line is an object with "event", the event's class; "time", in seconds since 1970; what the event carries; and
    "run", what has changed in the run since the previous line; its "history" and "evaluations" are what was added to
    them. NaN and the infinities are the strings "nan", "inf" and "-inf", which `float` reads. Values of your own events
    that are not JSON are recorded by their repr.

    If the file is removed while the run goes on, a new one begins, with the history so far. A run that continues, in
    this process or another, continues the same file. Lines beyond the point from which it is
    resumed are cut off, so that the log ends up like that of an uninterrupted run. A file that holds epochs of another
    run is first renamed, with ".1" (or ".2" ...) added.

    Args:
        path: The file; its folder is created if necessary.
        step_every: Record the metrics of every step whose number is a multiple of this, which reads them (and so waits
            for a tensor's device); by default of none. At least 1.
        digests: Record digests of every step whose number is a multiple of this, for `lucid-train diff`: of its batch,
            the random generators and the rates before it, and of its metrics, the weights and the optimizer's state
            after it; by default of none. It reads all weights, and copies them from their device one by one. In a run
            of many processes the first one's are recorded, and so the model's `state_dict` must be one that a process
            can ask for alone. At least 1.
        heartbeat: Seconds between two notes of how far the run has come, or None for no such notes. Above 0.
        control: Whether `lucid-train control` can have the run saved, stopped or evaluated, or set its rates, while it
            trains. With each heartbeat the run looks for commands in a folder of the log's name with ".control" added,
            which the command line makes and only this user may open. Not without a heartbeat, or on Windows.

    Raises:
        RuntimeError: When the fit starts, if another run is writing to the file.
        OSError: When the fit starts or later, if the file cannot be written.
    """

    ranks: ClassVar[Ranks] = "first"

    path: Path = field(converter=as_path, validator=writable_path)
    step_every: int | None = field(default=None, kw_only=True, validator=checked(whole_number, least=1))
    digests: int | None = field(default=None, kw_only=True, validator=checked(whole_number, least=1))
    heartbeat: float | None = field(default=1.0, kw_only=True)
    control: bool = field(default=True, kw_only=True, validator=checked(flag))
    # What went into the step that is being done, if digests of it are recorded.
    _before: dict[str, Any] | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _writer: _Writer | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)

    def __attrs_post_init__(self) -> None:
        if self.heartbeat is not None:
            real_number("heartbeat", self.heartbeat, above=0)

    def hooks(self, event: type[Event]) -> list[Hook]:
        # Every event is recorded, users' own too; of steps only those asked for, as each call costs time.
        if event not in (StepStart, StepEnd):
            return super().hooks(event) or [self.record]
        hook = self._note if event is StepStart else self._record_digests
        found = [] if self.digests is None else [Subscription(event, every=self.digests).wrap(hook)]
        if event is StepEnd and self.step_every is not None:
            found.append(Subscription(StepEnd, every=self.step_every).wrap(self.record))
        return found

    def settings(self) -> dict[str, Any]:
        return {}  # nothing here changes the training: a run may be resumed with another log

    def describe(self) -> dict[str, str]:
        return {"recording": str(self.path)}

    def on_fit_start(self, event: FitStart) -> None:
        run, model, monitor = event.run, event.run.model, event.run.monitored
        file, point = _opened(self.path, run)
        controlled = self.control and self.heartbeat is not None and can_control()
        mailbox = Mailbox(self.path) if controlled else None  # at its place now, also if the program changes its folder
        self._writer = _Writer(run, file, self.heartbeat or 0.0, point.epochs, point.evaluations, mailbox)
        fields: dict[str, Any] = {
            "format": FORMAT,
            "heartbeat": self.heartbeat,
            "writer": this_process(),
            "control": controlled,
            "callbacks": [_described(callback, run) for callback in run.callbacks],
            "monitored": None if monitor is None else [monitor.name, monitor.mode],
            "optimizer": None if run.optimizer is None else object_name(run.optimizer),
            "model": None if model is None else {"name": object_name(model), "parameters": parameter_count(model)},
            "open_step": open_step(run),
            "versions": versions(),
            "setup": pack_setup(run.setup()),
        }
        if self.digests is not None:
            fields["weights"] = weights(run)
        if run.world_size > 1:
            fields["processes"] = [run.world_size, run.connection]
        self._writer.open(fields)

    def on_fit_end(self, event: FitEnd) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close(event)

    def _note(self, event: StepStart) -> None:
        self._before = before_step(event)

    def _record_digests(self, event: StepEnd) -> None:
        before, self._before = self._before, None
        # In a replay there is nothing to read.
        if before is not None and self._writer is not None and event.run.live_state() is not None:
            self._writer.write("digests", {**before, **after_step(event)})

    def record(self, event: Event) -> None:
        if self._writer is not None:  # None if the file could not be opened
            self._writer.write(type(event).__name__, pack_event(event))


@define(eq=False)
class _Writer:
    """Writes the lines of one fit to an open log, and one per heartbeat, if that is not 0."""

    run: Run
    file: FileIO
    heartbeat: float
    # How many epochs, and evaluations within epochs, the log has.
    epochs: int
    evaluations: int
    # Where commands come from, if it may be controlled.
    mailbox: Mailbox | None = None
    # What the log says of the run so far, and its first line of the callbacks and the model.
    _known: dict[str, Any] = field(factory=dict, init=False)
    _first: Mapping[str, Any] = field(factory=dict, init=False)
    _written: float = field(default=0.0, init=False)
    _lock: Any = field(factory=threading.RLock, init=False)
    _heart: Ticker = field(init=False)
    _failure: Exception | None = field(default=None, init=False)

    def open(self, fields: Mapping[str, Any]) -> None:
        """Write the first line, and start the thread that notes how far the run has come."""
        self._heart, self._first = Ticker(self.heartbeat, self._beat), fields
        self.write("FitStart", fields)
        if self.heartbeat:
            self._heart.start()

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        """Write a line, with what has changed in the run."""
        with self._lock:
            failure, self._failure = self._failure, None
            if failure is not None:
                raise failure
            if os.fstat(self.file.fileno()).st_nlink == 0:
                self._begin_again()
            state = pack_fields(RUN_FIELDS, self.run)
            changes = {name: value for name, value in state.items() if (name, value) not in self._known.items()}
            history = self.run.history
            epochs, evaluations = history[self.epochs :], history.evaluations[self.evaluations :]
            added = {"history": pack_records(epochs), "evaluations": pack_records(evaluations)}
            changes |= {name: records for name, records in added.items() if records}
            self._append(event, fields, changes)
            self.epochs, self.evaluations = len(history), len(history.evaluations)

    def _begin_again(self) -> None:
        """Begin a new log in place of one that was removed; it has the history so far."""
        path = Path(self.file.name)
        warnings.warn(f"'{path}' was removed while the run was writing it; a new log begins", UserWarning, stacklevel=2)
        removed = self.file
        self.file, point = _opened(path, self.run)
        removed.close()
        self.epochs, self.evaluations, self._known = point.epochs, point.evaluations, {}
        self.write("FitStart", {**self._first, "open_step": open_step(self.run)})

    def close(self, event: FitEnd) -> None:
        """Write the last line and close the file."""
        try:
            self._heart.stop()
            self.write("FitEnd", pack_event(event))
        finally:
            self.file.close()
            if self.mailbox is not None:
                self.mailbox.close()

    def _append(self, event: str, fields: Mapping[str, Any], changes: dict[str, Any]) -> None:
        now = time.time()
        line = write_line(event, now, fields, changes)
        written = self.file.write(line)
        if written != len(line):
            self.file.truncate(self.file.tell() - written)  # what is written next must not follow half a line
            raise OSError(f"'{self.file.name}' cannot be written in full: the disk may be full")
        self._known |= changes
        self._written = now

    def _beat(self) -> None:
        try:
            for command in () if self.mailbox is None else self.mailbox.take(self._first["writer"]):
                self.run.command(command)
            with self._lock:
                changes = {} if self.run.step == self._known["step"] else {"step": self.run.step}
                if changes or not 0 <= time.time() - self._written < self.heartbeat * _IDLE_HEARTBEATS:
                    self._append("progress", {}, changes)
        except Exception as error:
            self._failure = error  # raised at the next event, in the thread that trains


def _opened(path: Path, run: Run) -> tuple[FileIO, ResumePoint]:
    """Return a log, open for a run to continue it, and the point from which it does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as closing:
        file = closing.enter_context(_claimed(path))
        point = find_resume_point(path, run)
        if point is None:
            file.close()
            rotate(path)
            file, point = closing.enter_context(_claimed(path)), ResumePoint()
        file.truncate(point.end)
        closing.pop_all()
    return file, point


def _claimed(path: Path) -> FileIO:
    """Return a file open to be appended to and locked until it is closed; refuse one that another run is writing."""
    file = open(path, "ab", buffering=0)  # noqa: SIM115  # the caller closes it
    if not try_lock(file):
        file.close()
        raise RuntimeError(f"'{path}' is being written by another run")
    return file


def _described(callback: Callback, run: Run) -> dict[str, Any]:
    """Return what a display shows of a callback."""
    schedule = {
        each.key: short_text(each, lambda one: number_text(callback, one, run)) for each in callback.schedules()
    }
    described = {str(label): str(text) for label, text in callback.describe().items()}
    return {"name": object_name(callback), "repr": short_text(callback), "schedule": schedule, "described": described}
