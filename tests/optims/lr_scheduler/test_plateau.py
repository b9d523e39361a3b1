"""ReduceLROnPlateau: what counts as a plateau, what the state holds, what cannot be known."""

import copy
import json
import math
import pickle
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_train.optims.lr_scheduler import ReduceLROnPlateau
from lucid_train.schedules import Constant, Cosine, OneCycle, Schedule
from tests.support.optimizers import Bare, LucidLike, Scalar


def walk(scheduler: ReduceLROnPlateau, losses: list[float]) -> list[float]:
    seen = []
    for loss in losses:
        scheduler.step(loss)
        seen.append(scheduler.last_lr[0])
    return seen


@pytest.mark.parametrize(
    ("settings", "losses", "expected"),
    [
        ({"patience": 1}, [1, 1, 1, 1, 1], [1, 1, 0.5, 0.5, 0.25]),
        ({"patience": 0}, [1, 0.99995, 0.5, math.nan], [1, 0.5, 0.5, 0.25]),
        ({"patience": 0, "mode": "max"}, [1, 1.2, 1.2, 1.1], [1, 1, 0.5, 0.25]),
        ({"patience": 0, "threshold": 0.25, "threshold_mode": "abs"}, [1, 0.8, 0.7], [1, 0.5, 0.5]),
        ({"patience": 0, "cooldown": 2}, [1, 1, 1, 1, 1], [1, 0.5, 0.5, 0.5, 0.25]),
        ({"patience": 0, "min_lr": 0.4}, [1, 1, 1, 1], [1, 0.5, 0.4, 0.4]),
        ({"patience": 0, "eps": 0.3}, [1, 1, 1], [1, 0.5, 0.5]),
    ],
)
def test_rates_by_hand(settings: dict[str, Any], losses: list[float], expected: list[float]) -> None:
    assert walk(ReduceLROnPlateau(Bare(1.0), factor=0.5, **settings), losses) == expected


@given(losses=st.lists(st.floats(-1, 1), max_size=30), cut=st.integers(0, 30))
def test_any_cut_resumes_to_the_bit(losses: list[float], cut: int) -> None:
    def build() -> ReduceLROnPlateau:
        return ReduceLROnPlateau(Bare(0.7), factor=0.3, patience=1, cooldown=1)

    straight = walk(build(), losses)
    scheduler = build()
    seen = walk(scheduler, losses[:cut])
    state = json.loads(json.dumps(scheduler.state_dict(), allow_nan=False))
    scheduler = build()
    scheduler.load_state_dict(state)
    assert seen + walk(scheduler, losses[cut:]) == straight


WARM = [Constant().warmup(4, start=0), Constant().warmup(4, 0.01, "exponential"), Cosine(20, eta_min=0.01)]


@given(losses=st.lists(st.floats(-1, 1), max_size=30), cut=st.integers(0, 30), schedule=st.sampled_from(WARM))
def test_a_plateau_scales_the_schedule_that_it_holds_and_any_cut_resumes(
    losses: list[float], cut: int, schedule: Schedule
) -> None:
    def build(schedule: Schedule | None = schedule) -> ReduceLROnPlateau:
        return ReduceLROnPlateau(Bare(0.7, 0.2), factor=0.3, patience=1, min_lr=0.02, schedule=schedule)

    plain, scheduler, expected, seen = build(None), build(), [], []
    assert scheduler.last_lr == [schedule(0, 0.7), schedule(0, 0.2)]
    for t, loss in enumerate(losses, 1):
        if t == cut:
            state = json.loads(json.dumps(scheduler.state_dict(), allow_nan=False))
            scheduler = build()
            scheduler.load_state_dict(state)
        plain.step(loss)
        scheduler.step(loss)
        assert scheduler.base_lrs == plain.last_lr
        expected.append([schedule(t, level) for level in plain.last_lr])
        seen.append(scheduler.last_lr)
    assert seen == expected


