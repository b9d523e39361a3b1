"""A schedule of a user's own, bound: one method, and what is refused of what it returns."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from attrs import frozen

from lucid_train.optims.lr_scheduler import LRScheduler, StepLR
from lucid_train.schedules import Constant, Schedule, Step
from tests.support.optimizers import Bare
from tests.support.schedules import walk


@frozen
class Given(Schedule):
    """A user's own that returns what it was given, right or wrong."""

    given: Callable[[int], Any]

    def affine(self, t: int) -> Any:
        return self.given(t)


def test_a_schedule_of_ones_own_gives_floats_whatever_it_computes_with() -> None:
    optimizer = Bare(0.5)
    scheduler = LRScheduler(optimizer, Given(lambda t: (0, t)))
    scheduler.step()
    assert [*map(repr, (scheduler.lr_at(2), optimizer.param_groups[0]["lr"]))] == ["[2.0]", "1.0"]


@pytest.mark.parametrize(("given", "message"), [(0.5, "cannot unpack"), (None, "cannot unpack")])
def test_what_is_no_pair_is_refused_and_nothing_written(given: Any, message: str) -> None:
    optimizer = Bare(0.1)
    with pytest.raises(TypeError, match=message):
        LRScheduler(optimizer, Given(lambda t: given))
    assert optimizer.param_groups == [{"lr": 0.1}]


def test_a_pair_that_fails_to_come_later_leaves_everything_as_it_was() -> None:
    scheduler = LRScheduler(Bare(0.1, 0.2), Given(lambda t: (1.0, 0.5) if t < 2 else (1.0, 0.5, 0.3)))
    scheduler.step()
    with pytest.raises(ValueError, match="too many values to unpack"):
        scheduler.step()
    assert (scheduler.last_epoch, scheduler.last_lr) == (1, [0.6, 0.7])


@pytest.mark.parametrize("bad", [-0.5, math.nan, -math.inf])
@pytest.mark.parametrize("part", [0, 1], ids=["scale", "shift"])
def test_a_rate_of_ones_own_that_is_none_is_refused_in_its_epoch(bad: float, part: int) -> None:
    pair = (bad, 0.0) if part == 0 else (0.0, bad)
    scheduler = LRScheduler(Bare(1.0), Given(lambda t: (1.0, 0.0) if t < 2 else pair))
    scheduler.step()
    for _ in range(2):
        with pytest.raises(ValueError, match=rf"rates of LRScheduler.* must be >= 0 and finite: \[{bad}\] in epoch 2$"):
            scheduler.step()
        assert (scheduler.last_epoch, scheduler.last_lr) == (1, [1.0])


@pytest.mark.parametrize("pair", [(math.inf, 0.0), (1e300, 0.0), (1.0, math.inf)])
def test_a_rate_beyond_the_largest_float_is_refused_in_its_epoch(pair: tuple[float, float]) -> None:
    scheduler = LRScheduler(Bare(1e10), Given(lambda t: (1.0, 0.0) if t < 2 else pair))
    scheduler.step()
    with pytest.raises(OverflowError, match=r"the rates of LRScheduler\(.*\) exceed the largest float in epoch 2$"):
        scheduler.step()
    assert (scheduler.last_epoch, scheduler.last_lr) == (1, [1e10])


def test_a_scale_that_is_large_and_a_negative_shift_give_rates_that_are_neither() -> None:
    scheduler = LRScheduler(Bare(1e-250), Given(lambda t: (1e250, 0.0) if t % 2 else (1e250, -0.5)))
    assert walk(scheduler, 4) == [[scheduler.lr_at(t)[0]] for t in range(4)] == [[0.5], [1.0], [0.5], [1.0]]


def test_a_negative_slope_of_ones_own_is_refused() -> None:
    class Falling(Schedule):
        def affine(self, t: int) -> tuple[float, float]:
            return 1.0 - 0.5 * t, 0.0

    scheduler = LRScheduler(Bare(0.1), Falling())
    scheduler.step()
    scheduler.step()
    with pytest.raises(ValueError, match=r"must be >= 0 and finite: \[-0.05\] in epoch 3"):
        scheduler.step()
    assert (scheduler.last_epoch, scheduler.last_lr) == (2, [0.0])


def test_a_scheduler_of_ones_own_binds_a_schedule_under_its_own_name() -> None:
    class HalvedLR(LRScheduler):
        def __init__(self, optimizer: Any, step_size: int, gamma: float) -> None:
            super().__init__(optimizer, Constant(0.5) * Step(step_size, gamma))

    scheduler = HalvedLR(Bare(1.0), 2, 0.5)
    assert repr(scheduler) == "HalvedLR(lr=Constant(0.5) * Step(2, gamma=0.5), last_epoch=0)"
    assert walk(scheduler, 4) == [[0.5], [0.5], [0.25], [0.25]]


def test_a_subclass_of_a_scheduler_with_a_name_keeps_its_settings() -> None:
    class Halving(StepLR):
        def __init__(self, optimizer: Any, step_size: int) -> None:
            super().__init__(optimizer, step_size, 0.5)

    scheduler = Halving(Bare(1.0), 2)
    assert (scheduler.gamma, repr(scheduler)) == (0.5, "Halving(step_size=2, gamma=0.5, last_epoch=0)")


def test_warm_starts_write_the_first_rate_at_once() -> None:
    class Warm(Schedule):
        def affine(self, t: int) -> tuple[float, float]:
            return min(1.0, (t + 1) / 4), 0.0

    assert walk(LRScheduler(Bare(1.0), Warm()), 5) == [[0.25], [0.5], [0.75], [1.0], [1.0]]


def test_a_schedule_whose_settings_are_no_fields_is_refused() -> None:
    class Loose(Schedule):
        def __init__(self, drop: float) -> None:
            self.drop = drop

        def affine(self, t: int) -> tuple[float, float]:
            return 1.0, self.drop * t

    optimizer = Bare(1.0)
    for schedule in (Loose(0.5), [Loose(0.5)]):
        with pytest.raises(
            TypeError, match=r"Loose must be decorated with @attrs.frozen, for its settings drop: Loose"
        ):
            LRScheduler(optimizer, schedule)  # type: ignore[arg-type]  # one of two forms
    assert optimizer.param_groups == [{"lr": 1.0}]
