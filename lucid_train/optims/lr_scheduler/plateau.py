"""ReduceLROnPlateau: the rate falls when a metric no longer improves."""

from __future__ import annotations

import math

from lucid_train.optims.lr_scheduler.base import LRScheduler
from lucid_train.optims.lr_scheduler.groups import per_group, spread
from lucid_train.validation import one_of, real_number, whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal, SupportsFloat

    from lucid_train.optims.param_groups import Group


class ReduceLROnPlateau(LRScheduler):
    """Multiply the rate by `factor` when a metric has not improved for more than `patience` epochs.

    The rates follow the metric that `step` is given, so no formula tells them beforehand: `lr_at` knows those of the
    present epoch alone. In a Trainer: `LRSchedulerCallback(..., monitor="val_loss")`.

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
        base_lrs: The rates to start from, one per group, where the optimizer's own are not meant; see LRScheduler.

    Attributes:
        best: The best value of the metric, or None before the first.
        num_bad_epochs: Epochs in a row without an improvement.
        cooldown_counter: Epochs of the cooldown that are left.
        current_lrs: The rates that all reductions so far have led to.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> from lucid_train import nn, optims
    >>> scheduler = ReduceLROnPlateau(optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0), factor=0.5, patience=0)
    >>> for loss in (0.9, 0.8, 0.8):
    ...     scheduler.optimizer.step()
    ...     scheduler.step(loss)
    >>> scheduler.last_lr
    [0.5]
    """

    _progress = ("last_epoch", "base_lrs", "best", "num_bad_epochs", "cooldown_counter", "current_lrs")
    follows_metric = True

    def __init__(
        self,
        optimizer: Any,
        mode: Literal["min", "max"] = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
        *,
        base_lrs: Sequence[float] | None = None,
    ) -> None:
        self.mode: str = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode: str = threshold_mode
        self.cooldown = cooldown
        self.min_lr: Any = min_lr
        self.eps = eps
        self.best: float | None = None
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self.current_lrs: list[float] = []
        super().__init__(optimizer, base_lrs=base_lrs)

    def validate(self) -> None:
        one_of("mode", self.mode, ("min", "max"))
        self.factor = real_number("factor", self.factor, above=0, below=1)
        self.patience = whole_number("patience", self.patience, least=0)
        self.threshold = real_number("threshold", self.threshold, least=0)
        one_of("threshold_mode", self.threshold_mode, ("rel", "abs"))
        self.cooldown = whole_number("cooldown", self.cooldown, least=0)
        self.min_lr = per_group("min_lr", self.min_lr, len(self.base_lrs), least=0)
        self.eps = real_number("eps", self.eps, least=0)
        self.best = None if self.best is None else float(self.best)
        self.num_bad_epochs = whole_number("num_bad_epochs", self.num_bad_epochs, least=0)
        self.cooldown_counter = whole_number("cooldown_counter", self.cooldown_counter, least=0)
        rates = [real_number("current_lrs", rate, least=0) for rate in self.current_lrs]
        self.current_lrs = rates + self.base_lrs[len(rates) :]

    def rates(self, t: int) -> list[float]:
        return list(self.current_lrs)

    def lr_at(self, t: Any) -> Any:
        """Return the rates of the present epoch, the only one whose rates are known.

        Raises:
            TypeError: If `t` is no int.
            ValueError: If it is another epoch.
        """
        if whole_number("t", t, least=0) != self.last_epoch:
            raise ValueError(f"'t' must be {self.last_epoch}, as ReduceLROnPlateau follows a metric: {t}")
        return list(self.current_lrs)

    def step(self, metrics: SupportsFloat) -> None:  # type: ignore[override]  # what it follows has to be given
        """Go on to the next epoch with the metric of this one, and write the rates to the optimizer.

        Args:
            metrics: The metric's value; NaN is no improvement.

        Raises:
            TypeError: If it is no number.
            RuntimeError: If another schedule has been put on the optimizer since.
        """
        if isinstance(metrics, (str, bytes)) or not hasattr(metrics, "__float__"):
            raise TypeError(f"'metrics' must be a number: {metrics!r}")
        value = float(metrics)
        if len(self.optimizer.param_groups) != self._listed:
            self._attend()
        self._meet_new_groups(self.optimizer.param_groups)
        if self._is_better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._go_to(self.last_epoch + 1)

    def _is_better(self, value: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        best = sign * math.inf if self.best is None else self.best
        gain = sign * self.threshold
        limit = best * (1 - gain) if self.threshold_mode == "rel" else best - gain
        return value < limit if self.mode == "min" else value > limit

    def _reduce(self) -> None:
        lowest = spread(self.min_lr, len(self.current_lrs))
        for index, (rate, least) in enumerate(zip(self.current_lrs, lowest, strict=True)):
            reduced = max(rate * self.factor, least)
            if rate - reduced > self.eps:
                self.current_lrs[index] = reduced

    def _meet_new_groups(self, groups: Sequence[Group]) -> None:
        super()._meet_new_groups(groups)
        self.current_lrs += self.base_lrs[len(self.current_lrs) :]

    def _translated(self, state: dict[str, Any]) -> dict[str, Any]:
        if "mode_worse" not in state:
            return state
        every, lowest = state.pop("default_min_lr"), state.pop("min_lrs")
        state["min_lr"] = lowest if every is None else every
        if state["best"] == state.pop("mode_worse"):
            state["best"] = None
        state["current_lrs"] = [float(rate) for rate in state["_last_lr"]]
        return {"base_lrs": list(self.base_lrs), **state}
