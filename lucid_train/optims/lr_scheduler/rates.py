"""How a learning rate is read from an optimizer and written to it: by what the optimizer can do, not by its type."""

from __future__ import annotations

from lucid_train.arguments import real_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Group = dict[str, Any]


def param_groups(optimizer: Any) -> Sequence[Group]:
    """Return the optimizer's groups, or refuse what is no optimizer.

    Raises:
        TypeError: If there is no `param_groups`, a sequence of dicts with "lr".
        ValueError: If a rate is negative, infinite or NaN.
    """
    groups: Sequence[Group] | None = getattr(optimizer, "param_groups", None)
    if groups is None or isinstance(groups, (str, bytes)) or not hasattr(groups, "__len__"):
        raise TypeError(f"'optimizer' must have param_groups, a sequence of dicts with 'lr': {optimizer!r}")
    for index, group in enumerate(groups):
        if not hasattr(group, "keys") or "lr" not in group:
            raise TypeError(f"'optimizer.param_groups[{index}]' must be a dict with 'lr': {group!r}")
        real_number(f"optimizer.param_groups[{index}]['lr']", group["lr"], least=0)
    return groups


def read_rates(optimizer: Any) -> list[float]:
    """Return the rates that stand in the optimizer now, a fresh list with one float per group."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def write_rate(group: Group, rate: float) -> None:
    """Set the group's rate; a tensor or a 0-d array is filled in place and stays the same object."""
    held = group["lr"]
    if hasattr(held, "fill_"):
        held.fill_(rate)
    elif hasattr(held, "__setitem__"):
        held[()] = rate
    else:
        group["lr"] = rate


def hold_rates(optimizer: Any) -> list[Any]:
    """Return the rates that stand in the optimizer now, to be read as floats later: tensors as copies."""
    return [rate if type(rate) is float else _held(rate) for rate in (g["lr"] for g in optimizer.param_groups)]


def _held(rate: Any) -> Any:
    return rate.detach().clone() if hasattr(rate, "detach") else float(rate)
