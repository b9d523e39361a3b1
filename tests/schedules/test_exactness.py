"""Every schedule against arbitrary precision, up to t = 1e9: the bounds that the docstrings state."""

import math
from collections.abc import Iterator
from typing import Any, Literal

import mpmath  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lucid_train.schedules import (
    WSD,
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    Function,
    InverseSqrt,
    InverseTime,
    Linear,
    Multiplicative,
    MultiStep,
    Noam,
    OneCycle,
    Piecewise,
    Polynomial,
    Ramp,
    Rex,
    Schedule,
    Step,
    WarmRestarts,
)

LAST = 10**9
lengths = st.integers(1, LAST)
times = st.integers(0, LAST)
bases = st.floats(1e-6, 1e3)
real = mpmath.mpf


@pytest.fixture(autouse=True)
def _precise() -> Iterator[None]:
    with mpmath.workdps(90):
        yield


def ulps(found: float, exact: Any) -> float:
    """Return how many units in the last place of the exact value lie between; below the normal range of its least."""
    return float(abs(real(found) - exact) / math.ulp(float(exact) or 5e-324))


def falling(t: Any, length: int) -> Any:
    return mpmath.cospi(t / (2 * real(length))) ** 2


@given(base=bases, fall=st.floats(-600, 600), t=st.integers(1, LAST))
@example(base=0.1, fall=-1.0, t=LAST)
def test_exponential_within_2_ulp(base: float, fall: float, t: int) -> None:
    gamma = math.exp(fall / t)
    assert ulps(Exponential(gamma)(t, base), real(base) * real(gamma) ** t) <= 2


@given(base=bases, fall=st.floats(-600, 600), step_size=st.integers(1, 10**6), t=times)
@example(base=0.1, fall=-1.0, step_size=1, t=LAST)
def test_step_within_2_ulp(base: float, fall: float, step_size: int, t: int) -> None:
    drops = t // step_size
    gamma = math.exp(fall / max(drops, 1))
    assert ulps(Step(step_size, gamma)(t, base), real(base) * real(gamma) ** drops) <= 2


@given(base=bases, milestones=st.lists(times, max_size=8), gamma=st.floats(0.01, 1.5), t=times)
def test_multi_step_within_2_ulp(base: float, milestones: list[int], gamma: float, t: int) -> None:
    exact = real(base) * real(gamma) ** sum(milestone <= t for milestone in milestones)
    assert ulps(MultiStep(milestones, gamma)(t, base), exact) <= 2


@given(base=bases, total=lengths, power=st.floats(0.1, 20), t=times)
def test_polynomial_within_2_ulp_and_the_power(base: float, total: int, power: float, t: int) -> None:
    schedule = Polynomial(total, power)
    exact = real(base) * (real(total - t % total) / total) ** real(power)
    if exact > 1e-290:
        assert ulps(schedule(t % total, base), exact) <= 2 + power
    assert (schedule(0, base), schedule(total, base)) == (base, 0.0)


@given(base=bases, share=st.sampled_from([0.0, 1e-12, 1e-3, 0.5, 1.0]), T_max=lengths, after_end=times, data=st.data())
@pytest.mark.parametrize("after", ["restart", "hold", "mirror"])
def test_cosine_within_8_ulp(
    after: Literal["restart", "hold", "mirror"], base: float, share: float, T_max: int, after_end: int, data: Any
) -> None:
    eta_min = base * share
    schedule = Cosine(T_max, eta_min, after)
    for t in (data.draw(st.integers(0, T_max), label="t"), T_max + after_end):
        place = {"restart": t % (T_max + 1), "hold": min(t, T_max), "mirror": t % (2 * T_max)}[after]
        exact = real(eta_min) + (real(base) - real(eta_min)) * falling(place, T_max)
        found = schedule(t, base)
        assert found == exact == 0 or ulps(found, exact) <= 8
    assert (schedule(0, base), schedule(T_max, base)) == (base, eta_min)


