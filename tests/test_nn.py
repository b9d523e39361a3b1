"""Layers and losses by finite differences and by hand; their parity with PyTorch is in tests/parity."""

import copy
import pickle
from collections.abc import Callable
from math import log, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from lucid_train import nn
from lucid_train.optims import SGD

Function = Callable[[NDArray[Any]], float]


def pickled(module: nn.Module) -> nn.Module:
    copied: nn.Module = pickle.loads(pickle.dumps(module))
    return copied


def numeric_gradient(function: Function, at: NDArray[Any], step: float = 1e-6) -> NDArray[Any]:
    """Return the central differences of `function` when each element of `at` is changed in place."""
    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        held = at[index]
        at[index] = held + step
        above = function(at)
        at[index] = held - step
        gradient[index] = (above - function(at)) / (2 * step)
        at[index] = held
    return gradient


MODELS = [
    pytest.param(lambda: nn.Linear(4, 3, rng=0), id="Linear"),
    pytest.param(lambda: nn.Linear(4, 3, bias=False, rng=0), id="Linear without bias"),
    pytest.param(nn.ReLU, id="ReLU"),
    pytest.param(nn.Tanh, id="Tanh"),
    pytest.param(lambda: nn.Sequential(nn.Linear(4, 5, rng=0), nn.Tanh(), nn.Linear(5, 2, rng=1)), id="Sequential"),
]
every_module = pytest.mark.parametrize("make", MODELS)


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


@pytest.mark.parametrize("make", [*MODELS, pytest.param(nn.MSELoss, id="MSELoss"), pytest.param(nn.CrossEntropyLoss)])
def test_backward_without_a_forward_pass_is_refused(make: Callable[[], Any]) -> None:
    module = make()
    arguments = () if isinstance(module, (nn.MSELoss, nn.CrossEntropyLoss)) else (np.ones((2, 2)),)
    with pytest.raises(RuntimeError, match="backward needs a forward pass first, one for each backward"):
        module.backward(*arguments)


def test_a_forward_pass_serves_one_backward() -> None:
    criterion = nn.MSELoss()
    criterion([1.0], [0.0])
    criterion.backward()
    with pytest.raises(RuntimeError, match=r"MSELoss\.backward needs a forward pass first, one for each backward"):
        criterion.backward()


def test_relu_has_gradient_0_at_0_and_lets_nan_through() -> None:
    layer = nn.ReLU()
    assert layer([-1.0, 0.0, 2.0, np.nan]).tolist()[:3] == [0.0, 0.0, 2.0]
    assert layer.backward([1.0, 1.0, 1.0, 1.0]).tolist() == [0.0, 0.0, 1.0, 1.0]
    assert np.isnan(layer([np.nan])).all()


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
        ({"bias": None}, ValueError, "the state is not one of this Linear: it lacks 'bias'"),
        ({"bais": np.ones(1)}, ValueError, "the state is not one of this Linear: it has 'bais'"),
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
@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled], ids=["deep", "pickled"])
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
        ((shared, nn.Tanh(), shared), ValueError, r"'modules' must hold each module once, make another one: ReLU\(\)"),
        ((shared, nn.Sequential(shared)), ValueError, "'modules' must hold each module once"),
    ],
)
def test_modules_that_cannot_be_put_in_a_row_are_refused(
    modules: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        nn.Sequential(*modules)


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
