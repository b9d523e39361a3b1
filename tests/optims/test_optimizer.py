"""What SGD, Adam and AdamW have in common: groups, gradients, state, copies."""

import copy
import gc
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lucid_train import nn
from lucid_train.optims import SGD, Adam, AdamW, Optimizer
from tests.support.copies import every_copy

Make = Callable[..., Optimizer]

MAKERS = [
    pytest.param(partial(SGD, lr=0.1), id="SGD"),
    pytest.param(partial(SGD, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True), id="SGD nesterov"),
    pytest.param(Adam, id="Adam"),
    pytest.param(AdamW, id="AdamW"),
]
every_optimizer = pytest.mark.parametrize("make", MAKERS)


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter([1.0, -2.0, 3.0]), nn.Parameter([[0.5, 0.25]]), nn.Parameter(4.0)]


def walk(optimizer: Optimizer, steps: int, *, seed: int = 0) -> list[NDArray[Any]]:
    """Make steps along seeded gradients and return the parameters' values."""
    rng = np.random.default_rng(seed)
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for _ in range(steps):
        for parameter in held:
            parameter.grad = rng.normal(size=parameter.data.shape)
        optimizer.step()
    return [parameter.data for parameter in held]


def equal(ours: Any, theirs: Any) -> bool:
    """Whether two nests of dicts, lists and arrays are equal in value, type and precision."""
    if isinstance(ours, np.ndarray):
        return bool(isinstance(theirs, np.ndarray) and ours.dtype == theirs.dtype and np.array_equal(ours, theirs))
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(equal(ours[name], theirs[name]) for name in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(equal, ours, theirs))
    return bool(type(ours) is type(theirs) and ours == theirs)


def test_groups_have_pytorch_s_keys_and_the_defaults_fill_them_in() -> None:
    first, second, third = parameters()
    groups: list[dict[str, Any]] = [
        {"params": [first, second]},
        {"params": third, "lr": 0.5, "name": "head", "initial_lr": 1},
    ]
    optimizer = SGD(groups, lr=0.1, momentum=0.9)
    common = {"momentum": 0.9, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False}
    assert optimizer.param_groups == [
        {"params": [first, second], "lr": 0.1, **common},
        {"params": [third], "lr": 0.5, **common, "name": "head", "initial_lr": 1.0},
    ]
    assert groups[1] == {"params": third, "lr": 0.5, "name": "head", "initial_lr": 1}


def test_parameters_may_come_from_a_generator() -> None:
    model = nn.Linear(10, 1)
    assert SGD(model.parameters(), lr=0.1).param_groups[0]["params"] == [model.weight, model.bias]


@every_optimizer
def test_steps_change_the_arrays_in_place(make: Make) -> None:
    held = parameters()
    arrays = [parameter.data for parameter in held]
    before = [array.copy() for array in arrays]
    walk(make(held), 3)
    assert all(parameter.data is array for parameter, array in zip(held, arrays, strict=True))
    assert not any(np.any(array == old) for array, old in zip(arrays, before, strict=True))


@every_optimizer
def test_a_parameter_without_a_gradient_is_left_alone(make: Make) -> None:
    moved, left = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = make([moved, left])
    moved.grad = [1.0]
    optimizer.step()
    assert left.data == [1.0]
    assert moved.data != [1.0]
    assert left not in optimizer.state


@every_optimizer
def test_zero_grad_sets_every_gradient_to_none(make: Make) -> None:
    held = parameters()
    optimizer = make(held)
    walk(optimizer, 1)
    optimizer.zero_grad()
    assert [parameter.grad for parameter in held] == [None, None, None]


@every_optimizer
def test_gradients_are_only_read(make: Make) -> None:
    parameter = nn.Parameter([1.0, 2.0])
    optimizer = make([parameter])
    gradient = np.array([3.0, -4.0])
    for _ in range(3):
        parameter.grad = gradient
        optimizer.step()
    assert gradient.tolist() == [3.0, -4.0]


@every_optimizer
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_parameters_and_state_keep_their_precision(make: Make, dtype: str) -> None:
    optimizer = make([nn.Parameter(np.ones(3, dtype)), nn.Parameter(np.ones((), dtype))])
    values = walk(optimizer, 2)
    state = optimizer.state_dict()["state"]
    arrays = [entry for kept in state.values() for entry in kept.values() if isinstance(entry, np.ndarray)]
    assert {array.dtype for array in [*values, *arrays]} == {np.dtype(dtype)}


@every_optimizer
def test_the_rate_is_read_from_the_group_at_every_step(make: Make) -> None:
    rate, parameter = np.array(0.0), nn.Parameter([1.0])
    optimizer = make([{"params": [parameter], "lr": rate}])
    walk(optimizer, 1)
    assert parameter.data == [1.0]
    rate[()] = 0.1
    walk(optimizer, 1)
    changed = parameter.data.copy()
    assert changed != [1.0]
    optimizer.param_groups[0]["lr"] = 0.0
    walk(optimizer, 1)
    assert parameter.data == changed


