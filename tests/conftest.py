"""What several test modules need: a callback that remembers events, an optimizer that remembers the rates it read."""

from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field
from hypothesis import settings

from lucid_train import Callback, Event
from lucid_train.callback import Hook

settings.register_profile("untimed", deadline=None)  # a machine that is busy proves nothing
settings.load_profile("untimed")


@define(eq=False)
class Recorder(Callback):
    """Remembers the events of the given classes, or of all of them."""

    classes: tuple[type[Event], ...] = ()
    seen: list[Event] = field(factory=list, init=False, repr=False)

    def hooks(self, event: type[Event]) -> list[Hook]:
        return [self.seen.append] if event in self.classes or not self.classes else []


class RateWitness:
    """An optimizer that does nothing but remember the rates that it read in each step."""

    def __init__(self, *rates: Any) -> None:
        self.param_groups = [{"params": [], "lr": rate} for rate in rates]
        self.used: list[tuple[float, ...]] = []

    def step(self) -> None:
        self.used.append(tuple(float(group["lr"]) for group in self.param_groups))


@pytest.fixture
def recorder() -> Callable[..., Any]:
    return lambda *classes: Recorder(classes)


@pytest.fixture
def rate_witness() -> Callable[..., Any]:
    return RateWitness
