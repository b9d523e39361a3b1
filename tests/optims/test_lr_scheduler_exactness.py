"""The rates against arithmetic of 300 bits: step and exponential within 2 ulp, cosine within 8, up to epoch 1e9."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mpmath import cospi, mpf, workprec  # type: ignore[import-untyped]  # it has no types

from lucid_train.optims.lr_scheduler import CosineAnnealingLR, ExponentialLR, StepLR
from tests.support.optimizers import Bare

LAST = 10**9
base_lrs = st.floats(1e-6, 1e3)


def ulps(rate: float, exact: Any) -> float:
    """Return how far a rate is from the exact one, in units of its last place."""
    return float(abs(mpf(rate) - exact) / math.ulp(rate))


def cosine(base_lr: float, eta_min: float, t: int, T_max: int) -> Any:
    return mpf(eta_min) + (mpf(base_lr) - mpf(eta_min)) * cospi(mpf(t) / (2 * T_max)) ** 2


@given(base_lr=base_lrs, fall=st.floats(-600, 600), t=st.integers(1, LAST))
@example(base_lr=0.1, fall=-1.0, t=LAST)
def test_exponential_rates_are_within_2_ulp(base_lr: float, fall: float, t: int) -> None:
    gamma = math.exp(fall / t)
    [rate] = ExponentialLR(Bare(base_lr), gamma).lr_at(t)
    with workprec(300):
        assert ulps(rate, mpf(base_lr) * mpf(gamma) ** t) <= 2


@given(base_lr=base_lrs, fall=st.floats(-600, 600), step_size=st.integers(1, 10**6), t=st.integers(0, LAST))
@example(base_lr=0.1, fall=-1.0, step_size=1, t=LAST)
def test_step_rates_are_within_2_ulp(base_lr: float, fall: float, step_size: int, t: int) -> None:
    drops = t // step_size
    gamma = math.exp(fall / max(drops, 1))
    [rate] = StepLR(Bare(base_lr), step_size, gamma).lr_at(t)
    with workprec(300):
        assert ulps(rate, mpf(base_lr) * mpf(gamma) ** drops) <= 2


@given(
    base_lr=base_lrs, share=st.sampled_from([0.0, 1e-12, 1e-3, 0.5, 1.0]), T_max=st.integers(1, LAST), data=st.data()
)
def test_cosine_rates_are_within_8_ulp(base_lr: float, share: float, T_max: int, data: st.DataObject) -> None:
    t = data.draw(st.integers(0, T_max), label="t")
    eta_min = base_lr * share
    [rate] = CosineAnnealingLR(Bare(base_lr), T_max, eta_min).lr_at(t)
    with workprec(300):
        exact = cosine(base_lr, eta_min, t, T_max)
        assert rate == exact == 0 or ulps(rate, exact) <= 8


@pytest.mark.parametrize("T_max", [2, 3, 100, 65_537, 10**6, LAST])
@pytest.mark.parametrize("eta_min", [0.0, 1e-15, 1e-4])
def test_cosine_rates_near_the_ends_and_the_middle_are_within_8_ulp(T_max: int, eta_min: float) -> None:
    scheduler = CosineAnnealingLR(Bare(0.1), T_max, eta_min)
    near = range(min(T_max, 50))
    middle = T_max // 2
    with workprec(300):
        for t in {*near, *(T_max - 1 - k for k in near), *(max(0, middle - k) for k in near), min(middle + 1, T_max)}:
            assert ulps(scheduler.lr_at(t)[0], cosine(0.1, eta_min, t, T_max)) <= 8, t


@given(T_max=st.integers(1, 10**6), t=st.integers(0, LAST), after=st.sampled_from(["restart", "hold", "mirror"]))
def test_cosine_rates_are_within_8_ulp_many_cycles_later(T_max: int, t: int, after: Any) -> None:
    [rate] = CosineAnnealingLR(Bare(0.1), T_max, 1e-5, after=after).lr_at(t)
    folded = {"restart": t % (T_max + 1), "hold": min(t, T_max), "mirror": t}[after]
    with workprec(300):
        assert ulps(rate, cosine(0.1, 1e-5, folded, T_max)) <= 8


def test_stepping_there_is_as_exact_as_asking() -> None:
    optimizer = Bare(0.1)
    scheduler = ExponentialLR(optimizer, 0.9999)
    for _ in range(20_000):
        scheduler.step()
    with workprec(300):
        assert ulps(scheduler.last_lr[0], mpf(0.1) * mpf(0.9999) ** 20_000) <= 2


def test_long_arrays_are_as_exact() -> None:
    size = 100_001
    epochs = np.arange(size)
    picked = [*range(50), *range(50, size - 50, 997), *range(size - 50, size - 1)]
    falling = CosineAnnealingLR(Bare(0.1), size - 1).lr_at(epochs)[picked, 0]
    decaying = ExponentialLR(Bare(0.1), 0.999).lr_at(epochs)[picked, 0]
    with workprec(300):
        for t, rate in zip(picked, falling.tolist(), strict=True):
            assert ulps(rate, cosine(0.1, 0.0, t, size - 1)) <= 8
        for t, rate in zip(picked, decaying.tolist(), strict=True):
            assert ulps(rate, mpf(0.1) * mpf(0.999) ** t) <= 3
