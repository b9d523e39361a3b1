"""Callbacks that watch a run, or interfere with it at one event."""

import copy
from collections.abc import Callable
from typing import Any

from attrs import define, field

from lucid_train import Callback, Event
from lucid_train.callback import Hook


@define(eq=False)
class Recorder(Callback):
    """Remembers the events of the given classes, or of all of them."""

    classes: tuple[type[Event], ...] = field(default=(), converter=tuple)
    seen: list[Event] = field(factory=list, init=False, repr=False)

    def __init__(self, *classes: type[Event]) -> None:
        self.__attrs_init__(classes)

    def hooks(self, event: type[Event]) -> list[Hook]:
        return [self.seen.append] if event in self.classes or not self.classes else []


@define(eq=False)
class At(Callback):
    """Calls a function with every event of one class."""

    event: type[Event]
    function: Callable[[Any], object]

    def hooks(self, event: type[Event]) -> list[Hook]:
        return [self.function] if event is self.event else []


@define(eq=False)
class Asker(Callback):
    """Asks for the state at one event and remembers it as it was; stops the run there if `stop` is set.

    It has neither settings nor a state of its own: what it remembers does not belong to the run that it asks.
    """

    event: type[Event] = field(kw_only=True)
    count: int = field(default=1, kw_only=True)
    stop: bool = field(default=False, kw_only=True)
    found: list[Any] = field(factory=list, init=False, repr=False)
    received: int = field(default=0, init=False, repr=False)

    def hooks(self, event: type[Event]) -> list[Hook]:
        return [self.ask] if event is self.event else []

    def ask(self, event: Any) -> None:
        self.received += 1
        if self.received == self.count:
            run = event.run
            run.at_safe_point(lambda: self.found.append(copy.deepcopy(run.state_dict())))
            if self.stop:
                run.stop("asked to")

    def settings(self) -> dict[str, Any]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state == {}
