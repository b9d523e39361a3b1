"""Digests of a step: what went into it and what came out of it, short enough for a line of a log."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from hashlib import sha256
from platform import python_version
from typing import Any

import numpy as np

from lucid_train.events import StepEnd, StepStart
from lucid_train.progress import structure
from lucid_train.recording import values
from lucid_train.saving.checkpoint.tree import flatten
from lucid_train.saving.fingerprint import fingerprint
from lucid_train.saving.parts import digest
from lucid_train.saving.settings import Setup
from lucid_train.training.run import Run
from lucid_train.version import __version__

# 64 bits: two that are equal by chance are not expected in a lifetime of runs.
_LENGTH = 16
_DIGEST = re.compile(f"[0-9a-f]{{{_LENGTH}}}")
# A state is read in parts, so that only a part of it is copied from a device at a time.
_MOST_LEVELS = 4
_LONGEST_TEXT = 200
_MOST_LOOKUPS = 100_000


def before_step(event: StepStart) -> dict[str, Any]:
    """Return digests of what goes into a step, as JSON: its batch, the random generators, and the scheduled numbers."""
    run, state = event.run, event.run.live_state() or {}
    batch = fingerprint(event.batch)
    return {
        "epoch": event.epoch,
        "step": event.step,
        "batch": None if batch is None else batch[:_LENGTH],
        "random": _of_generators(state.get("random", {})),
        "lr": values.pack_rates(run.last_lr),
        "scheduled": values.pack_scheduled(run.scheduled),
    }


def after_step(event: StepEnd) -> dict[str, Any]:
    """Return digests of what comes out of a step, as JSON: its metrics, the weights and the optimizers' states."""
    return {"metrics": values.pack_metrics(event.metrics), **weights(event.run)}


def weights(run: Run) -> dict[str, Any]:
    """Return digests of the model, the optimizer and the extras, as JSON; null where there is none."""
    state = run.live_state() or {}
    extras = {name: _of_state(f"extras.{name}", each) for name, each in state.get("extras", {}).items()}
    return {**{name: _of_state(name, state.get(name)) for name in ("model", "optimizer")}, "extras": extras}


def versions() -> dict[str, str]:
    """Return the versions of what computes: Python, numpy, this library, and PyTorch if it has been imported."""
    found = {"python": python_version(), "numpy": np.__version__, "lucid_train": __version__}
    torch = sys.modules.get("torch")
    return found if torch is None else {**found, "torch": str(torch.__version__)}


def read_digests(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a line of digests says by the names that a comparison shows, in the order in which a step uses them.

    Raises:
        ValueError: If something in it is missing or of the wrong kind.
    """
    return {
        "batch": _read(fields, "batch"),
        **_read_all("generator ", fields, "random"),
        "rate": values.read_rates("lr", fields.get("lr")),
        **values.read_scheduled("scheduled", fields.get("scheduled")),
        **values.read_metrics("metrics", fields.get("metrics")),
        **read_weights(fields),
    }


def read_weights(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `weights` returned, by the names that a comparison shows.

    Raises:
        ValueError: If something in it is missing or of the wrong kind.
    """
    own = {"weights": _read(fields, "model"), "optimizer's state": _read(fields, "optimizer")}
    return {**own, **_read_all("extras.", fields, "extras")}


def read_versions(packed: Any) -> dict[str, str]:
    """Return the versions that a line says.

    Raises:
        ValueError: If they are not an object of short strings.
    """
    found = values.read_json("versions", packed, dict)
    for name, each in found.items():
        if len(name) > _LONGEST_TEXT or len(values.read_json("versions", each, str)) > _LONGEST_TEXT:
            raise ValueError(f"'versions' must be of at most {_LONGEST_TEXT} characters: {each!r:.80}")
    return found


def pack_setup(setup: Mapping[str, Any] | None) -> Any:
    """Return the set-up of a run as JSON that a log can hold."""
    return values.pack_value(setup)


def read_setup(packed: Any) -> Setup | None:
    """Return the set-up that `pack_setup` packed, or None.

    Raises:
        ValueError: If it is not one.
    """
    if packed is None:
        return None
    setup = structure(Setup, values.read_value(packed), "setup")
    for name, groups in setup.optimizers.items():
        entries, keys = sum(map(len, groups)), len({key for group in groups for key in group})
        # Each key is looked up in each group, which takes the square of the time where all have their own.
        if keys * len(groups) > _MOST_LOOKUPS + 10 * entries:
            raise ValueError(f"'setup.optimizers.{name}' must have groups with options of the same names")
    return setup


def _of_generators(states: Mapping[str, Any]) -> dict[str, str]:
    own = {f"own.{name}": state for name, state in states.get("own", {}).items()}
    flat = {**{name: state for name, state in states.items() if name != "own"}, **own}
    return {name: digest(flatten(state))[:_LENGTH] for name, state in flat.items()}


def _of_state(name: str, state: Any) -> str | None:
    """Return the digest of a state. Of an optimizer's, the groups are left out: the rates have a place of their own."""
    if state is None:
        return None
    if isinstance(state, Mapping) and "param_groups" in state:
        state = {key: each for key, each in state.items() if key != "param_groups"}
    found = sha256()
    for path, each in _parts(state, name, 0):
        found.update(digest(flatten({path: each})).encode())
    return found.hexdigest()[:_LENGTH]


def _parts(state: Any, path: str, level: int) -> Iterator[tuple[str, Any]]:
    if isinstance(state, Mapping) and state and level < _MOST_LEVELS:
        for key, each in state.items():
            yield from _parts(each, f"{path}.{key}", level + 1)
    else:
        yield path, state


def _read(fields: Mapping[str, Any], name: str) -> str | None:
    found = fields.get(name)
    if found is None or (isinstance(found, str) and _DIGEST.fullmatch(found)):
        return found
    raise ValueError(f"{name!r} must be a digest, {_LENGTH} hexadecimal digits: {found!r:.80}")


def _read_all(prefix: str, fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = values.read_json(name, fields.get(name), dict)
    return {f"{prefix}{key}": _read(found, key) for key in found}
