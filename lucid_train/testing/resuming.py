"""Checks for runs of your own: do they resume exactly, and does the order of the callbacks matter?

Both helpers take a function that builds a Trainer. Model, optimizer, data, generators and callbacks must be new at
every call, and the same each time.

>>> from lucid_train import Trainer, schedules
>>> from lucid_train.callbacks import LRSchedulerCallback, TerminateOnNaN
>>> from lucid_train.nn import Linear
>>> from lucid_train.optims import SGD
>>> def build():
...     optimizer = SGD(Linear(2, 1, rng=0).parameters(), lr=0.1)
...     schedule = LRSchedulerCallback(schedules.Exponential(0.5))
...     return Trainer(optimizer=optimizer, epochs=3, callbacks=[schedule, TerminateOnNaN()])
>>> assert_resumes_exactly(build, cuts="all")
>>> pairs_that_do_not_commute(build)
[]
"""

from __future__ import annotations

import csv
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from io import StringIO
from itertools import combinations, zip_longest
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from attrs import define, field, frozen
from rich.console import Console

from lucid_train.callback import Callback
from lucid_train.callbacks.checkpoint import Checkpoint
from lucid_train.callbacks.csv_logger import CSVLogger
from lucid_train.callbacks.event_log import EventLog
from lucid_train.callbacks.rich_logger import RichLogger
from lucid_train.callbacks.trackers.tracker import Tracker
from lucid_train.description import class_labels
from lucid_train.events import EpochReport, EpochStart, EvaluateEnd, Event, FitStart, StepEnd, StepStart
from lucid_train.metrics import is_time
from lucid_train.saving.checkpoint.tree import flatten
from lucid_train.saving.random_state import RandomState
from lucid_train.saving.shards import shard_of
from lucid_train.training.trainer import Trainer
from lucid_train.validation import whole_number

C = TypeVar("C", bound=Callback)

_ROW = "line of the console"
# Lists of so many ints are compared as one value: random generators have hundreds.
_LONG = 100
# What a reader of the log or the console can only know of the process, not of the run.
_OF_PROCESSES = ("FitStart", "FitError", "FitEnd", "Saved", "CommandAnswered", "progress")
_TIME = re.compile(r"\b[\d.]+(ms|s)\b|\b\d+(:\d\d)+\b|\b\d+m \d+s\b|[\d.,]+ (steps/s|s/step)")
_METRIC = re.compile(r"\b(\w*(?:second|wait)\w*) \S+")


def assert_resumes_exactly(build: Callable[[], Trainer], *, cuts: Iterable[int] | Literal["all"] | None = None) -> None:
    """Check that a run which is killed and resumed goes on, bit for bit, like one that is not.

    One Trainer trains to its `epochs`. For each cut a second one writes a checkpoint there and dies in the next step;
    a third one resumes from the files of the second and trains to the end. What both did together is then compared with
    what the first one did: the batches, metrics and rates of each step, the rows of the console, the event log, the
    table of a CSVLogger, and at the end weights, optimizer, callbacks, history, data, extras and random generators.

    The callbacks that write files write to a temporary folder instead, and a RichLogger to memory; trackers are left
    out, as nothing of this belongs there. A Checkpoint, an EventLog and a RichLogger are added where there are none.
    Times are not compared: those in the console and the log, and numbers whose name has the word "second", "seconds" or
    "wait", as `diff_states` leaves them out.

    Args:
        build: Returns a new Trainer. If it draws random numbers, it seeds them.
        cuts: The steps after which the run dies; by default the first, the middle one and the last but one, and the end
            of the middle epoch. "all" is every moment at which a run can be saved: its beginning, the beginning and the
            end of each epoch, after every step and after every evaluation within an epoch.

    Raises:
        AssertionError: If anything differs, naming what differs first and where the run was cut; or if `build` does not
            return the same run each time.
        ValueError: If a cut is not within the run, or the run is not one that can be resumed.

    A run that took its noise from a generator nobody knows would be found out:

    >>> import numpy as np
    >>> def build():
    ...     noise = np.random.default_rng(0)  # not among the Trainer's extras
    ...     return Trainer(lambda batch: noise.random() + batch, data=[1.0, 2.0, 3.0])
    >>> assert_resumes_exactly(build, cuts=[2])
    Traceback (most recent call last):
    ...
    AssertionError: a run that dies after step 2 and is resumed goes on differently: step 3 has the metrics...
    """
    generators = RandomState()
    before = generators.read()

    def trained(folder: Path, **settings: Any) -> _Record:
        generators.write(before)
        return _trained(build(), folder, **settings)

    with tempfile.TemporaryDirectory() as name:
        straight = trained(Path(name) / "straight")
        for number, cut in enumerate(_chosen(cuts, straight)):
            folder = Path(name) / str(number)
            first = trained(folder, dies_after=cut)
            if (difference := first.difference_of_steps(straight, first.steps)) is not None:
                raise AssertionError(f"'build' must return the same run each time: {difference}")
            second = trained(folder, resumed=first)
            if (difference := second.difference(straight, cut)) is not None:
                raise AssertionError(f"a run that dies {cut} and is resumed goes on differently: {difference}")


