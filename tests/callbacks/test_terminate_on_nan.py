import math
from typing import Any

import pytest

from lucid_train import History, StepEnd, Trainer
from lucid_train.callbacks import TerminateOnNaN

nan, inf = math.nan, math.inf


def trained(callback: TerminateOnNaN, outputs: list[Any], evaluate: Any = None) -> History:
    return Trainer(outputs.__getitem__, range(len(outputs)), epochs=2, evaluate=evaluate, callbacks=[callback]).fit()


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_a_loss_that_is_no_number_stops_the_run_after_its_step(bad: float) -> None:
    steps: list[StepEnd] = []
    trainer = Trainer([0.5, bad, 0.5].__getitem__, range(3), callbacks=[TerminateOnNaN()])
    trainer.on(StepEnd)(steps.append)
    history = trainer.fit()
    assert (history.status, history.reason, len(steps)) == ("stopped", f"loss is {bad} in epoch 1, step 2", 2)


def test_at_the_end_of_an_epoch_if_asked() -> None:
    history = trained(TerminateOnNaN(interval="epoch"), [0.5, nan, 0.5])
    assert (len(history), history.reason) == (1, "loss is nan in epoch 1")
    assert TerminateOnNaN(interval="epoch").hooks(StepEnd) == []


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_what_the_evaluation_finds_counts(interval: Any) -> None:
    history = trained(TerminateOnNaN(interval=interval), [0.5], evaluate=lambda: nan)
    assert (len(history), history.status, history.reason) == (1, "stopped", "val_loss is nan in epoch 1")


def test_only_the_metric_that_is_named() -> None:
    outputs = [{"loss": 0.5, "ratio": inf}]
    assert trained(TerminateOnNaN("loss"), outputs).status == "completed"
    assert trained(TerminateOnNaN("ratio"), outputs).reason == "ratio is inf in epoch 1, step 1"
    assert trained(TerminateOnNaN(), outputs).reason == "ratio is inf in epoch 1, step 1"


def test_a_metric_that_some_steps_lack_is_looked_at_where_it_is() -> None:
    outputs = [{"loss": 0.5}, None, {"gan": nan}]
    assert trained(TerminateOnNaN("gan"), outputs).reason == "gan is nan in epoch 1, step 3"


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_metric_that_does_not_exist_is_refused_with_those_that_do(interval: Any) -> None:
    with pytest.raises(ValueError, match="'monitor' must be one of the metrics, loss: 'los'"):
        trained(TerminateOnNaN("los", interval=interval), [0.5])


def test_it_may_raise() -> None:
    with pytest.raises(FloatingPointError, match="loss is nan in epoch 1, step 1") as caught:
        trained(TerminateOnNaN(action="raise"), [nan])
    assert caught.value.__notes__ == ["raised by TerminateOnNaN.on_step_end on StepEnd in epoch 1, step 1"]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"monitor": 3}, TypeError, "'monitor' must be the name of a metric: 3"),
        ({"interval": "batch"}, ValueError, "'interval' must be one of 'step', 'epoch': 'batch'"),
        ({"action": "warn"}, ValueError, "'action' must be one of 'stop', 'raise': 'warn'"),
    ],
)
def test_bad_arguments_are_refused_by_name(settings: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TerminateOnNaN(**settings)
