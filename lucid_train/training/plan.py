"""The plan of a fit: who hears what in which order, and the rate of every epoch, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from attrs import define

from lucid_train.callback import Callback
from lucid_train.description import hook_name
from lucid_train.events import EvaluateEnd, EvaluateStart, FitEnd, FitError, event_classes
from lucid_train.optims.lr_scheduler.ledger import Ledger
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
        hears: For every event that somebody hears, in the order of a fit, the listeners in the order in which they
            hear it.
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

    hears: dict[str, tuple[str, ...]]
    epochs: tuple[PlannedEpoch, ...]
    schedule: str

    def __str__(self) -> str:
        width = max((len(event) for event in self.hears), default=0)
        lines = [f"{event:<{width}}  {', '.join(names)}" for event, names in self.hears.items()]
        lines = lines or ["nobody listens"]
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
        listeners: The callbacks and functions that hear, in their order.
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


class StandIn:
    """An optimizer with the groups of another, copied, so that a schedule may be built and nothing is written."""

    def __init__(self, optimizer: Any) -> None:
        ledger = Ledger.of(optimizer)
        self.param_groups = []
        for index, group in enumerate(optimizer.param_groups):
            copied = {name: group[name] for name in group if name in ("momentum", "betas", "initial_lr")}
            copied["lr"] = float(group["lr"])
            if "initial_lr" in copied:
                copied["initial_lr"] = float(copied["initial_lr"])
            elif ledger is not None and (remembered := ledger.base_lr(index, group)) is not None:
                copied["initial_lr"] = remembered
            self.param_groups.append(copied)


def _rates(run: Run, callbacks: Sequence[Callback], epochs: range) -> tuple[str, list[PlannedEpoch]]:
    """Return what sets the rates of the run's optimizer, and the rates of the epochs."""
    optimizer = run.optimizer
    for callback in callbacks:
        foresee = getattr(callback, "foreseen", None)
        if foresee is None:
            continue
        own = getattr(callback, "optimizer", None)
        if own is None:
            own = getattr(getattr(callback, "scheduler", None), "optimizer", None)
        if optimizer is None:
            optimizer = own
        if optimizer is None or (own is not None and own is not optimizer):
            continue  # it schedules another optimizer than the run's
        scheduler, at = foresee(run, StandIn(optimizer))
        each = run.steps_per_epoch if getattr(callback, "interval", "epoch") == "step" else 1
        return repr(callback), list(_foreseen(scheduler, at, each, epochs))
    if optimizer is None:
        return "there is no optimizer", [PlannedEpoch(epoch, None, None) for epoch in epochs]
    rates = tuple(read_rates(optimizer))
    return "no schedule", [PlannedEpoch(epoch, rates, rates) for epoch in epochs]


def _foreseen(scheduler: Any, at: int, each: int | None, epochs: range) -> Iterator[PlannedEpoch]:
    """Return the epochs of a scheduler that stands at `at` and does `each` steps in an epoch."""
    known = scheduler is not None and not getattr(scheduler, "follows_metric", False)
    for index, epoch in enumerate(epochs):
        if not known or each is None:
            yield PlannedEpoch(epoch, None, None)
            continue
        first = at + index * each
        yield PlannedEpoch(epoch, tuple(scheduler.lr_at(first)), tuple(scheduler.lr_at(first + each - 1)))


def _shown(planned: PlannedEpoch) -> str:
    ends = dict.fromkeys(rates for rates in (planned.first_lr, planned.lr) if rates is not None)
    return " to ".join(", ".join(f"{rate:.6g}" for rate in rates) for rates in ends) or "not known beforehand"