@frozen
class _Cut:
    """A moment at which a run can be saved.

    Args:
        event: The class of the event after which it is saved.
        number: The event's step or epoch; 0 for FitStart.
        step: The steps done.
    """

    event: type[Event]
    number: int
    step: int

    def __str__(self) -> str:
        places = {
            FitStart: "at its beginning",
            EpochStart: f"at the beginning of epoch {self.number}",
            StepEnd: f"after step {self.number}",
            EvaluateEnd: f"after the evaluation at step {self.number}",
            EpochReport: f"after epoch {self.number}",
        }
        return places[self.event]


class _Death(BaseException):
    """Ends a process as far as its run can tell: it is no Exception, so nothing is done about it."""


@define(eq=False)
class _Record:
    """What a run did, as far as a user could notice; it holds on to nothing of the run.

    Attributes:
        cuts: Where it could have been saved, in order.
        steps: Of each step its batch (a digest of it), its metrics, and the rates and what else is scheduled after it.
        shown: The lines of the console, of the log and of the table.
        state: The places in its state when it had ended, each with what was there.
    """

    cuts: list[_Cut] = field(factory=list, init=False)
    steps: dict[int, tuple[str, str, str, str]] = field(factory=dict, init=False)
    shown: dict[str, list[Any]] = field(factory=dict, init=False)
    state: dict[str, Any] = field(factory=dict, init=False)

    def difference_of_steps(self, straight: _Record, numbers: Iterable[int]) -> str | None:
        """Return in words what differs first in the steps of these numbers, or None if nothing does."""
        for number in numbers:
            ours, theirs = self.steps.get(number), straight.steps.get(number)
            if ours is None or theirs is None:
                return f"step {number} is {'left out' if ours is None else 'done after the last one'}"
            for what, one, other in zip(("batch", "metrics", "rates", "scheduled numbers"), ours, theirs, strict=True):
                if one != other:
                    differ = "receives another batch" if what == "batch" else f"has the {what} {one} and not {other}"
                    return f"step {number} {differ}"
        return None

    def difference(self, straight: _Record, cut: _Cut) -> str | None:
        """Return in words how a run that was resumed differs from one that was not, or None if it does not."""
        last = max([*self.steps, *straight.steps], default=0)
        if (found := self.difference_of_steps(straight, range(cut.step + 1, last + 1))) is not None:
            return found
        for what, ours in self.shown.items():
            for number, (one, other) in enumerate(zip_longest(ours, straight.shown[what]), 1):
                if one != other:
                    return f"{what} {number} is {one} and not {other}"
        names = [name for name in _differing(straight.state, self.state) if not self._is_accidental(name)]
        return f"its state at the end differs in {', '.join(names)}" if names else None

    def _is_accidental(self, name: str) -> bool:
        """Return whether an entry of the state may differ although the run goes on in the same way.

        A checkpoint's name has a number, and a run that was resumed has written one more. Data that says where it
        stands draws its order when it likes: what it does not draw before the end does not matter.
        """
        is_of_data = name.startswith("random.own.data") and self.state.get("data") != "None"
        return name.endswith("best_file") or is_of_data


