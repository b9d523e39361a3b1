from enum import Enum
from typing import Any

import pytest
from attrs import define

from lucid_train import Callback, EpochEnd, EpochStart, Event, FitStart, StepEnd, StepStart, Trainer, on
from lucid_train.events import EpochEvent, StepEvent


def counts_received(event: type[Event], epochs: int = 3, steps: int = 2, **conditions: Any) -> list[Any]:
    """Return the counts of the events that a function on a Trainer and a marked method receive, which are the same."""
    by_function: list[Any] = []
    by_method: list[Any] = []

    class Marked(Callback):
        @on(event, **conditions)
        def listen(self, event: Event) -> None:
            by_method.append(event.count)

    trainer = Trainer(step=lambda batch: 0.5, data=range(steps), epochs=epochs, callbacks=[Marked()])
    trainer.on(event, **conditions)(lambda event: by_function.append(event.count))
    trainer.fit()
    assert by_function == by_method
    return by_method


@pytest.mark.parametrize(
    ("event", "conditions", "counts"),
    [
        (StepEnd, {}, [1, 2, 3, 4, 5, 6]),
        (StepStart, {"every": 2}, [2, 4, 6]),
        (EpochEnd, {"every": 2}, [2]),
        (EpochEnd, {"every": 4}, []),
        (StepEnd, {"at": {1, 5}}, [1, 5]),
        (StepEnd, {"at": 3}, [3]),
        (StepEnd, {"at": (4, 4)}, [4]),
        (StepEnd, {"at": ()}, []),
        (StepEnd, {"once": True}, [1]),
        (StepEnd, {"every": 2, "at": range(3, 7), "once": True}, [4]),
        (StepEnd, {"when": lambda event: event.epoch == 2}, [3, 4]),
        (StepEnd, {"when": lambda event: event.epoch == 2, "once": True}, [3]),
        (FitStart, {}, [None]),
        (FitStart, {"every": 2}, []),
    ],
)
def test_conditions(event: type[Event], conditions: dict[str, Any], counts: list[Any]) -> None:
    assert counts_received(event, **conditions) == counts


@define(kw_only=True)
class Found(Event):
    number: int = 0


def test_events_of_ones_own_are_counted_as_they_are_emitted_from_one_in_each_fit() -> None:
    numbers: list[int] = []

    class Source(Callback):
        def on_step_end(self, event: StepEnd) -> None:
            event.run.emit(Found(event.run, number=event.step))

        @on(Found, every=2)
        def note(self, event: Found) -> None:
            numbers.append(event.number)

    trainer = Trainer(step=lambda batch: None, data=range(3), epochs=1, callbacks=[Source()])
    trainer.fit()
    trainer.fit(2)
    assert numbers == [2, 5]


def test_once_means_once_in_each_fit_also_when_the_hooks_are_measured_midway() -> None:
    steps: list[int] = []

    class Midway(Callback):
        def on_epoch_end(self, event: EpochEnd) -> None:
            event.run.measure_hooks()

    trainer = Trainer(step=lambda batch: None, data=range(2), epochs=3, callbacks=[Midway()])
    trainer.on(StepEnd, once=True)(lambda event: steps.append(event.step))
    trainer.fit()
    trainer.fit(4)
    assert steps == [1, 7]


def test_a_method_may_be_marked_twice_and_is_called_for_each() -> None:
    received: list[Event] = []

    class Two(Callback):
        @on(EpochStart)
        @on(EpochEnd, at=2)
        def both(self, event: Event) -> None:
            received.append(event)

    Trainer(epochs=2, callbacks=[Two()]).fit()
    assert received == [EpochStart(epoch=1), EpochStart(epoch=2), EpochEnd(epoch=2)]


def test_the_name_of_a_marked_method_means_nothing() -> None:
    received: list[tuple[str, int]] = []

    class Named(Callback):
        @on(EpochEnd, every=2)
        def on_epoch_end(self, event: EpochEnd) -> None:
            received.append(("second", event.epoch))

        @on(StepEnd, every=3)
        def on_every_third(self, event: StepEnd) -> None:
            received.append(("third", event.step))

    Trainer(epochs=4, callbacks=[Named()]).fit()
    assert received == [("second", 2), ("third", 3), ("second", 4)]


