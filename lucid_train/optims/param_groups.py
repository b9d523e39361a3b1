"""How an optimizer's parameter groups are read and written: by what the optimizer can do, not by its type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lucid_train.validation import real_number

Group = dict[str, Any]


def param_groups(optimizer: Any, keys: Sequence[str] = ("lr",)) -> Sequence[Group]:
    """Return the optimizer's groups, or refuse what is not an optimizer.

    Args:
        optimizer: Anything with `param_groups`.
        keys: The keys that are going to be written. "momentum" stands for the first of "betas" where there are betas.

    Raises:
        TypeError: If there is no `param_groups`, a sequence of dicts with "lr" and the keys, or a value cannot be set.
        ValueError: If a rate is negative, infinite or NaN.
    """
    groups: Sequence[Group] | None = getattr(optimizer, "param_groups", None)
    if groups is None or isinstance(groups, (str, bytes)) or not hasattr(groups, "__len__"):
        raise TypeError(f"'optimizer' must have param_groups, a sequence of dicts with 'lr': {optimizer!r:.200}")
    for index in range(len(groups)):
        check_group(groups[index], index, keys)
    return groups


def check_group(group: Any, index: int, keys: Sequence[str]) -> None:
    """Refuse a group whose keys cannot be scheduled; see `param_groups`."""
    if not hasattr(group, "keys") or "lr" not in group:
        raise TypeError(f"'optimizer.param_groups[{index}]' must be a dict with 'lr': {group!r}")
    for key in dict.fromkeys(("lr", *keys)):
        name = stored_under(group, key)
        if name not in group:
            raise TypeError(f"'optimizer.param_groups[{index}]' must have {key!r} to be scheduled: {sorted(group)}")
        value = _held(group, name)
        for entry, held in ((name, value), (f"initial_{key}", group.get(f"initial_{key}", 0.0))):
            real_number(f"optimizer.param_groups[{index}][{entry!r}]", held, least=0 if key == "lr" else None)
        if hasattr(value, "__setitem__") and "int" in str(getattr(value, "dtype", "")):
            raise TypeError(f"{key!r} of group {index} must hold floats, it is filled in place: {value!r}")


def stored_under(group: Group, key: str) -> str:
    """Return the entry of the group that holds a value: "betas" for the momentum of optimizers that have betas."""
    return "betas" if key == "momentum" and "betas" in group else key


def read_value(group: Group, key: str) -> float:
    """Return a value as a float; this waits for a tensor's device."""
    return float(_held(group, stored_under(group, key)))


def write_value(group: Group, key: str, value: float) -> Any:
    """Set a value; return what the group holds then, or None for what is filled in place, as tensors and 0-d arrays.

    A number that equals the value already stays the object that it is.
    """
    name = stored_under(group, key)
    held = _held(group, name)
    if hasattr(held, "fill_"):  # not compared: that would wait for a tensor's device
        held.fill_(value)
    elif held != value:
        if hasattr(held, "__setitem__"):
            held[()] = value
        else:
            group[name] = (value, *group[name][1:]) if name == "betas" else value
    return group[name] if type(_held(group, name)) is float else None


def _held(group: Group, name: str) -> Any:
    return group[name][0] if name == "betas" else group[name]


def read_rates(optimizer: Any) -> list[float]:
    """Return the rates that the optimizer has now, a fresh list with one float per group."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def versions(optimizer: Any) -> int | None:
    """Return a number that grows with every change of a parameter, without waiting for a device.

    It is None where that is not known: of parameters that are not PyTorch's, and of optimizers that have a state, as
    most have after their first update.
    """
    try:
        return (
            None
            if optimizer.state
            else sum(each._version for group in optimizer.param_groups for each in group["params"])
        )
    except (AttributeError, KeyError, RuntimeError, TypeError):
        return None


def snapshot_lrs(optimizer: Any) -> list[Any]:
    """Return the rates that the optimizer has now, tensors as copies, so that no device is waited for."""
    return [
        rate if type(rate) is float else rate.detach().clone() if hasattr(rate, "detach") else float(rate)
        for rate in (group["lr"] for group in optimizer.param_groups)
    ]


def numbers_per_group(name: str, value: Any, count: int, **rule: float | None) -> float | list[float]:
    """Return a number as a float, or a list with one per group as a list of floats, or refuse it.

    Args:
        name: The argument's name, for the error.
        value: A number that holds for every group, those added later too, or a list or tuple with one per group.
        count: How many groups there are.
        **rule: What `real_number` takes: least, above, most, below.

    Raises:
        ValueError: If a number is out of bounds, or the list has not one per group.
    """
    if not isinstance(value, (list, tuple)):
        return real_number(name, value, **rule)
    if len(value) != count:
        raise ValueError(f"{name!r} must be one number or one per group, {count}: {value!r}")
    return [real_number(f"{name}[{index}]", number, **rule) for index, number in enumerate(value)]
