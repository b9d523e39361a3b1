from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from attrs import define, field, frozen

from lucid_train import Callback, EpochEnd, FitStart, StepEnd, Trainer, nn, optims
from lucid_train.callback import TRANSIENT
from lucid_train.callbacks import (
    CosineAnnealingLRCallback,
    EarlyStopping,
    ExponentialLRCallback,
    StepLRCallback,
    TerminateOnNaN,
)
from lucid_train.data import batches
from lucid_train.testing import assert_resumes_exactly, diff_states, pairs_that_do_not_commute
from tests.support.notebook import execute


@define(eq=False)
class Halve(Callback):
    """Halves the rate once, after some steps: with state that is saved, or with state that is not."""

    def on_step_end(self, event: StepEnd) -> None:
        self.steps += 1
        if self.steps == 4:
            event.run.optimizer.param_groups[0]["lr"] /= 2

    steps: int = field(default=0, init=False, repr=False)


@define(eq=False)
class Forgetful(Callback):
    steps: int = field(default=0, init=False, repr=False, metadata=TRANSIENT)

    def on_step_end(self, event: StepEnd) -> None:
        self.steps += 1
        if self.steps == 4:
            event.run.optimizer.param_groups[0]["lr"] /= 2


@define(eq=False)
class Add(Callback):
    def on_epoch_end(self, event: EpochEnd) -> None:
        event.run.model.load_state_dict({name: x + 1 for name, x in event.run.model.state_dict().items()})


@define(eq=False)
class Double(Callback):
    def on_epoch_end(self, event: EpochEnd) -> None:
        event.run.model.load_state_dict({name: x * 2 for name, x in event.run.model.state_dict().items()})


def building(*classes: Any) -> Any:
    def build() -> Trainer:
        model = nn.Linear(1, 1, rng=0)
        optimizer = optims.SGD(model.parameters(), lr=0.125, momentum=0.5)

        def step(batch: Any) -> float:
            optimizer.zero_grad()
            loss = float(model(batch).sum() + random.random() + np.random.rand())
            model.backward(np.ones((len(batch), 1)))
            optimizer.step()
            return loss

        data = batches(np.arange(6.0).reshape(-1, 1), batch_size=2)
        return Trainer(step, data, epochs=3, model=model, optimizer=optimizer, callbacks=[make() for make in classes])

    return build


def test_the_librarys_callbacks_resume_exactly() -> None:
    for schedule in (
        lambda: StepLRCallback(2, 0.5),
        lambda: ExponentialLRCallback(0.5, interval="step"),
        lambda: CosineAnnealingLRCallback(5, interval="step"),
    ):
        build = building(schedule, lambda: EarlyStopping("loss", patience=1), TerminateOnNaN)
        assert_resumes_exactly(build)
        assert_resumes_exactly(build, cuts=[1, 2, 3])


def test_a_callback_that_keeps_its_state_resumes_exactly() -> None:
    assert_resumes_exactly(building(Halve), cuts=range(1, 9))


def test_a_callback_that_forgets_is_found_out_and_what_differs_first_is_named() -> None:
    with pytest.raises(
        AssertionError,
        match=r"a run that dies after step 3 and is resumed goes on differently: "
        r"step 4 has the rates \[0.125\] and not \[0.0625\]",
    ):
        assert_resumes_exactly(building(Forgetful), cuts=[3])
    with pytest.raises(AssertionError, match="dies after step 1 "):
        assert_resumes_exactly(building(Forgetful), cuts="all")


def test_all_cuts_are_all_moments_at_which_a_run_can_be_saved() -> None:
    found: list[int] = []

    def build() -> Trainer:
        trainer = Trainer(float, [1, 2, 3], epochs=2, evaluate=lambda: 0.5, evaluate_every="2 steps")
        trainer.on(FitStart)(lambda event: found.append(event.run.step))
        return trainer

    assert_resumes_exactly(build, cuts="all")
    # The straight run; then, from pairs of processes: the beginning of the run and of epoch 1, steps 1 and 2, the
    # evaluation, step 3, epochs 1 and 2, step 4, its evaluation, steps 5 and 6, the evaluation at step 6.
    assert found == [0] + [each for step in (0, 0, 1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 6) for each in (0, step)]


@frozen
class Sample:
    values: Any
    name: str


