"""How a run is set up, as plain JSON, and what differs between two set-ups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import fields, frozen


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
            if mine != other and repr(mine) != repr(other):  # the latter for NaN
                found[f"{label}.{name}"] = f"{label}.{name} is {mine!r} here and {other!r} in the checkpoint"
    if ours.keys() == theirs.keys() and list(ours) != list(theirs):
        order = ", ".join(theirs)
        found["callbacks.order"] = f"callbacks.order is {', '.join(ours)} here and {order} in the checkpoint"
    return found


def is_accepted(name: str, accept: Iterable[str]) -> bool:
    """Return whether a difference is among those that are accepted; a callback's label stands for all of its own."""
    return any(choice in ("all", name) or name.startswith(f"{choice}.") for choice in accept)