@pytest.mark.parametrize("T_max", [2, 3, 100, 65_537, 10**6, LAST])
@pytest.mark.parametrize("eta_min", [0.0, 1e-15, 1e-4])
def test_cosine_near_the_ends_and_the_middle_within_8_ulp(T_max: int, eta_min: float) -> None:
    schedule = Cosine(T_max, eta_min)
    near = range(min(T_max, 50))
    middle = T_max // 2
    for t in {*near, *(T_max - 1 - k for k in near), *(max(0, middle - k) for k in near), min(middle + 1, T_max)}:
        exact = real(eta_min) + (real(0.1) - real(eta_min)) * falling(t, T_max)
        assert schedule(t, 0.1) == exact == 0 or ulps(schedule(t, 0.1), exact) <= 8, t


@given(base=bases, ratio=st.floats(0, 1), waves=st.floats(0.05, 50), T_max=lengths, power=st.floats(0.2, 5), t=times)
def test_cosine_in_waves_to_a_power_within_8_ulp_times_the_power(
    base: float, ratio: float, waves: float, T_max: int, power: float, t: int
) -> None:
    t %= T_max + 1
    curve = mpmath.cospi(real(waves) * t / T_max) ** 2
    exact = real(base) * (real(ratio) + (1 - real(ratio)) * curve ** real(power))
    found = Cosine(T_max, min_ratio=ratio, cycles=waves, power=power)(t, base)
    if exact > 1e-290:
        assert ulps(found, exact) <= 8 * max(1, power)
    assert Cosine(T_max, min_ratio=ratio, cycles=waves, power=power)(0, base) == base


@given(base=bases, T_max=lengths, cycles=st.integers(1, 20), ratio=st.floats(0, 1), gamma=st.floats(0.1, 1), t=times)
def test_warm_restarts_that_do_not_divide_within_8_ulp(
    base: float, T_max: int, cycles: int, ratio: float, gamma: float, t: int
) -> None:
    t %= T_max
    descent, place = divmod(t * cycles, T_max)
    exact = real(base) * (real(ratio) + (1 - real(ratio)) * real(gamma) ** descent * falling(place, T_max))
    schedule = WarmRestarts(min_ratio=ratio, gamma=gamma, cycles=cycles).sized(T_max)
    assert ulps(schedule(t, base), exact) <= 8
    assert (schedule(0, base), schedule(T_max, base)) == (base, base * ratio)


@given(base=bases, first=st.integers(1, 10**4), mult=st.floats(1.01, 4), t=st.integers(0, 10**5))
def test_warm_restarts_of_a_fraction_are_within_1e_9_of_the_base(base: float, first: int, mult: float, t: int) -> None:
    place, length, begins = real(t), real(first), False
    while place >= length:
        place, length = place - length, length * real(mult)
    begins = place < 1e-6 or length - place < 1e-6  # where rounding decides to which descent it belongs
    if not begins:
        assert abs(WarmRestarts(first, mult)(t, base) - real(base) * falling(place, length)) <= 1e-9 * base


def shape_of(shape: str, p: Any) -> Any:
    return {"linear": 1 - p, "cosine": mpmath.cospi(p / 2) ** 2, "1-sqrt": 1 - mpmath.sqrt(p)}[shape]


@given(base=bases, start=st.floats(0, 1), end=st.floats(0, 1), total=lengths, t=times)
@pytest.mark.parametrize("shape", ["cosine", "1-sqrt"])
def test_ramp_within_8_ulp(shape: Any, base: float, start: float, end: float, total: int, t: int) -> None:
    t %= total + 1
    p = real(t) / total
    high, low = max(start, end), min(start, end)
    exact = real(base) * (real(low) + (real(high) - real(low)) * shape_of(shape, p if end < start else 1 - p))
    schedule = Ramp(start, end, total, shape)
    if exact > 1e-290:
        assert ulps(schedule(t, base), exact) <= 8
    assert (schedule(0, base), schedule(total, base)) == (base * start, base * end)


