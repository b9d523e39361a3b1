"""The other schedulers: hand-computed rates, and laws that hold for every one of them."""

import copy
import json
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_train.optims.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    MultiStepLR,
    NoamLR,
    OneCycleLR,
    PolynomialLR,
    SequentialLR,
    StepLR,
)
from lucid_train.schedules import Cyclic, Function, Schedule
from tests.support.optimizers import Scalar, with_momentum
from tests.support.schedules import walk_with_momenta


def inverse(t: float) -> float:
    return 1 / (1 + t)


def nine_tenths(t: int) -> float:
    return 0.9


BUILDERS: dict[str, Callable[[Any], LRScheduler]] = {
    "multi-step": lambda opt: MultiStepLR(opt, [2, 2, 5], 0.5),
    "constant": lambda opt: ConstantLR(opt, 0.25, 3),
    "linear": lambda opt: LinearLR(opt, 0.25, 0.5, 4),
    "polynomial": lambda opt: PolynomialLR(opt, 9, 1.5),
    "restarts": lambda opt: CosineAnnealingWarmRestarts(opt, 3, 2, 0.01),
    "one function": lambda opt: LambdaLR(opt, inverse),
    "functions": lambda opt: LambdaLR(opt, [inverse, nine_tenths]),
    "product": lambda opt: MultiplicativeLR(opt, inverse),
    "products": lambda opt: MultiplicativeLR(opt, [inverse, nine_tenths]),
    "cyclic": lambda opt: CyclicLR(opt, 0.1, [0.5, 1.0], 3, 2, "triangular2"),
    "exp range": lambda opt: CyclicLR(opt, 0.1, 0.5, 3, mode="exp_range", gamma=0.9, cycle_momentum=False),
    "own scale": lambda opt: CyclicLR(opt, 0.1, 0.5, 3, scale_fn=inverse, scale_mode="iterations"),
    "one cycle": lambda opt: OneCycleLR(opt, [1.0, 0.5], 12),
    "one cycle in three": lambda opt: OneCycleLR(opt, 1.0, 12, three_phase=True, anneal_strategy="linear"),
    "noam": lambda opt: NoamLR(opt, 64, 4),
    "sequence": lambda opt: SequentialLR(opt, [LinearLR(opt), CosineAnnealingLR(opt, 4), StepLR(opt, 2)], [3, 8]),
    "sequence of lists": lambda opt: SequentialLR(opt, [CyclicLR(opt, 0.1, 0.5, 2), NoamLR(opt, 4, 4)], [5]),
    "chain": lambda opt: ChainedScheduler([ConstantLR(opt), ExponentialLR(opt, 0.9), CosineAnnealingLR(opt, 9, 0.01)]),
    "chain of lists": lambda opt: ChainedScheduler([OneCycleLR(opt, 1.0, 12), LambdaLR(opt, [inverse, nine_tenths])]),
    "nested": lambda opt: SequentialLR(
        opt, [ChainedScheduler([ConstantLR(opt), StepLR(opt, 2)]), SequentialLR(opt, [StepLR(opt, 3)], [])], [4]
    ),
}
every = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
GROWING = ["multi-step", "one function", "product", "own scale", "sequence", "nested", "noam"]
growing = pytest.mark.parametrize("build", [BUILDERS[name] for name in GROWING], ids=GROWING)


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        (MultiStepLR(with_momentum(1.0), [3, 1, 3], 0.5), [1, 0.5, 0.5, 0.125, 0.125]),
        (MultiStepLR(with_momentum(1.0), [0], 0.5), [0.5, 0.5]),
        (MultiStepLR(with_momentum(1.0), []), [1, 1]),
        (ConstantLR(with_momentum(1.0), 0.0, 2), [0, 0, 1, 1]),
        (LinearLR(with_momentum(1.0), 0.5, 0.0, 2), [0.5, 0.25, 0, 0]),
        (PolynomialLR(with_momentum(1.0), 2, 2.0), [1, 0.25, 0, 0]),
        (CosineAnnealingWarmRestarts(with_momentum(1.0), 1), [1, 1, 1]),
        (CosineAnnealingWarmRestarts(with_momentum(1.0), 1, 3), [1, 1, 0.75, 0.25, 1]),
        (LambdaLR(with_momentum(1.0), lambda t: t), [0, 1, 2]),
        (MultiplicativeLR(with_momentum(1.0), lambda t: 2 * t), [1, 2, 8, 48]),
        (CyclicLR(with_momentum(9.0), 1, 3, 2, 0), [1, 2, 1, 2]),
        (CyclicLR(with_momentum(9.0), 1, 3, 1, mode="triangular2"), [1, 3, 1, 2, 1, 1.5]),
        (OneCycleLR(with_momentum(9.0), 1, 10, pct_start=0.1), [1]),
        (OneCycleLR(with_momentum(9.0), 1, 1, div_factor=2, final_div_factor=5), [0.1, 0.1]),
        (
            OneCycleLR(with_momentum(9.0), 1, 5, pct_start=1, div_factor=2, anneal_strategy="linear"),
            [0.5, 0.625, 0.75, 0.875, 1],
        ),
        (NoamLR(with_momentum(2.0), 4, 4, 0.5), [0.0625, 0.125, 0.1875, 0.25]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, LRScheduler) else "",
)
def test_rates_by_hand(scheduler: LRScheduler, expected: list[float]) -> None:
    assert [scheduler.lr_at(t)[0] for t in range(len(expected))] == pytest.approx(expected, rel=1e-12)


