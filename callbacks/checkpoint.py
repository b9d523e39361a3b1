"""Checkpoint: a run that is killed at any moment continues where it was."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal, final

import attrs
from attrs import define, field, frozen

from lucid_train.callback import TRANSIENT, Answer, Callback, Hook
from lucid_train.command import Command
from lucid_train.description import error_text
from lucid_train.events import EpochReport, EvaluateEnd, Event, FitEnd, FitError, FitStart, Saved, StepEnd
from lucid_train.group.exchanges import RankError
from lucid_train.monitor import Mode, Monitor
from lucid_train.progress import unstructure
from lucid_train.saving.checkpoint.directory import LOCK, Directory, part_of
from lucid_train.saving.checkpoint.format import write_flat
from lucid_train.saving.checkpoint.segment import Segment, find_segment
from lucid_train.saving.checkpoint.tree import FlatTree, flatten
from lucid_train.saving.checkpoint.writer import Writer
from lucid_train.saving.lock import Lock
from lucid_train.saving.parts import Parted, differing, digests, part_state, sections
from lucid_train.saving.state import check_weights
from lucid_train.training.run import Run
from lucid_train.training.signals import SignalCatcher, signal_named
from lucid_train.validation import checked, choice, flag, metric_name, one_of, real_number, whole_number

Interval = Literal["epoch", "step", "second"]

# What the names of single checkpoints end in.
_FILES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")


def _as_path(value: str | os.PathLike[str]) -> Path:
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise TypeError(f"'directory' must be a path: {value!r}")
    path = Path(value)
    if path.suffix in _FILES and not path.is_dir():
        raise ValueError(f"'directory' must be the path of a folder, not of one file in it: {str(path)!r}")
    return path


def _idle() -> SignalCatcher:
    """Return one that has no fit to interrupt."""
    return SignalCatcher(Run(), ())


def _nothing() -> None:
    """Do nothing: no fit is running."""


def _as_names(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"'signals' must be a list of names: {value!r}")
    return tuple(signal_named("signals", name).name for name in value)


# A metric's monitor, its value and its epoch, if that may be the best so far.
_Request = tuple[Monitor, float, int] | None


@frozen
class _Known:
    """What a Checkpoint has saved of a run: where it stood, and its best epoch."""

    position: tuple[int, ...] | None = None
    best: float | None = None
    best_epoch: int | None = None
    best_file: str | None = None


@define(eq=False)
class _Timetable:
    """When a checkpoint is due.

    Args:
        every: How often; None is never.
        interval: What `every` counts.

    Attributes:
        attempted_at: time.monotonic() at the last attempt to save.
    """

    every: float | None = None
    interval: Interval = "epoch"
    attempted_at: float = field(factory=time.monotonic, init=False)
    _postponed: bool = field(default=False, init=False)

    def is_due(self, count: int) -> bool:
        """Return whether one is due now, at an epoch or a step of this number."""
        if self.every is None:
            return False
        if self.interval == "second":
            return time.monotonic() - self.attempted_at >= self.every
        return count % self.every == 0

    def is_due_after(self, event: StepEnd) -> bool:
        """Return whether one is due after a step; one that is due after a step without an update waits for the next."""
        due = self._postponed or self.is_due(event.step)
        self._postponed = due and not event.updated
        return due and event.updated


@define(eq=False)
class _Attempt:
    """A checkpoint on its way to the disk.

    It is written in stages, each a function: of one process, all at once; of several, first the parts of the others,
    then the file of the first, which makes it a checkpoint. A stage begins when all processes have done the one before.

    Args:
        requests: Who has asked for it: of each the monitor, the value and the epoch that may be the best, or None.
        before: What was known of the run before, and is to be known again if this fails.

    Attributes:
        saved: What is emitted when it is durable.
        end: Where the history ends with it.
        durable: Whether it is on the disk; what fails after that does not undo it.
        stages: Those that have not begun yet.
    """

    requests: list[_Request]
    before: _Known
    saved: Saved | None = field(default=None, init=False)
    end: Segment | None = field(default=None, init=False)
    durable: bool = field(default=False, init=False)
    stages: list[Callable[[], object]] = field(factory=list, init=False)


@final
@define(eq=False)
class Checkpoint(Callback):
    """Save the state of the whole run to a directory, regularly and when the fit ends or is interrupted.

    `Trainer.fit(resume="auto")` continues from the newest complete checkpoint, to the same numbers, bit for bit. A
    checkpoint is the Trainer's `state_dict()`: model, optimizer, all callbacks, the place in the data, the random
    generators; and the history, which is in a file beside it, `history-000001.jsonl`, so that a save costs the same
    after many epochs as after few. A checkpoint without that file can be resumed with `accept="history"`.

    In the directory `last.safetensors` leads to the newest checkpoint and `best.safetensors` to the best one (links, or
    copies where there are none); `lucid_train.read_checkpoint` reads either by the directory. `Saved` is emitted for
    each.

    `save` asks for one in any hook. It is written at the next safe point, when all callbacks have received the same
    events, so this callback's place in the list does not matter; see `Run.at_safe_point`. A fit that fails writes none,
    because the state may be half of one step and half of the next. The last one of a fit is written before FitEnd, at
    which callbacks such as EarlyStopping may change the model.

    Accumulated gradients are not part of the state. A checkpoint that is due after a step without an update
    therefore waits for the next one; an interruption in between loses those gradients.

    During a fit, Ctrl-C and SIGTERM let the current step finish and a checkpoint is written. Callbacks receive FitError
    and FitEnd, and KeyboardInterrupt or SystemExit(128 + the signal's number) leaves `fit`. A second Ctrl-C does not
    wait. Handlers that were installed before are called as well, and put back. If the signal ends the workers of a
    DataLoader too, the batch that was to come, or the evaluation, is given up and done again when the run goes on; a
    step is always finished.

    Args:
        directory: Where the files go; created if it does not exist, also in mid-run. One run per directory, and one
            process at a time, where the system has file locks. With `fit(restart=True)` the files of the run before
            are moved to a folder `earlier-1` (or 2 ...) in it when the first checkpoint of the new run is written.
        every: How often; None writes only at the end, on request, and when the metric improves.
        interval: What `every` counts: "epoch", "step", or "second".
        keep: How many of the newest to keep, besides the best one; None keeps all. At least 1.
        monitor: A metric: a checkpoint is written whenever it is better than ever before, and kept.
        mode: Whether "min" or "max" is better. Left out, it follows if the name ends in loss or accuracy.
        background: Copy the state and write it in a thread, so that training waits for the copy alone. A checkpoint
            that is due while the one before is still being written is left out.
        failure: "raise" ends the fit if a checkpoint cannot be written, because the disk is full for example, or
            its state cannot be taken in mid-run; "warn" goes on.
        signals: Names of the signals that end the fit in good order; "SIGUSR1" may be added, () is none. They are
            caught if `fit` is called in the main thread.
        weights: Refuse a run that trains, but has neither a `model` nor an extra with weights; False lets it be saved.

    Raises:
        TypeError: In `fit`, before the first step, if something in the state cannot be saved.
        ValueError: If the mode is left out and does not follow from the name; in `fit`, before the first step, if there
            are no weights to be saved, and later, if the metric does not exist.
        FileExistsError: In `fit`, before the first step, if the directory holds the checkpoints of another run.
        RuntimeError: In `fit`, before the first step, if another process saves to the directory.

    >>> import tempfile
    >>> from lucid_train import Trainer
    >>> directory = tempfile.mkdtemp()
    >>> history = Trainer(epochs=2, callbacks=[Checkpoint(directory)]).fit()
    >>> history = Trainer(epochs=3, callbacks=[Checkpoint(directory)]).fit(resume="auto")
    >>> [record.epoch for record in history]
    [1, 2, 3]
    """

    directory: Path = field(converter=_as_path)
    every: float | None = field(default=1, kw_only=True)
    interval: Interval = field(default="epoch", kw_only=True, validator=choice("epoch", "step", "second"))
    keep: int | None = field(default=3, kw_only=True)
    monitor: str | None = field(default=None, kw_only=True, validator=checked(metric_name))
    mode: Mode | None = field(default=None, kw_only=True, validator=checked(one_of, choices=("min", "max")))
    background: bool = field(default=False, kw_only=True, validator=checked(flag))
    failure: Literal["raise", "warn"] = field(default="raise", kw_only=True, validator=choice("raise", "warn"))
    signals: tuple[str, ...] = field(default=("SIGINT", "SIGTERM"), kw_only=True, converter=_as_names)
    weights: bool = field(default=True, kw_only=True, validator=checked(flag))
    best: float | None = field(default=None, init=False, repr=False)
    best_epoch: int | None = field(default=None, init=False, repr=False)
    _best_file: str | None = field(default=None, init=False, repr=False)
    last_file: Path | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    # When a checkpoint is due, who asks for one at the next safe point, and what is being written.
    _timetable: _Timetable = field(factory=_Timetable, init=False, repr=False, metadata=TRANSIENT)
    _requests: list[_Request] = field(factory=list, init=False, repr=False, metadata=TRANSIENT)
    _writer: Writer = field(factory=Writer, init=False, repr=False, metadata=TRANSIENT)
    _current: _Attempt | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    # Whether the loop is over, so that nothing is written in the background any more.
    _ending: bool = field(default=False, init=False, repr=False, metadata=TRANSIENT)
    _catcher: SignalCatcher = field(factory=_idle, init=False, repr=False, metadata=TRANSIENT)
    # Where the run stood when it was saved last; () if it was started over since.
    _saved: tuple[int, ...] | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    # Where the history ends on the disk.
    _segment: Segment | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _lock: Lock = field(factory=lambda: Lock(Path()), init=False, repr=False, metadata=TRANSIENT)
    # Ask all processes for a checkpoint, or say that this one has done its stage of one.
    _ask_all: Callable[[], object] = field(default=_nothing, init=False, repr=False, metadata=TRANSIENT)
    _report: Callable[[], object] = field(default=_nothing, init=False, repr=False, metadata=TRANSIENT)

    def __attrs_post_init__(self) -> None:
        if (monitor := self.monitored()) is not None:
            self.mode = monitor.mode
        elif self.mode is not None:
            raise ValueError(f"'mode' must be None without a monitor: {self.mode!r}")
        if self.every is not None and self.interval == "second":
            real_number("every", self.every, above=0)
        elif self.every is not None:
            whole_number("every", self.every, least=1)
        if self.keep is not None:
            whole_number("keep", self.keep, least=1)

    @property
    def best_file(self) -> Path | None:
        """The checkpoint of the best epoch, or None without a `monitor` or before the first."""
        return None if self._best_file is None else self.directory / self._best_file

    def save(self) -> None:
        """Ask for a checkpoint, which is written at the next safe point.

        Raises:
            RuntimeError: If no fit is running.
        """
        run = self._running()
        # One process asks at once: what else is asked for at the same safe point keeps its order.
        self._ask() if run.world_size == 1 else self._ask_all()

    def handle_command(self, command: Command) -> Answer | None:
        if command.name != "save":
            return None
        self._ask()
        return self._what_was_saved

    def _what_was_saved(self) -> str:
        if self._current is not None:
            return f"a checkpoint is being written to {self.directory}"
        if self.last_file is None or self._saved != _position(self._catcher.run):
            raise ValueError(f"no checkpoint could be written to {self.directory}")
        return f"saved {self.last_file}"

    def checkpoints(self) -> Path:
        return self.directory

    def monitored(self) -> Monitor | None:
        return None if self.monitor is None else Monitor(self.monitor, self.mode)

    def settings(self) -> dict[str, Any]:
        return {}  # where and how often a run is saved does not change it

    def describe(self) -> dict[str, str]:
        often = "at the end" if self.every is None else f"every {self.every:g} {self.interval}s"
        best = f"{'lowest' if self.mode == 'min' else 'highest'} {self.monitor}"
        kept = "" if self.monitor is None else f"; best by {best}"
        return {"saving": f"{self.directory}, {f'every {self.interval}' if self.every == 1 else often}{kept}"}

    def hooks(self, event: type[Event]) -> list[Hook]:
        if event is StepEnd and (self.interval == "epoch" or self.every is None):
            return []
        return super().hooks(event)

    def reset(self) -> None:
        super().reset()
        self._saved, self.last_file, self._segment = (), None, None

    def on_fit_start(self, event: FitStart) -> None:
        run, last = event.run, self._catcher.run
        if self.monitor is not None:
            run.check_metric(self.monitor, event)
        self._catcher = SignalCatcher(run, [signal_named("signals", name) for name in self.signals])
        self._timetable, self._requests, self._ending = _Timetable(self.every, self.interval), [], False
        for other in run.callbacks:
            place = other.checkpoints()
            if other is not self and place is not None and Path(place).resolve() == self.directory.resolve():
                raise ValueError(f"'callbacks' must keep checkpoints in directories of their own: {self.directory}")
        recorded = None
        if run is not last:
            self.last_file, recorded = run.source or (None, None)
            self._segment = None
            self._saved = _position(run) if run.resumed else () if self._saved == () else None
        self._lock = Lock(self.directory / LOCK)
        if run.rank == 0:
            self._prepare_directory(run, recorded)
        self._check_shared(run)
        self._catcher.catch()
        self._ask_all = run.agreement(self._ask)
        self._report = run.agreement(self._go_on, of="all")
        run.before_end(self._save_last)
        run.at_safe_point(lambda: self._check(run))

    def _prepare_directory(self, run: Run, recorded: dict[str, Any] | None) -> None:
        """Lock the directory, check that it is this run's, and remove what killed processes have left in it."""
        directory = self._claimed()
        # A run that has saved may still stand before its first step.
        if directory.files() and self._saved is None and not run.step:
            raise FileExistsError(
                f"'directory' must hold no checkpoints of another run; to go on with that one call fit(resume='auto'), "
                f"else pass another directory: {self.directory}"
            )
        directory.sweep()
        if self.last_file is not None and recorded is not None:
            with suppress(ValueError, OSError):  # it has changed since it was read: a new one begins
                found = find_segment(recorded, self.directory)
                self._segment = None if found is None else found[0]
        if self.last_file is not None:
            try:
                directory.tidy(
                    self.last_file.name, self._best_file, self.keep
                )  # if a killed process has not come to it
            except OSError as error:
                self._failed(error)

    def _check_shared(self, run: Run) -> None:
        """Refuse a directory that not all processes see: those of one machine each would have one of their own."""
        if run.world_size == 1:
            return
        token = self.directory / f".checkpoint.{token_hex(8)}"
        if run.rank == 0:
            token.touch()
        try:
            name = run.exchange(f"at FitStart of {type(self).__name__}", token.name)[0]
            sees = run.exchange(f"at FitStart of {type(self).__name__}", (self.directory / name).exists())
        finally:
            if run.rank == 0:
                token.unlink(missing_ok=True)
        if not all(sees):
            blind = ", ".join(str(rank) for rank, each in enumerate(sees) if not each)
            raise ValueError(
                f"'directory' must be one that all processes see, on a file system that they share: "
                f"{self.directory} of rank 0 is not that of rank {blind}"
            )

    def _check(self, run: Run) -> None:
        """Refuse now, and not in an hour, what cannot be saved, or would be lost."""
        state = run.state_dict(history=False)
        if self.weights and run.trains:
            check_weights(state)
        if run.unsaved is not None:
            raise ValueError(
                f"the optimizer of {run.unsaved} must be saved too: pass it among the extras of the Trainer"
            )
        if run.unsaved_metrics:
            place = run.unsaved_metrics[0]
            warnings.warn(
                f"what {', '.join(run.unsaved_metrics)} gathered would be lost in a run that is resumed within an "
                f"epoch, as torchmetrics leaves it out of state_dict(): pass Trainer(metrics={{...: {place}}}), or "
                f"call {place}.persistent()",
                UserWarning,
                stacklevel=2,
            )
        flatten(state)

    def on_step_end(self, event: StepEnd) -> None:
        if self._timetable.is_due_after(event) and not self._is_writing:
            self._ask_when_due()

    @property
    def _is_writing(self) -> bool:
        """Whether the checkpoint before is still being written, as all processes see it alike."""
        return self._writer.busy if self._catcher.run.world_size == 1 else self._current is not None

    def _ask_when_due(self) -> None:
        """Ask for one that is due: by a clock, which differs from process to process, or at a count."""
        self.save() if self.interval == "second" else self._ask()

    def on_evaluate_end(self, event: EvaluateEnd | EpochReport) -> None:
        """Ask for a checkpoint if the metric is better than ever before."""
        if (monitor := self.monitored()) is None:
            return
        value = event.run.value_of(monitor.name, event)
        # While the best one is being written, it is not certain that it will be there.
        best = self.best if self._current is None else self._current.before.best
        if value is not None and monitor.is_better(value, than=best):
            self._ask((monitor, value, event.epoch))

    def on_epoch_report(self, event: EpochReport) -> None:
        self.on_evaluate_end(event)
        if self.interval != "step" and self._timetable.is_due(event.epoch) and not self._is_writing:
            self._ask_when_due()

    def on_fit_error(self, event: FitError) -> None:
        self._end(event.run)

    def on_fit_end(self, event: FitEnd) -> None:
        try:
            self._end(event.run)
        finally:
            self._lock.release()
            self._catcher.release()
        if self._catcher.caught is not None and event.status in ("completed", "stopped"):
            raise self._catcher.caught  # it came when there was nothing left to interrupt, and is not to be lost

    def _end(self, run: Run) -> None:
        """Wait for what is being written; of several processes, others may not do their part: then it is given up."""
        if self._current is not None and run.world_size > 1:
            self._known, self._current = self._current.before, None
        self._finish()

    def _running(self) -> Run:
        run = self._catcher.run
        if not run.callbacks:
            raise RuntimeError("no fit is running that could be saved; ask the Trainer for its state_dict()")
        return run

    def _ask(self, request: _Request = None) -> None:
        run = self._running()
        if not self._requests:
            run.at_safe_point(self._save)
        self._requests.append(request)

    def _save_last(self) -> None:
        self._ending = True
        self._finish()
        if self._saved != _position(self._catcher.run):
            self._ask()

    def _save(self) -> None:
        run, requests, self._requests = self._catcher.run, self._requests, []
        self._finish()
        if not any(request is None or request[0].is_better(request[1], than=self.best) for request in requests):
            return
        self._current = attempt = _Attempt(requests, self._known)
        try:
            try:
                attempt.stages = self._prepared(attempt) if run.world_size == 1 else self._prepared_parts(attempt)
            except RankError:
                raise
            except Exception as error:
                self._close(error)
            else:
                self._begin_stage(attempt, behind=self._is_behind)
        finally:
            self._timetable.attempted_at = time.monotonic()  # after one that failed too: not at every step
            if run.status != "running":  # it was asked for at FitEnd
                self._lock.release()

    @property
    def _is_behind(self) -> bool:
        """Whether files are written in the background now."""
        return self.background and not self._ending

    def _begin_stage(self, attempt: _Attempt, *, behind: bool) -> None:
        """Do the next stage, or let it be done in the background."""
        stage, error = attempt.stages.pop(0), None
        try:
            if behind:
                self._writer.begin(lambda: self._do_behind(attempt, stage))
                return
            stage()
        except Exception as failure:
            error = failure
        try:
            self._end_stage(error, behind=False)
        finally:
            del error  # its traceback holds this frame

    def _do_behind(self, attempt: _Attempt, stage: Callable[[], object]) -> None:
        run = self._catcher.run
        try:
            stage()
        finally:  # the training thread learns of it after its current step; of several, when all have come so far
            if run.world_size > 1:
                self._report()
            else:
                run.at_safe_point(lambda: self._finish() if self._current is attempt else None)

    def _end_stage(self, error: Exception | None = None, *, behind: bool) -> None:
        """Wait for the stage that was begun last, on all processes, and begin the next, or announce the checkpoint."""
        attempt, run = self._current, self._catcher.run
        try:
            try:
                self._writer.wait()
            except Exception as failure:
                error = failure
            if attempt is not None and run.world_size > 1:
                error = self._agreed(attempt, error)
            if error is None and attempt is not None and attempt.stages:
                self._begin_stage(attempt, behind=behind)
            else:
                self._close(error)
        finally:
            del error  # its traceback holds this frame

    def _agreed(self, attempt: _Attempt, error: Exception | None) -> Exception | None:
        """Return what has failed on any process, as each of them fails alike."""
        own = {"error": None if error is None else error_text(error), "durable": attempt.durable}
        given = self._catcher.run.exchange(self._place, own)
        attempt.durable = given[0]["durable"]
        return error or _error_of([each["error"] for each in given])

    def _go_on(self) -> None:
        """Begin the next stage in the background, as all processes have done the one before."""
        if self._current is not None:
            self._end_stage(behind=self._is_behind)

    @property
    def _place(self) -> str:
        return f"saving to {self.directory.name}"

    def _finish(self) -> None:
        """Bring what is being written, if anything is, to its end."""
        if self._current is not None or self._writer.busy:
            self._end_stage(behind=False)

    def _prepared(self, attempt: _Attempt) -> list[Callable[[], object]]:
        """Take the state, and return what writes it."""
        run, directory = self._catcher.run, self._claimed()
        state, begin, lines = self._taken(attempt, directory)
        flat, self._saved = flatten(state), _position(run)
        if self._is_behind:
            flat = flat.copy()
        write = self._writing(attempt, directory, flat)

        def write_both() -> None:
            begin.write(lines)  # before there is a checkpoint that names them
            write()

        return [write_both]

    def _taken(self, attempt: _Attempt, directory: Directory) -> tuple[dict[str, Any], Segment, bytes]:
        """Return the state, and where the history that is not on the disk yet goes: of the process that writes both."""
        run = self._catcher.run
        if self._saved == ():
            directory.move_aside()
        begin = self._segment
        if begin is None or not begin.is_there():
            file = directory.next_file(run.epoch, run.step)
            begin = directory.segment(file)
        else:
            file = directory.next_file(run.epoch, run.step, after=self.last_file)
        self._note_best(attempt, file)
        state = run.state_dict(history=False)
        attempt.saved = Saved(run, run.epoch, run.step, file)
        attempt.end, lines = begin.extended(run.history)
        state["progress"]["history"] = attempt.end.reference
        return state, begin, lines

    def _note_best(self, attempt: _Attempt, file: Path) -> None:
        for monitor, value, epoch in filter(None, attempt.requests):
            if monitor.is_better(value, than=self.best):
                self.best, self.best_epoch, self._best_file = value, epoch, file.name

    def _writing(self, attempt: _Attempt, directory: Directory, flat: FlatTree) -> Callable[[], object]:
        best_file, file = self._best_file, _file_of(attempt)

        def write() -> None:
            write_flat(file, flat)
            attempt.durable = True
            directory.tidy(file.name, best_file, self.keep)

        return write

    def _prepared_parts(self, attempt: _Attempt) -> list[Callable[[], object]]:
        """Take the state of this process, agree on what all have alike, and return what writes the rest."""
        run = self._catcher.run
        state, own, written = dict[str, Any](), dict[str, Any](), None
        mine: dict[str, Any] = {"error": None, "file": "", "save": token_hex(16), "digests": {}}
        error: Exception | None = None
        try:
            if run.rank == 0:
                directory = self._claimed()
                state, begin, lines = self._taken(attempt, directory)
                written = directory, begin, lines
                mine["file"] = _file_of(attempt).name
            else:
                state = run.state_dict(history=False)
            own = sections(state, run.first_only)
            mine["digests"] = digests(own)
        except Exception as failure:
            error, mine["error"] = failure, error_text(failure)
        given = run.exchange(self._place, mine)
        try:
            if (error := error or _error_of([each["error"] for each in given])) is not None:
                raise error
        finally:
            del error  # its traceback holds this frame
        file = self.directory / given[0]["file"]
        parted = Parted(run.world_size, given[0]["save"], list(differing(each["digests"] for each in given)), file.name)
        self._saved = _position(run)
        if written is not None:
            return self._writing_first(attempt, {**state, "ranks": unstructure(parted)}, *written)
        self._note_best(attempt, file)
        attempt.saved = Saved(run, run.epoch, run.step, file)
        flat = flatten(part_state(run.rank, parted, own))
        if self._is_behind:
            flat = flat.copy()
        return [lambda: write_flat(part_of(file, run.rank), flat), _nothing]

    def _writing_first(
        self, attempt: _Attempt, state: dict[str, Any], directory: Directory, begin: Segment, lines: bytes
    ) -> list[Callable[[], object]]:
        """Return what the first process writes: the history first, and the file that makes a checkpoint of it last."""
        flat = flatten(state)
        if self._is_behind:
            flat = flat.copy()
        return [lambda: begin.write(lines), self._writing(attempt, directory, flat)]

    def _claimed(self) -> Directory:
        """Return the directory, made if need be, and locked; what is not there any more is forgotten."""
        self.directory.mkdir(parents=True, exist_ok=True)
        directory = Directory(self.directory)
        if self._lock.acquire():
            files = directory.files()
            if self.last_file is None or not files or self.last_file.resolve() != files[-1].resolve():
                self.last_file = self._segment = None  # what follows in the history may be that of newer checkpoints
        if self._best_file is not None and not (self.directory / self._best_file).is_file():
            self._best_file = None
        return directory

    def _close(self, error: Exception | None) -> None:
        """Announce what has been written, or deal with its error."""
        attempt, self._current = self._current, None
        run = self._catcher.run
        try:
            if attempt is not None and not attempt.durable:
                self._known = attempt.before
                if isinstance(error, FileNotFoundError) and not self.directory.exists() and run.world_size == 1:
                    error = None  # it was removed just now
                    for request in attempt.requests:
                        self._ask(request)
            elif attempt is not None and attempt.saved is not None:
                self.last_file, self._segment = attempt.saved.file, attempt.end
                run.emit(attempt.saved)
        finally:
            try:
                if error is not None:
                    self._failed(error)
            finally:
                del error  # its traceback holds this frame

    @property
    def _known(self) -> _Known:
        return _Known(self._saved, self.best, self.best_epoch, self._best_file)

    @_known.setter
    def _known(self, known: _Known) -> None:
        self._saved, self.best, self.best_epoch, self._best_file = attrs.astuple(known)

    def _failed(self, error: Exception) -> None:
        if self.failure == "raise":
            raise error
        newest = "there is no checkpoint yet"
        if self.last_file is not None and os.path.exists(self.last_file):
            newest = f"the newest checkpoint is {self.last_file}"
        warnings.warn(f"{error_text(error)}; training goes on, {newest}", UserWarning, stacklevel=2)


def _file_of(attempt: _Attempt) -> Path:
    assert attempt.saved is not None  # its state has been taken
    return attempt.saved.file


def _error_of(texts: Sequence[str | None]) -> Exception | None:
    """Return what is raised because another process could not save."""
    found = [f"rank {rank} could not save: {text}" for rank, text in enumerate(texts) if text is not None]
    return OSError("; ".join(found[:4])) if found else None


def _position(run: Run) -> tuple[int, ...]:
    return len(run.history), len(run.history.evaluations), run.epoch, run.step
