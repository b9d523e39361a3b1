"""First the update, then the schedule: the other way round is warned about, where it can be known."""

import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from lucid_train.nn import Parameter
from lucid_train.optims.lr_scheduler import StepLR
from tests.support.optimizers import sgd


def test_a_schedule_stepped_before_the_first_update_warns_once_where_the_caller_stands() -> None:
    scheduler = StepLR(sgd(0.1), 2)
    with pytest.warns(UserWarning, match=r"scheduler.step\(\) was called before optimizer.step\(\)") as caught:
        scheduler.step()
    scheduler.step()
    assert [warning.filename for warning in caught] == [__file__]


def test_the_right_order_does_not_warn() -> None:
    optimizer = sgd(0.1)
    scheduler = StepLR(optimizer, 2)
    with warnings.catch_warnings(record=True) as caught:
        for _ in range(4):
            optimizer.step()
            scheduler.step()
    assert caught == []


@pytest.mark.parametrize(
    "optimizer",
    [
        SimpleNamespace(param_groups=[{"lr": 0.1}]),
        SimpleNamespace(param_groups=[{"lr": 0.1}], step_count=lambda: 3),
        SimpleNamespace(param_groups=[{"lr": 0.1}], register_step_post_hook=None),
    ],
    ids=["says nothing", "a step_count that is no count", "no hook to register"],
)
def test_where_the_order_cannot_be_known_nothing_is_claimed(optimizer: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        StepLR(optimizer, 2).step()
    assert caught == []


def test_a_loaded_schedule_may_be_stepped_first() -> None:
    optimizer = sgd(0.1)
    scheduler = StepLR(optimizer, 2)
    scheduler.load_state_dict(scheduler.state_dict() | {"last_epoch": 3})
    scheduler.step()
    assert scheduler.last_epoch == 4


@pytest.mark.parametrize("added", [False, True], ids=["as it was", "with another group"])
@pytest.mark.parametrize("engine", [False, True], ids=["plain", "engine"])
def test_a_loaded_schedule_is_silent_whatever_else_its_next_step_has_to_look_at(engine: bool, added: bool) -> None:
    optimizer = sgd(0.1)
    if engine:
        optimizer._sync_hyperparams = lambda: None  # type: ignore[attr-defined]  # as Lucid's optimizers have it
    scheduler = StepLR(optimizer, 2)
    scheduler.load_state_dict(scheduler.state_dict() | {"last_epoch": 3})
    if added:
        optimizer.add_param_group({"params": [Parameter([2.0])], "lr": 0.4})
    with warnings.catch_warnings(record=True) as caught:
        scheduler.step()
        scheduler.step()
    assert (caught, scheduler.last_epoch) == ([], 5)
