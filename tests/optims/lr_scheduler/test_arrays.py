"""The rates of many epochs at once: `lr_at` for integer arrays."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_train.optims.lr_scheduler import CosineAnnealingLR, ExponentialLR, LRScheduler, StepLR
from lucid_train.schedules import Exponential
from tests.support.optimizers import Bare
from tests.support.schedules import Inverse, inverse_lr

SCHEDULES = [
    pytest.param(lambda optimizer: StepLR(optimizer, 1000, 0.9), id="step"),
    pytest.param(lambda optimizer: ExponentialLR(optimizer, 0.9999), id="exponential"),
    pytest.param(lambda optimizer: CosineAnnealingLR(optimizer, 30_000, 1e-3), id="cosine, restart"),
    pytest.param(lambda optimizer: CosineAnnealingLR(optimizer, 30_000, after="hold"), id="cosine, hold"),
    pytest.param(lambda optimizer: CosineAnnealingLR(optimizer, 9_999, after="mirror"), id="cosine, mirror"),
    pytest.param(inverse_lr, id="a user's own"),
]
Build = Callable[[Any], LRScheduler]


@pytest.mark.parametrize("build", SCHEDULES)
@given(epochs=st.lists(st.integers(0, 10**9), max_size=20))
def test_an_array_agrees_with_the_ints_bit_for_bit(build: Build, epochs: list[int]) -> None:
    scheduler = build(Bare(0.1, 0.02, 0.3))
    array = scheduler.lr_at(np.array(epochs, dtype=np.int64))
    assert (array.shape, array.dtype) == ((len(epochs), 3), np.dtype(np.float64))
    assert array.tolist() == [scheduler.lr_at(t) for t in epochs]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint32, np.int64, np.uint64])
def test_small_and_unsigned_integers_do_not_wrap_around(dtype: type[np.integer[Any]]) -> None:
    for scheduler in (CosineAnnealingLR(Bare(0.1), 100, after="mirror"), StepLR(Bare(0.1), 7)):
        assert scheduler.lr_at(np.arange(128, dtype=dtype)).tolist() == [scheduler.lr_at(t) for t in range(128)]


@pytest.mark.parametrize("t", [np.int64(3), np.uint8(3), np.array(3)], ids=repr)
def test_numpys_integers_are_ints(t: Any) -> None:
    assert StepLR(Bare(0.5, 0.25), 3, 0.5).lr_at(t) == [0.25, 0.125]


@pytest.mark.parametrize("groups", [0, 1, 3])
def test_an_empty_array_has_no_rows_but_its_columns(groups: int) -> None:
    array = StepLR(Bare(*[0.1] * groups), 3).lr_at(np.array([], dtype=int))
    assert (array.shape, array.dtype) == ((0, groups), np.dtype(np.float64))


def test_an_optimizer_without_groups_has_no_columns() -> None:
    assert StepLR(Bare(), 3).lr_at(np.arange(4)).shape == (4, 0)


def test_the_caller_owns_both_arrays() -> None:
    scheduler, epochs = CosineAnnealingLR(Bare(0.1), 5), np.arange(9)
    array = scheduler.lr_at(epochs)
    array[:] = 0
    assert epochs.tolist() == list(range(9))
    assert (scheduler.lr_at(0), scheduler.lr_at(epochs)[0, 0], scheduler.last_epoch) == ([0.1], 0.1, 0)


REFUSED = [
    (1.5, TypeError, "'t' must be an int or an integer array: 1.5"),
    (np.float64(2), TypeError, "'t' must be an int or an integer array: "),
    (np.array([1.0]), TypeError, "'t' must be an int or an integer array: array([1.])"),
    (np.array([True]), TypeError, "'t' must be an int or an integer array: array([ True])"),
    (True, TypeError, "'t' must be an int: True"),
    (np.array(True), TypeError, "'t' must be an int: array(True)"),
    ("3", TypeError, "'t' must be an int or an integer array: '3'"),
    (None, TypeError, "'t' must be an int or an integer array: None"),
    (-1, ValueError, "'t' must be >= 0: -1"),
    (np.array([3, -1]), ValueError, "'t' must be >= 0: array([ 3, -1])"),
    (np.array([[1, 2]]), ValueError, "'t' must be one-dimensional: array([[1, 2]])"),
]


@pytest.mark.parametrize(("t", "error", "message"), REFUSED, ids=[case[2] for case in REFUSED])
def test_what_is_no_epoch_is_refused(t: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        StepLR(Bare(0.1), 3).lr_at(t)


def test_overflow_is_an_error_that_names_the_first_epoch() -> None:
    scheduler = ExponentialLR(Bare(1.0, 1e10), 1e100)
    with pytest.raises(OverflowError, match=r"the rates of ExponentialLR\(.*\) exceed the largest float in epoch 3$"):
        scheduler.lr_at(np.arange(10))


def test_an_array_has_the_schedule_of_each_group_in_its_column() -> None:
    scheduler = LRScheduler(Bare(1.0, 2.0, 4.0), [Exponential(0.5), Inverse(), Exponential(0.5)])
    assert scheduler.lr_at(np.arange(3)).tolist() == [[1.0, 2.0, 4.0], [0.5, 1.0, 2.0], [0.25, 2 / 3, 1.0]]
