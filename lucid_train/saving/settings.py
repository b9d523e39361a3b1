"""How a run is set up, as plain JSON, and what differs between two set-ups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from lucid_train.description import class_labels

if TYPE_CHECKING:
    from lucid_train.training.run import Run
    from lucid_train.training.trainer import Trainer

# Settings in spite of their names, and entries that only say where a scheduler stands.
_SETTINGS = ("_milestones", "_schedule_phases")
_PROGRESS = ("last_epoch", "base_lrs", "best", "num_bad_epochs", "cooldown_counter", "T_cur", "T_i")


def configuration(trainer: Trainer, run: Run, epochs: int) -> dict[str, Any]:
    """Return what a run depends on besides its state: lengths, classes, and the settings of every callback."""
    optimizer = trainer.optimizer if run.optimizer is None else run.optimizer
    return {
        "epochs": epochs,
        "steps_per_epoch": trainer.steps_per_epoch or trainer.passes.length,
        "evaluate_every": None if trainer.evaluate is None else trainer.evaluate_every,
        "model": _kind(trainer.model),
        "optimizer": _kind(optimizer),
        "callbacks": {
            label: callback.settings()
            for label, callback in zip(class_labels(trainer.callbacks), trainer.callbacks, strict=True)
        },
    }


def differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, str]:
    """Return what differs between the set-up here and that of a checkpoint: a sentence under each name."""
    found = {
        name: f"{name} is {here[name]!r} here and {there.get(name)!r} in the checkpoint"
        for name in here
        if name != "callbacks" and not _same(here[name], there.get(name))
    }
    if here["optimizer"] is None or there.get("optimizer") is None:
        found.pop("optimizer", None)  # it may be a callback's, and be known only when the fit has begun
    ours, theirs = here["callbacks"], there["callbacks"]
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


def _kind(value: object) -> str | None:
    return None if value is None else type(value).__name__
