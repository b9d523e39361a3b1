import warnings
from typing import Any

import numpy as np
import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from lucid_train import Callback, EpochEnd, History, StepEnd, Trainer, nn, optims
from lucid_train.callbacks import (
    CosineAnnealingLRCallback,
    EarlyStopping,
    ExponentialLRCallback,
    LRSchedulerCallback,
    StepLRCallback,
)
from lucid_train.data import batches
from lucid_train.optims.lr_scheduler import ExponentialLR
from tests.support.callbacks import Recorder
from tests.support.optimizers import RateWitness


@define(eq=False)
class StopAt(Callback):
    """Stops after given steps, once at each."""

    steps: frozenset[int] = frozenset()

    def on_step_end(self, event: StepEnd) -> None:
        if event.step in self.steps:
            event.run.stop(f"step {event.step}")


@define(eq=False)
class Sum(Callback):
    """Adds up the losses, so that it has a state."""

    total: float = field(default=0.0, init=False)

    def on_epoch_end(self, event: EpochEnd) -> None:
        self.total += event.metrics["loss"]


SCHEDULES: dict[str, Any] = {
    "step": lambda interval: StepLRCallback(step_size=2, gamma=0.5, interval=interval),
    "exponential": lambda interval: ExponentialLRCallback(gamma=0.9, interval=interval),
    "cosine": lambda interval: CosineAnnealingLRCallback(T_max=3, eta_min=0.001, interval=interval),
}


class Training:
    """A small regression with everything that a fit must go on with."""

    def __init__(self, schedule: str = "step", interval: str = "epoch", stops: frozenset[int] = frozenset()) -> None:
        rng = np.random.default_rng(0)
        data = rng.normal(size=(7, 2))
        model = nn.Linear(2, 1, rng=np.random.default_rng(1))
        loss = nn.MSELoss()
        self.optimizer = optims.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(batch: Any) -> float:
            self.optimizer.zero_grad()
            value = loss(model(batch), batch[:, :1])
            model.backward(loss.backward())
            self.optimizer.step()
            return float(value)

        self.callbacks = [SCHEDULES[schedule](interval), EarlyStopping("val_loss", patience=50), Sum(), StopAt(stops)]
        self.trainer = Trainer(
            step,
            batches(data, batch_size=2, seed=3),
            evaluate=lambda: float(loss(model(data), data[:, :1])),
            evaluate_every=2,
            optimizer=self.optimizer,
            callbacks=self.callbacks,
        )

    def outcome(self, history: History) -> Any:
        records = [(r.epoch, r.steps, dict(r.metrics), r.lr, r.last_lr) for r in history]
        return (
            records,
            [callback.state_dict() for callback in self.callbacks],
            self.optimizer.state_dict()["param_groups"],
        )


@settings(max_examples=25, deadline=None)
@given(
    goals=st.lists(st.integers(0, 7), max_size=4),
    stops=st.frozensets(st.integers(1, 28), max_size=4),
    schedule=st.sampled_from(sorted(SCHEDULES)),
    interval=st.sampled_from(["epoch", "step"]),
)
def test_any_way_to_the_last_epoch_equals_the_straight_one(
    goals: list[int], stops: frozenset[int], schedule: str, interval: str
) -> None:
    straight = Training(schedule, interval)
    expected = straight.outcome(straight.trainer.fit(7))
    crooked = Training(schedule, interval, stops)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of fits with nothing left to train
        for goal in sorted(goals):
            crooked.trainer.fit(goal)
        history = crooked.trainer.fit(7)
        while history.status == "stopped":
            history = crooked.trainer.fit(7)
    assert crooked.outcome(history) == expected


def test_after_a_stop_in_mid_epoch_the_next_batch_follows_and_no_start_is_announced_twice() -> None:
    seen: list[int] = []
    record = Recorder()
    trainer = Trainer(seen.append, [1, 2, 3, 4], epochs=2, callbacks=[StopAt(frozenset({2})), record])
    trainer.fit()
    assert seen == [1, 2]
    trainer.fit()
    assert seen == [1, 2, 3, 4] * 2
    names = [type(event).__name__ for event in record.seen if not type(event).__name__.startswith("Step")]
    epoch = ["EpochStart", "EpochEnd", "EpochReport"]
    assert names == ["FitStart", "EpochStart", "FitEnd", "FitStart", *epoch[1:], *epoch, "FitEnd"]


def test_the_history_is_one_and_grows() -> None:
    trainer = Trainer(lambda batch: 0.5, [1], epochs=2)
    first = trainer.fit()
    assert trainer.fit(5) is first
    assert [record.epoch for record in first] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("goal", [None, 1, 2])
def test_with_nothing_left_to_train_a_fit_says_so(goal: int | None) -> None:
    seen: list[int] = []
    trainer = Trainer(seen.append, [1], epochs=2)
    trainer.fit()
    with pytest.warns(UserWarning, match="nothing left to train: 2 epochs are done; pass more epochs, or restart=True"):
        history = trainer.fit(goal)
    assert (len(history), history.status, seen) == (2, "completed", [1, 1])


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_a_restart_forgets_what_was_trained(schedule: str, interval: str) -> None:
    optimizer = RateWitness(1.0)
    callbacks = [SCHEDULES[schedule](interval), EarlyStopping("val_loss")]
    trainer = Trainer(epochs=3, steps_per_epoch=2, optimizer=optimizer, evaluate=lambda: 1.0, callbacks=callbacks)
    first = trainer.fit()
    states = [callback.state_dict() for callback in callbacks]
    used = list(optimizer.used)
    optimizer.used.clear()
    second = trainer.fit(restart=True)
    assert second is not first
    assert [(r.epoch, r.lr, r.last_lr) for r in second] == [(r.epoch, r.lr, r.last_lr) for r in first]
    assert optimizer.used == used
    assert [callback.state_dict() for callback in callbacks] == states


def test_a_restart_in_mid_epoch_begins_with_the_first_batch() -> None:
    seen: list[int] = []
    trainer = Trainer(seen.append, [1, 2, 3], callbacks=[StopAt(frozenset({2}))])
    trainer.fit()
    trainer.callbacks = ()  # type: ignore[assignment, unused-ignore]
    history = trainer.fit(restart=True)
    assert (seen, [record.steps for record in history]) == ([1, 2, 1, 2, 3], [3])


def test_a_restart_brings_a_scheduler_of_ones_own_back() -> None:
    optimizer = RateWitness(1.0)
    scheduler = ExponentialLR(optimizer, gamma=0.5)
    trainer = Trainer(epochs=3, optimizer=optimizer, callbacks=[LRSchedulerCallback(scheduler)])
    trainer.fit()
    trainer.fit(restart=True)
    assert optimizer.used == [(1.0,), (0.5,), (0.25,)] * 2
    assert scheduler.last_epoch == 3


def test_functions_keep_listening_in_every_fit() -> None:
    received: list[int] = []
    trainer = Trainer(epochs=1)
    trainer.on(EpochEnd)(lambda event: received.append(event.epoch))
    trainer.fit()
    trainer.fit(2)
    trainer.fit(1, restart=True)
    assert received == [1, 2, 1]
