"""Two Trainers in lockstep."""

from __future__ import annotations

import math
import random
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucid_train import FitEnd, Trainer
from lucid_train.callbacks import EarlyStopping, ParamSchedulerCallback
from lucid_train.saving.random_state import RandomState
from lucid_train.schedules import Exponential
from lucid_train.testing import Divergence, first_divergence
from tests.recording.test_comparison import EPOCHS, N, build


@pytest.fixture
def run(tmp_path: Path) -> Any:
    return partial(build, tmp_path / "run.jsonl")


def test_two_runs_of_one_program_do_not_part(run: Any, tmp_path: Path) -> None:
    assert first_divergence(run, run) is None
    assert not (tmp_path / "run.jsonl").exists()


def test_another_order_of_the_data_is_found_in_the_first_batch(run: Any) -> None:
    found = first_divergence(run, lambda: run(seed=1))
    assert found is not None
    assert (found.step, found.what) == (1, "batch")
    assert found.largest is not None
    assert found.largest > 0


def test_another_seed_of_the_noise_is_found_in_the_generator(run: Any) -> None:
    found = first_divergence(run, lambda: run(dropout=1))
    assert str(found) == "step 1: generator python, one state and another"


def test_another_rate_is_found_before_the_first_step(run: Any) -> None:
    found = first_divergence(run, lambda: run(lr=0.2))
    assert found == Divergence(0, "optimizer.param_groups.0.lr", "0.1", "0.2")
    assert str(found) == "before step 1: optimizer.param_groups.0.lr, 0.1 and 0.2"


def test_another_schedule_is_found_where_its_rate_is_first_used(run: Any) -> None:
    assert str(first_divergence(run, lambda: run(gamma=0.25))) == f"step {N + 1}: rate, 0.05 and 0.025"


def test_a_weight_that_is_off_by_one_bit_is_found_at_its_step(run: Any) -> None:
    found = first_divergence(run, lambda: run(nudge=7))
    assert found is not None
    assert (found.step, found.what) == (7, "model.weight")
    assert found.largest is not None
    assert 0 < found.largest < 1e-6
    assert str(found) == f"step 7: model.weight, largest difference {found.largest:.3g}"


def test_nan_equals_nan(run: Any) -> None:
    assert first_divergence(lambda: run(spoil=2), lambda: run(spoil=2)) is None
    found = first_divergence(lambda: run(spoil=3), lambda: run(spoil=4))
    assert found is not None
    assert (found.step, found.what, found.one) == (3, "loss", "nan")


def test_a_shorter_run_ends_first(run: Any) -> None:
    found = first_divergence(run, lambda: run(epochs=2))
    assert str(found) == f"step {2 * N + 1}: the length of the run, StepStart and ended"


def one_array(array: Any, **settings: Any) -> Trainer:
    """Return a Trainer with an array in its state."""

    class Holder:
        def state_dict(self) -> dict[str, Any]:
            return {"a.b": array}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            del state

    return Trainer(lambda batch: None, [1, 2], extras={"held": Holder()}, **settings)


@pytest.mark.parametrize(
    ("one", "other", "largest"),
    [
        (np.array([1.0, math.nan]), np.array([1.5, math.nan]), 0.5),
        (np.array([1.0, math.nan]), np.array([1.0, 2.0]), math.nan),
        (np.array([0.0]), np.array([-0.0]), 0.0),
        (np.array([1j]), np.array([0j]), 1.0),
        (np.array([True]), np.array([False]), 1.0),
        (np.zeros(2), np.zeros(3), None),
        (np.zeros(0), np.zeros(0, "f4"), None),
    ],
    ids=str,
)
def test_the_largest_difference_of_two_arrays(one: Any, other: Any, largest: float | None) -> None:
    found = first_divergence(lambda: one_array(one), lambda: one_array(other))
    assert found is not None
    assert (found.step, found.what) == (0, "extras.held.a.b")
    assert repr(found.largest) == repr(largest)


def test_other_scheduled_numbers_are_found_where_they_are_used() -> None:
    def trained(gamma: float) -> Trainer:
        class Weights:
            kl = 1.0

        scheduled = ParamSchedulerCallback(kl=Exponential(gamma), on=Weights(), interval="step")
        return Trainer(lambda batch: batch, [1.0, 2.0, 3.0], callbacks=[scheduled])

    assert first_divergence(partial(trained, 0.5), partial(trained, 0.5)) is None
    found = first_divergence(partial(trained, 0.5), partial(trained, 0.25))
    assert str(found) == "step 2: kl, 0.5 and 0.25"


def test_another_result_of_an_evaluation_is_found() -> None:
    def evaluated(value: float) -> Trainer:
        return Trainer(lambda batch: batch, [1.0], evaluate=lambda: value)

    assert str(first_divergence(partial(evaluated, 0.5), partial(evaluated, 0.25))) == "step 1: val_loss, 0.5 and 0.25"


def test_each_run_has_the_global_generators_to_itself() -> None:
    drawn: dict[str, list[float]] = {"one": [], "other": []}

    def drawing(name: str) -> Trainer:
        def step(batch: Any) -> float:
            drawn[name].append(random.random() + np.random.rand())
            return drawn[name][-1]

        return Trainer(step, range(5), epochs=2)

    random.seed(3)
    before = RandomState().read()
    assert first_divergence(partial(drawing, "one"), partial(drawing, "other")) is None
    assert drawn["one"] == drawn["other"]
    assert len(set(drawn["one"])) == 10
    assert RandomState().read() == before


def test_both_runs_end_at_the_difference_and_leave_no_thread() -> None:
    ended, threads = [], set(threading.enumerate())

    def trainer(value: float) -> Trainer:
        made = Trainer(lambda batch: value, range(100))

        @made.on(FitEnd)
        def end(event: FitEnd) -> None:
            ended.append((value, event.run.step))

        return made

    assert str(first_divergence(partial(trainer, 0.5), partial(trainer, 0.25))) == "step 1: loss, 0.5 and 0.25"
    assert ended == [(0.5, 1), (0.25, 1)]
    assert set(threading.enumerate()) == threads


@pytest.mark.parametrize("name", ["first", "second"])
def test_what_a_run_raises_says_which_it_was(name: str) -> None:
    def trainer(fails: bool) -> Trainer:
        return Trainer(lambda batch: 1 / 0 if fails else 1.0, [1])

    threads = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError) as error:
        first_divergence(partial(trainer, name == "first"), partial(trainer, name == "second"))
    assert f"raised by the {name} run" in error.value.__notes__
    assert set(threading.enumerate()) == threads


def test_what_builds_a_run_may_raise() -> None:
    def build_none() -> Trainer:
        raise LookupError("no such model")

    with pytest.raises(LookupError, match="no such model"):
        first_divergence(build_none, build_none)


def test_callbacks_that_train_take_part(run: Any) -> None:
    def stopping(patience: int) -> Trainer:
        trainer: Trainer = run(spoil=1)
        trainer.callbacks = (*trainer.callbacks, EarlyStopping("loss", patience=patience, mode="min"))
        return trainer

    assert first_divergence(partial(stopping, EPOCHS), partial(stopping, EPOCHS)) is None
