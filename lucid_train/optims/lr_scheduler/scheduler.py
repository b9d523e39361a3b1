"""LRScheduler: a schedule bound to an optimizer. It counts, writes, and saves a count."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

from attrs import define, evolve, field, fields

from lucid_train.optims.param_groups import (
    Group,
    check_group,
    keeps_copies,
    param_groups,
    place,
    rate_scales,
    read_rates,
    read_value,
    stored_under,
    sync,
    write_value,
)
from lucid_train.protocols import HasParamGroups as Optimizer
from lucid_train.schedules.schedule import Affine, Schedule, check_is_value, listed_times
from lucid_train.validation import check_entries, one_of, real_number, whole_number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")
Rates: TypeAlias = Sequence[float] | None

# One schedule for every group, groups that come later included; or one per group, in order or by the group's "name".
Schedules: TypeAlias = Schedule | Sequence[Schedule] | Mapping[str, Schedule]

# One evaluation of a schedule in a step: its formula, the entry of the groups that it sets, which groups these are, the
# base values and the objects written last of all groups, and what is special: "betas", the groups' scales, or None.
Call: TypeAlias = tuple[Affine, str, Sequence[int], list[float], list[Any], Any]

# A scale up to here cannot make a value overflow, for any base that is not absurd; above it, each value is checked.
_SAFE = 1e200

# A plan that fits no number of groups: the next step checks everything.
ATTENTIVE: tuple[int, list[Call]] = (-1, [])

# Says which of several schedulers was built first.
_serials = count()

WRONG_ORDER = "scheduler.step() was called before optimizer.step(): no update has used the first rate"


class LRScheduler:
    """Set the learning rates of an optimizer to a schedule's values, one `step` at a time.

    The constructor stands at `last_epoch == 0` and writes the values of time 0; after `n` steps `last_epoch == n`. An
    epoch is what one call of `step` stands for. A schedule that starts from a base value leaves it in each group, as
    "initial_lr", where PyTorch and timm look for it too; nothing else is added, nothing is patched.

    At its first step the scheduler warns if a rate was neither the group's "initial_lr" nor the schedule's first value,
    and if `optimizer.step()` was not called before, which is known of optimizers with step hooks or a `step_count`. At
    any step it warns, once, if other code has written a rate since the last one; only Python's floats are compared.

    Args:
        optimizer: Anything with `param_groups`, a sequence of dicts with "lr".
        schedule: A schedule whose lengths are known; or one per group, as a list in the order of the groups or as a
            mapping by their "name".
        last_epoch: The last epoch that is already done. -1 starts from the beginning; with `k` the scheduler stands at
            `k + 1`, for which every base rate has to be known.
        base_lrs: The base rates, one per group. By default each group's "initial_lr", else the rate that it has.

    Raises:
        ValueError: If a base rate is not known, or one that a schedule cannot start from.
        OverflowError: If a rate is beyond the largest float.

    >>> from lucid_train import nn, optims, schedules
    >>> optimizer = optims.SGD(nn.Linear(10, 1).parameters(), lr=0.1)
    >>> scheduler = LRScheduler(optimizer, schedules.Cosine(T_max=95).warmup(5))
    >>> scheduler.last_lr, scheduler.lr_at(5)
    ([0.010000000000000002], [0.1])
    """

    _of: type[Schedule] | None = None
    """The kind of schedule that all schedulers of a class bind, or None."""

    follows_metric = False
    """Whether `step` takes a metric; the rates are then not a function of the epoch."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # the settings of the classes in `names`

    def __init_subclass__(cls, of: type[Schedule] | None = None) -> None:
        """Give a class that binds one kind of schedule that kind's settings, to be read."""
        if of is not None:
            cls._of = of
            # Not by __getattr__: a class that has one reads all of its attributes more slowly.
            for name in (each.name for each in fields(of) if each.init):
                setattr(cls, name, _setting(name))

    def __init__(
        self, optimizer: Optimizer, schedule: Schedules, last_epoch: int = -1, *, base_lrs: Rates = None
    ) -> None:
        self._bind(optimizer, {"lr": schedule}, last_epoch, {} if base_lrs is None else {"lr": base_lrs})

    def _bind(
        self,
        optimizer: Optimizer,
        schedules: Mapping[str, Schedules],
        last_epoch: int,
        bases: Mapping[str, Sequence[float]] | None = None,
        *,
        parts: Sequence[LRScheduler] = (),
    ) -> None:
        """Bind a schedule per key; `parts` are the schedulers, built on the optimizer before, that it is made of."""
        done = whole_number("last_epoch", last_epoch, least=-1)
        groups = param_groups(optimizer, tuple(schedules))
        given = {key: checked_bases(bases_name(key), values) for key, values in (bases or {}).items()}
        for key, each in given.items():
            if len(each) != len(groups):
                what = "rate" if key == "lr" else "value"
                raise ValueError(f"{bases_name(key)!r} must have one {what} per group, {len(groups)}: {each!r}")
        self.optimizer = optimizer
        self.last_epoch: int = done + 1
        self._fraction = 0.0  # how far the present time lies in that epoch, under a schedule that knows of fractions
        self._bindings = tuple(
            Binding.of(key, chosen, groups, given.get(key, []), done) for key, chosen in schedules.items()
        )
        values = self._values(self._bindings, self.last_epoch)
        if not parts:  # else they have said so
            for rise in filter(None, (binding.rise() for binding in self._bindings)):
                warnings.warn(rise, UserWarning, stacklevel=3 if self._of is None else 4)
        self._serial = next(_serials)
        self._trap: str | None = None
        if parts:  # what stood in the groups before the first of them was built is what may surprise
            first = min(parts, key=lambda part: part._serial)
            self._serial, self._trap = first._serial, first._trap
            for part in parts:
                part._stop_watching()
        elif done < 0:
            pairs = zip(self._bindings, values, strict=True)
            found = (binding.trap(groups, start) for binding, start in pairs if binding.key not in given)
            self._trap = next(filter(None, found), None)
        self._watch: UpdateWatch | None = UpdateWatch(optimizer)
        self._go_to(self.last_epoch, values, replaced=given)

    @property
    def schedule(self) -> Schedule | tuple[Schedule, ...]:
        """The schedule of the rates, one for all groups or a tuple with one per group."""
        return self._binding("lr").schedules

    @property
    def schedules(self) -> dict[str, Schedule | tuple[Schedule, ...]]:
        """The schedules of all keys that it sets, "lr" and others."""
        return {binding.key: binding.schedules for binding in self._bindings}

    @property
    def base_lrs(self) -> list[float]:
        """The base rates, a fresh list with one float per group."""
        self._meet_new_groups()
        return list(self._binding("lr").bases)

    @property
    def bases(self) -> dict[str, list[float]]:
        """The base values of all keys that it sets, fresh lists with one float per group."""
        self._meet_new_groups()
        return {binding.key: list(binding.bases) for binding in self._bindings}

    @property
    def last_lr(self) -> list[float]:
        """The rates that the optimizer has now, for the next update, as a fresh list with one float per group."""
        return read_rates(self.optimizer)

    def get_last_lr(self) -> list[float]:
        """Return `last_lr`, under PyTorch's name."""
        return self.last_lr

    @overload
    def lr_at(self, t: int) -> list[float]: ...

    @overload
    def lr_at(self, t: NDArray[np.integer[Any]]) -> NDArray[np.float64]: ...

    def lr_at(self, t: Any) -> Any:
        """Return the rates of any epoch; nothing is written and nothing moves.

        Args:
            t: An epoch, at least 0, or an integer array of shape (n,).

        Returns:
            For an int a list of one float per group; for an array a float64 array of shape (n, groups).

        Raises:
            OverflowError: If a rate is beyond the largest float.
        """
        self._meet_new_groups()
        binding = self._binding("lr")
        if hasattr(t, "__index__") and not getattr(t, "shape", ()):
            return binding.checked_values(whole_number("t", t, least=0), self)
        import numpy as np

        rows = [binding.checked_values(epoch, self) for epoch in listed_times(t)]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(binding.bases))

    def step(self, epoch: float | None = None) -> None:
        """Go on to the next epoch and write its values to the optimizer; call it after `optimizer.step()`.

        Args:
            epoch: The time to go to, which may lie between two epochs; only under a schedule that knows of fractions,
                as WarmRestarts. `lr_at(epoch)` is the rate of any epoch, the constructor's `last_epoch=` stands at one.

        Raises:
            OverflowError: If a value is beyond the largest float. Nothing has changed then.
        """
        groups = self.optimizer.param_groups
        t = self.last_epoch + 1
        try:
            if epoch is None and self._advance(groups, t):
                self.last_epoch = t
                return
            if epoch is not None and not self._is_fractional:
                cure = "lr_at(epoch) is the rate of any epoch, the constructor's last_epoch= stands at one"
                raise TypeError(f"'epoch' must not be given, {cure}: {epoch!r}")
            self._step_attentively(t + self._fraction if epoch is None else real_number("epoch", epoch, least=0))
        except BaseException:
            self._advance(groups, self.last_epoch)  # one key of several may have gone on already
            raise

    def _advance(self, groups: Sequence[Group], t: int) -> bool:
        """Write the values of time `t`; return False, and leave the rest, where anything is unusual.

        Usual are Python's floats that are the objects which were written last: no other code has written since.
        """
        known, calls = self._plan
        if len(groups) != known:
            return False
        for affine, entry, members, bases, written, special in calls:
            try:
                scale, shift = affine(t)
            except OverflowError:
                return False
            if not (0.0 <= scale < _SAFE and 0.0 <= shift < _SAFE):
                return False
            if special is None:
                for index in members:
                    group = groups[index]
                    if group[entry] is not written[index]:
                        return False
                    group[entry] = written[index] = bases[index] * scale + shift
            elif special == "betas":
                for index in members:
                    group = groups[index]
                    betas = group[entry]
                    if betas is not written[index]:
                        return False
                    group[entry] = written[index] = (bases[index] * scale + shift, *betas[1:])
            else:
                for index in members:
                    group = groups[index]
                    if group[entry] is not written[index]:
                        return False
                    group[entry] = written[index] = (bases[index] * scale + shift) * special[index]
        return True

    def _step_attentively(self, t: float) -> None:
        """Take any step: the first one, that of a tensor's rate, or the one after other code has written a value."""
        self._meet_new_groups()
        groups = self.optimizer.param_groups
        values = self._values(self._bindings, t)
        surprises = [self._trap, None if self._stop_watching() else WRONG_ORDER]
        for binding in self._bindings:
            if (found := binding.written_by_others(groups)) is not None:
                surprises.append(f"{found}; {self!r} overwrites it")
        self._trap = None
        self._go_to(t, values)
        if not keeps_copies(self.optimizer):
            self._plan = self._planned(len(groups))
        # Last, so that the step is done where a warning is an error.
        for message in filter(None, surprises):
            warnings.warn(message, UserWarning, stacklevel=3)

    @property
    def _is_fractional(self) -> bool:
        return all(schedule.fractional for binding in self._bindings for schedule in binding.per_group())

    def rescale(self, key: str, value: float) -> float:
        """Multiply the base values of a key by one factor, so that the first group has `value` now; return what it had.

        The schedule goes on from there, and all that it still sets is scaled likewise, but for what it adds to a
        multiple of its base, such as `eta_min`.

        Args:
            key: The key, such as "lr".
            value: The value. A rate is above 0.

        Raises:
            ValueError: If the schedule does not depend on its base, or its present value does not; or if the value is
                out of range. Nothing has changed then, as with an OverflowError.
            OverflowError: If a value is beyond the largest float.
        """
        real_number(key, value, **({"above": 0} if key == "lr" else {}))
        self._meet_new_groups()
        t = self.last_epoch + self._fraction if self._fraction else self.last_epoch
        before = read_value(self.optimizer.param_groups[0], key)
        bindings = [each.rescaled(t, value, self) if each.key == key else each for each in self._bindings]
        values = self._values(bindings, t)
        self._bindings, self._trap = tuple(bindings), None
        self._go_to(t, values, replaced=[key])
        return before

    def settings(self) -> dict[str, Any]:
        """Return the settings of the schedule as plain JSON; of several keys or groups, by key and in a list."""
        if len(self._bindings) == 1 and isinstance(self._bindings[0].schedules, Schedule):
            return self._bindings[0].schedules.settings(resolved=True)
        return {binding.key: binding.mapped(named_settings) for binding in self._bindings}

    def state_dict(self) -> dict[str, Any]:
        """Return the settings, the base values and `last_epoch` as plain JSON; functions are left out."""
        self._meet_new_groups()
        bases = {binding.bases_name: list(binding.bases) for binding in self._bindings}
        between = {"t": self.last_epoch + self._fraction} if self._fraction else {}
        return {**self.settings(), **bases, "last_epoch": self.last_epoch, **between}

    def load_state_dict(self, state: dict[str, Any], *, prefer: str | None = None) -> None:
        """Go on from a state, ours or that of the PyTorch scheduler of the same name, and write its values.

        Args:
            state: What `state_dict` returned.
            prefer: Which side wins where a setting differs: "constructor" or "state". By default such a state is
                refused.

        Raises:
            TypeError: If `state` or an entry is of the wrong kind. Nothing has changed then, as with all of these.
            ValueError: If entries are missing, unknown, out of range or in conflict.
            OverflowError: If a value is beyond the largest float.
        """
        state = checked_state(self, state, prefer)
        own, names = self.settings(), [*(binding.bases_name for binding in self._bindings), "last_epoch"]
        t = real_number("t", state.pop("t", state.get("last_epoch", 0)), least=0) if self._is_fractional else None
        saved = {name: value for name, value in state.items() if name not in names}
        here, there = (own, saved) if prefer == "constructor" else (flat(own), flat(saved))
        found = there | {name: state[name] for name in names if name in state}
        check_entries(f"the state of the {type(self).__name__}", found, [*here, *names])
        if prefer is None:
            check_same(own, saved)
        epoch = whole_number("last_epoch", state["last_epoch"], least=0)
        groups = self.optimizer.param_groups
        bindings = []
        for binding in self._bindings:
            schedules: Schedules = binding.given
            if prefer == "state":
                schedules = evolved(binding.schedules, saved.get(binding.key, saved))
                if isinstance(binding.given, Mapping) and isinstance(schedules, tuple):
                    names = [group["name"] for group in groups]
                    schedules = {**binding.given, **dict(zip(names, schedules, strict=False))}
            bases = checked_bases(binding.bases_name, state[binding.bases_name])
            # A group that the state does not know keeps its own base.
            bindings.append(Binding.of(binding.key, schedules, groups, [*bases, *binding.bases[len(bases) :]]))
        time = epoch if t is None else t
        if int(time) != epoch:
            raise ValueError(f"'t' must lie in epoch {epoch}, the state's 'last_epoch': {time}")
        values = self._values(bindings, time)
        self._bindings, self._trap = tuple(bindings), None
        self._go_to(time, values, replaced=[binding.key for binding in bindings])
        self._stop_watching()

    def __repr__(self) -> str:
        if self._of is None or len(self.schedules) != 1 or not isinstance(self.schedule, Schedule):
            shown = [f"{binding.key}={binding.mapped(lambda each: each)!r}" for binding in self._bindings]
        else:
            shown = [f"{name}={value!r}" for name, value in self.settings().items()]
        return f"{type(self).__name__}({', '.join([*shown, f'last_epoch={self.last_epoch}'])})"

    def __getstate__(self) -> dict[str, Any]:
        # A copy has no watch, and its first step checks everything, as the objects that it holds may be others.
        return {**vars(self), "_watch": None, "_plan": ATTENTIVE, "_bindings": tuple(map(copy, self._bindings))}

    def _binding(self, key: str) -> Binding:
        for binding in self._bindings:
            if binding.key == key:
                return binding
        raise AttributeError(f"{self!r} has no schedule for {key!r}")

    def _meet_new_groups(self) -> None:
        """Take the groups that were added into account, or refuse them; nothing has changed then."""
        groups, known = self.optimizer.param_groups, len(self._bindings[0].bases)
        if len(groups) != known:
            for index in range(known, len(groups)):
                check_group(groups[index], index, [binding.key for binding in self._bindings])
            self._bindings = tuple(
                evolve(Binding.of(each.key, each.given, groups, each.bases), written=each.written)
                for each in self._bindings
            )
            for rise in filter(None, (binding.rise(known) for binding in self._bindings)):
                warnings.warn(rise, UserWarning, stacklevel=4)

    def _values(self, bindings: Iterable[Binding], t: float) -> list[list[float]]:
        return [binding.checked_values(t, self) for binding in bindings]

    def _go_to(self, t: float, values: Sequence[Sequence[float]], *, replaced: Collection[str] = ()) -> None:
        """Stand at time `t` and write its values, for any schedule and any optimizer, and the base values of keys."""
        for binding, each in zip(self._bindings, values, strict=True):
            binding.write(self.optimizer.param_groups, each, binding.key in replaced)
        self.last_epoch = int(t)
        self._fraction = t - self.last_epoch
        self._plan = ATTENTIVE
        sync(self.optimizer)

    def _planned(self, known: int) -> tuple[int, list[Call]]:
        """Return what a usual step needs, or ATTENTIVE if a value is filled in place or stored under several names."""
        calls: list[Call] = []
        for binding in self._bindings:
            entries = {stored_under(group, binding.key) for group in self.optimizer.param_groups}
            if self._fraction or None in binding.written or len(entries) > 1:
                return ATTENTIVE
            calls += [
                (affine, entry, members, binding.bases, binding.written, entry if entry == "betas" else binding.scales)
                for entry in entries
                for affine, members in binding.calls
            ]
        return known, calls

    def _stop_watching(self) -> bool:
        """Return False if it is certain that the optimizer was not stepped since the scheduler was put on it."""
        watch, self._watch = self._watch, None
        return watch is None or watch.close(self.optimizer)


