"""Schedules made of schedules: what is refused, who drives, the state of the whole, and the rule of the chain."""

import json
from typing import Any

import numpy as np
import pytest

from lucid_train.optims.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from tests.support.optimizers import with_momentum
from tests.support.schedules import InverseLR


def joined(optimizer: Any, gamma: float = 0.5) -> SequentialLR:
    return SequentialLR(optimizer, [LinearLR(optimizer, 0.5, total_iters=2), ExponentialLR(optimizer, gamma)], [2])


def test_each_part_starts_from_its_beginning() -> None:
    scheduler = joined(with_momentum(1.0))
    assert scheduler.last_lr == [0.5]
    assert [scheduler.lr_at(t)[0] for t in range(5)] == [0.5, 0.75, 1.0, 0.5, 0.25]


def test_unordered_long_arrays_find_their_parts() -> None:
    scheduler = joined(with_momentum(1.0))
    epochs = np.random.default_rng(0).integers(0, 9, 70_000)
    assert (scheduler.lr_at(epochs) == np.array([scheduler.lr_at(t) for t in range(9)])[epochs]).all()


def test_a_part_no_longer_sets_the_rates_by_itself() -> None:
    scheduler = joined(with_momentum(1.0))
    for part in scheduler.schedulers:
        with pytest.raises(RuntimeError, match="no longer sets these rates: SequentialLR"):
            part.step()


def test_a_stepped_part_is_refused() -> None:
    optimizer = with_momentum(1.0)
    first = StepLR(optimizer, 2)
    first.step()
    with pytest.raises(ValueError, match=r"'schedulers\[0\]' must not have been stepped: StepLR"):
        SequentialLR(optimizer, [first], [])


