"""Where a run continues in a log, given what it has behind it."""

from pathlib import Path
from typing import Any

import pytest
from attrs import define

from lucid_train import (
    Callback,
    EvaluateEnd,
    EvaluateStart,
    EvaluationRecord,
    FitEnd,
    FitStart,
    StepEnd,
    Trainer,
    replay,
)
from lucid_train.callbacks.event_log import EventLog
from lucid_train.recording.resume_point import ResumePoint, find_resume_point
from tests.support.callbacks import At, Recorder
from tests.support.event_logs import SILENT, events, fit, lines


@define(eq=False)
class EverySecondStep(Callback):
    """Evaluates within the epochs, as `Trainer(evaluate_every="2 steps")` does."""

    def on_step_end(self, event: StepEnd) -> None:
        run, place = event.run, {"epoch": event.epoch, "step": event.step}
        if event.step % 2 == 0:
            run.emit(EvaluateStart(run, **place, within_epoch=True))
            metrics = {"val_loss": 1 / event.step}
            run.history.evaluations.append(EvaluationRecord(**place, seconds=0.25, metrics=metrics))
            run.emit(EvaluateEnd(run, **place, metrics=metrics, within_epoch=True))


def evaluating(path: Path, **settings: Any) -> Trainer:
    callbacks = [EventLog(path, step_every=1, **SILENT), EverySecondStep()]
    return Trainer(step=lambda batch: batch / 4, data=range(3), epochs=3, callbacks=callbacks, **settings)


def lines_before(path: Path, point: ResumePoint | None) -> list[str]:
    assert point is not None
    return [line.decode() for line in path.read_bytes()[: point.end].splitlines()]


def test_evaluations_within_epochs_are_replayed_as_they_took_place(tmp_path: Path) -> None:
    path, seen = tmp_path / "run.jsonl", (FitStart, EvaluateStart, EvaluateEnd, FitEnd)
    live, again = Recorder(*seen), Recorder(*seen)
    trainer = evaluating(path)
    trainer.callbacks = (*trainer.callbacks, live)
    history = trainer.fit()
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
    trainer = Trainer(step=lambda batch: batch / 4, data=range(3), epochs=1, callbacks=[EverySecondStep()])
    trainer.fit()
    trainer.callbacks = (EventLog(path, **SILENT), *trainer.callbacks)
    history = trainer.fit(3)
    assert lines(path)[0]["evaluations"] == [
        {"epoch": 1, "step": 2, "seconds": 0.25, "metrics": {"val_loss": 0.5}},
    ]
    assert replay(path) == history


@pytest.mark.parametrize("stop", range(1, 9))
def test_a_run_that_is_resumed_leaves_the_log_of_an_uninterrupted_one(tmp_path: Path, stop: int) -> None:
    straight, path = tmp_path / "straight.jsonl", tmp_path / "run.jsonl"
    history = evaluating(straight).fit()
    evaluating(path).fit()
    trainer = evaluating(path)
    log, evaluate = trainer.callbacks
    trainer.callbacks = (evaluate, At(StepEnd, lambda event: event.step == stop and event.run.stop()))
    trainer.fit()
    trainer.callbacks = (log, evaluate)
    assert trainer.fit().evaluations == history.evaluations
    assert events(path) == events(straight)
    assert replay(path).evaluations == history.evaluations


def test_an_evaluation_that_is_still_due_is_not_the_runs_past(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    evaluating(path).fit()
    trainer = evaluating(tmp_path / "other.jsonl")
    trainer.on(StepEnd, at=4)(lambda event: event.run.stop())
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