def test_one_cycle_stays_at_the_end() -> None:
    scheduler = OneCycleLR(with_momentum(9.0), 1.0, 4, div_factor=2, final_div_factor=4)
    assert [scheduler.lr_at(t) for t in (3, 4, 10**9)] == [[0.125]] * 3


def test_momentum_is_highest_where_the_rate_is_lowest() -> None:
    optimizer = with_momentum(1.0)
    optimizer.param_groups.append({"lr": 1.0, "betas": (0.9, 0.999)})
    scheduler = CyclicLR(optimizer, 0.1, 1.0, 2, base_momentum=0.5, max_momentum=0.75)
    seen = []
    for _ in range(4):
        seen.append((optimizer.param_groups[0]["momentum"], optimizer.param_groups[1]["betas"]))
        scheduler.step()
    assert seen == [(m, (m, 0.999)) for m in (0.75, 0.625, 0.5, 0.625)]
    assert scheduler.schedules["momentum"] == Cyclic(0.75, 0.5, 2)


def test_momentum_is_left_alone_on_request() -> None:
    optimizer = with_momentum(1.0)
    walk_with_momenta(OneCycleLR(optimizer, 1.0, 9, cycle_momentum=False), 9)
    assert optimizer.param_groups[0]["momentum"] == 0.9


@every
def test_step_writes_what_the_pure_function_says(build: Any) -> None:
    scheduler = build(with_momentum(0.5, 0.25))
    seen = [[rate for rate, _ in groups] for groups in walk_with_momenta(scheduler, 30)]
    assert seen == [scheduler.lr_at(t) for t in range(30)]
    assert scheduler.lr_at(np.arange(30)).tolist() == seen


@every
def test_the_values_are_those_of_the_schedules_to_the_bit(build: Any) -> None:
    scheduler = build(with_momentum(0.5, 0.25))
    times = [0, 1, 2, 5, 11, 40, 99, 1000, 4096, 10_000]
    times += [] if "Multiplicative" in repr(scheduler) else [65_536, 10**6, 10**9]
    expected = [
        [each(t, base) for each, base in zip(per_group(scheduler.schedule), scheduler.base_lrs, strict=True)]
        for t in times
    ]
    assert [scheduler.lr_at(t) for t in times] == expected
    for key, schedules in scheduler.schedules.items():
        seen = [[group[key] for group in scheduler.optimizer.param_groups]]
        for _ in range(12):
            scheduler.step()
            seen.append([group[key] for group in scheduler.optimizer.param_groups])
        bases = scheduler.state_dict()["base_lrs" if key == "lr" else f"base_{key}"]
        start = scheduler.last_epoch - 12
        each = list(zip(per_group(schedules), bases, strict=True))
        assert seen == [[schedule(t, base) for schedule, base in each] for t in range(start, start + 13)]


def per_group(schedules: Schedule | tuple[Schedule, ...]) -> list[Schedule]:
    return [schedules] * 2 if isinstance(schedules, Schedule) else list(schedules)


@every
def test_any_cuts_resume_to_the_bit(build: Any) -> None:
    straight = walk_with_momenta(build(with_momentum(0.5, 0.25)), 40)

    @given(st.lists(st.integers(0, 12), max_size=6))
    def cut(cuts: list[int]) -> None:
        scheduler = build(with_momentum(0.5, 0.25))
        seen: list[Any] = []
        for steps in cuts:
            seen += walk_with_momenta(scheduler, min(steps, 40 - len(seen)))
            state = json.loads(json.dumps(scheduler.state_dict(), allow_nan=False))
            scheduler = build(with_momentum(0.5, 0.25))
            scheduler.load_state_dict(state)
        assert seen + walk_with_momenta(scheduler, 40 - len(seen)) == straight

    cut()