@pytest.mark.parametrize(
    "batch",
    [
        lambda x: x,
        lambda x: {"x": np.array([x]), "y": [1]},
        lambda x: [("a", x), None],
        lambda x: Sample(np.array([x]), "a"),
        lambda x: Sample([1], str(x)),
    ],
)
def test_another_batch_of_any_kind_is_found_out(batch: Any) -> None:
    def build() -> Trainer:
        noise = random.Random(0)

        class Drawn:
            def __iter__(self) -> Any:
                return (batch(noise.random()) for _ in range(3))

        def step(batch: Any) -> None:
            noise.random()

        return Trainer(step, Drawn())

    with pytest.raises(AssertionError, match=r"dies after step 1 .* differently: step 2 receives another batch"):
        assert_resumes_exactly(build, cuts=[1])


@define(eq=False)
class Enough(Callback):
    """Ends the run after four steps of a process."""

    steps: int = field(default=0, init=False, repr=False, metadata=TRANSIENT)

    def on_step_end(self, event: StepEnd) -> None:
        self.steps += 1
        if self.steps == 4:
            event.run.stop("enough", for_good=True)


def test_a_run_that_ends_elsewhere_is_found_out() -> None:
    with pytest.raises(AssertionError, match="differently: step 5 is done after the last one"):
        assert_resumes_exactly(building(Enough), cuts=[3])


def test_a_build_that_draws_is_not_the_same_each_time() -> None:
    noise = np.random.default_rng(0)
    with pytest.raises(AssertionError, match="'build' must return the same run each time: step 1 has the metrics"):
        assert_resumes_exactly(lambda: Trainer(lambda batch: batch + noise.random(), [1.0, 2.0]))
    with pytest.raises(AssertionError, match="'build' must return the same run each time: step 1 receives another b"):
        assert_resumes_exactly(lambda: Trainer(lambda batch: None, [noise.random(), 2.0]))
    lengths = iter([5, 2])
    with pytest.raises(
        AssertionError, match="the same run each time: another one does not come to a moment after step 4"
    ):
        assert_resumes_exactly(lambda: Trainer(lambda batch: None, range(next(lengths))), cuts=[4])


def test_a_cut_beyond_the_end_is_refused() -> None:
    with pytest.raises(ValueError, match="'cuts' must be below the 9 steps of the run"):
        assert_resumes_exactly(building(Halve), cuts=[9])
    with pytest.raises(ValueError, match="'cuts' must be >= 1: 0"):
        assert_resumes_exactly(building(Halve), cuts=[0])


def test_pairs_whose_order_matters_are_reported() -> None:
    build = building(Add, TerminateOnNaN, Double, lambda: ExponentialLRCallback(0.5))
    assert pairs_that_do_not_commute(build) == [("Add", "Double")]
    assert pairs_that_do_not_commute(building(Add, Add, Double)) == [("Add", "Double"), ("Add#2", "Double")]


def test_two_callbacks_of_one_class_have_names_of_their_own() -> None:
    build = building(lambda: EarlyStopping("loss", patience=1), lambda: EarlyStopping("loss", patience=9))
    assert pairs_that_do_not_commute(build) == []


def test_differences_are_of_bits() -> None:
    assert diff_states({"a": 0.0}, {"a": 0.0}) == []
    assert diff_states({"a": 0.0}, {"a": -0.0}) == ["a"]
    assert diff_states({"a": [1, 2]}, {"a": [1, 2.0]}) == ["a.1"]
    assert diff_states({"a": float("nan")}, {"a": float("nan")}) == []
    assert diff_states({"a": np.zeros(2)}, {"a": np.zeros(2, np.float32)}) == ["a"]
    assert diff_states({"a": {}, "seconds": 1.0}, {"a": [], "seconds": 2.0, "b": 1}) == ["a", "b"]
    assert diff_states({"a": True, "c": 0}, {"a": 1, "c": None}) == ["a", "c"]


def test_in_a_notebook_the_rows_are_compared_and_not_shown() -> None:
    program = """
from itertools import count
from lucid_train import Trainer
from lucid_train.callbacks import RichLogger
from lucid_train.testing import assert_resumes_exactly

def build(first=count()):
    number = next(first)
    return Trainer(lambda batch: 0.5, data=[1, 2], epochs=2, callbacks=[RichLogger()], evaluate=lambda: number)
"""
    check = "assert_resumes_exactly(build, cuts=[1])"
    shown, refused = execute(
        program.replace("next(first)", "1.0") + check,
        f"{program}try:\n    {check}\nexcept AssertionError as error:\n    print(error)",
    )
    assert shown == []
    assert [output.text.split(" is ")[:2] for output in refused] == [
        ["a run that dies after step 1 and", "resumed goes on differently: line of the console 1"]
    ]
