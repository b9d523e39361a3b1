"""Every schedule against arbitrary precision, up to a billion steps: the bounds that the docstrings state."""

import math
from collections.abc import Callable
from typing import Any

import mpmath  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_train.optims.lr_scheduler import (
    ConstantLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    NoamLR,
    OneCycleLR,
    PolynomialLR,
)
from tests.support.optimizers import Bare, with_momentum

BILLION = 10**9
lengths = st.integers(1, BILLION)
epochs = st.integers(0, BILLION)
rates = st.floats(1e-6, 10)
real = mpmath.mpf


def ulps(found: float, exact: Any) -> float:
    """Return how many units in the last place of the exact value lie between; below the normal range of its least."""
    return float(abs(real(found) - exact) / math.ulp(float(exact) or 5e-324))


@pytest.fixture(autouse=True)
def _precise() -> Any:
    with mpmath.workdps(60):
        yield


def falling(t: int, length: Any) -> Any:
    return mpmath.cos(mpmath.pi * t / (2 * real(length))) ** 2


@given(rate=rates, milestones=st.lists(epochs, max_size=8), gamma=st.floats(0.01, 1.5), t=epochs)
def test_multi_step_within_2_ulp(rate: float, milestones: list[int], gamma: float, t: int) -> None:
    exact = real(rate) * real(gamma) ** sum(milestone <= t for milestone in milestones)
    assert ulps(MultiStepLR(Bare(rate), milestones, gamma).lr_at(t)[0], exact) <= 2


@given(rate=rates, factor=st.floats(0, 1), total=lengths, t=epochs)
def test_constant_within_1_ulp(rate: float, factor: float, total: int, t: int) -> None:
    exact = real(rate) * (real(factor) if t < total else 1)
    assert ulps(ConstantLR(Bare(rate), factor, total).lr_at(t)[0], exact) <= 1


@given(rate=rates, start=st.floats(1e-9, 1), end=st.floats(0, 1), total=lengths, t=epochs)
def test_linear_within_4_ulp(rate: float, start: float, end: float, total: int, t: int) -> None:
    scheduler = LinearLR(Bare(rate), start, end, total)
    for epoch in (t, t % total):
        done = min(epoch, total)
        exact = real(rate) * (real(start) * (total - done) + real(end) * done) / total
        assert ulps(scheduler.lr_at(epoch)[0], exact) <= 4
    assert (scheduler.lr_at(0), scheduler.lr_at(total)) == ([rate * start], [rate * end])


@given(rate=rates, total=lengths, power=st.floats(0.1, 20), t=epochs)
def test_polynomial_within_2_ulp_and_the_power(rate: float, total: int, power: float, t: int) -> None:
    scheduler = PolynomialLR(Bare(rate), total, power)
    exact = real(rate) * (real(total - t % total) / total) ** real(power)
    if exact > 1e-290:
        assert ulps(scheduler.lr_at(t % total)[0], exact) <= 2 + power
    assert (scheduler.lr_at(0), scheduler.lr_at(total)) == ([rate], [0.0])


@given(rate=rates, width=st.integers(1, 10**5), warmup=lengths, factor=st.floats(1e-3, 10), t=epochs)
def test_noam_within_6_ulp(rate: float, width: int, warmup: int, factor: float, t: int) -> None:
    n = real(t + 1)
    exact = real(rate) * real(factor) / mpmath.sqrt(width) * min(1 / mpmath.sqrt(n), n / mpmath.sqrt(warmup) ** 3)
    assert ulps(NoamLR(Bare(rate), width, warmup, factor).lr_at(t)[0], exact) <= 6


@given(rate=rates, first=st.integers(1, 10**6), mult=st.integers(1, 5), share=st.floats(0, 1), t=epochs)
def test_warm_restarts_within_8_ulp(rate: float, first: int, mult: int, share: float, t: int) -> None:
    lowest = rate * share
    scheduler = CosineAnnealingWarmRestarts(Bare(rate), first, mult, lowest)
    place, length = (t % first, first) if mult == 1 else (t, first)
    while place >= length:
        place, length = place - length, length * mult
    exact = real(lowest) + (real(rate) - real(lowest)) * falling(place, length)
    assert ulps(scheduler.lr_at(t)[0], exact) <= 8
    assert (scheduler.lr_at(0), scheduler.lr_at(first)) == ([rate], [rate])


