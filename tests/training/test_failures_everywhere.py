"""An exception in any hook of any callback at any event: it leaves `fit`, and every callback is closed once."""

from __future__ import annotations

import io
import itertools
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from rich.console import Console

import lucid_train.callbacks
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
    FitError,
    FitStart,
    StepEnd,
    StepStart,
    Trainer,
    nn,
    optims,
)
from lucid_train.callback import Hook
from lucid_train.callbacks import (
    Checkpoint,
    CosineAnnealingLRCallback,
    CSVLogger,
    EarlyStopping,
    EventLog,
    ExponentialLRCallback,
    GradientMonitor,
    LRSchedulerCallback,
    ParamSchedulerCallback,
    RichLogger,
    SpikeGuard,
    StepLRCallback,
    TerminateOnNaN,
    ThroughputMonitor,
    TimeLimit,
    WeightAverage,
)
from lucid_train.callbacks.trackers.tracker import Opening, Point, Tracker
from lucid_train.events import Status
from lucid_train.optims.lr_scheduler import StepLR
from lucid_train.schedules import Exponential


@define(eq=False)
class Numbers(Tracker):
    """Keeps what it is sent: a tracker without a package."""

    seen: list[Point | Status] = field(factory=list, init=False, repr=False, metadata=TRANSIENT)

    def open(self, opening: Opening) -> None:
        self.seen.clear()

    def send(self, points: Sequence[Point]) -> None:
        self.seen += points

    def close(self, status: Status) -> None:
        self.seen.append(status)


EVENTS: list[type[Event]] = [
    FitStart, EpochStart, StepStart, StepEnd, EvaluateStart, EvaluateEnd, EpochEnd, EpochReport, FitError, FitEnd,
]  # fmt: skip
SCHEDULES: dict[str, Callable[[Any], Callback]] = {
    "StepLRCallback": lambda optimizer: StepLRCallback(2),
    "ExponentialLRCallback": lambda optimizer: ExponentialLRCallback(0.5),
    "CosineAnnealingLRCallback": lambda optimizer: CosineAnnealingLRCallback(4, interval="step"),
    "LRSchedulerCallback": lambda optimizer: LRSchedulerCallback(StepLR(optimizer, 2)),
    "ParamSchedulerCallback": lambda optimizer: ParamSchedulerCallback(momentum=Exponential(0.5)),
}
OTHERS: dict[str, Callable[[], Callback]] = {
    "CSVLogger": lambda: CSVLogger("run.csv"),
    "Checkpoint": lambda: Checkpoint("run", every=1, interval="step", background=True),
    "EarlyStopping": lambda: EarlyStopping("loss", restore_best=True),
    "EventLog": lambda: EventLog("run.jsonl"),
    "GradientMonitor": GradientMonitor,
    "Numbers": lambda: Numbers(step_every=1),
    "RichLogger": lambda: RichLogger(Console(file=io.StringIO(), force_terminal=True, width=80)),
    "SpikeGuard": SpikeGuard,
    "TerminateOnNaN": TerminateOnNaN,
    "ThroughputMonitor": lambda: ThroughputMonitor(int),
    "TimeLimit": lambda: TimeLimit(3600),
    "WeightAverage": WeightAverage,
}


class Injected(Exception):
    """What is raised."""


def trained(schedule: str) -> Trainer:
    model = nn.Linear(1, 1, rng=0)
    optimizer = optims.SGD(model.parameters(), lr=0.5, momentum=0.9)

    def step(batch: int) -> float:
        optimizer.step()
        return 1 / batch

    return Trainer(
        step,
        [1, 2],
        epochs=2,
        model=model,
        optimizer=optimizer,
        evaluate=lambda: {"accuracy": 0.5},
        callbacks=[SCHEDULES[schedule](optimizer), *(make() for make in OTHERS.values())],
    )


def fail(event: Event) -> None:
    raise Injected("first")


class Injection:
    """Raises an exception the first time that the callback of a name receives an event, and notes who is closed."""

    def __init__(self, name: str, event: type[Event], error: BaseException, *, late: bool) -> None:
        self.name, self.event, self.error = name, event, error
        # A callback that does not get to its own FitEnd cannot close anything.
        self.late = late or event is FitEnd
        self.done = False
        self.closed: list[str] = []

    def hooks(self, callback: Callback, event: type[Event], found: list[Hook]) -> list[Hook]:
        """What a callback receives, with the exception in it."""
        name = type(callback).__name__
        chosen = [self.injecting(found)] if name == self.name and event is self.event and found else found
        return [lambda received: self.closed.append(name), *chosen] if event is FitEnd else chosen

    def injecting(self, found: list[Hook]) -> Hook:
        def hook(received: Event) -> None:
            first, self.done = not self.done, True
            if first and not self.late:
                raise self.error
            for each in found:
                each(received)
            if first:
                raise self.error

        return hook


def test_every_callback_of_the_catalogue_takes_part() -> None:
    catalogue = {name: getattr(lucid_train.callbacks, name) for name in lucid_train.callbacks.__all__}
    trackers = {name: each for name, each in catalogue.items() if issubclass(each, Tracker)}
    # RayReport needs a cluster.
    assert SCHEDULES.keys() | OTHERS.keys() == catalogue.keys() - trackers.keys() - {"RayReport"} | {"Numbers"}
    # One tracker stands for all: they have the hooks of their base, and none of their own.
    assert len(trackers) == 4
    assert [name for each in trackers.values() for name in vars(each) if name.startswith("on_")] == []


def cases() -> Iterator[Any]:
    """Each callback and each event meets each kind of exception; all combinations of the three take long."""
    names, kinds = [*SCHEDULES, *OTHERS], [Injected, KeyboardInterrupt, SystemExit, StopIteration]
    for (row, name), (column, event), late in itertools.product(enumerate(names), enumerate(EVENTS), (False, True)):
        for number, kind in enumerate(kinds):
            often = not late and number == (row + column) % len(kinds)
            when = "after" if late else "before"
            label = f"{name}-{event.__name__}-{kind.__name__} {when} the hook"
            yield pytest.param(name, event, kind, late, id=label, marks=() if often else pytest.mark.slow)


@pytest.mark.parametrize(("name", "event", "kind", "late"), list(cases()))
def test_the_exception_leaves_fit_and_all_are_closed_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    event: type[Event],
    kind: type[BaseException],
    late: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    injection = Injection(name, event, kind("on purpose"), late=late)
    trainer = trained(name if name in SCHEDULES else "ExponentialLRCallback")
    if event is FitError:
        trainer.on(StepEnd, at=1)(fail)
    left: BaseException | None = None
    with monkeypatch.context() as patch:
        for cls in {type(callback) for callback in trainer.callbacks}:

            def hooks(self: Callback, asked: type[Event], real: Any = cls.hooks) -> list[Hook]:
                return injection.hooks(self, asked, real(self, asked))

            patch.setattr(cls, "hooks", hooks)
        try:
            trainer.fit()
        except BaseException as error:
            left = error
    order = [type(callback).__name__ for callback in trainer.callbacks]
    if event is FitError:
        assert str(left) == "first"
    else:
        assert left is (injection.error if injection.done else None)
    begun = order[: order.index(name) + 1] if injection.done and event is FitStart else order
    assert injection.closed == begun[::-1]
    assert [thread for thread in threading.enumerate() if "lucid" in thread.name.lower()] == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
