"""LRScheduler: a schedule bound to an optimizer. It counts, writes, and saves a count."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from attrs import evolve, fields

from lucid_train.optims.param_groups import (
    Group,
    check_group,
    param_groups,
    read_rates,
    read_value,
    stored_under,
    write_value,
)
from lucid_train.schedules.schedule import Schedule, check_is_value
from lucid_train.validation import one_of, real_number, whole_number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# One schedule for every group, groups that come later included; or one per group, in order or by the group's "name".
Schedules: TypeAlias = Schedule | Sequence[Schedule] | Mapping[str, Schedule]

# A scale up to here cannot make a value overflow, for any base that is not absurd; above it, each value is checked.
_SAFE = 1e200


class LRScheduler:
    """Set the learning rates of an optimizer to a schedule's values, one `step` at a time.

    The constructor stands at `last_epoch == 0` and writes the values of time 0; after `n` steps `last_epoch == n`. An
    epoch is whatever one `step` stands for. A schedule that starts from a base value leaves it in each group, as
    "initial_lr", where PyTorch and timm look for it too; nothing else is added, nothing is patched.

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

    _extras: tuple[str, ...] = ()
    """What a state may have beside settings, base values and `last_epoch`."""

    follows_metric = False
    """Whether `step` takes a metric; the rates are then not a function of the epoch."""

    def __init__(
        self,
        optimizer: Any,
        schedule: Schedules,
        last_epoch: int = -1,
        *,
        base_lrs: Sequence[float] | None = None,
    ) -> None:
        self._bind(optimizer, {"lr": schedule}, last_epoch, base_lrs)

    def _bind(
        self,
        optimizer: Any,
        schedules: Mapping[str, Schedules],
        last_epoch: int,
        base_lrs: Sequence[float] | None = None,
        *,
        parts: Sequence[LRScheduler] = (),
    ) -> None:
        """Bind a schedule per key; `parts` are the schedulers, built on the optimizer before, that it is made of."""
        done = whole_number("last_epoch", last_epoch, least=-1)
        groups = param_groups(optimizer, tuple(schedules))
        self.optimizer = optimizer
        given = None if base_lrs is None else checked_bases("base_lrs", base_lrs)
        if given is not None and len(given) != len(groups):
            raise ValueError(f"'base_lrs' must have one rate per group, {len(groups)}: {base_lrs!r}")
        self._bindings = tuple(
            Binding(key, chosen, groups, done, given if key == "lr" else None) for key, chosen in schedules.items()
        )
        self._trap: str | None = None
        if parts:
            self._trap = parts[0]._trap  # what stood in the groups before the first of them was built
            for part in parts:
                part._stop_watching()
        elif done < 0 and base_lrs is None:
            self._trap = next(filter(None, (binding.trap(groups) for binding in self._bindings)), None)
        self.last_epoch = done + 1
        self._values_checked(self._bindings, self.last_epoch)
        self._watch: UpdateWatch | None = UpdateWatch(optimizer)
        self._attentive = True  # the first step looks at the order, and at what stood in the groups
        self._go_to(self.last_epoch)
        if given is not None:
            self._binding("lr").leave_bases(groups)

    @property
    def schedule(self) -> Any:
        """The schedule of the rates: one for all groups, or a tuple with one per group."""
        return self._binding("lr").schedules

    @property
    def base_lrs(self) -> list[float]:
        """The base rates, a fresh list with one float per group."""
        return list(self._binding("lr").bases)

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
            return self._checked(binding, whole_number("t", t, least=0))
        import numpy as np

        epochs = np.asarray(t)
        if epochs.dtype.kind not in "iu":
            raise TypeError(f"'t' must be an int or an integer array: {t!r}")
        if epochs.ndim != 1 or epochs.min(initial=0) < 0:
            raise ValueError(f"'t' must be {'one-dimensional' if epochs.ndim != 1 else '>= 0'}: {t!r}")
        rows = [self._checked(binding, epoch) for epoch in epochs.tolist()]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(binding.bases))

    def step(self, epoch: None = None) -> None:
        """Go on to the next epoch and write its values to the optimizer; call it after `optimizer.step()`.

        Args:
            epoch: Not to be given. `lr_at(epoch)` is the rate of any epoch, and `last_epoch=` of the constructor stands
                at one.

        Raises:
            OverflowError: If a value is beyond the largest float.
        """
        if epoch is not None:
            cure = "lr_at(epoch) is the rate of any epoch, the constructor's last_epoch= stands at one"
            raise TypeError(f"'epoch' must not be given, {cure}: {epoch!r}")
        t = self.last_epoch + 1
        groups = self.optimizer.param_groups
        if self._plain is not None:
            affine, bases, written = self._plain
            try:
                scale, shift = affine(t)
            except OverflowError:
                return self._step_attentively(t)
            if 0.0 <= scale < _SAFE and 0.0 <= shift < _SAFE and len(groups) == len(written):
                index = 0  # counted by hand: zip and enumerate would make up a third of this method's time
                for group in groups:
                    if group["lr"] is not written[index]:  # somebody else has written since
                        break
                    group["lr"] = written[index] = bases[index] * scale + shift
                    index += 1  # noqa: SIM113
                else:
                    self.last_epoch = t
                    return None
        elif not self._attentive and all(binding.advance(groups, t) for binding in self._bindings):
            self.last_epoch = t
            return None
        return self._step_attentively(t)

    def _step_attentively(self, t: float) -> None:
        """Take a step of an unusual kind: the first one, of a tensor's rate, or after somebody else wrote a value."""
        self._meet_new_groups()
        self._values_checked(self._bindings, t)
        self._attentive = False
        if self._watch is not None:
            if self._trap is not None:
                warnings.warn(self._trap, UserWarning, stacklevel=3)
            if not self._stop_watching():
                message = "scheduler.step() was called before optimizer.step(): no update has used the first rate"
                warnings.warn(message, UserWarning, stacklevel=3)
        self._trap = None
        groups = self.optimizer.param_groups
        for binding in self._bindings:
            if (found := binding.written_by_others(groups)) is not None:
                warnings.warn(f"{found}; {self!r} overwrites it", UserWarning, stacklevel=3)
        self._go_to(t)

    def settings(self) -> dict[str, Any]:
        """Return the settings of the schedule as plain JSON; of several keys or groups, by key and in a list."""
        if len(self._bindings) == 1 and isinstance(self._bindings[0].schedules, Schedule):
            return self._bindings[0].schedules.settings(resolved=True)
        return {binding.key: binding.settings() for binding in self._bindings}

    def state_dict(self) -> dict[str, Any]:
        """Return the settings, the base values and `last_epoch` as plain JSON; functions are left out."""
        return {
            **self.settings(),
            **{b.bases_name: list(b.bases) for b in self._bindings},
            "last_epoch": self.last_epoch,
        }

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
        if prefer is not None:
            one_of("prefer", prefer, ("constructor", "state"))
        if not hasattr(state, "items"):
            raise TypeError(f"'state' must be a dict: {state!r}")
        state = self._translated(dict(state))
        own, names = self.settings(), [*(binding.bases_name for binding in self._bindings), "last_epoch"]
        saved = {name: value for name, value in state.items() if name not in (*names, *self._extras)}
        here, there = (own, saved) if prefer == "constructor" else (flat(own), flat(saved))
        check_names(type(self).__name__, [*here, *names], [*there, *(name for name in names if name in state)])
        bindings = self._bindings
        if prefer == "state":
            bindings = tuple(binding.with_settings(saved, alone=len(bindings) == 1) for binding in bindings)
        elif prefer is None:
            check_same(own, saved)
        epoch = whole_number("last_epoch", state["last_epoch"], least=0)
        groups = self.optimizer.param_groups
        bindings = tuple(b.with_bases(checked_bases(b.bases_name, state[b.bases_name]), groups) for b in bindings)
        place = self._place(state, epoch)
        self._values_checked(bindings, place)
        self._bindings, self._trap = bindings, None
        for binding in bindings:
            binding.leave_bases(groups)
        self._go_to(place)
        self._stop_watching()

    def _place(self, state: Mapping[str, Any], epoch: int) -> float:
        """Return where a state stands: in an epoch, or between two where time is fractional."""
        return epoch

    def _translated(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return a state in our form; PyTorch's is known by the entries that only it has."""
        if "_last_lr" not in state and "_step_count" not in state:
            return state
        from lucid_train.optims.lr_scheduler.torch_state import translated

        return translated(self, state)

    def __getattr__(self, name: str) -> Any:
        # The settings, under the names that they have in PyTorch's schedulers.
        bindings = () if name.startswith("_") else self._bindings
        for binding in bindings:
            schedules = binding.schedules
            values = [getattr(each, name) for each in binding.distinct() if hasattr(each, name)]
            if values:
                return values[0] if isinstance(schedules, Schedule) or len(values) == 1 else values
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        settings = self.settings()
        if any(isinstance(value, (dict, list)) and "class" in str(value) for value in settings.values()):
            shown = [f"{binding.key}={binding.shown()}" for binding in self._bindings]
        else:
            shown = [f"{name}={value!r}" for name, value in settings.items()]
        return f"{type(self).__name__}({', '.join([*shown, f'last_epoch={self.last_epoch}'])})"

    def __getstate__(self) -> dict[str, Any]:
        bindings = tuple(binding.copied() for binding in self._bindings)
        return {**vars(self), "_watch": None, "_bindings": bindings, "_plain": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def _binding(self, key: str) -> Binding:
        return next(binding for binding in self._bindings if binding.key == key)

    def _meet_new_groups(self) -> None:
        """Take the groups that were added into account, or refuse them; nothing has changed then."""
        groups, known = self.optimizer.param_groups, len(self._bindings[0].bases)
        if len(groups) < known:
            raise ValueError(f"'optimizer' must have the {known} groups that the schedule knows: {len(groups)}")
        if len(groups) > known:
            for index in range(known, len(groups)):
                check_group(groups[index], index, [binding.key for binding in self._bindings])
            self._bindings = tuple(binding.with_groups(groups) for binding in self._bindings)

    def _go_to(self, t: float) -> None:
        """Stand at epoch `t` and write its values, for any schedule and any optimizer."""
        groups = self.optimizer.param_groups
        for binding in self._bindings:
            binding.write(groups, binding.values(t))
        self.last_epoch = int(t)
        if (sync := getattr(self.optimizer, "_sync_hyperparams", None)) is not None:
            sync()
        self._attentive = self._attentive or sync is not None
        self._plain = None if self._attentive or len(self._bindings) > 1 else self._bindings[0].plain()

    def _values_checked(self, bindings: Iterable[Binding], t: float) -> None:
        for binding in bindings:
            self._checked(binding, t)

    def _checked(self, binding: Binding, t: float) -> list[float]:
        try:
            values = binding.values(t)
        except OverflowError:
            values = [math.inf]
        if any(value == math.inf for value in values):
            raise OverflowError(f"the {binding.plural} of {self!r} exceed the largest float in epoch {t}")
        if not all(math.isfinite(value) and (value >= 0.0 or binding.key != "lr") for value in values):
            rule = ">= 0 and finite" if binding.key == "lr" else "finite"
            raise ValueError(f"the {binding.plural} of {self!r} must be {rule}: {values} in epoch {t}")
        return values

    def _stop_watching(self) -> bool:
        watch, self._watch = self._watch, None
        return watch is None or watch.close(self.optimizer)


class ParamScheduler(LRScheduler):
    """Set any hyperparameters of an optimizer's groups to the values of schedules.

    Args:
        optimizer: Anything with `param_groups`.
        last_epoch: The last epoch that is already done, or -1; see LRScheduler.
        **schedules: A schedule, or one per group, by the key in the groups. "momentum" is the first of the betas where
            a group has them.

    >>> from lucid_train import nn, optims, schedules
    >>> optimizer = optims.SGD(nn.Linear(10, 1).parameters(), lr=0.1, weight_decay=0.01)
    >>> scheduler = ParamScheduler(optimizer, weight_decay=schedules.Step(1, gamma=0.5))
    >>> optimizer.step(); scheduler.step()
    >>> optimizer.param_groups[0]["weight_decay"]
    0.005
    """

    def __init__(self, optimizer: Any, last_epoch: int = -1, **schedules: Schedules) -> None:
        if not schedules:
            raise ValueError("'schedules' must name at least one key of the groups, as in weight_decay=...: {}")
        self._bind(optimizer, schedules, last_epoch)


class Binding:
    """What drives one key of the groups: the schedules, the base values, and the objects that were written last.

    Args:
        key: The key.
        schedules: One schedule for all groups, or one per group.
        groups: The groups.
        done: The last epoch already done, or -1.
        bases: The base values, where they are given.
    """

    __slots__ = ("_calls", "bases", "entries", "key", "schedules", "written")

    def __init__(
        self, key: str, schedules: Schedules, groups: Sequence[Group], done: int, bases: list[float] | None
    ) -> None:
        self.key = key
        self.schedules = schedules_per_group(key, schedules, groups)
        self.bases: list[float] = [] if bases is None else bases
        self._complete(groups, done)

    @property
    def bases_name(self) -> str:
        """What the base values are called in a state."""
        return "base_lrs" if self.key == "lr" else f"base_{self.key}"

    @property
    def plural(self) -> str:
        """What several values are called, for errors."""
        return "rates" if self.key == "lr" else f"values of {self.key!r}"

    def distinct(self) -> tuple[Schedule, ...]:
        """Return the schedules, or the one of all groups."""
        return (self.schedules,) if isinstance(self.schedules, Schedule) else self.schedules

    def schedule_of(self, index: int) -> Schedule:
        """Return the schedule of a group."""
        return self.schedules if isinstance(self.schedules, Schedule) else self.schedules[index]

    def values(self, t: float) -> list[float]:
        """Return the values of time `t`, one per group."""
        values = list(self.bases)
        for affine, members in self._calls:
            scale, shift = affine(t)
            for index in members:
                values[index] = self.bases[index] * scale + shift
        return values

    def advance(self, groups: Sequence[Group], t: int) -> bool:
        """Write the values of time `t`; return False if something is unusual: the step has to be taken attentively.

        Usual are floats that are the objects which were written last: nobody else has written since.
        """
        written, bases, entries = self.written, self.bases, self.entries
        if len(groups) != len(written):
            return False
        for affine, members in self._calls:
            try:
                scale, shift = affine(t)
            except OverflowError:
                return False
            if not 0.0 <= scale < _SAFE or not 0.0 <= shift < _SAFE:
                return False
            for index in members:
                group, entry = groups[index], entries[index]
                held = group[entry]
                if held is not written[index]:
                    return False
                value = bases[index] * scale + shift
                group[entry] = written[index] = value if entry != "betas" else (value, *held[1:])
        return True

    def plain(self) -> tuple[Callable[[Any], tuple[float, float]], list[float], list[Any]] | None:
        """Return what a step needs in the plain case, the rates of all groups as floats under one schedule, or None."""
        plain = self.key == "lr" and isinstance(self.schedules, Schedule) and None not in self.written
        return (self._calls[0][0], self.bases, self.written) if plain else None

    def write(self, groups: Sequence[Group], values: Sequence[float]) -> None:
        """Write values, one per group, by what each group holds; a value that stands already stays the same object."""
        self.entries = [stored_under(group, self.key) for group in groups]
        self.written: list[Any] = []
        for index, (group, value) in enumerate(zip(groups, values, strict=True)):
            if not self.schedule_of(index).absolute:
                group.setdefault(f"initial_{self.key}", self.bases[index])
            held = group[stored_under(group, self.key)]
            first = held[0] if stored_under(group, self.key) == "betas" else held
            if hasattr(first, "fill_") or read_value(group, self.key) != value:
                held = write_value(group, self.key, value)
                first = held[0] if stored_under(group, self.key) == "betas" else held
            # None is never in a group: what is filled in place, and numbers of other types, take the attentive way.
            self.written.append(held if type(first) is float else None)

    def written_by_others(self, groups: Sequence[Group]) -> str | None:
        """Return what somebody else has written since, in words; only Python's floats are looked at."""
        for index, (group, ours) in enumerate(zip(groups, self.written, strict=False)):
            held: Any = group.get(stored_under(group, self.key))
            if ours is not None and held is not None and held is not ours:
                now, before = (each[0] if isinstance(each, tuple) else each for each in (held, ours))
                if type(now) is float and now != before:
                    return (
                        f"the {self.key!r} of group {index} was {before} and is {now} now, somebody else has written it"
                    )
        return None

    def trap(self, groups: Sequence[Group]) -> str | None:
        """Return what is surprising about the value that a group has before the first step, in words."""
        for index, (group, start) in enumerate(zip(groups, self.values(0), strict=True)):
            value, initial = read_value(group, self.key), f"initial_{self.key}"
            if initial in group and not self.schedule_of(index).absolute:
                base = float(group[initial])
                if not (math.isclose(value, base, rel_tol=1e-6) or math.isclose(value, start, rel_tol=1e-6)):
                    return (
                        f"the {self.key!r} of group {index} was {value}, but its {initial!r}, from which the schedule "
                        f"starts, is {base}; to start from {value}, remove {initial!r} from the group"
                    )
        return None

    def settings(self) -> Any:
        """Return the settings of the schedules, with the name of each one's class."""
        found = [{"class": type(each).__name__, **each.settings(resolved=True)} for each in self.distinct()]
        return found[0] if isinstance(self.schedules, Schedule) else found

    def shown(self) -> str:
        """Return the schedules as one would write them."""
        return repr(self.schedules if isinstance(self.schedules, Schedule) else list(self.schedules))

    def with_settings(self, state: Mapping[str, Any], *, alone: bool) -> Binding:
        """Return the same for the settings in a state."""
        new = self.copied()
        if isinstance(self.schedules, Schedule):
            new.schedules = evolved(self.schedules, state if alone and self.key not in state else state[self.key])
        else:
            pairs = zip(self.schedules, state[self.key], strict=True)
            new.schedules = tuple(evolved(schedule, saved) for schedule, saved in pairs)
        new._bind_calls()
        return new

    def with_bases(self, bases: list[float], groups: Sequence[Group]) -> Binding:
        """Return the same for other base values; a group that they do not include keeps its own."""
        new = self.copied()
        new.bases = bases + self.bases[len(bases) :]
        if len(new.bases) > len(groups):
            raise ValueError(
                f"'optimizer' must have the {len(new.bases)} groups that the schedule knows: {len(groups)}"
            )
        new._complete(groups, -1)
        return new

    def leave_bases(self, groups: Sequence[Group]) -> None:
        """Leave the base values in the groups, in place of those that are there."""
        for index, (group, base) in enumerate(zip(groups, self.bases, strict=True)):
            if not self.schedule_of(index).absolute:
                group[f"initial_{self.key}"] = base

    def with_groups(self, groups: Sequence[Group]) -> Binding:
        """Return the same with the groups that were added."""
        new = self.copied()
        new._complete(groups, -1)
        return new

    def copied(self) -> Binding:
        """Return the same, with lists of its own."""
        new = Binding.__new__(Binding)
        for name in Binding.__slots__:
            value = getattr(self, name, None)
            setattr(new, name, list(value) if isinstance(value, list) else value)
        return new

    def __getstate__(self) -> Any:
        return {name: getattr(self, name) for name in Binding.__slots__ if name != "_calls"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        # A copy holds objects of its own, and which of them were written last is told by their values.
        self._bind_calls()

    def _complete(self, groups: Sequence[Group], done: int) -> None:
        """Find the base values of the groups that have none yet, and bind the schedules' formulas."""
        if isinstance(self.schedules, tuple) and len(self.schedules) != len(groups):
            raise ValueError(f"{self.key!r} must have one schedule per group, {len(groups)}: {len(self.schedules)}")
        for index in range(len(self.bases), len(groups)):
            group, schedule = groups[index], self.schedule_of(index)
            initial = f"initial_{self.key}"
            if schedule.absolute:
                base = schedule(0)
            elif initial in group:
                base = float(group[initial])
            elif done >= 0:
                raise ValueError(
                    f"'base_lrs' must be given with last_epoch={done}: "
                    f"the rate {read_value(group, self.key)} of group {index} may be a decayed one"
                )
            else:
                base = read_value(group, self.key)
            self.bases.append(base)
        what = "rate" if self.key == "lr" else self.key
        for index, base in enumerate(self.bases):
            self.schedule_of(index).check_base(f"the base {what} of group {index}", base)
        self._bind_calls()

    def _bind_calls(self) -> None:
        # Bound once: calling a schedule through its class costs more than the formula.
        if isinstance(self.schedules, Schedule):
            self._calls: list[tuple[Callable[[Any], tuple[float, float]], Sequence[int]]] = [
                (self.schedules.affine, range(len(self.bases)))
            ]
            return
        members: list[tuple[Schedule, list[int]]] = []
        for index, schedule in enumerate(self.schedules):
            same = next((indices for other, indices in members if other is schedule), None)
            if same is None:
                members.append((schedule, [index]))
            else:
                same.append(index)
        self._calls = [(schedule.affine, indices) for schedule, indices in members]


class UpdateWatch:
    """Tells whether an optimizer has been stepped since a scheduler was put on it, without patching the optimizer.

    PyTorch's optimizers tell it by a step hook, removed again by `close`; an optimizer with a `step_count`, as ours
    have, by the count. Of any other optimizer nothing can be known, and nothing is claimed. A scheduler that is dropped
    before its first step takes the watch with it, hook and all.
    """

    def __init__(self, optimizer: Any) -> None:
        self._handle: Any = None
        stepped: set[bool] = set()
        self._stepped = stepped
        count = getattr(optimizer, "step_count", None)
        self._count: int | None = count if isinstance(count, int) else None
        register = getattr(optimizer, "register_step_post_hook", None)
        # A `step` of the instance's own need not call the hooks. What the hook refers to, the optimizer keeps alive:
        # neither the scheduler nor this watch.
        if self._count is None and callable(register) and "step" not in getattr(optimizer, "__dict__", ()):
            try:
                self._handle = register(lambda *_: stepped.add(True))
            except AttributeError:  # a wrapper that never called its base's constructor has no list of hooks
                self._handle = None

    def __del__(self) -> None:
        self._remove_hook()

    def close(self, optimizer: Any) -> bool:
        """Stop watching; return False if it is certain that the optimizer was not stepped meanwhile."""
        replaced = "step" in getattr(optimizer, "__dict__", ())
        if self._remove_hook():
            return replaced or bool(self._stepped)
        return self._count is None or bool(optimizer.step_count != self._count)

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
        if None in names or set(names) != set(schedules) or len(set(names)) != len(names):
            raise ValueError(f"{name!r} must name the groups, {names}: {list(schedules)}")
        schedules = [schedules[each] for each in names]
    if isinstance(schedules, (list, tuple)):
        if len(schedules) != len(groups):
            raise ValueError(f"{name!r} must be one schedule or one per group, {len(groups)}: {len(schedules)}")
        found = tuple(schedules)
        for index, schedule in enumerate(found):
            check_is_value(schedule, f"{name}[{index}]")
            schedule.check_sized()
        return found
    check_is_value(schedules, name)
    schedules.check_sized()
    bound: Schedule = schedules
    return bound


def schedules_sized(schedules: Any, length: int | None) -> Any:
    """Return schedules, in the form that they are given in, with their lengths known for a run.

    Raises:
        ValueError: If a length has to be known and is not.
    """
    if isinstance(schedules, Mapping):
        return {name: schedules_sized(each, length) for name, each in schedules.items()}
    if isinstance(schedules, (list, tuple)):
        return [schedules_sized(each, length) for each in schedules]
    if length is not None:
        return schedules.sized(length)
    if not schedules.is_sized:
        raise ValueError(
            f"the length of the run must be known for {schedules!r}; pass LRSchedulerCallback(..., length=...)"
        )
    return schedules


def checked_bases(name: str, value: Any) -> list[float]:
    """Return base values as a new list of floats, or refuse them."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
        raise TypeError(f"{name!r} must be a list with one rate per group: {value!r}")
    least = 0 if name == "base_lrs" else None
    return [real_number(f"{name}[{index}]", base, least=least) for index, base in enumerate(value)]


def evolved(schedule: Schedule, settings: Mapping[str, Any]) -> Schedule:
    """Return the schedule with the settings in a state, as `settings(resolved=True)` gave them; functions stay."""
    kind = type(schedule).__name__
    if settings.get("class", kind) != kind:
        raise ValueError(f"the state must be one of a {kind}: {settings['class']!r}")
    changes: dict[str, Any] = {}
    for name in (each.name for each in fields(type(schedule)) if each.init):
        value = getattr(schedule, name)
        if name not in settings:
            continue
        if isinstance(value, Schedule):
            changes[name] = evolved(value, settings[name])
        elif isinstance(value, tuple) and any(isinstance(item, Schedule) for item in value):
            pairs = zip(value, settings[name], strict=True)
            changes[name] = tuple(evolved(item, saved) if isinstance(item, Schedule) else item for item, saved in pairs)
        else:
            changes[name] = settings[name]
    return evolve(schedule, **changes)


def check_names(kind: str, expected: Iterable[str], found: Iterable[str]) -> None:
    """Refuse a state whose entries are not those expected.

    Raises:
        ValueError: Naming what is missing and what is unknown.
    """
    expected, found = set(expected), set(found)
    wrong = [f"lacks {name!r}" for name in sorted(expected - found)]
    wrong += [f"has {name!r}" for name in sorted(found - expected)]
    if wrong:
        raise ValueError(f"the state is not one of class {kind}: it {', '.join(wrong)}")


def check_same(own: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Refuse settings that differ.

    Raises:
        ValueError: Naming each of them with both values.
    """
    here, there = flat(own), flat(saved)
    differing = [name for name in here if here[name] != there[name]]
    if differing:
        conflicts = ", ".join(f"{name!r} is {here[name]!r} here and {there[name]!r} there" for name in differing)
        raise ValueError(f"the state contradicts the constructor: {conflicts}; pass prefer= to say which wins")


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings by names such as "parts[1].gamma"."""
    return dict(_leaves(settings, ""))


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)) and any(isinstance(item, (Mapping, list, tuple)) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{name}[{index}]")
    else:
        yield name, list(value) if isinstance(value, tuple) else value
