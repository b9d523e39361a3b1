"""Which objects are optimizers, and what a schedule does to them: it writes rates, and nothing else."""

from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lucid_train.nn import Parameter
from lucid_train.optims import SGD
from lucid_train.optims.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    SequentialLR,
    StepLR,
)
from tests.support.optimizers import Bare, ByValue, LucidLike, Scalar, sgd
from tests.support.schedules import each_kind


class Slotted:
    """Not weakly referable."""

    __slots__ = ("param_groups",)

    def __init__(self, rate: float) -> None:
        self.param_groups = [{"lr": rate}]


@pytest.mark.parametrize(
    "optimizer",
    [
        Bare(0.1),
        SimpleNamespace(param_groups=[{"lr": 0.1}]),
        SimpleNamespace(param_groups=({"lr": 0.1},)),
        SimpleNamespace(param_groups=[UserDict(lr=0.1)]),
        ByValue([{"lr": 0.1}]),
        Slotted(0.1),
        sgd(0.1),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_whatever_has_param_groups_is_an_optimizer(optimizer: Any) -> None:
    scheduler = StepLR(optimizer, 1, 0.5)
    if isinstance(optimizer, SGD):
        optimizer.step()
    scheduler.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.025


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        (None, TypeError, "'optimizer' must have param_groups, a sequence of dicts with 'lr': "),
        ("lr", TypeError, "'optimizer' must have param_groups, a sequence of dicts with 'lr': "),
        (iter([{"lr": 0.1}]), TypeError, "'optimizer' must have param_groups, a sequence of dicts with 'lr': "),
        ([0.1], TypeError, r"'optimizer.param_groups\[0\]' must be a dict with 'lr': 0.1"),
        ([{"lr": 0.1}, {}], TypeError, r"'optimizer.param_groups\[1\]' must be a dict with 'lr': {}"),
        ([{"lr": None}], TypeError, r"\"optimizer.param_groups\[0\]\['lr'\]\" must be a number: None"),
        ([{"lr": np.array([0.1, 0.2])}], TypeError, r"\[0\]\['lr'\]\" must be a number: array"),
        ([{"lr": np.array(1)}], TypeError, r"'lr' of group 0 must hold floats, it is filled in place: array\(1\)"),
        ([{"lr": -0.1}], ValueError, r"\"optimizer.param_groups\[0\]\['lr'\]\" must be >= 0: -0.1"),
        ([{"lr": float("nan")}], ValueError, r"\[0\]\['lr'\]\" must be >= 0 and finite: nan"),
        ([{"lr": 0.1, "initial_lr": "?"}], TypeError, r"\[0\]\['initial_lr'\]\" must be a number: '\?'"),
        ([{"lr": 0.1, "initial_lr": -1}], ValueError, r"\[0\]\['initial_lr'\]\" must be >= 0: -1.0"),
    ],
)
def test_what_is_no_optimizer_is_refused(groups: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        StepLR(SimpleNamespace(param_groups=groups), 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@each_kind
def test_a_0d_array_keeps_identity_and_dtype(build: Callable[[Any], LRScheduler], dtype: type[Any]) -> None:
    rate = np.array(0.1, dtype=dtype)
    optimizer = Bare(rate)
    scheduler = build(optimizer)
    for epoch in range(1, 8):
        scheduler.step()
        held = optimizer.param_groups[0]["lr"]
        assert held is rate
        assert repr(held) == repr(np.array(scheduler.lr_at(epoch)[0], dtype))
        assert scheduler.last_lr == [float(rate)]
    assert scheduler.base_lrs == [float(dtype(0.1))]


def test_a_rate_that_can_be_filled_is_filled() -> None:
    rate = Scalar(0.1)
    optimizer = Bare(rate)
    scheduler = ExponentialLR(optimizer, 0.5)
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] is rate
    assert (rate.held, scheduler.base_lrs) == (np.float32(0.05), [float(np.float32(0.1))])


@pytest.mark.parametrize("rate", [1, np.float64(1), np.float32(1), np.int64(1)], ids=repr)
def test_a_number_of_another_type_becomes_a_float_when_it_changes(rate: Any) -> None:
    optimizer = Bare(rate)
    scheduler = ExponentialLR(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] is rate
    scheduler.step()
    scheduler.step()
    assert repr(optimizer.param_groups[0]["lr"]) == "0.25"


@each_kind
def test_an_engine_trains_at_the_scheduled_rate(build: Callable[[Any], LRScheduler]) -> None:
    optimizer = LucidLike(0.1, 0.05)
    scheduler = build(optimizer)
    for _ in range(12):
        optimizer.step()
        scheduler.step()
    assert optimizer.used == [scheduler.lr_at(t) for t in range(12)]


def test_loading_refreshes_an_engine_too() -> None:
    optimizer = LucidLike(0.1)
    scheduler = ExponentialLR(optimizer, 0.5)
    optimizer.step()
    scheduler.load_state_dict(scheduler.state_dict() | {"last_epoch": 2})
    optimizer.step()
    assert optimizer.used == [[0.1], [0.025]]


@each_kind
def test_the_first_update_uses_the_base_rate_and_each_next_one_its_epochs(
    build: Callable[[Any], LRScheduler],
) -> None:
    used: list[list[float]] = []

    class Recording(Bare):
        def step(self) -> None:
            used.append([group["lr"] for group in self.param_groups])

    optimizer = Recording(0.1, 0.02)
    scheduler = build(optimizer)
    for _ in range(12):
        optimizer.step()
        assert used[-1] == scheduler.last_lr
        scheduler.step()
    assert used == [scheduler.lr_at(t) for t in range(12)]


@each_kind
def test_a_group_added_later_is_scheduled_from_its_own_base_rate(build: Callable[[Any], LRScheduler]) -> None:
    optimizer = sgd(0.1)
    scheduler = build(optimizer)
    optimizer.step()
    scheduler.step()
    optimizer.add_param_group({"params": [Parameter([2.0])], "lr": 0.4})
    assert scheduler.last_lr == [*scheduler.lr_at(1)[:1], 0.4]
    for epoch in range(2, 12):
        scheduler.step()
        assert scheduler.last_lr == scheduler.lr_at(epoch) == build(Bare(0.1, 0.4)).lr_at(epoch)
    assert scheduler.state_dict()["base_lrs"] == [0.1, 0.4]
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.1, 0.4]


