"""Every schedule gives, to the last bit, what the scheduler of the same name sets: rates and momenta, up to t = 1e9."""

from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_train import schedules
from lucid_train.optims import lr_scheduler

LAST = 10**9
TIMES = [*range(260), 999, 10**4, 123_456, 10**6, 10**6 + 1, 99_999_999, LAST - 1, LAST]
times = st.integers(0, LAST)
bases = st.floats(1e-6, 10)
counts = st.one_of(st.integers(1, 300), st.integers(1, LAST))
shares = st.floats(0, 1)


class Bare:
    def __init__(self, rate: float) -> None:
        self.param_groups: list[dict[str, Any]] = [{"lr": rate, "momentum": 0.9}]


def assert_same(
    schedule: schedules.Schedule, scheduler: lr_scheduler.LRScheduler, at: list[int], base: float = 0.1
) -> None:
    assert [schedule(t, base=base) for t in at] == [scheduler.lr_at(t)[0] for t in at]


@given(step_size=counts, gamma=st.floats(1e-3, 1), base=bases, t=times)
def test_step(step_size: int, gamma: float, base: float, t: int) -> None:
    assert_same(schedules.Step(step_size, gamma), lr_scheduler.StepLR(Bare(base), step_size, gamma), [*TIMES, t], base)


@given(milestones=st.lists(st.integers(0, LAST), max_size=6), gamma=st.floats(1e-3, 2), base=bases, t=times)
def test_multi_step(milestones: list[int], gamma: float, base: float, t: int) -> None:
    scheduler = lr_scheduler.MultiStepLR(Bare(base), milestones, gamma)
    assert_same(schedules.MultiStep(milestones, gamma), scheduler, [*TIMES, *milestones, t], base)


@given(gamma=st.floats(1e-3, 1), base=bases, t=times)
def test_exponential(gamma: float, base: float, t: int) -> None:
    assert_same(schedules.Exponential(gamma), lr_scheduler.ExponentialLR(Bare(base), gamma), [*TIMES, t], base)


@given(total=counts, power=st.floats(0.1, 20), base=bases, t=times)
def test_polynomial(total: int, power: float, base: float, t: int) -> None:
    scheduler = lr_scheduler.PolynomialLR(Bare(base), total, power)
    assert_same(schedules.Polynomial(total, power), scheduler, [*TIMES, total - 1, total, t, t % total], base)


@pytest.mark.parametrize("after", ["restart", "hold", "mirror"])
@given(T_max=counts, share=shares, base=bases, t=times)
def test_cosine(after: Literal["restart", "hold", "mirror"], T_max: int, share: float, base: float, t: int) -> None:
    schedule = schedules.Cosine(T_max, base * share, after)
    scheduler = lr_scheduler.CosineAnnealingLR(Bare(base), T_max, base * share, after=after)
    assert_same(schedule, scheduler, [*TIMES, T_max - 1, T_max, T_max + 1, 2 * T_max, t, t % T_max], base)


@given(T_0=counts, T_mult=st.integers(1, 4), share=shares, base=bases, t=times)
def test_warm_restarts(T_0: int, T_mult: int, share: float, base: float, t: int) -> None:
    scheduler = lr_scheduler.CosineAnnealingWarmRestarts(Bare(base), T_0, T_mult, base * share)
    at = [*TIMES, T_0 - 1, T_0, T_0 + T_0 * T_mult, t, t % T_0]
    assert_same(schedules.WarmRestarts(T_0, T_mult, base * share), scheduler, at, base)


@given(factor=shares, total=counts, base=bases)
def test_constant(factor: float, total: int, base: float) -> None:
    scheduler = lr_scheduler.ConstantLR(Bare(base), factor, total)
    assert_same(schedules.Constant(factor, total), scheduler, [*TIMES, total - 1, total], base)


@given(start=st.floats(1e-9, 1), end=shares, total=counts, base=bases, t=times)
def test_linear(start: float, end: float, total: int, base: float, t: int) -> None:
    scheduler = lr_scheduler.LinearLR(Bare(base), start, end, total)
    assert_same(schedules.Linear(start, end, total), scheduler, [*TIMES, total - 1, total, t % total], base)


@given(width=st.integers(1, 10**5), warmup=counts, factor=st.floats(1e-3, 10), base=bases, t=times)
def test_noam(width: int, warmup: int, factor: float, base: float, t: int) -> None:
    scheduler = lr_scheduler.NoamLR(Bare(base), width, warmup, factor)
    assert_same(schedules.Noam(width, warmup, factor), scheduler, [*TIMES, warmup - 1, warmup, t], base)


@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
@given(
    low=bases,
    high=bases,
    up=counts,
    down=st.one_of(st.none(), st.integers(0, LAST)),
    gamma=st.floats(1e-3, 1),
    momenta=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    t=times,
)
def test_cyclic_and_its_momentum(
    mode: Literal["triangular", "triangular2", "exp_range"],
    low: float,
    high: float,
    up: int,
    down: int | None,
    gamma: float,
    momenta: tuple[float, float],
    t: int,
) -> None:
    low, high = sorted((low, high))
    slow, fast = sorted(momenta)
    scheduler = lr_scheduler.CyclicLR(
        Bare(0.1), low, high, up, down, mode, gamma, base_momentum=slow, max_momentum=fast
    )
    at = [*TIMES[:-7], up - 1, up, up + 1, *([t] if mode == "triangular" else [])]
    assert_same(schedules.Cyclic(low, high, up, down, mode, gamma), scheduler, at)
    momentum = schedules.Cyclic(fast, slow, up, down, mode, gamma)
    assert [[momentum(t)] for t in at] == [scheduler.momenta(t) for t in at]


