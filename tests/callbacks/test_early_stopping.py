import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lucid_train import Callback, History, Trainer
from lucid_train.callbacks import Checkpoint, EarlyStopping, LRSchedulerCallback, RichLogger, TerminateOnNaN
from lucid_train.optims.lr_scheduler import ReduceLROnPlateau
from tests.support.optimizers import Bare


class Model:
    """Has one weight, the number of its epoch."""

    def __init__(self) -> None:
        self.weight = [0]

    def state_dict(self) -> dict[str, list[int]]:
        return {"weight": self.weight}

    def load_state_dict(self, state: dict[str, list[int]]) -> None:
        self.weight = state["weight"]


def trained(callback: EarlyStopping, values: list[float], model: Any = None, **more: Any) -> History:
    found = iter(values)

    def step(batch: object) -> None:
        if model is not None:
            model.weight[0] += 1

    return Trainer(
        step, [1], epochs=len(values), evaluate=lambda: next(found), model=model, callbacks=[callback], **more
    ).fit()


nan, inf = math.nan, math.inf


@pytest.mark.parametrize(
    ("settings", "values", "epochs", "best_epoch"),
    [
        ({"patience": 2}, [3, 2, 2, 2, 1], 4, 2),
        ({"patience": 2}, [3, 2, 2, 1, 1], 5, 4),
        ({"patience": 1}, [3, 2, 2.5, 1], 3, 2),
        ({"patience": 2, "mode": "max"}, [1, 2, 3, 2, 2, 9], 5, 3),
        ({"patience": 2, "min_delta": 0.5}, [3, 2.8, 2.6, 1], 3, 1),
        ({"patience": 2, "min_delta": 0.5}, [3, 2.5, 2.5, 0], 3, 1),
        ({"patience": 2}, [nan, nan, 1], 2, None),
        ({"patience": 2}, [nan, 3, nan, 2], 4, 4),
        ({"patience": 2}, [inf, 3, inf, inf], 4, 2),
        ({"patience": 2, "mode": "max"}, [inf, inf, inf], 3, 1),
        ({"stopping_threshold": 2}, [3, 2, 1], 2, 2),
        ({"stopping_threshold": 2}, [3, 2.1, nan, 2.1], 4, 2),
        ({"stopping_threshold": 2, "mode": "max"}, [1, 1.9, 2.5, 3], 3, 3),
        ({"divergence_threshold": 5}, [3, 5, inf, 1], 3, 1),
        ({"divergence_threshold": 5}, [nan, 6, 1], 2, 2),
        ({"divergence_threshold": 0.5, "mode": "max"}, [1, 0.5, 0.4, 1], 3, 1),
        ({"patience": 1, "min_epochs": 3}, [1, 2, 3, 4], 3, 1),
        ({"patience": 1, "min_epochs": 3}, [1, 2, 0, 4, 4], 4, 3),
        ({"stopping_threshold": 2, "min_epochs": 3}, [1, 1, 1, 1], 3, 1),
        ({"stopping_threshold": 2, "min_epochs": 2}, [1, 3, 1, 1], 3, 1),
        ({"divergence_threshold": 5, "min_epochs": 3}, [3, 6, 1, 1], 2, 1),
    ],
)
def test_when_it_stops_and_which_epoch_was_best(
    settings: dict[str, Any], values: list[float], epochs: int, best_epoch: int | None
) -> None:
    callback = EarlyStopping(**settings)
    assert len(trained(callback, values)) == epochs
    assert callback.best_epoch == best_epoch
    assert callback.best == (None if best_epoch is None else values[best_epoch - 1])


def test_the_reason_says_what_was_waited_for() -> None:
    history = trained(EarlyStopping(patience=2), [0.123456789, 1, 1, 1])
    assert (history.status, history.reason) == (
        "stopped",
        "val_loss has not improved for 2 epochs (best 0.123457 in epoch 1)",
    )
    assert (
        trained(EarlyStopping(patience=1), [nan, 1]).reason == "val_loss has not improved for 1 epoch (never a number)"
    )


def test_a_threshold_is_named_in_the_reason() -> None:
    reached = trained(EarlyStopping(stopping_threshold=0.5), [1, 0.25, 1])
    assert (reached.status, reached.reason) == ("stopped", "val_loss is 0.25, as good as 0.5 or better")
    diverged = trained(EarlyStopping(divergence_threshold=5), [1, 7, 1])
    assert (diverged.status, diverged.reason) == ("stopped", "val_loss is 7, worse than 5")


