"""Schedulers made of schedulers: what is refused, which values they bind, the state, and the rule of the chain."""

import json
from typing import Any

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
    OneCycleLR,
    ParamScheduler,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from lucid_train.schedules import Chain, Cyclic, Exponential, Linear, Step
from tests.support.optimizers import Bare, with_momentum
from tests.support.schedules import inverse_lr


def joined(optimizer: Any, gamma: float = 0.5) -> SequentialLR:
    return SequentialLR(optimizer, [LinearLR(optimizer, 0.5, total_iters=2), ExponentialLR(optimizer, gamma)], [2])


def test_each_part_starts_from_its_beginning() -> None:
    scheduler = joined(with_momentum(1.0))
    assert scheduler.last_lr == [0.5]
    assert [scheduler.lr_at(t)[0] for t in range(5)] == [0.5, 0.75, 1.0, 0.5, 0.25]


def test_what_is_bound_is_the_value_that_the_schedules_of_the_parts_are_joined_to() -> None:
    scheduler = joined(with_momentum(1.0))
    assert scheduler.schedule == Linear(0.5, total_iters=2).until(2).then(Exponential(0.5))
    optimizer = with_momentum(1.0)
    chain = ChainedScheduler([StepLR(optimizer, 2), joined(optimizer)])
    assert chain.schedule == Chain([Step(2), scheduler.schedule])


def test_a_part_that_is_stepped_all_the_same_is_overwritten_and_named() -> None:
    optimizer = with_momentum(1.0)
    part = ExponentialLR(optimizer, 0.5)
    scheduler = SequentialLR(optimizer, [part, StepLR(optimizer, 1)], [5])
    scheduler.step()
    with pytest.warns(UserWarning, match="the 'lr' of group 0 was 1.0 and is 0.5 now, .*; ExponentialLR"):
        part.step()
    part.step()
    with pytest.warns(UserWarning, match="the 'lr' of group 0 was 0.5 and is 0.25 now, .*; SequentialLR"):
        scheduler.step()
    assert scheduler.last_lr == [0.25]


def test_a_stepped_part_is_refused() -> None:
    optimizer = with_momentum(1.0)
    first = StepLR(optimizer, 2)
    first.step()
    with pytest.raises(ValueError, match=r"'schedulers\[0\]' must not have been stepped: StepLR"):
        SequentialLR(optimizer, [first], [])
    with pytest.raises(ValueError, match=r"'schedulers\[0\]' must not have been stepped: StepLR"):
        ChainedScheduler([first])


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        (
            lambda opt: StepLR(opt, 1),
            lambda opt: StepLR(opt, 1, base_lrs=[2.0]),
            r"base rates of those before it, \[1.0\]: StepLR",
        ),
        (
            lambda opt: ParamScheduler(opt, momentum=Exponential(0.5)),
            lambda opt: (
                opt.param_groups[0].update(initial_momentum=0.5) or ParamScheduler(opt, momentum=Exponential(0.25))
            ),
            r"base momentum of those before it, \[0.9\]: ParamScheduler",
        ),
    ],
)
def test_parts_that_start_from_different_bases_are_refused(first: Any, second: Any, what: str) -> None:
    optimizer = with_momentum(1.0)
    parts = [first(optimizer), second(optimizer)]
    with pytest.raises(ValueError, match=rf"'schedulers\[1\]' must have the {what}"):
        SequentialLR(optimizer, parts, [3])
    with pytest.raises((ValueError, TypeError), match=r"'schedulers\[1\]' must (have|set)"):
        ChainedScheduler(parts)


def test_base_rates_given_to_all_parts_are_those_of_the_whole() -> None:
    optimizer = with_momentum(1.0)
    parts = [ExponentialLR(optimizer, gamma, base_lrs=[2.0]) for gamma in (0.5, 0.25)]
    scheduler = SequentialLR(optimizer, parts, [3])
    assert (scheduler.base_lrs, scheduler.last_lr) == ([2.0], [2.0])
    scheduler.step()  # a warning would be an error
    assert scheduler.last_lr == [1.0]