@pytest.mark.parametrize("scale_mode", ["cycle", "iterations"])
def test_cyclic_with_a_scale_of_the_users_own(scale_mode: Literal["cycle", "iterations"]) -> None:
    settings: dict[str, Any] = {"scale_fn": lambda x: 1 / (1 + x), "scale_mode": scale_mode}
    scheduler = lr_scheduler.CyclicLR(Bare(0.1), 0.1, 0.7, 5, 3, **settings)
    assert_same(schedules.Cyclic(0.1, 0.7, 5, 3, **settings), scheduler, TIMES)


@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("strategy", ["cos", "linear"])
@given(
    high=bases,
    total=counts,
    share=shares,
    divisors=st.tuples(st.floats(0.1, 1e3), st.floats(0.1, 1e6)),
    momenta=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    t=times,
)
def test_one_cycle_and_its_momentum(
    strategy: Literal["cos", "linear"],
    three_phase: bool,
    high: float,
    total: int,
    share: float,
    divisors: tuple[float, float],
    momenta: tuple[float, float],
    t: int,
) -> None:
    slow, fast = sorted(momenta)
    settings: Any = {
        "pct_start": share,
        "anneal_strategy": strategy,
        "div_factor": divisors[0],
        "final_div_factor": divisors[1],
        "three_phase": three_phase,
    }
    scheduler = lr_scheduler.OneCycleLR(Bare(0.1), high, total, base_momentum=slow, max_momentum=fast, **settings)
    schedule = schedules.OneCycle(high, total, **settings)
    at = [*TIMES, total - 1, total, int(share * total), t, t % total]
    assert_same(schedule, scheduler, at)
    momentum = schedule.momentum(slow, fast)
    assert [[momentum(t)] for t in at] == [scheduler.momenta(t) for t in at]


def test_a_function() -> None:
    def factor(t: int) -> float:
        return 1 / (1 + t)

    assert_same(schedules.Function(factor), lr_scheduler.LambdaLR(Bare(0.1), factor), TIMES)


def test_a_running_product_of_powers_of_two() -> None:
    def factor(t: int) -> float:
        return 0.5 if t % 3 else 4.0

    at = [*range(100), 5000, 70, 3000, 3001]
    assert_same(schedules.Multiplicative(factor), lr_scheduler.MultiplicativeLR(Bare(0.1), factor), at)


PAIRS: list[tuple[schedules.Schedule, Callable[[Any], lr_scheduler.LRScheduler]]] = [
    (
        schedules.Linear(0.1, 1.0, 5).then(schedules.Cosine(100, 0.001)),
        lambda opt: lr_scheduler.SequentialLR(
            opt, [lr_scheduler.LinearLR(opt, 0.1, 1.0, 5), lr_scheduler.CosineAnnealingLR(opt, 100, 0.001)], [5]
        ),
    ),
    (
        schedules.Sequence(
            [
                schedules.Exponential(0.9),
                schedules.Sequence([schedules.Step(2), schedules.OneCycle(0.3, 20)], [6]),
                schedules.Cyclic(0.01, 0.2, 3),
            ],
            [4, 40],
        ),
        lambda opt: lr_scheduler.SequentialLR(
            opt,
            [
                lr_scheduler.ExponentialLR(opt, 0.9),
                lr_scheduler.SequentialLR(
                    opt, [lr_scheduler.StepLR(opt, 2), lr_scheduler.OneCycleLR(opt, 0.3, 20)], [6]
                ),
                lr_scheduler.CyclicLR(opt, 0.01, 0.2, 3),
            ],
            [4, 40],
        ),
    ),
    (
        schedules.Chain([schedules.Exponential(0.97), schedules.Cosine(100, 0.02), schedules.Constant(0.3, 7)]),
        lambda opt: lr_scheduler.ChainedScheduler(
            [
                lr_scheduler.ExponentialLR(opt, 0.97),
                lr_scheduler.CosineAnnealingLR(opt, 100, 0.02),
                lr_scheduler.ConstantLR(opt, 0.3, 7),
            ]
        ),
    ),
    (
        schedules.Chain([schedules.OneCycle(0.3, 200), schedules.Step(5, 0.9), schedules.WarmRestarts(9, 2, 0.01)]),
        lambda opt: lr_scheduler.ChainedScheduler(
            [
                lr_scheduler.OneCycleLR(opt, 0.3, 200),
                lr_scheduler.StepLR(opt, 5, 0.9),
                lr_scheduler.CosineAnnealingWarmRestarts(opt, 9, 2, 0.01),
            ]
        ),
    ),
]


@pytest.mark.parametrize(("schedule", "build"), PAIRS, ids=["warm-up", "nested", "chain", "chain of an absolute one"])
def test_compositions(schedule: schedules.Schedule, build: Any) -> None:
    assert_same(schedule, build(Bare(0.1)), TIMES)
