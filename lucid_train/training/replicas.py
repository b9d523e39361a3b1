"""What the processes of a run must have alike before it begins, and what may differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from lucid_train.group.exchanges import Exchanges
from lucid_train.progress import structure, unstructure
from lucid_train.saving.settings import Options, Setup, differences
from lucid_train.saving.state import Participants

if TYPE_CHECKING:
    from lucid_train.saving.checkpoint.tree import FlatTree

# So many differences are named.
_MOST = 5
_CURE = "where each process is a run of its own, pass Trainer(group=lucid_train.group.Solo())"


def compare_replicas(
    exchanges: Exchanges, participants: Participants, options: Mapping[str, Options], position: list[Any]
) -> bool:
    """Check that all processes are about to train the same run, and return whether some have weights of their own.

    DistributedDataParallel keeps the parameters the same. What a module counts beside them may differ, such as the
    running means of a batch normalisation: each process saves its own.

    Args:
        exchanges: The processes.
        participants: What takes part in the run here.
        options: The options of the optimizers, as the program has set them.
        position: Where the run stands.

    Raises:
        ValueError: On all processes, naming what differs: the place in the run, the settings, the names, types and
            shapes of what is trained, or the weights of a model that averages its gradients.
    """
    from lucid_train.saving.checkpoint.tree import flatten
    from lucid_train.saving.parts import digest

    objects = participants.objects()
    flat = {name: flatten(objects[name]) for name in ("model", "optimizer", "extras")}
    layout = [f"{name}.{text}" for name, each in flat.items() for text in _layout(each)]
    setup = unstructure(participants.setup(options, resumed=True))
    own = {
        "position": position,
        "setup": _digest([setup, list(setup["callbacks"])]),
        "layout": _digest(layout),
        "weights": digest(flat["model"]) + digest(flat["extras"]),
        "replicas": digest(flatten(_replicated(participants))),
    }
    given = exchanges.exchange("at FitStart", own)
    _check_alike("position", given, "stand at the same epoch, step and phase")
    if _differing("setup", given) is not None:
        found = exchanges.exchange("comparing their settings", setup)
        # The one with fewer epochs first: that the other has more would be no difference to a checkpoint.
        pair = sorted((0, _differing("setup", given) or 0), key=lambda rank: int(found[rank]["epochs"]))
        one, other = (structure(Setup, found[rank], "setup") for rank in pair)
        places = f"on rank {pair[0]}", f"on rank {pair[1]}"
        named = "; ".join(list(differences(one, other, {}, places=places).values())[:_MOST]) or "their types"
        raise ValueError(f"the processes of a run must have the same settings: {named}; {_CURE}")
    if _differing("layout", given) is not None:
        layouts = exchanges.exchange("comparing their models", layout)
        rank = _differing("layout", given) or 0
        named = "; ".join(_first_differences(layouts[0], layouts[rank]))
        raise ValueError(
            f"the processes of a run must train the same: rank {rank} differs from rank 0 in {named}; {_CURE}"
        )
    apart = _differing("replicas", given)
    if apart is not None:
        raise ValueError(
            f"'model' must have the same weights on all processes, as their gradients are averaged: those of rank "
            f"{apart} differ from those of rank 0; load the same ones everywhere before DistributedDataParallel is made"
        )
    return _differing("weights", given) is not None and not is_replicated(participants)


def is_replicated(participants: Participants) -> bool:
    """Return whether a model is kept the same on all processes by PyTorch's DistributedDataParallel."""
    return any(True for _ in _replicas(participants))


def _replicated(participants: Participants) -> list[Any]:
    """Return the parameters of all such models, by name."""
    return [{name: each.detach() for name, each in model.named_parameters()} for model in _replicas(participants)]


def _replicas(participants: Participants) -> Iterator[Any]:
    for model in [participants.model, *participants.extras.values()]:
        for module in _modules(model):
            if type(module).__name__ == "DistributedDataParallel":
                yield module


def _modules(model: Any) -> Iterable[Any]:
    found = getattr(model, "modules", None)
    return found() if callable(found) else ()


def _layout(flat: FlatTree) -> Iterator[str]:
    """Yield the name, the type and the shape of each array; of one that is spread over processes, the whole shape."""
    whole = dict(_whole_shapes(flat.json))
    for leaf in flat.leaves:
        yield f"{leaf.name}: {leaf.dtype} {tuple(whole.get(leaf.name, leaf.shape))}"


def _whole_shapes(json: Any) -> Iterator[tuple[str, list[int]]]:
    """Yield the name and the whole shape of each array of which processes hold parts."""
    match json:
        case {"dtensor": [local, list(shape), *_]}:
            yield from ((name, shape) for name in _names(local))
        case dict() | list():
            for each in json.values() if isinstance(json, dict) else json:
                yield from _whole_shapes(each)


def _names(json: Any) -> Iterator[str]:
    """Yield the name of the array that a part of a tree stands for."""
    match json:
        case {"array": [str(name), *_]}:
            yield name
        case dict() | list():
            for each in json.values() if isinstance(json, dict) else json:
                yield from _names(each)


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _differing(name: str, given: list[dict[str, Any]]) -> int | None:
    """Return the first rank that has something otherwise than rank 0, or None."""
    return next((rank for rank, each in enumerate(given) if each[name] != given[0][name]), None)


def _check_alike(name: str, given: list[dict[str, Any]], rule: str) -> None:
    rank = _differing(name, given)
    if rank is not None:
        raise ValueError(
            f"the processes of a run must {rule}: {given[0][name]} on rank 0 and {given[rank][name]} on rank {rank}"
        )


def _first_differences(one: list[str], other: list[str]) -> list[str]:
    ours, theirs = ([each for each in here if each not in set(there)] for here, there in ((one, other), (other, one)))
    found = [f"{each} on rank 0 alone" for each in ours] + [f"{each} there alone" for each in theirs]
    return found[:_MOST] or ["their order"]
