"""docs/schedules_of_others.md against the installed packages; `test_schedules_of_others_parity` runs these."""

import math
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import optimization

from lucid_train import schedules
from lucid_train.optims.lr_scheduler import LRScheduler
from lucid_train.schedules import (
    WSD,
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    InverseTime,
    Linear,
    MultiStep,
    Piecewise,
    Polynomial,
    Rex,
    Schedule,
    Step,
    WarmRestarts,
)
from tests.support.pytorch import sgd, walk

jax.config.update("jax_enable_x64", True)

# timm's own __init__ needs torchvision, its schedules do not.
_spec = find_spec("timm")
assert _spec is not None
_timm = ModuleType("timm")
_timm.__path__ = list(_spec.submodule_search_locations or ())
sys.modules["timm"] = _timm

from timm import scheduler as timm  # type: ignore[import-not-found]  # noqa: E402  # it has no types

RATE, STEPS = 0.1, 100
PAGE = Path(__file__).parents[2] / "docs" / "schedules_of_others.md"
ROW = re.compile(r"\| (?:[^`|]*: )?`([^`]+)` \| `([^`]+)` \|")


def rows() -> list[Any]:
    """Return library, theirs and ours of each row of the page; every line of a table must be one."""
    found, library = [], ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            library = line.removeprefix("## ")
        elif line.startswith("|") and line not in ("| theirs | ours |", "|---|---|"):
            match = ROW.fullmatch(line)
            assert match is not None, line
            found.append(pytest.param(library, *match.groups(), id=f"{library}: {match[1]}"))
    return found


def of_transformers(text: str, rates: tuple[float, ...] = (RATE, RATE / 5)) -> Any:
    groups = sgd(*rates)
    optimizer = torch.optim.SGD(groups.param_groups, lr=rates[0])  # some read the rate of the optimizer as a whole
    return walk(optimizer, eval(text, {**vars(optimization), "optimizer": optimizer}), STEPS)


def of_optax(text: str) -> Any:
    schedule = eval(text, vars(optax))
    return jax.vmap(lambda t: jnp.asarray(schedule(t)))(jnp.arange(STEPS))


def of_timm(text: str) -> Any:
    optimizer = sgd(RATE, RATE)
    scheduler = eval(text, {**vars(timm), "WSDLRScheduler": _wsd_of_timm(), "optimizer": optimizer})
    values = []
    for t in range(STEPS):
        scheduler.step(t)
        values.append([group["lr"] for group in optimizer.param_groups])
    return values


def _wsd_of_timm() -> Any:
    from timm.scheduler.wsd_lr import WSDLRScheduler  # type: ignore[import-not-found]  # it has no types

    return WSDLRScheduler


def of_keras(text: str) -> Any:
    schedule = eval(text, vars(keras.optimizers.schedules))
    return [float(schedule(t)) for t in range(STEPS)]


def lr_scheduler(
    warmup_steps: int, decay_ratio: float | None = None, decay_type: str = "linear", min_lr_factor: float = 0.0
) -> Callable[[int], float]:
    """torchtitan's warm-up, stable, decay, as its configuration names it; a step more than there are is stable."""
    decay = STEPS - warmup_steps if decay_ratio is None else round(STEPS * decay_ratio)
    stable = STEPS + 1 - warmup_steps - decay
    curves: dict[str, Callable[[float], float]] = {
        "linear": lambda p: 1 - p,
        "sqrt": lambda p: 1 - math.sqrt(p),
        "cosine": lambda p: 0.5 * (1 + math.cos(math.pi * p)),
    }

    def factor(t: int) -> float:
        if t < warmup_steps:
            return (t + 1) / warmup_steps
        if t < warmup_steps + stable:
            return 1.0
        return min_lr_factor + (1 - min_lr_factor) * curves[decay_type]((t + 1 - warmup_steps - stable) / decay)

    return factor