@given(base=bases, start=st.floats(1e-9, 1), end=st.floats(1e-9, 1), total=lengths, t=times)
def test_exponential_ramp_within_4_ulp_and_the_logarithm(
    base: float, start: float, end: float, total: int, t: int
) -> None:
    t %= total + 1
    exact = real(base) * real(start) * (real(end) / real(start)) ** (real(t) / total)
    schedule = Ramp(start, end, total, "exponential")
    assert ulps(schedule(t, base), exact) <= 4 + abs(math.log(end / start))
    assert (schedule(0, base), schedule(total, base)) == (base * start, base * end)


@given(base=bases, warm=st.integers(0, 10**6), decay=st.integers(1, 10**6), ratio=st.floats(0, 1), t=times)
@pytest.mark.parametrize("shape", ["linear", "cosine", "1-sqrt"])
def test_wsd_within_8_ulp(shape: Any, base: float, warm: int, decay: int, ratio: float, t: int) -> None:
    length = warm + decay + 1000
    t %= length + 1
    schedules = (WSD(warm, decay, shape, min_ratio=ratio, start=0.0), WSD(warm, decay, shape, base * ratio, start=0.0))
    for schedule, floor in zip(schedules, (real(base) * real(ratio), real(base * ratio)), strict=True):
        p = real(max(0, t - warm - 1000)) / decay
        exact = real(base) * t / warm if t < warm else floor + (real(base) - floor) * shape_of(shape, p)
        if exact > 1e-290:
            assert ulps(schedule.sized(length)(t, base), exact) <= 8
        else:
            assert schedule.sized(length)(t, base) == exact


@given(base=bases, ratio=st.floats(1e-6, 1), decay=lengths, t=times)
def test_wsd_of_an_exponential_within_4_ulp_and_the_logarithm(base: float, ratio: float, decay: int, t: int) -> None:
    t %= decay + 1
    exact = real(base) * real(ratio) ** (real(t) / decay)
    schedule = WSD(0, decay, "exponential", min_ratio=ratio).sized(decay)
    assert ulps(schedule(t, base), exact) <= 4 - math.log(ratio)


@given(base=bases, gamma=st.floats(1e-6, 10), every=lengths, fall=st.floats(0, 50), ratio=st.floats(0, 1))
def test_exponential_over_a_length_within_4_ulp_and_the_logarithm(
    base: float, gamma: float, every: int, fall: float, ratio: float
) -> None:
    t = int(fall * every) if gamma <= 1 else int(fall * every) // 5
    exact = real(base) * real(gamma) ** (real(t) / every)
    if exact > 1e-290:
        assert ulps(Exponential(gamma, every)(t, base), exact) <= 4 + abs(math.log(gamma))
    assert Exponential(gamma, every, ratio)(t, base) == max(Exponential(gamma, every)(t, base), base * ratio)


