"""How a run is set up, as plain JSON, and what differs between two set-ups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lucid_train.callback import Callback

if TYPE_CHECKING:
    from lucid_train.training.run import Run
    from lucid_train.training.trainer import Trainer


def labels(callbacks: Sequence[Callback]) -> list[str]:
    """Return a name for each callback: its class's, with a number from the second of its kind on.

    >>> from lucid_train.callbacks import TerminateOnNaN
    >>> labels([TerminateOnNaN(), TerminateOnNaN()])
    ['TerminateOnNaN', 'TerminateOnNaN#2']
    """
    counts: dict[str, int] = {}
    found = []
    for callback in callbacks:
        name = type(callback).__name__
        counts[name] = counts.get(name, 0) + 1
        found.append(name if counts[name] == 1 else f"{name}#{counts[name]}")
    return found


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
            for label, callback in zip(labels(trainer.callbacks), trainer.callbacks, strict=True)
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


def _same(one: Any, other: Any) -> bool:
    return bool(one == other or repr(one) == repr(other))  # the latter for NaN


def _kind(value: object) -> str | None:
    return None if value is None else type(value).__name__
