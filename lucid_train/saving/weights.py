"""The weights in a checkpoint, for programs that use what a run has trained."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from lucid_train.saving.checkpoint.directory import read_checkpoint
from lucid_train.saving.checkpoint.format import CheckpointError
from lucid_train.saving.shards import RECIPE, find_shard


def load_weights(
    path: str | os.PathLike[str], which: Literal["best", "last"] = "best", *, name: str | None = None
) -> Any:
    """Return the state of the model in a checkpoint, for its `load_state_dict`. Nothing is written.

    Args:
        path: The directory of a Checkpoint, or one of its files.
        which: In a directory, the "best" checkpoint, which Checkpoint(monitor=...) keeps, or the "last" one.
        name: The name of a model among the run's extras, or the label of a callback that has averaged one, such as
            "WeightAverage"; by default the run's `model`.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it has no such model, naming those that it has, or one that is spread over many processes, of
            which it has only a part.
        CheckpointError: If it is damaged, or not that of a run.

    >>> import tempfile
    >>> from lucid_train import Trainer, nn
    >>> from lucid_train.callbacks import Checkpoint
    >>> directory, model = tempfile.mkdtemp(), nn.Linear(2, 1, rng=0)
    >>> history = Trainer(model=model, callbacks=[Checkpoint(directory)]).fit()
    >>> nn.Linear(2, 1).load_state_dict(load_weights(directory, "last"))
    """
    state = read_checkpoint(path, which=which)
    if not isinstance(state, Mapping) or not isinstance(extras := state.get("extras"), Mapping) or "model" not in state:
        raise CheckpointError(f"{os.fspath(path)} is not the checkpoint of a run")
    averages = _averages(state.get("callbacks"))
    found = state["model"] if name is None else {**averages, **extras}.get(name)
    if found is None and name in averages:
        raise ValueError(f"'name' must be that of weights, and {name} had taken none when the checkpoint was written")
    if found is None:
        what = "model" if name is None else f"extra {name!r}"
        known = f"one of the run's extras, {sorted(extras)}" + (f", or {', '.join(averages)}" if averages else "")
        raise ValueError(f"'name' must be {known}, as it has no {what}: {name!r}")
    if (part := find_shard(found, name or "model")) is not None:
        raise ValueError(f"the weights must be whole, and {part[0]!r} is {part[1]}; {RECIPE}")
    return found


def _averages(callbacks: Any) -> dict[str, Any]:
    """Return the weights that callbacks have averaged, by their labels, from the states of all."""
    states = callbacks if isinstance(callbacks, Mapping) else {}
    return {
        label: each["weights"]
        for label, each in states.items()
        if isinstance(each, Mapping) and {"weights", "averaged"} <= each.keys()
    }
