"""SGD by hand-computed tables; its parity with PyTorch is in tests/parity."""

from typing import Any

import numpy as np
import pytest

from lucid_train.nn import Parameter
from lucid_train.optims import SGD

# From 1.0 along the gradients 1, 2, -1 at rate 0.5, computed by hand.
TABLES = [
    pytest.param({}, [0.5, -0.5, 0.0], id="plain"),
    pytest.param({"momentum": 0.5}, [0.5, -0.75, -0.875], id="momentum: buffers 1, 2.5, 0.25"),
    pytest.param({"momentum": 0.5, "dampening": 0.5}, [0.5, -0.25, -0.375], id="dampening: buffers 1, 1.5, 0.25"),
    pytest.param({"weight_decay": 0.5}, [0.25, -0.8125, -0.109375], id="decay: gradients 1.5, 2.125, -1.40625"),
    pytest.param({"momentum": 0.5, "nesterov": True}, [0.25, -1.375, -0.9375], id="nesterov: 1.5, 3.25, -0.875"),
]


@pytest.mark.parametrize(("options", "expected"), TABLES)
def test_steps_follow_the_formula(options: dict[str, Any], expected: list[float]) -> None:
    weight = Parameter([1.0])
    optimizer = SGD([weight], lr=0.5, **options)
    seen = []
    for gradient in (1.0, 2.0, -1.0):
        weight.grad = [gradient]
        optimizer.step()
        seen.append(weight.data.item())
    assert seen == pytest.approx(expected, rel=1e-14)


def test_only_momentum_needs_a_state() -> None:
    weight = Parameter([1.0])
    weight.grad = [1.0]
    plain, heavy = SGD([weight], lr=0.5), SGD([weight], lr=0.5, momentum=0.5)
    plain.step()
    heavy.step()
    assert (plain.state, heavy.state) == ({}, {weight: {"momentum_buffer": np.array([1.0])}})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"momentum": -0.1}, ValueError, "'momentum' must be >= 0.*: -0.1"),
        ({"momentum": float("nan")}, ValueError, "'momentum' must be .*finite: nan"),
        ({"momentum": True}, TypeError, "'momentum' must be a number: True"),
        ({"dampening": float("inf")}, ValueError, "'dampening' must be finite: inf"),
        ({"dampening": "0"}, TypeError, "'dampening' must be a number: '0'"),
        ({"weight_decay": -1}, ValueError, "'weight_decay' must be >= 0.*: -1"),
        ({"weight_decay": None}, TypeError, "'weight_decay' must be a number: None"),
        ({"nesterov": 1, "momentum": 0.9}, TypeError, "'nesterov' must be True or False: 1"),
        ({"nesterov": True}, ValueError, "'nesterov' must come with momentum > 0 and dampening 0: momentum=0.0, "),
        ({"nesterov": True, "momentum": 0.9, "dampening": 0.1}, ValueError, "momentum=0.9, dampening=0.1"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SGD([Parameter([1.0])], lr=0.1, **options)
