"""The plan of a fit: who receives what in which order, and the rate of every epoch, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import groupby, zip_longest
from math import floor
from typing import Any, TypeAlias

from attrs import Factory, define, evolve, field

from lucid_train.callback import Callback, Scheduled
from lucid_train.description import hook_name, object_name
from lucid_train.events import EvaluateEnd, EvaluateStart, FitEnd, FitError, event_classes
from lucid_train.optims.lr_scheduler.scheduler import Binding, schedules_sized
from lucid_train.optims.param_groups import Attributes, param_groups, read_rates
from lucid_train.plot import Points, html_page, html_panels, html_table, html_text
from lucid_train.schedules.schedule import Schedule
from lucid_train.training.modes import has_eval_mode, networks
from lucid_train.training.run import Run

_REVERSED = (FitError, FitEnd)
# In how many places of a run its schedule is asked for a peak.
_MOST_POINTS = 20_000
Rates: TypeAlias = tuple[float, ...]


def _highest(planned: PlannedEpoch) -> Rates | None:
    return None if planned.first is None or planned.last is None else tuple(map(max, planned.first, planned.last))


def _lowest(planned: PlannedEpoch) -> Rates | None:
    return None if planned.first is None or planned.last is None else tuple(map(min, planned.first, planned.last))


@define(frozen=True)
class PlannedEpoch:
    """The rates of one epoch, or another scheduled number, one per group; None where they are not known beforehand.

    Args:
        epoch: Its number, from 1.
        first: The rates of its first update.
        last: The rates of its last update, as `EpochRecord.lr` will have them.
        highest: The highest rates of any of its updates.
        lowest: The lowest ones.
    """

    epoch: int
    first: Rates | None
    last: Rates | None
    highest: Rates | None = field(default=Factory(_highest, takes_self=True))
    lowest: Rates | None = field(default=Factory(_lowest, takes_self=True))

    def __str__(self) -> str:
        if self.first is None or self.last is None or self.highest is None or self.lowest is None:
            return "not known beforehand"
        text = " to ".join(map(_shown, dict.fromkeys([self.first, self.last])))
        ends = PlannedEpoch(self.epoch, self.first, self.last)
        text += "" if self.highest == ends.highest else f", at most {_shown(self.highest)}"
        return text + ("" if self.lowest == ends.lowest else f", at least {_shown(self.lowest)}")


@define(frozen=True)
class PlannedNumber:
    """A scheduled number in the epochs that are still to be trained.

    Args:
        epochs: Its values.
        schedule: What sets it, in words.
        note: What is assumed of the updates, if it depends on their number; or "".
    """

    epochs: tuple[PlannedEpoch, ...]
    schedule: str
    note: str = ""

    def lines(self, title: str) -> Iterator[str]:
        """Yield the lines of a text, a stretch of epochs with one value in each."""
        yield f"{title}: {self.schedule}"
        yield from [f"  {self.note}"] if self.note else []
        yield from (f"  {named}: {first}" for named, first in self.stretches())

    def table(self, title: str) -> str:
        """Return a table in HTML."""
        stretches = [*self.stretches()]
        columns = {title: [named for named, _ in stretches], self.schedule: [str(first) for _, first in stretches]}
        return (html_text(self.note) if self.note else "") + html_table(columns)

    def stretches(self) -> Iterator[tuple[str, PlannedEpoch]]:
        """Return each stretch of epochs with one value, named, and its first: a long run is not a long text."""
        digits = len(str(self.epochs[-1].epoch)) if self.epochs else 1
        for _, stretch in groupby(self.epochs, lambda each: each.last if each.highest == each.lowest else each.epoch):
            first, *others = stretch
            yield f"epochs {first.epoch} to {others[-1].epoch}" if others else f"epoch {first.epoch:>{digits}}", first

    def curves(self, name: str) -> dict[str, Points]:
        """Return where the curves go: each epoch's first value, the highest and lowest, and the last."""
        known = [each for each in self.epochs if each.first is not None]
        found: dict[str, Points] = {}
        for group in range(min((len(each.first or ()) for each in known), default=0)):
            xs, ys = [], []
            for each in known:
                first, last, highest, lowest = (
                    (values or ())[group] for values in (each.first, each.last, each.highest, each.lowest)
                )
                inner = [value for value in (highest, lowest) if value not in (first, last)]
                ys += [first, *inner, last]
                # Where within the epoch a peak is, a plan does not say.
                xs += [each.epoch - 1 + part / (len(inner) + 1) for part in range(len(inner) + 2)]
            found[f"{name}_{group}" if group else name] = (xs, ys)
        return found


