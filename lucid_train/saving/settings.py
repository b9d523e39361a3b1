"""How a run is set up, as plain JSON, and what differs between two set-ups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import fields, frozen

from lucid_train.description import plain_settings, short_text

# What the program has set in each group of an optimizer, as plain JSON.
Options = list[dict[str, Any]]


@frozen
class Setup:
    """What a run depends on besides its state, as plain JSON.

    Args:
        epochs: The epoch that it goes on to.
        steps_per_epoch: Steps in an epoch, or None while that is unknown.
        evaluate_every: How often it is evaluated, or None if never.
        world_size: How many processes train it.
        model: The class of the model, or None.
        optimizer: The class of the optimizer, or None.
        optimizers: The options of each optimizer's groups, by "optimizer" or "extras.<name>", as the program set them.
        callbacks: The settings of each callback that runs on all processes, by its label.
    """

    epochs: int
    steps_per_epoch: int | None
    evaluate_every: int | str | None
    world_size: int
    model: str | None
    optimizer: str | None
    optimizers: dict[str, Options]
    callbacks: dict[str, dict[str, Any]]


def options(optimizer: Any) -> Options:
    """Return what the program has set in each group of an optimizer, and how many parameters that has, as plain JSON.

    Of a key that a schedule drives this is the base value, which the group holds as "initial_<key>".
    """
    return [_options(group) for group in optimizer.param_groups]


def groups_in(state: Any) -> list[Mapping[str, Any]]:
    """Return the groups in the state of an optimizer, as far as it has the usual form; [] if it has another."""
    groups = state.get("param_groups") if isinstance(state, Mapping) else None
    return groups if isinstance(groups, list) and all(isinstance(group, Mapping) for group in groups) else []


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: len(value) if name == "params" and hasattr(value, "__len__") else plain_settings(value)
        for name, value in group.items()
        if isinstance(name, str) and not name.startswith("initial_")
    }
    for name in found:
        initial = group.get(f"initial_{driven_key(name)}")
        if initial is not None:
            base = plain_settings(initial)
            found[name] = [base, *found[name][1:]] if isinstance(found[name], list) else base
    return found


def driven_key(name: str) -> str:
    """Return under which name schedules drive an option: the first of the betas is what they call the momentum."""
    return "momentum" if name == "betas" else name


def differences(
    here: Setup,
    there: Setup,
    current: Mapping[str, Sequence[Mapping[str, Any]]],
    places: tuple[str, str] = ("here", "in the checkpoint"),
) -> dict[str, str]:
    """Return what differs between the set-up here and that of a checkpoint: a sentence under each name.

    Args:
        here: The set-up here.
        there: That of the checkpoint.
        current: The groups of each optimizer in the checkpoint, as they were when it was written.
        places: Where each of the two is, in words.
    """
    at, elsewhere = places
    both = {each.name: (getattr(here, each.name), getattr(there, each.name)) for each in fields(Setup)}
    ours, theirs = both.pop("callbacks")
    optimizers, known = both.pop("optimizers")
    found = {
        name: f"{name} is {mine!r} {at} and {other!r} {elsewhere}"
        for name, (mine, other) in both.items()
        if mine != other
    }
    if here.optimizer is None or there.optimizer is None:
        found.pop("optimizer", None)  # it may be a callback's, and be known only when the fit has begun
    if here.epochs > there.epochs:
        found.pop("epochs", None)  # to train longer is to go on
    for name in (name for name in optimizers if name in known):
        found |= differing_options(name, optimizers[name], known[name], current.get(name, ()), places)
    found |= {label: f"{label} is {elsewhere} and not {at}" for label in theirs if label not in ours}
    found |= {label: f"{label} is {at} and not {elsewhere}" for label in ours if label not in theirs}
    for label in (label for label in ours if label in theirs):
        for name in dict.fromkeys([*ours[label], *theirs[label]]):
            mine, other = ours[label].get(name), theirs[label].get(name)
            if _differ(mine, other):
                found[f"{label}.{name}"] = f"{label}.{name} is {mine!r} {at} and {other!r} {elsewhere}"
                if name == "length" and "schedule" in ours[label]:
                    found[f"{label}.{name}"] += f" (its schedule is measured in it: length={other} keeps the curve)"
    if ours.keys() == theirs.keys() and list(ours) != list(theirs):
        order = ", ".join(theirs)
        found["callbacks.order"] = f"callbacks.order is {', '.join(ours)} {at} and {order} {elsewhere}"
    return found


def differing_options(
    name: str,
    here: Options,
    there: Options,
    current: Sequence[Mapping[str, Any]],
    places: tuple[str, str] = ("here", "in the checkpoint"),
) -> dict[str, str]:
    """Return a sentence for each option of an optimizer that differs, under its name."""
    at, elsewhere = places
    come_to = [_options(group) for group in current]
    if len(here) == len(come_to) != len(there):  # the run has added groups, and so has the program that resumes it
        there = come_to
    if len(here) != len(there):
        return {f"{name}.groups": f"{name}.groups is {len(here)} {at} and {len(there)} {elsewhere}"}
    found = {}
    for key in dict.fromkeys(key for group in [*here, *there] for key in group):
        mine, other = ([group.get(key) for group in groups] for groups in (here, there))
        # What the run has come to by itself is no change, and this may be the very optimizer that has trained it.
        usual = [other, [group.get(key) for group in come_to]] if len(come_to) == len(other) else [other]
        if all(any(not _differ(each, one[index]) for one in usual) for index, each in enumerate(mine)):
            continue
        shown = [short_text(each[0] if len(set(map(repr, each))) == 1 else each) for each in (mine, other)]
        found[f"{name}.{key}"] = f"{name}.{key} is {shown[0]} {at} and {shown[1]} {elsewhere}"
    return found


def _differ(one: Any, other: Any) -> bool:
    return bool(one != other) and repr(one) != repr(other)  # the latter for NaN


def is_accepted(name: str, accept: Iterable[str]) -> bool:
    """Return whether a difference is among those that are accepted; a callback's label stands for all of its own."""
    return any(choice in ("all", name) or name.startswith(f"{choice}.") for choice in accept)
