"""find_lr: which learning rate a run can take, found in a rehearsal that leaves no trace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from attrs import define, field

from lucid_train.events import StepEnd, StepStart
from lucid_train.group.protocol import Solo
from lucid_train.optims.param_groups import rate_scales, sync, write_value
from lucid_train.saving.snapshot import Snapshot
from lucid_train.training.lr_curve import LRCurve
from lucid_train.training.modes import networks, restore_modes, training_modes
from lucid_train.training.trainer import Trainer
from lucid_train.validation import metric_name, real_number, whole_number

_LEAST_STEPS = 10
# The smoothed loss: an exponential mean without the bias of its beginning, and how many times the best ends the curve.
_DECAY, _DIVERGED = 0.98, 4.0
# So many steps in a row without an update are no accumulation of gradients.
_MOST_SKIPPED = 10_000


def find_lr(
    trainer: Trainer, low: float = 1e-7, high: float = 10.0, steps: int = 100, *, metric: str = "loss"
) -> LRCurve:
    """Train for some updates while the rate rises from `low` to `high`, put everything back, and return the losses.

    Before the first fit, or between two, this runs the Trainer's own step function on its own data. Afterwards
    everything is as it was, also if the step fails or Ctrl-C ends it: model, optimizers, gradients, extras, metric
    objects, training modes, random generators, and where the data stands. Training after it equals training without it,
    bit for bit. What a checkpoint cannot save is not put back either: variables of the step function, for example.

    Callbacks receive nothing: no schedule advances, nothing is shown, saved or recorded. An epoch that is open stays
    open: its batches so far are read again, once before and once afterwards, as a resume does. The copies are in host
    memory, as large as a checkpoint.

    The rate rises by one factor from update to update, `low * (high / low) ** (update / (steps - 1))`; while gradients
    are accumulated it stands still. It is that of the parameter group with the highest base rate; the others keep
    their ratio to it, and a group's "lr_scale" scales its as under a schedule. Further epochs of the data are begun
    where one is too short. Each update reads its loss, which waits for the device. The curve ends early where the loss
    is no longer finite, or where its running mean is 4 times the lowest so far; if that is not positive, where it
    exceeds its start by 3 times what it had fallen.

    Args:
        trainer: The Trainer, with a step, an optimizer and a model, or models among its extras.
        low: The rate of the first update. Above 0.
        high: The rate of the last update. Above `low`.
        steps: Updates. At least 10.
        metric: Which of the metrics that the step returns is drawn. A number that it returns is the "loss".

    Raises:
        ValueError: If the Trainer has no step, no optimizer or no weights, or the step does not return the metric.
        RuntimeError: If the Trainer is training, several processes train together, or its data does not give the same
            batches again: an iterator, data with a random generator that is not known, workers that cannot repeat what
            they draw. Nothing has been trained then.

    >>> from lucid_train import nn, optims
    >>> model, criterion = nn.Linear(1, 1, rng=0), nn.MSELoss()
    >>> optimizer = optims.SGD(model.parameters(), lr=0.1)
    >>> def step(batch):
    ...     optimizer.zero_grad()
    ...     loss = criterion(model(batch), 2 * batch)
    ...     model.backward(criterion.backward())
    ...     optimizer.step()
    ...     return loss
    >>> import numpy as np
    >>> trainer = Trainer(step, [np.full((1, 1), 1.0)], model=model, optimizer=optimizer)
    >>> curve = find_lr(trainer, 1e-4, 10)
    >>> 0.01 < curve.suggestion < 1, optimizer.param_groups[0]["lr"], len(trainer.fit())
    (True, 0.1, 1)
    """
    if not isinstance(trainer, Trainer):
        raise TypeError(f"'trainer' must be a Trainer: {trainer!r:.200}")
    low = real_number("low", low, above=0)
    high = real_number("high", high, above=low)
    whole_number("steps", steps, least=_LEAST_STEPS)
    metric_name("metric", metric)
    if trainer._run.status == "running":
        raise RuntimeError("this Trainer is training: call find_lr before fit(), or between two fits")
    if trainer._world_size > 1:
        raise RuntimeError(f"find_lr must be used in a run of one process, and there are {trainer._world_size}")
    if trainer.step is None:
        raise ValueError("'trainer' must have a step, whose loss is measured: None; pass Trainer(step=...)")
    trainer._update()
    participants = trainer._participants(0)
    if participants.optimizer is None:
        raise ValueError("'trainer' must have an optimizer, whose rate is raised: None; pass Trainer(optimizer=...)")
    rates = [low * (high / low) ** (number / (steps - 1)) for number in range(steps - 1)] + [high]
    snapshot = Snapshot(participants)
    modes = training_modes(networks(trainer.model, trainer.extras).values())
    unused = trainer._loaded is not None or trainer._progress.latest_pass is None
    with ExitStack() as leaving:
        leaving.enter_context(trainer._feed.lent(trainer._progress, trainer._random, unused=unused))
        leaving.callback(restore_modes, modes)
        leaving.callback(_restore, snapshot)
        for each in participants.metrics.values():
            each.reset()
        search = _Search(participants.optimizer, rates, metric)
        rehearsal = Trainer(
            trainer.step,
            trainer.data,
            # An epoch may be shorter than what is accumulated for an update.
            epochs=steps * _MOST_SKIPPED,
            steps_per_epoch=trainer.steps_per_epoch,
            model=trainer.model,
            optimizer=participants.optimizer,
            extras=trainer.extras,
            group=Solo(),
        )
        leaving.callback(rehearsal._feed.end_pass)
        rehearsal.on(StepStart)(search.set_rate)
        rehearsal.on(StepEnd)(search.note)
        rehearsal.fit()
    return search.curve()


def _restore(snapshot: Snapshot) -> None:
    try:
        snapshot.restore()
    except KeyboardInterrupt:
        snapshot.restore()
        raise


@define(eq=False)
class _Search:
    """Raises the rate and notes the losses.

    Args:
        optimizer: The optimizer.
        rates: The rates of all updates.
        metric: The metric that is noted.
    """

    optimizer: Any
    rates: Sequence[float]
    metric: str
    _ratios: list[float] = field(init=False)
    _losses: list[float] = field(factory=list, init=False)
    _smoothed: list[float] = field(factory=list, init=False)
    # The losses of the steps since the last update.
    _open: list[float] = field(factory=list, init=False)
    _sum: float = field(default=0.0, init=False)
    _end: str | None = field(default=None, init=False)
    _missing: str | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        bases = [float(group.get("initial_lr", group["lr"])) for group in self.optimizer.param_groups]
        highest = max(bases)
        scales = rate_scales(self.optimizer.param_groups)
        self._ratios = [(base / highest if highest else 1.0) * scale for base, scale in zip(bases, scales, strict=True)]

    def set_rate(self, event: StepStart) -> None:
        """Set the rates of the update to come."""
        if self._open:
            return
        rate = self.rates[len(self._losses)]
        for group, ratio in zip(self.optimizer.param_groups, self._ratios, strict=True):
            write_value(group, "lr", rate * ratio)
        sync(self.optimizer)

    def note(self, event: StepEnd) -> None:
        """Note the loss of a step, and end the rehearsal where the curve ends."""
        metrics = event.metrics
        if self.metric not in metrics:
            self._missing = ", ".join(map(repr, metrics)) or "none"
        else:
            self._open.append(metrics[self.metric])
            if not math.isfinite(self._open[-1]):
                self._end = f"the loss is {self._open[-1]} at {self.rates[len(self._losses)]:.3g}"
            elif event.updated:
                self._note_update()
            elif len(self._open) == _MOST_SKIPPED:
                self._end = f"no update was performed in {_MOST_SKIPPED:,} steps"
        if self._missing is not None or self._end is not None or len(self._losses) == len(self.rates):
            event.run.stop()

    def _note_update(self) -> None:
        loss = math.fsum(self._open) / len(self._open)
        self._open.clear()
        self._losses.append(loss)
        self._sum = _DECAY * self._sum + (1 - _DECAY) * loss
        now = self._sum / (1 - _DECAY ** len(self._losses))
        self._smoothed.append(now)
        start, best = self._smoothed[0], min(self._smoothed)
        if now > (_DIVERGED * best if best > 0 else start + (_DIVERGED - 1) * (start - best)):
            self._end = f"the loss grew beyond {_DIVERGED:g} times its lowest"

    def curve(self) -> LRCurve:
        """Return the curve that was found."""
        if self._missing is not None:
            rule = "'metric' must be one of the metrics that the step returns"
            raise ValueError(f"{rule}, {self._missing}: {self.metric!r}")
        count = len(self._losses)
        return LRCurve(self.rates[:count], self._losses, self._smoothed, self.metric, self._end)
