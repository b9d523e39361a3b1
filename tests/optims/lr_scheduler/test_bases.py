"""What a schedule starts from: the base rates given, those left in the groups, or the rates; and what is surprising."""

import copy
import gc
import pickle
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lucid_train.optims.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CyclicLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
    StepLR,
)
from lucid_train.schedules import Cyclic, Exponential, OneCycle
from tests.support.optimizers import Bare, ByValue, LucidLike, Scalar, with_momentum
from tests.support.schedules import each_kind

OPTIMIZERS = {
    "floats": Bare,
    "engine": LucidLike,
    "by value": lambda *rates: ByValue([{"lr": rate} for rate in rates]),
    "float16": lambda *rates: Bare(*(np.array(rate, np.float16) for rate in rates)),
    "tensor-like": lambda *rates: Bare(*(Scalar(rate) for rate in rates)),
}


@each_kind
@pytest.mark.parametrize("steps", [1, 4, 5, 6])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_schedule_built_again_starts_from_the_base_rate(
    build: Callable[[Any], LRScheduler], make: Callable[..., Any], steps: int
) -> None:
    optimizer = make(0.1, 0.05)
    first = build(optimizer)
    start, base_lrs = first.last_lr, first.base_lrs
    for _ in range(steps):
        first.step()
    second = build(optimizer)
    assert (second.base_lrs, second.last_lr) == (base_lrs, start)


@pytest.mark.parametrize("make", [Bare, lambda rate: Bare(np.array(rate, np.float16)), lambda rate: Bare(Scalar(rate))])
def test_even_a_rate_that_has_decayed_to_zero_is_known(make: Callable[[float], Bare]) -> None:
    optimizer = make(0.5)
    first = ExponentialLR(optimizer, 1e-20)
    for _ in range(20):
        first.step()
    assert first.last_lr == [0.0]
    assert ExponentialLR(optimizer, 0.5).last_lr == [0.5]


def test_base_lrs_count_more_than_what_is_in_the_groups_and_are_left_there() -> None:
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.025, "initial_lr": 0.1}])
    scheduler = ExponentialLR(optimizer, 0.5, base_lrs=[0.4])
    assert (scheduler.base_lrs, scheduler.last_lr) == ([0.4], [0.4])
    assert optimizer.param_groups == [{"lr": 0.4, "initial_lr": 0.4}]


def test_pytorchs_initial_lr_is_the_base_rate_and_stays() -> None:
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.025, "initial_lr": 0.1}])
    scheduler = ExponentialLR(optimizer, 0.5, last_epoch=1)
    assert optimizer.param_groups == [{"lr": 0.025, "initial_lr": 0.1}]
    assert (scheduler.last_epoch, scheduler.base_lrs) == (2, [0.1])


def test_the_base_rate_is_left_in_each_group_that_starts_from_one_and_nothing_else() -> None:
    optimizer = with_momentum(0.1, 0.2, 0.3)
    LRScheduler(optimizer, [Exponential(0.5), OneCycle(0.8, total_steps=9), Exponential(0.5)])
    rates = [{"lr": 0.1, "initial_lr": 0.1}, {"lr": 0.032}, {"lr": 0.3, "initial_lr": 0.3}]
    assert optimizer.param_groups == [{"momentum": 0.9, **group} for group in rates]


def test_a_base_rate_that_a_loaded_group_lacks_is_written_again_at_the_next_step() -> None:
    optimizer = Bare(0.1, 0.2)
    scheduler = ExponentialLR(optimizer, 0.5)
    scheduler.step()
    optimizer.param_groups = [{"lr": 0.05}, {"lr": 0.1, "initial_lr": 0.2}]
    scheduler.step()
    assert optimizer.param_groups == [{"lr": 0.025, "initial_lr": 0.1}, {"lr": 0.05, "initial_lr": 0.2}]


def test_a_schedule_built_again_can_stand_where_the_first_stood() -> None:
    optimizer = Bare(0.8)
    first = StepLR(optimizer, 2, 0.5)
    for _ in range(4):
        first.step()
    second = StepLR(optimizer, 2, 0.5, last_epoch=3)
    assert (second.last_epoch, second.last_lr, second.base_lrs) == (4, [0.2], [0.8])
    second.step()  # a warning would be an error
    assert second.last_lr == [0.2]


