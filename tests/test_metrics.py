import json
import math
import sys
from contextlib import suppress
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lucid_train import StepResult, Trainer
from lucid_train.metrics import Mean, Means, combined, detached, evaluation, is_time, to_metrics
from lucid_train.progress import structure, unstructure


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
        (StepResult(1.5, weight=3), {"loss": 1.5}),
    ],
)
def test_outputs_as_floats(output: Any, expected: dict[str, float]) -> None:
    assert to_metrics(output) == expected
    assert all(type(value) is float for value in to_metrics(output).values())


@pytest.mark.parametrize("value", ["0.5", b"1", object(), 1j, {"nested": 1.0}])
def test_what_is_no_number_is_refused_by_the_first_step_with_its_name(value: Any) -> None:
    with pytest.raises(
        TypeError, match=r"a step must return None, a real number, a mapping of metrics or a StepResult.*'acc' is "
    ):
        Trainer(step=lambda batch: {"loss": 0.5, "acc": value}, data=[1]).fit()
    with pytest.raises(TypeError, match="'acc' is "):
        to_metrics({"acc": value})


@pytest.mark.parametrize("value", [np.zeros(1), np.zeros((2, 3))])
def test_an_array_is_refused_with_its_shape(value: Any) -> None:
    message = r"must return single numbers: 'loss' has the shape \(.*\); return its mean, or leave it out"
    with pytest.raises(TypeError, match=f"a step {message}"):
        Trainer(step=lambda batch: value, data=[1]).fit()
    with pytest.raises(TypeError, match=f"'evaluate' {message}"):
        Trainer(step=lambda batch: 0.5, data=[1], evaluate=lambda: value).fit()


@pytest.mark.parametrize("value", [(0.5, 0.9), [0.5, 0.9]])
def test_a_tuple_is_refused_with_what_to_return(value: Any) -> None:
    message = r'must return no (tuple|list): .0.5, 0.9.; return {"loss": loss, "accuracy": accuracy}'
    with pytest.raises(TypeError, match=f"a step {message}"):
        Trainer(step=lambda batch: value, data=[1]).fit()
    with pytest.raises(TypeError, match=f"'evaluate' {message}"):
        Trainer(step=lambda batch: 0.5, data=[1], evaluate=lambda: value).fit()


@pytest.mark.parametrize("output", [{1: 0.5}, {None: 0.5}, StepResult({1: 0.5}, updated=False)])
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
    result = detached(StepResult(tensor, 2, False))
    assert (result.metrics.graph, result.weight, result.updated) == (False, 2, False)
    assert detached(StepResult({"loss": tensor})).metrics["loss"].graph is False


FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def mean_of(outputs: list[Any]) -> Any:
    [record] = Trainer(step=lambda batch: batch, data=outputs).fit()
    return record.metrics


@given(st.lists(FLOATS, min_size=1, max_size=30), st.booleans())
@example([0.0] * 6 + [2.6121132560057784e16, -68.0, -6.483228665706979e16], False)  # half a ulp of the sum is lost
def test_a_mean_is_the_exact_sum_rounded_over_the_number_of_steps(losses: list[float], mapping: bool) -> None:
    exact = sum(map(Fraction, losses)) / len(losses)
    found = mean_of([{"loss": loss} for loss in losses] if mapping else losses)["loss"]
    assert abs(Fraction(found) - exact) <= Fraction(3, 2) * Fraction(math.ulp(float(exact)))
    with suppress(OverflowError):  # which fsum raises where the sum is beyond the largest float
        assert found == math.fsum(losses) / len(losses)


@given(st.lists(st.tuples(FLOATS, st.floats(0, 1e6)), min_size=1, max_size=30))
def test_a_weighted_mean_is_as_good_as_its_products(pairs: list[tuple[float, float]]) -> None:
    weight = sum(Fraction(weight) for _, weight in pairs)
    found = mean_of([StepResult(loss, weight=weight) for loss, weight in pairs])
    if not weight:
        assert found == {}
        return
    products = [Fraction(loss) * Fraction(weight) for loss, weight in pairs]
    smallest = len(pairs) * Fraction(2.0**-1074)  # to which products are rounded that hardly differ from zero
    error = (Fraction(2**-51) * sum(map(abs, products)) + smallest) / weight
    assert abs(Fraction(found["loss"]) - sum(products) / weight) <= error


def test_a_mean_is_over_samples_where_the_steps_say_how_many_they_are() -> None:
    def step(batch: tuple[int, float]) -> StepResult:
        return StepResult({"loss": batch[1], "n": 1}, weight=batch[0])

    history = Trainer(step, [(256, 1.0), (256, 1.0), (10, 9.0)]).fit()
    assert history[0].metrics == {"loss": 602 / 522, "n": 1.0}
    assert f"{history[0].metrics['loss']:.4f}" == "1.1533"


