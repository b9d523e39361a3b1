"""ThroughputMonitor: how fast a run trains, and how long its steps wait for batches, as metrics of each epoch."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from lucid_train import Callback, EpochEnd, StepEnd, StepResult, Trainer
from lucid_train.callbacks import Checkpoint, CSVLogger, EventLog, ThroughputMonitor
from lucid_train.cli.main import main
from lucid_train.testing import assert_resumes_exactly, diff_states, first_divergence
from lucid_train.testing.threads import ThreadGroup, run_in_threads
from lucid_train.training import run as run_module


class Clock:
    """A clock that goes on only as it is let: a second per batch, three per step, ten per evaluation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(run_module, "monotonic", lambda: self.now)
        monkeypatch.setattr(run_module, "perf_counter", lambda: self.now)

    def spend(self, seconds: float, result: Any = None) -> Any:
        self.now += seconds
        return result

    def data(self, count: int, seconds: float = 1.0) -> Any:
        clock = self

        class Data:
            def __len__(self) -> int:
                return count

            def __iter__(self) -> Iterator[int]:
                for number in range(count):
                    clock.spend(seconds)
                    yield number

        return Data()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def trainer(clock: Clock, *callbacks: Callback, steps: int = 21, **settings: Any) -> Trainer:
    step = settings.pop("step", lambda batch: clock.spend(3, StepResult(0.5, weight=8)))
    return Trainer(step, settings.pop("data", clock.data(steps)), callbacks=callbacks, **settings)


def test_speed_and_waiting_are_those_of_the_steps(clock: Clock) -> None:
    history = trainer(clock, ThroughputMonitor("samples"), epochs=2, evaluate=lambda: clock.spend(10, 0.25)).fit()
    assert [dict(record.metrics) for record in history] == 2 * [
        {"loss": 0.5, "steps_per_second": 0.25, "data_wait": 0.25, "samples_per_second": 2.0, "val_loss": 0.25}
    ]


def test_evaluations_within_epochs_are_left_out_too(clock: Clock) -> None:
    made = trainer(clock, ThroughputMonitor(), evaluate=lambda: clock.spend(10, 0.25), evaluate_every="5 steps")
    assert made.fit()[0].metrics == {"loss": 0.5, "steps_per_second": 0.25, "data_wait": 0.25}


def test_each_epoch_has_its_own(clock: Clock) -> None:
    made = trainer(clock, ThroughputMonitor(), epochs=2)
    made.step = lambda batch: clock.spend(3 if made._run.epoch == 1 else 1, 0.5)
    speeds = [(record.metrics["steps_per_second"], record.metrics["data_wait"]) for record in made.fit()]
    assert speeds == [(0.25, 0.25), (0.5, 0.5)]


def test_where_no_wait_was_measured_there_is_none(clock: Clock) -> None:
    metrics = trainer(clock, ThroughputMonitor(), steps=2).fit()[0].metrics
    assert metrics["steps_per_second"] == 0.25
    assert metrics["data_wait"] != metrics["data_wait"]  # NaN


def test_a_resumed_epoch_is_measured_from_there(clock: Clock, tmp_path: Path) -> None:
    def made() -> Trainer:
        return trainer(clock, ThroughputMonitor("samples"), Checkpoint(tmp_path, every=None, weights=False))

    first = made()
    first.on(StepEnd, at=10)(lambda event: event.run.stop("killed here"))
    first.fit()
    clock.spend(1000)
    second = made()
    second.step = lambda batch: clock.spend(1, StepResult(0.5, weight=8))
    metrics = second.fit(resume="auto")[0].metrics
    # Eleven steps of two seconds, after ten batches that had been trained.
    assert (metrics["steps_per_second"], metrics["samples_per_second"]) == (11 / 32, 11 / 4)


def test_the_log_the_table_and_what_follows_a_metric_have_them(clock: Clock, tmp_path: Path) -> None:
    log, table = tmp_path / "run.jsonl", tmp_path / "run.csv"
    seen: list[float] = []
    made = trainer(clock, CSVLogger(table), EventLog(log, heartbeat=None), ThroughputMonitor())
    made.on(EpochEnd)(lambda event: seen.append(event.metrics["steps_per_second"]))
    made.fit()
    assert seen == [0.25]
    assert [row["steps_per_second"] for row in csv.DictReader(table.read_text().splitlines())] == ["0.25"]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["metrics"]["data_wait"] for line in lines if line["event"] == "EpochEnd"] == [0.25]


def test_of_many_processes_it_is_the_mean_and_of_samples_the_sum() -> None:
    def run(group: ThreadGroup) -> Any:
        callbacks = [ThroughputMonitor("tokens")]
        made = Trainer(lambda batch: StepResult(0.5, weight=10), range(21), group=group, callbacks=callbacks)
        return made.fit()[0].metrics

    first, second = run_in_threads(2, run)
    assert first == second
    assert first["tokens_per_second"] == pytest.approx(20 * first["steps_per_second"])


@define(eq=False)
class Taken(Callback):
    """Gives a metric of a name that may be taken."""

    name: str

    def measured(self) -> dict[str, float]:
        return {self.name: 1.0}


@pytest.mark.parametrize("name", ["loss", "val_loss", "other", "own"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    made = Trainer(lambda batch: 0.5, [1], evaluate=lambda: 0.5, callbacks=[Taken("other"), Taken(name)])
    if name == "own":
        assert made.fit()[0].metrics == {"loss": 0.5, "other": 1.0, "own": 1.0, "val_loss": 0.5}
        return
    with pytest.raises(
        ValueError, match=rf"^'Taken.measured\(\)' must give metrics of names that are not taken: '{name}'"
    ):
        made.fit()


def test_what_depends_on_the_clock_is_left_out_of_comparisons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(log: str = "log") -> Trainer:
        table = CSVLogger(tmp_path / f"{log}.csv")
        callbacks = [ThroughputMonitor("samples"), EventLog(tmp_path / log, heartbeat=None), table]
        return Trainer(lambda batch: batch / 4, range(5), epochs=2, callbacks=callbacks)

    assert_resumes_exactly(build, cuts="all")
    assert first_divergence(build, build) is None
    first, second = build("one"), build("two")
    histories = [each.fit() for each in (first, second)]
    speeds = [history[0].metrics["steps_per_second"] for history in histories]
    assert speeds[0] != speeds[1]
    assert diff_states(first.state_dict(), second.state_dict()) == []
    assert main(["diff", str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    assert "Nothing differs" in capsys.readouterr().out
