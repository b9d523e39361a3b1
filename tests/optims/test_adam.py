"""Adam and AdamW by their formulas; their parity with PyTorch is in tests/parity."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_train.nn import Parameter
from lucid_train.optims import Adam, AdamW

both = pytest.mark.parametrize("make", [Adam, AdamW])


def after(optimizer: Adam | AdamW, gradients: list[float]) -> list[float]:
    """Return the values of the optimizer's one parameter after each step."""
    (weight,) = optimizer.param_groups[0]["params"]
    seen = []
    for gradient in gradients:
        weight.grad = [gradient]
        optimizer.step()
        seen.append(weight.data.item())
    return seen


# With betas of 0.5 and a rate of 0.3, along the gradients 2, -2: the means are 1 and -0.5, corrected 2 and -2/3, and
# the mean squares, corrected, are 4 and 4; so the steps are -0.3 * 1 and +0.3 / 3.
def test_steps_follow_the_formula() -> None:
    optimizer = Adam([Parameter([1.0])], lr=0.3, betas=(0.5, 0.5))
    assert after(optimizer, [2.0, -2.0]) == pytest.approx([0.7, 0.8], rel=1e-8)


def test_weight_decay_enters_adam_s_gradient() -> None:
    # At 1.0 it is 2 - 1 * 2 = 0: nothing moves.
    assert after(Adam([Parameter([1.0])], lr=0.3, weight_decay=2.0), [-2.0]) == [1.0]


def test_weight_decay_shrinks_adamw_s_parameters_and_stays_out_of_the_averages() -> None:
    weight = Parameter([1.0])
    optimizer = AdamW([weight], lr=0.3, weight_decay=0.5)
    assert after(optimizer, [0.0, 0.0]) == pytest.approx([0.85, 0.85**2], rel=1e-14)
    assert optimizer.state == {weight: {"step": 2, "exp_avg": np.array([0.0]), "exp_avg_sq": np.array([0.0])}}


@given(gradients=st.lists(st.floats(-10, 10), min_size=1, max_size=5), scale=st.sampled_from([0.25, 4.0, 1024.0]))
def test_scaling_all_gradients_changes_no_step(gradients: list[float], scale: float) -> None:
    # Up to eps, which is therefore scaled too; powers of two make it exact.
    one, other = Adam([Parameter([1.0])], eps=1e-3), Adam([Parameter([1.0])], eps=1e-3 * scale)
    assert after(other, [scale * gradient for gradient in gradients]) == pytest.approx(after(one, gradients), rel=1e-12)


@given(gradients=st.lists(st.floats(-10, 10), min_size=1, max_size=5))
def test_without_weight_decay_adamw_is_adam(gradients: list[float]) -> None:
    ours, theirs = Adam([Parameter([1.0])]), AdamW([Parameter([1.0])], weight_decay=0)
    assert after(ours, gradients) == after(theirs, gradients)


def test_the_defaults_are_pytorch_s() -> None:
    defaults = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
    assert Adam([Parameter([1.0])]).defaults == defaults
    assert AdamW([Parameter([1.0])]).defaults == defaults | {"weight_decay": 1e-2}


@both
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"betas": 0.9}, TypeError, "'betas' must be two numbers: 0.9"),
        ({"betas": (0.9,)}, TypeError, r"'betas' must be two numbers: \(0.9,\)"),
        ({"betas": (0.9, True)}, TypeError, "'betas' must be a number: True"),
        ({"betas": (-0.1, 0.9)}, ValueError, "'betas' must be >= 0.*: -0.1"),
        ({"betas": (0.9, 1.0)}, ValueError, r"'betas' must be < 1: \(0.9, 1.0\)"),
        ({"eps": 0.0}, ValueError, "'eps' must be > 0.*: 0"),
        ({"eps": float("nan")}, ValueError, "'eps' must be .*finite: nan"),
        ({"weight_decay": -0.1}, ValueError, "'weight_decay' must be >= 0.*: -0.1"),
    ],
)
def test_bad_options_are_refused(
    make: type[Adam] | type[AdamW], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make([Parameter([1.0])], **options)
