"""EventLog: what happens in a run, as lines of JSON."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, final

from attrs import define, field

from lucid_train.callback import TRANSIENT, Callback, FunctionListener, Hook, listening_to
from lucid_train.callbacks.stopping import EarlyStopping
from lucid_train.events import Event, FitEnd, FitStart, StepEnd, StepStart
from lucid_train.files import as_path, rotate, writable_path
from lucid_train.recording.lines import (
    FORMAT,
    LONGEST_LINE,
    pack_event,
    pack_record,
    write_line,
)
from lucid_train.recording.resume_point import held_by, is_gone, last_writer, open_step, this_process
from lucid_train.recording.values import pack_number, short_text
from lucid_train.training.run import Run
from lucid_train.validation import checked, real_number, whole_number

# While nothing moves, in a long evaluation for example, only every tenth heartbeat is written.
_REST = 10


@final
@define(eq=False)
class EventLog(Callback):
    """Write every event of a run to a file, one line of JSON each, as it happens.

    `lucid-train watch`, `show` and `replay` read such a file, and so does `lucid_train.replay`. Each line is written
    whole before the run goes on; of a process that is killed, the log keeps all that happened. Steps are recorded only
    on request: how far a run has come is noted once per heartbeat, from a thread, at no cost to the step.

    A line is an object with "event", the event's class; "time", in seconds since 1970; what the event carries; and
    "run", what has changed of the run since the line before. NaN and the infinities are the strings "nan", "inf" and
    "-inf", which `float` reads. Of an event of your own, what is not JSON is recorded by its repr.

    A run that goes on, in this process or another, goes on in the same file. What the file holds beyond the point from
    which the run is resumed is cut off, so that the log ends as that of an uninterrupted run. A file that holds epochs
    of another run is moved aside first, to the same name with ".1" (or ".2" ...) added.

    Args:
        path: The file; its folder is made if there is none.
        step_every: Record the metrics of every step whose number is a multiple of this, which reads them (and so waits
            for a tensor's device); by default of none. At least 1.
        heartbeat: Seconds between two notes of how far the run has come, or None for no such notes. Above 0.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.
        RuntimeError: When the fit starts, if another run is writing to the file.
        OSError: When the fit starts or later, if the file cannot be written.
    """

    path: Path = field(converter=as_path, validator=writable_path)
    step_every: int | None = field(default=None, kw_only=True, validator=checked(whole_number, least=1))
    heartbeat: float | None = field(default=1.0, kw_only=True)
    _file: IO[bytes] | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _lock: Any = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _thread: threading.Thread | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _ended: Any = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _failure: BaseException | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _known: dict[str, Any] = field(factory=dict, init=False, repr=False, metadata=TRANSIENT)
    _written: float = field(default=0.0, init=False, repr=False, metadata=TRANSIENT)

    def __attrs_post_init__(self) -> None:
        if self.heartbeat is not None:
            real_number("heartbeat", self.heartbeat, above=0)

    def hooks(self, event: type[Event]) -> list[Hook]:
        # Every event is heard, those of your own too; a step only where it is to be recorded, so that it costs nothing.
        if event is FitStart:
            return [self.on_fit_start]
        if event is FitEnd:
            return [self.on_fit_end]
        if event is StepStart or (event is StepEnd and self.step_every is None):
            return []
        return (
            [listening_to(StepEnd, every=self.step_every or 1).filtered(self.record)]
            if event is StepEnd
            else [self.record]
        )

    def settings(self) -> dict[str, Any]:
        # Nothing here changes the training: a run may be resumed with another log, or none.
        return {}

    def on_fit_start(self, event: FitStart) -> None:
        run = event.run
        held = self._open(run)
        self._lock, self._ended, self._failure, self._known = threading.Lock(), threading.Event(), None, {}
        fields = {
            "format": FORMAT,
            "heartbeat": self.heartbeat,
            "writer": this_process(),
            "callbacks": [_told(callback) for callback in run.callbacks],
            "judged_by": _judged_by(run.callbacks),
            "model": None if run.model is None else _model(run.model),
            "open_step": open_step(run),
            "history": [pack_record(each) for each in run.history[held:]],
        }
        self._write("FitStart", fields, self._changes(run))
        if self.heartbeat is not None:
            self._thread = threading.Thread(target=self._beat, args=(run,), name="EventLog", daemon=True)
            self._thread.start()

    def on_fit_end(self, event: FitEnd) -> None:
        if self._file is None:
            return  # it could not be opened
        try:
            self._ended.set()
            if self._thread is not None:
                self._thread.join()
            self.record(event)
        finally:
            self._file.close()
            self._file = self._thread = None

    def record(self, event: Event) -> None:
        fields = pack_event(event)
        with self._lock:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            self._write(type(event).__name__, fields, self._changes(event.run))

    def _changes(self, run: Run) -> dict[str, Any]:
        """Return what a reader must know of the run and has not been told."""
        state = {
            "epochs": run.epochs,
            "steps_per_epoch": run.steps_per_epoch,
            "evaluate_every": run.evaluate_every,
            "epoch": run.epoch,
            "step": run.step,
            "reason": run.reason,
            "last_lr": list(map(pack_number, run.last_lr)),
        }
        return {name: value for name, value in state.items() if name not in self._known or self._known[name] != value}

    def _write(self, event: str, fields: Mapping[str, Any], changes: dict[str, Any]) -> None:
        now = time.time()
        line = write_line(event, now, fields, changes)
        if len(line) > LONGEST_LINE and "fields" in fields:  # no reader would take it
            own = {name: {"!repr": short_text(value)} for name, value in fields["fields"].items()}
            line = write_line(event, now, {**fields, "fields": own}, changes)
        assert self._file is not None
        if self._file.write(line) != len(line):
            raise OSError(f"'{self.path}' cannot be written in full: the disk may be full")
        self._known.update(changes)
        self._written = now

    def _beat(self, run: Run) -> None:
        assert self.heartbeat is not None
        try:
            while not self._ended.wait(self.heartbeat):
                with self._lock:
                    changes = {} if run.step == self._known["step"] else {"step": run.step}
                    if changes or not 0 <= time.time() - self._written < self.heartbeat * _REST:
                        self._write("progress", {}, changes)
        except Exception as error:
            self._failure = error  # raised by the next event, in the thread that trains

    def _open(self, run: Run) -> int:
        """Open the file where this run goes on in it, and return how many of its epochs are there already."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115  # closed when the fit ends
        try:
            self._claim()
            held = held_by(self.path, run)
            if held is None:
                self._file.close()
                rotate(self.path)
                self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115  # as above
                self._claim()
                return 0
            self._file.truncate(held.end)
            return held.epochs
        except BaseException:
            self._file.close()
            self._file = None
            raise

    def _claim(self) -> None:
        """Lock the file until it is closed, or refuse to write where another run does."""
        assert self._file is not None
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # A worker process that outlived a killed run may hold its lock still.
            writer = last_writer(self.path)
            if not is_gone(writer):
                raise RuntimeError(f"'{self.path}' is being written by another run") from None
        except OSError:  # a file system without locks
            return


def _told(callback: Callback) -> dict[str, Any]:
    """Return what a display will want to know of a callback."""
    if isinstance(callback, FunctionListener):
        function = callback.function
        return {"name": getattr(function, "__name__", type(function).__name__)}
    told: dict[str, Any] = {"name": type(callback).__name__, "repr": short_text(callback)}
    if callback.schedules():
        told["schedule"] = True
    return told


def _judged_by(callbacks: Sequence[Callback]) -> tuple[str, str] | None:
    """Return the metric that a display marks the best value of and its mode: as it was told, or what stops the run."""
    told = [judged_by for each in callbacks if (judged_by := getattr(each, "judged_by", None)) is not None]
    watched = [(each.monitor, each.mode) for each in callbacks if isinstance(each, EarlyStopping)]
    return next(iter([*told, *watched]), None)


def _model(model: Any) -> dict[str, Any]:
    """Return a model's name and the number of its parameters, or None where that cannot be known."""
    try:
        shapes = [getattr(each, "shape", None) or each.data.shape for each in model.parameters()]
        size = sum(math.prod(map(int, shape)) for shape in shapes)
    except Exception:  # a model is any object, and its size no reason to end a run
        return {"name": type(model).__name__, "parameters": None}
    return {"name": type(model).__name__, "parameters": size}
