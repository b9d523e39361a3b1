"""ParamScheduler: schedules of any key of the groups, the momentum among them; and schedules of each group."""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_train.optims.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR, ParamScheduler
from lucid_train.schedules import Constant, Cosine, Cyclic, Exponential, Function, Linear, OneCycle, Step
from tests.support.optimizers import Bare, LucidLike, Scalar
from tests.support.schedules import walk

OPTIONS = {"weight_decay": 0.5, "momentum": 0.75, "temperature": -2.0}


def read(scheduler: LRScheduler, *keys: str) -> list[list[Any]]:
    return [[group[key] for group in scheduler.optimizer.param_groups] for key in keys]


def steps(scheduler: LRScheduler, count: int, *keys: str) -> list[list[list[Any]]]:
    """Return the values of these keys for as many epochs, as they stand in the groups."""
    seen = []
    for _ in range(count):
        seen.append(read(scheduler, *keys))
        scheduler.step()
    return seen


@pytest.mark.parametrize("key", ["lr", *OPTIONS])
def test_any_key_follows_its_schedule_and_the_others_stay(key: str) -> None:
    optimizer = Bare(1.0, 3.0, **OPTIONS)
    before = [dict(group) for group in optimizer.param_groups]
    scheduler = ParamScheduler(optimizer, **{key: Step(2, 0.5)})
    seen = [values for (values,) in steps(scheduler, 5, key)]
    assert seen == [[group[key] * factor for group in before] for factor in (1, 1, 0.5, 0.5, 0.25)]
    for group, first in zip(optimizer.param_groups, before, strict=True):
        assert group == first | {key: first[key] * 0.25, f"initial_{key}": first[key]}


def test_several_keys_go_on_together() -> None:
    optimizer = Bare(1.0, weight_decay=0.5)
    scheduler = ParamScheduler(optimizer, weight_decay=Linear(1.0, 0.0, 4), lr=Exponential(0.5))
    assert steps(scheduler, 4, "lr", "weight_decay") == [[[0.5**t], [0.5 * (1 - t / 4)]] for t in range(4)]
    assert (scheduler.last_epoch, scheduler.last_lr, scheduler.lr_at(4)) == (4, [0.0625], [0.0625])
    assert scheduler.schedules == {"weight_decay": Linear(1.0, 0.0, 4), "lr": Exponential(0.5)}
    assert repr(scheduler) == (
        "ParamScheduler(weight_decay=Linear(1.0, end_factor=0.0, total_iters=4), lr=Exponential(0.5), last_epoch=4)"
    )


def test_the_momentum_is_the_first_of_the_betas_where_there_are_betas() -> None:
    optimizer = Bare(1.0, 1.0)
    optimizer.param_groups[0]["momentum"] = 0.8
    optimizer.param_groups[1] |= {"betas": (0.9, 0.999), "momentum": None}
    scheduler = ParamScheduler(optimizer, momentum=Exponential(0.5))
    for t in range(1, 5):
        scheduler.step()
        assert optimizer.param_groups[0]["momentum"] == 0.8 * 0.5**t
        assert optimizer.param_groups[1]["betas"] == (0.9 * 0.5**t, 0.999)
    assert [group["initial_momentum"] for group in optimizer.param_groups] == [0.8, 0.9]
    assert optimizer.param_groups[1]["momentum"] is None


@pytest.mark.parametrize("make", [np.array, Scalar], ids=["array", "tensor-like"])
def test_what_is_filled_in_place_keeps_identity(make: Callable[[float], Any]) -> None:
    decay, beta = make(0.5), make(0.75)
    optimizer = Bare(1.0, weight_decay=decay, betas=(beta, 0.999))
    scheduler = ParamScheduler(optimizer, weight_decay=Exponential(0.5), momentum=Exponential(0.5))
    for _ in range(3):
        scheduler.step()
    (group,) = optimizer.param_groups
    assert (group["weight_decay"] is decay, group["betas"][0] is beta) == (True, True)
    assert (float(decay), float(beta)) == (0.0625, 0.09375)


def test_an_engine_is_refreshed() -> None:
    optimizer = LucidLike(1.0)
    scheduler = ParamScheduler(optimizer, lr=Exponential(0.5))
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    assert optimizer.used == [[1.0], [0.5], [0.25]]


def test_a_value_that_is_no_rate_may_be_negative_and_is_refused_where_it_is_no_number() -> None:
    values = {0: 1.0, 1: -1.0, 2: 2.0, 3: float("nan")}
    scheduler = ParamScheduler(Bare(1.0, **OPTIONS), temperature=Function(values.__getitem__))
    assert [values for (values,) in steps(scheduler, 2, "temperature")] == [[-2.0], [2.0]]
    with pytest.raises(ValueError, match=r"the values of 'temperature' of Param.* must be finite: \[nan\] in epoch 3$"):
        scheduler.step()
    assert (scheduler.last_epoch, read(scheduler, "temperature")) == (2, [[-4.0]])


