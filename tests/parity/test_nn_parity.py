"""Our layers and losses beside PyTorch's: outputs, gradients, names."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from lucid_train import nn

LAYERS = [
    pytest.param(lambda: nn.Linear(5, 3), lambda: torch.nn.Linear(5, 3), id="Linear"),
    pytest.param(lambda: nn.Linear(5, 3, bias=False), lambda: torch.nn.Linear(5, 3, bias=False), id="Linear no bias"),
    pytest.param(nn.ReLU, torch.nn.ReLU, id="ReLU"),
    pytest.param(nn.Tanh, torch.nn.Tanh, id="Tanh"),
    pytest.param(
        lambda: nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Sequential(nn.Linear(7, 4), nn.ReLU()), nn.Linear(4, 2)),
        lambda: torch.nn.Sequential(
            torch.nn.Linear(5, 7),
            torch.nn.Tanh(),
            torch.nn.Sequential(torch.nn.Linear(7, 4), torch.nn.ReLU()),
            torch.nn.Linear(4, 2),
        ),
        id="Sequential",
    ),
]


def assert_close(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("ours", "theirs"), LAYERS)
def test_outputs_and_gradients_are_pytorch_s(ours: Callable[[], nn.Module], theirs: Callable[[], Any]) -> None:
    mine, yours = ours(), theirs().double()
    mine.load_state_dict(yours.state_dict())
    rng = np.random.default_rng(0)
    for _ in range(2):  # the second pass adds to the gradients of the first
        x = rng.normal(size=(6, 5))
        x[0, 0] = 0.0
        tensor = torch.tensor(x, requires_grad=True)
        output, expected = mine(x), yours(tensor)
        assert_close(output, expected)
        grad = rng.normal(size=output.shape)
        expected.backward(torch.tensor(grad))
        assert_close(mine.backward(grad), tensor.grad)
    for (name, parameter), (your_name, your_parameter) in zip(
        mine.named_parameters(), yours.named_parameters(), strict=True
    ):
        assert name == your_name
        assert_close(parameter.grad, your_parameter.grad)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_mse_is_pytorch_s(scale: float) -> None:
    rng = np.random.default_rng(0)
    x, y = scale * rng.normal(size=(6, 4)), scale * rng.normal(size=(6, 4))
    tensor = torch.tensor(x, requires_grad=True)
    criterion, expected = nn.MSELoss(), torch.nn.MSELoss()(tensor, torch.tensor(y))
    expected.backward()
    assert criterion(x, y) == pytest.approx(expected.item(), rel=1e-12)
    assert_close(criterion.backward(), tensor.grad)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_cross_entropy_is_pytorch_s(scale: float) -> None:
    rng = np.random.default_rng(0)
    x, y = scale * rng.normal(size=(6, 4)), rng.integers(0, 4, size=6)
    tensor = torch.tensor(x, requires_grad=True)
    criterion, expected = nn.CrossEntropyLoss(), torch.nn.CrossEntropyLoss()(tensor, torch.tensor(y))
    expected.backward()
    assert criterion(x, y) == pytest.approx(expected.item(), rel=1e-12)
    assert_close(criterion.backward(), tensor.grad)


def test_our_state_loads_into_pytorch() -> None:
    mine, yours = nn.Sequential(nn.Linear(5, 3), nn.ReLU()), torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.ReLU())
    state = {name: torch.from_numpy(array) for name, array in mine.state_dict().items()}
    yours.double().load_state_dict(state)
    x = np.random.default_rng(0).normal(size=(6, 5))
    assert_close(mine(x), yours(torch.tensor(x)))