@every_optimizer
def test_steps_add_no_keys_and_no_attributes(make: Make) -> None:
    optimizer = make(parameters())
    keys, attributes = list(optimizer.param_groups[0]), list(vars(optimizer))
    walk(optimizer, 2)
    assert (list(optimizer.param_groups[0]), list(vars(optimizer))) == (keys, attributes)


@every_optimizer
def test_step_count_is_the_number_of_steps_and_cannot_be_set(make: Make) -> None:
    optimizer = make(parameters())
    walk(optimizer, 3)
    assert optimizer.step_count == 3
    with pytest.raises(AttributeError, match="step_count"):
        optimizer.step_count = 0  # type: ignore[misc]  # that it is refused is the point


@every_optimizer
def test_a_group_added_later_is_trained_with_its_own_options(make: Make) -> None:
    first, second, third = parameters()
    optimizer = make([first])
    optimizer.add_param_group({"params": [second, third], "lr": 0.0})
    walk(optimizer, 1)
    assert [group["lr"] > 0 for group in optimizer.param_groups] == [True, False]
    assert (second.data.tolist(), third.data.tolist()) == ([[0.5, 0.25]], 4.0)


@every_optimizer
def test_state_is_numbered_through_the_groups_and_copied(make: Make) -> None:
    first, second, third = parameters()
    optimizer = make([{"params": [first], "name": "body"}, {"params": [second, third]}])
    walk(optimizer, 2)
    state = optimizer.state_dict()
    assert [group["params"] for group in state["param_groups"]] == [[0], [1, 2]]
    assert state["param_groups"][0]["name"] == "body"
    kept = copy.deepcopy(state)
    walk(optimizer, 2)
    assert equal(state, kept)


@every_optimizer
@given(before=st.integers(0, 5), after=st.integers(0, 5))
def test_a_loaded_state_goes_on_as_the_optimizer_it_came_from(make: Make, before: int, after: int) -> None:
    groups = [[first, *rest] for first, *rest in (parameters(), parameters())]
    original, other = (make([{"params": [first], "lr": 0.02}, {"params": rest}]) for first, *rest in groups)
    walk(original, before)
    for ours, theirs in zip(*groups, strict=True):
        theirs.data[...] = ours.data
    walk(other, 1, seed=1)
    for ours, theirs in zip(*groups, strict=True):
        theirs.data[...] = ours.data
    other.param_groups[0]["lr"] = 0.7
    other.load_state_dict(original.state_dict())
    assert equal(other.state_dict(), original.state_dict())
    assert equal(walk(other, after, seed=2), walk(original, after, seed=2))


@every_optimizer
def test_loading_copies_arrays_and_fills_a_mutable_rate(make: Make) -> None:
    source, rate = make(parameters()), np.array(0.7, dtype=np.float32)
    walk(source, 2)
    state = source.state_dict()
    kept = copy.deepcopy(state)
    optimizer = make([{"params": parameters(), "lr": rate}])
    optimizer.load_state_dict(state)
    walk(optimizer, 2)
    assert equal(state, kept)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate == np.float32(source.param_groups[0]["lr"])


def test_a_state_with_a_rate_array_is_not_aliased() -> None:
    optimizer, rate = SGD(parameters(), lr=0.1), np.array(0.5)
    state = optimizer.state_dict()
    state["param_groups"][0]["lr"] = rate
    optimizer.load_state_dict(state)
    rate[()] = 0.25
    assert optimizer.param_groups[0]["lr"] == 0.5


BASES = [
    pytest.param(SGD, {"initial_lr": 0.5, "initial_momentum": 0.9, "initial_weight_decay": 0.01}, id="SGD"),
    pytest.param(AdamW, {"initial_lr": 0.5, "initial_momentum": 0.9, "initial_weight_decay": 0.01}, id="AdamW"),
]


@pytest.mark.parametrize(("make", "bases"), BASES)
def test_base_values_are_saved_and_loaded_and_stay_where_a_state_lacks_them(
    make: Make, bases: dict[str, float]
) -> None:
    optimizer, other = make(parameters(), lr=0.1), make([{"params": parameters(), "initial_lr": 1}], lr=0.1)
    plain = optimizer.state_dict()
    optimizer.param_groups[0].update(bases)  # as schedulers do
    other.load_state_dict(optimizer.state_dict())
    assert {name: other.param_groups[0][name] for name in bases} == bases
    other.load_state_dict(plain)
    assert {name: other.param_groups[0][name] for name in bases} == bases


def test_a_name_is_the_groups_own_whatever_a_state_calls_it() -> None:
    optimizer = SGD([{"params": parameters(), "name": "body"}], lr=0.1)
    state = optimizer.state_dict()
    optimizer.param_groups[0]["name"] = "trunk"
    optimizer.load_state_dict(state)
    assert (state["param_groups"][0]["name"], optimizer.param_groups[0]["name"]) == ("body", "trunk")


GONE = object()


