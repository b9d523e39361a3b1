"""A run ends the same on every way to its last epoch: through other goals, stops, failures and killed processes.

What the ways below have to respect, because it is how events are emitted:

- A step, an evaluation and a FitStart that failed are tried again, so a callback may receive StepStart, EvaluateStart,
  EvaluateEnd and FitStart twice. What fails there fails before the other callbacks and before anything has changed.
- EpochStart, StepEnd, EpochEnd and EpochReport are emitted once, also if a callback fails in them, and those after it
  miss the event. What fails there comes last. An epoch whose EpochEnd failed gets no EpochReport.
- So is the EvaluateEnd of an evaluation within an epoch, for callbacks act on it as they do on EpochEnd.
- Between a step that failed and its repetition a state is exact or refused: its batch has left the data already.
"""

from __future__ import annotations

import copy
import random
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from lucid_train import (
    TRANSIENT,
    Callback,
    EpochEnd,
    EpochReport,
    EpochStart,
    EvaluateEnd,
    EvaluateStart,
    Event,
    FitEnd,
    FitStart,
    History,
    Run,
    StepEnd,
    StepResult,
    StepStart,
    Trainer,
    nn,
    optims,
    read_checkpoint,
    write_checkpoint,
)
from lucid_train.callbacks import CosineAnnealingLRCallback, EarlyStopping
from lucid_train.testing import diff_states
from tests.support.setups import DATA, Tally

EPOCHS = 4

# Makes data of rows, whose batches are arrays of rows or lists with one.
Data = Callable[[Any], Any]

# An event, how many times it has come in the fit, and whether the first or the last callback acts on it.
Place = tuple[Any, int, str]

# How often each is counted at most: three steps are an epoch, every second one is evaluated.
TRIED_AGAIN = {FitStart: 1, StepStart: 5, EvaluateStart: 2, EvaluateEnd: 2}
ONCE = {EpochStart: 3, StepEnd: 7, EpochEnd: 3, EpochReport: 3, FitEnd: 1}
FUNCTIONS = {"step": 5, "evaluate": 2}


class Failure(Exception):
    pass


class Interrupt(KeyboardInterrupt):
    pass


def at_safe_point(run: Run, function: Callable[[], object]) -> None:
    run.at_safe_point(function)


def saved(of: Trainer | Run) -> Any:
    """Return the state, or None where it is refused, because a batch has been taken and its step has failed."""
    try:
        return copy.deepcopy(of.state_dict())
    except RuntimeError as error:
        if "a batch has been taken whose step has failed" not in str(error):
            raise
        return None


@define
class Plan:
    """What is to happen in one fit: a stop, a failure and a save, each at most once."""

    stop: Place | None = None
    fail: Place | None = None
    save: Place | None = None
    error: type[BaseException] = Failure
    saved: Any = field(default=None, init=False)
    _met: Counter[tuple[Any, str]] = field(factory=Counter, init=False)

    def meet(self, kind: Any, position: str, run: Run | None = None) -> None:
        self._met[kind, position] += 1
        here = (kind, self._met[kind, position], position)
        if here == self.save and run is not None:
            at_safe_point(run, lambda: self._save(run))
        if here == self.stop and run is not None:
            run.stop("planned")
        if here == self.fail:
            raise self.error("planned")

    def _save(self, run: Run) -> None:
        self.saved = saved(run)


@define(eq=False)
class Intruder(Callback):
    """Lets the plan act on every event; `training` holds the plan of the fit."""

    training: Training = field(metadata=TRANSIENT, repr=False)
    position: str = field()

    def _meet(self, event: Event) -> None:
        self.training.plan.meet(type(event), self.position, event.run)

    def on_fit_start(self, event: FitStart) -> None:
        self.training.run = event.run
        self._meet(event)

    def on_epoch_start(self, event: EpochStart) -> None:
        self._meet(event)

    def on_step_start(self, event: StepStart) -> None:
        self._meet(event)

    def on_step_end(self, event: StepEnd) -> None:
        self._meet(event)

    def on_evaluate_start(self, event: EvaluateStart) -> None:
        self._meet(event)

    def on_evaluate_end(self, event: EvaluateEnd) -> None:
        self._meet(event)

    def on_epoch_end(self, event: EpochEnd) -> None:
        self._meet(event)

    def on_epoch_report(self, event: EpochReport) -> None:
        self._meet(event)

    def on_fit_end(self, event: FitEnd) -> None:
        self._meet(event)


EVERY: list[int | str] = [2, "2 steps"]


class Training:
    """What a program builds: a regression with momentum, noise and steps without an update."""

    def __init__(self, data: Data, every: int | str) -> None:
        np.random.seed(1)
        random.seed(2)
        self.plan = Plan()
        self.run: Run | None = None
        rows = np.random.default_rng(0).normal(size=(6, 2))
        noise = np.random.default_rng(5)
        model, loss = nn.Linear(2, 1, rng=1), nn.MSELoss()
        optimizer = optims.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(batch: Any) -> Any:
            self.plan.meet("step", "first")
            optimizer.zero_grad()
            batch = np.asarray(batch[0] if isinstance(batch, list) else batch)
            noisy = batch + 0.1 * noise.normal(size=batch.shape) + 0.01 * np.random.rand()
            value = float(loss(model(noisy), batch[:, :1]))
            if random.random() < 0.2:
                return StepResult(value, updated=False)
            model.backward(loss.backward())
            optimizer.step()
            return value

        def evaluate() -> float:
            self.plan.meet("evaluate", "first")
            return float(loss(model(rows), rows[:, :1]))

        self.trainer = Trainer(
            step,
            data(rows),
            epochs=EPOCHS,
            model=model,
            optimizer=optimizer,
            evaluate=evaluate,
            evaluate_every=every,
            extras={"noise": noise},
            callbacks=[
                Intruder(self, "first"),
                Tally(),
                CosineAnnealingLRCallback(5, 0.001, interval="step"),
                EarlyStopping("val_loss", mode="min", patience=20, min_delta=0.01),
                Intruder(self, "last"),
            ],
        )


