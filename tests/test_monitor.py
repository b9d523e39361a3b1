"""When a metric is better, and what is said of one that is not there."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_train.monitor import Monitor

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(value=NUMBERS, best=NUMBERS)
def test_less_is_better_exactly_where_more_is_not_of_the_negated_values(value: float, best: float) -> None:
    assert Monitor("m", "min").is_better(value, than=best) == Monitor("m", "max").is_better(-value, than=-best)
    assert Monitor("m").is_better(value, than=best) == (value < best)


@pytest.mark.parametrize("best", [None, math.nan])
def test_the_first_number_is_better_than_none(best: float | None) -> None:
    assert Monitor("m").is_better(3.0, than=best)
    assert not Monitor("m").is_better(math.nan, than=best)


def test_a_gain_must_exceed_min_delta() -> None:
    assert not Monitor("m", min_delta=0.5).is_better(0.5, than=1.0)
    assert Monitor("m", min_delta=0.5).is_better(0.25, than=1.0)


def test_an_epoch_that_was_not_evaluated_has_no_value_and_one_that_was_must() -> None:
    monitor = Monitor("val_loss")
    assert monitor.read({"loss": 1.0}, evaluated=False) is None
    assert monitor.read({"val_loss": 0.5}, evaluated=True) == 0.5
    with pytest.raises(ValueError, match="'monitor' must be one of the metrics, loss: 'val_loss'"):
        monitor.read({"loss": 1.0}, evaluated=True)


def test_a_bad_setting_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="'name' must be the name of a metric: ''"):
        Monitor("")
    with pytest.raises(ValueError, match="'mode' must be one of 'min', 'max': 'least'"):
        Monitor("m", "least")  # type: ignore[arg-type]  # refused
    with pytest.raises(ValueError, match="'min_delta' must be >= 0: -1"):
        Monitor("m", min_delta=-1)
