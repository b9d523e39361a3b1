import itertools
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import define, field

from lucid_train import (
    Callback,
    EpochEnd,
    EpochReport,
    EpochStart,
    EvaluateEnd,
    EvaluateStart,
    Event,
    FitEnd,
    FitError,
    FitStart,
    StepEnd,
    StepStart,
    Trainer,
)
from lucid_train.callback import Hook
from lucid_train.callbacks import ExponentialLRCallback
from tests.support.callbacks import At
from tests.support.optimizers import RateWitness

KINDS = [RuntimeError, KeyboardInterrupt, SystemExit, StopIteration, GeneratorExit]
HOOKS = [FitStart, EpochStart, StepStart, StepEnd, EvaluateStart, EvaluateEnd, EpochEnd, EpochReport, FitEnd]
PLACES = {
    FitStart: "",
    EpochStart: " in epoch 2, step 2",
    StepStart: " in epoch 2, step 3",
    StepEnd: " in epoch 2, step 3",
    EvaluateStart: " in epoch 2, step 4",
    EvaluateEnd: " in epoch 2, step 4",
    EpochEnd: " in epoch 2, step 4",
    EpochReport: " in epoch 2, step 4",
    FitEnd: " in epoch 3, step 6",
}


@define(eq=False)
class Ends(Callback):
    """Notes how the fit begins and ends, in a list that it shares with others."""

    name: str
    log: list[str]

    def on_fit_start(self, event: FitStart) -> None:
        self.log.append(f"{self.name} FitStart")

    def on_fit_error(self, event: FitError) -> None:
        self.log.append(f"{self.name} FitError {type(event.error).__name__}")

    def on_fit_end(self, event: FitEnd) -> None:
        self.log.append(f"{self.name} FitEnd {event.status}")


@define(eq=False)
class Bomb(Callback):
    """Raises an exception at one event, from its second epoch on, once."""

    event: type[Event]
    error: BaseException
    _gone: bool = field(default=False, init=False)

    def hooks(self, event: type[Event]) -> list[Hook]:
        return [self.explode] if event is self.event else []

    def explode(self, event: Event) -> None:
        if event.run.epoch != 1 and not self._gone:
            self._gone = True
            raise self.error


def status(error: BaseException) -> str:
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("event", HOOKS)
def test_an_exception_in_a_hook_leaves_as_it_is_and_everybody_who_began_receives_the_end(
    event: type[Event], kind: type[BaseException]
) -> None:
    error = kind("x")
    log: list[str] = []
    callbacks = [Ends("a", log), Bomb(event, error), Ends("b", log)]
    trainer = Trainer(lambda batch: 0.5, [1, 2], epochs=3, evaluate=lambda: 1.0, callbacks=callbacks)
    with pytest.raises(kind) as caught:
        trainer.fit()
    assert caught.value is error
    assert error.__notes__ == [f"raised by Bomb.explode on {event.__name__}{PLACES[event]}"]
    name = kind.__name__
    if event is FitStart:  # b has not begun, and is left alone
        assert log == ["a FitStart", f"a FitError {name}", f"a FitEnd {status(error)}"]
    elif event is FitEnd:  # all was well until then
        assert log == ["a FitStart", "b FitStart", "b FitEnd completed", "a FitEnd completed"]
    else:
        ends = [f"b FitError {name}", f"a FitError {name}", f"b FitEnd {status(error)}", f"a FitEnd {status(error)}"]
        assert log == ["a FitStart", "b FitStart", *ends]
    history = trainer.fit(4)
    assert [(record.epoch, record.steps) for record in history] == [(epoch, 2) for epoch in range(1, 5)]
    assert history.status == "completed"


class Data:
    def __init__(self, error: BaseException, fail: str) -> None:
        self.error, self.fail, self.passes = error, fail, 0

    def __iter__(self) -> Iterator[int]:
        self.passes += 1
        if self.passes == 2 and self.fail == "data's __iter__":
            raise self.error
        return Pass(self)