@define(frozen=True, repr=False)
class Plan:
    """What a fit will do, as far as it can be known: text for `print`, tables and a curve in a notebook, and data.

    What follows a metric, and PyTorch's and Lucid's own schedulers, are not known beforehand.

    Args:
        listeners: For every event that has listeners, in the order of a fit, these in the order in which they run.
        epochs: The epochs that are still to be trained.
        schedule: What sets the rates, in words.
        note: What is assumed of the updates, if the rates depend on their number, or why there are no epochs; or "".
        evaluation: In which mode models are evaluated, in words; or "".
        scheduled: What else is scheduled, by name.

    >>> from lucid_train import Trainer, nn, optims, schedules
    >>> from lucid_train.callbacks import LRSchedulerCallback
    >>> optimizer = optims.SGD(nn.Linear(2, 1).parameters(), lr=1.0)
    >>> schedule = LRSchedulerCallback(schedules.Step(3, gamma=0.5))
    >>> print(Trainer(optimizer=optimizer, epochs=5, callbacks=[schedule]).plan())
    FitStart  LRSchedulerCallback.on_fit_start
    EpochEnd  LRSchedulerCallback.on_epoch_end
    <BLANKLINE>
    rates: times 0.5 every 3 epochs
      epochs 1 to 3: 1
      epochs 4 to 5: 0.5
    """

    listeners: dict[str, tuple[str, ...]]
    epochs: tuple[PlannedEpoch, ...]
    schedule: str
    note: str = ""
    evaluation: str = ""
    scheduled: Mapping[str, PlannedNumber] = field(factory=dict)

    @property
    def _numbers(self) -> dict[str, PlannedNumber]:
        return {"rates": PlannedNumber(self.epochs, self.schedule, self.note), **self.scheduled}

    def __str__(self) -> str:
        width = max((len(event) for event in self.listeners), default=0)
        lines = [f"{event:<{width}}  {', '.join(names)}" for event, names in self.listeners.items()]
        lines = lines or ["no listeners"]
        evaluation = ["", f"evaluation: {self.evaluation}"] if self.evaluation else []
        numbers = [line for name, each in self._numbers.items() for line in each.lines(name)]
        return "\n".join([*lines, *evaluation, "", *numbers])

    __repr__ = __str__

    def __rich__(self) -> Any:
        from rich.text import Text  # asked for by rich alone; names in brackets must not be read as markup

        return Text(str(self))

    def _repr_html_(self) -> str:
        listeners = {"event": [*self.listeners], "listeners": [", ".join(names) for names in self.listeners.values()]}
        parts = [html_table(listeners) if self.listeners else html_text("no listeners")]
        parts += [each.table(name) for name, each in self._numbers.items()]
        panels = [each.curves("lr" if name == "rates" else name) for name, each in self._numbers.items()]
        return html_page([*parts, html_panels(panels)])


@define
class _Pace:
    """How many updates the epochs to come perform.

    Args:
        share: Updates per step.
        steps: Steps in an epoch.
        done: Steps done in the run.
        ahead: Steps that are left of the epoch that is open, or else those of an epoch.
        note: Where this is known from, in words.
    """

    share: Fraction
    steps: int
    done: int
    ahead: int
    note: str

    def updates(self, epochs: int) -> int:
        """Return the updates to come before the end of so many epochs."""
        steps = self.done + (self.ahead + (epochs - 1) * self.steps if epochs else 0)
        return floor(self.share * steps) - floor(self.share * self.done)


def planned(
    trainer: Any, done: Run, listeners: Iterable[Callback], epochs: int, length: int | None, updates: int | None = None
) -> Plan:
    """Return the plan of a fit.

    Args:
        trainer: The Trainer; what it has is only read.
        done: The run so far; it is only read.
        listeners: The callbacks and functions that listen, in their order.
        epochs: The last epoch.
        length: Batches in a pass of the data, or None if that is unknown.
        updates: Updates in an epoch, or None if that is unknown.
    """
    optimizer = done.optimizer if trainer.optimizer is None else trainer.optimizer
    steps = trainer.steps_per_epoch or length or done.steps_per_epoch
    if updates is not None and steps is not None and updates > steps:
        raise ValueError(f"'updates_per_epoch' must be <= the {steps} steps of an epoch: {updates}")
    callbacks, found = list(listeners), {}
    for event in event_classes():
        if trainer.evaluate is None and event in (EvaluateStart, EvaluateEnd):
            continue
        names = [hook_name(hook) for callback in callbacks for hook in callback.hooks(event)]
        if names:
            found[event.__name__] = tuple(reversed(names) if event in _REVERSED else names)
    run = Run(
        model=trainer.model, optimizer=optimizer, epochs=epochs, progress=evolve(done._progress, steps_per_epoch=steps)
    )
    to_come = range(len(done.history) + 1, epochs + 1)
    schedule, rates, note = _rates(run, callbacks, to_come, updates)
    if not to_come and done.history:
        note = f"nothing left to train: {len(done.history)} epochs are done; ask for the plan of more, plan(epochs)"
    evaluation = "" if trainer.evaluate is None else _evaluation(trainer)
    return Plan(found, tuple(rates), schedule, note, evaluation, _numbers(run, callbacks, to_come, updates))