def test_a_group_added_later_that_cannot_be_scheduled_is_refused_every_time() -> None:
    optimizer = Bare(0.1)
    scheduler = CosineAnnealingLR(optimizer, 5, 0.05)
    scheduler.step()
    optimizer.param_groups.append({"lr": "0.01"})
    asks: list[Callable[[], Any]] = [scheduler.step, scheduler.state_dict, lambda: scheduler.base_lrs]
    for ask in 2 * asks:
        with pytest.raises(TypeError, match=r"param_groups\[1\]\['lr'\].* must be a number: '0.01'"):
            ask()
    del optimizer.param_groups[1]
    assert (scheduler.last_epoch, scheduler.base_lrs) == (1, [0.1])


def test_a_group_whose_base_is_below_the_lowest_rate_rises_as_pytorchs_and_one_warning_names_it() -> None:
    optimizer = Bare(0.1, 0.2, 0.05, 0.1 * (1 - 1e-7))
    with pytest.warns(UserWarning, match="eta_min") as warned:
        scheduler = CosineAnnealingLR(optimizer, 4, 0.1)
    assert [(str(each.message), each.filename) for each in warned] == [
        ("'eta_min' is above the base rate, from which it rises as in PyTorch, in group 2, 0.1 > 0.05", __file__)
    ]
    assert [scheduler.lr_at(t)[2] for t in (0, 2, 4)] == [0.05, pytest.approx(0.075), 0.1]
    optimizer.param_groups.append({"lr": 0.01})
    with pytest.warns(UserWarning, match="in group 4, 0.1 > 0.01$") as warned:
        scheduler.step()
    scheduler.step()
    again = CosineAnnealingLR(Bare(0.3, 0.4), 4, 0.1)
    again.load_state_dict({**again.state_dict(), "base_lrs": [0.3, 0.01]})
    assert (len(warned), again.lr_at(4)) == (1, [0.1, 0.1])


def test_a_sequence_says_once_that_a_rate_rises() -> None:
    optimizer = Bare(0.1)
    with pytest.warns(UserWarning, match="in group 0, 0.2 > 0.1$") as warned:
        SequentialLR(optimizer, [LinearLR(optimizer), CosineAnnealingLR(optimizer, 5, 0.2)], [3])
    assert len(warned) == 1


def test_a_group_that_has_gone_is_refused() -> None:
    optimizer = Bare(0.1, 0.2)
    scheduler = StepLR(optimizer, 5)
    del optimizer.param_groups[1]
    with pytest.raises(ValueError, match="'optimizer' must have the 2 groups that the schedule knows: 1"):
        scheduler.step()


