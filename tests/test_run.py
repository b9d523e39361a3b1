from collections.abc import Callable
from typing import Any

import pytest

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
    NoUpdate,
    Run,
    StepEnd,
    StepStart,
    Trainer,
)
from tests.support.callbacks import At, Recorder
from tests.support.optimizers import RateWitness


def test_what_a_callback_sees() -> None:
    model, optimizer = object(), RateWitness(0.1, 1)
    seen: list[Any] = []

    def look(event: StepEnd) -> None:
        run = event.run
        seen.append((run.epoch, run.step, run.epoch_step, run.epochs, run.steps_per_epoch, run.status, run.last_lr))
        assert (run.model, run.optimizer) == (model, optimizer)
        assert run.callbacks == trainer.callbacks
        assert len(run.history) == run.epoch - 1

    callbacks = [At(StepEnd, look)]
    trainer = Trainer(lambda batch: 0.5, [1, 2], epochs=2, model=model, optimizer=optimizer, callbacks=callbacks)
    trainer.fit()
    assert seen == [(1 + n // 2, n + 1, 1 + n % 2, 2, 2, "running", [0.1, 1.0]) for n in range(4)]


def test_last_lr_is_a_fresh_list_of_floats_and_empty_without_an_optimizer() -> None:
    run = Run(optimizer=RateWitness(1))
    run.last_lr.append(3.0)
    assert run.last_lr == [1.0]
    assert type(run.last_lr[0]) is float
    assert Run().last_lr == []


STOPS = [
    # where, the epochs finished, the steps done
    (FitStart, 0, 0),
    (EpochStart, 0, 0),
    (StepStart, 0, 1),
    (StepEnd, 0, 1),
    (EvaluateStart, 1, 3),
    (EvaluateEnd, 1, 3),
    (EpochEnd, 1, 3),
    (EpochReport, 1, 3),
]


@pytest.mark.parametrize(("event", "epochs", "steps"), STOPS, ids=lambda it: getattr(it, "__name__", None))
def test_a_stop_ends_the_fit_after_the_step_in_hand_and_the_next_goes_on(
    event: type[Event], epochs: int, steps: int
) -> None:
    done: list[int] = []
    stops = [True]
    callback = At(event, lambda event: event.run.stop("enough") if stops else None)
    trainer = Trainer(done.append, [1, 2, 3], epochs=2, evaluate=lambda: 1.0, callbacks=[callback])
    history = trainer.fit()
    assert (history.status, history.reason, len(history), len(done)) == ("stopped", "enough", epochs, steps)
    stops.clear()
    assert trainer.fit() is history
    assert (history.status, history.reason, len(history), done) == ("completed", None, 2, [1, 2, 3] * 2)
    assert [record.steps for record in history] == [3, 3]


def test_a_stop_in_the_last_step_of_an_epoch_finishes_it() -> None:
    history = Trainer(
        lambda batch: 0.5, [1, 2, 3], epochs=2, evaluate=lambda: 1.0, callbacks=[At(StepEnd, stop_at(3))]
    ).fit()
    assert (history.status, [record.metrics for record in history]) == ("stopped", [{"loss": 0.5, "val_loss": 1.0}])


def stop_at(step: int) -> Callable[[StepEnd], None]:
    def hook(event: StepEnd) -> None:
        if event.step == step:
            event.run.stop()

    return hook


def test_a_stop_that_comes_when_all_is_done_has_stopped_nothing() -> None:
    for event in (StepEnd, EpochEnd, EpochReport, FitEnd):
        history = Trainer(callbacks=[At(event, lambda event: event.run.stop("late"))]).fit()
        assert (history.status, history.reason) == ("completed", None)


def test_the_first_reason_stays_and_there_is_always_one() -> None:
    def hook(event: EpochEnd) -> None:
        event.run.stop("first")
        event.run.stop("second")

    assert Trainer(epochs=2, callbacks=[At(EpochEnd, hook)]).fit().reason == "first"
    history = Trainer(epochs=2, callbacks=[At(EpochEnd, lambda event: event.run.stop())]).fit()
    assert history.reason == "stopped by a callback"


def test_the_others_hear_the_event_in_which_one_stops() -> None:
    record = Recorder(EpochEnd, EpochReport, FitEnd)
    Trainer(epochs=5, callbacks=[At(EpochEnd, lambda event: event.run.stop()), record]).fit()
    assert [type(event) for event in record.seen] == [EpochEnd, EpochReport, FitEnd]
    assert record.seen[-1].status == "stopped"


def test_evaluated_tells_in_which_epochs_all_metrics_are_there() -> None:
    run = Run(evaluate_every=3)
    assert [epoch for epoch in range(1, 10) if run.evaluated(epoch)] == [3, 6, 9]
    assert all(Run().evaluated(epoch) for epoch in range(1, 10))


def test_between_fits_a_run_holds_no_callbacks() -> None:
    runs: list[Run] = []
    Trainer(callbacks=[At(FitStart, lambda event: runs.append(event.run))]).fit()
    assert (runs[0].callbacks, runs[0].listeners(StepEnd), runs[0].hook_seconds) == ((), [], {})
    runs[0].measure_hooks()
    assert runs[0].hook_seconds == {}


def test_two_schedules_claim_one_optimizer_in_vain() -> None:
    optimizer = RateWitness(0.1)
    first, second = Callback(), Callback()

    def claim(event: FitStart) -> None:
        run = event.run
        run.claim(optimizer, first)
        run.claim(optimizer, first)
        run.claim(RateWitness(0.2), second)
        assert run.optimizer is optimizer
        run.claim(optimizer, second)

    with pytest.raises(ValueError, match=r"'callbacks' must have one schedule per optimizer: Callback.* set the same"):
        Trainer(callbacks=[At(FitStart, claim)]).fit()


def test_a_claim_holds_for_one_fit() -> None:
    optimizer, owners = RateWitness(0.1), [Callback(), Callback()]
    trainer = Trainer(callbacks=[At(FitStart, lambda event: event.run.claim(optimizer, owners.pop()))])
    trainer.fit()
    assert trainer.fit(2).status == "completed"
    assert owners == []


def test_no_update_is_told_from_an_update_by_the_rates() -> None:
    optimizer = RateWitness(1.0)

    def step(batch: int) -> Any:
        if batch == 3:
            return NoUpdate(0.5)
        optimizer.step()
        return 0.5

    def lower(event: StepStart) -> None:
        optimizer.param_groups[0]["lr"] = 1.0 / event.step

    history = Trainer(step, [1, 2, 3], optimizer=optimizer, callbacks=[At(StepStart, lower)]).fit()
    assert history[0].lr == optimizer.used[-1] == (0.5,)
    assert history[0].last_lr == (1 / 3,)


def test_an_exception_that_cannot_be_printed_still_ends_in_order() -> None:
    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def step(batch: object) -> None:
        raise UnprintableError

    record = Recorder(FitEnd)
    with pytest.raises(UnprintableError):
        Trainer(step, [1], callbacks=[record]).fit()
    assert [(event.status, event.reason) for event in record.seen] == [("failed", "UnprintableError")]
