"""What passes for a number, a choice, a flag or a state, and how the rest is refused."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from lucid_train.validation import (
    check_entries,
    checked,
    flag,
    function,
    metric_name,
    one_of,
    real_number,
    whole_number,
)


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)], ids=repr)
def test_whole_numbers_become_ints(value: Any) -> None:
    number = whole_number("n", value, least=1)
    assert (number, type(number)) == (3, int)


@pytest.mark.parametrize(
    "value",
    [True, np.True_, np.array(True), 3.0, np.float64(3), "3", None, [3], np.array([3, 4]), Fraction(3), 3j],
    ids=repr,
)
def test_what_is_no_whole_number_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^'n' must be an int: "):
        whole_number("n", value, least=1)


@given(st.integers(), st.integers())
def test_a_whole_number_passes_from_the_bound_on(value: int, least: int) -> None:
    if value >= least:
        assert whole_number("n", value, least=least) == value
    else:
        with pytest.raises(ValueError, match=f"^'n' must be >= {least}: {value}$"):
            whole_number("n", value, least=least)


@pytest.mark.parametrize(
    "value", [0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), np.array(0.5, np.float16), Fraction(1, 2)], ids=repr
)
def test_real_numbers_become_floats(value: Any) -> None:
    number = real_number("x", value)
    assert (number, type(number)) == (0.5, float)


def test_an_int_is_a_real_number() -> None:
    assert type(real_number("x", 1)) is float


@pytest.mark.parametrize(
    "value",
    [
        *[True, np.False_, np.array(True), "0.5", b"1", None, [0.5], object, 0.5j, np.complex64(0.5)],
        *[np.array([0.5]), np.array([0.5, 1]), np.array("0.5x")],
    ],
    ids=repr,
)
def test_what_is_no_real_number_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^'x' must be a number: "):
        real_number("x", value)


@pytest.mark.parametrize(
    ("value", "rule", "message"),
    [
        (math.inf, {}, "'x' must be finite: inf"),
        (math.nan, {}, "'x' must be finite: nan"),
        (10**400, {}, "'x' must be finite: inf"),
        (-(10**400), {}, "'x' must be finite: -inf"),
        (-0.5, {"least": 0}, "'x' must be >= 0: -0.5"),
        (-math.inf, {"least": 0}, "'x' must be >= 0: -inf"),
        (math.inf, {"least": 0}, "'x' must be >= 0 and finite: inf"),
        (math.nan, {"least": 0}, "'x' must be >= 0 and finite: nan"),
        (0, {"above": 0}, "'x' must be > 0: 0.0"),
        (math.inf, {"above": 0}, "'x' must be > 0 and finite: inf"),
        (1.5, {"most": 1}, "'x' must be <= 1: 1.5"),
        (1, {"below": 1}, "'x' must be < 1: 1.0"),
        (-0.5, {"least": 0, "below": 1}, "'x' must be >= 0 and < 1: -0.5"),
    ],
)
def test_a_real_number_out_of_bounds_is_refused(value: float, rule: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        real_number("x", value, **rule)


def test_the_bounds_themselves() -> None:
    assert (real_number("x", 0, least=0), real_number("x", 5e-324, above=0)) == (0.0, 5e-324)
    assert (real_number("x", 1, most=1), real_number("x", 1 - 2**-53, below=1)) == (1.0, 1 - 2**-53)


def test_a_choice_passes_or_is_refused_with_the_choices() -> None:
    assert one_of("after", "hold", ("restart", "hold")) == "hold"
    with pytest.raises(ValueError, match=r"^'after' must be one of 'restart', 'hold': 'stop'$"):
        one_of("after", "stop", iter(("restart", "hold")))
    with pytest.raises(ValueError, match=r"'after' must be one of 'hold': \['hold'\]"):
        one_of("after", ["hold"], ("hold",))


@define
class Settings:
    patience: int = field(default=1, validator=checked(whole_number, least=0))
    limit: float | None = field(default=None, validator=checked(real_number, above=0))


def test_a_checked_field_is_refused_under_its_name() -> None:
    with pytest.raises(ValueError, match="'patience' must be >= 0: -1"):
        Settings(patience=-1)
    with pytest.raises(ValueError, match="'limit' must be > 0: 0"):
        Settings(limit=0)


def test_none_passes_only_where_it_is_the_default() -> None:
    assert Settings(limit=None) == Settings(1, None)
    with pytest.raises(TypeError, match="'patience' must be an int: None"):
        Settings(patience=None)  # type: ignore[arg-type]  # refused at run time too


@pytest.mark.parametrize("value", [True, np.bool_(True), np.array(True)], ids=repr)
def test_flags_become_bools(value: Any) -> None:
    assert flag("f", value) is True


@pytest.mark.parametrize("value", [1, None, "yes", np.array([True])], ids=repr)
def test_what_is_neither_true_nor_false_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="'f' must be True or False"):
        flag("f", value)


def test_what_cannot_be_called_is_refused() -> None:
    assert function("g", len) is len
    with pytest.raises(TypeError, match="'g' must be a function: 3"):
        function("g", 3)


def test_the_name_of_a_metric_is_text() -> None:
    assert metric_name("monitor", "val_loss") == "val_loss"
    for value in ("", None, 3):
        with pytest.raises(TypeError, match=f"'monitor' must be the name of a metric: {value!r}"):
            metric_name("monitor", value)


def test_a_state_has_the_expected_entries_and_may_have_optional_ones() -> None:
    def fits(state: dict[str, int]) -> bool:
        try:
            check_entries("the state", state, ["a"], optional=["b", "c"])
        except ValueError:
            return False
        return True

    assert [fits(state) for state in ({"a": 1}, {"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3})] == [True] * 3
    assert [fits(state) for state in ({}, {"b": 2}, {"a": 1, "d": 4})] == [False] * 3


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": 1}, "the state does not fit: 'b' is missing"),
        ({}, "the state does not fit: 'a' is missing, 'b' is missing"),
        ({"a": 1, "b": 2, "d": 3, 0: 4}, "the state does not fit: 'd' is unknown, 0 is unknown"),
        ({"a": 1, "x": 2}, "the state does not fit: 'b' is missing, 'x' is unknown"),
        (["a", "b"], r"the state must be a dict: \['a', 'b'\]"),
    ],
)
def test_a_state_with_other_entries_is_refused(state: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_entries("the state", state, ["a", "b"], optional=["c"])