def test_it_overflows_into_an_error() -> None:
    scheduler = ParamScheduler(Bare(1.0, **OPTIONS), weight_decay=Exponential(2.0**1000))
    scheduler.step()
    for _ in range(2):
        with pytest.raises(
            OverflowError, match=r"the values of 'weight_decay' of .* exceed the largest float in epoch 2$"
        ):
            scheduler.step()
        assert (scheduler.last_epoch, read(scheduler, "weight_decay")) == (1, [[0.5 * 2.0**1000]])


def test_without_a_schedule_of_the_rates_there_are_none_to_be_had() -> None:
    scheduler = ParamScheduler(Bare(1.0, **OPTIONS), weight_decay=Exponential(0.5))
    assert (scheduler.last_lr, scheduler.get_last_lr()) == ([1.0], [1.0])
    for ask in (lambda: scheduler.schedule, lambda: scheduler.base_lrs, lambda: scheduler.lr_at(1)):
        with pytest.raises(AttributeError, match=r"ParamScheduler\(weight_decay=.*\) has no schedule for 'lr'$"):
            ask()


REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: ParamScheduler(Bare(1.0)),
        ValueError,
        "'schedules' must name at least one key of the groups, as in weight_decay=...: {}",
    ),
    (
        lambda: ParamScheduler(Bare(1.0), weight_decay=Exponential(0.5)),
        TypeError,
        "'optimizer.param_groups[0]' must have 'weight_decay' to be scheduled: ['lr']",
    ),
    (
        lambda: ParamScheduler(Bare(1.0), momentum=Exponential(0.5)),
        TypeError,
        "'optimizer.param_groups[0]' must have 'momentum' to be scheduled: ['lr']",
    ),
    (
        lambda: ParamScheduler(Bare(1.0, nesterov=True), nesterov=Exponential(0.5)),
        TypeError,
        "\"optimizer.param_groups[0]['nesterov']\" must be a number: True",
    ),
    (
        lambda: ParamScheduler(Bare(1.0, weight_decay=np.array(1)), weight_decay=Exponential(0.5)),
        TypeError,
        "'weight_decay' of group 0 must hold floats, it is filled in place: array(1)",
    ),
    (
        lambda: ParamScheduler(Bare(1.0, **OPTIONS), weight_decay=0.1),  # type: ignore[arg-type]  # meant
        TypeError,
        "'weight_decay' must be a Schedule: 0.1",
    ),
    (
        lambda: ParamScheduler(Bare(1.0, **OPTIONS), weight_decay=Cosine()),
        ValueError,
        "'T_max' of Cosine() needs the length of the run: call .sized(n) first",
    ),
    (
        lambda: ParamScheduler(Bare(1.0, **OPTIONS), 3, weight_decay=Exponential(0.5)),
        ValueError,
        "'initial_weight_decay' must be in group 0 with last_epoch=3: the weight_decay 0.5 of group 0 may be a decayed",
    ),
]