@pytest.mark.parametrize(
    ("parts", "milestones", "error", "message"),
    [
        (3, [], TypeError, "'schedulers' must be a list of schedulers: 3"),
        ([], [], ValueError, r"'schedulers' must hold at least one scheduler: \[\]"),
        ([3], [], TypeError, r"'schedulers\[0\]' must be a scheduler of this library: 3"),
        ("ab", [1], TypeError, r"'schedulers\[0\]' must be a scheduler of this library: 'a'"),
        (2, 5, TypeError, "'milestones' must be a list of epochs: 5"),
    ],
)
def test_wrong_parts_are_refused(parts: Any, milestones: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        SequentialLR(with_momentum(1.0), parts, milestones)


@pytest.mark.parametrize(
    ("milestones", "error", "message"),
    [
        ([1], ValueError, r"'milestones' must be one less than the 3 schedulers: \[1\]"),
        ([3, 3], ValueError, r"'milestones' must rise: \[3, 3\]"),
        ([4, 3], ValueError, r"'milestones' must rise: \[4, 3\]"),
        ([0, 3], ValueError, r"'milestones\[0\]' must be >= 1: 0"),
        ([1, 2.5], TypeError, r"'milestones\[1\]' must be an int: 2.5"),
    ],
)
def test_wrong_milestones_are_refused(milestones: Any, error: Any, message: str) -> None:
    optimizer = with_momentum(1.0)
    with pytest.raises(error, match=message):
        SequentialLR(optimizer, [StepLR(optimizer, 1) for _ in range(3)], milestones)


@pytest.mark.parametrize("compose", [lambda opt, parts: SequentialLR(opt, parts, []), lambda _, p: ChainedScheduler(p)])
def test_a_metric_cannot_be_followed_in_a_composition(compose: Any) -> None:
    optimizer = with_momentum(1.0)
    with pytest.raises(TypeError, match=r"'schedulers\[0\]' must not follow a metric: ReduceLROnPlateau"):
        compose(optimizer, [ReduceLROnPlateau(optimizer)])


def test_parts_must_be_on_one_optimizer() -> None:
    with pytest.raises(ValueError, match=r"'schedulers\[1\]' must be on the same optimizer as the whole"):
        ChainedScheduler([StepLR(with_momentum(1.0), 1), StepLR(with_momentum(1.0), 1)])


@pytest.mark.parametrize("given", [[], 3])
def test_a_chain_of_nothing_is_refused(given: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="'schedulers' must"):
        ChainedScheduler(given)
    with pytest.raises(TypeError, match=r"'schedulers\[0\]' must be a scheduler of this library: 3"):
        ChainedScheduler([3])  # type: ignore[list-item]  # that is what is refused


def test_a_chain_is_a_product_where_the_parts_are_multiples() -> None:
    optimizer = with_momentum(1.0, 3.0)
    factors = [lambda t: 0.5**t, lambda t: 1 / (1 + t)]
    parts: list[LRScheduler] = [ConstantLR(optimizer, 0.25, 2), LambdaLR(optimizer, factors)]
    chain = ChainedScheduler([*parts, MultiplicativeLR(optimizer, lambda t: 0.9)])
    for t in range(6):
        first = 0.25 if t < 2 else 1.0
        assert chain.lr_at(t) == pytest.approx([first * 0.5**t * 0.9**t, 3 * first / (1 + t) * 0.9**t], rel=1e-14)


def test_each_link_starts_from_the_rates_of_the_one_before() -> None:
    optimizer = with_momentum(1.0)
    chain = ChainedScheduler([ExponentialLR(optimizer, 0.5), CosineAnnealingLR(optimizer, 2, 0.1)])
    assert chain.lr_at(1) == [pytest.approx(0.1 + (0.5 - 0.1) / 2)]
    assert chain.lr_at(2) == [0.1]


@pytest.mark.parametrize("last", [lambda opt: CyclicLR(opt, 0.1, 1.0), InverseLR])
def test_what_does_not_start_from_base_rates_comes_first_in_a_chain(last: Any) -> None:
    optimizer = with_momentum(1.0)
    with pytest.raises(TypeError, match=r"'schedulers\[1\]' must depend on its base rates alone, or come first"):
        ChainedScheduler([StepLR(optimizer, 1), last(optimizer)])
    chain = ChainedScheduler([last(optimizer), ExponentialLR(optimizer, 0.5)])
    assert chain.lr_at(1)[0] == last(with_momentum(1.0)).lr_at(1)[0] / 2


def test_a_sequence_may_be_a_link() -> None:
    optimizer = with_momentum(1.0)
    chain = ChainedScheduler([ExponentialLR(optimizer, 0.5), joined(optimizer)])
    assert [chain.lr_at(t)[0] for t in range(4)] == [0.5, 0.375, 0.25, 0.0625]


def test_the_momentum_of_a_part_is_cycled_while_it_lasts() -> None:
    optimizer = with_momentum(1.0)
    parts = [CyclicLR(optimizer, 0.1, 1.0, 1, max_momentum=0.95, base_momentum=0.5), StepLR(optimizer, 9)]
    scheduler = SequentialLR(optimizer, parts, [2])
    momenta = []
    for _ in range(4):
        momenta.append(optimizer.param_groups[0]["momentum"])
        scheduler.step()
    assert momenta == [0.95, 0.5, 0.5, 0.5]


def test_the_state_holds_each_part() -> None:
    assert joined(with_momentum(1.0)).state_dict() == {
        "milestones": [2],
        "last_epoch": 0,
        "base_lrs": [1.0],
        "schedulers": [
            {"start_factor": 0.5, "end_factor": 1.0, "total_iters": 2, "base_lrs": [1.0]},
            {"gamma": 0.5, "base_lrs": [1.0]},
        ],
    }


def test_a_conflict_in_a_part_is_refused_unless_one_side_is_preferred() -> None:
    state = json.loads(json.dumps({**joined(with_momentum(1.0), 0.25).state_dict(), "last_epoch": 3}))
    scheduler = joined(with_momentum(1.0))
    with pytest.raises(ValueError, match=r"'gamma' is 0.5 here and 0.25 there; pass prefer=") as caught:
        scheduler.load_state_dict(state)
    assert caught.value.__notes__ == ["in schedulers[1], ExponentialLR(gamma=0.5, last_epoch=0)"]
    assert scheduler.last_lr == [0.5]
    scheduler.load_state_dict(state, prefer="constructor")
    assert (scheduler.last_epoch, scheduler.last_lr) == (3, [0.5])
    scheduler.load_state_dict(state, prefer="state")
    assert scheduler.last_lr == [0.25]


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (3, TypeError, "'state' must be a dict: 3"),
        ({}, ValueError, "the state must have as many schedulers as are composed, 2: none"),
        ({"schedulers": [{}]}, ValueError, "the state must have as many schedulers as are composed, 2: 1"),
        ({"schedulers": [{}, {}]}, ValueError, "the state is not one of class LinearLR: it lacks 'base_lrs'"),
    ],
)
def test_a_state_that_is_none_is_refused(state: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        joined(with_momentum(1.0)).load_state_dict(state)


def test_a_state_with_a_wrong_part_changes_nothing() -> None:
    scheduler = joined(with_momentum(1.0))
    before = scheduler.state_dict()
    state = json.loads(json.dumps(before))
    state["schedulers"][0]["total_iters"] = 7
    state["schedulers"][1]["gamma"] = -1
    with pytest.raises(ValueError, match="'gamma' must be > 0: -1"):
        scheduler.load_state_dict(state, prefer="state")
    assert scheduler.state_dict() == before


def test_the_repr_shows_the_parts() -> None:
    optimizer = with_momentum(1.0)
    assert repr(SequentialLR(optimizer, [StepLR(optimizer, 2)], [])) == (
        "SequentialLR([StepLR(step_size=2, gamma=0.1, last_epoch=0)], milestones=[], last_epoch=0)"
    )
