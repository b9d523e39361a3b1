"""The base of the optimizers: groups of parameters, their options and their state."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lucid_train.nn.module import Module, Parameter
from lucid_train.validation import real_number, whole_number

Group: TypeAlias = dict[str, Any]
Params: TypeAlias = Iterable[Parameter | Mapping[str, Any]]

# What a group may carry beside its parameters and the options: a name of the user's, and the rate that PyTorch's
# schedulers keep there and ours read.
_EXTRAS = ("name", "initial_lr")


class Optimizer(ABC):
    """Move parameters along their gradients, group by group, each group with its own options.

    An optimizer of your own writes `check` and `update`, and names in `state_names` what it keeps per parameter.

    Args:
        params: Parameters, or groups as dicts with "params" and any of the options; a group may have a "name" too.
        defaults: The options, "lr" among them, of groups that do not set them themselves.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If there is no parameter, if one comes twice, or if an option is unknown or out of its range.

    >>> class SignSGD(Optimizer):
    ...     def __init__(self, params, lr):
    ...         super().__init__(params, {"lr": lr})
    ...     def check(self, options):
    ...         return {"lr": rate(options["lr"])}
    ...     def update(self, parameter, gradient, group):
    ...         parameter.data -= group["lr"] * np.sign(gradient)
    >>> weight = Parameter([1.0, 2.0])
    >>> optimizer = SignSGD([weight], lr=0.5)
    >>> weight.grad = [-3.0, 0.25]
    >>> optimizer.step()
    >>> weight.data
    array([1.5, 1.5])
    """

    state_names: ClassVar[tuple[str, ...]] = ()
    """What is kept per parameter: arrays of its shape, and under "step" a count."""

    def __init__(self, params: Params, defaults: Mapping[str, Any]) -> None:
        self.defaults = self.check(defaults)
        self.param_groups: list[Group] = []
        self.state: dict[Parameter, dict[str, Any]] = {}
        self._step_count = 0
        for group in _groups(params):
            self.add_param_group(group)

    @abstractmethod
    def check(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of one group in their final form, or refuse them."""

    @abstractmethod
    def update(self, parameter: Parameter, gradient: NDArray[Any], group: Group) -> None:
        """Change `parameter.data` in place; what has to be remembered goes to `self.state[parameter]`."""

    @property
    def step_count(self) -> int:
        """The number of steps that this optimizer has made."""
        return self._step_count

    def step(self) -> None:
        """Update every parameter that has a gradient, at the rate that its group has now."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, parameter.grad, group)
        self._step_count += 1

    def zero_grad(self) -> None:
        """Set every gradient to None; a step without a new one then leaves the parameter alone."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add a group of parameters; the defaults fill in the options that it does not set.

        Args:
            group: A dict with "params". It is copied.

        Raises:
            TypeError: If `group` or something in it is of the wrong kind.
            ValueError: If it has no parameter, or one that is there already, or an option that is unknown or wrong.
        """
        where = f"param_groups[{len(self.param_groups)}]"
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f"{where!r} must be a dict with 'params': {group!r}")
        params = [group["params"]] if isinstance(group["params"], Parameter) else _listed(group["params"])
        known = {parameter for other in self.param_groups for parameter in other["params"]}
        for index, parameter in enumerate(params):
            if not isinstance(parameter, Parameter):
                raise TypeError(f"'params' must hold Parameters; wrap arrays in nn.Parameter: {parameter!r}")
            if parameter in known:
                raise ValueError(f"'params' must hold each Parameter once: number {index} of {where} is there already")
            known.add(parameter)
        extras = {name: group[name] for name in _EXTRAS if name in group}
        if "initial_lr" in extras:
            extras["initial_lr"] = real_number("initial_lr", extras["initial_lr"], least=0)
        self.param_groups.append({"params": params, **self._options(self.defaults | dict(group), where), **extras})

    def state_dict(self) -> dict[str, Any]:
        """Return options and state in PyTorch's form: parameters are numbered through all groups, arrays are copies."""
        numbers = {parameter: number for number, parameter in enumerate(self._parameters())}
        groups = [
            {name: float(value) if name == "lr" else value for name, value in group.items()}
            | {"params": [numbers[parameter] for parameter in group["params"]]}
            for group in self.param_groups
        ]
        state = {
            numbers[parameter]: {name: value if name == "step" else value.copy() for name, value in kept.items()}
            for parameter, kept in self.state.items()
        }
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state: its options and arrays replace the present ones; a 0-d array rate is filled in place.

        Args:
            state: What `state_dict` returned, of an optimizer with as many groups of the same sizes.

        Raises:
            TypeError: If an entry is of the wrong kind.
            ValueError: If entries are missing, unknown, of the wrong size or out of range. Nothing has changed then.
        """
        _same_names("the state", state, ("state", "param_groups"))
        saved = state["param_groups"]
        if len(saved) != len(self.param_groups):
            count = len(self.param_groups)
            raise ValueError(f"the state must have as many groups as the optimizer, {count}: {len(saved)}")
        options, numbers = [], []
        for index, (group, theirs) in enumerate(zip(self.param_groups, saved, strict=True)):
            where = f"param_groups[{index}] of the state"
            _same_names(where, theirs, ("params", *self.defaults), optional=_EXTRAS)
            if len(theirs["params"]) != len(group["params"]):
                count, held = len(group["params"]), len(theirs["params"])
                raise ValueError(f"{where!r} must have {count} parameters, as the optimizer's group: {held}")
            # The rate as a float: an array in the state is the caller's.
            checked = self._options(theirs, where)
            options.append({**checked, "lr": float(checked["lr"])})
            numbers.extend(theirs["params"])
        if not isinstance(state["state"], Mapping):
            raise TypeError(f"'state' in the state must be a dict: {state['state']!r}")
        by_number = dict(zip(numbers, self._parameters(), strict=True))
        unknown = [number for number in state["state"] if number not in by_number]
        if unknown or len(by_number) != len(numbers):
            raise ValueError(f"the state must number its parameters as its groups do, {numbers}: {unknown or numbers}")
        kept = {by_number[number]: self._kept(number, by_number[number], of) for number, of in state["state"].items()}
        for group, theirs in zip(self.param_groups, options, strict=True):
            held = group["lr"]
            group.update(theirs)
            if isinstance(held, np.ndarray):
                held[()] = theirs["lr"]
                group["lr"] = held
        self.state = kept

    def __repr__(self) -> str:
        groups = (
            ", ".join([f"params={len(group['params'])}", *(f"{name}={group[name]!r}" for name in self.defaults)])
            for group in self.param_groups
        )
        return f"{type(self).__name__}({'; '.join(groups)})"

    def _parameters(self) -> list[Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _options(self, group: Mapping[str, Any], where: str) -> dict[str, Any]:
        options = {name: value for name, value in group.items() if name not in ("params", *_EXTRAS)}
        for name in options:
            if name not in self.defaults:
                near = get_close_matches(str(name), self.defaults, n=1)
                cure = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(self.defaults)}"
                raise ValueError(f"{name!r} of {where} is no option of {type(self).__name__}{cure}")
        try:
            return self.check(options)
        except (TypeError, ValueError) as error:
            error.add_note(f"in {where}")
            raise

    def _kept(self, number: Any, parameter: Parameter, entries: Mapping[str, Any]) -> dict[str, Any]:
        where = f"the state of parameter {number}"
        _same_names(where, entries, self.state_names)
        kept: dict[str, Any] = {}
        for name, value in entries.items():
            if name == "step":
                kept[name] = whole_number(name, value, least=0)
                continue
            kept[name] = np.array(value, dtype=parameter.data.dtype)
            if kept[name].shape != parameter.data.shape:
                shapes = f"{parameter.data.shape}: {kept[name].shape}"
                raise ValueError(f"{name!r} in {where} must have the parameter's shape, {shapes}")
        return kept


def rate(value: Any) -> float | NDArray[Any]:
    """Return a rate as a float, or as the 0-d array that it is, so that whoever shares the array can change it.

    Raises:
        TypeError: If `value` is no real number.
        ValueError: If it is negative, infinite or NaN.
    """
    if not isinstance(value, np.ndarray):
        return real_number("lr", value, least=0)
    if value.ndim or value.dtype.kind != "f":
        # An integer array would cut every rate that a schedule writes to a whole number.
        raise TypeError(f"'lr' must be a number or a 0-d array of floats: {value!r}")
    real_number("lr", value, least=0)
    return value


def _groups(params: Params) -> list[Group]:
    items = _listed(params)
    dicts = sum(isinstance(item, dict) for item in items)
    if dicts not in (0, len(items)):
        raise TypeError(f"'params' must hold either Parameters or dicts, not both: {dicts} of {len(items)} are dicts")
    return items if dicts else [{"params": items}]


def _listed(params: Any) -> list[Any]:
    if isinstance(params, Module):
        raise TypeError(f"'params' must be Parameters; pass model.parameters(): {params!r}")
    if isinstance(params, (Parameter, np.ndarray, Mapping, str, bytes)) or not isinstance(params, Iterable):
        raise TypeError(f"'params' must be an iterable of Parameters or dicts; put a single one in a list: {params!r}")
    if isinstance(params, (set, frozenset)):
        raise TypeError(f"'params' must have an order that is the same in every run, so no set: {params!r}")
    items = list(params)
    if not items:
        raise ValueError("'params' must hold at least one Parameter: []")
    return items


def _same_names(where: str, entries: Any, names: Iterable[str], optional: Iterable[str] = ()) -> None:
    if not isinstance(entries, Mapping):
        raise TypeError(f"{where} must be a dict: {entries!r}")
    names = list(names)
    wrong = [f"lacks {name!r}" for name in names if name not in entries]
    wrong += [f"has {name!r}" for name in entries if name not in (*names, *optional)]
    if wrong:
        raise ValueError(f"{where} must have {', '.join(names) or 'no entries'}: it {', '.join(wrong)}")
