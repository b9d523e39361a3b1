"""Where a run that begins or continues goes on in a log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import frozen

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
    finished = [_comparable(pack_record(record)) for record in run.history]
    found, recorded, epoch, step = ResumePoint(), 0, 0, 0
    try:
        lines = read_log(path)
        for line in lines:
            epoch, step = line.run.get("epoch", epoch), line.run.get("step", step)
            records = _records(line)
            if _is_ahead(run, epoch, step, line.event):
                begins = not finished and not run.step
                if begins and (records or any(map(_records, lines))):
                    return None  # epochs that it has not trained: they are not to be cut off
                break
            if list(map(_comparable, records)) != finished[recorded : recorded + len(records)]:
                return None
            recorded += len(records)
            if line.event != "FitStart":  # a fit that was killed before it did anything leaves nothing to keep
                found = ResumePoint(line.end, recorded)
    except (ValueError, TypeError, KeyError, AttributeError):  # not a log, or one with fields of other kinds
        return None
    return found if found.end or _begins_as_log(path) else None


def _is_ahead(run: Run, epoch: int, step: int, event: str) -> bool:
    """Return whether an event lies ahead of a run, given where the recorded run stood then."""
    further = epoch - len(run.history)
    if step > run.step or further > 1:
        return True
    # The run may have begun the next epoch, but has not done all its steps.
    return further == 1 and (not _is_in_epoch(run) or event in _AFTER_THE_STEPS)


def _is_in_epoch(run: Run) -> bool:
    """Return whether a run is in the middle of an epoch.

    Between fits, and when a fit starts, `run.epoch` is the one that was left open, or else the last one finished.
    """
    return run.epoch > len(run.history)


def open_step(run: Run) -> int | None:
    """Return how many steps of the open epoch are done, or None if no epoch is open."""
    return run.step - sum(record.steps for record in run.history) if _is_in_epoch(run) else None


def _begins_as_log(path: Path) -> bool:
    """Return whether a file is empty or begins as a log does; otherwise it is not ours to overwrite."""
    with open(path, "rb") as file:
        return _FIRST_BYTES.startswith(file.read(len(_FIRST_BYTES)))


def _records(line: Line) -> list[dict[str, Any]]:
    """Return the finished epochs that a line records."""
    return [line.fields["record"]] if line.event == "EpochReport" else list(line.fields.get("history", ()))


def _comparable(record: dict[str, Any]) -> dict[str, Any]:
    # Without how long it took: a history that was restored from elsewhere may not know that.
    return {name: value for name, value in record.items() if name != "seconds"}
