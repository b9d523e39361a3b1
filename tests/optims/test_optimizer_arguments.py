"""What all optimizers refuse: parameters that cannot be trained, and bad rates."""

from typing import Any

import numpy as np
import pytest

from lucid_train import nn
from lucid_train.optims import SGD, Adam, AdamW

W = nn.Parameter([1.0])


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ([], ValueError, r"'params' must hold at least one Parameter: \[\]"),
        ([{"params": []}], ValueError, r"'params' must hold at least one Parameter: \[\]"),
        (W, TypeError, "'params' must be an iterable of Parameters or dicts; put a single one in a list: Parameter"),
        (np.ones(3), TypeError, "put a single one in a list: array"),
        ({"params": [W]}, TypeError, "put a single one in a list: {"),
        (3, TypeError, "put a single one in a list: 3"),
        (nn.Linear(2, 1), TypeError, r"'params' must be Parameters; pass model.parameters\(\): Linear"),
        ({W}, TypeError, "'params' must be ordered, the same in every run, and not a set"),
        ([np.ones(3)], TypeError, "'params' must hold Parameters; wrap arrays in nn.Parameter: array"),
        ([W, {"params": [W]}], TypeError, "'params' must hold either Parameters or dicts, not both: 1 of 2 are dicts"),
        ([{"lr": 0.1}], TypeError, r"'param_groups\[0\]' must be a dict with 'params': {'lr': 0.1}"),
        ([W, W], ValueError, r"'params' must hold each Parameter once: number 1 of param_groups\[0\] is a duplicate"),
        ([{"params": [W]}, {"params": [W]}], ValueError, r"number 0 of param_groups\[1\] is a duplicate"),
        ([{"params": [W], "momentun": 1}], ValueError, r"'momentun' of param_groups\[0\] .*did you mean 'momentum'\?"),
        (
            [{"params": [W], "xyz": 1}],
            ValueError,
            "'xyz' of .* is not an option of SGD; it has lr, momentum, dampening",
        ),
        ([{"params": [W], "lr": -1.0}], ValueError, "'lr' must be >= 0: -1.0"),
        ([{"params": [W], "initial_lr": -1.0}], ValueError, "'initial_lr' must be >= 0: -1.0"),
        ([{"params": [W], "initial_momentum": "0"}], TypeError, "'initial_momentum' must be a number: '0'"),
        ([{"params": [W], "initial_betas": 0.9}], ValueError, "'initial_betas' of .* is not an option of SGD"),
    ],
)
def test_parameters_that_cannot_be_trained_are_refused(params: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SGD(params, lr=0.1)


def test_the_error_of_a_group_says_which_group() -> None:
    for name in ("lr", "initial_lr"):
        with pytest.raises(ValueError, match=f"'{name}' must be") as caught:
            SGD([{"params": [nn.Parameter(1.0)]}, {"params": [W], name: -1.0}], lr=0.1)
        assert caught.value.__notes__ == ["in param_groups[1]"]


@pytest.mark.parametrize("make", [SGD, Adam, AdamW])
@pytest.mark.parametrize(
    ("lr", "error", "message"),
    [
        (-0.1, ValueError, "'lr' must be >= 0.*: -0.1"),
        (float("nan"), ValueError, "'lr' must be .*finite: nan"),
        (float("inf"), ValueError, "'lr' must be .*finite: inf"),
        (np.array(-0.1), ValueError, "'lr' must be >= 0.*: -0.1"),
        (True, TypeError, "'lr' must be a number: True"),
        ("0.1", TypeError, "'lr' must be a number: '0.1'"),
        (None, TypeError, "'lr' must be a number: None"),
        (np.array([0.1]), TypeError, "'lr' must be a number or a 0-d array of floats: array"),
        (np.array(1), TypeError, "'lr' must be a number or a 0-d array of floats: array"),
    ],
)
def test_a_bad_rate_is_refused(
    make: type[SGD] | type[Adam] | type[AdamW], lr: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make([W], lr=lr)
