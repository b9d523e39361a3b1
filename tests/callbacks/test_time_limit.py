from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from lucid_train import Trainer
from lucid_train.callbacks import Checkpoint, TimeLimit


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands until it is set."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def training(
    clock: list[float], limit: TimeLimit, *others: Any, seconds: float = 1.0, evaluation: float = 0.0
) -> Trainer:
    def step(batch: object) -> None:
        clock[0] += seconds

    def evaluate() -> float:
        clock[0] += evaluation
        return 0.0

    return Trainer(step, range(10), epochs=100, evaluate=evaluate, callbacks=[limit, *others])


def test_a_run_stops_before_a_step_that_might_exceed_the_limit(clock: list[float]) -> None:
    history = training(clock, TimeLimit(25.5)).fit()
    assert clock == [125.0]
    assert (history.status, history.reason) == ("stopped", "the time limit of 25.5 s is reached")


def test_a_margin_is_left(clock: list[float]) -> None:
    training(clock, TimeLimit(25.5, margin=4)).fit()
    assert clock == [121.0]


def test_the_time_of_an_evaluation_counts_but_is_no_step(clock: list[float]) -> None:
    training(clock, TimeLimit(45.5), evaluation=10).fit()
    assert clock == [145.0]


def test_no_epoch_begins_after_an_evaluation_that_exceeds_the_limit(clock: list[float]) -> None:
    history = training(clock, TimeLimit(15.5), evaluation=10).fit()
    assert (clock, len(history), history.status) == ([120.0], 1, "stopped")


def test_each_fit_has_its_own_limit_unless_earlier_ones_count(clock: list[float]) -> None:
    own, earlier = TimeLimit(10.5), TimeLimit(10.5, earlier=True)
    for limit, second in ((own, 10.0), (earlier, 0.0)):
        trainer = training(clock, limit)
        trainer.fit()
        before = clock[0]
        trainer.fit()
        assert clock[0] - before == second
    assert (own.seconds_spent, earlier.seconds_spent) == (20.0, 10.0)


def test_the_time_of_runs_before_a_resume_counts_if_asked_for(clock: list[float], tmp_path: Path) -> None:
    training(clock, TimeLimit(10.5, earlier=True), Checkpoint(tmp_path, weights=False)).fit()
    history = training(clock, TimeLimit(30.5, earlier=True), Checkpoint(tmp_path, weights=False)).fit(resume="auto")
    assert clock == [130.0]
    assert len(history) == 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"seconds": 0}, ValueError, "'seconds' must be > 0"),
        ({"seconds": "1"}, TypeError, "'seconds' must be a number"),
        ({"seconds": 1, "margin": -1}, ValueError, "'margin' must be >= 0"),
        ({"seconds": 1, "earlier": 1}, TypeError, "'earlier' must be True or False: 1"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TimeLimit(**arguments)
