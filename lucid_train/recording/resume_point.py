"""Where a run continues in a log, and whether the process that wrote the log still exists."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from lucid_train.recording.lines import Line, pack_record, read_log
from lucid_train.training.run import Run

_AFTER_THE_STEPS = ("EvaluateStart", "EvaluateEnd", "EpochEnd", "EpochReport")
_FIRST_BYTES = b'{"event":"FitStart","time":'


@frozen
class ResumePoint:
    """The place in a log at which a run continues it.

    Args:
        end: Bytes before it.
        epochs: Finished epochs before it.
    """

    end: int = 0
    epochs: int = 0


def find_resume_point(path: Path, run: Run) -> ResumePoint | None:
    """Return the place at which a run that begins or continues goes on in a log.

    The lines before it are the run's past. Those after it may be cut off, for the run will write them again.

    Returns:
        The place, or None if the file is the log of another run, or not a log.
    """
    search = _Search(run)
    try:
        lines = read_log(path)
        for line in lines:
            search.move_to(line)
            if search.is_ahead(line):
                if search.run_begins and (_records(line) or any(map(_records, lines))):
                    return None  # a run that begins has written no epochs
                break
            if not search.is_past(line):
                return None
            search.take(line)
    except (ValueError, TypeError, KeyError, AttributeError):  # not a log, or one with fields of other kinds
        return None
    return search.found if search.found.end or _is_beginning_of_log(path) else None


@define(eq=False)
class _Search:
    """Follows a log, line by line, as far as a run has come."""

    run: Run
    found: ResumePoint = field(factory=ResumePoint, init=False)
    # The run's finished epochs, as a log has them, and how many of them the lines so far have recorded.
    _finished: list[dict[str, Any]] = field(init=False)
    _recorded: int = field(default=0, init=False)
    # Where the recorded run stood at the latest line.
    _epoch: int = field(default=0, init=False)
    _step: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._finished = [_comparable(pack_record(record)) for record in self.run.history]

    @property
    def run_begins(self) -> bool:
        """Whether the run has done nothing yet."""
        return not self._finished and not self.run.step

    def move_to(self, line: Line) -> None:
        """Note where the recorded run stood at a line."""
        self._step, self._epoch = line.run.get("step", self._step), line.run.get("epoch", self._epoch)

    def is_ahead(self, line: Line) -> bool:
        """Return whether the recorded run had come further than this one."""
        further = self._epoch - len(self._finished)
        if self._step > self.run.step or further > 1:
            return True
        # This run has at most begun the next epoch, and has not done all its steps.
        return further == 1 and (not is_in_epoch(self.run) or line.event in _AFTER_THE_STEPS)

    def is_past(self, line: Line) -> bool:
        """Return whether the epochs that a line records are this run's."""
        records = list(map(_comparable, _records(line)))
        return records == self._finished[self._recorded : self._recorded + len(records)]

    def take(self, line: Line) -> None:
        """Move the place that is found beyond a line."""
        self._recorded += len(_records(line))
        if line.event != "FitStart":  # a fit that was killed before it did anything leaves nothing to keep
            self.found = ResumePoint(line.end, self._recorded)


def is_in_epoch(run: Run) -> bool:
    """Return whether a run is in the middle of an epoch.

    Between fits, and when a fit starts, `run.epoch` is the one that was left open, or else the last one finished.
    """
    return run.epoch > len(run.history)


def open_step(run: Run) -> int | None:
    """Return how many steps of the open epoch are done, or None if no epoch is open."""
    return run.step - sum(record.steps for record in run.history) if is_in_epoch(run) else None


def last_writer(path: Path) -> Any:
    """Return the process that wrote to a log last, as the log has it, or None if the log does not say."""
    writer = None
    with suppress(ValueError):
        for line in read_log(path):
            if line.event == "FitStart":
                writer = line.fields.get("writer")
    return writer


def this_process() -> dict[str, Any]:
    """Return what identifies this process, for a log to hold."""
    pid = os.getpid()
    _, started = _state_and_start(pid)
    return {"pid": pid, "host": socket.gethostname(), "namespace": _namespace(), "started": started}


def is_gone(writer: Any) -> bool:
    """Return whether a process that wrote a log is known to have ended: it ran on this machine, and no longer does."""
    if not isinstance(writer, dict) or os.name != "posix":
        return False  # os.kill would end the process on Windows
    pid = writer.get("pid")
    here = writer.get("host") == socket.gethostname() and writer.get("namespace") == _namespace()
    if not here or type(pid) is not int or not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    state, started = _state_and_start(pid)
    zombie = state in ("Z", "X")  # ended, and not yet reaped by its parent
    another = None not in (started, writer.get("started")) and started != writer["started"]  # of the same number
    return zombie or another


def _state_and_start(pid: int) -> tuple[str | None, int | None]:
    """Return the state of a process and when it started, in clock ticks since boot; None where there is no /proc."""
    try:
        # The name before it, in parentheses, may hold spaces and parentheses itself.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[19])
    except (OSError, IndexError, ValueError):
        return None, None


def _namespace() -> str | None:
    # Containers may share the machine's name, and each numbers its processes for itself.
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _is_beginning_of_log(path: Path) -> bool:
    """Return whether a file is empty or begins as a log does; otherwise it is not ours to overwrite."""
    with open(path, "rb") as file:
        return _FIRST_BYTES.startswith(file.read(len(_FIRST_BYTES)))


def _records(line: Line) -> list[dict[str, Any]]:
    """Return the finished epochs that a line records."""
    return [line.fields["record"]] if line.event == "EpochReport" else list(line.fields.get("history", ()))


def _comparable(record: dict[str, Any]) -> dict[str, Any]:
    # Without how long it took: a history that was restored from elsewhere may not know that.
    return {name: value for name, value in record.items() if name != "seconds"}
