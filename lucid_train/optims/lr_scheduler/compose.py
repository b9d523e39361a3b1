"""Schedules made of schedules: one after the other, or each on top of the one before."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

from lucid_train.optims.lr_scheduler.base import LRScheduler
from lucid_train.optims.lr_scheduler.state import agreed
from lucid_train.optims.param_groups import param_groups
from lucid_train.validation import whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from lucid_train.optims.param_groups import Group


class CompositeLR(LRScheduler):
    """The base of the schedules of this module. It takes its parts over: they are asked for rates and never stepped."""

    _progress = ("last_epoch", "base_lrs", "schedulers")

    def __init__(self, optimizer: Any, schedulers: Iterable[LRScheduler], last_epoch: int = -1) -> None:
        param_groups(optimizer)
        done = whole_number("last_epoch", last_epoch, least=-1)
        if not hasattr(schedulers, "__iter__"):
            raise TypeError(f"'schedulers' must be a list of schedulers: {schedulers!r}")
        self._schedulers = tuple(schedulers)
        if not self._schedulers:
            raise ValueError("'schedulers' must hold at least one scheduler: []")
        for index, part in enumerate(self._schedulers):
            name = f"schedulers[{index}]"
            if not isinstance(part, LRScheduler):
                raise TypeError(f"{name!r} must be a scheduler of this library: {part!r}")
            if part.follows_metric:
                raise TypeError(f"{name!r} must not follow a metric: {part!r}")
            if part.optimizer is not optimizer:
                raise ValueError(f"{name!r} must be on the same optimizer as the whole: {part!r}")
            if part.last_epoch not in (0, done + 1):
                raise ValueError(f"{name!r} must not have been stepped: {part!r}")
        super().__init__(optimizer, last_epoch, base_lrs=self._schedulers[0].base_lrs)

    @property
    def schedulers(self) -> tuple[LRScheduler, ...]:
        """The parts."""
        return self._schedulers

    def validate(self) -> None:
        self._linear = all(part._is_linear() and part.base_lrs == self.base_lrs for part in self._schedulers)

    def state_dict(self) -> dict[str, Any]:
        """Return the settings, `base_lrs` and `last_epoch`, and the state of each part but its `last_epoch`."""
        parts = [part.state_dict() for part in self._schedulers]
        for state in parts:
            del state["last_epoch"]
        return {**super().state_dict(), "schedulers": parts}

    def __repr__(self) -> str:
        names = [name for name in super().state_dict() if name != "base_lrs"]
        shown = [repr(list(self._schedulers)), *(f"{name}={getattr(self, name)!r}" for name in names)]
        return f"{type(self).__name__}({', '.join(shown)})"

    def _is_linear(self) -> bool:
        return self._linear

    def _scales(self) -> bool:
        return all(part._scales() for part in self._schedulers)

    def _meet_new_groups(self, groups: Sequence[Group]) -> None:
        for part in self._schedulers:
            part._meet_new_groups(groups)
        super()._meet_new_groups(groups)

    def _agreed(self, state: dict[str, Any], prefer: str | None) -> dict[str, Any]:
        if not hasattr(state, "items"):
            raise TypeError(f"'state' must be a dict: {state!r}")
        parts = state.get("schedulers", state.get("_schedulers"))
        if not isinstance(parts, list) or len(parts) != len(self._schedulers):
            found = f"{len(parts)}" if isinstance(parts, list) else "none"
            raise ValueError(
                f"the state must have as many schedulers as are composed, {len(self._schedulers)}: {found}"
            )
        entries = []
        for index, (part, theirs) in enumerate(zip(self._schedulers, parts, strict=True)):
            try:
                entries.append(part._agreed({**theirs, "last_epoch": part.last_epoch}, prefer))
            except (TypeError, ValueError) as error:
                error.add_note(f"in schedulers[{index}], {part!r}")
                raise
        whole = {name: value for name, value in state.items() if name not in ("schedulers", "_schedulers")}
        # PyTorch's keep less of their own.
        whole.setdefault("base_lrs", entries[0]["base_lrs"])
        whole.setdefault("last_epoch", parts[0].get("last_epoch"))
        return {**agreed(self, whole, prefer), "schedulers": entries}

    def _take(self, entries: dict[str, Any]) -> None:
        own = dict(entries)
        before = [dict(vars(part)) for part in self._schedulers]
        try:
            for part, theirs in zip(self._schedulers, own.pop("schedulers"), strict=True):
                part._take(theirs)
            super()._take(own)
        except BaseException:
            for part, attributes in zip(self._schedulers, before, strict=True):
                vars(part).clear()
                vars(part).update(attributes)
            raise


class SequentialLR(CompositeLR):
    """Run schedules one after the other.

    From `milestones[i - 1]` on, epoch `t` runs at what `schedulers[i]` gives for epoch `t - milestones[i - 1]`: every
    schedule starts from its beginning, with its own base rates, and is as exact as it is alone.

    Build the parts on the optimizer and hand them over; they must not be stepped by themselves any more. For a form
    without milestones see Recipe.

    Args:
        optimizer: The optimizer that all the schedules are on.
        schedulers: The schedules, in their order.
        milestones: The first epochs of all but the first of them: rising, at least 1, one less than schedules.
        last_epoch: The last epoch already done, or -1; see LRScheduler.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> from lucid_train import nn, optims
    >>> from lucid_train.optims.lr_scheduler import ExponentialLR, LinearLR
    >>> optimizer = optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0)
    >>> parts = [LinearLR(optimizer, start_factor=0.5, total_iters=2), ExponentialLR(optimizer, gamma=0.5)]
    >>> scheduler = SequentialLR(optimizer, parts, milestones=[2])
    >>> [scheduler.lr_at(epoch) for epoch in range(5)]
    [[0.5], [0.75], [1.0], [0.5], [0.25]]
    """

    def __init__(
        self, optimizer: Any, schedulers: Iterable[LRScheduler], milestones: Iterable[int], last_epoch: int = -1
    ) -> None:
        if isinstance(milestones, (str, bytes)) or not hasattr(milestones, "__iter__"):
            raise TypeError(f"'milestones' must be a list of epochs: {milestones!r}")
        self.milestones = list(milestones)
        super().__init__(optimizer, schedulers, last_epoch)

    def validate(self) -> None:
        super().validate()
        checked = [whole_number(f"milestones[{i}]", epoch, least=1) for i, epoch in enumerate(self.milestones)]
        if len(checked) != len(self._schedulers) - 1:
            raise ValueError(f"'milestones' must be one less than the {len(self._schedulers)} schedulers: {checked}")
        if any(epoch >= later for epoch, later in pairwise(checked)):
            raise ValueError(f"'milestones' must rise: {checked}")
        self.milestones = checked
        self._starts = [0, *checked]

    def rates(self, t: int) -> list[float]:
        index = bisect_right(self.milestones, t)
        return self._schedulers[index].rates(t - self._starts[index])

    def rates_from(self, base_lrs: Sequence[float], t: int) -> list[float]:
        index = bisect_right(self.milestones, t)
        return self._schedulers[index].rates_from(base_lrs, t - self._starts[index])

    def momenta(self, t: int) -> list[float] | None:
        index = bisect_right(self.milestones, t)
        return self._schedulers[index].momenta(t - self._starts[index])

    def linear(self, t: int) -> tuple[float, float] | None:
        index = bisect_right(self.milestones, t)
        return self._schedulers[index].linear(t - self._starts[index])

    def rates_array(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        import numpy as np

        from lucid_train.optims.lr_scheduler.arrays import long_array_at

        order = None if (t[1:] >= t[:-1]).all() else np.argsort(t, kind="stable")
        ordered = t if order is None else t[order]
        rates = np.empty((t.size, len(self.base_lrs)))
        cuts = [0, *np.searchsorted(ordered, self.milestones).tolist(), t.size]
        for part, start, low, high in zip(self._schedulers, self._starts, cuts, cuts[1:], strict=False):
            if low < high:
                rates[low:high] = long_array_at(part, ordered[low:high] - start)
        if order is None:
            return rates
        placed = np.empty_like(rates)
        placed[order] = rates
        return placed

    def _translated(self, state: dict[str, Any]) -> dict[str, Any]:
        if "_milestones" in state:
            state["milestones"] = list(state.pop("_milestones"))
        return state


class ChainedScheduler(CompositeLR):
    """Let each schedule start from the rates that the one before it gives.

    Epoch `t` runs at `s_n(... s_2(s_1(base_lr, t), t) ..., t)`. Where the rates are a multiple of the base rates, as
    for all but those with `eta_min`, that is the product of the factors in any order. Each part adds its own bound
    and 1 ulp. PyTorch's follows the optimizer's rate instead, from epoch to epoch.

    Args:
        schedulers: The schedules, all on one optimizer; all but the first must depend on their base rates alone, as
            CyclicLR, OneCycleLR and schedules of your own with `rates` do not.
        optimizer: That optimizer; by default the one of the first schedule.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If the schedules are not on one optimizer.

    >>> from lucid_train import nn, optims
    >>> from lucid_train.optims.lr_scheduler import ConstantLR, ExponentialLR
    >>> optimizer = optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0)
    >>> parts = [ConstantLR(optimizer, factor=0.25, total_iters=2), ExponentialLR(optimizer, gamma=0.5)]
    >>> scheduler = ChainedScheduler(parts)
    >>> [scheduler.lr_at(epoch) for epoch in range(4)]
    [[0.25], [0.125], [0.25], [0.125]]
    """

    def __init__(self, schedulers: Iterable[LRScheduler], optimizer: Any = None) -> None:
        parts = tuple(schedulers) if hasattr(schedulers, "__iter__") else schedulers
        if optimizer is None and isinstance(parts, tuple) and parts:
            optimizer = getattr(parts[0], "optimizer", None)
            if optimizer is None:
                raise TypeError(f"'schedulers[0]' must be a scheduler of this library: {parts[0]!r}")
        elif optimizer is None:
            raise ValueError(f"'schedulers' must hold at least one scheduler: {schedulers!r}")
        super().__init__(optimizer, parts)

    def validate(self) -> None:
        super().validate()
        self._first, *self._others = self._schedulers
        for index, part in enumerate(self._others, 1):
            if not part._scales():
                raise TypeError(f"'schedulers[{index}]' must depend on its base rates alone, or come first: {part!r}")

    def rates(self, t: int) -> list[float]:
        if self._linear:
            return self.rates_from(self.base_lrs, t)
        rates = self._schedulers[0].rates(t)
        for part in self._schedulers[1:]:
            rates = part.rates_from(rates, t)
        return rates

    def rates_from(self, base_lrs: Sequence[float], t: int) -> list[float]:
        if self._linear:
            return super().rates_from(base_lrs, t)
        rates = list(base_lrs)
        for part in self._schedulers:
            rates = part.rates_from(rates, t)
        return rates

    def momenta(self, t: int) -> list[float] | None:
        return self._schedulers[0].momenta(t)

    def linear(self, t: int) -> tuple[float, float]:
        slope, offset = self._first.linear(t)  # type: ignore[misc]  # never None where all are linear
        for part in self._others:
            more, base = part.linear(t)  # type: ignore[misc]  # as above
            slope *= more
            offset = offset * more + base
        return slope, offset

    def linear_array(self, t: NDArray[np.int64]) -> tuple[Any, Any] | None:
        slope: Any = 1.0
        offset: Any = 0.0
        for part in self._schedulers:
            line = part.linear_array(t) if self._linear else None
            if line is None:
                return None
            slope, offset = slope * line[0], offset * line[0] + line[1]
        return slope, offset
