"""A schedule of a user's own: one method, and what is refused of what it returns."""

from collections.abc import Callable
from typing import Any

import pytest

from lucid_train.optims.lr_scheduler import LRScheduler, StepLR
from tests.support.optimizers import Bare
from tests.support.schedules import walk


class Constant(LRScheduler):
    """A user's own that returns what it was given, right or wrong."""

    def __init__(self, optimizer: Any, given: Callable[[int], Any]) -> None:
        self._given = given
        super().__init__(optimizer)

    def rates(self, t: int) -> Any:
        return self._given(t)


def test_a_schedule_of_ones_own_gives_floats_whatever_it_computes_with() -> None:
    optimizer = Bare(0.5)
    scheduler = Constant(optimizer, lambda t: (t,))
    scheduler.step()
    assert [*map(repr, (scheduler.lr_at(2), optimizer.param_groups[0]["lr"]))] == ["[2.0]", "1.0"]


@pytest.mark.parametrize("given", [0.5, None])
def test_what_is_no_list_of_rates_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=f"Constant.rates must return one rate per group, as a list: {given}"):
        Constant(Bare(0.1), lambda t: given)


def test_the_wrong_number_of_rates_is_refused_and_nothing_written() -> None:
    with pytest.raises(ValueError, match=r"Constant.rates must return one rate per group: \[0.5\]"):
        Constant(Bare(0.1, 0.2), lambda t: [0.5])
    scheduler = Constant(Bare(0.1, 0.2), lambda t: [0.5] * (3 if t == 1 else 2))
    with pytest.raises(ValueError, match="must return one rate per group"):
        scheduler.step()
    assert (scheduler.last_epoch, scheduler.last_lr) == (0, [0.5, 0.5])


@pytest.mark.parametrize("bad", [-0.5, float("nan")])
def test_a_rate_of_ones_own_that_is_none_is_refused_in_its_epoch(bad: float) -> None:
    scheduler = Constant(Bare(0.1), lambda t: [0.1 if t < 2 else bad])
    scheduler.step()
    with pytest.raises(ValueError, match=rf"rates of Constant.* must be >= 0 and finite: \[{bad}\] in epoch 2"):
        scheduler.step()
    assert (scheduler.last_epoch, scheduler.last_lr) == (1, [0.1])


def test_a_negative_slope_of_ones_own_is_refused() -> None:
    class Falling(LRScheduler):
        def linear(self, t: int) -> tuple[float, float]:
            return 1.0 - 0.5 * t, 0.0

    scheduler = Falling(Bare(0.1))
    scheduler.step()
    scheduler.step()
    with pytest.raises(ValueError, match=r"must be >= 0 and finite: \[-0.05\] in epoch 3"):
        scheduler.step()
    assert (scheduler.last_epoch, scheduler.last_lr) == (2, [0.0])


def test_rates_of_ones_own_over_an_inherited_line_count() -> None:
    class Halved(StepLR):
        def rates(self, t: int) -> list[float]:
            return [rate / 2 for rate in super().rates(t)]

    scheduler = Halved(Bare(1.0), 2, 0.5)
    assert walk(scheduler, 4) == [[0.5], [0.5], [0.25], [0.25]]


def test_warm_starts_write_the_first_rate_at_once() -> None:
    class Warm(LRScheduler):
        def linear(self, t: int) -> tuple[float, float]:
            return min(1.0, (t + 1) / 4), 0.0

    assert walk(Warm(Bare(1.0)), 5) == [[0.25], [0.5], [0.75], [1.0], [1.0]]


def test_a_setting_of_ones_own_is_validated_and_kept() -> None:
    class Bounded(LRScheduler):
        def __init__(self, optimizer: Any, drop: float) -> None:
            self.drop = drop
            super().__init__(optimizer)

        def linear(self, t: int) -> tuple[float, float]:
            return 1.0, self.drop * t

        def validate(self) -> None:
            if not self.drop >= 0:
                raise ValueError(f"'drop' must be >= 0: {self.drop}")

    with pytest.raises(ValueError, match="'drop' must be >= 0: -1"):
        Bounded(Bare(0.1), -1.0)
    assert Bounded(Bare(0.1), 0.5).state_dict() == {"drop": 0.5, "last_epoch": 0, "base_lrs": [0.1]}