def multi_step(warmup: int, places: tuple[int, ...], factor: float) -> Callable[[int], float]:
    return lambda t: t / warmup if t < warmup else factor ** sum(t >= place for place in places)


def infinite(warmup: int, cosine: int, constant: float, anneal: int, low: float) -> Callable[[int], float]:
    def value(t: int) -> float:
        if t < warmup:
            return t / warmup
        if t < warmup + cosine:
            return constant + (1 - constant) / 2 * (1 + math.cos(math.pi * (t - warmup) / cosine))
        return constant if t < anneal else constant * (low / constant) ** ((t - anneal) / (STEPS - anneal))

    return value


def rex() -> Callable[[int], float]:
    return lambda t: (1 - t / STEPS) / (1 / 2 + 1 / 2 * (1 - t / STEPS))


def power(warmup: int, peak_until: int, b: float, decay: int) -> Callable[[int], float]:
    def value(t: int) -> float:
        if t < warmup:
            return t / warmup
        end = STEPS - decay
        law = min(1.0, (min(t, end) / peak_until) ** -b)
        return law * 0.01 ** (max(0, t - end) / decay)

    return value


def warm(shape: str) -> Callable[[int], float]:
    def value(t: int) -> float:
        if t >= 10:
            return 1.0
        return 0.5 * (1 - math.cos(math.pi * t / 10)) if shape == "cosine" else 0.01 ** (1 - t / 10)

    return value


def of_a_formula(text: str) -> Any:
    factor = eval(text, globals())
    return [RATE * factor(t) for t in range(STEPS)]


LIBRARIES: dict[str, Callable[[str], Any]] = {
    "transformers": of_transformers,
    "optax": of_optax,
    "timm": of_timm,
    "Keras": of_keras,
    "torchtitan": of_a_formula,
    "Papers": of_a_formula,
}
OURS = {
    **{name: getattr(schedules, name) for name in schedules.__all__},
    **{"cos": math.cos, "tanh": math.tanh, "pi": math.pi, "randn": torch.randn, "Generator": torch.Generator},
}


@pytest.mark.parametrize(("library", "theirs", "ours"), rows())
def test_each_row_of_the_page_has_the_same_numbers_in_both_columns(library: str, theirs: str, ours: str) -> None:
    schedule = eval(ours, OURS)
    values = np.asarray(LIBRARIES[library](theirs), dtype=float).reshape(STEPS, -1)
    tolerance = 1e-6 if library == "Keras" else 1e-12
    for column, base in zip(values.T, (RATE, RATE / 5 if library == "transformers" else RATE), strict=False):
        peak = column.max()
        np.testing.assert_allclose(schedule.sized(STEPS).table(STEPS, base), column, rtol=0, atol=tolerance * peak)
    optimizer = sgd(RATE)
    used = walk(optimizer, LRScheduler(optimizer, schedule.sized(STEPS)), STEPS)
    np.testing.assert_allclose(np.ravel(used), values[:, 0], rtol=0, atol=tolerance * values[:, 0].max())


# Any arguments

few = settings(max_examples=20, deadline=None)
warmups = st.integers(0, 30)
ratios = st.sampled_from([0.0, 0.05, 0.5, 1.0]) | st.floats(0, 1)
shapes = st.sampled_from(["linear", "cosine", "1-sqrt"])


def assert_same(ours: Schedule, theirs: Any, times: Any = slice(None), *, base: float = RATE) -> None:
    column = np.asarray(theirs, dtype=float).reshape(STEPS, -1)[:, 0]
    table = np.array(ours.sized(STEPS).table(STEPS, base))
    np.testing.assert_allclose(table[times], column[times], rtol=0, atol=1e-12 * max(column.max(), base))