@pytest.mark.parametrize(
    ("outputs", "mean"),
    [
        ([1e308, 1e308], 1e308),
        ([{"loss": 1e308}, {"loss": 1e308}], 1e308),
        ([1e308] * 5000, 1e308),
        ([sys.float_info.max] * 7, sys.float_info.max),
        ([1e308, 1e308, -1e308, -1e308], 0.0),
        ([StepResult(1e308, weight=256), StepResult(-1e308, weight=128)], 1e308 / 3),
        ([1e308, StepResult(1e308, weight=7), 1e308], 1e308),
        ([1e16, 1.0, -1e16], 1 / 3),
        ([0.1] * 10, 0.1),
        ([0.1] * 100_000, 0.1),
        ([5e-324, 5e-324], 5e-324),
        ([-0.0], -0.0),
        ([-0.0, -0.0, -0.0], -0.0),
        ([-0.0] * 5000, -0.0),
        ([{"loss": -0.0}, StepResult(-0.0, weight=3)], -0.0),
        ([-0.0, 0.0], 0.0),
        ([1.0, -1.0, -0.0], 0.0),
        ([math.inf, 1.0], math.inf),
        ([1e308, 1e308, -math.inf], -math.inf),
        ([math.inf, -math.inf], math.nan),
        ([1.0, math.nan], math.nan),
        ([StepResult(math.nan, weight=0), 2.0], 2.0),
    ],
)
def test_a_mean_of_extremes(outputs: list[Any], mean: float) -> None:
    assert str(mean_of(outputs)["loss"]) == str(mean)


@given(st.lists(st.tuples(FLOATS, st.sampled_from([0, 1, 2.5])), min_size=2, max_size=20), st.data())
def test_a_sum_that_is_saved_goes_on_to_the_same_mean(pairs: list[tuple[float, float]], data: st.DataObject) -> None:
    straight, cut = Means(), Means()
    at = data.draw(st.integers(0, len(pairs)))
    for index, (loss, weight) in enumerate(pairs):
        if index == at:
            cut = structure(Means, json.loads(json.dumps(unstructure(cut))), "means")
        for means in (straight, cut):
            means.add(StepResult({"loss": loss, "n": 1.0}, weight=weight))
    assert str(cut.read()) == str(straight.read())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"weight": -1}, ValueError, "'weight' must be >= 0: -1"),
        ({"weight": math.nan}, ValueError, "'weight' must be >= 0 and finite: nan"),
        ({"weight": math.inf}, ValueError, "'weight' must be >= 0 and finite: inf"),
        ({"weight": "8"}, TypeError, "'weight' must be a number: '8'"),
        ({"weight": None}, TypeError, "'weight' must be a number: None"),
        ({"weight": True}, TypeError, "'weight' must be a number: True"),
        ({"weight": np.ones(2)}, TypeError, "'weight' must be a number: "),
        ({"updated": 1}, TypeError, "'updated' must be True or False: 1"),
    ],
)
def test_what_a_step_says_wrongly_is_refused_by_name(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        StepResult(0.5, **arguments)


def test_a_result_within_a_result_is_refused() -> None:
    with pytest.raises(TypeError, match="'loss' is StepResult"):
        mean_of([StepResult(StepResult(0.5))])


@pytest.mark.parametrize("value", [1j, np.complex128(1), np.array(1j)])
@pytest.mark.parametrize("of_step", [True, False])
def test_a_complex_metric_is_refused_by_name(value: Any, of_step: bool) -> None:
    with pytest.raises(TypeError, match="'acc' is "):
        Trainer(lambda batch: {"acc": value} if of_step else None, [1], evaluate=lambda: {"acc": value}).fit()


def test_the_loss_comes_first_wherever_a_run_was_cut() -> None:
    outputs = [0.5, {"other": 1.0, "acc": 1.0}, 0.25]
    assert list(mean_of(outputs)) == ["loss", "other", "acc"]


def test_a_metric_is_averaged_over_the_steps_that_return_it() -> None:
    outputs: dict[int, Any] = {
        1: 1.0,
        2: {"loss": 3, "accuracy": 1.0},
        3: None,
        4: StepResult({"accuracy": 0.0}, updated=False),
        5: 2,
    }
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
    assert repr(StepResult({"loss": 0.5})) == "StepResult(metrics={'loss': 0.5}, weight=1, updated=True)"


def test_a_mean_of_a_step_counts_with_its_own_weight() -> None:
    means = Means()
    means.add({"loss": 1.0, "norm": Mean(6.0, 2)})
    means.add(StepResult({"loss": 3.0, "norm": Mean(1, 1)}, weight=3))
    means.add({"loss": 2.0, "norm": Mean(0.0, 0)})
    means.add(StepResult({"loss": 9.0, "norm": Mean(9.0, 1)}, weight=0))
    assert means.read() == {"loss": 12.0 / 5, "norm": 9.0 / 5}


def test_a_mean_of_weight_0_is_no_metric_of_its_step_and_nan_in_an_evaluation() -> None:
    output = {"loss": 1.0, "norm": Mean(0.0, 0)}
    assert to_metrics(output) == {"loss": 1.0}
    assert evaluation(output, "val_", taken=[]) == {"val_loss": (1.0, 1.0), "val_norm": (0.0, 0.0)}
    assert math.isnan(combined([evaluation(output, "", taken=[])], "'evaluate'")["norm"])
    means = Means()
    means.add(output)
    assert math.isnan(means.read()["norm"])


def test_a_mean_of_a_step_must_be_of_a_number() -> None:
    with pytest.raises(TypeError, match="a step must return single numbers: 'norm' has the shape"):
        Means().add({"norm": Mean(np.zeros(2), 1)})  # type: ignore[arg-type]  # that it is refused is the claim


@pytest.mark.parametrize(
    ("name", "expected"),
    [("seconds", True), ("a.seconds_spent", True), ("tokens_per_second", True), ("data_wait", True),
     ("secondary", False), ("waiting", False), ("time", False), ("loss", False)],
)  # fmt: skip
def test_a_time_is_known_by_a_word_of_its_name(name: str, expected: bool) -> None:
    assert is_time(name) is expected
