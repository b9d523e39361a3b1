import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_train import NoUpdate, Trainer
from lucid_train.metrics import Means, detached, to_metrics


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (None, {}),
        (0.5, {"loss": 0.5}),
        (3, {"loss": 3.0}),
        (Fraction(1, 4), {"loss": 0.25}),
        (np.float32(0.5), {"loss": 0.5}),
        (np.array(0.5), {"loss": 0.5}),
        ({"loss": np.int64(2), "accuracy": 1}, {"loss": 2.0, "accuracy": 1.0}),
        ({}, {}),
        (NoUpdate(NoUpdate(1.5)), {"loss": 1.5}),
    ],
)
def test_outputs_as_floats(output: Any, expected: dict[str, float]) -> None:
    assert to_metrics(output) == expected
    assert all(type(value) is float for value in to_metrics(output).values())


@pytest.mark.parametrize("value", ["0.5", b"1", (1.0, 2.0), [0.5], np.zeros(1), np.zeros((2, 2)), object(), 1j])
def test_what_is_no_number_is_refused_by_the_first_step_with_its_name(value: Any) -> None:
    with pytest.raises(TypeError, match=r"a step must return None, a number or a mapping of metrics.*'acc' is "):
        Trainer(step=lambda batch: {"loss": 0.5, "acc": value}, data=[1]).fit()
    with pytest.raises(TypeError, match="'loss' is "):
        to_metrics(value)


@pytest.mark.parametrize("output", [{1: 0.5}, {None: 0.5}, NoUpdate({1: 0.5})])
def test_names_are_strings(output: Any) -> None:
    with pytest.raises(TypeError, match=r"a metric's name must be a string: (1|None)"):
        to_metrics(output)
    with pytest.raises(TypeError, match=r"a metric's name must be a string: (1|None)"):
        Means().add(output)


class Tensor:
    """A number with a graph, as PyTorch's tensors have one."""

    def __init__(self, value: float, graph: bool = True) -> None:
        self.value, self.graph = value, graph

    def detach(self) -> "Tensor":
        return Tensor(self.value, graph=False)


def test_detaching_leaves_numbers_alone_and_frees_tensors_wherever_they_are() -> None:
    tensor = Tensor(0.5)
    assert detached(0.5) == 0.5
    assert detached(None) is None
    assert detached(3) == 3
    assert detached(tensor).graph is False
    assert detached({"loss": tensor, "n": 1})["loss"].graph is False
    assert detached(NoUpdate(tensor)).output.graph is False
    assert detached(NoUpdate({"loss": tensor})).output["loss"].graph is False


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_a_mean_is_the_mean(losses: list[float]) -> None:
    means = Means()
    for loss in losses:
        means.add(loss)
    assert means.read()["loss"] == pytest.approx(math.fsum(losses) / len(losses), rel=1e-12, abs=1e-6)


def test_a_metric_is_averaged_over_the_steps_that_return_it() -> None:
    outputs: dict[int, Any] = {1: 1.0, 2: {"loss": 3, "accuracy": 1.0}, 3: None, 4: NoUpdate({"accuracy": 0.0}), 5: 2}
    history = Trainer(step=outputs.__getitem__, data=range(1, 6)).fit()
    assert history[0].metrics == {"loss": 2.0, "accuracy": 0.5}


def test_nan_and_infinity_are_numbers() -> None:
    losses = iter([1.0, math.inf])
    assert Trainer(step=lambda batch: next(losses), data=[1, 2]).fit()[0].metrics == {"loss": math.inf}


def test_an_array_that_the_step_fills_again_was_read_in_time() -> None:
    held = np.zeros(())

    def step(batch: int) -> Any:
        held[()] = batch
        return {"loss": held}

    assert Trainer(step=step, data=[1, 2, 3]).fit().metric("loss") == [2.0]


def test_a_step_without_update_shows_what_it_returned() -> None:
    assert repr(NoUpdate({"loss": 0.5})) == "NoUpdate(output={'loss': 0.5})"