def test_the_header_names_every_rule() -> None:
    every = EarlyStopping(patience=3, stopping_threshold=0.1, divergence_threshold=5, min_epochs=10)
    assert every.describe() == {
        "stopping": "after 3 epochs without a lower val_loss, at val_loss <= 0.1, not before epoch 10, "
        "at any time at val_loss > 5"
    }
    higher = EarlyStopping("accuracy", patience=1, stopping_threshold=0.9, divergence_threshold=0.1)
    assert higher.describe() == {
        "stopping": "after an epoch without a higher accuracy, at accuracy >= 0.9, at any time at accuracy < 0.1"
    }


def test_an_evaluation_within_the_last_of_the_min_epochs_does_not_stop() -> None:
    stopping, steps = EarlyStopping(patience=1, min_epochs=2), list[int]()
    trainer = Trainer(
        steps.append, [1, 2], epochs=9, evaluate=lambda: 1.0, evaluate_every="1 steps", callbacks=[stopping]
    )
    assert trainer.fit().status == "stopped"
    assert len(steps) == 5  # the first evaluation after epoch 2


@pytest.mark.parametrize("ends", range(1, 5))
def test_what_is_waited_for_before_the_min_epochs_is_kept_by_a_resume(ends: int, tmp_path: Path) -> None:
    def trainer(epochs: int) -> Trainer:
        stopping, saving = EarlyStopping("loss", patience=2, min_epochs=5), Checkpoint(tmp_path, weights=False)
        return Trainer(lambda batch: 1.0, [1], epochs=epochs, callbacks=[stopping, saving])

    trainer(ends).fit()
    assert len(trainer(9).fit(resume="auto")) == 5


def test_epochs_without_evaluation_are_passed_over() -> None:
    callback = EarlyStopping(patience=2)
    found = iter([3.0, 3.0, 3.0])
    history = Trainer(epochs=20, evaluate=lambda: next(found), evaluate_every=3, callbacks=[callback]).fit()
    assert len(history) == 9


def test_a_metric_that_does_not_exist_is_refused_with_those_that_do() -> None:
    stopping = EarlyStopping("val_los", mode="min")
    with pytest.raises(
        ValueError, match="'monitor' must be one of the metrics, loss, val_loss: 'val_los'; did you mean 'val_loss'"
    ):
        Trainer(lambda batch: 1.0, [1], evaluate=lambda: 1.0, callbacks=[stopping]).fit()
    with pytest.raises(ValueError, match="'monitor' must be one of the metrics, none: 'loss'"):
        Trainer(callbacks=[EarlyStopping("loss")]).fit()


MONITORS: dict[str, Callable[[str, Path], Callback]] = {
    "EarlyStopping": lambda name, folder: EarlyStopping(name),
    "TerminateOnNaN": lambda name, folder: TerminateOnNaN(name),
    "Checkpoint": lambda name, folder: Checkpoint(folder, monitor=name, weights=False),
    "RichLogger": lambda name, folder: RichLogger(Console(file=io.StringIO()), monitor=name),
    "ReduceLROnPlateau": lambda name, folder: LRSchedulerCallback(ReduceLROnPlateau(Bare(0.1)), monitor=name),
}


@pytest.mark.parametrize("kind", MONITORS)
def test_a_metric_of_an_evaluation_that_never_takes_place_is_refused_before_the_first_step(
    kind: str, tmp_path: Path
) -> None:
    steps: list[int] = []
    with pytest.raises(
        ValueError,
        match=r"'monitor' must be a metric of the steps, as the Trainer has no evaluate: 'val_loss'; pass evaluate=",
    ):
        Trainer(steps.append, [1], callbacks=[MONITORS[kind]("val_loss", tmp_path)]).fit()
    assert steps == []
    callback = MONITORS[kind]("val_loss", tmp_path)
    assert len(Trainer(lambda batch: 1.0, [1], evaluate=lambda: 1.0, callbacks=[callback]).fit()) == 1


