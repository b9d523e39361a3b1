"""The parts of a state in a run of many processes: what all have alike is saved once, the rest by each process."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any

from attrs import frozen

from lucid_train.saving.checkpoint.tree import FlatTree, flatten
from lucid_train.validation import check_entries

# What is in every part, whether or not it is alike by chance: it is small, and says where this process stands.
OWN = ("progress", "data", "random", "metrics")
_NESTED = ("extras", "callbacks")


@frozen
class Parted:
    """What the file of the first process says of the others, under "ranks" in its tree.

    Args:
        world_size: How many processes there were.
        save: What the files of one save have in common, and no others.
        differing: The sections that some process has otherwise than the first.
        file: The name of the first process's file, which those of the others follow from.
    """

    world_size: int
    save: str
    differing: list[str]
    file: str


def sections(state: Mapping[str, Any], first_only: Collection[str] = ()) -> dict[str, Any]:
    """Return the parts of a state that may differ from process to process, by name.

    Args:
        state: The state of a run, without its history.
        first_only: The labels of callbacks whose state is that of the first process: they run there alone, or save.
    """
    found = {name: state[name] for name in ("model", "optimizer", *OWN)}
    for name in _NESTED:
        for key, each in state[name].items():
            if name != "callbacks" or key not in first_only:
                found[f"{name}.{key}"] = each
    return {**found, "progress": {**state["progress"], "history": None}}


def joined(state: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a process: that of the first one, with its own sections in place."""
    found = {**state, **{name: dict(state[name]) for name in _NESTED}}
    for name, each in own.items():
        group, _, key = name.partition(".")
        if group in _NESTED:
            found[group][key] = each
        elif name == "progress":
            found[name] = {**each, "history": state["progress"]["history"]}
        else:
            found[name] = each
    return found


def digests(parts: Mapping[str, Any]) -> dict[str, str]:
    """Return a digest of each section that may be the same in all processes; equal ones have the same bits."""
    return {name: digest(flatten(each)) for name, each in parts.items() if name not in OWN}


def digest(flat: FlatTree) -> str:
    """Return the digest of a tree: its structure, its numbers, and the bytes of its arrays."""
    found = sha256(json.dumps(flat.json, sort_keys=True).encode())
    for leaf in flat.leaves:
        found.update(repr((leaf.name, leaf.dtype, leaf.shape)).encode())
        found.update(leaf.data.data)
    return found.hexdigest()


def differing(processes: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """Yield the sections that not all processes have alike, given the digests of each, in rank order."""
    first, *others = processes
    for name, each in first.items():
        if any(other.get(name) != each for other in others):
            yield name


def part_state(rank: int, parted: Parted, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the file of a process has."""
    held = {name: each for name, each in own.items() if name in OWN or name in parted.differing}
    return {"rank": rank, "world_size": parted.world_size, "save": parted.save, "sections": held}


def checked_part(tree: Any, rank: int, parted: Parted) -> dict[str, Any]:
    """Return the sections in the file of a process.

    Raises:
        ValueError: If it is not that of the same save.
    """
    check_entries("the part of a checkpoint", tree, ("rank", "world_size", "save", "sections"))
    if (tree["rank"], tree["world_size"], tree["save"]) != (rank, parted.world_size, parted.save):
        raise ValueError(f"it must be the part of rank {rank} in the same save as the checkpoint: rank {tree['rank']}")
    found = tree["sections"] if isinstance(tree["sections"], Mapping) else {}
    missing = [name for name in (*OWN, *parted.differing) if name not in found]
    if missing:
        raise ValueError(f"it must have all that differs on rank {rank}: {', '.join(missing)}")
    return dict(found)
