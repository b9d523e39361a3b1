"""How a learning rate is read from an optimizer and written to it: by what the optimizer can do, not by its type."""

from __future__ import annotations

from lucid_train.validation import real_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Group = dict[str, Any]


def param_groups(optimizer: Any) -> Sequence[Group]:
    """Return the optimizer's groups, or refuse what is no optimizer.

    Raises:
        TypeError: If there is no `param_groups`, a sequence of dicts with "lr", or a rate is one that cannot be set.
        ValueError: If a rate is negative, infinite or NaN.
    """
    groups: Sequence[Group] | None = getattr(optimizer, "param_groups", None)
    if groups is None or isinstance(groups, (str, bytes)) or not hasattr(groups, "__len__"):
        raise TypeError(f"'optimizer' must have param_groups, a sequence of dicts with 'lr': {optimizer!r}")
    for index, group in enumerate(groups):
        if not hasattr(group, "keys") or "lr" not in group:
            raise TypeError(f"'optimizer.param_groups[{index}]' must be a dict with 'lr': {group!r}")
        for name in group.keys() & {"lr", "initial_lr"}:
            real_number(f"optimizer.param_groups[{index}][{name!r}]", group[name], least=0)
        if hasattr(group["lr"], "__setitem__") and "int" in str(getattr(group["lr"], "dtype", "")):
            raise TypeError(f"'lr' of group {index} must hold floats, it is filled in place: {group['lr']!r}")
    return groups


def base_rates(value: Any) -> list[float]:
    """Return base rates as a new list of floats, or refuse them.

    Raises:
        TypeError: If `value` is no sequence of numbers.
        ValueError: If a rate is negative, infinite or NaN.
    """
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
        raise TypeError(f"'base_lrs' must be a list with one rate per group: {value!r}")
    return [real_number(f"base_lrs[{index}]", rate, least=0) for index, rate in enumerate(value)]


def read_rates(optimizer: Any) -> list[float]:
    """Return the rates that stand in the optimizer now, a fresh list with one float per group."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def write_rate(group: Group, rate: float) -> None:
    """Set the group's rate; a tensor or a 0-d array is filled in place and stays the same object."""
    held = group["lr"]
    if type(held) is float:  # nearly always, and asking for attributes that are not there is slow
        group["lr"] = rate
    elif hasattr(held, "fill_"):
        held.fill_(rate)
    elif hasattr(held, "__setitem__"):
        held[()] = rate
    else:
        group["lr"] = rate


def write_momenta(groups: Sequence[Group], momenta: Sequence[float]) -> None:
    """Set the momentum of every group, or the first of its betas."""
    for group, momentum in zip(groups, momenta, strict=True):
        if "betas" in group:
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum


def snapshot_lrs(optimizer: Any) -> list[Any]:
    """Return the rates that stand in the optimizer now, to be read as floats later: tensors as copies."""
    return [rate if type(rate) is float else _snapshot(rate) for rate in (g["lr"] for g in optimizer.param_groups)]


def _snapshot(rate: Any) -> Any:
    return rate.detach().clone() if hasattr(rate, "detach") else float(rate)