@given(base=bases, end=st.floats(0, 1e3), total=lengths, power=st.floats(0.1, 10), ratio=st.floats(0, 1), t=times)
def test_polynomial_to_an_end_within_8_ulp_and_the_power_of_the_greater(
    base: float, end: float, total: int, power: float, ratio: float, t: int
) -> None:
    for cycle in (False, True):
        whole = total * max(1, -(-t // total)) if cycle else total
        curve = max(real(0), 1 - real(t) / whole) ** real(power)
        for schedule, floor in (
            (Polynomial(total, power, end, cycle=cycle), real(end)),
            (Polynomial(total, power, min_ratio=ratio, cycle=cycle), real(base) * real(ratio)),
        ):
            exact = floor + (real(base) - floor) * curve
            assert abs(real(schedule(t, base)) - exact) <= (8 + power) * math.ulp(max(base, float(floor)))
    assert (Polynomial(total, power, end)(0, base), Polynomial(total, power, end)(total, base)) == (base, end)


@given(base=bases, total=lengths, ratio=st.floats(0, 1), t=times)
def test_rex_within_4_ulp(base: float, total: int, ratio: float, t: int) -> None:
    for time in (t, t % total):
        left = 1 - real(min(time, total)) / total
        for floor in (0.0, ratio):
            exact = real(base) * (real(floor) + (1 - real(floor)) * left / (real(0.5) + left / 2))
            found = Rex(total, floor)(time, base)
            assert found == exact == 0 or ulps(found, exact) <= 4


@given(base=bases, timescale=lengths, t=times)
def test_inverse_sqrt_within_2_ulp(base: float, timescale: int, t: int) -> None:
    exact = real(base) * mpmath.sqrt(real(timescale) / (timescale + t))
    assert ulps(InverseSqrt(timescale)(t, base), exact) <= 2


@given(
    base=bases, steps=lengths, rate=st.floats(1e-3, 1e3), power=st.sampled_from([1.0, 0.5]) | st.floats(0.1, 5), t=times
)
def test_inverse_time_within_4_ulp_and_twice_the_power(
    base: float, steps: int, rate: float, power: float, t: int
) -> None:
    for staircase in (False, True):
        place = real(t // steps) if staircase else real(t) / steps
        exact = real(base) / (1 + real(rate) * place) ** real(power)
        assert ulps(InverseTime(steps, rate, power, staircase)(t, base), exact) <= 4 + 2 * power


@given(
    base=bases,
    places=st.lists(st.integers(1, LAST), min_size=1, max_size=5, unique=True).map(sorted),
    levels=st.lists(st.just(0.0) | st.floats(1e-6, 10), min_size=6, max_size=6),
    t=times,
)
def test_piecewise_within_1_ulp_and_between_within_8(
    base: float, places: list[int], levels: list[float], t: int
) -> None:
    factors = levels[: len(places) + 1]
    passed = sum(place <= t for place in places)
    assert ulps(Piecewise(places, factors)(t, base), real(base) * real(factors[passed])) <= 1
    if passed < len(places):
        start = places[passed - 1] if passed else 0
        p = real(t - start) / (places[passed] - start)
        here, there = real(factors[passed]), real(factors[passed + 1])
        for way, rest in (("linear", 1 - p), ("cosine", shape_of("cosine", p))):
            exact = real(base) * (there + (here - there) * rest)
            found = Piecewise(places, factors, way)(t, base)  # type: ignore[arg-type]  # one of the two
            assert found == exact == 0 or ulps(found, exact) <= 8


@given(base=bases, first=st.integers(1, 10**6), mult=st.integers(1, 5), share=st.floats(0, 1), t=times)
def test_warm_restarts_within_8_ulp(base: float, first: int, mult: int, share: float, t: int) -> None:
    lowest = base * share
    schedule = WarmRestarts(first, mult, lowest)
    place, length = (t % first, first) if mult == 1 else (t, first)
    while place >= length:
        place, length = place - length, length * mult
    exact = real(lowest) + (real(base) - real(lowest)) * falling(place, length)
    assert ulps(schedule(t, base), exact) <= 8
    assert (schedule(0, base), schedule(first, base)) == (base, base)


@given(base=bases, first=st.integers(1, 10**4), mult=st.integers(1, 5), t=st.floats(0, 1e6))
def test_warm_restarts_between_two_times_within_8_ulp(base: float, first: int, mult: int, t: float) -> None:
    place, length = (real(t) % first, first) if mult == 1 else (real(t), first)
    while place >= length:
        place, length = place - length, length * mult
    exact = real(base) * falling(place, length)
    assert ulps(WarmRestarts(first, mult)(t, base), exact) <= 8


@given(base=bases, factor=st.floats(0, 1), total=lengths, t=times)
def test_constant_within_1_ulp(base: float, factor: float, total: int, t: int) -> None:
    exact = real(base) * (real(factor) if t < total else 1)
    assert ulps(Constant(factor, total)(t, base), exact) <= 1


factors = st.one_of(st.just(0.0), st.floats(1e-9, 1))  # a scale below the normal range has lost digits already


@given(base=bases, start=factors, end=factors, total=lengths, t=times)
def test_linear_within_4_ulp(base: float, start: float, end: float, total: int, t: int) -> None:
    schedule = Linear(start, end, total)
    for time in (t, t % total):
        done = min(time, total)
        exact = real(base) * (real(start) * (total - done) + real(end) * done) / total
        assert ulps(schedule(time, base), exact) <= 4
    assert (schedule(0, base), schedule(total, base)) == (base * start, base * end)


@given(base=bases, width=st.integers(1, 10**5), warmup=lengths, factor=st.floats(1e-3, 10), t=times)
def test_noam_within_6_ulp(base: float, width: int, warmup: int, factor: float, t: int) -> None:
    n = real(t + 1)
    exact = real(base) * real(factor) / mpmath.sqrt(width) * min(1 / mpmath.sqrt(n), n / mpmath.sqrt(warmup) ** 3)
    assert ulps(Noam(width, warmup, factor)(t, base), exact) <= 6


@given(low=bases, high=bases, up=st.integers(1, 10**6), down=st.integers(0, 10**6), t=times)
def test_cyclic_within_4_ulp_of_the_greater_of_value_and_first_bound(
    low: float, high: float, up: int, down: int, t: int
) -> None:
    schedule = Cyclic(low, high, up, down)
    place = t % (up + down)
    height = real(place) / up if place <= up else real(up + down - place) / down
    exact = real(low) * (1 - height) + real(high) * height
    assert ulps(schedule(t), exact) <= 4 if low <= high else abs(real(schedule(t)) - exact) <= 4 * math.ulp(low)
    assert schedule(0) == low
    if down:
        assert schedule(up) == high


@given(low=bases, high=bases, gamma=st.floats(0.9, 1), t=st.integers(0, 10**6))
def test_cyclic_exp_range_within_6_ulp(low: float, high: float, gamma: float, t: int) -> None:
    low, high = sorted((low, high))
    place = t % 200
    height = real(min(place, 200 - place)) / 100 * real(gamma) ** t
    schedule = Cyclic(low, high, 100, mode="exp_range", gamma=gamma)
    assert ulps(schedule(t), real(low) + (real(high) - real(low)) * height) <= 6


@given(
    high=bases,
    total=st.integers(2, LAST),
    share=st.floats(0, 1),
    strategy=st.sampled_from(["cos", "linear"]),
    t=times,
)
def test_one_cycle_within_16_ulp(high: float, total: int, share: float, strategy: Any, t: int) -> None:
    t = min(t, total - 1)
    peak, last = real(share * total - 1), real(total - 1)  # the peak's place is a float, in PyTorch as here
    first, lowest = real(high) / 25, real(high) / 25 / 10_000
    start, end, low, top = (real(0), peak, first, real(high)) if t <= peak else (peak, last, real(high), lowest)
    if end <= start:
        return
    done = (t - start) / (end - start)
    if strategy == "cos":
        done = mpmath.sin(mpmath.pi * done / 2) ** 2
    schedule = OneCycle(high, total, pct_start=share, anneal_strategy=strategy)
    assert ulps(schedule(t), low * (1 - done) + top * done) <= 16


@given(base=bases, gamma=st.floats(1e-5, 0.9), t=times)
def test_a_function_within_1_ulp_of_its_value(base: float, gamma: float, t: int) -> None:
    value = gamma ** (t % 50)
    assert ulps(Function(lambda t: gamma ** (t % 50))(t, base), real(base) * real(value)) <= 1


@given(base=bases, gamma=st.floats(0.5, 1.1), t=st.integers(1, 3000))
def test_a_product_within_t_ulp(base: float, gamma: float, t: int) -> None:
    def factor(t: int) -> float:
        return gamma if t % 2 else 1 / gamma if t % 3 else 0.9

    exact = real(base)
    for time in range(1, t + 1):
        exact *= real(factor(time))
    assert ulps(Multiplicative(factor)(t, base), exact) <= t


@pytest.mark.parametrize(
    "schedule",
    [
        Step(3),
        MultiStep([1]),
        Exponential(0.3),
        Polynomial(7),
        Cosine(7, 0.01),
        WarmRestarts(7),
        Constant(),
        Linear(1.0, 0.0, 7),
        Multiplicative(lambda t: 0.3),
    ],
    ids=repr,
)
def test_the_first_value_is_exactly_the_base(schedule: Schedule) -> None:
    assert (schedule(0, 0.1), schedule(0, 1 / 3)) == (0.1, 1 / 3)
