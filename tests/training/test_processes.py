"""Runs of many processes, as threads of one: the same loop, the same decisions at the same step, the same bits."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import define
from rich.console import Console

from lucid_train import (
    Callback,
    EpochEnd,
    EpochReport,
    EpochStart,
    EvaluateEnd,
    EvaluateStart,
    Event,
    FitEnd,
    FitStart,
    Saved,
    StepEnd,
    StepResult,
    StepStart,
    Trainer,
    find_lr,
    read_checkpoint,
    replay,
    write_checkpoint,
)
from lucid_train.callbacks import (
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    EventLog,
    LRSchedulerCallback,
    RichLogger,
    TimeLimit,
)
from lucid_train.group import Solo
from lucid_train.metrics import Mean
from lucid_train.nn import Linear
from lucid_train.optims import SGD
from lucid_train.saving.checkpoint.directory import Directory
from lucid_train.saving.checkpoint.format import read_file
from lucid_train.schedules import Cosine
from lucid_train.testing.resuming import diff_states
from lucid_train.testing.threads import ThreadGroup, run_in_threads, thread_groups
from tests.support.programs.sockets import Noisy


def batches(rank: int, count: int = 6) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(rank)
    return [(rng.normal(size=(4, 3)), rng.normal(size=(4, 1))) for _ in range(count)]


def build(group: ThreadGroup, average: ThreadGroup | None = None, **settings: Any) -> Trainer:
    """A small regression whose gradients are averaged by a group of its own, as DDP does."""
    model = settings.pop("model", None) or Linear(3, 1, rng=0)
    optimizer = SGD(model.parameters(), lr=settings.pop("lr", 0.1))

    def step(batch: tuple[Any, Any]) -> float:
        inputs, targets = batch
        errors = model(inputs) - targets
        optimizer.zero_grad()
        model.backward(2 * errors / len(errors))
        if average is not None:
            for parameter in model.parameters():
                parts = average.gather(np.ascontiguousarray(parameter.grad).tobytes())
                grads = [np.frombuffer(each).reshape(parameter.grad.shape) for each in parts]
                parameter.grad[...] = sum(grads) / len(grads)
        optimizer.step()
        return float((errors**2).mean())

    settings = {"epochs": 3, "data": batches(group.rank)} | settings
    return Trainer(step, model=model, optimizer=optimizer, group=group, **settings)


def raised(world_size: int, function: Callable[[ThreadGroup], object]) -> list[str]:
    """Run a fit on every rank that is to fail; return what leaves each."""

    def run(group: ThreadGroup) -> str:
        try:
            function(group)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            return f"{type(error).__name__}: {error}"
        return "nothing"

    return run_in_threads(world_size, run)


def places(group: ThreadGroup) -> list[str]:
    """Return where the run has exchanged something."""
    return [json.loads(content)["place"] for kind, content in group.log if kind == "gather"]


def test_metrics_are_equal_on_all_ranks_and_those_of_all() -> None:
    def run(group: ThreadGroup) -> Any:
        losses: list[float] = []
        trainer = build(group, epochs=1)
        trainer.on(StepEnd)(lambda event: losses.append(event.loss))
        return trainer.fit().metric("loss"), losses

    found = run_in_threads(3, run)
    assert found[0][0] == found[1][0] == found[2][0]
    assert found[0][0][0] == pytest.approx(np.mean([each for _, losses in found for each in losses]), rel=1e-14)


@define(eq=False)
class At(Callback):
    """Call a function of the event and the rank at one event, on every rank."""

    event: type[Event]
    function: Callable[[Any], object]

    def settings(self) -> dict[str, Any]:
        return {}

    def hooks(self, event: type[Event]) -> list[Any]:
        return [self.function] if event is self.event else []


# Metrics.


def test_means_are_weighted_over_all_ranks() -> None:
    def run(group: ThreadGroup) -> Any:
        step = [lambda batch: StepResult(1.0, weight=3), lambda batch: StepResult(2.0, weight=1)][group.rank]
        return Trainer(step, data=[1, 2], group=group).fit().metric("loss")

    assert run_in_threads(2, run) == [[1.25], [1.25]]


def test_metrics_have_the_order_of_the_first_rank_on_all() -> None:
    def run(group: ThreadGroup) -> Any:
        found = {"x": 1.0, "y": 2.0} if group.rank else {"y": 4.0, "x": 3.0}
        history = Trainer(lambda batch: found, data=[1, 2], evaluate=lambda: found, group=group).fit()
        return list(history[-1].metrics.items())

    assert run_in_threads(2, run) == [[("y", 3.0), ("x", 2.0), ("val_y", 3.0), ("val_x", 2.0)]] * 2


def test_the_first_rank_may_evaluate_for_all() -> None:
    def run(group: ThreadGroup) -> Any:
        seen = []
        trainer = build(group, epochs=2, evaluate=lambda: {"loss": 0.5} if group.rank == 0 else None)
        trainer.on(EvaluateEnd)(lambda event: seen.append(dict(event.metrics)))
        return trainer.fit().metric("val_loss"), seen

    assert run_in_threads(3, run) == [([0.5, 0.5], [{"val_loss": 0.5}] * 2)] * 3


def test_parts_of_an_evaluation_are_put_together_by_their_weights() -> None:
    def run(group: ThreadGroup) -> Any:
        parts = [Mean(6.0, 3), Mean(1.0, 1)]
        return build(group, epochs=1, evaluate=lambda: {"loss": parts[group.rank]}).fit().metric("val_loss")

    assert run_in_threads(2, run) == [[1.75], [1.75]]


def test_a_part_of_weight_0_takes_no_part() -> None:
    def run(group: ThreadGroup) -> Any:
        parts = [Mean(float("nan"), 0), Mean(6.0, 3), Mean(1.0, 1)]
        return build(group, epochs=1, evaluate=lambda: {"loss": parts[group.rank]}).fit().metric("val_loss")

    assert run_in_threads(3, run) == [[1.75]] * 3


def test_an_evaluation_within_an_epoch_is_that_of_all_ranks() -> None:
    def run(group: ThreadGroup) -> Any:
        trainer = build(group, epochs=1, evaluate=lambda: float(group.rank), evaluate_every="2 steps")
        return [(each.step, each.metrics) for each in trainer.fit().evaluations]

    assert run_in_threads(2, run) == [[(step, {"val_loss": 0.5}) for step in (2, 4, 6)]] * 2


def test_metric_objects_are_averaged() -> None:
    class Rank:
        def __init__(self, rank: int) -> None:
            self.rank = rank

        def update(self) -> None: ...
        def reset(self) -> None: ...
        def compute(self) -> float:
            return float(self.rank)

        def state_dict(self) -> dict[str, int]:
            return {"rank": self.rank}

        def load_state_dict(self, state: dict[str, int]) -> None: ...

    def run(group: ThreadGroup) -> Any:
        return build(group, epochs=1, metrics={"rank": Rank(group.rank)}).fit().metric("rank")

    assert run_in_threads(2, run) == [[0.5], [0.5]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda rank: {"evaluate": lambda: None}, "TypeError: 'evaluate' must return a number or a mapping of metrics"),
        (
            lambda rank: {"evaluate": lambda: {f"m{rank}": 1.0}},
            "ValueError: 'evaluate' must give the same metrics on all processes that give any: ranks 0 and 1 differ in "
            "val_m0, val_m1",
        ),
        (
            lambda rank: {"data": batches(rank, 4 + rank)},
            "ValueError: the processes of a run must have the same settings: steps_per_epoch is 4 on rank 0 and 5 on "
            "rank 1",
        ),
        (
            lambda rank: {"callbacks": [EarlyStopping("loss", patience=1 + rank)]},
            "ValueError: the processes of a run must have the same settings: EarlyStopping.patience is 1 on rank 0 and "
            "2 on rank 1",
        ),
        (
            lambda rank: {"epochs": 3 - rank},
            "ValueError: the processes of a run must have the same settings: epochs is 2 on rank 1 and 3 on rank 0",
        ),
        (
            lambda rank: {"callbacks": [EarlyStopping("loss"), TimeLimit(99)][:: 1 - 2 * rank]},
            "ValueError: the processes of a run must have the same settings: callbacks.order is EarlyStopping, "
            "TimeLimit on rank 0 and TimeLimit, EarlyStopping on rank 1",
        ),
        (
            lambda rank: {"lr": 0.1 + rank},
            "ValueError: the processes of a run must have the same settings: optimizer.lr is 0.1 on rank 0 and 1.1 on "
            "rank 1",
        ),
        (
            lambda rank: {"model": Linear(3, 1 + rank, rng=0)},
            "ValueError: the processes of a run must train the same: rank 1 differs from rank 0 in model.weight: "
            "float64 (1, 3) on rank 0 alone",
        ),
        (
            lambda rank: {"data": iter(batches(rank)), "epochs": 1},
            "ValueError: 'steps_per_epoch' must be given in a run of 2 processes whose data has no len()",
        ),
    ],
    ids=["no evaluation", "metrics", "steps", "callback", "epochs", "order", "optimizer", "shapes", "length"],
)
def test_what_must_be_alike_is_refused_on_all_ranks(settings: Callable[[int], dict[str, Any]], message: str) -> None:
    found = raised(2, lambda group: build(group, **settings(group.rank)).fit())
    assert all(each.startswith(message) for each in found), found


def test_runs_that_stand_at_different_steps_are_refused() -> None:
    def run(group: ThreadGroup) -> None:
        trainer = build(group, epochs=2)
        if group.rank == 1:
            trainer.group = Solo()
            trainer.fit(1)
            trainer.group = group
        trainer.fit()

    sentence = (
        "ValueError: the processes of a run must stand at the same epoch, step and phase: [0, 0, 'between'] on rank 0 "
        "and [1, 6, 'between'] on rank 1"
    )
    assert raised(2, run) == [sentence, sentence]


# Exchanges.


@pytest.mark.parametrize("world_size", [2, 8, 64])
def test_all_ranks_exchange_the_same_and_no_more_with_more_steps(world_size: int) -> None:
    def run(group: ThreadGroup) -> Any:
        Trainer(lambda batch: 1.0, data=[1.0] * 300, epochs=3, evaluate=lambda: 1.0, group=group).fit()
        return [kind for kind, _ in group.log], places(group)

    found = run_in_threads(world_size, run)
    assert all(each == found[0] for each in found)
    epochs = [place for epoch in (1, 2, 3) for place in (f"at the end of epoch {epoch}", f"after epoch {epoch}")]
    assert found[0][1] == ["at FitStart", "at FitStart", *epochs, "at its end"]
    assert found[0][0].count("post") <= 3 * 10  # votes are 1, 2, 4, 8, ... steps apart


def test_a_save_takes_three_exchanges_and_all_ranks_receive_saved(tmp_path: Path) -> None:
    def run(group: ThreadGroup) -> Any:
        saved: list[Any] = []
        trainer = build(group, epochs=2, callbacks=[Checkpoint(tmp_path / "c")])
        trainer.on(Saved)(lambda event: saved.append((event.file.name, event.step, event.file.exists())))
        trainer.fit()
        return [place for place in places(group) if place == "saving to c"], saved

    names = ["checkpoint-000001-epoch-1-step-6.safetensors", "checkpoint-000002-epoch-2-step-12.safetensors"]
    assert run_in_threads(2, run) == [(["saving to c"] * 6, [(names[0], 6, True), (names[1], 12, True)])] * 2


def test_a_group_that_is_given_stays_open_for_the_next_fit() -> None:
    def run(group: ThreadGroup) -> Any:
        trainer = build(group, epochs=1)
        trainer.fit()
        return len(trainer.fit(2)), group.gather(b"open")

    assert run_in_threads(2, run) == [(2, [b"open", b"open"])] * 2


def test_callbacks_of_the_first_rank_run_there_alone(tmp_path: Path) -> None:
    def run(group: ThreadGroup) -> Any:
        seen: list[str] = []
        trainer = build(group, callbacks=[EventLog(tmp_path / "log"), CSVLogger(tmp_path / "table.csv")])
        trainer.on(EpochEnd, ranks="first")(lambda event: seen.append("first"))
        trainer.on(EpochEnd, ranks="all", at=1)(lambda event: seen.append("all"))
        trainer.fit()
        return seen

    assert run_in_threads(3, run) == [["first", "all", "first", "first"], ["all"], ["all"]]
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + 3


def test_values_and_wishes_of_a_callback_are_exchanged() -> None:
    def run(group: ThreadGroup) -> Any:
        found: list[Any] = []
        asks: list[Any] = []

        def begin(event: FitStart) -> None:
            asks.append(event.run.agreement(lambda: found.append(event.run.step)))
            found.append(event.run.exchange("Test at FitStart", event.run.rank))

        trainer = build(group, epochs=1, data=batches(group.rank, 100), callbacks=[At(FitStart, begin)])
        trainer.on(StepEnd, at=3)(lambda event: asks[0]() if group.rank == 1 else None)
        trainer.fit()
        return found

    one, other = run_in_threads(2, run)
    assert one == other
    assert one[0] == [0, 1]
    assert 3 < one[1] <= 100


def test_an_agreement_of_the_first_rank_alone_is_refused() -> None:
    def run(group: ThreadGroup) -> None:
        trainer = build(group)
        trainer.on(FitStart, ranks="first")(lambda event: event.run.agreement(lambda: None))
        trainer.fit()

    sentence = "'run.agreement' must be called equally often on all processes, by a callback that runs on all: "
    assert raised(2, run) == [f"ValueError: {sentence}[1, 0] times on each"] * 2


# One decision.


def test_a_stop_on_one_rank_stops_all_after_the_same_step() -> None:
    def run(group: ThreadGroup) -> Any:
        trainer = build(group, data=batches(group.rank, 2000), epochs=1)
        trainer.on(StepEnd, at=5)(lambda event: event.run.stop("enough") if group.rank == 1 else None)
        history = trainer.fit()
        return trainer.state_dict()["progress"]["step"], history.status, history.reason

    one, other = run_in_threads(2, run)
    assert one == other
    assert 5 < one[0] < 2000
    assert one[1:] == ("stopped", "enough")


def test_a_stop_that_an_evaluation_within_an_epoch_decides_comes_at_once_on_all_ranks() -> None:
    def run(group: ThreadGroup) -> Any:
        found = iter([0.5, 1.0, 2.0])
        stopping = EarlyStopping("val_loss", patience=1)
        data, settings = batches(group.rank, 100), {"evaluate": lambda: next(found), "evaluate_every": "30 steps"}
        trainer = build(group, data=data, callbacks=[stopping], **settings)
        return trainer.fit().status, trainer.state_dict()["progress"]["step"]

    assert run_in_threads(2, run) == [("stopped", 60)] * 2


def test_early_stopping_ends_all_ranks_for_good(tmp_path: Path) -> None:
    def run(group: ThreadGroup) -> Any:
        callbacks = [Checkpoint(tmp_path / "c"), EarlyStopping("val_loss", mode="min", patience=2)]
        trainer = build(group, epochs=9, evaluate=lambda: float(group.rank), callbacks=callbacks)
        history = trainer.fit(resume="auto")
        return len(history), history.status, history.reason

    found = run_in_threads(2, run)
    assert found[0] == found[1]
    assert found[0][:2] == (3, "stopped")
    with pytest.warns(UserWarning, match="nothing left to train: val_loss has not improved"):
        assert run_in_threads(2, run) == found


@pytest.mark.parametrize(
    ("error", "left"), [(SystemExit(143), "SystemExit: 143"), (KeyboardInterrupt(), "KeyboardInterrupt: ")]
)
def test_an_interruption_of_one_rank_saves_and_leaves_all(tmp_path: Path, error: BaseException, left: str) -> None:
    ends: list[Any] = []

    def run(group: ThreadGroup) -> None:
        trainer = build(group, data=batches(group.rank, 2000), epochs=1, callbacks=[Checkpoint(tmp_path / "c")])
        trainer.on(StepEnd, at=5)(lambda event: event.run.interrupt(error, "by a signal") if group.rank == 1 else None)
        trainer.on(FitEnd)(lambda event: ends.append((event.run.step, event.status, event.reason)))
        trainer.fit()

    assert raised(2, run) == [left, left]
    assert ends[0] == ends[1]
    assert ends[0][1:] == ("interrupted", "by a signal")
    saved = read_checkpoint(tmp_path / "c")["progress"]["step"]
    assert saved == ends[0][0] > 5


def reasons(when: type[Event], *wishes: Callable[[Any], object]) -> list[Any]:
    """Let the second of two ranks have wishes in its first epoch of two steps; return why the run has ended on each."""

    def run(group: ThreadGroup) -> Any:
        trainer = build(group, data=batches(group.rank, 2))
        for wish in wishes if group.rank == 1 else ():
            trainer.on(when, once=True)(wish)
        trainer.on(EpochEnd, ranks="all")(lambda event: ended.append(event.epoch))
        with suppress(SystemExit):
            trainer.fit()
        return trainer._run.reason, trainer._run.finished_reason

    ended: list[int] = []
    found = run_in_threads(2, run)
    assert ended == [1, 1]
    return found


def test_a_stop_for_good_counts_beside_any_other_that_ends_the_run() -> None:
    def stop(event: Event) -> None:
        event.run.stop("now")

    def stop_for_good(event: Event) -> None:
        event.run.stop("for good", for_good=True)

    def interrupt(event: Event) -> None:
        event.run.interrupt(SystemExit(143), "by a signal")

    assert reasons(EpochEnd, stop, stop_for_good) == [("now", "for good")] * 2
    assert reasons(EpochEnd, stop_for_good, stop) == [("for good", "for good")] * 2
    assert reasons(EpochEnd, stop_for_good, interrupt) == [("by a signal", "for good")] * 2


def test_a_stop_for_good_counts_when_the_last_step_has_decided_to_end() -> None:
    def run(group: ThreadGroup) -> Any:
        trainer = build(group, data=batches(group.rank, 2))
        trainer.on(StepStart, at=1)(lambda event: event.run.stop("now"))  # the vote after step 1 is read after step 2
        trainer.on(EpochEnd)(lambda event: event.run.stop("for good", for_good=True))
        return trainer.fit().reason, trainer._run.finished_reason

    assert run_in_threads(2, run) == [("now", "for good")] * 2


def test_different_interruptions_leave_all_ranks_with_one_exit_code() -> None:
    def run(group: ThreadGroup) -> None:
        error = SystemExit(143) if group.rank else KeyboardInterrupt()
        trainer = build(group, data=batches(group.rank, 2000), epochs=1)
        trainer.on(StepEnd, at=5)(lambda event: event.run.interrupt(error, "by a signal"))
        trainer.fit()

    assert raised(2, run) == ["SystemExit: 143"] * 2


@pytest.mark.parametrize("code", [None, 0, 1, 3, "no more time"])
def test_an_interruption_with_any_exit_code_leaves_all_ranks(code: Any) -> None:
    def run(group: ThreadGroup) -> None:
        trainer = build(group, data=batches(group.rank, 2000), epochs=1)
        trainer.on(StepEnd, at=5, when=lambda event: group.rank == 1)(
            lambda event: event.run.interrupt(SystemExit(code), "no more time")
        )
        trainer.fit()

    known = code if isinstance(code, int) else int(code is not None)
    assert raised(2, run) == [f"SystemExit: {known}", f"SystemExit: {code}"]


# Failures.


def fails_at(event: type[Event], rank: int = 1) -> Callable[[ThreadGroup], object]:
    def fail(event: Event) -> None:
        raise ZeroDivisionError("by zero")

    def run(group: ThreadGroup) -> None:
        build(group, evaluate=lambda: 1.0, callbacks=[At(event, fail)] if group.rank == rank else [At(event, id)]).fit()

    return run


@pytest.mark.parametrize(
    "event", [FitStart, EpochStart, StepEnd, EvaluateStart, EvaluateEnd, EpochEnd, EpochReport, FitEnd]
)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_failure_outside_the_step_is_raised_on_all_ranks_and_names_its_own(event: type[Event], rank: int) -> None:
    found = raised(3, fails_at(event, rank))
    other = f"RankError: rank {rank} failed: ZeroDivisionError: by zero"
    assert found == ["ZeroDivisionError: by zero" if each == rank else other for each in range(3)]


@pytest.mark.parametrize("seed", range(24))
def test_a_failure_at_any_place_on_any_rank_leaves_nobody_waiting(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    events = [StepStart, StepEnd, EpochStart, EvaluateStart, EvaluateEnd, EpochEnd, EpochReport, Saved]
    event, rank, count = events[rng.integers(len(events))], int(rng.integers(4)), int(rng.integers(1, 4))
    is_step = event in (StepStart, StepEnd)
    step = int(rng.integers(1, 18)) if is_step else None

    def run(group: ThreadGroup) -> None:
        checkpoint = Checkpoint(tmp_path / "c", interval="step", every=4, background=bool(seed % 2))
        trainer = build(group, evaluate=lambda: 1.0, evaluate_every="5 steps", callbacks=[checkpoint])

        def fail(event: Event) -> None:
            raise ZeroDivisionError("by zero")

        if group.rank == rank:
            trainer.on(event, at=step if is_step else None, once=not is_step, when=counted(count, is_step))(fail)
        try:
            trainer.fit()
        finally:
            group.close()  # as the end of a process does

    found = raised(4, run)
    others = {each.partition(":")[0] for index, each in enumerate(found) if index != rank}
    assert found[rank] == "ZeroDivisionError: by zero"
    assert others == {"RankError"}, found


def counted(least: int, is_step: bool) -> Callable[[Event], bool]:
    """Return a condition that holds from the so many-th event on."""
    seen: list[Event] = []

    def condition(event: Event) -> bool:
        seen.append(event)
        return is_step or len(seen) >= min(least, 2)

    return condition


def test_a_failing_evaluation_and_failing_data_are_raised_on_all_ranks() -> None:
    def evaluate(group: ThreadGroup) -> float:
        return 1 / (1 - group.rank)

    class Data(list[Any]):
        def __iter__(self) -> Any:
            yield from batches(0, 3)
            raise OSError("no disk")

    other = "RankError: rank 1 failed: ZeroDivisionError: division by zero"
    assert raised(2, lambda group: build(group, evaluate=lambda: evaluate(group)).fit())[0] == other
    assert raised(2, lambda group: build(group, data=Data(batches(0)) if group.rank else batches(0)).fit()) == [
        "RankError: rank 1 failed: OSError: no disk",
        "OSError: no disk",
    ]


def test_a_pass_that_ends_early_on_one_rank_ends_all() -> None:
    class Short(list[Any]):
        def __iter__(self) -> Any:
            return iter(batches(0, 4))

    sentence = "'data' must give as many batches on all processes, 6 as its len() says: epoch 1 had 4 on rank 1; pass "
    found = raised(2, lambda group: build(group, data=Short(batches(0)) if group.rank else batches(0)).fit())
    assert [each[: len(sentence) + 12] for each in (found[1],)] == [f"ValueError: {sentence}"]
    assert found[0].startswith(f"RankError: rank 1 failed: ValueError: {sentence}")


@pytest.mark.parametrize("beyond", [1, 40])
def test_a_pass_that_goes_on_beyond_its_length_on_one_rank_ends_all_before_a_step_of_it(beyond: int) -> None:
    class Long(list[Any]):
        def __iter__(self) -> Any:
            return iter(batches(0, 6 + beyond))

    steps: list[int] = []

    def run(group: ThreadGroup) -> None:
        trainer = build(group, data=Long(batches(0)) if group.rank else batches(0))
        trainer.on(StepStart)(lambda event: steps.append(event.step))
        trainer.fit()

    sentence = (
        "ValueError: 'data' must give as many batches on all processes, 6 as its len() says: epoch 1 had more on "
        "rank 1; pass steps_per_epoch"
    )
    assert raised(2, run) == [f"RankError: rank 1 failed: {sentence}", sentence]
    assert max(steps) == 6


def test_a_failing_step_is_not_waited_for() -> None:
    def run(group: ThreadGroup) -> None:
        trainer = build(group)
        if group.rank == 1:
            trainer.step = lambda batch: 1 / 0
        try:
            trainer.fit()
        finally:
            group.close()  # as the end of a process does

    found = raised(2, run)
    assert found[1] == "ZeroDivisionError: division by zero"
    assert found[0].startswith("RankError: another process is lost, or has failed in its step")


# Checkpoints.


@define
class Death(BaseException):
    """Ends a rank as a kill does."""


def trained(
    folder: Path, world_size: int = 2, *, dies_at: int | None = None, local: bool = False, **settings: Any
) -> list[Any]:
    """Train on so many ranks, perhaps until a step at which all die; return what each has come to."""
    averages = thread_groups(world_size)

    def run(group: ThreadGroup) -> Any:
        checkpoint = Checkpoint(folder / "c", **{"interval": "step", "every": 1, **settings})
        callbacks = [checkpoint, EarlyStopping("loss", patience=99), CSVLogger(folder / "table.csv")]
        schedule = LRSchedulerCallback(Cosine(), interval="step")
        rng = np.random.default_rng(group.rank)
        trainer = build(
            group,
            None if local else averages[group.rank],
            callbacks=[schedule, *callbacks],
            extras={"noise": rng},
            data=Noisy(batches(group.rank), rng),
        )

        def die(event: StepEnd) -> None:
            raise Death

        if dies_at is not None:
            trainer.on(StepEnd, at=dies_at)(die)
        try:
            history = trainer.fit(resume="auto")
        except Death:
            return None
        state = trainer.state_dict()
        return state, history

    return run_in_threads(world_size, run)


def differing_places(one: Any, other: Any) -> list[str]:
    found = diff_states(one, other)
    return [each for each in found if not each.endswith("best_file")]


@pytest.mark.parametrize("local", [False, True], ids=["averaged", "each its own weights"])
@pytest.mark.parametrize("background", [False, True], ids=["at once", "behind"])
def test_a_run_that_dies_at_any_step_is_resumed_exactly_on_all_ranks(
    tmp_path: Path, local: bool, background: bool
) -> None:
    straight = trained(tmp_path / "straight", local=local)
    for step in (1, 2, 5, 6, 7, 12, 13, 17):
        folder = tmp_path / str(step)
        trained(folder, dies_at=step + 1, local=local, background=background)
        resumed = trained(folder, local=local, background=background)
        for rank in (0, 1):
            assert differing_places(resumed[rank][0], straight[rank][0]) == [], (step, rank)
            assert [record.metrics for record in resumed[rank][1]] == [record.metrics for record in straight[rank][1]]
        table, wanted = ((each / "table.csv").read_text().splitlines() for each in (folder, tmp_path / "straight"))
        assert [line.split(",")[0] for line in table] == [line.split(",")[0] for line in wanted]
    is_same = not diff_states(straight[0][0]["model"], straight[1][0]["model"])
    assert is_same is not local


def test_the_newest_checkpoint_that_all_ranks_can_read_is_taken(tmp_path: Path) -> None:
    straight = trained(tmp_path / "straight")
    trained(tmp_path / "cut", dies_at=9)
    parts = sorted((tmp_path / "cut" / "c").glob("*.rank-1.*"))
    parts[-1].write_bytes(parts[-1].read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"rank 1: .*-step-8\.rank-1\..* resuming from the one before, .*-step-7"):
        resumed = trained(tmp_path / "cut")
    assert [differing_places(*each) for each in ((resumed[rank][0], straight[rank][0]) for rank in (0, 1))] == [[], []]
    assert len(resumed[0][1]) == 3


def test_a_checkpoint_without_a_part_is_refused_by_name(tmp_path: Path) -> None:
    trained(tmp_path, keep=1)
    for part in (tmp_path / "c").glob("*.rank-1.*"):
        part.unlink()
    found = raised(2, lambda group: build(group, callbacks=[Checkpoint(tmp_path / "c")]).fit(resume="auto"))
    assert found[0] == found[1]
    assert found[0].startswith(
        f"CheckpointError: no checkpoint in {tmp_path / 'c'} is whole for all processes: rank 1: "
    )
    assert found[0].endswith("step-18.rank-1.safetensors is missing")


@pytest.mark.parametrize("sections", [7, {"data": None}])
def test_a_part_that_lacks_what_differs_is_passed_over(tmp_path: Path, sections: Any) -> None:
    trained(tmp_path, dies_at=9)
    part = sorted((tmp_path / "c").glob("*.rank-1.*"))[-1]
    write_checkpoint(part, {**read_file(part), "sections": sections})
    sentence = r"rank 1: .*-step-8\.rank-1\..* must have all that differs on rank 1: .* resuming from the one before"
    with pytest.warns(UserWarning, match=sentence):
        assert len(trained(tmp_path)[1][1]) == 3


def test_old_checkpoints_go_with_their_parts(tmp_path: Path) -> None:
    trained(tmp_path, 3, keep=2)
    names = [path.name for path in (tmp_path / "c").glob("checkpoint-*")]
    stems = {name.partition(".")[0] for name in names}
    assert len(stems) == 2
    assert sorted(names) == sorted(f"{stem}{end}.safetensors" for stem in stems for end in ("", ".rank-1", ".rank-2"))


@pytest.mark.parametrize("failure", ["raise", "warn"])
@pytest.mark.parametrize("background", [False, True], ids=["at once", "behind"])
def test_a_rank_that_cannot_write_fails_the_save_of_all(tmp_path: Path, failure: Any, background: bool) -> None:
    def run(group: ThreadGroup) -> str:
        checkpoint = Checkpoint(tmp_path / "c", failure=failure, background=background)
        trainer = build(group, callbacks=[checkpoint], epochs=2)

        def block(event: EpochStart) -> None:  # the folder is as if it were full, for the part of rank 1
            name = "checkpoint-000001-epoch-1-step-6.rank-1.safetensors"
            (tmp_path / "c" / f".{name}.part").mkdir()

        trainer.on(EpochStart, at=1)(block if group.rank == 1 else id)
        return trainer.fit().status

    if failure == "warn":
        with pytest.warns(UserWarning, match="training goes on, there is no checkpoint yet") as warned:
            assert raised(2, run) == ["nothing", "nothing"]
        assert any("rank 1 could not save" in str(each.message) for each in warned)
        assert Directory(tmp_path / "c").last().state["progress"]["step"] == 12
    else:
        found = raised(2, run)
        assert found[0].startswith("OSError: rank 1 could not save: ")
        assert "rank-1" in found[1]
    assert not (tmp_path / "c" / "checkpoint-000001-epoch-1-step-6.safetensors").exists()


def test_a_directory_that_not_all_ranks_see_is_refused(tmp_path: Path) -> None:
    def run(group: ThreadGroup) -> None:
        build(group, callbacks=[Checkpoint(tmp_path / str(group.rank))]).fit()

    found = raised(2, run)
    assert found[0] == found[1].replace(str(tmp_path / "1"), str(tmp_path / "0"))
    assert found[0].startswith("ValueError: 'directory' must be one that all processes see, on a file system that they")


def test_another_number_of_processes_is_refused_and_accepted_at_an_epochs_end(tmp_path: Path) -> None:
    trained(tmp_path / "end", dies_at=13, interval="epoch")
    trained(tmp_path / "middle", dies_at=12)

    def run(folder: str, accept: list[str]) -> Callable[[ThreadGroup], object]:
        def resumed(group: ThreadGroup) -> Any:
            rng = np.random.default_rng(group.rank)
            trainer = build(group, extras={"noise": rng}, data=Noisy(batches(group.rank), rng), epochs=3)
            history = trainer.fit(resume=tmp_path / folder / "c", accept=accept)
            drawn.append(rng.random())
            lengths.append(len(history))

        return resumed

    drawn: list[float] = []
    lengths: list[int] = []
    others = ["LRSchedulerCallback", "Checkpoint", "EarlyStopping", "CSVLogger"]
    refused = raised(3, run("end", others))
    assert all("world_size is 3 here and 2 in the checkpoint" in each for each in refused)
    assert raised(3, run("end", [*others, "world_size"])) == ["nothing"] * 3
    assert lengths == [3, 3, 3]
    assert len(set(drawn)) == 3  # the third rank has noise of its own
    refused = raised(3, run("middle", [*others, "world_size"]))
    sentence = "'accept' may have 'world_size' where a checkpoint was written at an epoch's end"
    assert all(sentence in each for each in refused)


def test_weights_of_each_rank_are_not_shared_out_to_another_number_of_ranks(tmp_path: Path) -> None:
    trained(tmp_path, local=True)

    def run(group: ThreadGroup) -> None:
        build(group, callbacks=[Checkpoint(tmp_path / "c")]).fit(resume="auto", accept="all")

    found = raised(3, run)
    assert all(
        "'accept' must not have 'world_size' alone where processes have weights of their own, model" in e for e in found
    )


def test_weights_of_the_first_rank_are_taken_by_all_if_that_is_accepted(tmp_path: Path) -> None:
    state = trained(tmp_path, local=True)[0][0]

    def run(group: ThreadGroup) -> Any:
        rng = np.random.default_rng(group.rank)
        trainer = build(group, extras={"noise": rng}, data=Noisy(batches(group.rank), rng))
        accept = ["world_size", "model", "LRSchedulerCallback", "Checkpoint", "EarlyStopping", "CSVLogger"]
        trainer.fit(resume=tmp_path / "c", accept=accept)
        return diff_states(trainer.state_dict()["model"], state["model"])

    with pytest.warns(UserWarning, match="nothing left to train"):
        assert run_in_threads(3, run) == [[], [], []]


def test_saves_that_one_rank_asks_for_are_written_by_all(tmp_path: Path) -> None:
    def run(group: ThreadGroup) -> Any:
        checkpoint = Checkpoint(tmp_path / "c", every=None)
        steps: list[int] = []
        trainer = build(group, data=batches(group.rank, 50), epochs=1, callbacks=[checkpoint])
        trainer.on(StepEnd, at=3)(lambda event: checkpoint.save() if group.rank == 1 else None)
        trainer.on(Saved)(lambda event: steps.append(event.step))
        trainer.fit()
        return steps

    one, other = run_in_threads(2, run)
    assert one == other
    assert 3 < one[0] < one[1] == 50


def test_find_lr_is_for_one_process() -> None:
    def run(group: ThreadGroup) -> None:
        find_lr(build(group))

    assert raised(2, run) == ["RuntimeError: find_lr must be used in a run of one process, and there are 2"] * 2


def test_the_display_is_that_of_the_first_rank_and_says_so(tmp_path: Path) -> None:
    def run(group: ThreadGroup, local: bool) -> str:
        console = Console(file=StringIO(), width=80, color_system=None)
        build(group, callbacks=[RichLogger(console=console), EventLog(tmp_path / f"{local}.jsonl")], epochs=1).fit()
        return console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO

    first, second = run_in_threads(2, lambda group: run(group, False))
    assert "processes 2 (threads); while an epoch runs, values are of the first" in " ".join(first.split())
    assert second == ""
    console = Console(file=StringIO(), width=80, color_system=None)
    replay(tmp_path / "False.jsonl", [RichLogger(console=console)])
    assert "processes 2 (threads)" in console.file.getvalue()  # type: ignore[attr-defined]  # likewise


def test_the_display_says_that_each_rank_saves_its_own_weights() -> None:
    def run(group: ThreadGroup) -> str:
        console = Console(file=StringIO(), width=80, color_system=None)
        build(group, model=Linear(3, 1, rng=group.rank), callbacks=[RichLogger(console=console)], epochs=1).fit()
        return console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO

    shown = " ".join(run_in_threads(2, run)[0].split())
    assert "values are of the first; each saves its own weights" in shown
