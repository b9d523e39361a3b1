"""ReduceLROnPlateau: the rates fall when a metric no longer improves."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from copy import copy
from typing import Any, Literal, SupportsFloat

from attrs import define, evolve, field, fields, setters

from lucid_train.monitor import Mode
from lucid_train.optims.lr_scheduler.scheduler import (
    WRONG_ORDER,
    LRScheduler,
    UpdateWatch,
    check_same,
    checked_bases,
    checked_state,
    evolved,
    growth,
    named_settings,
)
from lucid_train.optims.param_groups import numbers_per_group, param_groups, rate_scales, sync, write_value
from lucid_train.protocols import HasParamGroups as Optimizer
from lucid_train.schedules.schedule import Schedule, check_is_value, stored
from lucid_train.validation import check_entries, choice, real_number, whole_number

_COUNTS = ("num_bad_epochs", "cooldown_counter", "last_epoch")
_PROGRESS = ("best", *_COUNTS, "current_lrs")


def _optimizer(instance: object, attribute: Any, value: Any) -> None:
    param_groups(value)


def _min_lr(instance: Any, attribute: Any, value: Any) -> None:
    instance.min_lr = numbers_per_group("min_lr", value, len(instance.optimizer.param_groups), least=0)


def _dependent(instance: Any, attribute: Any, value: Any) -> None:
    if value is not None:
        check_is_value(value, attribute.alias)
        value.check_sized()
        if value.absolute:
            raise ValueError(f"{attribute.alias!r} must depend on its base, which the plateau lowers: {value!r}")


# What a step sets is not checked again.
@define(slots=False, eq=False, repr=False, on_setattr=setters.NO_OP)
class ReduceLROnPlateau(LRScheduler):
    """Multiply the rates by `factor` when a metric has not improved for more than `patience` epochs.

    The rates follow the metric that `step` is given, so no formula gives them beforehand: `lr_at` knows those of the
    present epoch alone. What is multiplied is the rate that stands in the group, or with a `schedule` its base rate:
    the plateau scales the schedule, in a warm-up too, and a group's "lr_scale" what that gives. In a Trainer:
    `LRSchedulerCallback(..., monitor="val_loss")`.

    Args:
        optimizer: Anything with `param_groups`, a sequence of dicts with "lr".
        mode: Whether "min" or "max" is better.
        factor: Factor of one reduction. Above 0 and below 1.
        patience: Epochs in a row without an improvement to sit through. At least 0.
        threshold: What the metric must gain to count as improved. At least 0.
        threshold_mode: Whether the gain is a share of the best value, "rel", or "abs".
        cooldown: Epochs after a reduction in which none is counted as bad. At least 0.
        min_lr: The lowest rate, one for all groups or a list with one per group. At least 0.
        eps: A reduction that is not larger is left out. At least 0.
        schedule: What the rates follow from one call of `step` to the next, such as `Constant().warmup(5)`; its lengths
            are known, and it depends on its base.

    Attributes:
        best: The best value of the metric, or None before the first.
        num_bad_epochs: Epochs in a row without an improvement.
        cooldown_counter: Epochs of the cooldown that are left.

    >>> from lucid_train import nn, optims
    >>> scheduler = ReduceLROnPlateau(optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0), factor=0.5, patience=0)
    >>> for loss in (0.9, 0.8, 0.8):
    ...     scheduler.optimizer.step()
    ...     scheduler.step(loss)
    >>> scheduler.last_lr
    [0.5]
    """

    follows_metric = True
    _bindings = ()

    optimizer: Optimizer = field(validator=_optimizer)
    mode: Mode = field(default="min", validator=choice("min", "max"))
    factor: float = field(default=0.1, validator=stored(real_number, above=0, below=1))
    patience: int = field(default=10, validator=stored(whole_number, least=0))
    threshold: float = field(default=1e-4, validator=stored(real_number, least=0))
    threshold_mode: Literal["rel", "abs"] = field(default="rel", validator=choice("rel", "abs"))
    cooldown: int = field(default=0, validator=stored(whole_number, least=0))
    min_lr: float | Sequence[float] = field(default=0.0, validator=_min_lr)
    eps: float = field(default=1e-8, validator=stored(real_number, least=0))
    _schedule: Schedule | None = field(default=None, validator=_dependent, kw_only=True)
    best: float | None = field(default=None, init=False)
    num_bad_epochs: int = field(default=0, init=False)
    cooldown_counter: int = field(default=0, init=False)
    last_epoch: int = field(default=0, init=False)
    _levels: list[float] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self._watch = UpdateWatch(self.optimizer)
        if self._schedule is not None:
            self._write(self._scheduled(self._schedule, self.base_lrs, 0))

    @property
    def schedule(self) -> Schedule | tuple[Schedule, ...]:
        """The schedule that it scales."""
        return super().schedule if self._schedule is None else self._schedule

    @property
    def base_lrs(self) -> list[float]:
        """The rates from which the next reduction starts, which the optimizer has, or the schedule scales."""
        if self._schedule is None:
            return self.last_lr
        for group in self.optimizer.param_groups[len(self._levels) :]:
            self._levels.append(float(group.setdefault("initial_lr", float(group["lr"]))))
        return list(self._levels)

    @property
    def _first_levels(self) -> list[float]:
        """The base rates before any reduction."""
        return [float(group["initial_lr"]) for group in self.optimizer.param_groups]

    def settings(self) -> dict[str, Any]:
        """Return the settings as plain JSON."""
        own = {each.name: copy(getattr(self, each.name)) for each in fields(type(self))[1:] if each.init}
        schedule = own.pop("_schedule")
        return own if schedule is None else {**own, "schedule": named_settings(schedule)}

    def lr_at(self, t: Any) -> Any:
        """Return the rates of the present epoch, the only one whose rates are known.

        Raises:
            ValueError: If `t` is another epoch.
        """
        if whole_number("t", t, least=0) != self.last_epoch:
            raise ValueError(f"'t' must be {self.last_epoch}, as ReduceLROnPlateau follows a metric: {t}")
        return self.last_lr

    def step(self, metrics: SupportsFloat) -> None:  # type: ignore[override]  # what it follows has to be given
        """Go on to the next epoch with the metric of this one, and write the rates to the optimizer.

        Args:
            metrics: The metric's value; NaN is no improvement.
        """
        if isinstance(metrics, (str, bytes)) or not hasattr(metrics, "__float__"):
            raise TypeError(f"'metrics' must be a number: {metrics!r}")
        value = float(metrics)
        groups = param_groups(self.optimizer)
        lowest = numbers_per_group("min_lr", self.min_lr, len(groups), least=0)
        rates = self.base_lrs
        in_order = self._stop_watching()
        if self._is_better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            floors = lowest if isinstance(lowest, list) else [lowest] * len(rates)
            reduced = [max(rate * self.factor, floor) for rate, floor in zip(rates, floors, strict=True)]
            rates = [new if rate - new > self.eps else rate for rate, new in zip(rates, reduced, strict=True)]
            if self._schedule is None:
                self._write(rates)
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self.last_epoch += 1
        if self._schedule is not None:
            self._levels = rates
            self._write(self._scheduled(self._schedule, rates, self.last_epoch))
        if not in_order:
            warnings.warn(WRONG_ORDER, UserWarning, stacklevel=2)

    def rescale(self, key: str, value: float) -> float:
        if key != "lr":
            raise ValueError(f"'key' must be 'lr', the only one that ReduceLROnPlateau sets: {key!r}")
        real_number(key, value, above=0)
        before, levels, schedule = self.last_lr, self.base_lrs, self._schedule
        if schedule is not None:
            scale = rate_scales(self.optimizer.param_groups)[0]
            factor = growth(key, schedule, self.last_epoch, levels[0], scale, value)
            self._levels = [level * factor for level in levels]
            self._write(self._scheduled(schedule, self._levels, self.last_epoch))
        elif before[0] > 0:
            self._write([value * (rate / before[0]) for rate in before])
        else:
            raise ValueError(f"'lr' must not be set now, it is {before[0]:g}, from which nothing can be scaled")
        return before[0]

    def state_dict(self) -> dict[str, Any]:
        """Return the settings, the progress, and the rates that all reductions so far have led to."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        best = self.best if self.best is None or math.isfinite(self.best) else str(self.best)  # which JSON lacks
        levels = {} if self._schedule is None else {"base_lrs": self.base_lrs, "initial_lrs": self._first_levels}
        return {**self.settings(), "best": best, **counts, "current_lrs": self.last_lr, **levels}

    def load_state_dict(self, state: dict[str, Any], *, prefer: str | None = None) -> None:
        """Go on from a state, ours or PyTorch's, and write its rates; see LRScheduler."""
        state = checked_state(self, state, prefer)
        settings, groups = self.settings(), self.optimizer.param_groups
        levels = [] if self._schedule is None else ["base_lrs", "initial_lrs"]
        check_entries(f"the state of the {type(self).__name__}", state, [*settings, *_PROGRESS, *levels])
        saved = {name: state[name] for name in settings}
        schedule = self._schedule
        if prefer == "state":
            schedule = evolved(schedule, saved.pop("schedule", None))
            settings = evolve(self, **saved, schedule=None).settings()
        elif prefer is None:
            check_same(settings, saved)
        settings.pop("schedule", None)
        best = None if state["best"] is None else float(state["best"])
        counts = {name: whole_number(name, state[name], least=0) for name in _COUNTS}
        rates = checked_bases("current_lrs", state["current_lrs"])
        if len(rates) > len(groups):
            raise ValueError(f"'optimizer' must have the {len(rates)} groups that the schedule knows: {len(groups)}")
        bases = [checked_bases(name, state[name]) for name in levels]
        for name, each in zip(levels, bases, strict=True):
            if len(each) != len(rates):
                raise ValueError(f"{name!r} must have one rate per rate in 'current_lrs', {len(rates)}: {each}")
        vars(self).update(
            settings, best=best, _schedule=schedule, _levels=[rate for each in bases[:1] for rate in each], **counts
        )
        self._write(rates)
        self._stop_watching()

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in self.settings().items()]
        return f"{type(self).__name__}({', '.join([*shown, f'last_epoch={self.last_epoch}'])})"

    def _scheduled(self, schedule: Schedule, levels: Sequence[float], t: int) -> list[float]:
        scales = rate_scales(self.optimizer.param_groups)
        return [schedule(t, level) * scale for level, scale in zip(levels, scales, strict=True)]

    def _write(self, rates: Sequence[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=False):
            write_value(group, "lr", rate)
        sync(self.optimizer)

    def _is_better(self, value: float) -> bool:
        least = self.mode == "min"
        gain = self.threshold * (1 if least else -1)
        best = (math.inf if least else -math.inf) if self.best is None else self.best
        limit = best * (1 - gain) if self.threshold_mode == "rel" else best - gain
        return bool(value < limit if least else value > limit)
