"""Layers by finite differences and by hand; their parity with PyTorch is in tests/parity."""

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lucid_train import nn
from lucid_train.optims import SGD
from tests.support.modules import every_module, numeric_gradient


@every_module
def test_gradients_are_those_of_finite_differences(make: Callable[[], nn.Module]) -> None:
    model, rng = make(), np.random.default_rng(0)
    x = rng.normal(size=(5, 4))
    weights = rng.normal(size=model(x).shape)

    def loss(_: NDArray[Any]) -> float:
        return float((model(x) * weights).sum())

    expected = [numeric_gradient(loss, array) for array in (x, *(parameter.data for parameter in model.parameters()))]
    model(x)
    found = [model.backward(weights), *(parameter.grad for parameter in model.parameters())]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-8)


def test_linear_needs_two_widths_and_gives_scores_for_rows() -> None:
    layer = nn.Linear(10, 1)
    assert (layer.weight.data.shape, layer(np.ones((3, 10))).shape) == ((1, 10), (3, 1))
    assert repr(layer) == "Linear(10, 1, bias=True)"


def test_linear_starts_uniform_within_one_over_the_root_of_its_width() -> None:
    layer = nn.Linear(100, 500, rng=0)
    assert layer.bias is not None
    for values in (layer.weight.data, layer.bias.data):
        assert np.abs(values).max() <= 0.1
        assert values.std() == pytest.approx(0.1 / sqrt(3), rel=0.05)


def test_a_seed_fixes_the_start_and_a_shared_generator_goes_on() -> None:
    generator = np.random.default_rng(7)
    first, second = (nn.Linear(3, 2, rng=generator).weight.data for _ in range(2))
    assert np.array_equal(first, nn.Linear(3, 2, rng=7).weight.data)
    assert not np.array_equal(first, second)
    assert not np.array_equal(nn.Linear(3, 2).weight.data, nn.Linear(3, 2).weight.data)


def test_float32_stays_float32() -> None:
    model = nn.Sequential(nn.Linear(3, 4, dtype=np.float32), nn.ReLU(), nn.Linear(4, 2, dtype="float32"), nn.Tanh())
    criterion, optimizer = nn.MSELoss(), SGD(model.parameters(), lr=0.1, momentum=0.9)
    output = model(np.ones((5, 3)))
    assert type(criterion(output, np.zeros((5, 2)))) is float
    grads = [criterion.backward()]
    grads.append(model.backward(grads[0]))
    optimizer.step()
    kept = [array for parameter in model.parameters() for array in (parameter.data, parameter.grad)]
    assert {array.dtype for array in [output, *grads, *kept] if array is not None} == {np.dtype("float32")}


def test_backward_adds_to_the_gradients_and_keeps_the_callers_array() -> None:
    layer, x = nn.Linear(2, 1, bias=False, rng=0), np.array([[1.0, 2.0]])
    own = np.array([[10.0, 10.0]])
    layer.weight.grad = own
    for _ in range(2):
        layer(x)
        layer.backward([[1.0]])
    assert layer.weight.grad.tolist() == [[12.0, 14.0]]
    assert own.tolist() == [[10.0, 10.0]]


def test_relu_has_gradient_0_at_0_and_lets_nan_through() -> None:
    layer = nn.ReLU()
    assert layer([-1.0, 0.0, 2.0, np.nan]).tolist()[:3] == [0.0, 0.0, 2.0]
    assert layer.backward([1.0, 1.0, 1.0, 1.0]).tolist() == [0.0, 0.0, 1.0, 1.0]
    assert np.isnan(layer([np.nan])).all()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((0, 1), {}, ValueError, "'in_features' must be >= 1: 0"),
        ((1, -1), {}, ValueError, "'out_features' must be >= 1: -1"),
        ((2.0, 1), {}, TypeError, "'in_features' must be an int: 2.0"),
        ((2, True), {}, TypeError, "'out_features' must be an int: True"),
        ((2, 1, 0), {}, TypeError, "'bias' must be True or False: 0"),
        ((2, 1), {"dtype": np.int64}, TypeError, "'dtype' must be a float type: int64"),
        ((2, 1), {"rng": -1}, ValueError, "'rng' must be >= 0: -1"),
        ((2, 1), {"rng": "0"}, TypeError, "'rng' must be an int: '0'"),
    ],
)
def test_bad_arguments_of_linear_are_refused(
    arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        nn.Linear(*arguments, **options)


@pytest.mark.parametrize("x", [np.ones(3), np.ones((2, 4)), np.ones((1, 2, 3))])
def test_linear_refuses_an_input_of_another_width(x: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"'x' must have shape \(n, 3\): \("):
        nn.Linear(3, 2)(x)


@pytest.mark.parametrize("make", [lambda: nn.Linear(3, 3), nn.ReLU, nn.Tanh], ids=["Linear", "ReLU", "Tanh"])
def test_a_gradient_of_another_shape_than_the_output_is_refused(make: Callable[[], nn.Module]) -> None:
    model = make()
    model(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"'grad_output' must have shape \(2, 3\): \(1, 3\)"):
        model.backward(np.ones((1, 3)))


shared = nn.ReLU()


@pytest.mark.parametrize(
    ("modules", "error", "message"),
    [
        ((), ValueError, r"'modules' must hold at least one Module: \(\)"),
        (([nn.ReLU()],), TypeError, r"'modules' must hold Modules: \[ReLU\(\)\]"),
        (
            (shared, nn.Tanh(), shared),
            ValueError,
            r"'modules' must hold each module once; create another: ReLU\(\)",
        ),
        ((shared, nn.Sequential(shared)), ValueError, "'modules' must hold each module once"),
    ],
)
def test_modules_that_cannot_be_put_in_a_row_are_refused(
    modules: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        nn.Sequential(*modules)
