"""Copies of a schedule live by themselves, and nothing of it outlives it."""

import copy
import gc
import pickle
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from lucid_train.optims import SGD
from lucid_train.optims.lr_scheduler import LRScheduler, StepLR
from tests.support.optimizers import Bare, ByValue, LucidLike, sgd
from tests.support.schedules import each_kind


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda scheduler: pickle.loads(pickle.dumps(scheduler))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("make", [Bare, LucidLike, sgd])
@each_kind
def test_a_copy_goes_on_by_itself(
    build: Callable[[Any], LRScheduler], make: Callable[..., Any], clone: Callable[[Any], Any], steps: int
) -> None:
    optimizer = make(0.1, 0.05)
    scheduler = build(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the order is not the point here
        for _ in range(steps):
            scheduler.step()
        twin = clone(scheduler)
        assert twin.optimizer is not optimizer
        assert (repr(twin), twin.last_lr) == (repr(scheduler), scheduler.last_lr)
        twin.step()
        assert (scheduler.last_epoch, scheduler.last_lr) == (steps, scheduler.lr_at(steps))
        scheduler.step()
    assert twin.state_dict() == scheduler.state_dict()
    assert build(twin.optimizer).base_lrs == [0.1, 0.05]


@pytest.mark.parametrize("steps", [0, 1, 3])
@each_kind
def test_a_shallow_copy_counts_by_itself_on_the_same_optimizer(build: Callable[[Any], LRScheduler], steps: int) -> None:
    optimizer = Bare(0.1, 0.05)
    scheduler = build(optimizer)
    for _ in range(steps):
        scheduler.step()
    twin = copy.copy(scheduler)
    assert (twin.optimizer, repr(twin), twin.state_dict()) == (optimizer, repr(scheduler), scheduler.state_dict())
    for epoch in range(steps + 1, steps + 8):
        twin.step()
        assert (twin.last_epoch, twin.last_lr) == (epoch, scheduler.lr_at(epoch))
    assert scheduler.last_epoch == steps
    scheduler.load_state_dict(scheduler.state_dict())
    scheduler.step()
    assert scheduler.last_lr == scheduler.lr_at(steps + 1)


def test_a_copy_does_not_know_what_the_first_one_was_surprised_by_and_is_not_surprised_by_itself() -> None:
    optimizer = Bare(0.4)
    scheduler = StepLR(optimizer, 2, 0.5)
    scheduler.step()
    twin = pickle.loads(pickle.dumps(scheduler))
    twin.step()  # a warning would be an error
    twin.optimizer.param_groups[0]["lr"] = 3.0
    with pytest.warns(UserWarning, match="the 'lr' of group 0 was 0.2 and is 3.0 now, other code has written it"):
        twin.step()
    scheduler.step()
    assert (twin.last_lr, scheduler.last_lr) == ([0.2], [0.2])


@pytest.mark.parametrize("make", [Bare, LucidLike, sgd, lambda rate: ByValue([{"lr": rate}])])
@each_kind
def test_dropping_schedule_and_optimizer_frees_both_at_once(
    build: Callable[[Any], LRScheduler], make: Callable[[float], Any]
) -> None:
    gc.disable()
    try:
        optimizer = make(0.1)
        first, second = build(optimizer), build(optimizer)
        if isinstance(optimizer, SGD):
            optimizer.step()
        second.step()
        references = [weakref.ref(thing) for thing in (first, second, optimizer)]
        del first, second, optimizer
        assert [reference() for reference in references] == [None, None, None]
    finally:
        gc.enable()


def test_the_optimizer_does_not_keep_a_schedule_alive() -> None:
    gc.disable()
    try:
        optimizer = sgd(0.1)
        reference = weakref.ref(StepLR(optimizer, 2))
        assert reference() is None
    finally:
        gc.enable()
