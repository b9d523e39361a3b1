"""The other schedules: hand-computed rates, and laws that hold for every one of them."""

import copy
import json
import pickle
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
    assert scheduler.momenta(2) == [0.5, 0.5]


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
def test_long_arrays_agree_with_single_epochs(build: Any) -> None:
    scheduler = build(with_momentum(0.5, 0.25))
    epochs = np.arange(70_000) % 40
    table = scheduler.lr_at(epochs)
    assert table.shape == (70_000, 2)
    assert table[:40] == pytest.approx(np.array([scheduler.lr_at(t) for t in range(40)]), rel=1e-13, abs=1e-300)
    assert (table[40:80] == table[:40]).all()


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
def test_built_anew_on_the_same_optimizer_it_starts_from_the_base_rates(build: Any) -> None:
    optimizer = with_momentum(0.5, 0.25)
    straight = walk_with_momenta(build(with_momentum(0.5, 0.25)), 5)
    walk_with_momenta(build(optimizer), 7)
    assert walk_with_momenta(build(optimizer), 5) == straight


@every
def test_the_groups_keep_their_keys(build: Any) -> None:
    optimizer = with_momentum(0.5, 0.25)
    walk_with_momenta(build(optimizer), 10)
    assert [set(group) for group in optimizer.param_groups] == [{"lr", "momentum"}] * 2
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
    with pytest.raises(ValueError, match=r"'base_lr' must be one number or one per group, 3: \[0.1, 0.2\]"):
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


def test_a_product_passes_through_what_no_float_holds() -> None:
    scheduler = MultiplicativeLR(with_momentum(1.0), lambda t: 1e-200 if t <= 2 else 1e200 if t <= 4 else 0.5)
    assert [scheduler.lr_at(t)[0] for t in (2, 4, 5)] == [0.0, pytest.approx(1.0), pytest.approx(0.5)]


@pytest.mark.parametrize("kind", [LambdaLR, MultiplicativeLR])
@pytest.mark.parametrize("bad", [-1.0, float("nan")])
def test_a_bad_value_of_a_function_is_refused_when_it_comes(kind: Any, bad: float) -> None:
    optimizer = with_momentum(0.5)
    scheduler = kind(optimizer, lambda t: 1.0 if t < 2 else bad)
    scheduler.step()
    for attempt in (scheduler.step, lambda: scheduler.lr_at(2), lambda: scheduler.lr_at(np.arange(70_000))):
        with pytest.raises(ValueError, match=r"must be >= 0 and finite.* in epoch 2"):
            attempt()
    assert (scheduler.last_epoch, scheduler.last_lr) == (1, [0.5])


def test_functions_are_not_part_of_the_state() -> None:
    assert LambdaLR(with_momentum(0.5), [inverse]).state_dict() == {"last_epoch": 0, "base_lrs": [0.5]}
    assert LambdaLR(with_momentum(0.5, 1.0), inverse).lr_lambdas == [inverse, inverse]
    assert LambdaLR(with_momentum(0.5, 1.0), [inverse, nine_tenths]).lr_lambdas == [inverse, nine_tenths]


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
@pytest.mark.parametrize("epochs", [8, np.arange(12), np.arange(70_000) % 40], ids=["one", "some", "many"])
def test_a_curve_has_a_group_that_was_added_since_the_last_step(build: Any, epochs: Any) -> None:
    optimizer = with_momentum(0.5)
    scheduler = build(optimizer)
    walk_with_momenta(scheduler, 3)
    optimizer.param_groups.append({"lr": 0.125, "momentum": 0.9})
    expected = build(with_momentum(0.5, 0.125)).lr_at(epochs)
    assert np.array_equal(scheduler.lr_at(epochs), expected)
    assert scheduler.last_lr == [scheduler.lr_at(3)[0], 0.125]  # looking wrote nothing
