"""A schedule's state: plain JSON, resumed anywhere to the last bit, refused as a whole or taken as a whole."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_train.optims.lr_scheduler import CosineAnnealingLR, ExponentialLR, LRScheduler, StepLR
from tests.support.optimizers import Bare
from tests.support.schedules import InverseLR, walk


class MilestoneLR(LRScheduler):
    """A user's own with a setting that JSON has another type for."""

    def __init__(self, optimizer: Any, milestones: Sequence[int]) -> None:
        self.milestones = milestones
        super().__init__(optimizer)

    def linear(self, t: int) -> tuple[float, float]:
        return 0.1 ** sum(t >= milestone for milestone in self.milestones), 0.0


Build = Callable[[Any], LRScheduler]
KINDS: dict[str, Build] = {
    "step": lambda optimizer: StepLR(optimizer, 3, 0.7),
    "exponential": lambda optimizer: ExponentialLR(optimizer, 0.93),
    "cosine, restart": lambda optimizer: CosineAnnealingLR(optimizer, 7, 1e-3),
    "cosine, hold": lambda optimizer: CosineAnnealingLR(optimizer, 7, 1e-3, after="hold"),
    "cosine, mirror": lambda optimizer: CosineAnnealingLR(optimizer, 7, after="mirror"),
    "by rates": InverseLR,
    "milestones": lambda optimizer: MilestoneLR(optimizer, (3, 9)),
}
EPOCHS = 24
each_kind = pytest.mark.parametrize("build", [pytest.param(build, id=name) for name, build in KINDS.items()])


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(json.dumps(state, allow_nan=False))
    return loaded


@each_kind
def test_every_cut_point_resumes_to_the_last_bit(build: Build) -> None:
    whole = walk(build(Bare(0.1, 0.03)), EPOCHS)
    for cut in range(EPOCHS):
        first = build(Bare(0.1, 0.03))
        before = walk(first, cut)
        second = build(Bare(0.1, 0.03))
        second.load_state_dict(through_json(first.state_dict()))
        assert before + walk(second, EPOCHS - cut) == whole


@each_kind
@given(legs=st.lists(st.integers(0, 5), max_size=8))
def test_any_number_of_cycles_resumes_to_the_last_bit(build: Build, legs: list[int]) -> None:
    scheduler = build(Bare(0.1, 0.03))
    seen: list[list[float]] = []
    for leg in legs:
        seen += walk(scheduler, leg)
        state = through_json(scheduler.state_dict())
        scheduler = build(Bare(0.1, 0.03))
        scheduler.load_state_dict(state)
        assert scheduler.state_dict() == state
    assert seen == walk(build(Bare(0.1, 0.03)), sum(legs))


@each_kind
def test_loading_writes_the_rates_whatever_the_optimizer_had(build: Build) -> None:
    first = build(Bare(0.1, 0.03))
    walk(first, 5)
    optimizer = Bare(0.5, 0.5)
    second = build(optimizer)
    second.load_state_dict(first.state_dict())
    assert [group["lr"] for group in optimizer.param_groups] == first.last_lr
    assert (second.last_epoch, second.base_lrs) == (5, [0.1, 0.03])


def test_the_states_in_full() -> None:
    step = StepLR(Bare(0.1, 0.2), 3)
    step.step()
    assert step.state_dict() == {"step_size": 3, "gamma": 0.1, "last_epoch": 1, "base_lrs": [0.1, 0.2]}
    assert ExponentialLR(Bare(1), 1).state_dict() == {"gamma": 1.0, "last_epoch": 0, "base_lrs": [1.0]}
    assert CosineAnnealingLR(Bare(0.1), 5, after="hold").state_dict() == {
        "T_max": 5,
        "eta_min": 0.0,
        "after": "hold",
        "last_epoch": 0,
        "base_lrs": [0.1],
    }


def test_a_state_shares_nothing_with_the_schedule() -> None:
    scheduler = MilestoneLR(Bare(0.1), [3])
    state = scheduler.state_dict()
    state["base_lrs"].append(1.0)
    state["milestones"].append(4)
    assert scheduler.state_dict() == {"milestones": [3], "last_epoch": 0, "base_lrs": [0.1]}
    other = MilestoneLR(Bare(0.1), [7])
    state = scheduler.state_dict()
    other.load_state_dict(state, prefer="state")
    state["base_lrs"].append(1.0)
    state["milestones"].append(4)
    assert other.state_dict() == scheduler.state_dict()


