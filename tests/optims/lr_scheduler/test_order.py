"""First the update, then the schedule: the other way round is warned about, where it can be known."""

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from lucid_train.nn import Parameter
from lucid_train.optims.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingWarmRestarts,
    ParamScheduler,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from lucid_train.schedules import Exponential
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


class Wrapper:
    """As wrappers of PyTorch's optimizers are: it has their methods, and not what these need."""

    def __init__(self) -> None:
        self.param_groups = [{"lr": 0.1}]

    def register_step_post_hook(self, hook: Callable[..., None]) -> Any:
        raise AttributeError("'Wrapper' object has no attribute '_optimizer_step_post_hooks'")


@pytest.mark.parametrize(
    "optimizer",
    [
        SimpleNamespace(param_groups=[{"lr": 0.1}]),
        SimpleNamespace(param_groups=[{"lr": 0.1}], step_count=lambda: 3),
        SimpleNamespace(param_groups=[{"lr": 0.1}], register_step_post_hook=None),
        Wrapper(),
    ],
    ids=["says nothing", "a step_count that is no count", "no hook to register", "a base that was never built"],
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


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_step_of_the_instances_own_need_not_count_and_is_not_warned_about(when: str) -> None:
    optimizer = sgd(0.1)
    calls: list[str] = []

    def replaced() -> None:
        calls.append("step")

    if when == "before":
        optimizer.step = replaced  # type: ignore[method-assign]  # as some profilers and wrappers do
    scheduler = StepLR(optimizer, 2, 0.5)
    if when == "after":
        optimizer.step = replaced  # type: ignore[method-assign]  # same
    for _ in range(2):
        optimizer.step()
        scheduler.step()  # a warning would be an error
    assert (calls, scheduler.last_lr) == (["step", "step"], [0.05])


def test_a_loaded_scheduler_that_stands_at_the_beginning_may_be_stepped_first_too() -> None:
    scheduler = StepLR(sgd(0.1), 2)
    scheduler.load_state_dict(scheduler.state_dict())
    scheduler.step()  # a warning would be an error
    assert scheduler.last_epoch == 1


def test_the_step_is_done_where_its_warning_is_an_error() -> None:
    scheduler = StepLR(sgd(0.1), 1, 0.5)
    with pytest.raises(UserWarning, match=r"scheduler.step\(\) was called before optimizer.step\(\)"):
        scheduler.step()
    assert (scheduler.last_epoch, scheduler.last_lr) == (1, [0.05])
    scheduler.step()
    assert (scheduler.last_epoch, scheduler.last_lr) == (2, [0.025])


def test_a_plateau_stepped_before_the_first_update_warns_once_where_the_caller_stands() -> None:
    scheduler = ReduceLROnPlateau(sgd(0.1), patience=0, factor=0.5)
    with pytest.warns(UserWarning, match=r"scheduler.step\(\) was called before optimizer.step\(\)") as caught:
        scheduler.step(1.0)
    scheduler.step(1.0)
    assert [warning.filename for warning in caught] == [__file__]
    assert (scheduler.last_epoch, scheduler.last_lr) == (2, [0.05])


@pytest.mark.parametrize(
    "build",
    [
        lambda opt: SequentialLR(opt, [StepLR(opt, 1), StepLR(opt, 2)], [3]),
        lambda opt: ChainedScheduler([StepLR(opt, 1), StepLR(opt, 2)]),
        lambda opt: CosineAnnealingWarmRestarts(opt, 3),
        lambda opt: ParamScheduler(opt, weight_decay=Exponential(0.5), lr=Exponential(0.5)),
    ],
)
def test_every_scheduler_warns_once_and_where_the_caller_stands(build: Callable[[Any], Any]) -> None:
    scheduler = build(sgd(0.1))
    with pytest.warns(UserWarning, match=r"scheduler.step\(\) was called before optimizer.step\(\)") as caught:
        scheduler.step()
    scheduler.step()
    assert [warning.filename for warning in caught] == [__file__]