def _trained(
    trainer: Trainer, folder: Path, *, dies_after: _Cut | None = None, resumed: _Record | None = None
) -> _Record:
    """Train and return what was done.

    Nobody else may hold the Trainer: the workers of its data are to end with it, as they would with a process.

    Args:
        trainer: The Trainer; its callbacks write to the folder.
        folder: The folder.
        dies_after: A moment at which a checkpoint is written; the run dies at the next one.
        resumed: What was done until a checkpoint in the folder, to resume from it.
    """
    record, is_saved, batch = _Record(), False, ""
    # Wide enough for any row, as where a line is broken depends on the times in it.
    # Plain in a notebook too, whose cell would get the rows, and this nothing to compare.
    console = Console(file=StringIO(), width=10_000, color_system=None, force_terminal=False, force_jupyter=False)
    _redirect(trainer, folder, console)
    checkpoint, log = _first(trainer, Checkpoint), _first(trainer, EventLog)

    def reach(event: Any) -> None:
        nonlocal is_saved
        if isinstance(event, EvaluateEnd) and not event.within_epoch:
            return  # the epoch is not over, so no checkpoint can be written here
        if is_saved and not isinstance(event, EpochStart):
            raise _Death  # before another checkpoint can be written, but after lines in the log that come too early
        number = event.step if isinstance(event, (StepEnd, EvaluateEnd)) else event.run.epoch
        record.cuts.append(_Cut(type(event), number, event.run.step))
        if record.cuts[-1] == dies_after:
            checkpoint.save()
            record.shown[_ROW], is_saved = _rows(console), True

    def receive(event: StepStart) -> None:
        nonlocal batch
        batch = _digest(event.batch)

    def finish_step(event: StepEnd) -> None:
        metrics = repr(_without_times(event.metrics))
        record.steps[event.step] = batch, metrics, repr(event.run.last_lr), repr(event.run.scheduled)

    for kind in (FitStart, EpochStart, StepEnd, EvaluateEnd, EpochReport):
        trainer.on(kind)(reach)  # after the callbacks
    trainer.on(StepStart)(receive)
    trainer.on(StepEnd)(finish_step)
    try:
        trainer.fit(resume=None if resumed is None else checkpoint.directory)
    except _Death:
        return record
    if dies_after is not None:
        raise AssertionError(
            f"'build' must return the same run each time: another one does not come to a moment {dies_after}"
        )
    record.shown = {
        _ROW: ([] if resumed is None else resumed.shown[_ROW]) + _rows(console, results=True),
        "event in the log": _events(log.path),
        "row of the CSVLogger": _table(trainer),
    }
    record.state = dict(_leaves(trainer.state_dict(), ""))
    return record


def _redirect(trainer: Trainer, folder: Path, console: Console) -> None:
    """Let callbacks write their files to a folder, and the display to a console; add those that are missing."""
    # A run that would lose its weights goes on with others, which is noticed here.
    added = Checkpoint(folder / "checkpoint", every=None, weights=False), EventLog(folder / "log"), RichLogger()
    callbacks = [each for each in trainer.callbacks if not isinstance(each, Tracker)]
    callbacks += [each for each in added if all(type(each) is not type(one) for one in callbacks)]
    for index, callback in enumerate(callbacks):
        place = folder / f"{type(callback).__name__}-{index}"
        if isinstance(callback, Checkpoint):
            callback.directory = place
        elif isinstance(callback, EventLog):
            callback.path, callback.step_every, callback.heartbeat = place, 1, None
        elif isinstance(callback, CSVLogger):
            callback.path = place
        elif isinstance(callback, RichLogger):
            callback.console = console
    trainer.callbacks = tuple(callbacks)


def _first(trainer: Trainer, kind: type[C]) -> C:
    return next(each for each in trainer.callbacks if isinstance(each, kind))


def _rows(console: Console, *, results: bool = False) -> list[str]:
    """Return the rows on the console, and perhaps the results below them, without times."""
    lines = [
        _METRIC.sub(_timeless, _TIME.sub("", line)) for line in cast(StringIO, console.file).getvalue().splitlines()
    ]
    rows = [line for line in lines if re.match(r"epoch \d", line)]
    ends = [found[0] for line in lines if results and (found := re.search(r"best epoch \d.*", line))]
    return [" ".join(line.split()) for line in rows + ends]


def _timeless(metric: re.Match[str]) -> str:
    return "" if is_time(metric[1]) else metric[0]


def _events(path: Path) -> list[Any]:
    """Return the events in a log, each with what the log says of the run until then, without times."""
    found: list[Any] = []
    run: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        event = json.loads(line, object_hook=_without_times)
        run |= event.pop("run", {})
        if event["event"] not in _OF_PROCESSES:
            found.append((event, dict(run)))
    return found


def _table(trainer: Trainer) -> list[Any]:
    """Return the rows that the CSVLoggers have written, without times."""
    paths = [each.path for each in trainer.callbacks if isinstance(each, CSVLogger)]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    return [_without_times(row) for text in texts for row in csv.DictReader(StringIO(text))]


