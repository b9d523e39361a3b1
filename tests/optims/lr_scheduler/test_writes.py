"""A value that other code has written since the last step: named once, where it can be known."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lucid_train.optims.lr_scheduler import (
    CosineAnnealingLR,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LRScheduler,
    OneCycleLR,
    ParamScheduler,
    StepLR,
)
from lucid_train.schedules import Exponential, Function, Linear
from tests.support.optimizers import Bare, LucidLike, Scalar, sgd
from tests.support.schedules import each_kind

OVERWRITTEN = "the {key!r} of group {index} was {before} and is {now} now, other code has written it; "


def written(key: str, index: int, before: float, now: float) -> str:
    """Return a pattern of the warning."""
    return re.escape(OVERWRITTEN.format(key=key, index=index, before=before, now=now)) + ".* overwrites it$"


@each_kind
@pytest.mark.parametrize("make", [Bare, LucidLike], ids=["plain", "engine"])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_it_is_named_once_and_overwritten(
    build: Callable[[Any], LRScheduler], make: Callable[..., Any], steps: int
) -> None:
    optimizer = make(0.1, 0.05)
    scheduler = build(optimizer)
    for _ in range(steps):
        scheduler.step()
    before = scheduler.last_lr[1]
    optimizer.param_groups[1]["lr"] = 9.0
    with pytest.warns(UserWarning, match=written("lr", 1, before, 9.0)) as caught:
        scheduler.step()
    assert [warning.filename for warning in caught] == [__file__]
    for epoch in range(steps + 2, steps + 5):
        scheduler.step()  # a warning would be an error
        assert scheduler.last_lr == scheduler.lr_at(epoch)


def test_each_occurrence_is_named() -> None:
    optimizer = Bare(0.5)
    scheduler = ExponentialLR(optimizer, 0.5)
    for epoch in range(3):
        optimizer.param_groups[0]["lr"] = 9.0
        with pytest.warns(UserWarning, match=written("lr", 0, 0.5 ** (epoch + 1), 9.0)) as caught:
            scheduler.step()
        assert len(caught) == 1


def test_of_several_keys_each_is_named() -> None:
    optimizer = Bare(0.5, weight_decay=0.25, momentum=0.9)
    scheduler = ParamScheduler(
        optimizer, lr=Exponential(0.5), weight_decay=Exponential(0.5), momentum=Linear(0.5, total_iters=4)
    )
    scheduler.step()
    optimizer.param_groups[0].update(lr=3.0, momentum=0.1)
    with pytest.warns(UserWarning, match="other code has written it") as caught:
        scheduler.step()
    patterns = [written("lr", 0, 0.25, 3.0), written("momentum", 0, 0.5625, 0.1)]
    assert len(caught) == 2
    assert all(re.match(pattern, str(each.message)) for pattern, each in zip(patterns, caught, strict=True))
    assert optimizer.param_groups[0] == {
        "lr": 0.125,
        "weight_decay": 0.0625,
        "momentum": 0.675,
        "initial_lr": 0.5,
        "initial_weight_decay": 0.25,
        "initial_momentum": 0.9,
    }


@pytest.mark.parametrize("build", [lambda opt: OneCycleLR(opt, 1.0, 20), lambda opt: CyclicLR(opt, 0.1, 1.0, 5)])
def test_a_momentum_is_named_and_the_first_of_the_betas_as_the_momentum(build: Callable[[Any], LRScheduler]) -> None:
    for options, name in (({"momentum": 0.9}, "momentum"), ({"betas": (0.9, 0.999)}, "betas")):
        optimizer = Bare(0.1, **options)
        scheduler = build(optimizer)
        scheduler.step()
        held = optimizer.param_groups[0][name]
        optimizer.param_groups[0][name] = 0.25 if name == "momentum" else (0.25, 0.999)
        before = held if name == "momentum" else held[0]
        with pytest.warns(UserWarning, match=written("momentum", 0, before, 0.25)) as caught:
            scheduler.step()
        assert len(caught) == 1
        scheduler.step()  # a warning would be an error


def test_another_second_beta_is_kept_and_not_named() -> None:
    optimizer = Bare(0.1, betas=(0.9, 0.999))
    scheduler = CyclicLR(optimizer, 0.1, 1.0, 2, base_momentum=0.5, max_momentum=0.75)
    scheduler.step()
    optimizer.param_groups[0]["betas"] = (0.625, 0.5)
    scheduler.step()  # a warning would be an error
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.5)


@pytest.mark.parametrize("value", [0.1, 0.1 * (1 + 1e-9), np.float64(9.0), np.float32(9.0), 9], ids=repr)
def test_an_equal_value_and_other_numbers_than_floats_are_not_named(value: Any) -> None:
    optimizer = Bare(0.1)
    scheduler = StepLR(optimizer, 2, 0.5)
    scheduler.step()
    optimizer.param_groups[0]["lr"] = float(repr(value)) if type(value) is float else value
    scheduler.step()  # a warning would be an error
    assert scheduler.last_lr == [0.05]


@pytest.mark.parametrize("make", [np.array, Scalar], ids=["array", "tensor-like"])
@each_kind
def test_what_is_filled_in_place_is_never_read_back(build: Callable[[Any], LRScheduler], make: Any) -> None:
    optimizer = Bare(make(0.1), make(0.05))
    scheduler = build(optimizer)
    for epoch in range(1, 5):
        optimizer.param_groups[0]["lr"] = make(9.0)
        scheduler.step()  # a warning would be an error
        assert scheduler.last_lr == [float(make(rate)) for rate in scheduler.lr_at(epoch)]


@each_kind
def test_a_loaded_state_has_the_last_word_in_silence(build: Callable[[Any], LRScheduler]) -> None:
    optimizer = sgd(0.1, 0.05)
    scheduler = build(optimizer)
    optimizer.step()
    scheduler.step()
    state = scheduler.state_dict()
    optimizer.param_groups[0]["lr"] = 9.0
    scheduler.load_state_dict(state)
    scheduler.step()  # a warning would be an error
    assert scheduler.last_lr == scheduler.lr_at(2)


def test_an_optimizer_that_was_loaded_after_its_scheduler_has_the_same_rates() -> None:
    first, second = sgd(0.1), sgd(0.1)
    scheduler, resumed = (CosineAnnealingLR(optimizer, 9) for optimizer in (first, second))
    for _ in range(3):
        first.step()
        scheduler.step()
    resumed.load_state_dict(scheduler.state_dict())
    second.load_state_dict(first.state_dict())
    second.step()
    resumed.step()  # a warning would be an error
    assert resumed.last_lr == scheduler.lr_at(4)


def test_a_group_that_is_new_is_not_named() -> None:
    optimizer = Bare(0.1)
    scheduler = StepLR(optimizer, 1, 0.5)
    scheduler.step()
    optimizer.param_groups.append({"lr": 0.4})
    scheduler.step()  # a warning would be an error
    assert scheduler.last_lr == [0.025, 0.1]


def test_a_value_is_written_before_the_warning_that_may_be_an_error() -> None:
    optimizer = Bare(0.5)
    scheduler = ExponentialLR(optimizer, 0.5)
    optimizer.param_groups[0]["lr"] = 9.0
    with pytest.raises(UserWarning, match="other code has written it"):
        scheduler.step()
    assert (scheduler.last_epoch, scheduler.last_lr) == (1, [0.25])
    scheduler.step()
    assert (scheduler.last_epoch, scheduler.last_lr) == (2, [0.125])


@pytest.mark.parametrize("error", [OverflowError, KeyError])
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_step_that_fails_for_one_key_leaves_the_others_as_they_were(error: type[Exception], steps: int) -> None:
    def broken(t: int) -> float:
        if t > steps:
            raise error(t)
        return 1.0

    optimizer = Bare(0.5, weight_decay=0.25)
    scheduler = ParamScheduler(optimizer, lr=Exponential(0.5), weight_decay=Function(broken))
    for _ in range(steps):
        scheduler.step()
    before = [dict(group) for group in optimizer.param_groups]
    for _ in range(2):
        with pytest.raises(error, match=f"{steps + 1}$"):
            scheduler.step()
        assert (scheduler.last_epoch, optimizer.param_groups) == (steps, before)


def test_a_step_that_fails_for_one_group_leaves_the_others_as_they_were() -> None:
    scheduler = LambdaLR(Bare(0.5, 0.25), [lambda t: 0.5**t, lambda t: 1.0 if t < 3 else -1.0])
    scheduler.step()
    scheduler.step()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"must be >= 0 and finite: \[0.0625, -0.25\] in epoch 3"):
            scheduler.step()
        assert (scheduler.last_epoch, scheduler.last_lr) == (2, [0.125, 0.25])