def test_the_accuracy_of_an_evaluation_is_not_taken_for_that_of_the_steps() -> None:
    def trainer(every: int = 2, **of_steps: float) -> Trainer:
        stopping = EarlyStopping("accuracy", patience=1)
        options: Any = {"evaluate": lambda: {"accuracy": 0.5}, "evaluate_every": every, "callbacks": [stopping]}
        return Trainer(lambda batch: {"loss": 1.0, **of_steps}, [1], epochs=4, **options)

    rule = "'monitor' must be one of the metrics, loss: 'accuracy'; those of the evaluation begin with 'val_'"
    with pytest.raises(ValueError, match=rule):  # by its name it is of the steps, so that the first epoch would have it
        trainer().fit()
    rule = "'monitor' must be one of the metrics, loss, val_accuracy: 'accuracy'; did you mean 'val_accuracy'"
    with pytest.raises(ValueError, match=rule):
        trainer(every=1).fit()
    follows = "a callback follows 'accuracy', which is of the training steps; the evaluation gives 'val_accuracy'"
    with pytest.warns(UserWarning, match=follows) as caught:
        trainer(accuracy=1.0).fit()
    assert len(caught) == 1


@pytest.mark.parametrize("stops", [True, False])
def test_the_best_weights_are_restored_when_the_run_ends_well(stops: bool) -> None:
    model = Model()
    trained(EarlyStopping(patience=2 if stops else 9, restore_best=True), [3, 1, 2, 2, 2], model)
    assert model.weight == [2]


def test_of_a_model_of_its_own_too() -> None:
    model, other = Model(), Model()
    trained(EarlyStopping(patience=9, restore_best=True, model=model), [3, 1], other)
    assert (model.weight, other.weight) == ([0], [2])


def test_not_after_an_exception_and_not_unless_asked() -> None:
    model = Model()
    values = iter([1.0, 2.0])
    trainer = Trainer(
        lambda batch: model.weight.__setitem__(0, model.weight[0] + 1),
        [1],
        epochs=3,
        model=model,
        evaluate=lambda: next(values),
        callbacks=[EarlyStopping(restore_best=True)],
    )
    with pytest.raises(StopIteration):
        trainer.fit()
    assert model.weight == [3]
    trained(EarlyStopping(), [1, 2], model)
    assert model.weight == [5]


def test_the_weights_kept_are_copies() -> None:
    model, callback = Model(), EarlyStopping(restore_best=True)
    trained(callback, [1, 2], model)
    model.weight[0] = 99
    assert callback.state_dict()["best_weights"] == {"weight": [1]}


def test_without_a_model_there_is_nothing_to_restore() -> None:
    with pytest.raises(
        ValueError, match=r"EarlyStopping\(restore_best=True\) needs a model: pass Trainer\(model=...\)"
    ):
        trained(EarlyStopping(restore_best=True), [1])


def test_being_called_again_it_is_patient_again() -> None:
    callback = EarlyStopping("loss", patience=2)
    trainer = Trainer(lambda batch: 1.0, [1], epochs=9, callbacks=[callback])
    assert len(trainer.fit()) == 3
    assert len(trainer.fit()) == 5
    assert len(trainer.fit(restart=True)) == 3


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"monitor": 3}, TypeError, "'monitor' must be the name of a metric: 3"),
        ({"monitor": ""}, TypeError, "'monitor' must be the name of a metric: ''"),
        ({"patience": 0}, ValueError, "'patience' must be >= 1: 0"),
        ({"patience": 1.5}, TypeError, "'patience' must be an int: 1.5"),
        ({"monitor": "f1"}, ValueError, "'mode' must be given, as 'f1' does not end in loss or accuracy"),
        ({"mode": "auto"}, ValueError, "'mode' must be one of 'min', 'max': 'auto'"),
        ({"min_delta": -1}, ValueError, "'min_delta' must be >= 0: -1"),
        ({"min_delta": nan}, ValueError, "'min_delta' must be >= 0 and finite: nan"),
        ({"stopping_threshold": nan}, ValueError, "'stopping_threshold' must be finite: nan"),
        ({"divergence_threshold": "5"}, TypeError, "'divergence_threshold' must be a number: '5'"),
        ({"min_epochs": -1}, ValueError, "'min_epochs' must be >= 0: -1"),
        (
            {"stopping_threshold": 1, "divergence_threshold": 1},
            ValueError,
            "'divergence_threshold' must be > stopping_threshold, 1: 1",
        ),
        (
            {"mode": "max", "stopping_threshold": 1, "divergence_threshold": 2},
            ValueError,
            "'divergence_threshold' must be < stopping_threshold, 1: 2",
        ),
        ({"restore_best": "no"}, TypeError, "'restore_best' must be True or False: 'no'"),
    ],
)
def test_bad_arguments_are_refused_by_name(settings: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EarlyStopping(**settings)
