"""The base of the optimizers: groups of parameters, their options and their state."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lucid_train.nn.module import Module, Parameter
from lucid_train.validation import check_entries, real_number, whole_number

Group: TypeAlias = dict[str, Any]
Params: TypeAlias = Iterable[Parameter | Mapping[str, Any]]
Rate: TypeAlias = float | NDArray[Any]


class Optimizer(ABC):
    """Move parameters along their gradients, group by group, each group with its own options.

    An optimizer of your own defines `check` and `update`, and lists in `state_names` what it keeps per parameter.

    Args:
        params: Parameters, or groups as dicts with "params" and any of the options. A group may also have a "name",
            an "lr_scale", by which schedulers multiply its rate, and `initial_<option>`, the base value that a
            scheduler keeps there, such as "initial_lr".
        defaults: The options, "lr" among them, for groups that do not set them.

    Raises:
        ValueError: If there are no parameters, if one appears twice, or if an option is unknown.

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
    """What is kept per parameter, as arrays of its shape, and a count under "step"."""

    def __init__(self, params: Params, defaults: Mapping[str, Any]) -> None:
        self.defaults: dict[str, Any] = self.check(defaults)
        self.param_groups: list[Group] = []
        self.state: dict[Parameter, dict[str, Any]] = {}
        self._step_count = 0
        for group in _as_groups(params):
            self.add_param_group(group)

    @abstractmethod
    def check(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Validate the options of one group and return them in their final form."""

    @abstractmethod
    def update(self, parameter: Parameter, gradient: NDArray[Any], group: Group) -> None:
        """Change `parameter.data` in place; what must be kept for the next step goes to `self.state[parameter]`."""

    @property
    def step_count(self) -> int:
        """The number of steps made with this optimizer."""
        return self._step_count

    def step(self) -> None:
        """Update every parameter that has a gradient, at the current rate of its group."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, parameter.grad, group)
        self._step_count += 1

    def zero_grad(self) -> None:
        """Set every gradient to None; a step leaves a parameter without a gradient unchanged."""
        for parameter in self._parameters():
            parameter.grad = None

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add a group of parameters; options that it does not set are taken from the defaults.

        Args:
            group: A dict with "params". It is copied.

        Raises:
            ValueError: If it has no parameters, one that the optimizer already has, or an unknown option.
        """
        where = f"param_groups[{len(self.param_groups)}]"
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f"{where!r} must be a dict with 'params': {group!r}")
        params = [group["params"]] if isinstance(group["params"], Parameter) else _as_list(group["params"])
        known = set(self._parameters())
        for index, parameter in enumerate(params):
            if not isinstance(parameter, Parameter):
                raise TypeError(f"'params' must hold Parameters; wrap arrays in nn.Parameter: {parameter!r}")
            if parameter in known:
                raise ValueError(f"'params' must hold each Parameter once: number {index} of {where} is a duplicate")
            known.add(parameter)
        name = {"name": group["name"]} if "name" in group else {}
        options, bases = self._checked_options(self.defaults | dict(group), where)
        self.param_groups.append({"params": params, **options, **name, **bases})

    def state_dict(self) -> dict[str, Any]:
        """Return the options and the state, in PyTorch's form: parameters as numbers, arrays as copies."""
        numbers = {parameter: number for number, parameter in enumerate(self._parameters())}
        groups = [
            group | {"params": [numbers[parameter] for parameter in group["params"]], "lr": float(group["lr"])}
            for group in self.param_groups
        ]
        state = {
            numbers[parameter]: {name: value if name == "step" else value.copy() for name, value in kept.items()}
            for parameter, kept in self.state.items()
        }
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the options and the arrays by those of a state; a rate that is a 0-d array is filled in place.

        Base values, such as "initial_lr", are replaced too where the state has them. The names of groups stay.

        Args:
            state: What `state_dict` of an optimizer with groups of the same sizes returned.

        Raises:
            ValueError: If entries are missing, unknown, of the wrong size or out of range. Nothing has changed then.
        """
        check_entries(f"the state of the {type(self).__name__}", state, ("state", "param_groups"))
        groups = self._checked_groups(state["param_groups"])
        numbers = [number for group in state["param_groups"] for number in group["params"]]
        if not isinstance(state["state"], Mapping):
            raise TypeError(f"'state' in the state must be a dict: {state['state']!r}")
        by_number = dict(zip(numbers, self._parameters(), strict=True))
        unknown = [number for number in state["state"] if number not in by_number]
        if unknown or len(by_number) != len(numbers):
            raise ValueError(f"the state must number its parameters like its groups, {numbers}: {unknown or numbers}")
        loaded = {
            by_number[number]: self._checked_state(f"the state of parameter {number}", by_number[number], entries)
            for number, entries in state["state"].items()
        }
        # From here on nothing can fail.
        for group, theirs in zip(self.param_groups, groups, strict=True):
            if isinstance(group["lr"], np.ndarray):
                group["lr"][()] = theirs.pop("lr")
            group.update(theirs)
        self.state = loaded

    def __repr__(self) -> str:
        groups = []
        for group in self.param_groups:
            shown = {"params": len(group["params"])} | {name: group[name] for name in self.defaults}
            groups.append(", ".join(f"{name}={value!r}" for name, value in shown.items()))
        return f"{type(self).__name__}({'; '.join(groups)})"

    def _parameters(self) -> list[Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _checked_options(self, group: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, float]]:
        """Return the options of one group in their final form, and the base values of those that have one."""
        given = {name: value for name, value in group.items() if name not in ("params", "name", *self._base_names())}
        for name in given:
            if name not in self.defaults:
                near = get_close_matches(str(name), self.defaults, n=1)
                cure = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(self.defaults)}"
                raise ValueError(f"{name!r} of {where} is not an option of {type(self).__name__}{cure}")
        try:
            return self.check(given), {
                name: real_number(name, group[name], least=0 if name in ("initial_lr", "lr_scale") else None)
                for name in self._base_names()
                if name in group
            }
        except (TypeError, ValueError) as error:
            error.add_note(f"in {where}")
            raise

    def _checked_groups(self, saved: Any) -> list[Group]:
        """Return the options and base values of each group in a state."""
        groups, count = [], len(self.param_groups)
        if len(saved) != count:
            raise ValueError(f"the state must have as many groups as the optimizer, {count}: {len(saved)}")
        for index, (ours, theirs) in enumerate(zip(self.param_groups, saved, strict=True)):
            where = f"param_groups[{index}] of the state"
            check_entries(where, theirs, ("params", *self.defaults), optional=("name", *self._base_names()))
            if len(theirs["params"]) != len(ours["params"]):
                count, found = len(ours["params"]), len(theirs["params"])
                raise ValueError(f"{where!r} must have {count} parameters, as the optimizer's group: {found}")
            options, bases = self._checked_options(theirs, where)
            # The rate as a float: an array in the state belongs to the caller.
            groups.append({**options, **bases, "lr": float(options["lr"])})
        return groups

    def _base_names(self) -> list[str]:
        """Return the keys of what schedulers find in a group: the scale of its rate, and base values of options."""
        names = ["lr_scale", *(f"initial_{option}" for option in self.defaults)]
        # Where there are betas, the first of them is what schedulers call the momentum.
        return [*names, "initial_momentum"] if "betas" in self.defaults else names

    def _checked_state(self, where: str, parameter: Parameter, entries: Mapping[str, Any]) -> dict[str, Any]:
        check_entries(where, entries, self.state_names)
        checked, shape = dict(entries), parameter.data.shape
        for name, value in entries.items():
            if name == "step":
                checked[name] = whole_number(name, value, least=0)
                continue
            checked[name] = array = np.array(value, dtype=parameter.data.dtype)
            if array.shape != shape:
                raise ValueError(f"{name!r} in {where} must have the parameter's shape, {shape}: {array.shape}")
        return checked


def rate(value: Any) -> Rate:
    """Validate a learning rate; return a 0-d array as it is, so that whoever shares it can change the rate.

    Raises:
        TypeError: If `value` is not a real number.
        ValueError: If it is negative, infinite or NaN.
    """
    if isinstance(value, np.ndarray) and (value.ndim or value.dtype.kind != "f"):
        # Writing a rate into an integer array would truncate it.
        raise TypeError(f"'lr' must be a number or a 0-d array of floats: {value!r}")
    number = real_number("lr", value, least=0)
    return value if isinstance(value, np.ndarray) else number


def _as_groups(params: Params) -> list[Group]:
    items = _as_list(params)
    dicts = sum(isinstance(item, dict) for item in items)
    if dicts not in (0, len(items)):
        raise TypeError(f"'params' must hold either Parameters or dicts, not both: {dicts} of {len(items)} are dicts")
    return items if dicts else [{"params": items}]


def _as_list(params: Any) -> list[Any]:
    if isinstance(params, Module):
        raise TypeError(f"'params' must be Parameters; pass model.parameters(): {params!r}")
    if isinstance(params, (Parameter, np.ndarray, Mapping, str, bytes)) or not isinstance(params, Iterable):
        raise TypeError(f"'params' must be an iterable of Parameters or dicts; put a single one in a list: {params!r}")
    if isinstance(params, (set, frozenset)):
        raise TypeError(f"'params' must be ordered, the same in every run, and not a set: {params!r}")
    items = list(params)
    if not items:
        raise ValueError("'params' must hold at least one Parameter: []")
    return items