def test_the_groups_are_read_afresh_at_each_write() -> None:
    optimizer = Bare(0.1)
    scheduler = ExponentialLR(optimizer, 0.5)
    scheduler.step()
    optimizer.param_groups = [{"lr": 0.05}]  # as loading a checkpoint does, here one without "initial_lr"
    scheduler.step()
    assert optimizer.param_groups == [{"lr": 0.025, "initial_lr": 0.1}]


@each_kind
def test_the_optimizer_gets_no_attribute_and_its_groups_one_key(build: Callable[[Any], LRScheduler]) -> None:
    optimizer = sgd(0.1, 0.05)
    attributes, keys = set(vars(optimizer)), [list(group) for group in optimizer.param_groups]
    scheduler = build(optimizer)
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    scheduler.load_state_dict(scheduler.state_dict())
    assert set(vars(optimizer)) == attributes
    assert [list(group) for group in optimizer.param_groups] == [[*own, "initial_lr"] for own in keys]
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.1, 0.05]


@each_kind
@pytest.mark.parametrize("epochs", [8, np.arange(12)], ids=["one", "some"])
def test_a_curve_has_a_group_that_was_added_since_the_last_step(
    build: Callable[[Any], LRScheduler], epochs: Any
) -> None:
    optimizer = sgd(0.1)
    scheduler = build(optimizer)
    optimizer.step()
    scheduler.step()
    optimizer.add_param_group({"params": [Parameter([2.0])], "lr": 0.4})
    assert np.array_equal(scheduler.lr_at(epochs), build(Bare(0.1, 0.4)).lr_at(epochs))


@each_kind
@pytest.mark.parametrize(
    ("rate", "error", "message"),
    [
        (-1.0, ValueError, r"\"optimizer.param_groups\[1\]\['lr'\]\" must be >= 0: -1.0"),
        (float("nan"), ValueError, r"\"optimizer.param_groups\[1\]\['lr'\]\" must be >= 0 and finite: nan"),
        ("0.1", TypeError, r"\"optimizer.param_groups\[1\]\['lr'\]\" must be a number: '0.1'"),
        (np.array(1), TypeError, r"'lr' of group 1 must hold floats, it is filled in place: array\(1\)"),
    ],
    ids=["negative", "nan", "text", "int array"],
)
def test_a_group_added_later_with_a_bad_rate_is_refused_every_time(
    build: Callable[[Any], LRScheduler], rate: Any, error: type[Exception], message: str
) -> None:
    optimizer = Bare(0.1)
    scheduler = build(optimizer)
    scheduler.step()
    before = scheduler.state_dict(), scheduler.last_lr
    optimizer.param_groups.append({"lr": rate})
    asked: list[Callable[[], object]] = [
        scheduler.step,
        scheduler.step,
        lambda: scheduler.lr_at(0),
        lambda: scheduler.lr_at(np.arange(3)),
    ]
    for ask in asked:
        with pytest.raises(error, match=message):
            ask()
    del optimizer.param_groups[1]
    assert (scheduler.state_dict(), scheduler.last_lr) == before


class Tupled(Bare):
    """Its groups are a new tuple whenever they are asked for, as those of some wrappers."""

    @property
    def param_groups(self) -> Any:
        return tuple(self.groups)

    @param_groups.setter
    def param_groups(self, groups: Any) -> None:
        self.groups = groups


def test_groups_that_are_a_new_sequence_each_time_are_written_all_the_same() -> None:
    optimizer = Tupled(0.1, 0.2)
    scheduler = ExponentialLR(optimizer, 0.5)
    for _ in range(3):
        scheduler.step()
    assert scheduler.last_lr == scheduler.lr_at(3) == [0.0125, 0.025]


@dataclass(slots=True)
class SlottedDataclass:
    """Neither weakly referable nor hashable."""

    param_groups: list[dict[str, Any]]


@pytest.mark.parametrize("make", [lambda groups: SimpleNamespace(param_groups=groups), SlottedDataclass])
@each_kind
def test_what_cannot_be_weakly_referenced_gives_a_new_scheduler_its_base_rates(
    build: Callable[[Any], LRScheduler], make: Callable[[Any], Any]
) -> None:
    optimizer = make([{"lr": 0.1}, {"lr": 0.05}])
    first = build(optimizer)
    start = first.last_lr
    for _ in range(30):
        first.step()
    second = build(optimizer)
    assert (second.base_lrs, second.last_lr) == ([0.1, 0.05], start)
