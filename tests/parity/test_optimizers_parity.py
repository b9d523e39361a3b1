"""Our optimizers beside PyTorch's: the same gradients, the same 200 steps."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from lucid_train.nn import Parameter
from lucid_train.optims import SGD, Adam, AdamW

SGD_OPTIONS = [
    {"momentum": momentum, "dampening": dampening, "weight_decay": decay, "nesterov": nesterov}
    for momentum, dampening, decay, nesterov in itertools.product((0, 0.9), (0, 0.3), (0, 0.01), (False, True))
    if not nesterov or (momentum and not dampening)
]
ADAM_OPTIONS = [
    {"betas": betas, "eps": eps, "weight_decay": decay}
    for betas, eps, decay in itertools.product(((0.9, 0.999), (0.0, 0.5)), (1e-8, 1e-3), (0.0, 0.05))
]
CASES = [
    pytest.param(ours, theirs, options, id=f"{ours.__name__} {options}")
    for ours, theirs, several in (
        (SGD, torch.optim.SGD, SGD_OPTIONS),
        (Adam, torch.optim.Adam, ADAM_OPTIONS),
        (AdamW, torch.optim.AdamW, ADAM_OPTIONS),
    )
    for options in several
]
every_case = pytest.mark.parametrize(("ours", "theirs", "options"), CASES)
SHAPES = [(4, 3), (3,), (), (2, 1, 2)]


def pair(ours: Any, theirs: Any, options: dict[str, Any], dtype: Any) -> tuple[Any, Any]:
    """Return both optimizers on equal parameters: one group with the options, one with a rate and decay of its own."""
    rng = np.random.default_rng(0)
    starts = [np.asarray(rng.normal(size=shape), dtype) for shape in SHAPES]
    own = {"lr": 0.003, "weight_decay": 0.2}
    made = []
    for make, parameters in (
        (ours, [Parameter(start) for start in starts]),
        (theirs, [torch.nn.Parameter(torch.tensor(start)) for start in starts]),
    ):
        groups = [{"params": parameters[:2]}, {"params": parameters[2:], **own}]
        made.append(make(groups, lr=0.05, **options))
    return made[0], made[1]


def parameters_of(optimizer: Any) -> list[Any]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def values_of(optimizer: Any) -> list[Any]:
    return [np.asarray(parameter.data).copy() for parameter in parameters_of(optimizer)]


def walk(mine: Any, yours: Any, steps: int, dtype: Any, seed: int = 1) -> None:
    """Step both; the rate changes on the way, and now and then a parameter has no gradient."""
    rng = np.random.default_rng(seed)
    for step in range(steps):
        if step % 50 == 20:
            for group in (*mine.param_groups, *yours.param_groups):
                group["lr"] *= 0.4
        for number, (one, other) in enumerate(zip(parameters_of(mine), parameters_of(yours), strict=True)):
            gradient = np.asarray(rng.normal(size=one.data.shape) + np.cos(step), dtype)
            absent = number == 1 and step % 7 < 2
            one.grad = None if absent else gradient
            other.grad = None if absent else torch.tensor(gradient)
        mine.step()
        yours.step()


@every_case
def test_200_steps_are_pytorch_s(ours: Any, theirs: Any, options: dict[str, Any]) -> None:
    mine, yours = pair(ours, theirs, options, np.float64)
    walk(mine, yours, 200, np.float64)
    for one, other in zip(values_of(mine), values_of(yours), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-13)


@every_case
def test_60_steps_in_float32_are_pytorch_s_up_to_rounding(ours: Any, theirs: Any, options: dict[str, Any]) -> None:
    mine, yours = pair(ours, theirs, options, np.float32)
    walk(mine, yours, 60, np.float32)
    for one, other in zip(values_of(mine), values_of(yours), strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@every_case
def test_states_have_pytorch_s_form_and_values(ours: Any, theirs: Any, options: dict[str, Any]) -> None:
    mine, yours = pair(ours, theirs, options, np.float64)
    walk(mine, yours, 30, np.float64)
    my_state, your_state = mine.state_dict(), yours.state_dict()
    filled = {number: kept for number, kept in your_state["state"].items() if any(v is not None for v in kept.values())}
    assert my_state["state"].keys() == filled.keys()
    for number, kept in filled.items():
        assert my_state["state"][number].keys() == kept.keys()
        for name, value in kept.items():
            np.testing.assert_allclose(my_state["state"][number][name], value.numpy(), rtol=1e-10, atol=1e-13)
    for group, your_group in zip(my_state["param_groups"], your_state["param_groups"], strict=True):
        assert group == {name: your_group[name] for name in group}


@every_case
def test_a_state_loaded_mid_run_goes_on_as_pytorch(ours: Any, theirs: Any, options: dict[str, Any]) -> None:
    mine, yours = pair(ours, theirs, options, np.float64)
    walk(mine, yours, 60, np.float64)
    fresh, _ = pair(ours, theirs, options, np.float64)
    for one, other in zip(parameters_of(fresh), values_of(mine), strict=True):
        one.data[...] = other
    fresh.load_state_dict(mine.state_dict())
    walk(fresh, yours, 60, np.float64, seed=2)
    for one, other in zip(values_of(fresh), values_of(yours), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-13)