@pytest.mark.parametrize(
    ("parts", "milestones", "error", "message"),
    [
        (3, [], TypeError, "'schedulers' must be a list of schedulers: 3"),
        ([], [], ValueError, r"'schedulers' must hold at least one scheduler: \[\]"),
        ([3], [], TypeError, r"'schedulers\[0\]' must be a scheduler of this library: 3"),
        ("ab", [1], TypeError, "'schedulers' must be a list of schedulers: 'ab'"),
    ],
)
def test_wrong_parts_are_refused(parts: Any, milestones: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        SequentialLR(with_momentum(1.0), parts, milestones)


@pytest.mark.parametrize(
    ("milestones", "error", "message"),
    [
        ([1], ValueError, r"'milestones' must be one less than the 3 parts: \[1\]"),
        ([3, 3], ValueError, r"'milestones' must rise: \[3, 3\]"),
        ([4, 3], ValueError, r"'milestones' must rise: \[4, 3\]"),
        ([0, 3], ValueError, r"'milestones\[0\]' must be >= 1: 0"),
        ([1, 2.5], TypeError, r"'milestones\[1\]' must be an int: 2.5"),
        ([1, "50%"], TypeError, r"'milestones\[1\]' must be an int: '50%'"),
        (5, TypeError, "'milestones' must be a list of epochs: 5"),
        ("12", TypeError, "'milestones' must be a list of epochs: '12'"),
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


@pytest.mark.parametrize(
    "last",
    [
        lambda opt: CyclicLR(opt, 0.1, 1.0, cycle_momentum=False),
        lambda opt: OneCycleLR(opt, [1.0], 9),
        lambda opt: LRScheduler(opt, [Cyclic(0.1, 1.0)]),
    ],
)
def test_what_does_not_start_from_base_rates_comes_first_in_a_chain(last: Any) -> None:
    optimizer = with_momentum(1.0)
    with pytest.raises((TypeError, ValueError), match=r"\[1\]' must (depend on its base|set the rates alone), or come"):
        ChainedScheduler([StepLR(optimizer, 1), last(optimizer)])
    chain = ChainedScheduler([last(optimizer), ExponentialLR(optimizer, 0.5)])
    assert chain.lr_at(1)[0] == last(with_momentum(1.0)).lr_at(1)[0] / 2


def test_what_sets_more_than_the_rates_comes_first_in_a_chain() -> None:
    optimizer = with_momentum(1.0)
    both = ParamScheduler(optimizer, lr=Exponential(0.5), momentum=Exponential(0.5))
    with pytest.raises(TypeError, match=r"'schedulers\[1\]' must set the rates alone, or come first: ParamScheduler"):
        ChainedScheduler([StepLR(optimizer, 1), both])
    chain = ChainedScheduler([both, ExponentialLR(optimizer, 0.5)])
    chain.step()
    chain.step()
    assert (chain.last_lr, optimizer.param_groups[0]["momentum"]) == ([0.0625], 0.225)


def test_a_schedule_of_ones_own_may_be_any_link() -> None:
    optimizer = with_momentum(1.0)
    chain = ChainedScheduler([ExponentialLR(optimizer, 0.5), inverse_lr(optimizer)])
    assert [chain.lr_at(t)[0] for t in range(3)] == [1.0, 0.25, 0.25 / 3]


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


def test_a_momentum_that_a_part_leaves_standing_is_written_by_a_jump_and_by_loading() -> None:
    def built() -> SequentialLR:
        optimizer = with_momentum(1.0)
        parts = [CyclicLR(optimizer, 0.1, 1.0, 1, max_momentum=0.95, base_momentum=0.5), StepLR(optimizer, 9)]
        return SequentialLR(optimizer, parts, [2])

    scheduler = built()
    for _ in range(5):
        scheduler.step()
    loaded = built()
    loaded.load_state_dict(scheduler.state_dict())
    assert loaded.optimizer.param_groups == scheduler.optimizer.param_groups
    assert loaded.optimizer.param_groups[0]["momentum"] == 0.5
    optimizer = with_momentum(1.0)
    parts = [CyclicLR(optimizer, 0.1, 1.0, 1, max_momentum=0.95, base_momentum=0.5), StepLR(optimizer, 9)]
    SequentialLR(optimizer, parts, [2], last_epoch=7)
    assert optimizer.param_groups[0]["momentum"] == 0.5


def test_a_key_that_comes_with_a_later_part_stands_until_then() -> None:
    optimizer = Bare(1.0, weight_decay=0.5)
    parts = [StepLR(optimizer, 1), ParamScheduler(optimizer, weight_decay=Exponential(0.5))]
    scheduler = SequentialLR(optimizer, parts, [2])
    seen = []
    for _ in range(5):
        seen.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]))
        scheduler.step()
    assert seen == [(1.0, 0.5), (0.1, 0.5), (0.1, 0.5), (0.1, 0.25), (0.1, 0.125)]