@given(low=rates, high=rates, up=st.integers(1, 10**6), down=st.integers(0, 10**6), t=epochs)
def test_cyclic_within_4_ulp(low: float, high: float, up: int, down: int, t: int) -> None:
    low, high = sorted((low, high))
    scheduler = CyclicLR(with_momentum(1.0), low, high, up, down)
    place = t % (up + down)
    height = real(place) / up if place <= up else real(up + down - place) / down
    assert ulps(scheduler.lr_at(t)[0], real(low) + (real(high) - real(low)) * height) <= 4
    assert scheduler.lr_at(0) == [low]
    if down:
        assert scheduler.lr_at(up) == [high]


@given(low=rates, high=rates, gamma=st.floats(0.9, 1), t=st.integers(0, 10**6))
def test_cyclic_exp_range_within_6_ulp(low: float, high: float, gamma: float, t: int) -> None:
    low, high = sorted((low, high))
    place = t % 200
    height = real(min(place, 200 - place)) / 100 * real(gamma) ** t
    scheduler = CyclicLR(with_momentum(1.0), low, high, 100, mode="exp_range", gamma=gamma)
    assert ulps(scheduler.lr_at(t)[0], real(low) + (real(high) - real(low)) * height) <= 6


@given(
    high=rates,
    total=st.integers(2, BILLION),
    share=st.floats(0, 1),
    strategy=st.sampled_from(["cos", "linear"]),
    t=epochs,
)
def test_one_cycle_within_16_ulp(high: float, total: int, share: float, strategy: Any, t: int) -> None:
    scheduler = OneCycleLR(with_momentum(1.0), high, total, pct_start=share, anneal_strategy=strategy)
    t = min(t, total - 1)
    peak, last = real(share * total - 1), real(total - 1)  # the peak's place is a float, in PyTorch as here
    first, lowest = real(high) / 25, real(high) / 25 / 10_000
    start, end, low, top = (real(0), peak, first, real(high)) if t <= peak else (peak, last, real(high), lowest)
    if end <= start:
        return
    done = (t - start) / (end - start)
    if strategy == "cos":
        done = mpmath.sin(mpmath.pi * done / 2) ** 2
    assert ulps(scheduler.lr_at(t)[0], low * (1 - done) + top * done) <= 16


@given(rate=rates, gamma=st.floats(0.5, 1.1), t=st.integers(0, 5000))
def test_a_product_within_2_ulp_however_long(rate: float, gamma: float, t: int) -> None:
    exact = real(rate)
    for epoch in range(1, t + 1):
        exact *= real(gamma if epoch % 2 else 1 / gamma if epoch % 3 else 0.9)
    found = MultiplicativeLR(Bare(rate), lambda epoch: gamma if epoch % 2 else 1 / gamma if epoch % 3 else 0.9).lr_at(t)
    assert ulps(found[0], exact) <= 2


@given(rate=rates, gamma=st.floats(1e-5, 0.9), t=epochs)
def test_a_function_within_1_ulp_of_its_value(rate: float, gamma: float, t: int) -> None:
    value = gamma ** (t % 50)
    assert ulps(LambdaLR(Bare(rate), lambda epoch: gamma ** (epoch % 50)).lr_at(t)[0], real(rate) * real(value)) <= 1


def pairs() -> list[tuple[str, Callable[[Any], Any]]]:
    return [
        ("constant", lambda opt: ConstantLR(opt, 1.0)),
        ("linear", lambda opt: LinearLR(opt, 1.0, 0.0, 7)),
        ("polynomial", lambda opt: PolynomialLR(opt, 7)),
        ("restarts", lambda opt: CosineAnnealingWarmRestarts(opt, 7)),
        ("product", lambda opt: MultiplicativeLR(opt, lambda t: 0.3)),
        ("multi-step", lambda opt: MultiStepLR(opt, [1])),
    ]


@pytest.mark.parametrize("build", [build for _, build in pairs()], ids=[name for name, _ in pairs()])
def test_the_first_rate_is_exactly_the_base_rate(build: Callable[[Any], Any]) -> None:
    assert build(Bare(0.1, 1 / 3)).lr_at(0) == [0.1, 1 / 3]
