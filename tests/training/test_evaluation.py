"""Evaluations within epochs: when they take place, what is recorded, who acts on them, and that they are resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucid_train import (
    Callback,
    EpochEnd,
    EpochStart,
    EvaluateEnd,
    EvaluateStart,
    EvaluationRecord,
    Event,
    FitStart,
    History,
    StepEnd,
    StepResult,
    Trainer,
    nn,
    optims,
    read_checkpoint,
)
from lucid_train.callbacks import Checkpoint, CosineAnnealingLRCallback, EarlyStopping, TerminateOnNaN
from lucid_train.data import batches
from lucid_train.saving.checkpoint import Directory
from lucid_train.testing import assert_resumes_exactly, diff_states
from tests.support.callbacks import Asker, At, Recorder

TRACED = (FitStart, EpochStart, StepEnd, EvaluateStart, EvaluateEnd, EpochEnd)


def trained(
    *callbacks: Callback, every: str = "3 steps", epochs: int = 2, values: list[float] | None = None
) -> tuple[Trainer, list[int]]:
    """Return a Trainer of four steps per epoch, and the steps after which it has evaluated."""
    steps: list[int] = []
    seen: list[int] = []

    def evaluate() -> float:
        seen.append(len(steps))
        return float(len(seen)) if values is None else values[len(seen) - 1]

    def step(batch: int) -> float:
        steps.append(batch)
        return batch / 2

    return Trainer(
        step, [1, 2, 3, 4], epochs=epochs, evaluate=evaluate, evaluate_every=every, callbacks=callbacks
    ), seen


def timeless(history: History) -> list[Any]:
    return [(each.epoch, each.step, dict(each.metrics)) for each in history.evaluations]


def test_an_evaluation_follows_every_step_that_is_a_multiple_also_the_last_of_an_epoch() -> None:
    record = Recorder(*TRACED)
    trainer, _ = trained(record, every="2 steps")
    history = trainer.fit()

    def epoch(number: int, *steps: int) -> list[Event]:
        first, middle, third, last = steps
        value = {"val_loss": float(middle // 2)}, {"val_loss": float(last // 2)}
        return [
            EpochStart(epoch=number),
            StepEnd(epoch=number, step=first, output=0.5),
            StepEnd(epoch=number, step=middle, output=1.0),
            EvaluateStart(epoch=number, step=middle, within_epoch=True),
            EvaluateEnd(epoch=number, step=middle, metrics=value[0], within_epoch=True),
            StepEnd(epoch=number, step=third, output=1.5),
            StepEnd(epoch=number, step=last, output=2.0),
            EvaluateStart(epoch=number, step=last, within_epoch=True),
            EvaluateEnd(epoch=number, step=last, metrics=value[1], within_epoch=True),
            EpochEnd(epoch=number, metrics={"loss": 1.25}),
        ]

    assert record.seen == [FitStart(), *epoch(1, 1, 2, 3, 4), *epoch(2, 5, 6, 7, 8)]
    assert timeless(history) == [(1 + n // 2, 2 * n + 2, {"val_loss": n + 1.0}) for n in range(4)]
    assert [each.metrics for each in history] == [{"loss": 1.25}] * 2


def test_steps_are_counted_through_the_run_and_not_in_each_epoch() -> None:
    trainer, seen = trained(every="3 steps", epochs=3)
    assert timeless(trainer.fit()) == [(1, 3, {"val_loss": 1.0}), (2, 6, {"val_loss": 2.0})] + [
        (3, step, {"val_loss": step / 3}) for step in (9, 12)
    ]
    assert seen == [3, 6, 9, 12]


def test_the_record_is_in_the_history_when_its_event_is_received_and_says_how_long_it_took() -> None:
    found: list[EvaluationRecord] = []
    trainer, _ = trained(At(EvaluateEnd, lambda event: found.append(event.run.history.evaluations[-1])))
    history = trainer.fit()
    assert found == history.evaluations
    assert all(record.seconds > 0 for record in found)


@pytest.mark.parametrize("steps_per_epoch", [None, 4])
@pytest.mark.parametrize("make", [list, iter], ids=["list", "iterator"])
def test_no_batch_is_lost_or_taken_too_early(make: Callable[[Any], Any], steps_per_epoch: int | None) -> None:
    seen: list[int] = []
    at: list[list[int]] = []
    data = make([1, 2, 3, 4, 5])
    options: Any = {"steps_per_epoch": steps_per_epoch, "evaluate_every": "2 steps"}
    Trainer(seen.append, data, evaluate=lambda: at.append(list(seen)) or {}, **options).fit()
    assert seen == [1, 2, 3, 4, 5][:steps_per_epoch]
    assert at == [[1, 2], [1, 2, 3, 4]]
    assert make is list or list(data) == [1, 2, 3, 4, 5][len(seen) :]


def test_names_are_recorded_with_val_before_them() -> None:
    def step(batch: int) -> Any:
        return StepResult({"accuracy": 1.0}, updated=False) if batch == 1 else 0.5

    history = Trainer(
        step, [1, 2], evaluate=lambda: {"accuracy": 0.25, "loss": 2, "val_f1": 1}, evaluate_every="2 steps"
    ).fit()
    assert history.evaluations[0].metrics == {"val_accuracy": 0.25, "val_loss": 2.0, "val_f1": 1.0}
    assert history[0].metrics == {"accuracy": 1.0, "loss": 0.5}


def test_without_evaluate_there_are_none() -> None:
    history = Trainer(lambda batch: 0.5, [1, 2], evaluate_every="1 step").fit()
    assert (history.evaluations, history[0].metrics) == ([], {"loss": 0.5})


@pytest.mark.parametrize("every", ["", "500", "0 steps", "-1 steps", "1.5 steps", "5 epochs", "steps", "1 000 steps"])
def test_a_text_that_is_no_number_of_steps_is_refused(every: str) -> None:
    rule = "must be a number of epochs or of steps such as '500 steps'"
    with pytest.raises(ValueError, match=f"'evaluate_every' {rule}: '{every}'"):
        Trainer(evaluate_every=every)


@pytest.mark.parametrize("every", [None, True, 1.0, [1]])
def test_so_is_what_is_neither_a_text_nor_an_int(every: Any) -> None:
    with pytest.raises(
        TypeError, match="'evaluate_every' must be a number of epochs or of steps such as '500 steps': "
    ):
        Trainer(evaluate_every=every)


def test_a_run_says_when_it_is_evaluated() -> None:
    found: list[Any] = []

    def look(event: Event) -> None:
        run = event.run
        found.append((run.evaluate_every, run.evaluate_steps, run.evaluated(1)))

    trainer, _ = trained(At(EpochStart, look), every="6 steps")
    trainer.fit()
    trainer.evaluate_every = 2
    trainer.fit(3)
    trainer.evaluate = None
    trainer.evaluate_every = "6 steps"
    trainer.fit(4)
    assert found == [(None, 6, False), (None, 6, False), (2, None, False), (1, None, True)]


# A stop, an exception, a resume.


@pytest.mark.parametrize("event", [StepEnd, EvaluateStart, EvaluateEnd])
def test_a_stop_before_an_evaluation_leaves_it_to_the_next_fit_and_one_in_it_does_not(event: type[Event]) -> None:
    trainer, seen = trained()
    trainer.on(event, at=3)(lambda event: event.run.stop())
    assert trainer.fit().status == "stopped"
    assert seen == ([] if event is StepEnd else [3])
    assert timeless(trainer.fit()) == [(1, 3, {"val_loss": 1.0}), (2, 6, {"val_loss": 2.0})]
    assert seen == [3, 6]


@pytest.mark.parametrize("event", [StepEnd, EvaluateStart, EvaluateEnd])
def test_a_stop_in_the_last_step_of_an_epoch_finishes_it_evaluation_included(event: type[Event]) -> None:
    trainer, seen = trained(every="4 steps")
    trainer.on(event, at=4)(lambda event: event.run.stop())
    history = trainer.fit()
    assert (history.status, len(history), seen) == ("stopped", 1, [4])
    assert timeless(history) == [(1, 4, {"val_loss": 1.0})]


class Once:
    """Raises once, at one place."""

    def __init__(self, where: str) -> None:
        self.where: str | None = where

    def __call__(self, where: str) -> None:
        if where == self.where:
            self.where = None
            raise ValueError(f"in {where}")


@pytest.mark.parametrize("where", ["StepEnd", "EvaluateStart", "evaluate", "EvaluateEnd"])
def test_an_evaluation_that_failed_is_tried_again_and_one_whose_end_failed_is_over(where: str) -> None:
    fail, record = Once(where), Recorder(EvaluateStart, EvaluateEnd, StepEnd)
    values = iter([0.5, 0.25, 0.125])

    def evaluate() -> float:
        fail("evaluate")
        return next(values)

    trainer = Trainer(lambda batch: 1.0, [1, 2, 3], evaluate=evaluate, evaluate_every="2 steps", callbacks=[record])
    for event in (EvaluateStart, EvaluateEnd, StepEnd):
        trainer.on(event, at=2)(lambda event: fail(type(event).__name__))
    with pytest.raises(ValueError, match=f"in {where}") as caught:
        trainer.fit()
    place = (
        "raised in epoch 1 after step 2" if where == "evaluate" else f"raised by <lambda> on {where} in epoch 1, step 2"
    )
    assert caught.value.__notes__ == [place]
    again = ["EvaluateStart"] if where in ("EvaluateStart", "evaluate") else []
    history = trainer.fit()
    names = [type(event).__name__ for event in record.seen]
    assert names == ["StepEnd", "StepEnd", *again, "EvaluateStart", "EvaluateEnd", "StepEnd"]
    assert timeless(history) == [(1, 2, {"val_loss": 0.5})]
    assert history[0].metrics == {"loss": 1.0}


def test_a_step_that_fails_just_after_an_evaluation_does_not_repeat_it() -> None:
    fail, seen = Once("third step"), list[int]()

    def step(batch: int) -> float:
        if batch == 3:
            fail("third step")
        return 0.5

    trainer = Trainer(step, [1, 2, 3], evaluate=lambda: seen.append(1) or {}, evaluate_every="2 steps")
    with pytest.raises(ValueError, match="in third step"):
        trainer.fit()
    assert trainer.fit()[0].steps == 3
    assert seen == [1]


def test_an_evaluation_that_is_due_is_left_out_if_there_is_nothing_to_evaluate_with_any_more() -> None:
    trainer, seen = trained()
    trainer.on(StepEnd, at=3)(lambda event: event.run.stop())
    trainer.fit()
    trainer.evaluate = None
    assert len(trainer.fit()) == 2
    assert seen == []


def build(every: Any = "3 steps", *, extra: Callable[[], Callback] | None = None) -> Trainer:
    np.random.seed(1)
    rows = np.random.default_rng(0).normal(size=(14, 2))
    model, loss = nn.Linear(2, 1, rng=1), nn.MSELoss()
    optimizer = optims.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(batch: Any) -> Any:
        optimizer.zero_grad()
        value = float(loss(model(batch + 0.01 * np.random.rand()), batch[:, :1]))
        if np.random.rand() < 0.2:
            return StepResult(value, updated=False)
        model.backward(loss.backward())
        optimizer.step()
        return value

    return Trainer(
        step,
        batches(rows, batch_size=2, seed=3),
        epochs=3,
        model=model,
        optimizer=optimizer,
        evaluate=lambda: float(loss(model(rows), rows[:, :1])) + 1e-3 * np.random.rand(),
        evaluate_every=every,
        callbacks=[
            CosineAnnealingLRCallback(9, 0.001, interval="step"),
            EarlyStopping("val_loss", patience=9),
            *([] if extra is None else [extra()]),
        ],
    )


@pytest.mark.parametrize("every", ["2 steps", "3 steps", "7 steps", "100 steps"])
def test_a_run_resumes_exactly_from_every_step(every: str) -> None:
    history = build(every).fit()
    last = sum(record.steps for record in history)
    assert len(history.evaluations) == last // int(every.split()[0])
    assert_resumes_exactly(lambda: build(every), cuts=range(1, last))


@pytest.mark.parametrize("event", [StepEnd, EvaluateEnd])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_run_saved_around_an_evaluation_evaluates_once(event: type[Event], count: int) -> None:
    straight = build("7 steps")
    straight.fit()
    step = 7 * count
    asker = Asker(event=event, count=step if event is StepEnd else count)
    build("7 steps", extra=lambda: asker).fit()
    state = asker.found[0]
    evaluations = len(state["progress"]["history"]["evaluations"])
    assert (state["progress"]["phase"], evaluations) == (
        ("evaluation", count - 1) if event is StepEnd else ("steps", count)
    )
    resumed, record = build("7 steps"), Recorder(EvaluateStart, StepEnd, EpochEnd)
    resumed.load_state_dict(state, accept="Asker")
    resumed.callbacks = (*resumed.callbacks, record)
    resumed.fit()
    expected = straight.state_dict()
    found = resumed.state_dict()
    del found["callbacks"]["Recorder"]
    del found["setup"]["callbacks"]["Recorder"]
    assert diff_states(expected, found) == []
    first = record.seen[0]
    assert type(first) is (EvaluateStart if event is StepEnd else EpochEnd)
    assert isinstance(first, EpochEnd) or first.step == step


def test_a_run_killed_between_a_step_and_its_evaluation_goes_on_with_that(tmp_path: Path) -> None:
    def made() -> tuple[Trainer, list[int]]:
        return trained(Checkpoint(tmp_path, every=3, interval="step", weights=False))

    killed, _ = made()

    def kill(event: Event) -> None:
        raise KeyboardInterrupt

    killed.on(EvaluateStart)(kill)
    with pytest.raises(KeyboardInterrupt):
        killed.fit()
    assert read_checkpoint(tmp_path)["progress"]["phase"] == "evaluation"
    again, seen = made()
    assert timeless(again.fit(resume="auto")) == [(1, 3, {"val_loss": 1.0}), (2, 6, {"val_loss": 2.0})]
    assert seen == [0, 3]


def test_how_often_it_is_evaluated_is_part_of_the_set_up() -> None:
    state = trained()[0].state_dict()
    with pytest.raises(ValueError, match="evaluate_every is '4 steps' here and '3 steps' in the checkpoint"):
        trained(every="4 steps")[0].load_state_dict(state)


# Who acts on it.


def test_early_stopping_counts_each_evaluation_once() -> None:
    stopping = EarlyStopping("val_loss", patience=2)
    trainer, seen = trained(stopping, every="2 steps", epochs=9, values=[3.0, 1.0, 2.0, 1.5, 0.0])
    history = trainer.fit()
    assert (history.status, history.reason) == (
        "stopped",
        "val_loss has not improved for 2 evaluations (best 1 in epoch 1)",
    )
    assert (seen, stopping.best, len(history)) == ([2, 4, 6, 8], 1.0, 2)


def test_early_stopping_on_a_metric_of_the_steps_counts_epochs() -> None:
    trainer, _ = trained(EarlyStopping("loss", patience=2), every="1 step", epochs=9)
    with pytest.warns(UserWarning, match="a callback follows 'loss', which is of the training steps"):
        history = trainer.fit()
    assert history.reason == "loss has not improved for 2 epochs (best 1.25 in epoch 1)"


def test_the_best_evaluation_is_kept(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, every=None, keep=1, monitor="val_loss", weights=False)
    trainer, _ = trained(checkpoint, every="3 steps", epochs=3, values=[3.0, 1.0, 2.0, 1.5])
    trainer.fit()
    assert (checkpoint.best, checkpoint.best_epoch) == (1.0, 2)
    assert [file.name[11:] for file in Directory(tmp_path).files()] == [
        "000002-epoch-2-step-6.safetensors",
        "000003-epoch-3-step-12.safetensors",
    ]
    assert checkpoint.best_file == tmp_path / "checkpoint-000002-epoch-2-step-6.safetensors"
    state = read_checkpoint(tmp_path)
    assert state["callbacks"]["Checkpoint"]["best_file"] == checkpoint.best_file.name


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize(
    "make",
    [
        lambda path: EarlyStopping("val_los", mode="min"),
        lambda path: Checkpoint(path, monitor="val_los", mode="min", weights=False),
        lambda path: TerminateOnNaN("val_los"),
    ],
)
def test_a_metric_that_does_not_exist_is_refused_by_the_first_evaluation(
    make: Callable[[Path], Callback], epochs: int, tmp_path: Path
) -> None:
    trainer, seen = trained(make(tmp_path), epochs=epochs)
    with pytest.raises(
        ValueError, match="'monitor' must be one of the metrics, loss, val_loss: 'val_los'; did you mean 'val_loss'"
    ):
        trainer.fit()
    assert seen == [3]


def test_so_it_is_where_the_steps_have_no_metrics_but_by_the_end_of_the_epoch() -> None:
    trainer = Trainer(
        lambda batch: None, [1, 2], evaluate=lambda: 0.5, evaluate_every="1 step", callbacks=[TerminateOnNaN("los")]
    )
    with pytest.raises(ValueError, match="'monitor' must be one of the metrics, val_loss: 'los'"):
        trainer.fit()


def test_a_nan_in_an_evaluation_ends_the_run() -> None:
    trainer, _ = trained(TerminateOnNaN("val_loss"), values=[float("nan")])
    assert trainer.fit().reason == "val_loss is nan in epoch 1, step 3"


def test_a_function_that_listens_counts_evaluations_within_epochs_by_steps() -> None:
    received: list[int] = []
    trainer, _ = trained(every="2 steps")
    trainer.on(EvaluateEnd, every=4)(lambda event: received.append(event.step))
    trainer.fit()
    assert received == [4, 8]
