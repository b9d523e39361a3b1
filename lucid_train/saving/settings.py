"""How a run is set up, as plain JSON, and what differs between two set-ups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import fields, frozen

# Settings in spite of their names, and entries that only say where a scheduler stands.
_SETTINGS = ("_milestones", "_schedule_phases")
_PROGRESS = ("last_epoch", "base_lrs", "best", "num_bad_epochs", "cooldown_counter", "T_cur", "T_i")


@frozen
class Setup:
    """What a run depends on besides its state, as plain JSON.

    Args:
        epochs: The epoch that it goes on to.
        steps_per_epoch: Steps in an epoch, or None while that is unknown.
        evaluate_every: How often it is evaluated, or None if never.
        model: The class of the model, or None.
        optimizer: The class of the optimizer, or None.
        callbacks: The settings of each callback, by its label.
    """

    epochs: int
    steps_per_epoch: int | None
    evaluate_every: int | str | None
    model: str | None
    optimizer: str | None
    callbacks: dict[str, dict[str, Any]]


def differences(here: Setup, there: Setup) -> dict[str, str]:
    """Return what differs between the set-up here and that of a checkpoint: a sentence under each name."""
    both = {each.name: (getattr(here, each.name), getattr(there, each.name)) for each in fields(Setup)}
    ours, theirs = both.pop("callbacks")
    found = {
        name: f"{name} is {mine!r} here and {other!r} in the checkpoint"
        for name, (mine, other) in both.items()
        if mine != other
    }
    if here.optimizer is None or there.optimizer is None:
        found.pop("optimizer", None)  # it may be a callback's, and be known only when the fit has begun
    found |= {label: f"{label} is in the checkpoint and not here" for label in theirs if label not in ours}
    found |= {label: f"{label} is here and not in the checkpoint" for label in ours if label not in theirs}
    for label in (label for label in ours if label in theirs):
        for name in dict.fromkeys([*ours[label], *theirs[label]]):
            mine, other = ours[label].get(name), theirs[label].get(name)
            if not _same(mine, other):
                found[f"{label}.{name}"] = f"{label}.{name} is {mine!r} here and {other!r} in the checkpoint"
    if ours.keys() == theirs.keys() and list(ours) != list(theirs):
        order = ", ".join(theirs)
        found["callbacks.order"] = f"callbacks.order is {', '.join(ours)} here and {order} in the checkpoint"
    return found


def is_accepted(name: str, accept: Iterable[str]) -> bool:
    """Return whether a difference is among those that are accepted; a callback's label stands for all of its own."""
    return any(choice in ("all", name) or name.startswith(f"{choice}.") for choice in accept)


def is_progress(name: str) -> bool:
    """Return whether an entry of a scheduler's state, ours or PyTorch's, is no setting of it."""
    return name in _PROGRESS or (name.startswith("_") and name not in _SETTINGS)


def scheduler_settings(scheduler: Any) -> dict[str, Any]:
    """Return the class of a scheduler and its settings, those of the parts of a composite included."""
    state = scheduler.state_dict() if hasattr(scheduler, "state_dict") else {}
    return {"class": type(scheduler).__name__, **_settings(state)}


def _settings(state: Mapping[str, Any]) -> dict[str, Any]:
    # PyTorch's composites keep the states of their parts under this name, their settings among them.
    names = [name for name in state if name == "_schedulers" or not is_progress(name)]
    return {name: plain for name in names if (plain := _plain(state[name])) is not None}


def _plain(value: Any) -> Any:
    """Return a value as plain JSON, or None if it is not made of numbers and strings."""
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):  # PyTorch's milestones count themselves; a part of a composite has settings
        return _settings({str(name): held for name, held in value.items()})
    if isinstance(value, (list, tuple)):
        return [_plain(held) for held in value]
    return None


def _same(one: Any, other: Any) -> bool:
    return bool(one == other or repr(one) == repr(other))  # the latter for NaN
