"""An optimizer that a schedule has been on before: the rate that it has may be a decayed one."""

import copy
import gc
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lucid_train.optims.lr_scheduler import CyclicLR, ExponentialLR, LRScheduler, OneCycleLR, StepLR
from tests.support.optimizers import Bare, ByValue, LucidLike, Scalar, with_momentum
from tests.support.schedules import each_kind


@each_kind
@pytest.mark.parametrize("steps", [1, 4, 5, 6])
@pytest.mark.parametrize(
    "make",
    [
        Bare,
        LucidLike,
        lambda *rates: ByValue([{"lr": rate} for rate in rates]),
        lambda *rates: Bare(*(np.array(rate, np.float16) for rate in rates)),
        lambda *rates: Bare(*(Scalar(rate) for rate in rates)),
    ],
    ids=["floats", "engine", "by value", "float16", "tensor-like"],
)
def test_a_schedule_built_anew_starts_from_the_base_rate(
    build: Callable[[Any], LRScheduler], make: Callable[..., Any], steps: int
) -> None:
    optimizer = make(0.1, 0.05)
    first = build(optimizer)
    start, base_lrs = first.last_lr, first.base_lrs
    for _ in range(steps):
        first.step()
    second = build(optimizer)
    assert (second.base_lrs, second.last_lr) == (base_lrs, start)


@pytest.mark.parametrize("make", [Bare, lambda rate: Bare(np.array(rate, np.float16)), lambda rate: Bare(Scalar(rate))])
def test_even_a_rate_that_has_decayed_to_zero_is_known(make: Callable[[float], Bare]) -> None:
    optimizer = make(0.5)
    first = ExponentialLR(optimizer, 1e-20)
    for _ in range(20):
        first.step()
    assert first.last_lr == [0.0]
    assert ExponentialLR(optimizer, 0.5).last_lr == [0.5]


def test_a_rate_that_the_user_has_set_since_is_the_new_base_rate() -> None:
    optimizer = Bare(0.1)
    ExponentialLR(optimizer, 0.5).step()
    optimizer.param_groups[0]["lr"] = 0.03
    assert ExponentialLR(optimizer, 0.5).base_lrs == [0.03]


def test_base_lrs_count_more_than_anything_remembered() -> None:
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.025, "initial_lr": 0.1}])
    scheduler = ExponentialLR(optimizer, 0.5, base_lrs=[0.4])
    assert (scheduler.base_lrs, scheduler.last_lr) == ([0.4], [0.4])


def test_pytorchs_initial_lr_is_the_base_rate_and_stays() -> None:
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.025, "initial_lr": 0.1}])
    scheduler = ExponentialLR(optimizer, 0.5, last_epoch=1)
    assert optimizer.param_groups == [{"lr": 0.025, "initial_lr": 0.1}]
    assert (scheduler.last_epoch, scheduler.base_lrs) == (2, [0.1])


def test_a_schedule_built_anew_can_stand_where_the_first_stood() -> None:
    optimizer = Bare(0.8)
    first = StepLR(optimizer, 2, 0.5)
    for _ in range(4):
        first.step()
    second = StepLR(optimizer, 2, 0.5, last_epoch=3)
    assert (second.last_epoch, second.last_lr, second.base_lrs) == (4, [0.2], [0.8])


@pytest.mark.parametrize("make", [Bare, LucidLike, lambda rate: ByValue([{"lr": rate}])], ids=["plain", "engine", "eq"])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_schedule_that_was_replaced_says_so_at_its_next_step(make: Callable[[float], Any], steps: int) -> None:
    optimizer = make(0.1)
    first = ExponentialLR(optimizer, 0.5)
    for _ in range(steps):
        first.step()
    second = StepLR(optimizer, 3)
    with pytest.raises(RuntimeError, match=r"ExponentialLR no longer sets these rates: StepLR\(.*\) was put on the"):
        first.step()
    second.step()
    assert (second.last_epoch, second.last_lr) == (1, [0.1])
    del second
    gc.collect()
    with pytest.raises(RuntimeError, match="no longer sets these rates: another schedule was put on the optimizer"):
        first.step()


def test_a_schedule_that_was_replaced_cannot_be_loaded_over_its_successor() -> None:
    optimizer = Bare(0.1)
    first = ExponentialLR(optimizer, 0.5)
    second = StepLR(optimizer, 3)
    with pytest.raises(RuntimeError, match=r"ExponentialLR no longer sets these rates: StepLR\("):
        first.load_state_dict(first.state_dict() | {"last_epoch": 5})
    assert (first.last_epoch, second.last_lr) == (0, [0.1])


def test_equal_optimizers_are_two() -> None:
    first, second = (StepLR(ByValue([{"lr": 0.1}]), 1, 0.5) for _ in range(2))
    first.step()
    second.step()
    assert (first.last_lr, second.last_lr) == ([0.05], [0.05])


@pytest.mark.parametrize(
    ("cycle", "base_lrs"),
    [
        (lambda optimizer: OneCycleLR(optimizer, [1.0, 0.5], 12, div_factor=4), [0.25, 0.125]),
        (lambda optimizer: CyclicLR(optimizer, [0.25, 0.125], [0.5, 1.0], 3), [0.25, 0.125]),
        (lambda optimizer: CyclicLR(optimizer, 0.25, 0.5, 3, cycle_momentum=False), [0.25, 0.25]),
    ],
    ids=["one cycle", "cyclic", "cyclic without momentum"],
)
@pytest.mark.parametrize("steps", [0, 1, 5, 12])
@pytest.mark.parametrize("make", [float, np.array, Scalar], ids=["float", "array", "tensor-like"])
def test_a_schedule_built_after_a_cycle_starts_where_the_cycle_did(
    cycle: Callable[[Any], LRScheduler], base_lrs: list[float], steps: int, make: Callable[[float], Any]
) -> None:
    optimizer = with_momentum(make(9.0), make(8.0))
    first = cycle(optimizer)
    for _ in range(steps):
        first.step()
    second = StepLR(optimizer, 2, 0.5)
    assert (second.base_lrs, second.last_lr) == (base_lrs, base_lrs)
    with pytest.raises(RuntimeError, match=r"no longer sets these rates: StepLR\("):
        first.step()


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_rate_that_the_user_has_set_after_a_cycle_is_the_new_base_rate(steps: int) -> None:
    optimizer = with_momentum(9.0, 8.0)
    first = CyclicLR(optimizer, 0.1, 0.5, 3)
    for _ in range(steps):
        first.step()
    optimizer.param_groups[1]["lr"] = 0.03
    assert StepLR(optimizer, 2).base_lrs == [0.1, 0.03]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["copy", "pickle"])
def test_a_schedule_built_after_a_copied_one_starts_from_the_base_rate(copied: Callable[[Any], Any]) -> None:
    first = ExponentialLR(Bare(0.5, 0.25), 0.5)
    first.step()
    assert StepLR(copied(first).optimizer, 2).last_lr == [0.5, 0.25]


def test_a_schedule_built_after_a_cycle_that_was_loaded_starts_where_the_cycle_did() -> None:
    optimizer = with_momentum(9.0)
    first = CyclicLR(optimizer, 0.25, 1.0, 4)
    for _ in range(3):
        first.step()
    first.load_state_dict({**first.state_dict(), "last_epoch": 2})
    assert (first.last_lr, StepLR(optimizer, 2).last_lr) == ([0.625], [0.25])