@pytest.mark.parametrize(("build", "error", "message"), REFUSED, ids=[case[2] for case in REFUSED])
def test_what_cannot_be_scheduled_is_refused(build: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        build()


def test_the_base_value_is_left_in_the_group_and_found_again() -> None:
    optimizer = Bare(1.0, **OPTIONS)
    first = ParamScheduler(optimizer, weight_decay=Exponential(0.5))
    for _ in range(3):
        first.step()
    second = ParamScheduler(optimizer, 2, weight_decay=Exponential(0.5))
    assert (second.last_epoch, read(second, "weight_decay")) == (3, [[0.0625]])
    second.step()  # a warning would be an error
    third = ParamScheduler(optimizer, weight_decay=Exponential(0.5))
    assert read(third, "weight_decay") == [[0.5]]
    message = (
        "the 'weight_decay' of group 0 was 0.03125, but its 'initial_weight_decay', from which the schedule starts, is"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(message)} 0.5; to start from 0.03125, remove"):
        third.step()


def test_an_absolute_schedule_leaves_no_base_value() -> None:
    optimizer = Bare(1.0, momentum=0.75)
    scheduler = ParamScheduler(optimizer, lr=Exponential(0.5), momentum=Cyclic(0.9, 0.5, 2))
    assert [values for _, values in steps(scheduler, 4, "lr", "momentum")] == [[0.9], [0.7], [0.5], [0.7]]
    assert list(optimizer.param_groups[0]) == ["lr", "momentum", "initial_lr"]


def test_a_late_group_is_taken_in_with_every_key_or_refused() -> None:
    optimizer = Bare(1.0, **OPTIONS)
    scheduler = ParamScheduler(optimizer, lr=Exponential(0.5), weight_decay=Exponential(0.25))
    scheduler.step()
    optimizer.param_groups.append({"lr": 2.0})
    for _ in range(2):
        with pytest.raises(
            TypeError, match=re.escape("'optimizer.param_groups[1]' must have 'weight_decay' to be sch")
        ):
            scheduler.step()
        assert (scheduler.last_epoch, optimizer.param_groups[1]) == (1, {"lr": 2.0})
    optimizer.param_groups[1]["weight_decay"] = 1.0
    scheduler.step()  # a warning would be an error
    assert read(scheduler, "lr", "weight_decay") == [[0.25, 0.5], [0.03125, 0.0625]]


BUILDERS: dict[str, Callable[[Any], LRScheduler]] = {
    "several keys": lambda opt: ParamScheduler(opt, weight_decay=Cosine(5, 0.1), momentum=Exponential(0.9), lr=Step(2)),
    "one key": lambda opt: ParamScheduler(opt, weight_decay=Cosine(5, 0.1)),
    "per group": lambda opt: ParamScheduler(opt, momentum=[Step(2, 0.5), Cyclic(0.9, 0.5, 3)], lr=Exponential(0.5)),
    "one cycle": lambda opt: OneCycleLR(opt, [1.0, 0.5], 12),
    "cyclic": lambda opt: CyclicLR(opt, 0.1, 1.0, 3),
}
KEYS = ("lr", "weight_decay", "momentum")


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_every_cut_point_resumes_to_the_last_bit_through_json(build: Callable[[Any], LRScheduler]) -> None:
    keys = list(build(Bare(1.0, 0.3, **OPTIONS)).schedules)
    whole = steps(build(Bare(1.0, 0.3, **OPTIONS)), 15, *keys)
    for cut in range(15):
        first = build(Bare(1.0, 0.3, **OPTIONS))
        before = steps(first, cut, *keys)
        state = json.loads(json.dumps(first.state_dict(), allow_nan=False))
        second = build(Bare(7.0, 7.0, weight_decay=7.0, momentum=0.0))
        second.load_state_dict(state)
        assert second.state_dict() == state
        assert before + steps(second, 15 - cut, *keys) == whole


def test_the_states_in_full() -> None:
    scheduler = ParamScheduler(Bare(1.0, **OPTIONS), weight_decay=Step(2), lr=Exponential(0.5))
    assert scheduler.state_dict() == {
        "weight_decay": {"class": "Step", "step_size": 2, "gamma": 0.1},
        "lr": {"class": "Exponential", "gamma": 0.5},
        "base_weight_decay": [0.5],
        "base_lrs": [1.0],
        "last_epoch": 0,
    }
    alone = ParamScheduler(Bare(1.0, **OPTIONS), weight_decay=Step(2))
    assert alone.state_dict() == {"step_size": 2, "gamma": 0.1, "base_weight_decay": [0.5], "last_epoch": 0}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"base_weight_decay": None}, TypeError, "'base_weight_decay' must be a list with one value per group: None"),
        (
            {"base_weight_decay": [0.1, 0.2]},
            ValueError,
            "'optimizer' must have the 2 groups that the schedule knows: 1",
        ),
        (
            {"weight_decay": {"class": "Step", "step_size": 3, "gamma": 0.1}},
            ValueError,
            "'weight_decay.step_size' is 2 h",
        ),
        (
            {"momentum": {"class": "Step"}},
            ValueError,
            "the state of the ParamScheduler does not fit: 'momentum.class' is unknown",
        ),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_nothing_has_changed(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    optimizer = Bare(1.0, **OPTIONS)
    scheduler = ParamScheduler(optimizer, weight_decay=Step(2), lr=Exponential(0.5))
    before = [dict(group) for group in optimizer.param_groups]
    with pytest.raises(error, match=re.escape(message)):
        scheduler.load_state_dict(scheduler.state_dict() | {"last_epoch": 3} | change)
    assert (scheduler.last_epoch, optimizer.param_groups) == (0, before)


def test_one_cycle_and_cyclic_are_two_such_bindings() -> None:
    cycle = OneCycle(1.0, total_steps=12)
    named = OneCycleLR(Bare(1.0, **OPTIONS), 1.0, 12)
    by_keys = ParamScheduler(Bare(1.0, **OPTIONS), lr=cycle, momentum=cycle.momentum())
    assert steps(named, 14, *KEYS) == steps(by_keys, 14, *KEYS)
    cyclic = CyclicLR(Bare(1.0, **OPTIONS), 0.1, 1.0, 3)
    by_keys = ParamScheduler(Bare(1.0, **OPTIONS), lr=Cyclic(0.1, 1.0, 3), momentum=Cyclic(0.9, 0.8, 3))
    assert steps(cyclic, 14, *KEYS) == steps(by_keys, 14, *KEYS)


# One schedule per group.


def named_groups(**rates: float) -> Bare:
    optimizer = Bare(*rates.values())
    for group, name in zip(optimizer.param_groups, rates, strict=True):
        group["name"] = name
    return optimizer


def test_each_group_may_have_a_schedule_of_its_own() -> None:
    scheduler = LRScheduler(Bare(1.0, 2.0, 4.0), [Exponential(0.5), Constant(), Step(2, 0.5)])
    assert walk(scheduler, 4) == [[1.0, 2.0, 4.0], [0.5, 2.0, 4.0], [0.25, 2.0, 2.0], [0.125, 2.0, 2.0]]
    assert scheduler.schedule == (Exponential(0.5), Constant(), Step(2, 0.5))


def test_a_mapping_names_the_groups_in_any_order() -> None:
    scheduler = LRScheduler(named_groups(head=1.0, body=2.0), {"body": Constant(0.5), "head": Exponential(0.5)})
    assert walk(scheduler, 3) == [[1.0, 1.0], [0.5, 1.0], [0.25, 1.0]]
    assert scheduler.schedule == (Exponential(0.5), Constant(0.5))


@given(shared=st.lists(st.booleans(), min_size=1, max_size=6))
def test_a_schedule_that_several_groups_share_is_asked_once_a_step(shared: list[bool]) -> None:
    asked: list[int] = []

    def factor(t: int) -> float:
        asked.append(t)
        return 0.5**t

    one, other = Function(factor), Exponential(0.25)
    scheduler = LRScheduler(Bare(*[1.0] * len(shared)), [one if each else other for each in shared])
    scheduler.step()
    asked.clear()
    scheduler.step()
    assert asked == [2] * any(shared)
    assert scheduler.last_lr == [0.25 if each else 0.0625 for each in shared]


@pytest.mark.parametrize(
    ("schedule", "error", "message"),
    [
        ([Constant()], ValueError, "'schedule' must be one schedule or one per group, 2: 1"),
        ([Constant(), 0.5], TypeError, "'schedule[1]' must be a Schedule: 0.5"),
        ([Constant(), Cosine()], ValueError, "'T_max' of Cosine() needs the length of the run"),
        ({"head": Constant()}, ValueError, "'schedule' must name the groups, ['head', 'body']: ['head']"),
        (
            {"head": Constant(), "tail": Constant()},
            ValueError,
            "'schedule' must name the groups, ['head', 'body']: ['head', 'tail']",
        ),
        ({"head": Constant(), "body": None}, TypeError, "'schedule[1]' must be a Schedule: None"),
        ("ab", TypeError, "'schedule' must be a Schedule: 'ab'"),
    ],
)
def test_schedules_that_do_not_fit_the_groups_are_refused(schedule: Any, error: type[Exception], message: str) -> None:
    optimizer = named_groups(head=1.0, body=2.0)
    with pytest.raises(error, match=re.escape(message)):
        LRScheduler(optimizer, schedule)
    assert [set(group) for group in optimizer.param_groups] == [{"lr", "name"}] * 2


@pytest.mark.parametrize("names", [[None, "body"], ["body", "body"]])
def test_groups_without_a_name_of_their_own_cannot_be_named(names: list[Any]) -> None:
    optimizer = Bare(1.0, 2.0)
    for group, name in zip(optimizer.param_groups, names, strict=True):
        group |= {} if name is None else {"name": name}
    with pytest.raises(ValueError, match=re.escape(f"'schedule' must name the groups, {names}: ['body']")):
        LRScheduler(optimizer, {"body": Constant()})


def test_a_late_group_needs_a_schedule_where_each_has_its_own() -> None:
    optimizer = Bare(1.0, 2.0)
    scheduler = LRScheduler(optimizer, [Constant(), Exponential(0.5)])
    optimizer.param_groups.append({"lr": 4.0})
    with pytest.raises(ValueError, match="'schedule' must be one schedule or one per group, 3: 2"):
        scheduler.step()
    del optimizer.param_groups[2]
    scheduler.step()
    assert scheduler.last_lr == [1.0, 1.0]


def test_a_key_may_have_schedules_by_name_too() -> None:
    optimizer = named_groups(head=1.0, body=2.0)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.5
    scheduler = ParamScheduler(optimizer, weight_decay={"body": Exponential(0.5), "head": Constant()})
    scheduler.step()
    assert read(scheduler, "lr", "weight_decay") == [[1.0, 2.0], [0.5, 0.25]]
    assert scheduler.schedules == {"weight_decay": (Constant(), Exponential(0.5))}
