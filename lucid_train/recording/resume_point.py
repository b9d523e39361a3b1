"""What a log of a run holds: where a run that is resumed goes on in it, and whether its writer is still there."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define

from lucid_train.recording.lines import pack_record, read_log
from lucid_train.training.run import Run

_AFTER_THE_STEPS = ("EvaluateStart", "EvaluateEnd", "EpochEnd", "EpochReport")
_FIRST = b'{"event":"FitStart","time":'


@define(frozen=True)
class Held:
    """The part of a log that a run goes on from.

    Args:
        end: Its length in bytes.
        epochs: Finished epochs in it.
    """

    end: int
    epochs: int


def held_by(path: Path, run: Run) -> Held | None:
    """Return what a log holds of a run that begins or goes on, or None if it holds another run, or no run at all."""
    finished = [_comparable(pack_record(record)) for record in run.history]
    middle = open_step(run) is not None
    kept, step, epoch = Held(0, 0), 0, 0
    new, beyond = not finished and not run.step, False
    before: Held | None = None  # what was there before a FitStart that nothing has followed
    try:
        for line in read_log(path):
            step, epoch = line.run.get("step", step), line.run.get("epoch", epoch)
            records = [line.fields["record"]] if line.event == "EpochReport" else line.fields.get("history", ())
            if records and new:
                return None  # the log holds epochs, of a run before
            ahead = epoch > len(finished) + middle or (epoch > len(finished) and line.event in _AFTER_THE_STEPS)
            beyond = beyond or ahead or step > run.step
            if beyond:
                if new:
                    continue
                break
            epochs = kept.epochs + len(records)
            if [_comparable(record) for record in records] != finished[kept.epochs : epochs]:
                return None
            before = None if line.event != "FitStart" else kept if before is None else before
            kept = Held(line.end, epochs)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if kept.end == 0 and not _is_beginning(path):
        return None
    return kept if before is None else before


def open_step(run: Run) -> int | None:
    """Return how many steps are done of the epoch that a run left in the middle, or None if it left none.

    Of a run that is resumed from a checkpoint, the epoch itself is not there yet when the fit starts.
    """
    return run.step - sum(record.steps for record in run.history) if run.epoch > len(run.history) else None


def last_writer(path: Path) -> Any:
    """Return what a log says of the process that wrote to it last, or None if it says nothing."""
    writer = None
    with suppress(ValueError):
        for line in read_log(path):
            if line.event == "FitStart":
                writer = line.fields.get("writer")
    return writer


def this_process() -> dict[str, Any]:
    """Return what tells this process from others, for a log to hold."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "namespace": _namespace()}


def is_gone(writer: Any) -> bool:
    """Return whether a writer is known to be gone: it ran on this machine, and its process does so no longer."""
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
    with suppress(OSError):  # a killed process whose parent has not asked for it yet; Linux alone tells
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:1] in ([b"Z"], [b"X"])
    return False


def _namespace() -> str | None:
    # Containers may share the machine's name, and each numbers its processes for itself.
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _is_beginning(path: Path) -> bool:
    """Return whether a file is empty, or begins as a log does: whatever else it is, it is not ours to overwrite."""
    with open(path, "rb") as file:
        return file.read(len(_FIRST)) in [_FIRST[:length] for length in range(len(_FIRST) + 1)]


def _comparable(record: dict[str, Any]) -> dict[str, Any]:
    # Not how long it took: a history that was restored from elsewhere may not know.
    return {name: value for name, value in record.items() if name != "seconds"}