@few
@given(warmup=warmups, waves=st.floats(0.1, 5), ratio=ratios)
def test_cosines_of_transformers(warmup: int, waves: float, ratio: float) -> None:
    theirs = f"get_cosine_with_min_lr_schedule_with_warmup(optimizer, {warmup}, 100, {waves!r}, min_lr_rate={ratio!r})"
    assert_same(Cosine(cycles=waves, min_ratio=ratio).warmup(warmup, start=0), of_transformers(theirs, (RATE,)))


@few
@given(warmup=warmups, descents=st.integers(1, 12))
def test_restarts_of_transformers(warmup: int, descents: int) -> None:
    theirs = f"get_cosine_with_hard_restarts_schedule_with_warmup(optimizer, {warmup}, 100, {descents})"
    # At a whole place, their rounding decides whether a descent ends or begins.
    times = [t for t in range(STEPS) if t < warmup or (t - warmup) * descents % (STEPS - warmup)]
    assert_same(WarmRestarts(cycles=descents).warmup(warmup, start=0), of_transformers(theirs, (RATE,)), times)


@few
@given(warmup=st.integers(0, 40), decay=st.integers(1, 50), shape=shapes, warmup_shape=shapes, ratio=st.floats(0, 1))
def test_wsd_of_transformers(warmup: int, decay: int, shape: Any, warmup_shape: Any, ratio: float) -> None:
    theirs = f"get_wsd_schedule(optimizer, {warmup}, {decay}, 100, None, {warmup_shape!r}, {shape!r}, {ratio!r})"
    ours = WSD(warmup, decay, shape, min_ratio=ratio, start=ratio, warmup_shape=warmup_shape)
    assert_same(ours, of_transformers(theirs, (RATE,)))


@few
@given(warmup=warmups, timescale=st.integers(1, 500), power=st.floats(0.2, 4), end=st.floats(0, 0.09))
def test_laws_of_transformers(warmup: int, timescale: int, power: float, end: float) -> None:
    theirs = f"get_inverse_sqrt_schedule(optimizer, {warmup}, {timescale})"
    assert_same(InverseSqrt(timescale).warmup(warmup, start=0), of_transformers(theirs, (RATE,)))
    theirs = f"get_polynomial_decay_schedule_with_warmup(optimizer, {warmup}, 100, {end!r}, {power!r})"
    assert_same(Polynomial(power=power, end=end).warmup(warmup, start=0), of_transformers(theirs, (RATE,)))


@few
@given(
    begin=st.integers(0, 30),
    steps=st.integers(1, 150),
    rate=st.floats(0.05, 0.99),
    ratio=ratios,
    power=st.floats(0.2, 4),
    end=st.floats(0, 0.4),
)
def test_decays_of_optax(begin: int, steps: int, rate: float, ratio: float, power: float, end: float) -> None:
    def later(ours: Schedule) -> Schedule:
        return Constant().until(begin).then(ours) if begin else ours

    decay = f"exponential_decay({RATE}, {steps}, {rate!r}, {begin}, {{}}, {RATE * ratio!r})"
    assert_same(later(Exponential(rate, steps, ratio)), of_optax(decay.format(False)))
    # XLA multiplies by the reciprocal: 49 / 49 is below 1.
    whole = [t for t in range(STEPS) if t <= begin or (t - begin) * (1 / steps) // 1 == (t - begin) // steps]
    assert_same(later(Step(steps, rate, ratio)), of_optax(decay.format(True)), whole)
    polynomial = f"polynomial_schedule({RATE}, {end!r}, {power!r}, {steps}, {begin})"
    assert_same(later(Polynomial(steps, power, end)), of_optax(polynomial), base=RATE)
    cosine = f"cosine_decay_schedule({RATE}, {steps}, {ratio!r}, {power!r})"
    assert_same(Cosine(steps, after="hold", min_ratio=ratio, power=power), of_optax(cosine))


@few
@given(
    places=st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True).map(sorted),
    scales=st.lists(st.floats(0, 3), min_size=4, max_size=4),
    way=st.sampled_from(["linear", "cosine", None]),
)
def test_pieces_of_optax(places: list[int], scales: list[float], way: Any) -> None:
    scaled = dict(zip(places, scales, strict=False))
    factors = [math.prod(scales[:count]) for count in range(len(places) + 1)]
    name = f"piecewise_interpolate_schedule({way!r}, " if way else "piecewise_constant_schedule("
    assert_same(Piecewise(places, factors, way), of_optax(f"{name}{RATE}, {scaled!r})"))


