from collections.abc import Callable
from typing import Any

import pytest
from attrs import define

from lucid_train import Callback, EpochEnd, EpochStart, Event, FitEnd, FitStart, StepEnd, Trainer
from lucid_train.callback import Hook


@define(eq=False)
class Named(Callback):
    """Writes its name into a common list for every epoch event and at both ends."""

    name: str
    received: list[str]

    def on_fit_start(self, event: FitStart) -> None:
        self.received.append(f"{self.name} starts")

    def on_epoch_end(self, event: EpochEnd) -> None:
        self.received.append(f"{self.name} {event.epoch}")

    def on_fit_end(self, event: FitEnd) -> None:
        self.received.append(f"{self.name} ends")


def test_list_order_and_functions_last_and_the_end_reversed() -> None:
    received: list[str] = []
    trainer = Trainer(callbacks=[Named("b", received), Named("a", received)])
    trainer.on(EpochEnd)(lambda event: received.append("function"))
    trainer.on(FitEnd)(lambda event: received.append("function ends"))
    trainer.fit()
    assert received == ["b starts", "a starts", "b 1", "a 1", "function", "function ends", "a ends", "b ends"]


def test_hooks_are_asked_for_once_per_fit_and_event() -> None:
    asked: list[str] = []

    class Asked(Callback):
        def hooks(self, event: type[Event]) -> list[Hook]:
            asked.append(event.__name__)
            return []

    trainer = Trainer(step=lambda batch: 0.5, data=range(5), epochs=3, evaluate=lambda: 1.0, callbacks=[Asked()])
    trainer.fit()
    assert len(asked) == len(set(asked)) == 9
    trainer.fit(4)
    assert len(asked) == 18


def test_a_hook_that_nobody_overrides_is_not_called_and_its_event_is_not_made() -> None:
    made: list[int] = []

    class Loud(Callback):
        def on_epoch_end(self, event: EpochEnd) -> None: ...

    class Listeners(Callback):
        def on_epoch_start(self, event: EpochStart) -> None:
            made.append(len(event.run.listeners(StepEnd)))
            made.append(len(event.run.listeners(EpochEnd)))

    Trainer(callbacks=[Loud(), Listeners()]).fit()
    assert made == [0, 1]


@pytest.mark.parametrize("failing", [FitStart, EpochEnd, FitEnd])
def test_an_exception_while_hooks_are_asked_for_names_the_callback(failing: type[Event]) -> None:
    class Broken(Callback):
        def hooks(self, event: type[Event]) -> list[Hook]:
            if event is failing:
                raise LookupError("no hooks")
            return []

    ends: list[str] = []
    with pytest.raises(LookupError, match="no hooks") as caught:
        Trainer(callbacks=[Named("first", ends), Broken()]).fit()
    assert caught.value.__notes__ == [f"raised by Broken.hooks for {failing.__name__}"]
    assert ends[-1] == "first ends"


def test_a_nested_exception_says_the_way_it_came() -> None:
    class Ping(Event): ...

    class Outer(Callback):
        def on_step_end(self, event: StepEnd) -> None:
            event.run.emit(Ping(event.run))

    class Inner(Callback):
        def on_ping(self, event: Event) -> None:
            raise ValueError("pong")

    with pytest.raises(ValueError, match="pong") as caught:
        Trainer(callbacks=[Outer(), Inner()]).fit()
    assert caught.value.__notes__ == [
        "raised by Inner.on_ping on Ping in epoch 1, step 1",
        "raised by Outer.on_step_end on StepEnd in epoch 1, step 1",
    ]


@pytest.mark.parametrize(("function", "name"), [(lambda event: 1 / 0, "<lambda>"), ([].pop, "list.pop")])
def test_the_note_names_functions_too(function: Callable[..., Any], name: str) -> None:
    trainer = Trainer(epochs=2)
    trainer.on(EpochEnd, every=2)(function)
    with pytest.raises((ZeroDivisionError, TypeError)) as caught:
        trainer.fit()
    assert caught.value.__notes__ == [f"raised by {name} on EpochEnd in epoch 2, step 2"]


def test_an_event_emitted_at_the_start_reaches_all() -> None:
    class Hello(Event): ...

    received: list[str] = []

    class Greeter(Callback):
        def on_fit_start(self, event: FitStart) -> None:
            event.run.emit(Hello(event.run))

    class Listener(Callback):
        def on_hello(self, event: Event) -> None:
            received.append("hello")

    Trainer(callbacks=[Greeter(), Listener()]).fit()
    assert received == ["hello"]
