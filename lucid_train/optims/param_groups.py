"""How an optimizer's parameter groups are read and written: by what the optimizer can do, not by its type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import field, frozen

from lucid_train.validation import real_number

Group = dict[str, Any]


class AttributeGroup(Group):
    """The attributes of an object, read and written as the entries of a group are.

    What a scheduler leaves in a group for itself, such as "initial_kl_weight", is kept here: the object gets nothing.
    """

    def __init__(self, target: Any) -> None:
        super().__init__()
        self.target = target

    def __contains__(self, name: object) -> bool:
        # An attribute "betas" is no place for a momentum.
        return super().__contains__(name) or (name != "betas" and hasattr(self.target, str(name)))

    def __getitem__(self, name: str) -> Any:
        return getattr(self.target, name)

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("initial_"):
            super().__setitem__(name, value)
        else:
            setattr(self.target, name, value)

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, getattr(self.target, name, default))


@frozen(eq=False)
class Attributes:
    """An object whose attributes are scheduled, in the form of an optimizer with one group.

    Args:
        target: The object.
    """

    target: Any
    param_groups: tuple[AttributeGroup] = field(init=False, repr=False)

    @param_groups.default
    def _group(self) -> tuple[AttributeGroup]:
        return (AttributeGroup(self.target),)


def place(group: Group, index: int) -> str:
    """Return where a value is, in words: "group 0", or "the VAE" of an attribute."""
    return f"the {type(group.target).__name__}" if isinstance(group, AttributeGroup) else f"group {index}"


def identities(optimizer: Any) -> set[int]:
    """Return what two optimizers share if one is a wrapper of the other, or two `Attributes` of one object."""
    if isinstance(optimizer, Attributes):
        return {id(optimizer.target)}
    return {id(optimizer), *map(id, getattr(optimizer, "param_groups", ()))}


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
    if isinstance(group, AttributeGroup):
        _check_attributes(group, keys)
        return
    if not hasattr(group, "keys") or "lr" not in group:
        raise TypeError(f"'optimizer.param_groups[{index}]' must be a dict with 'lr': {group!r}")
    real_number(f"optimizer.param_groups[{index}]['lr_scale']", group.get("lr_scale", 1.0), least=0)
    for key in dict.fromkeys(("lr", *keys)):
        name = stored_under(group, key)
        if name not in group:
            raise TypeError(f"'optimizer.param_groups[{index}]' must have {key!r} to be scheduled: {sorted(group)}")
        value = _held(group, name)
        for entry, held in ((name, value), (f"initial_{key}", group.get(f"initial_{key}", 0.0))):
            real_number(f"optimizer.param_groups[{index}][{entry!r}]", held, least=0 if key == "lr" else None)
        _check_floats(key, value, f"group {index}")


def _check_attributes(group: AttributeGroup, keys: Sequence[str]) -> None:
    where = type(group.target).__name__
    for key in keys:
        if key not in group:
            raise TypeError(f"{where!r} must have {key!r} to be scheduled: {group.target!r:.200}")
        real_number(f"{where}.{key}", group[key])
        _check_floats(key, group[key], place(group, 0))


def _check_floats(key: str, value: Any, where: str) -> None:
    if hasattr(value, "__setitem__") and "int" in str(getattr(value, "dtype", "")):
        raise TypeError(f"{key!r} of {where} must hold floats, it is filled in place: {value!r}")


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


def rate_scales(groups: Sequence[Group]) -> list[float]:
    """Return what the rates of groups are multiplied by, their "lr_scale" as timm's optimizers have it, else 1."""
    return [float(group.get("lr_scale", 1.0)) for group in groups]


def keeps_copies(optimizer: Any) -> bool:
    """Return whether an optimizer has copies of what its groups hold, as Lucid's have, and reads them on request."""
    return getattr(optimizer, "_sync_hyperparams", None) is not None


def sync(optimizer: Any) -> None:
    """Let an optimizer that has copies of what its groups hold read them again; call it after values are written."""
    if keeps_copies(optimizer):
        optimizer._sync_hyperparams()


def _held(group: Group, name: str) -> Any:
    return group[name][0] if name == "betas" else group[name]


def read_rates(optimizer: Any) -> list[float]:
    """Return the rates that the optimizer has now, a fresh list with one float per group."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def snapshot_values(optimizer: Any, key: str) -> list[Any]:
    """Return the values of a key that the groups have now, tensors as copies, so that no device is waited for."""
    return list(map(_snapshot, held_values(optimizer, key)))


def held_values(optimizer: Any, key: str) -> list[Any]:
    """Return the objects that the groups have for a key, of those that have it."""
    names = [(group, stored_under(group, key)) for group in optimizer.param_groups]
    return [_held(group, name) for group, name in names if name in group]


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
        rate if type(rate) is float else _snapshot(rate) for rate in (group["lr"] for group in optimizer.param_groups)
    ]


def _snapshot(value: Any) -> Any:
    return value if type(value) is float else value.detach().clone() if hasattr(value, "detach") else float(value)


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
