"""The running means of an epoch: in the moving lines, on heartbeats, and what it costs to have them."""

import io
import re
import threading
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from rich.console import Console

from lucid_train import StepEnd, StepResult, Trainer, track
from lucid_train.callbacks import RichLogger
from lucid_train.callbacks.display.columns import Column, DataWait, ItemsPerSecond
from lucid_train.callbacks.display.running import RunningMeans
from lucid_train.callbacks.display.throughput import Throughput
from lucid_train.metrics import Means
from tests.support.console import optimizer, pipe, shown, terminal, train
from tests.support.waiting import until


def paused(number: int, seconds: float = 0.02) -> int:
    time.sleep(seconds)
    return number


def test_the_moving_lines_show_the_means_so_far_loss_first() -> None:
    console = terminal(100)
    train(
        RichLogger(console),
        data=range(1, 41),
        epochs=1,
        step=lambda number: {"accuracy": 0.25, "loss": float(paused(number) > 20)},
    )
    seen = re.findall(r"(\d+)/40  loss (\S+)  accuracy (\S+)  lr (\S+)", shown(console))
    assert len(seen) >= 3
    losses = [float(loss) for _, loss, _, _ in seen]
    assert losses[0] == 0.0
    assert losses == sorted(losses)
    assert 0 < losses[-1] <= 0.5, "the mean of 20 steps with 0, and as many with 1 at most"
    assert {tuple(rest) for _, _, *rest in seen} == {("0.2500", "0.1000")}


def test_the_metrics_that_are_shown_and_their_order_can_be_chosen() -> None:
    consoles = terminal(100), pipe()
    for console in consoles:
        train(
            RichLogger(console, metrics=["val_f1", "f1", "absent", "loss"], heartbeat=0.05),
            data=range(20),
            epochs=1,
            step=lambda number: {"loss": 0.5, "accuracy": 0.25, "f1": paused(1)},
            evaluate=lambda: {"f1": 0.75, "accuracy": 0.5},
        )
    moving, plain = map(shown, consoles)
    assert "f1 1.0000  loss 0.5000  lr 0.1000" in moving
    assert re.search(r" epoch +val_f1 +f1 +loss +lr +time", moving)
    assert re.search(r"^epoch 1/1  step \d+/20  f1 1.0000  loss 0.5000  ", plain, re.MULTILINE)
    assert re.search(r"^epoch 1/1  val_f1 0.7500  f1 1.0000  loss 0.5000\*  lr 0.1000  \S+$", plain, re.MULTILINE)
    for metrics, message in ((["loss", ""], r"'metrics\[1\]' must be the name"), ("loss", "'metrics' must be")):
        with pytest.raises(TypeError, match=message):
            RichLogger(metrics=metrics)  # type: ignore[arg-type]  # that is the test


def test_a_heartbeat_says_what_the_moving_lines_say_in_80_columns() -> None:
    console = pipe()
    names = ["loss", *(f"metric_{index}" for index in range(5))]
    evaluations = count(1)

    def evaluate() -> int:
        epoch = next(evaluations)
        for each in track(range(15)):
            paused(each, 0.01)
            if each == 14:
                until(lambda: f"epoch {epoch}/2  evaluating" in shown(console))
        return 14

    train(
        RichLogger(console, heartbeat=0.05, header=False, summary=False),
        data=range(20),
        epochs=2,
        step=lambda number: dict.fromkeys(names, float(paused(1))),
        evaluate=evaluate,
    )
    lines = shown(console).splitlines()
    beats = [line for line in lines if "eta" in line]
    assert max(map(len, beats)) <= 80
    assert any(
        re.match(r"epoch 2/2  step \d+/20  loss 1.0000  metric_0 1.0000  .*steps/s  eta \d", beat) for beat in beats
    )
    evaluating = r"epoch 2/2  evaluating \d+/15  loss 1.0000  metric_0 1.0000  eta \d:\d\d"
    assert any(re.fullmatch(evaluating, beat) for beat in beats)


def test_a_snapshot_is_taken_by_the_thread_that_trains_and_only_one_at_a_time() -> None:
    threads: list[str] = []
    snapshots: list[int] = []

    class Watched(RunningMeans):
        def take(self) -> None:
            threads.append(threading.current_thread().name)
            snapshots.append(self.run.step)
            super().take()

    read: list[dict[str, float]] = []
    trainer = Trainer(lambda number: float(number), range(1, 7))
    running = Watched(trainer._run)

    @trainer.on(StepEnd)
    def show(event: StepEnd) -> None:
        thread = threading.Thread(target=lambda: [running.ask() for _ in range(5)])
        thread.start()
        thread.join()
        if event.step % 2 == 0:
            read.append(running.read())

    trainer.fit()
    assert set(threads) == {"MainThread"}
    assert snapshots == [1, 3, 5], "one waits until it is read"
    assert read == [{"loss": 1.0}, {"loss": 2.0}, {"loss": 3.0}]


