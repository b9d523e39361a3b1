"""Where a run that begins or continues goes on in a log."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Any

from attrs import frozen

from lucid_train.events import StepEvent, find_event_class
from lucid_train.recording.lines import Line, pack_records, read_log
from lucid_train.training.run import Run

_AFTER_THE_STEPS = ("EvaluateStart", "EvaluateEnd", "EpochEnd")
_AFTER_THE_LAST_SAVE = ("FitError", "FitEnd")
_FIRST_BYTES = b'{"event":"FitStart","time":'


@frozen
class ResumePoint:
    """The place in a log at which a run continues it.

    Args:
        end: Bytes before it.
        epochs: Finished epochs that the lines before it record.
        evaluations: Evaluations within epochs that they record.
    """

    end: int = 0
    epochs: int = 0
    evaluations: int = 0


def find_resume_point(path: Path, run: Run) -> ResumePoint | None:
    """Return the place at which a run that begins or continues goes on in a log.

    The lines before it are the run's past. Those after it may be cut off, for the run will write them again.

    Returns:
        The place, or None if the file is the log of another run, or not a log.
    """
    epochs = iter(_comparable(pack_records(run.history)))
    evaluations = iter(_comparable(pack_records(run.history.evaluations)))
    found = latest = ResumePoint()
    epoch = step = 0
    try:
        lines = read_log(path)
        for line in lines:
            epoch, step = line.run.get("epoch", epoch), line.run.get("step", step)
            if _is_ahead(run, epoch, step, latest.evaluations, line):
                if not run.history and not run.step and any("history" in each.run for each in chain([line], lines)):
                    return None  # epochs that a run which begins has not trained: they are not to be cut off
                break
            more_epochs = _comparable(line.run.get("history", ()))
            more_evaluations = _comparable(line.run.get("evaluations", ()))
            if [*islice(epochs, len(more_epochs))] != more_epochs:
                return None
            if [*islice(evaluations, len(more_evaluations))] != more_evaluations:
                return None
            latest = ResumePoint(line.end, latest.epochs + len(more_epochs), latest.evaluations + len(more_evaluations))
            # A fit that was killed before it did anything leaves nothing to keep, and what a resumed run goes on from
            # was saved before its fit ended.
            if line.event != "FitStart" and not (run.resumed and line.event in _AFTER_THE_LAST_SAVE):
                found = latest
    except (ValueError, TypeError, KeyError, AttributeError):  # not a log, or one with fields of other kinds
        return None
    return found if found.end or _begins_as_log(path) else None


def _is_ahead(run: Run, epoch: int, step: int, evaluations: int, line: Line) -> bool:
    """Return whether a line lies ahead of a run, given where the recorded run stood, and its evaluations before it."""
    further = epoch - len(run.history)
    if max(step, _step_of(line)) > run.step or further > (0 if open_step(run) is None else 1):
        return True
    if line.fields.get("within_epoch") is True:  # it may be due after the run's last step, and yet to come
        return evaluations >= len(run.history.evaluations)
    return further == 1 and (line.event in _AFTER_THE_STEPS or "history" in line.run)  # which this run has not all done


def _step_of(line: Line) -> int:
    """Return the step to which an event of somebody's own belongs, which may have been emitted within it; 0 if none."""
    cls = find_event_class(line.event, line.fields.get("module"))
    if cls is None or not issubclass(cls, StepEvent) or "fields" not in line.fields:
        return 0
    step = line.fields["fields"].get("step")
    return step if type(step) is int else 0


def open_step(run: Run) -> int | None:
    """Return how many steps of the open epoch are done, or None if no epoch is open.

    Between fits, and when a fit starts, `run.epoch` is the one that was left open, or else the last one finished.
    """
    return run.epoch_step if run.epoch > len(run.history) else None


def _begins_as_log(path: Path) -> bool:
    """Return whether a file is empty or begins as a log does; otherwise it is not ours to overwrite."""
    with open(path, "rb") as file:
        return _FIRST_BYTES.startswith(file.read(len(_FIRST_BYTES)))


def _comparable(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    # Without how long they took: a history that was restored from elsewhere may not know that.
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]