def known(history: History) -> tuple[list[Any], list[Any]]:
    epochs = [(r.epoch, r.steps, dict(r.metrics), r.lr, r.last_lr) for r in history]
    return epochs, [(r.epoch, r.step, dict(r.metrics)) for r in history.evaluations]


def places_in(most: dict[Any, int], position: str) -> list[Place]:
    return [(kind, count, position) for kind in most for count in range(1, most[kind] + 1)]


places = st.sampled_from([place for position in ("first", "last") for place in places_in(TRIED_AGAIN | ONCE, position)])
failures = st.sampled_from(places_in(TRIED_AGAIN | FUNCTIONS, "first") + places_in(ONCE, "last"))


class AnyPath(RuleBasedStateMachine):
    """Takes one way to the last epoch, and compares the outcome with that of the straight way."""

    def __init__(self, data: Data, every: int | str, folder: Path, expected: dict[str, Any], history: Any) -> None:
        super().__init__()
        self.data, self.every, self.folder, self.expected, self.history = data, every, folder, expected, history
        self.saved: Any = None  # the last state
        self.resume: Path | None = None  # what the next fit is to resume from
        self.has_arrived = False
        self.begin_process()

    def begin_process(self) -> None:
        """Build everything again, as another process does."""
        self.training = Training(self.data, self.every)
        self.trainer = self.training.trainer

    def train(self, goal: int, plan: Plan) -> None:
        self.training.plan = plan
        resume, self.resume = self.resume, None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "nothing left to train", UserWarning)
            warnings.filterwarnings("ignore", ".* never reaches its end", UserWarning)  # of updates left out
            with suppress(Failure, Interrupt):
                assert self.trainer.fit(goal, resume=resume).status in ("completed", "stopped")
        self.saved = plan.saved or self.saved

    @rule(goal=st.integers(0, EPOCHS), save=st.none() | places)
    def fit_to_another_goal(self, goal: int, save: Any) -> None:
        self.train(goal, Plan(save=save))

    @rule(stop=places, save=st.none() | places)
    def fit_and_stop(self, stop: Any, save: Any) -> None:
        self.train(EPOCHS, Plan(stop=stop, save=save))

    @rule(stop=st.none() | places, fail=failures, error=st.sampled_from([Failure, Interrupt]), save=st.none() | places)
    def fit_and_fail(self, stop: Any, fail: Any, error: type[BaseException], save: Any) -> None:
        if fail[0] is EvaluateEnd and isinstance(self.every, str):
            fail = (*fail[:2], "last")
        self.train(EPOCHS, Plan(stop, fail, save, error))

    @rule(save=st.booleans(), in_fit=st.booleans())
    def save_and_kill(self, save: bool, in_fit: bool) -> None:
        if save and self.resume is None:
            self.saved = saved(self.trainer) or self.saved
        self.begin_process()
        self.resume = None
        if self.saved is None:
            return
        np.random.seed(99)
        random.seed(99)
        file = self.folder / "state"
        write_checkpoint(file, self.saved)
        if in_fit:
            self.resume = file
        else:
            self.trainer.load_state_dict(read_checkpoint(file), accept="epochs")

    @invariant()
    def the_history_is_that_of_the_straight_run(self) -> None:
        if self.training.run is not None:
            epochs, evaluations = known(self.training.run.history)
            assert epochs == self.history[0][: len(epochs)]
            assert evaluations == self.history[1][: len(evaluations)]

    def teardown(self) -> None:
        self.train(EPOCHS, Plan())
        assert known(self.training.run.history) == self.history
        assert diff_states(self.expected, self.trainer.state_dict()) == []
        self.has_arrived = True


def take(data: Data, every: int | str, folder: Path, examples: int, rules: int) -> int:
    """Take many ways, each of up to so many rules; return how many came to the last epoch."""
    straight = Training(data, every)
    history = known(straight.trainer.fit())
    expected = straight.trainer.state_dict()
    ways: list[AnyPath] = []

    def begin() -> AnyPath:
        ways.append(AnyPath(data, every, folder, expected, history))
        return ways[-1]

    run_state_machine_as_test(begin, settings=settings(max_examples=examples, stateful_step_count=rules, deadline=None))
    return sum(way.has_arrived for way in ways)


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_every_way_to_the_last_epoch_comes_to_the_same(data: Data, every: int | str, tmp_path: Path) -> None:
    assert take(data, every, tmp_path, examples=15, rules=10) >= 15


@pytest.mark.slow
@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_every_one_of_very_many_ways_comes_to_the_same(data: Data, every: int | str, tmp_path: Path) -> None:
    assert take(data, every, tmp_path, examples=100, rules=15) >= 100