def test_the_state_holds_each_part() -> None:
    assert joined(with_momentum(1.0)).state_dict() == {
        "milestones": [2],
        "last_epoch": 0,
        "base_lrs": [1.0],
        "parts": [
            {"class": "Linear", "start_factor": 0.5, "end_factor": 1.0, "total_iters": 2},
            {"class": "Exponential", "gamma": 0.5},
        ],
    }
    optimizer = with_momentum(1.0)
    assert ChainedScheduler([StepLR(optimizer, 2), ExponentialLR(optimizer, 0.5)]).state_dict() == {
        "parts": [{"class": "Step", "step_size": 2, "gamma": 0.1}, {"class": "Exponential", "gamma": 0.5}],
        "last_epoch": 0,
        "base_lrs": [1.0],
    }


def test_the_state_of_several_keys_holds_each_by_its_name_and_a_part_without_one_as_none() -> None:
    optimizer = with_momentum(1.0)
    parts = [StepLR(optimizer, 2), CyclicLR(optimizer, 0.25, 1.0, 2, max_momentum=0.75, base_momentum=0.5)]
    scheduler = SequentialLR(optimizer, parts, [4])
    cyclic = {"class": "Cyclic", "step_size_up": 2, "step_size_down": 2, "mode": "triangular"}
    cyclic |= {"gamma": 1.0, "scale_mode": "cycle"}
    step = {"class": "Step", "step_size": 2, "gamma": 0.1}
    assert scheduler.state_dict() == {
        "lr": {
            "class": "Sequence",
            "parts": [step, {**cyclic, "base_lr": 0.25, "max_lr": 1.0}],
            "milestones": [4],
        },
        "momentum": {
            "class": "Sequence",
            "parts": [None, {**cyclic, "base_lr": 0.75, "max_lr": 0.5}],
            "milestones": [4],
        },
        "base_lrs": [1.0],
        "base_momentum": [0.75],
        "last_epoch": 0,
    }


def test_a_conflict_in_a_part_is_refused_unless_one_side_is_preferred() -> None:
    state = json.loads(json.dumps({**joined(with_momentum(1.0), 0.25).state_dict(), "last_epoch": 3}))
    scheduler = joined(with_momentum(1.0))
    with pytest.raises(ValueError, match=r"'parts\[1\].gamma' is 0.5 here and 0.25 there; pass prefer="):
        scheduler.load_state_dict(state)
    assert scheduler.last_lr == [0.5]
    scheduler.load_state_dict(state, prefer="constructor")
    assert (scheduler.last_epoch, scheduler.last_lr) == (3, [0.5])
    scheduler.load_state_dict(state, prefer="state")
    assert scheduler.last_lr == [0.25]


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (3, TypeError, "'state' must be a dict: 3"),
        ({}, ValueError, "the state of the SequentialLR does not fit: 'base_lrs' is missing, 'last_epoch' is missing"),
        ({"parts": [{}]}, ValueError, r"'parts\[0\].class' is missing, 'parts\[0\].end_factor' is missing"),
        ({"parts": [{}, {}]}, ValueError, r"'parts\[1\].class' is missing, 'parts\[1\].gamma' is missing"),
        ({"_schedulers": [{}], "_last_lr": [1.0]}, ValueError, "must have as many schedulers as are composed, 2: 1"),
        ({"_last_lr": [1.0]}, ValueError, "the state must have as many schedulers as are composed, 2: none"),
    ],
)
def test_a_state_that_is_none_is_refused(state: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        joined(with_momentum(1.0)).load_state_dict(state)


def test_a_state_with_a_wrong_part_changes_nothing() -> None:
    scheduler = joined(with_momentum(1.0))
    before = scheduler.state_dict()
    state = json.loads(json.dumps(before))
    state["parts"][0]["total_iters"] = 7
    state["parts"][1]["gamma"] = -1
    with pytest.raises(ValueError, match="'gamma' must be > 0: -1"):
        scheduler.load_state_dict(state, prefer="state")
    assert scheduler.state_dict() == before


def test_the_repr_shows_what_is_bound() -> None:
    assert repr(joined(with_momentum(1.0))) == (
        "SequentialLR(lr=Linear(0.5, total_iters=2).until(2).then(Exponential(0.5)), last_epoch=0)"
    )
    optimizer = with_momentum(1.0)
    assert repr(ChainedScheduler([StepLR(optimizer, 2), ExponentialLR(optimizer, 0.5)])) == (
        "ChainedScheduler(lr=Chain([Step(2), Exponential(0.5)]), last_epoch=0)"
    )
