"""Where a run continues in a log, given what it has behind it."""

import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from lucid_train import (
    Callback,
    EpochEnd,
    EvaluateEnd,
    EvaluateStart,
    EvaluationRecord,
    FitEnd,
    FitStart,
    StepEnd,
    Trainer,
    replay,
)
from lucid_train.callbacks import Checkpoint
from lucid_train.callbacks.event_log import EventLog
from lucid_train.recording.resume_point import ResumePoint, find_resume_point
from lucid_train.testing import diff_states
from tests.support.callbacks import At, Recorder
from tests.support.event_logs import SILENT, events, fit, lines


def evaluating(*callbacks: Callback, every: int | str = "2 steps", epochs: int = 3) -> Trainer:
    """Return a Trainer of three steps per epoch, each of whose evaluations finds another number."""
    numbers = count(1)
    return Trainer(
        step=lambda batch: batch / 4,
        data=range(3),
        epochs=epochs,
        evaluate=lambda: 1 / next(numbers),
        evaluate_every=every,
        callbacks=callbacks,
    )


def log(path: Path) -> EventLog:
    return EventLog(path, step_every=1, **SILENT)


def lines_before(path: Path, point: ResumePoint | None) -> list[str]:
    assert point is not None
    return [line.decode() for line in path.read_bytes()[: point.end].splitlines()]


def test_evaluations_within_epochs_are_replayed_as_they_took_place(tmp_path: Path) -> None:
    path, seen = tmp_path / "run.jsonl", (FitStart, EvaluateStart, EvaluateEnd, FitEnd)
    live, again = Recorder(*seen), Recorder(*seen)
    history = evaluating(log(path), live).fit()
    found: list[int] = []
    assert (
        replay(path, [again, At(EvaluateEnd, lambda event: found.append(len(event.run.history.evaluations)))])
        == history
    )
    assert [record.step for record in history.evaluations] == [2, 4, 6, 8]
    assert again.seen == live.seen
    assert found == [1, 2, 3, 4]


def test_a_log_that_joins_late_has_the_evaluations_before(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    trainer = evaluating(epochs=1)
    trainer.fit()
    trainer.callbacks = (log(path),)
    history = trainer.fit(3)
    [before] = lines(path)[0]["run"]["evaluations"]
    assert before.pop("seconds") == history.evaluations[0].seconds
    assert before == {"epoch": 1, "step": 2, "metrics": {"val_loss": 1.0}, "asked": False}
    assert replay(path) == history


@pytest.mark.parametrize("stop", range(1, 9))
@pytest.mark.parametrize("every", ["2 steps", 1])
def test_a_run_that_is_resumed_leaves_the_log_of_an_uninterrupted_one(
    tmp_path: Path, every: int | str, stop: int
) -> None:
    straight, path = tmp_path / "straight.jsonl", tmp_path / "run.jsonl"
    evaluating(log(straight), every=every).fit()
    evaluating(log(path), every=every).fit()
    trainer = evaluating(At(StepEnd, lambda event: event.step == stop and event.run.stop()), every=every)
    trainer.fit()
    trainer.callbacks = (log(path),)
    history = trainer.fit()
    assert events(path) == events(straight)
    assert diff_states(replay(path).state_dict(), history.state_dict()) == []


def test_an_evaluation_that_is_still_due_is_not_the_runs_past(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    evaluating(log(path)).fit()
    trainer = evaluating()
    trainer.on(EvaluateEnd, at=4)(lambda event: event.run.stop())
    run: list[Any] = []
    trainer.on(FitEnd)(lambda event: run.append(event.run))
    trainer.fit()
    done = find_resume_point(path, run[0])
    assert '"event":"EvaluateEnd"' in lines_before(path, done)[-1]
    due = run[0].history.evaluations.pop()
    saved_before = find_resume_point(path, run[0])
    assert '"event":"StepEnd"' in lines_before(path, saved_before)[-1]
    assert saved_before is not None
    assert done is not None
    assert (saved_before.epochs, saved_before.evaluations, done.evaluations) == (1, 1, 2)
    run[0].history.evaluations.append(EvaluationRecord(epoch=due.epoch, step=due.step, metrics={"val_loss": 7.0}))
    assert find_resume_point(path, run[0]) is None  # another run's
    run[0].history.evaluations[-1] = EvaluationRecord(epoch=due.epoch, step=due.step, metrics=due.metrics)
    assert find_resume_point(path, run[0]) == done  # how long it took does not matter


def test_an_epoch_that_ended_with_an_error_is_trained_again_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"

    def fail(event: EpochEnd) -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        evaluating(At(EpochEnd, fail), log(path)).fit()
    assert lines(path)[-2]["run"]["history"][0]["epoch"] == 1
    trainer = evaluating(epochs=1)
    points: list[ResumePoint | None] = []
    trainer.on(StepEnd, at=3)(lambda event: points.append(find_resume_point(path, event.run)))
    trainer.fit()
    assert '"event":"StepEnd"' in lines_before(path, points[0])[-1]


def test_a_run_that_begins_does_not_cut_off_the_epochs_of_another(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    runs: list[Any] = []
    trainer = Trainer()
    trainer.on(FitStart)(lambda event: runs.append(find_resume_point(path, event.run)))
    fit(path, 0)
    whole = path.stat().st_size
    trainer.fit()
    fit(path, 1)
    trainer.fit(restart=True)
    path.write_bytes(b"notes")
    trainer.fit(restart=True)
    path.write_bytes(b"")
    trainer.fit(restart=True)
    assert runs == [ResumePoint(whole), None, None, ResumePoint()]


ENDED = """
import os, sys
from lucid_train import Callback, EpochEnd, Trainer
from lucid_train.callbacks import Checkpoint, EventLog

class Killed(Callback):  # the first in the list is the last to receive FitEnd
    def on_fit_end(self, event):
        os._exit(9)

directory, log, epochs, reason = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
callbacks = [Checkpoint(directory, weights=False), EventLog(log, heartbeat=None)]
trainer = Trainer(lambda batch: 0.5, [1, 2], epochs=epochs, callbacks=[Killed(), *callbacks])
if reason == "stopped":
    trainer.on(EpochEnd)(lambda event: event.run.stop("enough"))
trainer.fit()
"""


@pytest.mark.parametrize("epochs", [2, 3])
@pytest.mark.parametrize("status", ["completed", "stopped"])
@pytest.mark.filterwarnings("ignore:nothing left to train")
def test_a_run_that_was_killed_between_its_end_and_its_exit_ends_once(tmp_path: Path, status: str, epochs: int) -> None:
    path, checkpoint = tmp_path / "run.jsonl", Checkpoint(tmp_path / "run", weights=False)
    arguments = [str(tmp_path / "run"), str(path), "2", status]
    assert subprocess.run([sys.executable, "-c", ENDED, *arguments], timeout=100).returncode == 9
    assert lines(path)[-1]["event"] == "FitEnd"
    for _ in range(2):  # the second time nothing is left to train
        trainer = Trainer(lambda batch: 0.5, [1, 2], callbacks=[checkpoint, EventLog(path, heartbeat=None)])
        history = trainer.fit(epochs, resume="auto", accept="Killed")
        found = [line["event"] for line in lines(path)]
        assert (len(history), found.count("FitEnd"), found[-1]) == (epochs, 1, "FitEnd")
    assert replay(path) == history