def test_the_schedule_that_a_plateau_holds_is_in_its_state() -> None:
    scheduler = ReduceLROnPlateau(Bare(1.0), schedule=WARM[0])
    assert scheduler.schedule == WARM[0]
    state = scheduler.state_dict()
    other = ReduceLROnPlateau(Bare(1.0), schedule=Constant().warmup(5, start=0))
    with pytest.raises(ValueError, match=r"'schedule.parts\[0\].total_iters' is 5 here and 4 there, .*; pass prefer="):
        other.load_state_dict(state)
    other.load_state_dict(state, prefer="state")
    assert (other.state_dict(), other.last_lr) == (state, [0.0])
    with pytest.raises(ValueError, match="'schedule' is unknown"):
        ReduceLROnPlateau(Bare(1.0)).load_state_dict(state)
    with pytest.raises(ValueError, match="'base_lrs' must have one rate per rate in 'current_lrs', 1"):
        other.load_state_dict({**state, "base_lrs": [1.0, 2.0]})
    with pytest.raises(AttributeError, match="has no schedule for 'lr'"):
        ReduceLROnPlateau(Bare(1.0)).schedule  # noqa: B018  # asked for


def test_a_group_added_later_follows_the_schedule_of_a_plateau() -> None:
    optimizer = Bare(1.0)
    scheduler = ReduceLROnPlateau(optimizer, schedule=WARM[0])
    scheduler.step(1.0)
    optimizer.param_groups.append({"lr": 4.0})
    scheduler.step(1.0)
    assert scheduler.last_lr == [0.5, 2.0]
    again = ReduceLROnPlateau(optimizer, schedule=WARM[0])
    assert (again.last_lr, again.base_lrs) == ([0.0, 0.0], [1.0, 4.0])


def test_the_scale_of_a_group_scales_what_the_schedule_of_a_plateau_gives() -> None:
    def build() -> ReduceLROnPlateau:
        optimizer = Bare(1.0, 1.0)
        optimizer.param_groups[1]["lr_scale"] = 0.25
        return ReduceLROnPlateau(optimizer, factor=0.5, patience=0, schedule=Constant())

    scheduler = build()
    assert scheduler.last_lr == [1.0, 0.25]
    assert [(scheduler.step(1.0), scheduler.last_lr)[1] for _ in range(2)] == [[1.0, 0.25], [0.5, 0.125]]  # type: ignore[func-returns-value]
    again = build()
    again.load_state_dict(scheduler.state_dict())
    again.step(1.0)
    assert (again.last_lr, again.base_lrs) == ([0.25, 0.0625], [0.25, 0.25])


@pytest.mark.parametrize(
    ("schedule", "error", "message"),
    [
        (0.1, TypeError, "'schedule' must be a Schedule: 0.1"),
        (Cosine(), ValueError, "'T_max' of Cosine() needs the length of the run: call .sized(n) first"),
        (
            OneCycle(1.0, 9),
            ValueError,
            "'schedule' must depend on its base, which the plateau lowers: OneCycle(1.0, total_steps=9)",
        ),
    ],
)
def test_a_schedule_that_a_plateau_cannot_scale_is_refused(schedule: Any, error: type[Exception], message: str) -> None:
    optimizer = Bare(1.0)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        ReduceLROnPlateau(optimizer, schedule=schedule)
    assert optimizer.param_groups == [{"lr": 1.0}]


def test_what_it_multiplies_is_the_rate_that_stands() -> None:
    optimizer = Bare(1.0)
    walk(ReduceLROnPlateau(optimizer, patience=0), [1, 1, 1])
    second = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    assert (second.last_lr, second.base_lrs) == ([0.010000000000000002], [0.010000000000000002])
    second.step(1)
    optimizer.param_groups[0]["lr"] = 0.5  # by other code, which is nothing to warn of
    second.step(1)
    assert (second.last_lr, optimizer.param_groups) == ([0.25], [{"lr": 0.25}])


@pytest.mark.parametrize("make", [np.array, Scalar], ids=["array", "tensor-like"])
def test_a_rate_is_filled_in_place(make: Any) -> None:
    rate = make(1.0)
    scheduler = ReduceLROnPlateau(Bare(rate), factor=0.5, patience=0)
    walk(scheduler, [1, 1])
    assert (scheduler.optimizer.param_groups[0]["lr"] is rate, float(rate)) == (True, 0.5)