def test_marked_methods_are_inherited_and_may_be_overridden() -> None:
    class Base(Callback):
        @on(EpochEnd)
        def one(self, event: EpochEnd) -> None:
            received.append("base")

        @on(EpochEnd)
        def two(self, event: EpochEnd) -> None:
            received.append("two")

    @define(eq=False)
    class Sub(Base):
        @on(EpochEnd)
        def one(self, event: EpochEnd) -> None:
            received.append("sub")

        def two(self, event: EpochEnd) -> None:
            received.append("unmarked")

    received: list[str] = []
    Trainer(callbacks=[Sub()]).fit()
    assert received == ["sub"]


class Ignite(Enum):
    """Two of Ignite's Events."""

    ITERATION_COMPLETED = "iteration_completed"
    TERMINATE = "terminate"


@pytest.mark.parametrize(
    ("event", "conditions", "error", "message"),
    [
        ("StepEnd", {}, TypeError, "'event' must be the class of an event that is emitted, pass StepEnd: 'StepEnd'"),
        ("on_step_end", {}, TypeError, "'event' must be the class of an event that is emitted, pass StepEnd: 'on_step"),
        ("epoch_completed", {}, TypeError, "'event' must be the class of an event that is emitted, pass EpochEnd: 'ep"),
        ("train_batch_end", {}, TypeError, "'event' must be the class of an event that is emitted, pass StepEnd: 'tr"),
        (Ignite.ITERATION_COMPLETED, {}, TypeError, "emitted, pass StepEnd: <Ignite.ITERATION_COMPLETED"),
        (Ignite.TERMINATE, {}, TypeError, "emitted, such as StepEnd: <Ignite.TERMINATE"),
        (print, {}, TypeError, r"emitted, given in parentheses, as in on\(StepEnd\): <built-in function print>"),
        (int, {}, TypeError, "'event' must be the class of an event"),
        (
            StepEnd(),
            {},
            TypeError,
            "'event' must be the class of an event that is emitted, such as StepEnd, no instance",
        ),
        (Event, {}, TypeError, "'event' must be the class of an event that is emitted"),
        (EpochEvent, {}, TypeError, "'event' must be the class of an event that is emitted"),
        (StepEvent, {}, TypeError, "'event' must be the class of an event that is emitted"),
        (StepEnd, {"every": 0}, ValueError, "'every' must be >= 1: 0"),
        (StepEnd, {"every": 2.5}, TypeError, "'every' must be an int: 2.5"),
        (StepEnd, {"every": True}, TypeError, "'every' must be an int: True"),
        (StepEnd, {"at": 0}, ValueError, "'at' must be >= 1: 0"),
        (StepEnd, {"at": [1, "2"]}, TypeError, "'at' must be an int: '2'"),
        (StepEnd, {"at": "12"}, TypeError, "'at' must be a set of counts: '12'"),
        (StepEnd, {"at": 1.5}, TypeError, "'at' must be a set of counts: 1.5"),
        (StepEnd, {"once": 1}, TypeError, "'once' must be True or False: 1"),
        (StepEnd, {"when": "loss > 1"}, TypeError, "'when' must be a function: 'loss > 1'"),
        (StepEnd, {"evry": 2}, TypeError, "unexpected keyword argument 'evry'"),
    ],
)
def test_bad_conditions_are_refused_where_they_are_given(
    event: Any, conditions: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        on(event, **conditions)
    with pytest.raises(error, match=message):
        Trainer().on(event, **conditions)


@pytest.mark.parametrize("function", [lambda: None, lambda a, b: None])
def test_a_function_that_does_not_take_the_event_is_refused_at_once(function: Any) -> None:
    with pytest.raises(TypeError, match="<lambda> must take one argument, the event"):
        Trainer().on(StepEnd)(function)


def test_what_is_no_function_is_refused_at_once_and_one_that_cannot_tell_is_taken() -> None:
    with pytest.raises(TypeError, match="a listener must be a function of the event: 3"):
        Trainer().on(StepEnd)(3)  # type: ignore[type-var]  # that it is refused is the claim
    trainer = Trainer()
    assert trainer.on(EpochEnd)(dict) is dict  # whose signature inspect does not find
    trainer.on(StepEnd)([].append)
    with pytest.raises(TypeError, match="not iterable"):
        trainer.fit()


def test_a_misspelt_condition_is_refused_in_the_name_of_what_was_called() -> None:
    with pytest.raises(TypeError, match=r"^Trainer\.on\(\) got an unexpected keyword argument 'evry'"):
        Trainer().on(StepEnd, evry=2)  # type: ignore[call-arg]  # that it is refused is the claim