class ParamScheduler(LRScheduler):
    """Set any hyperparameters of an optimizer's groups to the values of schedules.

    Args:
        optimizer: Anything with `param_groups`.
        last_epoch: The last epoch that is already done, or -1; see LRScheduler.
        bases: The base values, by key, one per group. By default each group's "initial_weight_decay" and so on, else
            the value that it has.
        **schedules: A schedule, or one per group, by the key in the groups. "momentum" is the first of the betas where
            a group has them.

    >>> from lucid_train import nn, optims, schedules
    >>> optimizer = optims.SGD(nn.Linear(10, 1).parameters(), lr=0.1, weight_decay=0.01)
    >>> scheduler = ParamScheduler(optimizer, weight_decay=schedules.Step(1, gamma=0.5))
    >>> optimizer.step(); scheduler.step()
    >>> optimizer.param_groups[0]["weight_decay"]
    0.005
    """

    def __init__(
        self,
        optimizer: Optimizer,
        last_epoch: int = -1,
        *,
        bases: Mapping[str, Sequence[float]] | None = None,
        **schedules: Schedules,
    ) -> None:
        check_keys(schedules)
        for key in bases or ():
            if key not in schedules:
                raise ValueError(f"'bases' must be of the keys that have a schedule, {', '.join(schedules)}: {key!r}")
        self._bind(optimizer, schedules, last_epoch, bases)