@every
def test_built_again_on_the_same_optimizer_it_starts_from_the_base_rates(build: Any) -> None:
    optimizer = with_momentum(0.5, 0.25)
    straight = walk_with_momenta(build(with_momentum(0.5, 0.25)), 5)
    walk_with_momenta(build(optimizer), 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the rate is a decayed one is not the point here
        assert walk_with_momenta(build(optimizer), 5) == straight


ABSOLUTE = ("cyclic", "exp range", "own scale", "one cycle", "one cycle in three")


@pytest.mark.parametrize("name", BUILDERS)
def test_the_groups_get_the_base_rate_and_no_other_key(name: str) -> None:
    optimizer = with_momentum(0.5, 0.25)
    walk_with_momenta(BUILDERS[name](optimizer), 10)
    base = set() if name in ABSOLUTE else {"initial_lr"}
    assert [set(group) for group in optimizer.param_groups] == [{"lr", "momentum"} | base] * 2
    assert set(vars(optimizer)) == {"param_groups"}


@every
def test_copies_go_on_alike(build: Any) -> None:
    scheduler = build(with_momentum(0.5, 0.25))
    walk_with_momenta(scheduler, 6)
    twins = [copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))]
    expected = walk_with_momenta(scheduler, 10)
    assert [walk_with_momenta(twin, 10) for twin in twins] == [expected, expected]


@every
def test_the_repr_names_the_schedule_and_changes_nothing(build: Any) -> None:
    scheduler = build(with_momentum(0.5, 0.25))
    before = scheduler.state_dict()
    assert repr(scheduler).startswith(f"{type(scheduler).__name__}(")
    assert "last_epoch=0" in repr(scheduler)
    assert scheduler.state_dict() == before


@growing
def test_a_group_added_later_runs_at_its_own_rate(build: Any) -> None:
    optimizer = with_momentum(0.5)
    scheduler = build(optimizer)
    walk_with_momenta(scheduler, 3)
    optimizer.param_groups.append({"lr": 0.125, "momentum": 0.9})
    scheduler.step()
    assert scheduler.last_lr == scheduler.lr_at(4) == build(with_momentum(0.5, 0.125)).lr_at(4)
    scheduler.step()
    assert scheduler.last_lr == build(with_momentum(0.5, 0.125)).lr_at(5)


def test_a_group_that_a_list_of_settings_does_not_know_is_refused() -> None:
    optimizer = with_momentum(0.5, 0.25)
    scheduler = CyclicLR(optimizer, [0.1, 0.2], 1.0)
    optimizer.param_groups.append({"lr": 0.125, "momentum": 0.9})
    with pytest.raises(ValueError, match="'schedule' must be one schedule or one per group, 3: 2"):
        scheduler.step()


def test_a_product_can_be_asked_out_of_order() -> None:
    calls = 0

    def factor(t: int) -> float:
        nonlocal calls
        calls += 1
        return 1.0 + (1 if t % 2 else -1) / (t + 1)

    scheduler = MultiplicativeLR(with_momentum(1.0), factor)
    far = scheduler.lr_at(40_000)
    calls = 0
    assert scheduler.lr_at(39_000) == MultiplicativeLR(with_momentum(1.0), factor).lr_at(39_000)
    before = calls
    assert scheduler.lr_at(40_000) == far
    assert calls - before < 1500  # it starts from a place on the way, not from the beginning


def test_a_product_that_no_float_holds_is_zero_from_there_on_or_an_error() -> None:
    falling = MultiplicativeLR(with_momentum(1.0), lambda t: 1e-200 if t <= 2 else 1e200)
    assert [falling.lr_at(t)[0] for t in (1, 2, 4)] == [1e-200, 0.0, 0.0]
    growing = MultiplicativeLR(with_momentum(1.0), lambda t: 1e200)
    with pytest.raises(
        OverflowError, match=r"the rates of MultiplicativeLR\(.*\) exceed the largest float in epoch 2$"
    ):
        growing.lr_at(2)
    assert growing.lr_at(1) == [1e200]