@pytest.mark.parametrize("make", [Bare, LucidLike, lambda rate: ByValue([{"lr": rate}])], ids=["plain", "engine", "eq"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_scheduler_goes_on_after_another_was_put_on_its_optimizer_and_says_that_it_overwrites(
    make: Callable[[float], Any], steps: int
) -> None:
    optimizer = make(0.1)
    first = ExponentialLR(optimizer, 0.5)
    for _ in range(steps):
        first.step()
    second = StepLR(optimizer, 3)
    del second
    gc.collect()
    before = 0.1 * 0.5**steps
    message = f"the 'lr' of group 0 was {before} and is 0.1 now, other code has written it; ExponentialLR(gamma=0.5, "
    with pytest.warns(UserWarning, match=re.escape(f"{message}last_epoch={steps}) overwrites it")):
        first.step()
    assert (first.last_epoch, first.last_lr) == (steps + 1, [0.1 * 0.5 ** (steps + 1)])


def test_equal_optimizers_are_two() -> None:
    first, second = (StepLR(ByValue([{"lr": 0.1}]), 1, 0.5) for _ in range(2))
    first.step()
    second.step()
    assert (first.last_lr, second.last_lr) == ([0.05], [0.05])


CYCLES: dict[str, tuple[Callable[[Any], LRScheduler], list[float]]] = {
    "one cycle": (lambda optimizer: OneCycleLR(optimizer, [1.0, 0.5], 12, div_factor=4), [0.25, 0.125]),
    "cyclic": (lambda optimizer: CyclicLR(optimizer, [0.25, 0.125], [0.5, 1.0], 3), [0.25, 0.125]),
    "cyclic without momentum": (
        lambda optimizer: CyclicLR(optimizer, 0.25, 0.5, 3, cycle_momentum=False),
        [0.25, 0.25],
    ),
}


@pytest.mark.parametrize(("cycle", "start"), CYCLES.values(), ids=CYCLES)
@pytest.mark.parametrize("steps", [0, 1, 5, 12])
@pytest.mark.parametrize("make", [float, np.array, Scalar], ids=["float", "array", "tensor-like"])
def test_a_schedule_built_after_a_cycle_starts_from_the_rates_that_stand(
    cycle: Callable[[Any], LRScheduler], start: list[float], steps: int, make: Callable[[float], Any]
) -> None:
    optimizer = with_momentum(make(9.0), make(8.0))
    first = cycle(optimizer)
    assert (first.last_lr, first.base_lrs) == (start, start)
    for _ in range(steps):
        first.step()
    assert [group.keys() for group in optimizer.param_groups] == [{"lr", "momentum"}] * 2
    stand = first.last_lr
    second = StepLR(optimizer, 2, 0.5)
    assert (second.base_lrs, second.last_lr) == (stand, stand)
    second.step()
    second.step()  # a warning would be an error
    assert second.last_lr == pytest.approx([rate / 2 for rate in stand], rel=1e-6)


@pytest.mark.parametrize(("cycle", "start"), CYCLES.values(), ids=CYCLES)
def test_a_schedule_built_after_a_cycle_starts_from_a_base_rate_that_was_left_before(
    cycle: Callable[[Any], LRScheduler], start: list[float]
) -> None:
    optimizer = with_momentum(0.5, 0.75)
    ExponentialLR(optimizer, 0.5).step()
    cycle(optimizer).step()
    assert StepLR(optimizer, 2).base_lrs == [0.5, 0.75]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["copy", "pickle"])
def test_a_schedule_built_after_a_copied_one_starts_from_the_base_rate(copied: Callable[[Any], Any]) -> None:
    first = ExponentialLR(Bare(0.5, 0.25), 0.5)
    first.step()
    assert StepLR(copied(first).optimizer, 2).last_lr == [0.5, 0.25]


# The trap: `lr` is neither "initial_lr" nor what the schedule starts with, as if somebody meant to start from it.

TRAP = (
    "the 'lr' of group 1 was 0.03, but its 'initial_lr', from which the schedule starts, is 0.2; "
    "to start from 0.03, remove 'initial_lr' from the group"
)


def trapped(make: Callable[[float], Any] = float) -> Bare:
    """Return an optimizer whose second rate was set by hand after a scheduler had been on it."""
    optimizer = Bare(make(0.1), make(0.2))
    ExponentialLR(optimizer, 0.5)
    optimizer.param_groups[1]["lr"] = make(0.03)
    return optimizer


@each_kind
def test_a_rate_set_by_hand_is_not_the_base_rate_and_the_first_step_says_so_once(
    build: Callable[[Any], LRScheduler],
) -> None:
    scheduler = build(trapped())  # here a warning would be an error
    assert (scheduler.base_lrs, scheduler.last_lr) == ([0.1, 0.2], scheduler.lr_at(0))
    with pytest.warns(UserWarning, match=f"^{re.escape(TRAP)}$") as caught:
        scheduler.step()
    assert [warning.filename for warning in caught] == [__file__]
    scheduler.step()
    assert scheduler.last_lr == scheduler.lr_at(2)


@pytest.mark.parametrize("make", [np.array, Scalar], ids=["array", "tensor-like"])
def test_the_trap_is_one_of_rates_that_are_filled_in_place_too(make: Callable[[float], Any]) -> None:
    scheduler = StepLR(trapped(make), 2)
    with pytest.warns(
        UserWarning, match=r"the 'lr' of group 1 was 0.0\d+, but its 'initial_lr', .*, is 0.2\d*; to start"
    ):
        scheduler.step()


def test_to_remove_initial_lr_is_the_cure() -> None:
    optimizer = trapped()
    del optimizer.param_groups[1]["initial_lr"]
    scheduler = StepLR(optimizer, 2)
    scheduler.step()  # a warning would be an error
    assert scheduler.base_lrs == [0.1, 0.03]


SILENT: dict[str, Callable[[], LRScheduler]] = {
    "the base rate stands": lambda: StepLR(SimpleNamespace(param_groups=[{"lr": 0.1, "initial_lr": 0.1}]), 2),
    "its first value stands": lambda: LinearLR(SimpleNamespace(param_groups=[{"lr": 0.05, "initial_lr": 0.1}]), 0.5),
    "single precision": lambda: StepLR(
        SimpleNamespace(param_groups=[{"lr": float(np.float32(0.1)), "initial_lr": 0.1}]), 2
    ),
    "absolute": lambda: LRScheduler(trapped(), Cyclic(0.1, 0.5, 3)),
    "base rates given": lambda: StepLR(trapped(), 2, base_lrs=[0.1, 0.2]),
    "standing in the middle": lambda: StepLR(trapped(), 2, last_epoch=3),
    "from the first epoch on": lambda: StepLR(trapped(), 2, last_epoch=0),
    "one part after another": lambda: warmed_up(Bare(0.1), 0, 1),
    "parts built from the last one on": lambda: warmed_up(Bare(0.1), 1, 0),
    "a chain": lambda: chained(Bare(0.1)),
    "a chain built after its last part": lambda: chained(Bare(0.1), last_first=True),
    "a part that is a sequence": lambda: nested(Bare(0.1)),
}


def warmed_up(optimizer: Any, *order: int) -> SequentialLR:
    builders: list[Callable[[Any], LRScheduler]] = [LinearLR, lambda opt: CosineAnnealingLR(opt, 9)]
    parts = {index: builders[index](optimizer) for index in order}
    return SequentialLR(optimizer, [parts[0], parts[1]], [5])


def chained(optimizer: Any, *, last_first: bool = False) -> ChainedScheduler:
    last = ExponentialLR(optimizer, 0.9) if last_first else None
    return ChainedScheduler([ConstantLR(optimizer), last or ExponentialLR(optimizer, 0.9)])


def nested(optimizer: Any) -> SequentialLR:
    late = StepLR(optimizer, 3)
    return SequentialLR(optimizer, [warmed_up(optimizer, 1, 0), chained(optimizer), late], [10, 20])


@pytest.mark.parametrize("build", SILENT.values(), ids=SILENT)
def test_what_is_no_trap_is_silent(build: Callable[[], LRScheduler]) -> None:
    scheduler = build()
    start = scheduler.last_epoch
    for _ in range(3):
        scheduler.step()  # a warning would be an error
    assert scheduler.last_lr == scheduler.lr_at(start + 3)


def test_a_loaded_state_is_silent() -> None:
    scheduler = StepLR(trapped(), 2)
    scheduler.load_state_dict(StepLR(Bare(0.1, 0.2), 2).state_dict())
    scheduler.step()
    assert scheduler.last_epoch == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_what_stood_before_the_first_part_surprises_in_a_composition_once(order: tuple[int, int]) -> None:
    scheduler = warmed_up(trapped(), *order)
    with pytest.warns(UserWarning, match=f"^{re.escape(TRAP)}$") as caught:
        scheduler.step()
    assert len(caught) == 1
    scheduler.step()
    assert scheduler.last_lr == scheduler.lr_at(2)


def test_the_step_is_done_where_its_warning_is_an_error() -> None:
    scheduler = ExponentialLR(trapped(), 0.5)
    with pytest.raises(UserWarning, match=r"the 'lr' of group 1 was 0\.03,"):
        scheduler.step()
    assert (scheduler.last_epoch, scheduler.last_lr) == (1, [0.05, 0.1])
    scheduler.step()
    assert (scheduler.last_epoch, scheduler.last_lr) == (2, [0.025, 0.05])
