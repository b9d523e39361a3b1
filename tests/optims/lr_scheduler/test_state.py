"""A schedule's state: plain JSON, resumed anywhere to the last bit, refused as a whole or taken as a whole."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from attrs import field, frozen
from attrs.validators import ge
from hypothesis import given
from hypothesis import strategies as st

from lucid_train.optims.lr_scheduler import CosineAnnealingLR, ExponentialLR, LRScheduler, StepLR
from lucid_train.schedules import WSD, Constant, Cosine, Linear, Schedule, Step, WarmRestarts
from tests.support.optimizers import Bare
from tests.support.schedules import inverse_lr, walk


@frozen
class Milestones(Schedule):
    """A user's own with a setting that JSON has another type for."""

    milestones: Sequence[int] = field(converter=tuple)

    def affine(self, t: int) -> tuple[float, float]:
        return 0.1 ** sum(t >= milestone for milestone in self.milestones), 0.0


def milestone_lr(optimizer: Any, milestones: Sequence[int] = (3, 9)) -> LRScheduler:
    return LRScheduler(optimizer, Milestones(milestones))


Build = Callable[[Any], LRScheduler]
KINDS: dict[str, Build] = {
    "step": lambda optimizer: StepLR(optimizer, 3, 0.7),
    "exponential": lambda optimizer: ExponentialLR(optimizer, 0.93),
    "cosine, restart": lambda optimizer: CosineAnnealingLR(optimizer, 7, 1e-3),
    "cosine, hold": lambda optimizer: CosineAnnealingLR(optimizer, 7, 1e-3, after="hold"),
    "cosine, mirror": lambda optimizer: CosineAnnealingLR(optimizer, 7, after="mirror"),
    "a user's own": inverse_lr,
    "a user's own with a setting": milestone_lr,
    "joined": lambda optimizer: LRScheduler(optimizer, Cosine(eta_min=1e-3).warmup("20%").sized(15)),
    "per group": lambda optimizer: LRScheduler(optimizer, [Step(3, 0.7), Linear(0.5).sized(9)][: len_of(optimizer)]),
}
EPOCHS = 24


def len_of(optimizer: Any) -> int:
    return len(optimizer.param_groups)


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
    warmed = LRScheduler(Bare(0.1), Cosine().warmup("20%").sized(10))
    assert warmed.state_dict() == {
        "parts": [
            {"class": "Linear", "start_factor": 0.1, "end_factor": 1.0, "total_iters": 2},
            {"class": "Cosine", "T_max": 8, "eta_min": 0.0, "after": "restart"},
        ],
        "milestones": [2],
        "last_epoch": 0,
        "base_lrs": [0.1],
    }
    assert LRScheduler(Bare(0.1, 0.2), [Step(3), Constant(0.5)]).state_dict() == {
        "lr": [
            {"class": "Step", "step_size": 3, "gamma": 0.1},
            {"class": "Constant", "factor": 0.5, "total_iters": None},
        ],
        "last_epoch": 0,
        "base_lrs": [0.1, 0.2],
    }


def test_a_state_shares_nothing_with_the_schedule() -> None:
    scheduler = milestone_lr(Bare(0.1), [3])
    state = scheduler.state_dict()
    state["base_lrs"].append(1.0)
    state["milestones"].append(4)
    assert scheduler.state_dict() == {"milestones": [3], "last_epoch": 0, "base_lrs": [0.1]}
    other = milestone_lr(Bare(0.1), [7])
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


MEASURED = [
    WSD(),
    WSD(2, 4),
    WSD("50%", "50%", start=0.5),
    WSD().skip(2),
    Constant().until("50%").then(WSD(1, 2)),
    WarmRestarts(cycles=4),
    WarmRestarts(cycles=2, gamma=0.5).warmup(4),
    Cosine().warmup("5%"),
]


