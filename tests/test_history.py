import json
import math
from typing import Any

import pytest
from attrs.exceptions import FrozenInstanceError

from lucid_train import EpochRecord, EvaluationRecord, History, Trainer

RECORDS = [
    EpochRecord(epoch=1, steps=2, metrics={"loss": 0.5}, lr=(0.1,), last_lr=(0.05,)),
    EpochRecord(epoch=2, steps=2, metrics={"loss": 0.25, "val_loss": 2.0}, lr=(0.05,), last_lr=(0.025,)),
    EpochRecord(epoch=3, steps=2, metrics={"loss": 0.25, "val_loss": math.nan}, lr=(0.025,), last_lr=(0.0125,)),
]
history = History(RECORDS)


def test_a_history_is_a_sequence() -> None:
    assert (len(history), history[0], history[-1], history[1:]) == (3, RECORDS[0], RECORDS[2], RECORDS[1:])
    assert list(history) == RECORDS
    assert RECORDS[1] in history
    assert repr(history) == "History(3 epochs, ready)"


def test_histories_compare_by_their_epochs() -> None:
    assert History(RECORDS[:2]) == History(RECORDS[:2]) != History(RECORDS[:1])
    assert history != RECORDS
    with pytest.raises(TypeError, match="unhashable"):
        hash(history)


def test_histories_compare_by_their_evaluations_too() -> None:
    one, other = History(RECORDS), History(RECORDS)
    one.evaluations.append(EvaluationRecord(epoch=1, step=1))
    assert one != other
    other.evaluations.append(EvaluationRecord(epoch=1, step=1))
    assert one == other


def test_a_state_holds_the_evaluations() -> None:
    mine, other = History(RECORDS), History()
    mine.evaluations += [
        EvaluationRecord(epoch=1, step=1, seconds=0.5, metrics={"val_loss": 0.25}),
        EvaluationRecord(epoch=2, step=3, seconds=0.25, metrics={"val_loss": 0.125, "accuracy": 1.0}),
    ]
    other.load_state_dict(json.loads(json.dumps(mine.state_dict())))
    assert other.evaluations == mine.evaluations
    with pytest.raises(ValueError, match="the state of a History does not fit: 'evaluations' is missing"):
        other.load_state_dict({name: entry for name, entry in mine.state_dict().items() if name != "evaluations"})
    assert other.evaluations == mine.evaluations


EVALUATED = History(RECORDS)
EVALUATED.evaluations.append(EvaluationRecord(epoch=1, step=1, seconds=0.5, metrics={"val_loss": 0.25}))


@pytest.mark.parametrize(
    ("path", "wrong", "message"),
    [
        (["alien"], 1, "the state of a History does not fit: 'alien' is unknown"),
        (["epoch", 0], 1.5, "not one of a History: TypeError: 'float' object"),
        (["steps", 2], None, "not one of a History: TypeError: 'NoneType' object"),
        (["seconds", 1], "x", "could not convert string to float: 'x'"),
        (["lr", "values"], [0.1], "'lr' must have a value for each of 3 groups: 1"),
        (["last_lr", "groups"], [1, 1, 0], "'last_lr' must have a value for each of 2 groups: 3"),
        (["metrics", "loss", "epochs", 0], -1, "not one of a History: KeyError: -1"),
        (["metrics", "loss", "values", 0], None, "not one of a History: TypeError"),
        (["evaluations", 0, "alien"], 1, "not one of a History: TypeError: .*unexpected keyword argument 'alien'"),
        (["evaluations", 0, "step"], "x", "not one of a History: TypeError: 'str' object"),
        (["evaluations", 0, "metrics"], [1], "not one of a History: AttributeError: 'list' object"),
        (["evaluations", 0, "metrics", "val_loss"], "x", "could not convert string to float: 'x'"),
    ],
    ids=str,
)
def test_a_state_with_something_else_in_it_is_refused_and_changes_nothing(
    path: list[Any], wrong: Any, message: str
) -> None:
    state = json.loads(json.dumps(EVALUATED.state_dict()))
    place = state
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = wrong
    mine = History(RECORDS[:1])
    with pytest.raises(ValueError, match=message):
        mine.load_state_dict(state)
    assert mine == History(RECORDS[:1])


def test_a_history_does_not_share_the_list_it_was_made_of() -> None:
    records = [RECORDS[0]]
    mine = History(records)
    records.append(RECORDS[1])
    assert len(mine) == 1


def test_a_record_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        RECORDS[0].epoch = 2  # type: ignore[misc]  # that it is refused is the claim


def test_a_metric_of_every_epoch_is_nan_where_it_lacks() -> None:
    assert history.metric("loss") == [0.5, 0.25, 0.25]
    assert [math.isnan(value) for value in history.metric("val_loss")] == [True, False, True]
    assert history.metric_names() == ["loss", "val_loss"]


@pytest.mark.parametrize(("of", "known"), [(history, "loss, val_loss"), (History(), "of which there are none")])
def test_an_unknown_metric_is_refused_with_those_that_exist(of: History, known: str) -> None:
    with pytest.raises(KeyError, match=f"'name' must be one of the metrics, {known}: 'accuracy'"):
        of.metric("accuracy")
    with pytest.raises(KeyError, match=f"'name' must be one of the metrics, {known}: 'accuracy'"):
        of.best("accuracy")


def test_the_best_epoch_is_the_first_of_equals_and_never_a_nan() -> None:
    assert history.best("loss").epoch == 2
    assert history.best("loss", "max").epoch == 1
    assert history.best("val_loss").epoch == 2
    assert history.best("val_loss", mode="max").epoch == 2
    assert History([EpochRecord(epoch=1, metrics={"f1": 1.0})]).best("f1", "max").epoch == 1
    with pytest.raises(ValueError, match="'mode' must be given, as 'f1' does not end in loss or accuracy"):
        History([EpochRecord(epoch=1, metrics={"f1": 1.0})]).best("f1")


def test_the_best_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="'val_loss' must be a number in at least one epoch: it is NaN in all 1"):
        History(RECORDS[2:]).best("val_loss")
    with pytest.raises(ValueError, match="'mode' must be one of 'min', 'max': 'least'"):
        history.best("loss", "least")  # type: ignore[arg-type]  # that it is refused is the claim


def test_as_a_dict_it_is_plain_json() -> None:
    trained = Trainer(step=lambda batch: 0.5, data=[1], epochs=2).fit().to_dict()
    assert json.loads(json.dumps(trained)) == trained
    assert (trained["status"], trained["reason"]) == ("completed", None)
    assert list(trained["epochs"][0]) == ["epoch", "steps", "seconds", "metrics", "lr", "last_lr", "scheduled"]
    assert [epoch["epoch"] for epoch in trained["epochs"]] == [1, 2]
    mine = History()
    mine.evaluations.append(EvaluationRecord(epoch=1, step=3, seconds=0.5, metrics={"val_loss": 0.25}))
    assert mine.to_dict()["evaluations"] == [
        {"epoch": 1, "step": 3, "seconds": 0.5, "metrics": {"val_loss": 0.25}, "asked": False}
    ]