def test_an_engine_is_refreshed_after_each_reduction_and_of_loading() -> None:
    optimizer = LucidLike(1.0)
    scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    for _ in range(3):
        optimizer.step()
        scheduler.step(1)
    scheduler.load_state_dict({**scheduler.state_dict(), "current_lrs": [0.75]})
    optimizer.step()
    assert optimizer.used == [[1.0], [1.0], [0.5], [0.75]]


def test_a_group_added_later_starts_at_its_own_rate() -> None:
    optimizer = Bare(1.0)
    scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    walk(scheduler, [1, 1])
    optimizer.param_groups.append({"lr": 0.25})
    scheduler.step(1)
    assert scheduler.last_lr == [0.25, 0.125]


def test_only_the_present_epoch_is_known() -> None:
    scheduler = ReduceLROnPlateau(Bare(1.0), patience=0)
    scheduler.step(1)
    assert scheduler.lr_at(1) == [1.0]
    with pytest.raises(ValueError, match="'t' must be 1, as ReduceLROnPlateau follows a metric: 2"):
        scheduler.lr_at(2)


@pytest.mark.parametrize("metric", [None, "1", [1]])
def test_what_is_no_number_is_refused(metric: Any) -> None:
    with pytest.raises(TypeError, match="'metrics' must be a number"):
        ReduceLROnPlateau(Bare(1.0)).step(metric)


def test_the_state_and_the_repr_in_full() -> None:
    scheduler = ReduceLROnPlateau(Bare(1.0, 0.5), factor=0.5, patience=1, cooldown=3, min_lr=[0.1, 0.2])
    walk(scheduler, [2.0, 1.0, 1.0, 1.0])
    settings = {
        "mode": "min",
        "factor": 0.5,
        "patience": 1,
        "threshold": 1e-4,
        "threshold_mode": "rel",
        "cooldown": 3,
        "min_lr": [0.1, 0.2],
        "eps": 1e-8,
    }
    progress = {"best": 1.0, "num_bad_epochs": 0, "cooldown_counter": 3, "last_epoch": 4, "current_lrs": [0.5, 0.25]}
    assert scheduler.state_dict() == settings | progress
    state = scheduler.state_dict()
    state["min_lr"].append(0.3)
    assert scheduler.min_lr == [0.1, 0.2]
    assert repr(ReduceLROnPlateau(Bare(1.0))) == (
        "ReduceLROnPlateau(mode='min', factor=0.1, patience=10, threshold=0.0001, threshold_mode='rel', cooldown=0, "
        "min_lr=0.0, eps=1e-08, last_epoch=0)"
    )


def test_a_state_writes_its_rates_and_a_group_that_it_does_not_know_keeps_its_own() -> None:
    first = ReduceLROnPlateau(Bare(1.0), factor=0.5, patience=0)
    walk(first, [1, 1])
    second = ReduceLROnPlateau(Bare(3.0, 2.0), factor=0.5, patience=0)
    second.load_state_dict(first.state_dict())
    assert (second.last_lr, second.best, second.last_epoch) == ([0.5, 2.0], 1.0, 2)


def test_a_conflict_is_refused_unless_the_caller_says_which_side_wins() -> None:
    scheduler = ReduceLROnPlateau(Bare(1.0), factor=0.5)
    state = ReduceLROnPlateau(Bare(0.25), "max", factor=0.1).state_dict() | {"last_epoch": 3}
    message = "'mode' is 'min' here and 'max' there, 'factor' is 0.5 here and 0.1 there; pass prefer= to say which wins"
    with pytest.raises(ValueError, match=f"^the state contradicts the constructor: {message}$"):
        scheduler.load_state_dict(state)
    assert (scheduler.last_lr, scheduler.last_epoch) == ([1.0], 0)
    scheduler.load_state_dict(state, prefer="constructor")
    assert (scheduler.mode, scheduler.factor, scheduler.last_lr, scheduler.last_epoch) == ("min", 0.5, [0.25], 3)
    scheduler.load_state_dict(state, prefer="state")
    assert (scheduler.mode, scheduler.factor) == ("max", 0.1)


