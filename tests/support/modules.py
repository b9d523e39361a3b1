"""Modules of every kind, and the gradient by finite differences that theirs must equal."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lucid_train import nn

Function = Callable[[NDArray[Any]], float]


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
