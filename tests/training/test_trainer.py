import copy
import itertools
from typing import Any

import numpy as np
import pytest

from lucid_train import (
    Callback,
    EpochEnd,
    EpochRecord,
    EpochReport,
    EpochStart,
    EvaluateEnd,
    EvaluateStart,
    Event,
    FitEnd,
    FitStart,
    StepEnd,
    StepResult,
    StepStart,
    Trainer,
    nn,
)
from lucid_train.callbacks import EarlyStopping, ExponentialLRCallback, LRSchedulerCallback, StepLRCallback
from lucid_train.nn import Linear
from lucid_train.optims.lr_scheduler import ExponentialLR
from lucid_train.optims.sgd import SGD
from tests.support.callbacks import Recorder
from tests.support.optimizers import RateWitness


def timeless(record: EpochRecord) -> EpochRecord:
    return EpochRecord(
        epoch=record.epoch, steps=record.steps, metrics=record.metrics, lr=record.lr, last_lr=record.last_lr
    )


def test_the_trace_of_a_small_run_with_every_event() -> None:
    def stop(event: StepEnd) -> None:
        if event.step == 5:
            event.run.stop("seen enough")

    optimizer, record = RateWitness(1.0), Recorder()
    trainer = Trainer(
        lambda batch: {"loss": batch / 2},
        [1, 3],
        epochs=4,
        optimizer=optimizer,
        evaluate=lambda: {"loss": 0.25},
        evaluate_every=2,
        callbacks=[record, ExponentialLRCallback(gamma=0.5)],
    )
    trainer.on(StepEnd)(stop)
    history = trainer.fit()
    first = EpochRecord(epoch=1, steps=2, metrics={"loss": 1.0}, lr=(1.0,), last_lr=(0.5,))
    second = EpochRecord(epoch=2, steps=2, metrics={"loss": 1.0, "val_loss": 0.25}, lr=(0.5,), last_lr=(0.25,))
    seen = [
        EpochReport(record=timeless(event.record)) if type(event) is EpochReport else event for event in record.seen
    ]
    assert seen == [
        FitStart(),
        EpochStart(epoch=1),
        StepStart(epoch=1, step=1, batch=1),
        StepEnd(epoch=1, step=1, output={"loss": 0.5}),
        StepStart(epoch=1, step=2, batch=3),
        StepEnd(epoch=1, step=2, output={"loss": 1.5}),
        EpochEnd(epoch=1, metrics={"loss": 1.0}, lr=(1.0,)),
        EpochReport(record=first),
        EpochStart(epoch=2),
        StepStart(epoch=2, step=3, batch=1),
        StepEnd(epoch=2, step=3, output={"loss": 0.5}),
        StepStart(epoch=2, step=4, batch=3),
        StepEnd(epoch=2, step=4, output={"loss": 1.5}),
        EvaluateStart(epoch=2, step=4),
        EvaluateEnd(epoch=2, step=4, metrics={"val_loss": 0.25}),
        EpochEnd(epoch=2, metrics={"loss": 1.0, "val_loss": 0.25}, lr=(0.5,)),
        EpochReport(record=second),
        EpochStart(epoch=3),
        StepStart(epoch=3, step=5, batch=1),
        StepEnd(epoch=3, step=5, output={"loss": 0.5}),
        FitEnd(status="stopped", reason="seen enough", history=history),
    ]


def test_a_trainer_with_nothing_but_callbacks_runs() -> None:
    record = Recorder()
    history = Trainer(callbacks=[record]).fit()
    assert [type(event).__name__ for event in record.seen] == [
        "FitStart",
        "EpochStart",
        "StepStart",
        "StepEnd",
        "EpochEnd",
        "EpochReport",
        "FitEnd",
    ]
    assert [timeless(record) for record in history] == [EpochRecord(epoch=1, steps=1)]