@few
@given(
    first=st.integers(2, 60),
    factor=st.sampled_from([1.0, 1.5, 2.0, 2.3]),
    decay=st.floats(0.1, 1),
    limit=st.integers(1, 6),
    low=st.floats(0, 0.01),
    warmup=st.integers(0, 20),
)
def test_cosines_of_timm(first: int, factor: float, decay: float, limit: int, low: float, warmup: int) -> None:
    arguments = f"{first}, {low!r}, {factor}, {decay!r}, {limit}, warmup_t={warmup}"
    # Where a descent begins their logarithm decides by its rounding to which one the step belongs.
    begins = [first * sum(factor**i for i in range(count)) for count in range(1, 12)] if factor != 1 else []
    times = [t for t in range(STEPS) if all(abs(t - begin) > 1e-6 for begin in begins)]
    restarts = WarmRestarts(first, factor, eta_min=low, gamma=decay, cycles=limit)
    middle = Linear(0, 1, warmup).then(restarts.skip(warmup)) if warmup else restarts
    assert_same(middle, of_timm(f"CosineLRScheduler(optimizer, {arguments})"), times)


@few
@given(
    period=st.floats(1.01, 40),
    rate=st.floats(0.3, 1),
    warmup=warmups,
    places=st.lists(st.integers(2, 99), max_size=4).map(sorted),
    low=st.floats(0, 0.09),
    decay=st.integers(1, 60),
)
def test_steps_and_wsd_of_timm(
    period: float, rate: float, warmup: int, places: list[int], low: float, decay: int
) -> None:
    theirs = f"StepLRScheduler(optimizer, {period!r}, {rate!r}, {warmup})"
    assert_same(Step(period, rate).warmup(warmup, start=0), of_timm(theirs))
    theirs = f"MultiStepLRScheduler(optimizer, {places!r}, {rate!r}, {warmup})"
    assert_same(MultiStep(places, rate).skip(1).warmup(warmup, start=0), of_timm(theirs))
    theirs = f"WSDLRScheduler(optimizer, {STEPS - warmup}, {decay}, {low!r}, warmup_t={warmup})"
    assert_same(WSD(warmup, decay, eta_min=low, start=0), of_timm(theirs))


@few
@given(steps=st.integers(1, 150), rate=st.floats(0.05, 2), staircase=st.booleans(), power=st.floats(0.5, 3))
def test_decays_of_keras(steps: int, rate: float, staircase: bool, power: float) -> None:
    times = range(0, STEPS, 9)
    kinds = keras.optimizers.schedules
    for ours, theirs in [
        (InverseTime(steps, rate, staircase=staircase), kinds.InverseTimeDecay(RATE, steps, rate, staircase)),
        (Polynomial(steps, power, 0.01, cycle=True), kinds.PolynomialDecay(RATE, steps, 0.01, power, cycle=True)),
        (Cosine(steps, after="hold", min_ratio=0.1), kinds.CosineDecay(RATE, steps, 0.1)),
    ]:
        # Theirs are float32, within 6e-8 of the peak. Before the end of 150 steps at most, what is left is at least
        # 1 / 150, so that a power of 0.5 makes six times that of its rounding.
        found = [float(theirs(t)) for t in times]
        assert [ours(t, RATE) for t in times] == pytest.approx(found, rel=0, abs=1e-6 * RATE)


def test_rex_with_a_floor() -> None:
    assert_same(Rex(min_ratio=0.2), [RATE * (0.2 + 0.8 * rex()(t)) for t in range(STEPS)])
