"""The base of every schedule: it counts epochs, reads and writes the rates, and keeps the state."""

from __future__ import annotations

import math

from lucid_train.optims.lr_scheduler.ledger import Ledger, starting_rates
from lucid_train.optims.lr_scheduler.order import UpdateWatch
from lucid_train.optims.lr_scheduler.state import agreed, own_state
from lucid_train.optims.param_groups import base_rates, param_groups, read_rates, write_momenta, write_rate
from lucid_train.validation import one_of, whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, overload

    import numpy as np
    from numpy.typing import NDArray

    from lucid_train.optims.param_groups import Group
else:
    overload = callable  # only the checkers read it; importing typing would cost a quarter of an interpreter's start

# A slope up to here cannot make a rate overflow, for any base rate that is not absurd; above it, each rate is checked.
_SAFE = 1e200


class LRScheduler:
    """Set an optimizer's learning rates to a pure function of the epoch.

    A schedule of your own needs one method, `rates`. Everything else follows: `step`, arrays, the state, validation.
    Settings are public attributes, set before the base is called; what they must satisfy stands in `validate`.

    The constructor leaves a fresh optimizer's rates alone where `rates(0)` are the base rates, and stands at
    `last_epoch == 0`; after `n` steps `last_epoch == n`. An epoch is whatever one `step` stands for.

    Args:
        optimizer: Anything with `param_groups`, a sequence of dicts with "lr". It is never patched and gets no keys.
        last_epoch: The last epoch that is already done. -1 starts from the beginning; with `k` the schedule stands
            at `k + 1` and writes that epoch's rates, for which it has to know the base rates.
        base_lrs: The rates that the schedule starts from, one per group. By default each group's "initial_lr" where
            PyTorch has left one, or what an earlier schedule on this optimizer started from if the rate is still the
            one it wrote, or else the rate that the group has now.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> from lucid_train import nn, optims
    >>> class InverseLR(LRScheduler):
    ...     def rates(self, t):
    ...         return [base_lr / (1 + t) for base_lr in self.base_lrs]
    >>> scheduler = InverseLR(optims.SGD(nn.Linear(10, 1).parameters(), lr=0.1))
    >>> scheduler.lr_at(3)
    [0.025]
    """

    _progress: tuple[str, ...] = ("last_epoch", "base_lrs")  # what is no setting: a state sets it in any case
    follows_metric = False  # whether `step` takes a metric; the rates are then no function of the epoch

    def __init__(self, optimizer: Any, last_epoch: int = -1, *, base_lrs: Sequence[float] | None = None) -> None:
        done = whole_number("last_epoch", last_epoch, least=-1)
        param_groups(optimizer)
        self.optimizer = optimizer
        self.last_epoch = done + 1
        self.base_lrs = starting_rates(optimizer, base_lrs, done)
        self._check()
        self._ledger = Ledger.open(self)
        self._go_to(self.last_epoch)
        self._watch: UpdateWatch | None = UpdateWatch(optimizer)
        self.take_care()  # the first step takes the long way and looks at the order

    def rates(self, t: int) -> list[float]:
        """Return the rates of epoch `t`, one per group: the schedule itself, a pure function of `t`.

        The one method that a schedule has to write. `t` is an int of at least 0; `self.base_lrs` holds the base rates,
        one float per group.
        """
        return self.rates_from(self.base_lrs, t)

    def rates_from(self, base_lrs: Sequence[float], t: int) -> list[float]:
        """Return the rates of epoch `t` for other base rates, as a chain of schedules asks for them."""
        line = self.linear(t)
        if line is None:
            raise TypeError(f"{type(self).__name__} must define rates(self, t), the rates of epoch t")
        slope, offset = line
        return [base_lr * slope + offset for base_lr in base_lrs]

    def momenta(self, t: int) -> list[float] | None:
        """Return the momenta of epoch `t`, one per group, or None if the schedule leaves them alone."""
        return None

    def linear(self, t: int) -> tuple[float, float] | None:
        """Return `slope` and `offset` of epoch `t`, both >= 0, with every rate `base_lr * slope + offset`.

        May be written instead of `rates` where the rates are linear in the base rates; `step` then costs a third less.
        """
        return None

    def linear_array(self, t: NDArray[np.int64]) -> tuple[Any, Any] | None:
        """Return `linear` of an array of shape (n,), two arrays of that shape or numbers, or None without a fast way.

        Asked for long arrays only. Overflow may give infinity, which is then refused.
        """
        return None

    def rates_array(self, t: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Return `rates` of an array of shape (n,) as one of shape (n, groups), where they are not linear."""
        return None

    def validate(self) -> None:
        """Refuse settings that are out of range, or bring them into their final form; `base_lrs` stand already."""

    @property
    def last_lr(self) -> list[float]:
        """The rates that the optimizer has now, for the next update: a fresh list, one float per group."""
        return read_rates(self.optimizer)

    def get_last_lr(self) -> list[float]:
        """Return `last_lr`, under PyTorch's name."""
        return self.last_lr

    @overload
    def lr_at(self, t: int) -> list[float]: ...

    @overload
    def lr_at(self, t: NDArray[np.integer[Any]]) -> NDArray[np.float64]: ...  # noqa: F811

    def lr_at(self, t: Any) -> Any:  # noqa: F811  # overload is typing's for the checkers only
        """Return the rates of any epoch; nothing is written and nothing moves.

        Args:
            t: An epoch, at least 0, or an integer array of them, of shape (n,).

        Returns:
            For an int a list of one float per group; for an array a float64 array of shape (n, groups). Up to 65,536
            points each value equals the int's to the last bit; in longer arrays it may be another in the last place.

        Raises:
            TypeError: If `t` is neither an int nor an integer array.
            ValueError: If an epoch is negative, or the array is not one-dimensional.
            OverflowError: If a rate is beyond the largest float.
        """
        self._meet_new_groups(self.optimizer.param_groups)
        if hasattr(t, "__index__") and not getattr(t, "shape", ()):
            return self._rates_checked(whole_number("t", t, least=0))
        from lucid_train.optims.lr_scheduler.arrays import array_at  # which loads numpy

        return array_at(self, t)

    def step(self) -> None:
        """Go on to the next epoch and write its rates to the optimizer; call it after `optimizer.step()`.

        Raises:
            OverflowError: If a rate is beyond the largest float.
            RuntimeError: If another schedule has been put on the optimizer since.
        """
        t = self.last_epoch + 1
        groups = self.optimizer.param_groups
        if len(groups) != self._quick:
            if len(groups) != self._listed or not self._advanced(t, groups):
                self._attend()
                self._go_to(t)
            return
        try:
            line = slope, offset = self.linear(t)  # type: ignore[misc]  # never None where _quick is set
        except OverflowError:
            raise self._overflow(t) from None
        if not 0.0 <= slope < _SAFE:
            self._go_to(t)
            return
        base_lrs = self.base_lrs
        index = 0  # counted by hand: zip and enumerate would make up a third of this method's time
        for group in groups:
            if type(group["lr"]) is float:
                group["lr"] = base_lrs[index] * slope + offset
            else:
                write_rate(group, base_lrs[index] * slope + offset)
            index += 1  # noqa: SIM113
        self.last_epoch = t
        self._ledger.line = line

    def _advanced(self, t: int, groups: Sequence[Group]) -> bool:
        """Take a step of a schedule that lists its rates; return False, with nothing written, if one looks wrong."""
        try:
            rates = self.rates(t)
        except OverflowError:
            raise self._overflow(t) from None
        if len(rates) != len(groups) or not (min(rates) >= 0.0 and sum(rates) < _SAFE):
            return False
        for group, rate in zip(groups, map(float, rates)):  # noqa: B905  # as many, see above; strict costs a fifth
            if type(group["lr"]) is float:
                group["lr"] = rate
            else:
                write_rate(group, rate)
        if (momenta := self.momenta(t)) is not None:
            write_momenta(groups, momenta)
        self.last_epoch = t
        self._ledger.rates, self._ledger.line = rates, None
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return the settings, `base_lrs` and `last_epoch` as plain JSON; attributes with an underscore stay out."""
        return own_state(self)

    def load_state_dict(self, state: dict[str, Any], *, prefer: str | None = None) -> None:
        """Go on from a state, ours or that of the PyTorch scheduler of the same name, and write its rates.

        Args:
            state: What `state_dict` returned.
            prefer: Which side wins where a setting differs: "constructor" or "state". By default such a state is
                refused.

        Raises:
            TypeError: If `state` or an entry is of the wrong kind. Nothing has changed then, as with all of these.
            ValueError: If entries are missing, unknown, out of range or in conflict.
            OverflowError: If a rate is beyond the largest float.
            RuntimeError: If another schedule has been put on the optimizer since.
        """
        self._insist()
        if prefer is not None:
            one_of("prefer", prefer, ("constructor", "state"))
        self._take(self._agreed(state, prefer))
        self._go_to(self.last_epoch)
        self._stop_watching()

    def __repr__(self) -> str:
        shown = {name: value for name, value in self.state_dict().items() if name != "base_lrs"}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_ledger", "_watch")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._watch = None
        self._ledger = Ledger.open(self)

    def _translated(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return a state with what PyTorch's scheduler of the same name leaves unsaid filled in."""
        return state

    def _agreed(self, state: dict[str, Any], prefer: str | None) -> dict[str, Any]:
        return agreed(self, state, prefer)

    def _take(self, entries: dict[str, Any]) -> None:
        before = dict(vars(self))
        try:
            vars(self).update(entries)
            self.last_epoch = whole_number("last_epoch", self.last_epoch, least=0)
            own, theirs = before["base_lrs"], base_rates(self.base_lrs)
            self.base_lrs = theirs + own[len(theirs) :]  # a group that the state does not know keeps its own
            self._meet_new_groups(self.optimizer.param_groups)
            self._check()
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise
        self._ledger.base_lrs = self.base_lrs

    def _meet_new_groups(self, groups: Sequence[Group]) -> None:
        known = len(self.base_lrs)
        if len(groups) < known:
            raise ValueError(f"'optimizer' must have the {known} groups that the schedule knows: {len(groups)}")
        if len(groups) > known:
            param_groups(self.optimizer)
            for group in groups[known:]:
                self.base_lrs.append(float(group["initial_lr" if "initial_lr" in group else "lr"]))
            try:
                self.validate()
            except BaseException:  # the next step has to refuse them as well
                del self.base_lrs[known:]
                raise

    def _check(self) -> None:
        self.validate()
        self._rates_checked(self.last_epoch)

    def take_care(self) -> None:
        """Let the next `step` look whether this schedule still sets the optimizer's rates."""
        self._quick = self._listed = -1

    def _attend(self) -> None:
        """Look at what need not be looked at in every step: whether another schedule took over, and the order."""
        self._insist()
        if self._watch is not None and not self._stop_watching():
            import warnings

            message = "scheduler.step() was called before optimizer.step(): no update has used the first rate"
            warnings.warn(message, UserWarning, stacklevel=3)

    def _insist(self) -> None:
        """Refuse to write over the rates of another schedule."""
        ledger = Ledger.of(self.optimizer)
        if ledger is not None and ledger is not self._ledger:
            other = "another schedule" if ledger.schedule() is None else repr(ledger.schedule())
            raise RuntimeError(f"{type(self).__name__} no longer sets these rates: {other} was put on the optimizer")

    def _stop_watching(self) -> bool:
        watch, self._watch = self._watch, None
        return watch is None or watch.close(self.optimizer)

    def _go_to(self, t: int) -> None:
        """Stand at epoch `t` and write its rates: the long way, for any schedule and any optimizer."""
        self._meet_new_groups(groups := self.optimizer.param_groups)
        rates = self._rates_checked(t)
        for group, rate in zip(groups, rates, strict=True):
            if float(group["lr"]) != rate:
                write_rate(group, rate)
        if (momenta := self.momenta(t)) is not None:
            write_momenta(groups, momenta)
        self.last_epoch = t
        self._ledger.rates, self._ledger.line, self._ledger.place = rates, None, None
        if (sync := getattr(self.optimizer, "_sync_hyperparams", None)) is not None:
            sync()
        # The number of groups for which `step` may take a short way; -1 where more is to be done.
        short = len(groups) if sync is None else -1
        self._quick, self._listed = (short, -1) if self._is_linear() else (-1, short)

    def _scales(self) -> bool:
        # Whether `rates_from` is the schedule for any base rates, so that it may follow another one in a chain.
        return type(self).rates is LRScheduler.rates

    def _is_linear(self) -> bool:
        # A subclass may define `rates` over a `linear` that it inherits; its own word counts.
        ways = "rates", "rates_from", "momenta"
        return all(getattr(type(self), way) is getattr(LRScheduler, way) for way in ways)

    def _rates_checked(self, t: int) -> list[float]:
        try:
            given = self.rates(t)
            if not hasattr(given, "__iter__"):
                raise TypeError(f"{type(self).__name__}.rates must return one rate per group, as a list: {given!r}")
            rates = list(map(float, given))
        except OverflowError:
            raise self._overflow(t) from None
        if len(rates) != len(self.base_lrs):
            raise ValueError(f"{type(self).__name__}.rates must return one rate per group: {rates!r}")
        if not all(0.0 <= rate < math.inf for rate in rates):
            raise self._bad_rates(t, rates)
        return rates

    def _bad_rates(self, t: int, rates: list[float]) -> Exception:
        if any(rate == math.inf for rate in rates):
            return self._overflow(t)
        return ValueError(f"the rates of {self!r} must be >= 0 and finite: {rates} in epoch {t}")

    def _overflow(self, t: int) -> OverflowError:
        return OverflowError(f"the rates of {self!r} exceed the largest float in epoch {t}")