def _evaluation(trainer: Any) -> str:
    """Return in which mode a Trainer evaluates its models."""
    found = networks(trainer.model, trainer.extras)
    switched = [f"{place}.eval()" for place, network in found.items() if has_eval_mode(network)]
    put_back = "; training modes are put back" if found else ""
    if switched and trainer.eval_mode:
        return f"after {', '.join(switched)}{put_back}"
    why = "no model is given" if trainer.model is None else "the model has no training modes"
    if found:
        why = "not every module has a training mode" if trainer.eval_mode else "eval_mode is False"
    return f"without eval(), as {why}{put_back}"


def _rates(
    run: Run, callbacks: Sequence[Callback], epochs: range, updates: int | None
) -> tuple[str, list[PlannedEpoch], str]:
    """Return what sets the rates of the run's optimizer, the rates of the epochs, and what is assumed of updates."""
    optimizer = run.optimizer
    for callback in callbacks:
        for scheduled in _scheduled_by(callback, run):
            if scheduled.key != "lr" or scheduled.on is not None:
                continue
            optimizer = scheduled.optimizer if optimizer is None else optimizer
            if optimizer is not None and (scheduled.optimizer is None or scheduled.optimizer is optimizer):
                number = _planned(callback, evolve(scheduled, optimizer=optimizer), run, epochs, updates)
                return number.schedule, list(number.epochs), number.note
    if optimizer is None:
        return "there is no optimizer", [PlannedEpoch(epoch, None, None) for epoch in epochs], ""
    standing = tuple(read_rates(optimizer))
    return "no schedule", [PlannedEpoch(epoch, standing, standing) for epoch in epochs], ""


def _numbers(run: Run, callbacks: Sequence[Callback], epochs: range, updates: int | None) -> dict[str, PlannedNumber]:
    """Return what is scheduled besides the rates, by name; what has one name stands together, as in the history."""
    found: dict[str, PlannedNumber] = {}
    for callback in callbacks:
        for scheduled in _scheduled_by(callback, run):
            if scheduled.key != "lr":
                number = _planned(callback, scheduled, run, epochs, updates)
                before = found.get(scheduled.key)
                found[scheduled.key] = number if before is None else _together(before, number)
    return found


def _scheduled_by(callback: Callback, run: Run) -> Iterator[Scheduled]:
    """Return what a callback schedules, with what it schedules it on."""
    for scheduled in callback.schedules():
        if scheduled.on is not None:
            yield evolve(scheduled, optimizer=Attributes(scheduled.on))
        else:
            yield scheduled if scheduled.optimizer is not None else evolve(scheduled, optimizer=run.optimizer)


def _planned(callback: Callback, scheduled: Scheduled, run: Run, epochs: range, updates: int | None) -> PlannedNumber:
    pace = _pace(scheduled, run, updates)
    values = tuple(_scheduled(scheduled, run, epochs, pace))
    text = number_text(callback, scheduled, run)
    return PlannedNumber(values, text, pace.note if pace is not None else "")


def _together(one: PlannedNumber, other: PlannedNumber) -> PlannedNumber:
    def joined(mine: Rates | None, others: Rates | None) -> Rates | None:
        return None if mine is None or others is None else mine + others

    epochs = tuple(
        PlannedEpoch(
            a.epoch, *map(joined, (a.first, a.last, a.highest, a.lowest), (b.first, b.last, b.highest, b.lowest))
        )
        for a, b in zip(one.epochs, other.epochs, strict=True)
    )
    texts = dict.fromkeys([one.schedule, other.schedule])
    return PlannedNumber(epochs, "; ".join(texts), one.note or other.note)


def _pace(scheduled: Scheduled, run: Run, updates: int | None) -> _Pace | None:
    """Return how often a schedule is advanced, or None where that is unknown."""
    if scheduled.interval == "epoch":
        return _Pace(Fraction(1), 1, len(run.history), 1, "")
    steps = run.steps_per_epoch or updates
    if not steps:
        return None
    total, length = steps * run.epochs, scheduled.length or 0
    share, note = Fraction(1), f"if each of the {steps} steps of an epoch performs an update"
    if updates is not None:
        share, note = Fraction(updates, steps), f"with {updates} updates in each epoch"
    elif run.step:
        done = run._progress.updates
        share, note = Fraction(done, run.step), f"as {done} of the {run.step} steps done performed an update"
    elif 0 < length < total:
        every = total // length
        share = Fraction(1, every) if total // every == length else Fraction(length, total)
        note = f"with {length} updates in {run.epochs} epochs, which is the length of the schedule"
    if share == 1 and run.step:
        note = ""
    return _Pace(share, steps, run.step, max(0, steps - run.epoch_step), note)