@pytest.mark.parametrize("kind", [LambdaLR, MultiplicativeLR])
@pytest.mark.parametrize("bad", [-1.0, float("nan")])
def test_a_bad_value_of_a_function_is_refused_when_it_comes(kind: Any, bad: float) -> None:
    optimizer = with_momentum(0.5)
    scheduler = kind(optimizer, lambda t: 1.0 if t < 2 else bad)
    scheduler.step()
    for attempt in (scheduler.step, lambda: scheduler.lr_at(2), lambda: scheduler.lr_at(np.arange(9))):
        with pytest.raises(ValueError, match=r"must be >= 0 and finite.* in epoch 2"):
            attempt()
    assert (scheduler.last_epoch, scheduler.last_lr) == (1, [0.5])


def test_functions_are_not_part_of_the_state() -> None:
    assert LambdaLR(with_momentum(0.5), inverse).state_dict() == {"last_epoch": 0, "base_lrs": [0.5]}
    assert LambdaLR(with_momentum(0.5), [inverse]).state_dict() == {
        "lr": [{"class": "Function"}],
        "last_epoch": 0,
        "base_lrs": [0.5],
    }
    assert LambdaLR(with_momentum(0.5, 1.0), inverse).schedule == Function(inverse)
    assert LambdaLR(with_momentum(0.5, 1.0), [inverse, nine_tenths]).schedule == (
        Function(inverse),
        Function(nine_tenths),
    )


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (lambda opt: MultiStepLR(opt, [5, 2], 0.5), {"milestones": (2, 5), "gamma": 0.5}),
        (lambda opt: PolynomialLR(opt, 9, 1.5), {"total_iters": 9, "power": 1.5}),
        (lambda opt: CosineAnnealingWarmRestarts(opt, 3, 2, 0.01), {"T_0": 3, "T_mult": 2, "eta_min": 0.01}),
        (lambda opt: ConstantLR(opt, 0.25, 3), {"factor": 0.25, "total_iters": 3}),
        (lambda opt: LinearLR(opt, 0.25, 0.5, 4), {"start_factor": 0.25, "end_factor": 0.5, "total_iters": 4}),
        (lambda opt: NoamLR(opt, 64, 4), {"d_model": 64, "warmup_steps": 4, "factor": 1.0}),
        (
            lambda opt: CyclicLR(opt, 0.1, [0.5, 1.0], 3),
            {"base_lr": [0.1, 0.1], "max_lr": [0.5, 1.0], "step_size_up": [3, 3]},
        ),
        (lambda opt: OneCycleLR(opt, 1.0, 12), {"max_lr": 1.0, "total_steps": 12, "pct_start": 0.3}),
    ],
)
def test_the_settings_can_be_read_under_pytorchs_names(build: Any, names: dict[str, Any]) -> None:
    scheduler = build(with_momentum(0.5, 0.25))
    assert {name: getattr(scheduler, name) for name in names} == names


def test_groups_with_the_same_numbers_share_a_schedule() -> None:
    scheduler = OneCycleLR(with_momentum(0.5, 0.5, 0.5), [1.0, 0.5, 1.0], 12)
    first, second, third = scheduler.schedule
    assert (first is third, first is second) == (True, False)


@every
def test_last_epoch_stands_after_it(build: Any) -> None:
    scheduler = build(with_momentum(0.5, 0.25))
    state = {**scheduler.state_dict(), "last_epoch": 7}
    scheduler.load_state_dict(state)
    assert scheduler.last_lr == build(with_momentum(0.5, 0.25)).lr_at(7)


@every
@pytest.mark.parametrize(
    "make", [np.array, lambda rate: np.array(rate, np.float32), Scalar], ids=["float64", "float32", "tensor-like"]
)
def test_a_rate_that_is_filled_in_place_follows(build: Any, make: Any) -> None:
    rates = [make(0.5), make(0.25)]
    optimizer = with_momentum(*rates)
    scheduler = build(optimizer)
    for t in range(30):
        assert [group["lr"] for group in optimizer.param_groups] == rates  # the same objects
        assert scheduler.last_lr == list(map(float, rates)) == [float(make(rate)) for rate in scheduler.lr_at(t)]
        scheduler.step()


@growing
@pytest.mark.parametrize("epochs", [8, np.arange(12)], ids=["one", "several"])
def test_a_curve_has_a_group_that_was_added_since_the_last_step(build: Any, epochs: Any) -> None:
    optimizer = with_momentum(0.5)
    scheduler = build(optimizer)
    walk_with_momenta(scheduler, 3)
    optimizer.param_groups.append({"lr": 0.125, "momentum": 0.9})
    expected = build(with_momentum(0.5, 0.125)).lr_at(epochs)
    assert np.array_equal(scheduler.lr_at(epochs), expected)
    assert scheduler.last_lr == [scheduler.lr_at(3)[0], 0.125]  # looking wrote nothing
