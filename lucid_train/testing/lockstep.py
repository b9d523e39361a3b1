"""Two Trainers in lockstep: the first step, and the first tensor, in which they differ."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import copy_context
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
from attrs import define, field, frozen

from lucid_train.callbacks.checkpoint import Checkpoint
from lucid_train.callbacks.csv_logger import CSVLogger
from lucid_train.callbacks.event_log import EventLog
from lucid_train.callbacks.rich_logger import RichLogger
from lucid_train.callbacks.trackers.tracker import Tracker
from lucid_train.description import add_note, short_text
from lucid_train.events import EpochReport, EvaluateEnd, FitStart, StepEnd, StepStart
from lucid_train.metrics import is_time
from lucid_train.saving.random_state import RandomState, changed
from lucid_train.saving.shards import is_dtensor
from lucid_train.testing.resuming import diff_states
from lucid_train.training.trainer import Trainer

_SILENT = (Checkpoint, CSVLogger, EventLog, RichLogger, Tracker)
_OBJECTS = ("model", "optimizer", "extras")


@frozen
class Divergence:
    """The first place in which two runs differ.

    Args:
        step: The step, counted through the run; 0 for what differs before the first one.
        what: What differs: "batch", "generator numpy", "rate", a metric, or a place in the state, such as
            "model.0.weight".
        one: What it is in the first run, in short.
        other: What it is in the second one.
        largest: The largest difference of two arrays' elements, NaN where only one of two elements is a number; None
            for what is no array of numbers, or has another shape.
    """

    step: int
    what: str
    one: str
    other: str
    largest: float | None = None

    def __str__(self) -> str:
        place = f"step {self.step}" if self.step else "before step 1"
        gap = f"{self.one} and {self.other}" if self.largest is None else f"largest difference {self.largest:.3g}"
        return f"{place}: {self.what}, {gap}"


def first_divergence(build_a: Callable[[], Trainer], build_b: Callable[[], Trainer]) -> Divergence | None:
    """Train two Trainers in lockstep, and return the first place in which they differ in any bit, or None.

    Each is trained to its `epochs`, in a thread of its own, one moment at a time: never do both run at once. Before a
    step its batch, the random generators and the rates are compared; after it its metrics, and the states of model,
    optimizer and extras; and the metrics of each evaluation and epoch. Both runs end at the first difference. Each has
    the global generators of Python, numpy and PyTorch to itself, which begin where they are now, and are put back.

    Callbacks that write files or show something, and trackers, are left out. All weights are read after every step, on
    the host: this is for runs of some steps, with small models.

    Args:
        build_a: Returns a new Trainer. If it draws random numbers, it seeds them.
        build_b: Returns another one, which shares no object with the first.

    Raises:
        Exception: What one of the runs raises, with a note that says which.

    >>> from lucid_train.nn import Linear
    >>> from lucid_train.optims import SGD
    >>> def build(lr):
    ...     optimizer = SGD(Linear(2, 1, rng=0).parameters(), lr=lr)
    ...     return Trainer(lambda batch: batch / 2, [1.0, 2.0], optimizer=optimizer)
    >>> print(first_divergence(lambda: build(0.1), lambda: build(0.1)))
    None
    >>> print(first_divergence(lambda: build(0.1), lambda: build(0.2)))
    before step 1: optimizer.param_groups.0.lr, 0.1 and 0.2
    """
    generators = RandomState()
    before = generators.read()
    sides = _Side(build_a, "first", before), _Side(build_b, "second", before)
    try:
        while True:
            one, other = (side.advance() for side in sides)
            if one is None and other is None:
                return None
            if (found := _difference(one, other)) is not None:
                return found
    finally:
        for side in sides:
            side.end()
        generators.write(before)


@frozen
class _Moment:
    """Where a run stands.

    Args:
        event: The name of the event.
        step: The step.
        facts: What is compared as numbers, by name.
        states: What is compared bit by bit, by name.
        random: Where the generators stand.
    """

    event: str
    step: int
    facts: Mapping[str, Any] = field(factory=dict)
    states: Mapping[str, Any] = field(factory=dict)
    random: Mapping[str, Any] | None = None


class _Over(BaseException):
    """Ends a run that is not needed any more: it is no Exception, so nothing is done about it."""


@define(eq=False)
class _Side:
    """One of the two runs, in its thread.

    Args:
        build: Returns its Trainer.
        name: Which it is, for errors.
        generators: Where the global generators stand in it, while it waits.
    """

    build: Callable[[], Trainer]
    name: str
    generators: dict[str, Any]
    _go: SimpleQueue[bool] = field(factory=SimpleQueue, init=False)
    _reached: SimpleQueue[Any] = field(factory=SimpleQueue, init=False)
    _thread: Thread = field(init=False)
    _ended: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._thread = Thread(target=copy_context().run, args=(self._train,), name=f"{self.name} run", daemon=True)
        self._thread.start()

    def advance(self) -> _Moment | None:
        """Let the run go on to its next moment; return None where it has ended."""
        if self._ended:
            return None
        state = RandomState()
        state.write(self.generators)
        self._go.put(True)
        reached = self._reached.get()
        self.generators = state.read()
        self._ended = not isinstance(reached, _Moment)
        if isinstance(reached, BaseException):
            add_note(reached, f"raised by the {self.name} run")
            raise reached
        return reached if isinstance(reached, _Moment) else None

    def end(self) -> None:
        """End the run where it stands."""
        self._go.put(False)
        self._thread.join()

    def _train(self) -> None:
        outcome: BaseException | None = None
        try:
            if self._go.get():
                trainer = self.build()
                self._listen(trainer)
                trainer.fit()
        except BaseException as error:
            outcome = error
        self._reached.put(outcome)

    def _listen(self, trainer: Trainer) -> None:
        trainer.callbacks = tuple(each for each in trainer.callbacks if not isinstance(each, _SILENT))

        @trainer.on(FitStart)
        def begin(event: FitStart) -> None:
            self._park(_Moment("FitStart", event.run.step, states=_objects(event.run.live_state())))

        @trainer.on(StepStart)
        def start(event: StepStart) -> None:
            run = event.run
            random = (run.live_state() or {}).get("random")
            facts = {"rate": tuple(run.last_lr), **{name: tuple(each) for name, each in run.scheduled.items()}}
            self._park(_Moment("StepStart", event.step, facts, {"batch": event.batch}, random))

        @trainer.on(StepEnd)
        def finish(event: StepEnd) -> None:
            states = _without_groups(_objects(event.run.live_state()))
            self._park(_Moment("StepEnd", event.step, event.metrics, states))

        @trainer.on(EvaluateEnd)
        def evaluate(event: EvaluateEnd) -> None:
            self._park(_Moment("EvaluateEnd", event.step, event.metrics))

        @trainer.on(EpochReport)
        def report(event: EpochReport) -> None:
            self._park(_Moment("EpochReport", event.run.step, event.record.metrics))

    def _park(self, moment: _Moment) -> None:
        self._reached.put(moment)
        if not self._go.get():
            raise _Over


def _objects(live: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: live[name] for name in _OBJECTS if live is not None}


def _without_groups(states: dict[str, Any]) -> dict[str, Any]:
    """Return states without the groups of the optimizers: what a callback sets in them counts when a step uses it."""
    extras = {name: _own(state) for name, state in states["extras"].items()}
    return {**states, "optimizer": _own(states["optimizer"]), "extras": extras}


def _own(state: Any) -> Any:
    if not isinstance(state, Mapping) or "param_groups" not in state:
        return state
    return {name: each for name, each in state.items() if name != "param_groups"}


def _difference(one: _Moment | None, other: _Moment | None) -> Divergence | None:
    if one is None or other is None or (one.event, one.step) != (other.event, other.step):
        step = max(0 if each is None else each.step for each in (one, other))
        events = ["ended" if each is None else each.event for each in (one, other)]
        return Divergence(step, "the length of the run", events[0], events[1])
    return next(_differences(one, other), None)


def _differences(one: _Moment, other: _Moment) -> Iterator[Divergence]:
    step = one.step
    if one.event == "StepStart":
        yield from _differing_states(one, other)
    if one.random is not None and other.random is not None:
        for name in {**changed(one.random, other.random), **changed(other.random, one.random)}:
            yield Divergence(step, f"generator {name}", "one state", "another")
    for name in dict.fromkeys([*one.facts, *other.facts]):
        if is_time(name):
            continue
        mine, its = one.facts.get(name), other.facts.get(name)
        if repr(mine) != repr(its):  # the same for NaN, and with as many digits as the bits need
            yield Divergence(step, name, _text(mine), _text(its))
    if one.event != "StepStart":
        yield from _differing_states(one, other)


def _differing_states(one: _Moment, other: _Moment) -> Iterator[Divergence]:
    for name in one.states:
        ours, theirs = {name: one.states[name]}, {name: other.states[name]}
        differing = diff_states(ours, theirs)
        order = {place: number for number, place in enumerate([*_places(ours, ""), *_places(theirs, "")])}
        for place in sorted(differing, key=lambda each: order.get(each, len(order))):
            mine, its = _at(ours, place), _at(theirs, place)
            yield Divergence(one.step, place, _text(mine), _text(its), _largest(mine, its))


def _places(value: Any, path: str) -> Iterator[str]:
    yield path
    if isinstance(value, (Mapping, list, tuple)):
        for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _places(item, f"{path}.{name}" if path else str(name))


def _at(value: Any, place: str) -> Any:
    """Return what stands at a place in a state, as `diff_states` names it, or None; names may have dots themselves."""
    if not isinstance(value, (Mapping, list, tuple)):
        return None
    for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
        if place == str(key):
            return item
        if place.startswith(f"{key}.") and (found := _at(item, place.removeprefix(f"{key}."))) is not None:
            return found
    return None


def _largest(one: Any, other: Any) -> float | None:
    """Return the largest difference of two arrays' elements; NaN is no further from NaN than a number from itself."""
    ours, theirs = _numbers(one), _numbers(other)
    if ours is None or theirs is None or ours.shape != theirs.shape or not ours.size:
        return None
    with np.errstate(all="ignore"):
        alike = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
        return float(np.max(np.where(alike, 0.0, np.abs(ours - theirs))))


def _numbers(value: Any) -> Any:
    """Return an array or a tensor as numbers of double precision, or None if it is none."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        own = (value.to_local() if is_dtensor(value) else value).detach().cpu()
        return own.to(torch.complex128 if own.is_complex() else torch.float64).numpy()
    if not hasattr(value, "__array__"):
        return None
    array = np.asarray(value)
    try:
        return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    except (TypeError, ValueError):  # of objects, or of strings
        return None


def _text(value: Any) -> str:
    if value is None:
        return "nothing"
    return ", ".join(map(repr, value)) if isinstance(value, tuple) else short_text(value)