def test_loading_goes_back_as_well_as_forward() -> None:
    scheduler = ExponentialLR(Bare(0.1), 0.5)
    start = scheduler.state_dict()
    walk(scheduler, 4)
    scheduler.load_state_dict(start)
    assert (scheduler.last_epoch, scheduler.last_lr) == (0, [0.1])


CONFLICTS: list[tuple[Build, dict[str, Any], str]] = [
    (KINDS["step"], {"gamma": 0.5}, "'gamma' is 0.7 here and 0.5 there"),
    (KINDS["step"], {"step_size": 4, "gamma": 0.5}, "'step_size' is 3 here and 4 there, 'gamma' is 0.7 here and 0.5"),
    (KINDS["cosine, restart"], {"T_max": 8}, "'T_max' is 7 here and 8 there"),
    (KINDS["cosine, restart"], {"after": "hold"}, "'after' is 'restart' here and 'hold' there"),
]


@pytest.mark.parametrize(("build", "change", "message"), CONFLICTS, ids=[case[2] for case in CONFLICTS])
def test_a_conflict_is_refused_unless_the_caller_says_which_side_wins(
    build: Build, change: dict[str, Any], message: str
) -> None:
    scheduler = build(Bare(0.1))
    walk(scheduler, 2)
    own, rates = scheduler.state_dict(), scheduler.last_lr
    state = own | change | {"last_epoch": 5}
    with pytest.raises(ValueError, match=f"^the state contradicts the constructor: {message}.*; pass prefer= to say"):
        scheduler.load_state_dict(state)
    assert (scheduler.state_dict(), scheduler.last_lr) == (own, rates)
    scheduler.load_state_dict(state, prefer="constructor")
    assert (scheduler.state_dict(), scheduler.last_lr) == (own | {"last_epoch": 5}, scheduler.lr_at(5))
    scheduler.load_state_dict(state, prefer="state")
    assert (scheduler.state_dict(), scheduler.last_lr) == (state, scheduler.lr_at(5))


def test_an_unknown_preference_is_refused() -> None:
    scheduler = StepLR(Bare(0.1), 3)
    with pytest.raises(ValueError, match="'prefer' must be one of 'constructor', 'state': 'mine'"):
        scheduler.load_state_dict(scheduler.state_dict(), prefer="mine")


def test_the_preferred_constructor_does_not_look_at_the_states_settings() -> None:
    scheduler = StepLR(Bare(0.1), 3, 0.5)
    scheduler.load_state_dict({"step_size": 0, "gamma": "?", "last_epoch": 3, "base_lrs": [0.1]}, prefer="constructor")
    assert (scheduler.last_lr, scheduler.step_size) == ([0.05], 3)


STATE = {"T_max": 7, "eta_min": 0.01, "after": "restart", "last_epoch": 3, "base_lrs": [0.1, 0.2]}


def changed(**entries: Any) -> dict[str, Any]:
    return {**STATE, **entries}


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (None, TypeError, "'state' must be a dict: None"),
    ([("T_max", 7)], TypeError, "'state' must be a dict: [('T_max', 7)]"),
    ({}, ValueError, "it lacks 'T_max', lacks 'base_lrs', lacks 'eta_min', lacks 'last_epoch'"),
    (changed(gamma=0.1), ValueError, "the state is not one of class CosineAnnealingLR: it has 'gamma'"),
    ({**StepLR(Bare(0.1), 3).state_dict()}, ValueError, "lacks 'T_max', lacks 'eta_min', has 'gamma', has 'step_size'"),
    (changed(last_epoch=-1), ValueError, "'last_epoch' must be >= 0: -1"),
    (changed(last_epoch=2.5), TypeError, "'last_epoch' must be an int: 2.5"),
    (changed(last_epoch="3"), TypeError, "'last_epoch' must be an int: '3'"),
    (changed(last_epoch=None), TypeError, "'last_epoch' must be an int: None"),
    (changed(last_epoch=True), TypeError, "'last_epoch' must be an int: True"),
    (changed(base_lrs=None), TypeError, "'base_lrs' must be a list with one rate per group: None"),
    (changed(base_lrs=0.1), TypeError, "'base_lrs' must be a list with one rate per group: 0.1"),
    (changed(base_lrs="ab"), TypeError, "'base_lrs' must be a list with one rate per group: 'ab'"),
    (changed(base_lrs=[0.1, "0.2"]), TypeError, "'base_lrs[1]' must be a number: '0.2'"),
    (changed(base_lrs=[0.1, -0.2]), ValueError, "'base_lrs[1]' must be >= 0: -0.2"),
    (changed(base_lrs=[0.1, float("nan")]), ValueError, "'base_lrs[1]' must be >= 0 and finite: nan"),
    (changed(base_lrs=[0.1, float("inf")]), ValueError, "'base_lrs[1]' must be >= 0 and finite: inf"),
    (changed(base_lrs=[0.1] * 3), ValueError, "'optimizer' must have the 3 groups that the schedule knows: 2"),
    (changed(base_lrs=[0.1, 0.001]), ValueError, "'eta_min' must be <= the base rate 0.001 of group 1: 0.01"),
    (changed(T_max=0), ValueError, "'T_max' must be >= 1: 0"),
    (changed(T_max=7.5), TypeError, "'T_max' must be an int: 7.5"),
    (changed(T_max=None), TypeError, "'T_max' must be an int: None"),
    (changed(eta_min=-1), ValueError, "'eta_min' must be >= 0: -1.0"),
    (changed(eta_min=float("nan")), ValueError, "'eta_min' must be >= 0 and finite: nan"),
    (changed(after="stop"), ValueError, "'after' must be one of 'restart', 'hold', 'mirror': 'stop'"),
    (changed(after=None), ValueError, "'after' must be one of 'restart', 'hold', 'mirror': None"),
]


