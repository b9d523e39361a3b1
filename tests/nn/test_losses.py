"""Losses by finite differences and by hand; their parity with PyTorch is in tests/parity."""

from collections.abc import Callable
from math import log
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from lucid_train import nn
from tests.support.modules import numeric_gradient


@pytest.mark.parametrize(
    ("criterion", "target"),
    [(nn.MSELoss(), np.arange(12).reshape(4, 3)), (nn.CrossEntropyLoss(), np.array([2, 0, 1, 1]))],
    ids=["MSELoss", "CrossEntropyLoss"],
)
def test_gradients_of_the_losses_are_those_of_finite_differences(criterion: Any, target: NDArray[Any]) -> None:
    output = np.random.default_rng(0).normal(size=(4, 3))
    expected = numeric_gradient(lambda at: criterion(at, target), output)
    criterion(output, target)
    assert criterion.backward() == pytest.approx(expected, abs=1e-8)


def test_a_forward_pass_serves_one_backward() -> None:
    criterion = nn.MSELoss()
    criterion([1.0], [0.0])
    criterion.backward()
    with pytest.raises(RuntimeError, match=r"MSELoss\.backward needs a forward pass first, one for each backward"):
        criterion.backward()


def test_cross_entropy_of_equal_scores_is_the_log_of_the_number_of_classes() -> None:
    assert nn.CrossEntropyLoss()(np.full((3, 5), 7.0), [0, 1, 4]) == pytest.approx(log(5), rel=1e-15)


@given(arrays(np.float64, (3, 4), elements=st.floats(-1e6, 1e6)), st.floats(-1e6, 1e6))
def test_cross_entropy_is_finite_and_blind_to_a_shift_of_the_scores(scores: NDArray[Any], shift: float) -> None:
    criterion, target = nn.CrossEntropyLoss(), [0, 1, 3]
    loss = criterion(scores, target)
    assert 0 <= loss < np.inf
    assert criterion(scores + shift, target) == pytest.approx(loss, rel=1e-9, abs=1e-9)


@given(arrays(np.float64, (3, 4), elements=st.floats(-1e3, 1e3)))
def test_the_gradient_of_cross_entropy_sums_to_0_in_each_row(scores: NDArray[Any]) -> None:
    criterion = nn.CrossEntropyLoss()
    criterion(scores, [0, 1, 3])
    assert criterion.backward().sum(axis=1) == pytest.approx(np.zeros(3), abs=1e-15)


@pytest.mark.parametrize(
    ("criterion", "output", "target", "error", "message"),
    [
        (nn.MSELoss, np.ones((3, 1)), np.ones(3), ValueError, r"'target' must have shape \(3, 1\): \(3,\)"),
        (nn.MSELoss, np.ones((0, 1)), np.ones((0, 1)), ValueError, r"'output' must not be empty: shape \(0, 1\)"),
        (nn.MSELoss, ["a"], [1.0], TypeError, "'output' must be an array of real numbers: <U1"),
        (nn.CrossEntropyLoss, np.ones(3), [0], ValueError, r"'output' must have shape \(n, classes\): \(3,\)"),
        (nn.CrossEntropyLoss, np.ones((2, 3)), [0], ValueError, r"'target' must have shape \(2,\): \(1,\)"),
        (nn.CrossEntropyLoss, np.ones((2, 3)), [0.0, 1.0], TypeError, "'target' must be integers, .*: float64"),
        (nn.CrossEntropyLoss, np.ones((2, 3)), [0, 3], ValueError, "'target' must be >= 0 and < 3, .*: 3"),
        (nn.CrossEntropyLoss, np.ones((2, 3)), [-1, 0], ValueError, "'target' must be >= 0 and < 3, .*: -1"),
        (nn.CrossEntropyLoss, np.ones((0, 3)), [], ValueError, r"'output' must not be empty: shape \(0, 3\)"),
    ],
)
def test_losses_refuse_what_does_not_fit(
    criterion: Callable[[], Any], output: Any, target: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        criterion()(output, target)
