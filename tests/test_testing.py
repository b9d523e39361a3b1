from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from attrs import define, field

from lucid_train import Callback, EpochEnd, StepEnd, Trainer, nn, optims
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


def test_a_callback_that_forgets_is_found_out_and_what_differs_is_named() -> None:
    with pytest.raises(
        AssertionError, match=r"a run that is stopped after step 3 and resumed ends with another state: .*model.weight"
    ):
        assert_resumes_exactly(building(Forgetful), cuts=[3])


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
