"""What all modules share: parameters, names, state, copies, one backward pass for each forward pass."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lucid_train import nn
from tests.support.copies import every_copy
from tests.support.modules import MODELS, every_module


@pytest.mark.parametrize("make", [*MODELS, pytest.param(nn.MSELoss, id="MSELoss"), pytest.param(nn.CrossEntropyLoss)])
def test_backward_without_a_forward_pass_is_refused(make: Callable[[], Any]) -> None:
    module = make()
    arguments = () if isinstance(module, (nn.MSELoss, nn.CrossEntropyLoss)) else (np.ones((2, 2)),)
    with pytest.raises(RuntimeError, match="backward needs a forward pass first, one for each backward"):
        module.backward(*arguments)


def test_parameters_come_in_order_under_pytorch_s_names() -> None:
    first, second = nn.Linear(2, 3), nn.Linear(3, 1, bias=False)
    model = nn.Sequential(first, nn.Sequential(nn.Tanh(), second))
    assert list(model.named_parameters()) == [
        ("0.weight", first.weight),
        ("0.bias", first.bias),
        ("1.1.weight", second.weight),
    ]
    assert list(model.parameters()) == [first.weight, first.bias, second.weight]
    assert repr(model) == "Sequential(Linear(2, 3, bias=True), Sequential(Tanh(), Linear(3, 1, bias=False)))"


def test_a_shared_parameter_is_yielded_once() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    assert list(nn.Sequential(first, second).parameters()) == [first.weight, first.bias, second.bias]


def test_a_module_of_one_s_own_has_parameters_by_attribute() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            self.factor = nn.Parameter([3.0])
            self.inner = nn.Linear(1, 1, bias=False)

        def forward(self, x: Any) -> NDArray[Any]:
            return np.asarray(self.factor.data * self.inner(x))

        def backward(self, grad_output: Any) -> NDArray[Any]:
            return self.inner.backward(self.factor.data * grad_output)

    model = Scale()
    assert list(model.state_dict()) == ["factor", "inner.weight"]
    assert model([[2.0]]) == pytest.approx(6 * model.inner.weight.data)


def test_state_is_copied_on_reading_and_written_in_place_on_loading() -> None:
    source, model = nn.Linear(2, 1, rng=0), nn.Linear(2, 1, rng=1)
    held, state = model.weight.data, source.state_dict()
    model.load_state_dict(state)
    assert model.weight.data is held
    held += 1
    assert np.array_equal(state["weight"], source.weight.data)
    assert np.array_equal(held, source.weight.data + 1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"bias": None}, ValueError, "the state of the Linear does not fit: 'bias' is missing"),
        ({"bais": np.ones(1)}, ValueError, "the state of the Linear does not fit: 'bais' is unknown"),
        ({"bias": np.ones(2)}, ValueError, r"'bias' must have shape \(1,\): \(2,\)"),
        ({"bias": ["a"]}, TypeError, "'bias' must be an array of real numbers: <U1"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = nn.Linear(2, 1, rng=0)
    before = model.state_dict()
    state = {"weight": np.zeros((1, 2)), "bias": np.zeros(1), **change}
    with pytest.raises(error, match=message):
        model.load_state_dict({name: value for name, value in state.items() if value is not None})
    assert np.array_equal(model.weight.data, before["weight"])


@every_module
@every_copy
def test_a_copy_computes_the_same_and_carries_no_forward_pass(
    make: Callable[[], nn.Module], duplicate: Callable[[nn.Module], nn.Module]
) -> None:
    model, x = make(), np.random.default_rng(0).normal(size=(5, 4))
    expected = model(x)
    other = duplicate(model)
    with pytest.raises(RuntimeError, match="backward needs a forward pass first"):
        other.backward(expected)
    assert np.array_equal(other(x), expected)
    assert not set(other.parameters()) & set(model.parameters())


def test_parameter_copies_its_data_and_takes_integers_as_floats() -> None:
    array = np.ones(3, dtype=np.float32)
    parameter = nn.Parameter(array)
    array[0] = 5
    assert (parameter.data.tolist(), parameter.data.dtype.name) == ([1.0, 1.0, 1.0], "float32")
    assert nn.Parameter([1, 2]).data.dtype == np.float64
    assert repr(parameter) == "Parameter(shape=(3,), dtype=float32)"


def test_a_gradient_takes_the_precision_of_the_data() -> None:
    parameter = nn.Parameter(np.ones(2, dtype=np.float32))
    parameter.grad = np.array([1, 2])
    assert parameter.grad.dtype == np.float32


def test_a_gradient_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'grad' must have the shape of the data, \(3,\): \(1, 3\)"):
        nn.Parameter(np.ones(3)).grad = np.ones((1, 3))


@pytest.mark.parametrize("data", ["abc", [1j], [True], [None]])
def test_a_parameter_of_no_real_numbers_is_refused(data: Any) -> None:
    with pytest.raises(TypeError, match="'data' must be an array of real numbers: "):
        nn.Parameter(data)