def test_a_rehearsal_steps_the_optimizer_once_per_step() -> None:
    optimizer = RateWitness(1.0)
    callback = StepLRCallback(step_size=2, gamma=0.5)
    Trainer(epochs=4, steps_per_epoch=2, optimizer=optimizer, callbacks=[callback]).fit()
    assert optimizer.used == [(1.0,)] * 4 + [(0.5,)] * 4


def test_a_rehearsal_takes_the_optimizer_of_a_callback_and_one_that_has_no_step() -> None:
    optimizer = RateWitness(1.0)
    history = Trainer(epochs=2, callbacks=[ExponentialLRCallback(gamma=0.5, optimizer=optimizer)]).fit()
    assert optimizer.used == [record.lr for record in history] == [(1.0,), (0.5,)]

    class Stepless:
        def __init__(self) -> None:
            self.param_groups = [{"lr": 0.1}]

    assert Trainer(optimizer=Stepless()).fit()[0].lr == (0.1,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"step": 3}, TypeError, "'step' must be a function: 3"),
        ({"step": print, "data": 3}, TypeError, "'data' must be iterable, one pass is one epoch: 3"),
        ({"data": [1]}, ValueError, "'step' must be given with data: None"),
        ({"epochs": -1}, ValueError, "'epochs' must be >= 0: -1"),
        ({"epochs": 2.0}, TypeError, "'epochs' must be an int: 2.0"),
        ({"epochs": True}, TypeError, "'epochs' must be an int: True"),
        ({"epochs": None}, TypeError, "'epochs' must be an int: None"),
        ({"steps_per_epoch": 0}, ValueError, "'steps_per_epoch' must be >= 1: 0"),
        (
            {"evaluate": 0.5},
            TypeError,
            "'evaluate' must be a function without arguments, itself and not its result: 0.5",
        ),
        ({"evaluate_every": 0}, ValueError, "'evaluate_every' must be >= 1: 0"),
        ({"optimizer": object()}, TypeError, "'optimizer' must have param_groups"),
        ({"callbacks": Callback()}, TypeError, r"'callbacks' must be a list of callbacks, \[...\]: Callback"),
        (
            {"callbacks": [Callback]},
            TypeError,
            r"'callbacks\[0\]' must be a Callback, pass an instance, Callback\(...\): <class",
        ),
        ({"callbacks": [Callback(), 3]}, TypeError, r"'callbacks\[1\]' must be a Callback, derive it from"),
        (
            {"callbacks": [print]},
            TypeError,
            r"'callbacks\[0\]' must be a Callback, or add it with trainer.on\(EpochEnd\): <",
        ),
        ({"callbacks": [None]}, TypeError, r"'callbacks\[0\]' must be a Callback, leave it out: None"),
        (
            {"callbacks": [[Callback()]]},
            TypeError,
            r"'callbacks\[0\]' must be a Callback, put them into the list itself",
        ),
        (
            {"model": Linear},
            TypeError,
            r"'model' must have state_dict\(\) and load_state_dict\(\), pass an instance: <class",
        ),
        ({"model": object()}, TypeError, r"'model' must have state_dict\(\) and load_state_dict\(\): <object"),
        ({"callbacks": [(same := Callback()), same]}, ValueError, r"'callbacks\[1\]' must not be in the list twice"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Trainer(**arguments)


def test_so_are_those_of_fit_and_those_set_later() -> None:
    trainer = Trainer()
    with pytest.raises(ValueError, match="'epochs' must be >= 0: -1"):
        trainer.fit(-1)
    with pytest.raises(TypeError, match=r"'epochs' must be an int: 1.5"):
        trainer.fit(1.5)  # type: ignore[arg-type]  # that it is refused is the claim
    with pytest.raises(ValueError, match="'evaluate_every' must be >= 1: 0"):
        trainer.evaluate_every = 0
    assert trainer.fit(0).status == "completed"


def test_a_fit_within_a_fit_is_refused_and_the_trainer_can_go_on() -> None:
    class Nested(Callback):
        nested = True

        def on_step_end(self, event: StepEnd) -> None:
            if self.nested:
                trainer.fit(3)

    callback = Nested()
    trainer = Trainer(callbacks=[callback])
    with pytest.raises(RuntimeError, match=r"this Trainer is training already: fit\(\) must not be called within fit"):
        trainer.fit()
    Nested.nested = False
    assert trainer.fit().status == "completed"


def test_what_is_set_between_two_fits_counts() -> None:
    first, second = RateWitness(1.0), RateWitness(2.0)
    trainer = Trainer(optimizer=first)
    trainer.fit()
    trainer.optimizer = second
    trainer.evaluate = lambda: 0.5
    trainer.callbacks = [LRSchedulerCallback(ExponentialLR(second, gamma=0.5))]  # type: ignore[assignment]  # converted
    history = trainer.fit(3)
    assert [record.lr for record in history] == [(1.0,), (2.0,), (1.0,)]
    assert second.used == [(2.0,), (1.0,)]
    assert history[1].metrics == {"val_loss": 0.5}


def test_a_callback_reused_in_a_second_trainer_starts_its_schedule_on_the_new_optimizer() -> None:
    callback = StepLRCallback(step_size=1, gamma=0.5)
    for _ in range(2):
        optimizer = RateWitness(1.0)
        Trainer(epochs=3, optimizer=optimizer, callbacks=[callback]).fit()
        assert optimizer.used == [(1.0,), (0.5,), (0.25,)]


def test_a_callback_copied_in_mid_fit_trains_elsewhere_and_the_first_goes_on() -> None:
    callback, copies = StepLRCallback(step_size=1, gamma=0.5), []

    class Copier(Callback):
        def on_epoch_end(self, event: EpochEnd) -> None:
            copies.append(copy.deepcopy(callback))

    optimizer, other = RateWitness(1.0), RateWitness(8.0)
    Trainer(epochs=3, optimizer=optimizer, callbacks=[callback, Copier()]).fit()
    assert optimizer.used == [(1.0,), (0.5,), (0.25,)]
    Trainer(epochs=2, optimizer=other, callbacks=[copies[1]]).fit()
    assert other.used == [(8.0,), (4.0,)]
    assert optimizer.param_groups[0]["lr"] == 0.125


# Evaluation.


@pytest.mark.parametrize(
    ("found", "metrics"),
    [
        (0.5, {"loss": 1.0, "val_loss": 0.5}),
        ({}, {"loss": 1.0}),
        ({"loss": 0.5, "accuracy": 1}, {"loss": 1.0, "val_loss": 0.5, "val_accuracy": 1.0}),
        ({"val_loss": 0.5}, {"loss": 1.0, "val_loss": 0.5}),
    ],
)
def test_what_evaluate_finds_stands_beside_the_metrics_of_the_steps(found: Any, metrics: dict[str, float]) -> None:
    history = Trainer(lambda batch: 1.0, [1], evaluate=lambda: found).fit()
    assert history[0].metrics == metrics


@pytest.mark.parametrize(
    ("steps", "found", "message"),
    [
        ({"loss": 1.0}, {"loss": 1, "val_loss": 2}, "must not return 'val_loss': another metric has the name"),
        ({"loss": 1.0}, {"val_loss": 2, "loss": 1}, "must not return 'loss': another metric has the name 'val_loss'"),
        ({"loss": 1.0, "val_loss": 3.0}, {"loss": 1}, "must not return 'loss': another metric has the name 'val_loss'"),
    ],
)
def test_two_metrics_of_one_name_are_refused(steps: Any, found: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"'evaluate' {message}"):
        Trainer(lambda batch: steps, [1], evaluate=lambda: found).fit()


@pytest.mark.parametrize(
    ("prefix", "found", "metrics"),
    [
        ("test_", {"loss": 2, "test_f1": 3, "val_f1": 4}, {"test_loss": 2.0, "test_f1": 3.0, "test_val_f1": 4.0}),
        ("test_", 2, {"test_loss": 2.0}),
        ("", {"f1": 2, "val_loss": 3}, {"f1": 2.0, "val_loss": 3.0}),
    ],
)
def test_what_evaluate_finds_has_the_prefix_that_the_user_chose(
    prefix: str, found: Any, metrics: dict[str, float]
) -> None:
    history = Trainer(lambda batch: 1.0, [1], evaluate=lambda: found, evaluate_prefix=prefix).fit()
    assert history[0].metrics == {"loss": 1.0, **metrics}


@pytest.mark.parametrize("found", [2, {"loss": 2}])
def test_without_a_prefix_a_name_of_the_steps_is_refused(found: Any) -> None:
    with pytest.raises(ValueError, match="'evaluate' must not return 'loss': another metric has the name 'loss'"):
        Trainer(lambda batch: 1.0, [1], evaluate=lambda: found, evaluate_prefix="").fit()


@pytest.mark.parametrize("every", [1, "1 step"])
def test_an_evaluate_that_returns_nothing_is_an_error(every: Any) -> None:
    rule = "'evaluate' must return a number or a mapping of metrics, {} where it has none: None"
    with pytest.raises(TypeError, match=rule):
        Trainer(lambda batch: 1.0, [1], evaluate=lambda: None, evaluate_every=every).fit()


def test_a_prefix_that_is_no_string_is_refused() -> None:
    with pytest.raises(TypeError, match="'evaluate_prefix' must be a string, '' for none: None"):
        Trainer(evaluate_prefix=None)  # type: ignore[arg-type]  # refused


def test_evaluation_takes_place_in_every_nth_epoch() -> None:
    record = Recorder(EvaluateStart, EvaluateEnd)
    Trainer(epochs=5, evaluate=lambda: 0.5, evaluate_every=2, callbacks=[record]).fit()
    ends = {"val_loss": 0.5}
    assert record.seen == [
        EvaluateStart(epoch=2, step=2),
        EvaluateEnd(epoch=2, step=2, metrics=ends),
        EvaluateStart(epoch=4, step=4),
        EvaluateEnd(epoch=4, step=4, metrics=ends),
    ]


# The rate that is reported is the one that the last update read.

ORDERS = ["schedule first", "schedule last"]


@pytest.mark.parametrize("listens_to", [(), (StepEnd,), (StepStart,), (StepStart, StepEnd)], ids=str)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("skipped", [set(), {3, 6}, {2, 3, 4, 9}])
def test_the_rate_reported_is_the_one_that_the_last_update_read(
    listens_to: tuple[type[Event], ...],
    order: str,
    interval: Any,
    skipped: set[int],
) -> None:
    optimizer = RateWitness(0.1, 0.3)
    numbers = itertools.count(1)

    def step(batch: int) -> Any:
        if next(numbers) in skipped:
            return StepResult(0.5, updated=False)
        optimizer.step()
        return 0.5

    ends: list[tuple[float, ...]] = []
    schedule = ExponentialLRCallback(gamma=0.7, interval=interval)
    listener = Recorder(*listens_to, EpochEnd)
    callbacks = [schedule, listener] if order == "schedule first" else [listener, schedule]
    trainer = Trainer(step, data=range(3), epochs=3, optimizer=optimizer, callbacks=callbacks)
    trainer.on(EpochReport)(lambda event: ends.append(optimizer.used[-1]))
    history = trainer.fit()
    assert [record.lr for record in history] == ends
    assert [event.lr for event in listener.seen if type(event) is EpochEnd] == ends
    assert [record.last_lr for record in history][-1] == tuple(schedule.scheduler.last_lr)
    assert optimizer.used[0] == (0.1, 0.3)
    advanced = len(optimizer.used) if interval == "step" else 3
    assert schedule.scheduler.last_epoch == advanced


def test_an_epoch_without_an_update_reports_the_rate_that_stands() -> None:
    schedule = ExponentialLRCallback(gamma=0.5, interval="step")
    optimizer = RateWitness(1.0)
    history = Trainer(
        lambda batch: StepResult(updated=False), [1, 2], optimizer=optimizer, epochs=2, callbacks=[schedule]
    ).fit()
    assert [(record.lr, record.last_lr, record.metrics) for record in history] == [((1.0,), (1.0,), {})] * 2


def test_a_group_that_is_added_in_mid_run_is_scheduled_and_reported() -> None:
    optimizer = RateWitness(1.0)

    class Grows(Callback):
        def on_epoch_report(self, event: EpochReport) -> None:
            if event.epoch == 1:
                optimizer.param_groups.append({"params": [], "lr": 8.0})

    callbacks = [ExponentialLRCallback(gamma=0.5), Grows()]
    history = Trainer(epochs=3, optimizer=optimizer, callbacks=callbacks).fit()
    assert [record.lr for record in history] == optimizer.used == [(1.0,), (0.5, 8.0), (0.25, 2.0)]


def test_a_run_leaves_nothing_in_the_optimizer_but_the_base_rates() -> None:
    optimizer = RateWitness(1.0)
    attributes, keys = set(vars(optimizer)), [set(group) for group in optimizer.param_groups]
    Trainer(epochs=3, optimizer=optimizer, callbacks=[StepLRCallback(step_size=1)]).fit()
    assert set(vars(optimizer)) == attributes
    assert [set(group) for group in optimizer.param_groups] == [group | {"initial_lr"} for group in keys]
    assert optimizer.param_groups[0]["initial_lr"] == 1.0


def test_two_schedules_on_one_optimizer_are_refused_before_the_first_step() -> None:
    optimizer = RateWitness(1.0)
    with pytest.raises(ValueError, match=r"'callbacks' must have one schedule per number: StepLRCallback.*Exponent"):
        Trainer(optimizer=optimizer, callbacks=[StepLRCallback(step_size=1), ExponentialLRCallback(gamma=0.5)]).fit()
    assert optimizer.used == []


def test_printed_it_says_in_a_few_lines_what_it_trains_with() -> None:
    def train_step(batch: int) -> float:
        return 0.5

    model = nn.Linear(1199, 1)
    trainer = Trainer(
        train_step,
        data=[1, 2, 3],
        model=model,
        optimizer=SGD(model.parameters(), lr=0.1),
        evaluate=lambda: 0.5,
        epochs=2,
        evaluate_every=2,
        extras={"noise": np.random.default_rng(0)},
        callbacks=[EarlyStopping(), EarlyStopping(patience=2)],
    )
    lines = [
        "  step       train_step",
        "  data       list",
        "  model      Linear, 1,200 parameters",
        "  optimizer  SGD",
        "  evaluate   <lambda>, every 2 epochs",
        "  extras     noise",
        "  callbacks  EarlyStopping, EarlyStopping#2",
    ]
    assert str(trainer).splitlines() == ["Trainer: 2 epochs of 3 steps, ready", *lines]
    trainer.fit()
    trainer.evaluate_every = "500 steps"
    lines[4] = "  evaluate   <lambda>, every 500 steps"
    assert repr(trainer).splitlines() == ["Trainer: 2 epochs of 3 steps, completed after epoch 2", *lines]


def test_printed_what_is_not_there_is_left_out() -> None:
    assert str(Trainer()) == "Trainer: 1 epoch, ready"
    endless = Trainer(print, data=iter([1]), model=nn.ReLU())
    assert (
        str(endless)
        == "Trainer: 1 epoch, ready\n  step       print\n  data       list_iterator\n  model      ReLU, 0 parameters"
    )
