import json
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from attrs import define

from lucid_train import Callback, EpochRecord, StepEnd, Trainer
from lucid_train.callbacks import CSVLogger, EarlyStopping, EventLog, ThroughputMonitor
from lucid_train.recording.comparison import compare_logs
from lucid_train.testing import assert_resumes_exactly, diff_states, first_divergence, run_in_threads

# Long beside what the loop itself takes; sleep() takes at least as long.
NAP = 0.01
DATA = [[1, 2, 3], [4, 5, 6], [7, 8]]


class Slow:
    """Data whose batches take their time, and so does its iterator's beginning."""

    def __init__(self, nap: float = NAP, first: float = 0.0) -> None:
        self.nap, self.first = nap, first

    def __len__(self) -> int:
        return len(DATA)

    def __iter__(self) -> Iterator[list[int]]:
        sleep(self.first)
        for batch in DATA:
            sleep(self.nap)
            yield batch


def trained(monitor: ThroughputMonitor, data: Any = DATA, **options: Any) -> list[EpochRecord]:
    return [*Trainer(lambda batch: 0.5, data, callbacks=[monitor], **options).fit()]


def seconds_in_steps(record: EpochRecord) -> float:
    return record.steps / record.metrics["steps_per_second"]


def waited(record: EpochRecord) -> float:
    return record.metrics["data_wait"] * seconds_in_steps(record)


def test_each_epoch_has_its_speed_and_the_share_of_it_that_steps_waited() -> None:
    for record in trained(ThroughputMonitor(), epochs=2):
        assert list(record.metrics) == ["loss", "steps_per_second", "data_wait"]
        assert 0 < seconds_in_steps(record) <= record.seconds
        assert 0 < record.metrics["data_wait"] < 1


@pytest.mark.parametrize("samples", [lambda batch: len(batch), 3])
def test_samples_are_counted_by_a_function_of_the_batch_or_are_as_many_in_each_step(samples: Any) -> None:
    counted = 8 if callable(samples) else 9
    for record in trained(ThroughputMonitor(samples, unit="tokens"), epochs=2):
        assert list(record.metrics) == ["loss", "steps_per_second", "tokens_per_second", "data_wait"]
        assert record.metrics["tokens_per_second"] * seconds_in_steps(record) == pytest.approx(counted, rel=1e-12)


def test_what_the_data_takes_is_waiting_and_what_a_step_takes_is_not() -> None:
    [of_data] = trained(ThroughputMonitor(), Slow(first=5 * NAP))
    assert waited(of_data) >= 8 * NAP

    def step(batch: Any) -> float:
        sleep(NAP)
        return 0.5

    [of_steps] = Trainer(step, DATA, callbacks=[ThroughputMonitor()]).fit()
    assert seconds_in_steps(of_steps) >= 3 * NAP + waited(of_steps)


def test_evaluations_do_not_count() -> None:
    def evaluate() -> dict[str, float]:
        sleep(NAP)
        return {"accuracy": 0.5}

    for every in (1, "1 steps"):
        [record] = trained(ThroughputMonitor(), evaluate=evaluate, evaluate_every=every)
        assert seconds_in_steps(record) + NAP * (1 if every == 1 else 3) <= record.seconds


@pytest.mark.parametrize("function", [False, True])
def test_an_epoch_that_is_left_and_a_step_that_fails_count_whole_and_once(function: bool) -> None:
    failures = iter([False, True, False, False])

    def step(batch: list[int]) -> float:
        if next(failures):
            raise InterruptedError("once")
        return 0.5

    trainer = Trainer(step, DATA, callbacks=[ThroughputMonitor(len if function else 3)])
    trainer.on(StepEnd, at=1)(lambda event: event.run.stop())
    trainer.fit()
    with pytest.raises(InterruptedError, match="once"):
        trainer.fit()
    [record] = trainer.fit()
    samples = record.metrics["samples_per_second"] * seconds_in_steps(record)
    assert samples == pytest.approx(8 if function else 9, rel=1e-12)
    assert record.steps == 3


def run(path: Path, *others: Callback) -> Trainer:
    callbacks = [ThroughputMonitor(len), CSVLogger(path / "run.csv"), *others]
    return Trainer(lambda batch: sum(batch) / 4, DATA, epochs=2, callbacks=callbacks)


def test_a_run_with_these_metrics_resumes_exactly_by_all_else(tmp_path: Path) -> None:
    assert_resumes_exactly(lambda: run(tmp_path), cuts="all")


def test_runs_that_are_compared_differ_only_in_what_is_no_time(tmp_path: Path) -> None:
    one, other = (run(tmp_path / name, EventLog(tmp_path / name / "log")) for name in "ab")
    one.fit()
    other.fit()
    assert diff_states(one.state_dict(), other.state_dict()) == []
    assert compare_logs(tmp_path / "a" / "log", tmp_path / "b" / "log").agrees
    assert first_divergence(lambda: run(tmp_path), lambda: run(tmp_path)) is None


def test_they_are_recorded_and_followed_as_any_metric_is(tmp_path: Path) -> None:
    trainer = run(tmp_path, EventLog(tmp_path / "log"), EarlyStopping("samples_per_second", mode="max", patience=99))
    history = trainer.fit()
    header, *rows = (tmp_path / "run.csv").read_text().splitlines()
    cells = [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    ended = [line["metrics"] for line in lines if line["event"] == "EpochEnd"]
    for name in ("steps_per_second", "samples_per_second", "data_wait"):
        expected = [record.metrics[name] for record in history]
        assert [float(row[name]) for row in cells] == [metrics[name] for metrics in ended] == expected


def test_processes_give_the_samples_of_all_and_the_share_of_the_one_that_waits_most() -> None:
    def fit(group: Any) -> tuple[dict[str, float], float]:
        data = Slow(5 * NAP * group.rank)
        monitor = ThroughputMonitor(10 + group.rank)
        [record] = Trainer(lambda batch: 0.5, data, callbacks=[monitor], group=group).fit()
        return dict(record.metrics), seconds_in_steps(record)

    (one, seconds), (other, _) = run_in_threads(2, fit)
    assert one == other
    assert one["samples_per_second"] * seconds == pytest.approx(3 * 21, rel=1e-12)
    assert one["data_wait"] * seconds >= 15 * NAP * 0.99


def test_it_costs_one_exchange_per_epoch() -> None:
    def gathers(*callbacks: Callback) -> Callable[[Any], int]:
        def fit(group: Any) -> int:
            Trainer(lambda batch: 0.5, DATA, epochs=3, callbacks=callbacks, group=group).fit()
            return sum(kind == "gather" for kind, _ in group.log)

        return fit

    @define(eq=False)
    class Idle(Callback): ...

    [plain] = set(run_in_threads(2, lambda group: gathers(Idle())(group)))
    [monitored] = set(run_in_threads(2, lambda group: gathers(ThroughputMonitor())(group)))
    assert monitored == plain + 3


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"samples": 0}, ValueError, "'samples' must be >= 1: 0"),
        ({"samples": "8"}, TypeError, "'samples' must be"),
        ({"unit": ""}, TypeError, "'unit' must be a text that is not empty: ''"),
        ({"unit": "steps"}, ValueError, "'unit' must be another than that of steps_per_second: 'steps'"),
    ],
)
def test_bad_arguments_are_refused_by_name(settings: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ThroughputMonitor(**settings)


def test_outside_a_fit_there_is_nothing_to_give() -> None:
    assert ThroughputMonitor(8).epoch_metrics() == {}
