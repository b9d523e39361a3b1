"""Schedules that are given as functions: which times the function is asked for, and what it may give."""

import pickle
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_train.schedules import Function, Multiplicative


def shrink(t: int) -> float:
    return 1 - 1 / (t + 3) ** 2


def product(t: int) -> float:
    value = 1.0
    for each in range(1, t + 1):
        value *= shrink(each)
    return value


@given(times=st.lists(st.integers(0, 5000), min_size=1, max_size=8))
def test_a_running_product_does_not_depend_on_the_way_there(times: list[int]) -> None:
    schedule = Multiplicative(shrink)
    assert [schedule(t) for t in times] == [product(t) for t in times]


def test_a_running_product_asks_for_each_factor_once_on_the_way_and_seldom_again() -> None:
    asked: list[int] = []

    def factor(t: int) -> float:
        asked.append(t)
        return 0.999

    schedule = Multiplicative(factor)
    schedule.table(5001)
    assert asked == list(range(1, 5001))
    asked.clear()
    schedule(5000)
    assert asked == []
    schedule(4500)
    assert asked == list(range(4097, 4501))
    asked.clear()
    schedule(10)
    schedule(5000)
    assert asked == [*range(1, 11), *range(4097, 5001)]


def test_a_pickled_product_starts_without_its_cache_and_is_the_same_schedule() -> None:
    schedule = Multiplicative(shrink)
    fresh = pickle.dumps(schedule)
    expected = schedule(5000)
    assert pickle.dumps(schedule) == fresh
    assert pickle.loads(fresh) == schedule
    assert pickle.loads(fresh)(5000) == expected


def test_a_function_without_a_hash_can_be_a_setting() -> None:
    class Table(list[float]):
        def __call__(self, t: int) -> float:
            return self[t]

    assert Function(Table([1.0, 0.5])).table(2) == [1.0, 0.5]
    assert hash(Function(Table([1.0]))) == hash(Function(Table([2.0])))
    assert Function(Table([1.0])) == Function(Table([1.0])) != Function(Table([2.0]))


@pytest.mark.parametrize("value", ["1", b"1", None, [1.0], "one"])
@pytest.mark.parametrize("kind", [Function, Multiplicative])
def test_what_is_no_number_is_refused_when_it_comes(kind: Any, value: Any) -> None:
    schedule = kind(lambda t: 0.5 if t < 2 else value)
    assert schedule(1) == 0.5
    with pytest.raises(TypeError, match=re.escape(f"'f(2)' must be a number: {value!r}")):
        schedule(2)


@pytest.mark.parametrize("value", [1, True, np.float32(0.5), np.array(0.5), Fraction(1, 2)], ids=repr)
@pytest.mark.parametrize("kind", [Function, Multiplicative])
def test_every_number_becomes_a_float(kind: Any, value: Any) -> None:
    assert repr(kind(lambda t: value)(1)) == repr(float(value))
