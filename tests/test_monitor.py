"""When a metric is better, and how that is known."""

import math
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from lucid_train.monitor import Monitor

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(value=NUMBERS, best=NUMBERS)
def test_less_is_better_exactly_where_more_is_not_of_the_negated_values(value: float, best: float) -> None:
    assert Monitor("m", "min").is_better(value, than=best) == Monitor("m", "max").is_better(-value, than=-best)
    assert Monitor("m", "min").is_better(value, than=best) == (value < best)


@pytest.mark.parametrize("best", [None, math.nan])
def test_the_first_number_is_better_than_none(best: float | None) -> None:
    assert Monitor("loss").is_better(3.0, than=best)
    assert not Monitor("loss").is_better(math.nan, than=best)


def test_a_gain_must_exceed_min_delta() -> None:
    assert not Monitor("loss", min_delta=0.5).is_better(0.5, than=1.0)
    assert Monitor("loss", min_delta=0.5).is_better(0.25, than=1.0)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("loss", "min"),
        ("val_loss", "min"),
        ("Loss", "min"),
        ("val/top-1 accuracy", "max"),
        ("val.accuracy", "max"),
        ("test-loss", "min"),
        ("a-loss_accuracy", "max"),
    ],
)
def test_a_mode_follows_from_the_last_word_of_the_name(name: str, mode: Any) -> None:
    assert Monitor(name) == Monitor(name, mode)
    assert evolve(Monitor(name), min_delta=1.0).mode == mode


@pytest.mark.parametrize(
    "name", ["f1", "acc", "val_acc", "loss/val", "losses", "valloss", "accuracy1", "loss_", "perplexity"]
)
def test_a_name_that_does_not_tell_is_refused_with_the_line_to_write(name: str) -> None:
    rule = "does not end in loss or accuracy, from which it would follow"
    line = f'write monitor="{name}", mode="max", or mode="min" if less is better'
    with pytest.raises(ValueError, match=f"'mode' must be given, as '{name}' {rule}: {line}"):
        Monitor(name)


def test_what_is_said_counts_more_than_what_the_name_says() -> None:
    assert Monitor("val_accuracy", "min").mode == "min"
    assert str(Monitor("val_accuracy", "min")) == "val_accuracy, lower is better"
    assert str(Monitor("val_accuracy")) == "val_accuracy, higher is better"


def test_a_bad_setting_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="'name' must be the name of a metric: ''"):
        Monitor("")
    with pytest.raises(ValueError, match="'mode' must be one of 'min', 'max': 'least'"):
        Monitor("m", "least")  # type: ignore[arg-type]  # refused
    with pytest.raises(ValueError, match="'min_delta' must be >= 0: -1"):
        Monitor("loss", min_delta=-1)
