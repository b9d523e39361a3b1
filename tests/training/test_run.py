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
    Run,
    StepEnd,
    StepResult,
    StepStart,
    Trainer,
)
from lucid_train.nn import Linear
from tests.support.callbacks import At, Recorder
from tests.support.optimizers import RateWitness


def test_what_a_callback_sees() -> None:
    model, optimizer = Linear(1, 1), RateWitness(0.1, 1)
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


def test_the_others_receive_the_event_in_which_one_stops() -> None:
    record = Recorder(EpochEnd, EpochReport, FitEnd)
    Trainer(epochs=5, callbacks=[At(EpochEnd, lambda event: event.run.stop()), record]).fit()
    assert [type(event) for event in record.seen] == [EpochEnd, EpochReport, FitEnd]
    assert record.seen[-1].status == "stopped"


def test_evaluated_says_in_which_epochs_all_metrics_are_there() -> None:
    run = Run(evaluate_every=3)
    assert [epoch for epoch in range(1, 10) if run.evaluated(epoch)] == [3, 6, 9]
    assert all(Run().evaluated(epoch) for epoch in range(1, 10))


def test_between_fits_a_run_holds_no_callbacks() -> None:
    runs: list[Run] = []
    Trainer(callbacks=[At(FitStart, lambda event: runs.append(event.run))]).fit()
    assert (runs[0].callbacks, runs[0].listeners(StepEnd), runs[0].hook_seconds) == ((), [], {})
    runs[0].measure_hooks()
    assert runs[0].hook_seconds == {}


def test_what_only_a_fit_can_do_is_refused_between_fits() -> None:
    runs: list[Run] = []
    Trainer(callbacks=[At(FitStart, lambda event: runs.append(event.run))]).fit()
    run = runs[0]
    with pytest.raises(RuntimeError, match="no fit is running that could reach a safe point"):
        run.at_safe_point(lambda: None)
    with pytest.raises(RuntimeError, match="no fit is running that could end"):
        run.before_end(lambda: None)
    with pytest.raises(RuntimeError, match="no fit is running that could schedule an optimizer"):
        run.claim(RateWitness(0.1), Callback())


def test_a_stop_between_fits_stops_nothing() -> None:
    runs: list[Run] = []
    trainer = Trainer(callbacks=[At(FitStart, lambda event: runs.append(event.run))])
    trainer.fit()
    runs[0].stop("too late")
    runs[0].interrupt(KeyboardInterrupt(), "too late")
    history = trainer.fit(2)
    assert (history.status, history.reason, len(history)) == ("completed", None, 2)


SAFE_POINTS = [
    # asked for at an event, how often evaluated, the last event before the function is called
    (FitStart, 1, "FitStart"),
    (EpochStart, 1, "EpochStart"),
    (StepStart, 1, "StepEnd"),
    (StepEnd, 1, "StepEnd"),
    (EvaluateStart, 1, "EpochReport"),
    (EvaluateEnd, 1, "EpochReport"),
    (EvaluateStart, "1 step", "EvaluateEnd"),
    (EvaluateEnd, "1 step", "EvaluateEnd"),
    (EpochEnd, 1, "EpochReport"),
    (EpochReport, 1, "EpochReport"),
    (FitEnd, 1, "FitEnd"),
]


@pytest.mark.parametrize(("event", "every", "after"), SAFE_POINTS)
def test_a_safe_point_is_when_all_callbacks_have_received_what_changes_the_run(
    event: type[Event], every: int | str, after: str
) -> None:
    called: list[str] = []
    record = Recorder()

    def ask(event: Event) -> None:
        event.run.at_safe_point(lambda: called.append(type(record.seen[-1]).__name__))

    Trainer(
        lambda batch: 0.5, [1], evaluate=lambda: 1.0, evaluate_every=every, callbacks=[At(event, ask), record]
    ).fit()
    # FitEnd is received by the last callback first.
    assert called == [after]


def test_the_run_can_be_saved_when_the_loop_is_over_and_before_its_end() -> None:
    found: list[Any] = []
    record = Recorder(EpochReport, FitEnd)

    def ask(event: FitStart) -> None:
        run = event.run
        run.before_end(lambda: run.at_safe_point(lambda: found.append((len(record.seen), run.state_dict()))))

    trainer = Trainer(lambda batch: 0.5, [1], callbacks=[record, At(FitStart, ask)])
    trainer.fit()
    assert [(count, len(state["progress"]["history"]["epoch"])) for count, state in found] == [(1, 1)]


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

    with pytest.raises(ValueError, match=r"'callbacks' must have one schedule per number: Callback.* set the same"):
        Trainer(callbacks=[At(FitStart, claim)]).fit()


def test_a_claim_holds_for_one_fit() -> None:
    optimizer, owners = RateWitness(0.1), [Callback(), Callback()]
    trainer = Trainer(callbacks=[At(FitStart, lambda event: event.run.claim(optimizer, owners.pop()))])
    trainer.fit()
    assert trainer.fit(2).status == "completed"
    assert owners == []


def test_an_epoch_reports_the_rate_of_its_last_update_and_the_one_that_stands() -> None:
    optimizer = RateWitness(1.0)

    def step(batch: int) -> Any:
        if batch == 3:
            return StepResult(0.5, updated=False)
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
    assert [(event.status, event.reason) for event in record.seen] == [
        ("failed", "UnprintableError: <UnprintableError, whose str raises RuntimeError>")
    ]


@pytest.mark.parametrize("reason", [3, None, b"enough", ValueError("enough")])
def test_a_reason_is_a_string(reason: Any) -> None:
    with pytest.raises(TypeError, match="'reason' must be a string: "):
        Trainer(callbacks=[At(EpochEnd, lambda event: event.run.stop(reason))]).fit()