def test_the_means_of_one_epoch_are_not_shown_in_the_next() -> None:
    trainer = Trainer(lambda number: 0.5, range(3), epochs=2)
    running = RunningMeans(trainer._run)
    seen = []

    @trainer.on(StepEnd)
    def look(event: StepEnd) -> None:
        seen.append(running.read())
        if event.step == 1:
            running.ask()

    trainer.fit()
    assert seen == [{}, {"loss": 0.5}, {"loss": 0.5}, {}, {}, {}]


def test_a_snapshot_that_replaces_the_one_being_read_is_read_when_it_is_complete() -> None:
    trainer = Trainer(lambda number: float(number), range(1, 4))
    run = trainer._run
    arrived, seen, snapshots = [False], [], []

    class Copy:
        """The event of a device; while the first is asked, the thread that trains takes the next snapshot."""

        def query(self) -> bool:
            if running._taken is not snapshots[0]:
                return arrived[0]
            running._taken = snapshots[1]
            return True

    running = RunningMeans(run)

    def take() -> None:
        snapshots.append((run.epoch, run.epoch_step, run.snapshot()))
        snapshots[-1][2].checks.append(Copy().query)

    @trainer.on(StepEnd)
    def look(event: StepEnd) -> None:
        if event.step < 3:
            run.after_step(take)
            return
        running._taken = snapshots[0]
        seen.extend([running.read(), running.read()])
        arrived[0] = True
        seen.append(running.read())

    trainer.fit()
    assert seen == [{"loss": 1.0}, {"loss": 1.0}, {"loss": 1.5}]


def test_what_cannot_be_read_without_waiting_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Means, "snapshot", lambda means: 1 / 0)  # as on a device without events
    trainer = Trainer(lambda number: 0.5, range(2))
    running = RunningMeans(trainer._run)
    trainer.on(StepEnd)(lambda event: running.ask())
    trainer.fit()
    assert running.read() == {}


def test_the_share_of_waiting_for_data_is_measured_where_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    now, shares = [0.0], list[float | None]()
    for clock in ("perf_counter", "monotonic"):
        monkeypatch.setattr(f"lucid_train.training.run.{clock}", lambda: now[0])

    class Slow:
        """Data that needs three times as long for a batch as a step takes."""

        def __iter__(self) -> Iterator[int]:
            for number in range(60):
                now[0] += 0.015
                yield number

    def step(number: int) -> None:
        now[0] += 0.005

    for columns in ([DataWait()], []):
        logger = RichLogger(terminal(100), columns=columns)
        trainer = Trainer(step, Slow(), callbacks=[logger])
        trainer.on(StepEnd, at=50)(lambda event, logger=logger: shares.append(logger._session.throughput.data_share))
        trainer.fit()
    assert shares == [pytest.approx(0.75), None]


def test_columns_show_items_and_what_a_user_wants() -> None:
    class Examples(Column):
        def render(self, now: Throughput) -> str:
            return f"{32 * now.run.step} examples"

    console = terminal(120)
    logger = RichLogger(console, columns=[ItemsPerSecond("token"), Examples()])
    train(logger, data=range(20), epochs=1, step=lambda number: StepResult(paused(1), weight=1000))
    found = re.findall(r"([\d.,]+) steps/s  ([\d.,]+) tokens/s  (\d+) examples", shown(console))
    assert found
    for steps, tokens, _ in found:
        assert float(tokens.replace(",", "")) == pytest.approx(1000 * float(steps), rel=0.01)
    beats = pipe()
    beating = RichLogger(beats, columns=logger.columns, heartbeat=0.05)
    names = ["loss", *(f"metric_{index}" for index in range(3))]
    train(
        beating, data=range(20), epochs=1, step=lambda number: StepResult(dict.fromkeys(names, paused(1)), weight=1000)
    )
    chosen = r"^epoch 1/1  step \d+/20  loss 1.0000  [\d,]+ tokens/s  \d+ examples  eta \S+$"
    assert re.search(chosen, shown(beats), re.MULTILINE), "what was chosen is there, rather than more metrics"
    with pytest.raises(TypeError, match=r"'columns\[0\]' must be a Column"):
        RichLogger(columns=["loss"])  # type: ignore[list-item]  # that is the test


def test_a_run_is_the_same_whether_or_not_it_is_shown() -> None:
    def trained(*callbacks: Any) -> Any:
        sgd = optimizer()
        means = []

        def step(number: int) -> dict[str, float]:
            time.sleep(0.003)
            return {"loss": 1 / (number + 1), "accuracy": number % 7 / 7}

        trainer = Trainer(step, range(200), epochs=2, optimizer=sgd, callbacks=callbacks)
        trainer.on(StepEnd)(lambda event: means.append(event.step))
        return [each.metrics for each in trainer.fit()], means

    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    assert trained() == trained(RichLogger(console, refresh_per_second=10))
    assert shown(console).count("accuracy") > 5


def test_slow_steps_are_shown_after_each() -> None:
    console = terminal(100)
    train(RichLogger(console), data=range(4), epochs=1, step=lambda number: float(paused(number, 0.3)))
    found = {(step, loss) for step, loss in re.findall(r"([\d]+)/4  loss (\S+)", shown(console))}
    assert {("1", "0.0000"), ("2", "0.5000"), ("3", "1.0000")} <= found