@pytest.mark.parametrize(
    ("path", "value", "error", "message"),
    [
        (["param_groups", 0], GONE, ValueError, "the state must have as many groups as the optimizer, 1: 0"),
        (["param_groups", 0, "params", 2], GONE, ValueError, "'param_groups.* must have 3 parameters.*: 2"),
        (
            ["param_groups", 0, "betas"],
            GONE,
            ValueError,
            r"param_groups\[0\] of the state does not fit: 'betas' is missing",
        ),
        (["param_groups", 0, "momentum"], 0.9, ValueError, "does not fit: 'momentum' is unknown"),
        (["param_groups", 0, "eps"], -1.0, ValueError, "'eps' must be > 0: -1.0"),
        (["param_groups", 0, "lr"], "fast", TypeError, "'lr' must be a number: 'fast'"),
        (["param_groups", 0], "Adam", ValueError, r"param_groups\[0\] of the state must be a dict: 'Adam'"),
        (
            ["param_groups", 0, "params", 2],
            1,
            ValueError,
            r"the state must number .* like its groups, \[0, 1, 1\]: \[2\]",
        ),
        (
            ["param_groups", 0, "params", 2],
            7,
            ValueError,
            r"the state must number .* like its groups, \[0, 1, 7\]: \[2\]",
        ),
        (["param_groups", 0, "initial_lr"], -1.0, ValueError, "'initial_lr' must be >= 0: -1.0"),
        (["param_groups", 0, "initial_dampening"], 0.5, ValueError, "does not fit: 'initial_dampening' is unknown"),
        (["state", 1, "exp_avg"], GONE, ValueError, "the state of parameter 1 does not fit: 'exp_avg' is missing"),
        (["state", 1, "exp_avg"], np.zeros(5), ValueError, r"'exp_avg' in the state of parameter 1 .*: \(5,\)"),
        (["state", 1, "step"], -1, ValueError, "'step' must be >= 0: -1"),
        (["state"], GONE, ValueError, "the state of the Adam does not fit: 'state' is missing"),
        (["state"], [1], TypeError, r"'state' in the state must be a dict: \[1\]"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(
    path: list[Any], value: Any, error: type[Exception], message: str
) -> None:
    optimizer = Adam(parameters())
    walk(optimizer, 2)
    before, state = optimizer.state_dict(), optimizer.state_dict()
    state["param_groups"][0]["lr"] = 0.5
    place: Any = state
    for step in path[:-1]:
        place = place[step]
    if value is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(state)
    assert equal(optimizer.state_dict(), before)


@every_optimizer
@every_copy
def test_a_copy_goes_on_as_the_original(make: Make, duplicate: Callable[[Optimizer], Optimizer]) -> None:
    optimizer = make(parameters())
    walk(optimizer, 2)
    other = duplicate(optimizer)
    assert other.step_count == 2
    assert equal(walk(other, 3, seed=1), walk(optimizer, 3, seed=1))


def test_a_copy_made_with_the_model_trains_the_copied_model() -> None:
    model = nn.Linear(2, 1, rng=0)
    other, optimizer = copy.deepcopy((model, SGD(model.parameters(), lr=0.1)))
    assert optimizer.param_groups[0]["params"] == list(other.parameters())


@every_optimizer
def test_an_optimizer_is_known_by_identity_and_can_be_referred_to_weakly(make: Make) -> None:
    held = parameters()
    optimizer = make(held)
    assert optimizer != make(held)
    assert {optimizer: 1}[optimizer] == 1
    walk(optimizer, 1)
    reference = weakref.ref(optimizer)
    gc.disable()
    try:
        del optimizer
        assert reference() is None
    finally:
        gc.enable()


def test_repr_shows_the_options_of_each_group() -> None:
    first, *rest = parameters()
    optimizer = Adam([{"params": first}, {"params": rest, "lr": 0.5}])
    assert repr(optimizer) == (
        "Adam(params=1, lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0; "
        "params=2, lr=0.5, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0)"
    )


def test_an_optimizer_of_one_s_own_writes_check_and_update() -> None:
    class Perceptron(Optimizer):
        state_names = ("mistakes",)

        def check(self, options: Mapping[str, Any]) -> dict[str, Any]:
            return dict(options)

        def update(self, parameter: nn.Parameter, gradient: NDArray[Any], group: dict[str, Any]) -> None:
            state = self.state.setdefault(parameter, {"mistakes": np.zeros_like(parameter.data)})
            state["mistakes"] += gradient != 0
            parameter.data -= group["lr"] * gradient

    optimizer, weight = Perceptron([nn.Parameter(1.0)], {"lr": 1.0}), nn.Parameter([0.0, 0.0])
    optimizer.add_param_group({"params": [weight], "lr": 0.5})
    weight.grad = [1.0, 0.0]
    optimizer.step()
    state = optimizer.state_dict()
    optimizer.step()
    optimizer.load_state_dict(state)
    assert weight.data.tolist() == [-1.0, 0.0]
    assert optimizer.state[weight]["mistakes"].tolist() == [1.0, 0.0]
