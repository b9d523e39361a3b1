"""What schedules have made of an optimizer, remembered outside it, for as long as it lives.

The rate in an optimizer may be one that a schedule wrote. A schedule built anew must not take it for a base rate, and
nothing may be noted in the optimizer itself.
"""

from __future__ import annotations

import math
from weakref import ref

from lucid_train.optims.param_groups import base_rates, read_rates, write_rate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from lucid_train.optims.lr_scheduler.base import LRScheduler
    from lucid_train.optims.param_groups import Group


class Ledger:
    """The base rates that the latest schedule on an optimizer started from, and the rates it wrote last.

    The latter as a list, or, where `step` took a short way, as the line that they lie on, or their place between the
    corners of a cycle.
    """

    __slots__ = ("base_lrs", "line", "owner", "place", "rates", "schedule")

    def __init__(self, schedule: LRScheduler) -> None:
        self.schedule = ref(schedule)
        self.owner: ref[Any] | None = None
        self.base_lrs = schedule.base_lrs
        self.line: tuple[float, float] | None = None
        self.place: tuple[list[float], list[float], float, float] | None = None
        self.rates = read_rates(schedule.optimizer)

    @classmethod
    def open(cls, schedule: LRScheduler) -> Ledger:
        """Return the ledger of `schedule`; the one before it on the optimizer learns that it has been replaced."""
        previous = cls.of(schedule.optimizer)
        if previous is not None and (replaced := previous.schedule()) is not None:
            replaced.take_care()
        ledger = cls(schedule)
        key = id(schedule.optimizer)
        try:
            ledger.owner = ref(schedule.optimizer, lambda _: _ledgers.pop(key, None))
        except TypeError:
            return ledger  # not weakly referable: such an optimizer cannot be remembered
        _ledgers[key] = ledger
        return ledger

    @staticmethod
    def of(optimizer: Any) -> Ledger | None:
        """Return the ledger of the latest schedule on `optimizer`, if there was one."""
        return _ledgers.get(id(optimizer))

    def base_lr(self, index: int, group: Group) -> float | None:
        """Return what a group's rate decayed from, or None if the rate that it has now was set by somebody else."""
        from copy import deepcopy

        if index >= len(self.base_lrs):
            return None
        if self.place is not None:
            low, high, near, far = self.place
            written = low[index] * near + high[index] * far
        elif self.line is None:
            written = self.rates[index]
        else:
            slope, offset = self.line
            written = self.base_lrs[index] * slope + offset
        # A tensor's rate holds what its dtype makes of what was written, be it bfloat16 or 0.
        held = {"lr": deepcopy(group["lr"])}
        write_rate(held, written)
        return self.base_lrs[index] if math.isclose(float(group["lr"]), float(held["lr"]), rel_tol=1e-6) else None


# By identity: optimizers may compare by value, as dataclasses do, and then cannot be hashed.
_ledgers: dict[int, Ledger] = {}


def starting_rates(optimizer: Any, base_lrs: Sequence[float] | None, done: int) -> list[float]:
    """Return the base rates of a new schedule: those given, or what is known of the groups, or the rates they have.

    Raises:
        TypeError: If `base_lrs` is no list of numbers.
        ValueError: If they are not as many as the groups, or unknown to a schedule that has `done` epochs already.
    """
    groups = optimizer.param_groups
    if base_lrs is not None:
        if len(given := base_rates(base_lrs)) != len(groups):
            raise ValueError(f"'base_lrs' must have one rate per group, {len(groups)}: {base_lrs!r}")
        return given
    ledger = Ledger.of(optimizer)
    rates = []
    for index, group in enumerate(groups):
        remembered = None if ledger is None else ledger.base_lr(index, group)
        if "initial_lr" in group:  # PyTorch's schedulers leave it there
            remembered = float(group["initial_lr"])
        if remembered is None and done >= 0:
            raise ValueError(
                f"'base_lrs' must be given with last_epoch={done}: "
                f"the rate {float(group['lr'])} of group {index} may be a decayed one"
            )
        rates.append(float(group["lr"]) if remembered is None else remembered)
    return rates