def check_keys(schedules: Mapping[str, object]) -> None:
    """Refuse what are no keys to be scheduled: none at all, and the betas.

    Raises:
        ValueError: If it is so.
    """
    if not schedules:
        raise ValueError("'schedules' must name at least one key of the groups, as in weight_decay=...: {}")
    if "betas" in schedules:
        raise ValueError(
            f"'schedules' must not have 'betas', write momentum=... for the first of them: {list(schedules)}"
        )


@define(eq=False)
class Binding:
    """What drives one key of the groups.

    Args:
        key: The key.
        schedules: One schedule for all groups, or a tuple with one per group.
        bases: The base values, one per group.
        scales: What the groups' rates are multiplied by, their "lr_scale"; None if no group has one.
        given: The schedules as they were given, in which those of groups may be that are added later.
        written: What each group held after the last `write`; None for what is filled in place.

    Attributes:
        calls: The formula of each distinct schedule, and the groups that it is for.
    """

    key: str
    schedules: Schedule | tuple[Schedule, ...]
    bases: list[float]
    scales: list[float] | None
    given: Schedules
    written: list[Any] = field(factory=list)
    calls: list[tuple[Affine, list[int]]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        members: dict[int, list[int]] = {}
        for index, schedule in enumerate(self.per_group()):
            members.setdefault(id(schedule), []).append(index)
        # Bound once: calling a schedule through its class costs more than the formula.
        self.calls = [(self.per_group()[indices[0]].affine, indices) for indices in members.values()]

    @classmethod
    def of(
        cls, key: str, schedules: Schedules, groups: Sequence[Group], bases: Sequence[float] = (), done: int = -1
    ) -> Binding:
        """Return the binding of a key, or refuse what does not fit.

        Args:
            key: The key.
            schedules: One schedule for all groups, or one per group.
            groups: The groups.
            bases: The base values that are known; the others are found in the groups.
            done: The last epoch already done, or -1.

        Raises:
            ValueError: If schedules, bases and groups do not fit to one another, or a base is not known.
        """
        if len(bases) > len(groups):
            raise ValueError(f"'optimizer' must have the {len(bases)} groups that the schedule knows: {len(groups)}")
        # As timm's schedulers do, for the rate alone.
        scaled = key == "lr" and any("lr_scale" in group for group in groups)
        scales = rate_scales(groups) if scaled else None
        new = cls(key, schedules_per_group(key, schedules, groups), [0.0] * len(groups), scales, schedules)
        for index, schedule in enumerate(new.per_group()):
            known = index < len(bases)
            new.bases[index] = bases[index] if known else _base(key, schedule, groups[index], index, done)
        return new

    def rise(self, known: int = 0) -> str | None:
        """Return a warning that names the groups, from `known` on, whose base is below `eta_min`, if there are any."""
        floors = [(index, schedule.floor, self.bases[index]) for index, schedule in enumerate(self.per_group())][known:]
        # More than the rounding of a float32: a rate of 0.01 may read as 0.0099999998.
        found = [
            f"group {index}, {floor} > {base}" for index, floor, base in floors if floor and floor > base * (1 + 1e-6)
        ]
        if not found:
            return None
        what = "rate" if self.key == "lr" else self.key
        return f"'eta_min' is above the base {what}, from which it rises as in PyTorch, in {', '.join(found)}"

    def rescaled(self, t: float, value: float, owner: object) -> Binding:
        """Return a binding whose base values are multiplied by what makes that of the first group `value` at time `t`.

        Raises:
            ValueError: If nothing does.
        """
        for schedule in self.per_group():
            if schedule.absolute:
                raise ValueError(f"{self.key!r} must not be set, {owner!r} does not depend on a base value")
        factor = growth(self.key, self.per_group()[0], t, self.bases[0], (self.scales or [1.0])[0], value)
        return evolve(self, bases=[base * factor for base in self.bases], written=list(self.written))

    @property
    def bases_name(self) -> str:
        """What the base values are called in a state."""
        return bases_name(self.key)

    def per_group(self) -> Sequence[Schedule]:
        """Return the schedule of each group."""
        return [self.schedules] * len(self.bases) if isinstance(self.schedules, Schedule) else self.schedules

    def mapped(self, function: Callable[[Schedule], T]) -> T | list[T]:
        """Return what a function makes of the schedule of all groups, or a list with that of each group's."""
        schedules = self.schedules
        return function(schedules) if isinstance(schedules, Schedule) else [function(each) for each in schedules]

    def checked_values(self, t: Any, owner: object) -> list[float]:
        """Return the values of time `t`, one per group, or refuse what is none; `owner` is whose they are.

        Raises:
            OverflowError: If a value is beyond the largest float.
            ValueError: If a value is not a number, or a rate below 0.
        """
        values = list(self.bases)
        try:
            for affine, members in self.calls:
                scale, shift = affine(t)
                for index in members:
                    values[index] = self.bases[index] * scale + shift
        except OverflowError:
            values = [math.inf]
        else:
            values = values if self.scales is None else [a * b for a, b in zip(values, self.scales, strict=True)]
        what = "rates" if self.key == "lr" else f"values of {self.key!r}"
        if math.inf in values:
            raise OverflowError(f"the {what} of {owner!r} exceed the largest float in epoch {t}")
        if not all(math.isfinite(value) and (value >= 0.0 or self.key != "lr") for value in values):
            rule = ">= 0 and finite" if self.key == "lr" else "finite"
            raise ValueError(f"the {what} of {owner!r} must be {rule}: {values} in epoch {t}")
        return values

    def write(self, groups: Sequence[Group], values: Sequence[float], replace_bases: bool) -> None:
        """Write values, one per group; a base value is left in a group that lacks it, or in place of its own."""
        initial = f"initial_{self.key}"
        for group, schedule, base in zip(groups, self.per_group(), self.bases, strict=True):
            if not schedule.absolute and (replace_bases or initial not in group):
                group[initial] = base
        self.written = [write_value(group, self.key, value) for group, value in zip(groups, values, strict=True)]

    def written_by_others(self, groups: Sequence[Group]) -> str | None:
        """Return what other code has written since, in words; only Python's floats are compared."""
        for index, (group, ours) in enumerate(zip(groups, self.written, strict=False)):
            entry = stored_under(group, self.key)
            held = group.get(entry)
            if ours is not None and held is not None and held is not ours:
                now, before = (each[0] if entry == "betas" else each for each in (held, ours))
                if type(now) is float and not _is_close(now, before):
                    where = place(group, index)
                    return f"the {self.key!r} of {where} was {before} and is {now} now, other code has written it"
        return None

    def trap(self, groups: Sequence[Group], start: Sequence[float]) -> str | None:
        """Return what is surprising about the value that a group has before the values of time 0, `start`, in words."""
        initial = f"initial_{self.key}"
        for index, (group, schedule, first) in enumerate(zip(groups, self.per_group(), start, strict=True)):
            if initial in group and not schedule.absolute:
                value, base = read_value(group, self.key), float(group[initial])
                if not _is_close(value, base) and not _is_close(value, first):
                    return (
                        f"the {self.key!r} of group {index} was {value}, but its {initial!r}, from which the schedule "
                        f"starts, is {base}; to start from {value}, remove {initial!r} from the group"
                    )
        return None

    def __copy__(self) -> Binding:
        return evolve(self, bases=list(self.bases), written=list(self.written))


def growth(key: str, schedule: Schedule, t: Any, base: float, scale: float, value: float) -> float:
    """Return the factor of a base value with which a schedule, times the group's scale, gives `value` at time `t`.

    Raises:
        ValueError: If there is none, or a rate's base would not stay above 0.
    """
    share, shift = schedule.affine(t)
    if not share * base or not scale:
        now = f"{schedule(t, base) * scale:g} at {t}"
        raise ValueError(f"{key!r} must not be set now, {schedule!r} is {now}, from which nothing can be scaled")
    factor = (value / scale - shift) / (share * base)
    if (key == "lr" and factor < 0) or not factor:
        rule = f"must be > {shift * scale:g}, which {schedule!r} adds to its base" if shift else "must not be set to 0"
        raise ValueError(f"{key!r} {rule}: {value!r}")
    return factor


def bases_name(key: str) -> str:
    """Return what the base values of a key are called in a state."""
    return "base_lrs" if key == "lr" else f"base_{key}"


class UpdateWatch:
    """Tells whether an optimizer has been stepped since a scheduler was put on it, without patching the optimizer.

    With PyTorch's optimizers a step hook tells, which `close` removes; with an optimizer that has a `step_count`, as
    ours do, the count. Of any other optimizer nothing can be known, and nothing is claimed. The hook is removed as well
    when the scheduler is dropped before its first step.
    """

    def __init__(self, optimizer: Any) -> None:
        self._handle: Any = None
        self._stepped = stepped = set[bool]()
        count = getattr(optimizer, "step_count", None)
        self._count = count if isinstance(count, int) else None
        register = getattr(optimizer, "register_step_post_hook", None)
        if self._count is None and callable(register):
            with suppress(AttributeError):  # a wrapper that never called its base's constructor has no list of hooks
                # The optimizer keeps alive what the hook refers to, so that is neither the scheduler nor this watch.
                self._handle = register(lambda *_: stepped.add(True))

    def __del__(self) -> None:
        self._remove_hook()

    def close(self, optimizer: Any) -> bool:
        """Stop watching; return False if it is certain that the optimizer was not stepped meanwhile."""
        if "step" in getattr(optimizer, "__dict__", ()):  # a `step` of the instance's own, which need not tell
            self._remove_hook()
            return True
        if self._count is not None:
            return bool(optimizer.step_count != self._count)
        return not self._remove_hook() or bool(self._stepped)

    def _remove_hook(self) -> bool:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.remove()
        return handle is not None


def schedules_per_group(key: str, schedules: Any, groups: Sequence[Group]) -> Schedule | tuple[Schedule, ...]:
    """Return one schedule for all groups, or a tuple with one per group, or refuse what is neither.

    Raises:
        TypeError: If it is not a schedule, nor schedules.
        ValueError: If the schedules do not fit to the groups, or a length is not known.
    """
    name = "schedule" if key == "lr" else key
    if isinstance(schedules, Mapping):
        names = [group.get("name") for group in groups]
        # It may name groups that are added later.
        if not set(names) <= set(schedules) or len(set(names)) != len(names):
            raise ValueError(f"{name!r} must name the groups, {names}: {list(schedules)}")
        for later in schedules.keys() - set(names):
            check_is_value(schedules[later], f"{name}[{later!r}]")
            schedules[later].check_sized()
        schedules = [schedules[each] for each in names]
    several = isinstance(schedules, (list, tuple))
    if several and len(schedules) != len(groups):
        raise ValueError(f"{name!r} must be one schedule or one per group, {len(groups)}: {len(schedules)}")
    found: tuple[Schedule, ...] = tuple(schedules) if several else (schedules,)
    for index, schedule in enumerate(found):
        check_is_value(schedule, f"{name}[{index}]" if several else name)
        schedule.check_sized()
    return found if several else found[0]


def schedules_sized(schedules: Any, length: int | None, callback: str = "LRSchedulerCallback") -> Any:
    """Return schedules, in the form that they are given in, with their lengths known for a run; `callback` has them.

    Raises:
        ValueError: If a length has to be known and is not.
    """
    if isinstance(schedules, Mapping):
        return {name: schedules_sized(each, length, callback) for name, each in schedules.items()}
    if isinstance(schedules, (list, tuple)):
        return [schedules_sized(each, length, callback) for each in schedules]
    if length is not None:
        return schedules.sized(length)
    if not schedules.is_sized:
        raise ValueError(f"the length of the run must be known for {schedules!r}; pass {callback}(..., length=...)")
    return schedules


def is_sized(schedules: Any) -> bool:
    """Return whether the lengths of schedules, in the form that they are given in, are all known."""
    parts = schedules.values() if isinstance(schedules, Mapping) else schedules
    return all(each.is_sized for each in ([parts] if isinstance(parts, Schedule) else parts))


def _base(key: str, schedule: Schedule, group: Group, index: int, done: int) -> float:
    """Return the base value of a group: what its scheduler has left in it, or what it has now."""
    initial = f"initial_{key}"
    if schedule.absolute:
        return schedule(0)
    if initial in group:
        return float(group[initial])
    value = read_value(group, key)
    if done >= 0:
        what = "'base_lrs' must be given" if key == "lr" else f"{initial!r} must be in group {index}"
        named = "rate" if key == "lr" else key
        raise ValueError(f"{what} with last_epoch={done}: the {named} {value} of group {index} may be a decayed one")
    return value


def _is_close(value: float, other: float) -> bool:
    """Whether two values are one, up to the rounding of a float32: a rate of 0.01 may read as 0.0099999998."""
    return math.isclose(value, other, rel_tol=1e-6)


def _setting(name: str) -> property:
    return property(lambda scheduler: scheduler._binding("lr").mapped(attrgetter(name)))


def named_settings(schedule: Schedule) -> dict[str, Any]:
    """Return the settings of a schedule and the name of its class, with the counts that it was sized to."""
    return {"class": type(schedule).__name__, **schedule.settings(resolved=True)}


def checked_state(scheduler: LRScheduler, state: Any, prefer: str | None) -> dict[str, Any]:
    """Return a state in our form: PyTorch's is known by the entries that only it has, and translated."""
    if prefer is not None:
        one_of("prefer", prefer, ("constructor", "state"))
    if not hasattr(state, "items"):
        raise TypeError(f"'state' must be a dict: {state!r}")
    if "_last_lr" not in state and "_step_count" not in state:
        return dict(state)
    from lucid_train.optims.lr_scheduler.torch_state import translated

    return translated(scheduler, state)


def checked_bases(name: str, value: Any) -> list[float]:
    """Return the rates or other values in a state, one per group, as a new list of floats, or refuse them."""
    rates = name in ("base_lrs", "current_lrs")
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
        raise TypeError(f"{name!r} must be a list with one {'rate' if rates else 'value'} per group: {value!r}")
    least = 0 if rates else None
    return [real_number(f"{name}[{index}]", base, least=least) for index, base in enumerate(value)]


def evolved(value: Any, saved: Any) -> Any:
    """Return a schedule, or a tuple of them, with the settings in a state, as `settings(resolved=True)` gave them.

    Functions, which a state leaves out, stay; what holds no schedule is what the state says.
    """
    if isinstance(value, tuple) and any(isinstance(item, Schedule) for item in value):
        return tuple(evolved(item, each) for item, each in zip(value, saved, strict=True))
    if not isinstance(value, Schedule):
        return saved
    kind = type(value).__name__
    if saved.get("class", kind) != kind:
        raise ValueError(f"the state must be one of a {kind}: {saved['class']!r}")
    if named_settings(value) == {**saved, "class": kind}:
        return value
    given = [each for each in fields(type(value)) if each.init and each.alias in saved]
    return evolve(value, **{str(each.alias): evolved(getattr(value, each.name), saved[each.alias]) for each in given})


def check_same(own: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Refuse settings that differ.

    Raises:
        ValueError: Naming each of them with both values.
    """
    here, there = flat(own), flat(saved)
    differing = [name for name in here if name not in there or here[name] != there[name]]
    if differing:
        conflicts = ", ".join(
            f"{name!r} is {here[name]!r} here and {there.get(name)!r:.80} there" for name in differing
        )
        raise ValueError(f"the state contradicts the constructor: {conflicts}; pass prefer= to say which wins")


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return nested settings by names such as "parts[1].gamma"."""
    if isinstance(value, Mapping):
        inner = {f"{name}.{key}" if name else str(key): item for key, item in value.items()}
    elif isinstance(value, (list, tuple)) and any(isinstance(item, (Mapping, list, tuple)) for item in value):
        inner = {f"{name}[{index}]": item for index, item in enumerate(value)}
    else:
        return {name: list(value) if isinstance(value, tuple) else value}
    return {key: leaf for at, item in inner.items() for key, leaf in flat(item, at).items()}