def _chosen(cuts: Iterable[int] | Literal["all"] | None, straight: _Record) -> list[_Cut]:
    """Return the moments that `cuts` stands for."""
    if cuts == "all":
        return straight.cuts[:-1]  # the last one is the end, after which nothing is trained
    last, epochs = max(straight.steps, default=0), straight.cuts[-1].number
    if cuts is None:
        chosen = {(StepEnd, step) for step in (1, last // 2, last - 1)} | {(EpochReport, epochs // 2)}
        return [cut for cut in straight.cuts[:-1] if (cut.event, cut.number) in chosen]
    steps = [whole_number("cuts", step, least=1) for step in cuts]
    if any(step >= last for step in steps):
        raise ValueError(f"'cuts' must be below the {last} steps of the run: {steps}")
    return [cut for cut in straight.cuts if cut.event is StepEnd and cut.number in steps]


def _without_times(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entries.items() if name != "time" and not is_time(name)}


def pairs_that_do_not_commute(build: Callable[[], Trainer]) -> list[tuple[str, str]]:
    """Return the pairs of callbacks whose order in the list changes the outcome of a run.

    For each pair the run is trained twice, with one directly before the other and directly after it, and all others in
    their places. An order that matters is not an error, but it is worth knowing.

    Args:
        build: Returns a new Trainer. If it draws random numbers, it seeds them.

    Returns:
        The names of the pairs, in list order; a second callback of one class is "Name#2".
    """
    names = class_labels(build().callbacks)
    generators = RandomState()
    before = generators.read()

    def outcome(order: list[int]) -> dict[str, Any]:
        generators.write(before)
        trainer = build()
        callbacks = trainer.callbacks
        trainer.callbacks = tuple(callbacks[index] for index in order)
        history = trainer.fit()
        state = trainer.state_dict()
        own = {name: callback.state_dict() for name, callback in zip(names, callbacks, strict=True)}
        return {**state, "callbacks": own, "setup": None, "status": history.status}

    found = []
    for one, other in combinations(range(len(names)), 2):
        rest = [index for index in range(len(names)) if index != other]
        one_before, one_after = ([*rest[:place], other, *rest[place:]] for place in (one + 1, one))
        if diff_states(outcome(one_before), outcome(one_after)):
            found.append((names[one], names[other]))
    return found


def diff_states(one: Any, other: Any) -> list[str]:
    """Return the places where two states differ in any bit, such as "model.0.weight"; [] if there are none.

    Left out is what equal runs do not have alike: numbers in whose place a name has the word "second", "seconds" or
    "wait", such as "history.metrics.steps_per_second", and the id of the run at a tracker. Arrays are always compared.

    >>> diff_states({"loss": 0.5, "seconds": 1.5}, {"loss": 0.5, "seconds": 1.75})
    []
    """
    return _differing(dict(_leaves(one, "")), dict(_leaves(other, "")))


def _differing(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    names = sorted(left.keys() | right.keys())
    differing = [name for name in names if left.get(name) != right.get(name)]
    return [name for name in differing if not _is_of_this_run(name, left.get(name), right.get(name))]


def _is_of_this_run(name: str, *leaves: Any) -> bool:
    is_plain = all(isinstance(leaf, str) or leaf is None for leaf in leaves)
    return (is_plain and is_time(name)) or name.endswith("tracker_run_id")


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the values in a state, each with its place, in a form that is equal if and only if the bits are."""
    is_long = isinstance(value, list) and len(value) > _LONG and all(type(item) is int for item in value)
    if isinstance(value, (Mapping, list, tuple)) and value and not is_long:
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, item in items:
            yield from _leaves(item, f"{path}.{name}" if path else str(name))
        return
    is_plain = is_long or value is None or type(value) in (bool, int, float, str)
    try:
        leaves = [] if is_plain else flatten([value]).leaves
        layout = [] if is_plain or (shard := shard_of(value)) is None else shard.layout()
    except TypeError:  # a batch may be any object
        yield path, type(value).__qualname__
        yield from _leaves(object.__getstate__(value), path)  # its attributes, in __dict__ or in slots
        return
    arrays = [(leaf.dtype, leaf.shape, sha256(leaf.data.data).digest()) for leaf in leaves]
    yield path, arrays + layout or repr(value)  # the repr of a float has as many digits as its bits need


def _digest(value: Any) -> str:
    """Return a digest of a batch's arrays, numbers and strings, and of where they stand in it."""
    return sha256(repr(list(_leaves(value, ""))).encode()).hexdigest()