@pytest.mark.parametrize("schedule", MEASURED, ids=repr)
def test_a_state_knows_the_length_that_its_schedule_was_sized_for(schedule: Schedule) -> None:
    here, there = schedule.sized(20), schedule.sized(40)
    scheduler, state = LRScheduler(Bare(0.1), here), LRScheduler(Bare(0.1), there).state_dict()
    with pytest.raises(ValueError, match=r"^the state contradicts the constructor: "):
        scheduler.load_state_dict(state)
    scheduler.load_state_dict(json.loads(json.dumps(state)), prefer="state")
    assert isinstance(scheduler.schedule, Schedule)
    assert scheduler.schedule.table(45) == there.table(45)


def test_restarts_that_do_not_divide_the_run_load_what_they_have_and_refuse_another_length() -> None:
    scheduler = LRScheduler(Bare(0.1), WarmRestarts(cycles=3).sized(20))
    scheduler.load_state_dict(scheduler.state_dict() | {"last_epoch": 5}, prefer="state")
    assert scheduler.schedule.table(25) == WarmRestarts(cycles=3).sized(20).table(25)  # type: ignore[union-attr]
    before, other = scheduler.state_dict(), LRScheduler(Bare(0.1), WarmRestarts(cycles=3).sized(40)).state_dict()
    for prefer, error in ((None, ValueError), ("state", TypeError)):
        with pytest.raises(error, match="'T_0'"):
            scheduler.load_state_dict(other, prefer=prefer)
    assert scheduler.state_dict() == before


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
    (
        {},
        ValueError,
        "'T_max' is missing, 'after' is missing, 'base_lrs' is missing, 'eta_min' is missing, 'last_epoch' is missing",
    ),
    (changed(gamma=0.1), ValueError, "the state of the CosineAnnealingLR does not fit: 'gamma' is unknown"),
    (
        {**StepLR(Bare(0.1), 3).state_dict()},
        ValueError,
        "'T_max' is missing, 'after' is missing, 'eta_min' is missing, 'gamma' is unknown, 'step_size' is unknown",
    ),
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
    (changed(T_max=0), ValueError, "'T_max' must be >= 1: 0"),
    (changed(T_max=7.5), TypeError, "'T_max' must be an int: 7.5"),
    (changed(T_max=None), ValueError, "'T_max' of Cosine(eta_min=0.01) needs the length of the run"),
    (changed(T_max="5%"), ValueError, "'T_max' of Cosine('5%', eta_min=0.01) needs the length of the run"),
    (changed(T_max="5"), ValueError, "'T_max' must be a share of the run, above 0% and at most 100%"),
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


def test_a_state_of_several_groups_is_compared_group_by_group() -> None:
    scheduler = LRScheduler(Bare(0.1, 0.2), [Step(3), Step(4)])
    state = LRScheduler(Bare(0.1, 0.2), [Step(3), Step(5, 0.5)]).state_dict() | {"last_epoch": 5}
    message = "'lr[1].step_size' is 4 here and 5 there, 'lr[1].gamma' is 0.1 here and 0.5 there; pass prefer="
    with pytest.raises(ValueError, match=re.escape(message)):
        scheduler.load_state_dict(state)
    assert scheduler.last_lr == [0.1, 0.2]
    scheduler.load_state_dict(state, prefer="constructor")
    assert scheduler.last_lr == [0.1 * 0.1**1, 0.2 * 0.1**1]
    scheduler.load_state_dict(state, prefer="state")
    assert (scheduler.last_lr, scheduler.schedule) == ([0.1 * 0.1**1, 0.2 * 0.5**1], (Step(3), Step(5, 0.5)))


