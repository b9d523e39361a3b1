import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import define

from lucid_train import Callback, EpochEnd, Event, FitEnd, FitError, FitStart, StepEnd, Trainer
from lucid_train.callbacks import EarlyStopping, ExponentialLRCallback, TerminateOnNaN
from tests.support.callbacks import Recorder
from tests.support.optimizers import RateWitness


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@define(eq=False)
class Fails(Callback):
    at: type[Event]

    def hooks(self, event: type[Event]) -> list[Any]:
        return [self.fail] if event is self.at else []

    def fail(self, event: Event) -> None:
        raise event.error if isinstance(event, FitError) else RuntimeError("x")


def dropped(build: Callable[[], Trainer], fails: bool = False) -> list[object]:
    """Train, drop the Trainer, and return what is alive of it."""
    trainer = build()
    watched = [weakref.ref(thing) for thing in (trainer, trainer.optimizer, *trainer.callbacks)]
    raised = False
    try:
        trainer.fit()
    except RuntimeError:
        raised = True
    assert raised is fails
    del trainer
    return [thing for reference in watched if (thing := reference()) is not None]


def built(optimizer: Callable[..., Any], *makers: Callable[[], Callback]) -> Callable[[], Trainer]:
    def build() -> Trainer:
        callbacks = [make() for make in makers]
        return Trainer(lambda batch: 0.5, [1, 2], epochs=2, optimizer=optimizer(1.0), callbacks=callbacks)

    return build


def schedule() -> Callback:
    return ExponentialLRCallback(gamma=0.5)


def test_a_dropped_trainer_frees_everything_at_once() -> None:
    assert dropped(built(RateWitness, schedule, TerminateOnNaN, lambda: EarlyStopping("loss"))) == []


def test_so_it_does_with_a_callback_that_keeps_events() -> None:
    assert dropped(built(RateWitness, Recorder)) == []


@pytest.mark.parametrize("at", [FitStart, StepEnd, EpochEnd, FitEnd])
def test_so_it_does_after_an_exception(at: type[Event]) -> None:
    assert dropped(built(RateWitness, schedule, lambda: Fails(at)), fails=True) == []


@pytest.mark.parametrize("at", [FitError, FitEnd])
def test_so_it_does_after_one_in_the_clean_up_too(at: type[Event]) -> None:
    assert dropped(built(RateWitness, lambda: Fails(at), lambda: Fails(StepEnd)), fails=True) == []


@pytest.mark.parametrize("steps", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_steps_leave_nothing_behind(steps: int) -> None:
    trainer = Trainer(step=lambda batch: 0.5, data=range(steps))
    Trainer(step=lambda batch: 0.5, data=range(10)).fit()
    tracemalloc.start()
    try:
        trainer.fit()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 100_000
