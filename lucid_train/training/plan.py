"""The plan of a fit: who receives what in which order, and the rate of every epoch, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, groupby
from typing import Any

from attrs import define

from lucid_train.callback import Callback, Scheduled
from lucid_train.description import hook_name
from lucid_train.events import EvaluateEnd, EvaluateStart, FitEnd, FitError, event_classes
from lucid_train.optims.lr_scheduler.scheduler import Binding, schedules_sized
from lucid_train.optims.param_groups import read_rates
from lucid_train.progress import Progress
from lucid_train.training.run import Run

_REVERSED = (FitError, FitEnd)


@define(frozen=True)
class PlannedEpoch:
    """The rates of one epoch.

    Args:
        epoch: Its number, from 1.
        first_lr: The rates of its first update, one per group; None if they are not known beforehand.
        lr: The rates of its last update, as `EpochRecord.lr` will have them; None if they are not known beforehand.
    """

    epoch: int
    first_lr: tuple[float, ...] | None
    lr: tuple[float, ...] | None


@define(frozen=True, repr=False)
class Plan:
    """What a fit will do, as far as it can be known: text for `print`, and data.

    Steps are taken to perform an update each. What follows a metric, and PyTorch's and Lucid's own schedulers, are not
    known beforehand.

    Args:
        listeners: For every event that has listeners, in the order of a fit, these in the order in which they run.
        epochs: The epochs that are still to be trained.
        schedule: What sets the rates, in words.

    >>> from lucid_train import Trainer, nn, optims
    >>> from lucid_train.callbacks import StepLRCallback
    >>> optimizer = optims.SGD(nn.Linear(2, 1).parameters(), lr=1.0)
    >>> print(Trainer(optimizer=optimizer, epochs=5, callbacks=[StepLRCallback(3, 0.5)]).plan())
    FitStart  StepLRCallback.on_fit_start
    EpochEnd  StepLRCallback.on_epoch_end
    <BLANKLINE>
    rates: StepLRCallback(interval='epoch', step_size=3, gamma=0.5)
      epochs 1 to 3: 1
      epochs 4 to 5: 0.5
    """

    listeners: dict[str, tuple[str, ...]]
    epochs: tuple[PlannedEpoch, ...]
    schedule: str

    def __str__(self) -> str:
        width = max((len(event) for event in self.listeners), default=0)
        lines = [f"{event:<{width}}  {', '.join(names)}" for event, names in self.listeners.items()]
        lines = lines or ["no listeners"]
        return "\n".join([*lines, "", f"rates: {self.schedule}", *self._rate_lines()])

    __repr__ = __str__

    def __rich__(self) -> Any:
        from rich.text import Text  # asked for by rich alone; names in brackets must not be read as markup

        return Text(str(self))

    def _rate_lines(self) -> Iterator[str]:
        """Return a line for each stretch of epochs with one rate, so that a long run is not a long text."""
        digits = len(str(self.epochs[-1].epoch)) if self.epochs else 1
        for _, stretch in groupby(self.epochs, lambda each: each.lr if each.first_lr == each.lr else each.epoch):
            first, *others = stretch
            name = f"epochs {first.epoch} to {others[-1].epoch}" if others else f"epoch {first.epoch:>{digits}}"
            yield f"  {name}: {_shown(first)}"


def planned(trainer: Any, done: Run, listeners: Iterable[Callback], epochs: int, length: int | None) -> Plan:
    """Return the plan of a fit.

    Args:
        trainer: The Trainer; what it has is only read.
        done: The run so far; it is only read.
        listeners: The callbacks and functions that listen, in their order.
        epochs: The last epoch.
        length: Batches in a pass of the data, or None if that is unknown.
    """
    optimizer = done.optimizer if trainer.optimizer is None else trainer.optimizer
    steps = trainer.steps_per_epoch or length or done.steps_per_epoch
    progress = Progress(steps_per_epoch=steps)
    run = Run(model=trainer.model, optimizer=optimizer, epochs=epochs, progress=progress)
    callbacks = list(listeners)
    found = {}
    for event in event_classes():
        if trainer.evaluate is None and event in (EvaluateStart, EvaluateEnd):
            continue
        names = [hook_name(hook) for callback in callbacks for hook in callback.hooks(event)]
        if names:
            found[event.__name__] = tuple(reversed(names) if event in _REVERSED else names)
    schedule, rates = _rates(run, callbacks, range(len(done.history) + 1, epochs + 1))
    return Plan(found, tuple(rates), schedule)


def _rates(run: Run, callbacks: Sequence[Callback], epochs: range) -> tuple[str, list[PlannedEpoch]]:
    """Return what sets the rates of the run's optimizer, and the rates of the epochs."""
    optimizer = run.optimizer
    for callback in callbacks:
        for scheduled in callback.schedules():
            optimizer = scheduled.optimizer if optimizer is None else optimizer
            if optimizer is not None and (scheduled.optimizer is None or scheduled.optimizer is optimizer):
                return repr(callback), list(_scheduled(scheduled, optimizer, run, epochs))
    if optimizer is None:
        return "there is no optimizer", [PlannedEpoch(epoch, None, None) for epoch in epochs]
    rates = tuple(read_rates(optimizer))
    return "no schedule", [PlannedEpoch(epoch, rates, rates) for epoch in epochs]


def _scheduled(scheduled: Scheduled, optimizer: Any, run: Run, epochs: range) -> Iterator[PlannedEpoch]:
    """Return the rates of the epochs under a schedule."""
    steps = run.steps_per_epoch if scheduled.interval == "step" else 1
    schedule = scheduled.schedule
    if schedule is not None and epochs:
        schedule = schedules_sized(schedule, None if steps is None else steps * run.epochs)
    if schedule is None or steps is None:
        yield from (PlannedEpoch(epoch, None, None) for epoch in epochs)
        return
    binding = Binding.of("lr", schedule, optimizer.param_groups, scheduled.bases or ())  # which writes nothing
    for epoch, first in zip(epochs, count(scheduled.at, steps), strict=False):
        rates = [tuple(binding.checked_values(t, scheduled.schedule)) for t in (first, first + steps - 1)]
        yield PlannedEpoch(epoch, *rates)


def _shown(planned: PlannedEpoch) -> str:
    ends = dict.fromkeys(rates for rates in (planned.first_lr, planned.lr) if rates is not None)
    return " to ".join(", ".join(f"{rate:.6g}" for rate in rates) for rates in ends) or "not known beforehand"