@pytest.mark.parametrize(("state", "error", "message"), REFUSED, ids=[case[2] for case in REFUSED])
def test_a_bad_state_is_refused_and_nothing_has_changed(state: Any, error: type[Exception], message: str) -> None:
    optimizer = Bare(0.3, 0.4)
    scheduler = CosineAnnealingLR(optimizer, 7, 0.01)
    walk(scheduler, 2)
    own, attributes, rates = scheduler.state_dict(), dict(vars(scheduler)), scheduler.last_lr
    with pytest.raises(error, match=re.escape(message)):
        scheduler.load_state_dict(state, prefer="state")
    assert (scheduler.state_dict(), vars(scheduler), scheduler.last_lr) == (own, attributes, rates)
    assert walk(scheduler, 20) == [scheduler.lr_at(t) for t in range(2, 22)]


def test_a_state_whose_rates_overflow_is_refused_and_nothing_has_changed() -> None:
    scheduler = ExponentialLR(Bare(1.0), 2)
    with pytest.raises(OverflowError, match="exceed the largest float in epoch 5000"):
        scheduler.load_state_dict({"gamma": 2.0, "last_epoch": 5000, "base_lrs": [1.0]})
    assert (scheduler.last_epoch, scheduler.last_lr) == (0, [1.0])


def test_a_group_that_the_state_does_not_know_keeps_its_own_base_rate() -> None:
    old = ExponentialLR(Bare(0.1), 0.5)
    walk(old, 2)
    scheduler = ExponentialLR(Bare(0.1, 0.8), 0.5)
    walk(scheduler, 3)
    scheduler.load_state_dict(old.state_dict())
    assert (scheduler.base_lrs, scheduler.last_lr) == ([0.1, 0.8], [0.025, 0.2])


@given(base_lr=st.floats(1e-6, 10), gamma=st.floats(0.5, 1.1), t=st.integers(0, 1000))
def test_the_rate_of_a_loaded_epoch_has_no_history(base_lr: float, gamma: float, t: int) -> None:
    scheduler = ExponentialLR(Bare(0.1), gamma)
    scheduler.load_state_dict({"gamma": gamma, "last_epoch": t, "base_lrs": [base_lr]})
    assert scheduler.last_lr == [base_lr * gamma**t]


def test_a_refused_state_leaves_no_attribute_behind() -> None:
    class Noting(ExponentialLR):
        def validate(self) -> None:
            super().validate()
            if self.gamma > 1:
                self.growing = True
                raise ValueError("it would grow")

    scheduler = Noting(Bare(1.0), 0.5)
    scheduler.step()
    before, attributes = scheduler.state_dict(), set(vars(scheduler))
    with pytest.raises(ValueError, match="it would grow"):
        scheduler.load_state_dict({**before, "gamma": 2.0}, prefer="state")
    assert (scheduler.state_dict(), set(vars(scheduler)), scheduler.last_lr) == (before, attributes, [0.5])
