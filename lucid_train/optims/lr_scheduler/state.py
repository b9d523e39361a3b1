"""What of a state a schedule takes over, ours or that of the PyTorch scheduler of the same name."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lucid_train.optims.lr_scheduler.base import LRScheduler

# What PyTorch's and Lucid's schedulers keep in their state beside the settings; a pure function needs none of it.
_FOREIGN = {"_step_count", "_is_initial", "_get_lr_called_within_step", "_last_lr", "verbose"}


def own_state(schedule: LRScheduler) -> dict[str, Any]:
    """Return the public attributes of a schedule: its settings and its progress."""
    return plain({name: value for name, value in vars(schedule).items() if name[0] != "_" and name != "optimizer"})


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return a copy that shares no list; tuples become lists, as in JSON."""
    return {name: list(value) if isinstance(value, (list, tuple)) else value for name, value in values.items()}


def agreed(schedule: LRScheduler, state: dict[str, Any], prefer: str | None) -> dict[str, Any]:
    """Return what to take over of `state`; nothing changes yet.

    Raises:
        TypeError: If it is no dict.
        ValueError: If entries are missing, unknown or in conflict, and `prefer` does not say what wins.
    """
    if not hasattr(state, "items"):
        raise TypeError(f"'state' must be a dict: {state!r}")
    own = own_state(schedule)
    state = schedule._translated(plain(dict(state)))
    state = {name: value for name, value in state.items() if name not in _FOREIGN}
    missing, unknown = own.keys() - state.keys(), state.keys() - own.keys()
    if missing or unknown:
        wrong = [f"lacks {name!r}" for name in sorted(missing)] + [f"has {name!r}" for name in sorted(unknown)]
        raise ValueError(f"the state is not one of class {type(schedule).__name__}: it {', '.join(wrong)}")
    differing = [name for name in own if name not in schedule._progress and own[name] != state[name]]
    if differing and prefer is None:
        conflicts = ", ".join(f"{name!r} is {own[name]!r} here and {state[name]!r} there" for name in differing)
        raise ValueError(f"the state contradicts the constructor: {conflicts}; pass prefer= to say which wins")
    return {name: state[name] for name in own if name in schedule._progress or prefer != "constructor"}