def schedule_text(callback: Callback, run: Run) -> str:
    """Return what a callback schedules in words, and when in the run the schedule begins again."""
    texts = [(each.key, number_text(callback, each, run)) for each in callback.schedules()]
    return "; ".join(text if key == "lr" else f"{key} {text}" for key, text in texts)


def number_text(callback: Callback, scheduled: Scheduled, run: Run) -> str:
    """Return the schedule of a number in words, and when in the run it begins again."""
    if scheduled.text is not None or scheduled.schedule is None:
        return scheduled.text or object_name(callback)
    unit, (_, length) = scheduled.interval, _lengths(scheduled, run)
    named = _by_group(scheduled.schedule, run.optimizer if scheduled.optimizer is None else scheduled.optimizer)
    text = "; ".join(dict.fromkeys(f"{name}{each.words(unit)}" for name, each in named))
    text = text if unit == "epoch" or " step" in text else f"{text}, per step"
    try:
        sized = [each for _, each in _by_group(schedules_sized(scheduled.schedule, length), None)] if length else []
    except ValueError:  # it does not fit the run, which the callback itself refuses
        return text
    times = sorted({t for each in sized for t in each.restarts(length or 0)})
    if times:
        more = len(times) - 1
        text += f", which begins again at {unit} {times[0] + 1:,}"
        text += f" and {more:,} more time{'s' * (more > 1)}" if more else ""
    return text


def _by_group(schedule: Any, optimizer: Any) -> list[tuple[str, Schedule]]:
    """Return a schedule without a name, or those of the groups, each after the name of its group if it has one."""
    if isinstance(schedule, Schedule):
        return [("", schedule)]
    if isinstance(schedule, Mapping):
        return [(f"{name}: ", each) for name, each in schedule.items()]
    names = [group.get("name") for group in getattr(optimizer, "param_groups", ())]
    return [("" if name is None else f"{name}: ", each) for name, each in zip_longest(names, schedule)]


def _lengths(scheduled: Scheduled, run: Run) -> tuple[int | None, int | None]:
    """Return how often a schedule is advanced in an epoch, and in the run; None where that is unknown."""
    steps = run.steps_per_epoch if scheduled.interval == "step" else 1
    return steps, scheduled.length or (None if steps is None else steps * run.epochs)


def _scheduled(scheduled: Scheduled, run: Run, epochs: range, pace: _Pace | None) -> Iterator[PlannedEpoch]:
    """Return the values of the epochs under a schedule."""
    _, length = _lengths(scheduled, run)
    schedule = scheduled.schedule
    if schedule is not None and epochs:
        schedule = schedules_sized(schedule, length)
    if schedule is None or pace is None or scheduled.optimizer is None:
        yield from (PlannedEpoch(epoch, None, None) for epoch in epochs)
        return
    groups = param_groups(scheduled.optimizer, (scheduled.key,))
    binding = Binding.of(scheduled.key, schedule, groups, scheduled.bases or ())  # which writes nothing
    points = max(8, _MOST_POINTS // max(1, len(epochs)))

    @lru_cache(1000)
    def at(t: int) -> Rates:
        return tuple(binding.checked_values(t, scheduled.schedule))

    for index, epoch in enumerate(epochs):
        first, end = (scheduled.at + pace.updates(count) for count in (index, index + 1))
        last = max(first, end - 1)  # an epoch without an update has the rates that stand
        highest, lowest = zip(
            *(_peaks(first, last, points, at, group) for group in range(len(binding.bases))), strict=True
        )
        yield PlannedEpoch(epoch, at(first), at(last), highest, lowest)


def _peaks(first: int, last: int, points: int, rates: Callable[[int], Rates], group: int) -> tuple[float, float]:
    """Return the highest and the lowest rate of a group, of the times from `first` to `last`."""
    highest = _highest_of(first, last, points, lambda t: rates(t)[group])
    return highest, -_highest_of(first, last, points, lambda t: -rates(t)[group])


def _highest_of(first: int, last: int, points: int, value: Callable[[int], float]) -> float:
    """Return the largest value of a time from `first` to `last`, exactly if it has one peak between two of `points`."""
    step = max(1, (last - first) // points)
    best = max([*range(first, last, step), last], key=value)
    low, high = max(first, best - step), min(last, best + step)
    while high - low > 2:
        left, right = low + (high - low) // 3, high - (high - low) // 3
        low, high = (left, high) if value(left) < value(right) else (low, right)
    return max(value(best), *map(value, range(low, high + 1)))


def _shown(rates: Rates) -> str:
    return ", ".join(f"{rate:.6g}" for rate in rates)