class Pass:
    def __init__(self, data: Data) -> None:
        self.data, self.batch = data, 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self.batch == 1 and self.data.passes == 2 and self.data.fail == "data's __next__":
            self.data.fail = ""
            raise self.data.error
        self.batch += 1
        if self.batch > 2:
            raise StopIteration
        return self.batch


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("where", "place"), [("step", 2), ("evaluate", 4), ("data's __next__", 3), ("data's __iter__", 2)]
)
def test_so_does_one_in_the_functions_and_the_data(where: str, place: int, kind: type[BaseException]) -> None:
    if kind is StopIteration and where == "data's __next__":
        return  # which is how an iterator says that it is at its end
    error = kind("x")
    log: list[str] = []
    fail = {"step": where == "step", "evaluate": where == "evaluate"}
    done: list[int] = []

    def step(batch: int) -> float:
        if len(done) == 2 and fail.pop("step", False):
            raise error
        done.append(batch)
        return 0.5

    def evaluate() -> float:
        if len(done) == 4 and fail.pop("evaluate", False):
            raise error
        return 1.0

    callbacks = [Ends("a", log), Ends("b", log)]
    trainer = Trainer(step, Data(error, where), epochs=3, evaluate=evaluate, callbacks=callbacks)
    with pytest.raises(kind) as caught:
        trainer.fit()
    assert caught.value is error
    assert error.__notes__ == [f"raised in epoch 2 after step {place}"]
    name = kind.__name__
    ends = [f"b FitError {name}", f"a FitError {name}", f"b FitEnd {status(error)}", f"a FitEnd {status(error)}"]
    assert log == ["a FitStart", "b FitStart", *ends]
    assert trainer.fit().status == "completed"
    assert [(record.epoch, record.steps) for record in trainer.fit(4)] == [(epoch, 2) for epoch in range(1, 5)]
    assert done == [1, 2] * 4


def test_the_end_says_how_a_fit_ended() -> None:
    ends: list[FitEnd] = []
    errors = iter([ValueError("too\nbad"), KeyboardInterrupt(), ValueError()])
    trainer = Trainer(lambda batch: (_ for _ in ()).throw(next(errors)), [1])
    trainer.on(FitEnd)(ends.append)
    for _ in range(3):
        with pytest.raises((ValueError, KeyboardInterrupt)):
            trainer.fit()
    assert [(end.status, end.reason) for end in ends] == [
        ("failed", "ValueError: too\nbad"),
        ("interrupted", "interrupted by Ctrl-C"),
        ("failed", "ValueError"),
    ]
    assert ends[0].history.status == "failed"


@define(eq=False)
class BadEnd(Callback):
    """Fails when it cleans up."""

    error: BaseException
    at: type[Event] = FitEnd

    def hooks(self, event: type[Event]) -> list[Hook]:
        return [self.fail] if event is self.at else []

    def fail(self, event: Event) -> None:
        raise self.error


@pytest.mark.parametrize("at", [FitError, FitEnd])
@pytest.mark.parametrize("kind", KINDS)
def test_clean_ups_that_fail_are_attached_and_stop_nobody(kind: type[BaseException], at: type[Event]) -> None:
    error, log = ValueError("first"), list[str]()
    callbacks = [Ends("a", log), BadEnd(kind("second"), at), BadEnd(OSError("third"), at), Ends("b", log)]
    trainer = Trainer(callbacks=[*callbacks, Bomb(FitStart, error)])
    with pytest.raises(ValueError, match="first") as caught:
        trainer.fit()
    assert caught.value is error
    raised, third, second = error.__notes__
    assert raised.startswith("raised by Bomb.explode on FitStart")
    assert third.startswith("while closing, another exception was raised:\nTraceback")
    assert f"OSError: third\nraised by BadEnd.fail on {at.__name__}" in third
    assert f"{kind.__name__}: second\nraised by BadEnd.fail" in second
    assert "first" not in second + third
    assert log[2:] == ["b FitError ValueError", "a FitError ValueError", "b FitEnd failed", "a FitEnd failed"]


def test_without_an_error_the_first_clean_up_that_fails_is_raised_with_the_others_attached() -> None:
    log: list[str] = []
    callbacks = [Ends("a", log), BadEnd(OSError("later")), BadEnd(KeyboardInterrupt("sooner")), Ends("b", log)]
    trainer = Trainer(callbacks=callbacks)
    with pytest.raises(KeyboardInterrupt, match="sooner") as caught:
        trainer.fit()
    raised, attached = caught.value.__notes__
    assert raised == "raised by BadEnd.fail on FitEnd in epoch 1, step 1"
    assert "OSError: later" in attached
    assert log == ["a FitStart", "b FitStart", "b FitEnd completed", "a FitEnd completed"]
    trainer.callbacks = ()  # type: ignore[assignment, unused-ignore]
    with pytest.warns(UserWarning, match="nothing left to train"):
        assert trainer.fit().status == "completed"