STATE = ReduceLROnPlateau(Bare(1.0)).state_dict()


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (None, TypeError, "'state' must be a dict: None"),
        (
            {},
            ValueError,
            "the state of the ReduceLROnPlateau does not fit: 'best' is missing, 'cooldown' is missing",
        ),
        ({**STATE, "gamma": 1}, ValueError, "'gamma' is unknown"),
        ({**STATE, "best": "low"}, ValueError, "could not convert string to float: 'low'"),
        ({**STATE, "last_epoch": -1}, ValueError, "'last_epoch' must be >= 0: -1"),
        ({**STATE, "num_bad_epochs": 0.5}, TypeError, "'num_bad_epochs' must be an int: 0.5"),
        ({**STATE, "cooldown_counter": None}, TypeError, "'cooldown_counter' must be an int: None"),
        ({**STATE, "current_lrs": 1.0}, TypeError, "'current_lrs' must be a list with one rate per group: 1.0"),
        ({**STATE, "current_lrs": [-1.0]}, ValueError, "'current_lrs[0]' must be >= 0: -1.0"),
        (
            {**STATE, "current_lrs": [1.0] * 2},
            ValueError,
            "'optimizer' must have the 2 groups that the schedule knows: 1",
        ),
        ({**STATE, "factor": 2}, ValueError, "'factor' must be > 0 and < 1: 2.0"),
        ({**STATE, "min_lr": [0.1, 0.2]}, ValueError, "'min_lr' must be one number or one per group, 1: [0.1, 0.2]"),
    ],
)
def test_a_bad_state_is_refused_and_nothing_has_changed(state: Any, error: type[Exception], message: str) -> None:
    scheduler = ReduceLROnPlateau(Bare(1.0), patience=0)
    walk(scheduler, [1, 1])
    before = scheduler.state_dict()
    with pytest.raises(error, match=re.escape(message)):
        scheduler.load_state_dict(state, prefer="state")
    assert scheduler.state_dict() == before


def test_an_unknown_preference_is_refused() -> None:
    with pytest.raises(ValueError, match="'prefer' must be one of 'constructor', 'state': 'mine'"):
        ReduceLROnPlateau(Bare(1.0)).load_state_dict(STATE, prefer="mine")


@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["copy", "deepcopy", "pickle"]
)
def test_a_copy_goes_on_by_itself(clone: Any) -> None:
    scheduler = ReduceLROnPlateau(Bare(1.0), factor=0.5, patience=1)
    walk(scheduler, [1, 1])
    twin = clone(scheduler)
    before = scheduler.state_dict()
    assert walk(twin, [1, 1, 1]) == [0.5, 0.5, 0.25]
    assert scheduler.state_dict() | {"current_lrs": []} == before | {"current_lrs": []}


def test_it_has_no_schedule() -> None:
    scheduler = ReduceLROnPlateau(Bare(1.0))
    assert scheduler.schedules == {}
    with pytest.raises(AttributeError, match=r"ReduceLROnPlateau\(.*\) has no schedule for 'lr'"):
        _ = scheduler.schedule


@pytest.mark.parametrize(("mode", "value"), [("max", math.inf), ("min", -math.inf)])
def test_a_state_with_an_infinite_best_is_strict_json(mode: Any, value: float) -> None:
    scheduler = ReduceLROnPlateau(Bare(1.0), mode, patience=0, factor=0.5)
    scheduler.step(value)
    state = json.loads(json.dumps(scheduler.state_dict(), allow_nan=False))
    again = ReduceLROnPlateau(Bare(1.0), mode, patience=0, factor=0.5)
    again.load_state_dict(state)
    assert (again.best, again.last_lr) == (value, [1.0])
    again.step(0.0)  # nothing is better
    assert (again.best, again.last_lr) == (value, [0.5])


def test_a_state_whose_setting_is_another_structure_is_refused() -> None:
    scheduler = ReduceLROnPlateau(Bare(1.0))
    state = scheduler.state_dict() | {"threshold_mode": {"a": [1]}}
    message = "the state contradicts the constructor: 'threshold_mode' is 'rel' here and None there"
    with pytest.raises(ValueError, match=message):
        scheduler.load_state_dict(state)