@pytest.mark.parametrize(
    ("schedules", "message"),
    [
        ([Step(3)], "'lr[1].class' is missing, 'lr[1].gamma' is missing, 'lr[1].step_size' is missing"),
        ([Step(3), Cosine(4)], "'lr[1].gamma' is missing, 'lr[1].step_size' is missing, 'lr[1].T_max' is unknown"),
        (
            [Step(3), Step(4), Step(5)],
            "'lr[2].class' is unknown, 'lr[2].gamma' is unknown, 'lr[2].step_size' is unknown",
        ),
        (Step(3), "'lr[0].class' is missing, 'lr[0].gamma' is missing"),
    ],
)
@pytest.mark.parametrize("prefer", [None, "state"])
def test_a_state_of_other_groups_is_refused(schedules: Any, message: str, prefer: Any) -> None:
    scheduler = LRScheduler(Bare(0.1, 0.2), [Step(3), Step(4)])
    groups = len(schedules) if isinstance(schedules, list) else 2
    state = LRScheduler(Bare(*[0.1] * groups), schedules).state_dict()
    with pytest.raises(ValueError, match=re.escape(message)):
        scheduler.load_state_dict(state, prefer=prefer)
    assert scheduler.last_lr == [0.1, 0.2]


def test_a_state_of_another_class_with_the_same_settings_is_refused_where_classes_are_named() -> None:
    scheduler = LRScheduler(Bare(0.1), [Milestones([3])])
    state = json.loads(json.dumps(scheduler.state_dict()).replace("Milestones", "Other"))
    with pytest.raises(ValueError, match=re.escape("'lr[0].class' is 'Milestones' here and 'Other' there")):
        scheduler.load_state_dict(state)
    with pytest.raises(ValueError, match="the state must be one of a Milestones: 'Other'"):
        scheduler.load_state_dict(state, prefer="state")


def test_loading_leaves_the_base_rates_of_the_state_in_the_groups() -> None:
    optimizer = Bare(0.5, 0.5)
    StepLR(optimizer, 2).load_state_dict({"step_size": 2, "gamma": 0.1, "last_epoch": 2, "base_lrs": [0.1, 0.2]})
    assert optimizer.param_groups == [{"lr": 0.1 * 0.1, "initial_lr": 0.1}, {"lr": 0.2 * 0.1, "initial_lr": 0.2}]


def test_a_group_added_before_loading_keeps_its_own_base_rate() -> None:
    optimizer = Bare(0.1)
    scheduler = ExponentialLR(optimizer, 0.5)
    scheduler.step()
    optimizer.param_groups.append({"lr": 0.8})
    scheduler.load_state_dict({"gamma": 0.5, "last_epoch": 2, "base_lrs": [0.4]})
    assert (scheduler.base_lrs, scheduler.last_lr) == ([0.4, 0.8], [0.1, 0.2])


def test_a_state_taken_before_a_new_groups_first_step_has_its_base_rate() -> None:
    scheduler = StepLR(Bare(0.1), 1, 0.5)
    scheduler.step()
    scheduler.optimizer.param_groups.append({"lr": 0.4})
    state = scheduler.state_dict()
    assert (scheduler.base_lrs, state["base_lrs"]) == ([0.1, 0.4], [0.1, 0.4])
    other = StepLR(Bare(0.1, 0.2), 1, 0.5)
    other.load_state_dict(state)
    scheduler.step()
    other.step()
    assert scheduler.last_lr == other.last_lr == [0.025, 0.1]


def test_a_setting_of_ones_own_that_is_refused_changes_nothing() -> None:
    @frozen
    class Bounded(Schedule):
        drop: float = field(validator=ge(0))

        def affine(self, t: int) -> tuple[float, float]:
            return 1.0, self.drop * t

    scheduler = LRScheduler(Bare(1.0), Bounded(0.5))
    scheduler.step()
    before, attributes = scheduler.state_dict(), dict(vars(scheduler))
    with pytest.raises(ValueError, match="'drop' must be >= 0: -1"):
        scheduler.load_state_dict({**before, "drop": -1}, prefer="state")
    assert (scheduler.state_dict(), dict(vars(scheduler)), scheduler.last_lr) == (before, attributes, [1.5])