def test_an_exception_that_a_hook_of_fit_error_raises_again_is_the_same() -> None:
    class Again(Callback):
        def on_fit_error(self, event: FitError) -> None:
            raise event.error

    error = ValueError("x")
    with pytest.raises(ValueError, match="x") as caught:
        Trainer(callbacks=[Again(), Bomb(StepEnd, error), Bomb(FitStart, error)]).fit()
    assert caught.value is error
    assert error.__notes__ == ["raised by Bomb.explode on FitStart", "raised by Again.on_fit_error on FitError"]


def test_the_callback_whose_own_start_failed_receives_the_end_too() -> None:
    received: list[str] = []

    class Halfway(Callback):
        def on_fit_start(self, event: FitStart) -> None:
            raise OSError("disk full")

        def on_fit_error(self, event: FitError) -> None:
            received.append("error")

        def on_fit_end(self, event: FitEnd) -> None:
            received.append("end")

    with pytest.raises(OSError, match="disk full"):
        Trainer(callbacks=[Halfway(), Ends("b", received)]).fit()
    assert received == ["error", "end"]


def test_an_exception_that_cannot_be_changed_leaves_without_a_note() -> None:
    class FrozenError(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

        def add_note(self, note: str) -> None:
            raise AttributeError(note)

    error, log = FrozenError("x"), list[str]()
    with pytest.raises(FrozenError) as caught:
        Trainer(callbacks=[Ends("a", log), BadEnd(OSError("y")), BadEnd(error, FitStart)]).fit()
    assert caught.value is error
    assert log == ["a FitStart", "a FitError FrozenError", "a FitEnd failed"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
def test_an_epoch_end_that_fails_is_not_repeated(order: tuple[int, ...]) -> None:
    optimizer = RateWitness(1.0)
    callbacks: list[Callback] = [ExponentialLRCallback(gamma=0.5), Bomb(EpochEnd, ValueError("plot"))]
    received: list[int] = []
    trainer = Trainer(epochs=4, optimizer=optimizer, callbacks=[callbacks[index] for index in order])
    trainer.on(EpochReport)(lambda event: received.append(event.epoch))
    with pytest.raises(ValueError, match="plot"):
        trainer.fit()
    history = trainer.fit()
    assert received == [1, 3, 4]
    assert [record.lr for record in history] == optimizer.used
    assert len(history) == 4
    assert callbacks[0].scheduler.last_epoch == (4 if order == (0, 1) else 3)  # type: ignore[attr-defined]


@pytest.mark.parametrize("steps_per_epoch", [None, 3])
@pytest.mark.parametrize("hook", [True, False])
def test_a_batch_whose_step_failed_is_tried_again(hook: bool, steps_per_epoch: int | None) -> None:
    done: list[int] = []
    fail = [True]

    def interrupt(event: object) -> None:
        if len(done) == 2 and fail:
            fail.clear()
            raise KeyboardInterrupt

    def step(batch: int) -> None:
        if not hook:
            interrupt(batch)
        done.append(batch)

    trainer = Trainer(step, iter([1, 2, 3, 4, 5, 6]), epochs=1, steps_per_epoch=steps_per_epoch)
    if hook:
        trainer.on(StepStart)(interrupt)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert [record.steps for record in trainer.fit()] == [steps_per_epoch or 6]
    assert done == [1, 2, 3, 4, 5, 6][:steps_per_epoch]


def test_metrics_of_the_steps_before_an_exception_are_not_lost() -> None:
    losses = iter([1.0, ValueError("x"), 2.0, 3.0])

    def step(batch: object) -> Any:
        loss = next(losses)
        if isinstance(loss, Exception):
            raise loss
        return loss

    trainer = Trainer(step, [1, 2, 3])
    with pytest.raises(ValueError, match="x"):
        trainer.fit()
    assert [(record.steps, record.metrics) for record in trainer.fit()] == [(3, {"loss": 2.0})]


@pytest.mark.parametrize("again", [FitError, FitEnd])
def test_an_exception_that_a_hook_raises_once_more_keeps_the_traceback_that_it_had(again: type[Event]) -> None:
    error = RuntimeError("x")

    def fail(event: Event) -> None:
        raise error

    def frames(*callbacks: Callback) -> list[str]:
        with pytest.raises(RuntimeError, match="x"):
            Trainer(callbacks=[At(StepEnd, fail), *callbacks]).fit()
        found = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        error.__traceback__ = None
        return found

    alone = frames()
    assert alone[-1] == "fail"
    assert frames(At(again, fail)) == alone
