"""What the data of a Trainer is made of: a DataLoader's samplers, data sets and workers, and their generators."""

from __future__ import annotations

from copy import deepcopy
from itertools import islice
from typing import Any

from lucid_train.data import Grouped
from lucid_train.saving.fingerprint import fingerprint
from lucid_train.saving.random_state import RandomState, changed, has_epoch, is_generator

# So many samples of a stream are read to find out whether they are drawn at random.
_SAMPLES = 8


def ungrouped(data: Any) -> Any:
    """Return the data itself where it is put together in groups."""
    while isinstance(data, Grouped):
        data = data.loader
    return data


def loader_of(data: Any) -> Any:
    """Return PyTorch's DataLoader if the data is one, or wraps one as Lightning Fabric and accelerate do, else None."""
    data = ungrouped(data)
    loader = getattr(data, "base_dataloader", getattr(data, "_dataloader", data))
    return loader if hasattr(loader, "dataset") and hasattr(loader, "collate_fn") else None


def generators(data: Any) -> dict[str, Any]:
    """Return what the order of the data depends on, by its place.

    These are the random generators that the data, or a DataLoader's sampler or data set, holds in an attribute, and
    what of them has a `set_epoch`, as PyTorch's DistributedSampler has.
    """
    found: dict[str, Any] = {}
    owners = _owners(data)
    for place, owner in owners.items():
        if has_epoch(owner):
            found[place] = owner
    for place, owner in owners.items():
        for name, held in getattr(owner, "__dict__", {}).items():
            if is_generator(held) and not any(held is other for other in found.values()):
                found[f"{place}.{name}"] = held
    return found


def set_epoch(data: Any, epoch: int) -> None:
    """Hand the number of the epoch, from 0, to what has a `set_epoch`: the data, its samplers, its data sets."""
    for owner in _owners(data).values():
        if callable(getattr(owner, "set_epoch", None)):
            owner.set_epoch(epoch - 1)
    if hasattr(loader := ungrouped(data), "_num_iter_calls"):
        loader._num_iter_calls = epoch - 1  # with which Lightning Fabric's loader calls its sampler's `set_epoch`


def is_stateful(data: Any) -> bool:
    """Return whether the data itself says where a pass stands and can go on from there.

    torchdata's StatefulDataLoader cannot if its sampler has no state and draws the order at random.
    """
    data = ungrouped(data)
    owner = getattr(data, "base_dataloader", data)  # accelerate's wrapper has the methods in any case
    if not all(callable(getattr(owner, name, None)) for name in ("state_dict", "load_state_dict")):
        return False
    sampler, batches = getattr(data, "sampler", None), getattr(data, "batch_sampler", None)
    if not (batches is None or hasattr(batches, "state_dict") or _is_torchdatas(batches)):
        is_pytorchs = type(batches).__module__.startswith("torch.") and not hasattr(batches.sampler, "state_dict")
        sampler = batches.sampler if is_pytorchs else batches
    return (
        sampler is None
        or hasattr(sampler, "state_dict")
        or has_epoch(sampler)
        or _is_torchdatas(sampler)
        or type(sampler).__name__ in ("SequentialSampler", "_InfiniteConstantSampler")
    )


def attributes(data: Any) -> list[dict[str, Any]]:
    """Return the attributes, live, of what iterates over a DataLoader or in groups, its samplers included.

    They say where a pass stands, and hold workers that outlive one.
    """
    found, layer = [], data
    while isinstance(layer, Grouped):
        found.append(vars(layer))
        layer = layer.loader
    loader = loader_of(layer)
    if loader is None:
        return found
    owners = [layer, loader, *(owner for place, owner in _owners(layer).items() if "sampler" in place)]
    unique = {id(owner): owner for owner in owners}
    return found + [vars(owner) for owner in unique.values() if hasattr(owner, "__dict__")]


def draws_at_random(data: Any, random: RandomState) -> bool:
    """Return whether the samples of a DataLoader depend on generators that neither it nor `random` has.

    Some are read twice in this process, with the generators as before. Those in workers are others than these.
    """
    loader, before = loader_of(data), random.read()
    if loader is None:
        return False
    try:
        is_stream = type(loader.sampler).__name__ == "_InfiniteConstantSampler"
        indices = None if is_stream else next(iter(loader.batch_sampler or loader.sampler))
        states = random.read()
        found = [fingerprint(_samples(loader, indices))]
        drawn = changed(states, random.read())
        random.write(states)
        found.append(fingerprint(_samples(loader, indices)))
    except Exception:  # what can be read in workers alone
        return True
    finally:
        random.write(before)
    return found[0] != found[1] or (loader.num_workers > 0 and bool(drawn))


def _samples(loader: Any, indices: Any) -> Any:
    """Return a batch of a DataLoader, read in this process; of a stream, where `indices` is None, its beginning."""
    if indices is None:
        samples = list(islice(deepcopy(loader.dataset), _SAMPLES))
    elif loader.batch_sampler is None:
        samples = loader.dataset[indices]
    else:
        samples = [loader.dataset[index] for index in indices]
    return samples if indices is None and loader.batch_sampler is None else loader.collate_fn(samples)


def _owners(data: Any) -> dict[str, Any]:
    """Return the objects that make the data what it is, each once, by its place."""
    data = ungrouped(data)
    batches, dataset = getattr(data, "batch_sampler", None), getattr(data, "dataset", None)
    places = {"data": data, "data.sampler": getattr(data, "sampler", None), "data.batch_sampler": batches}
    places["data.batch_sampler.sampler"] = getattr(batches, "sampler", None)
    found: dict[str, Any] = {}
    for place, owner in places.items():
        if owner is not None and not any(owner is other for other in found.values()):
            found[place] = owner
    place = "data.dataset"
    while dataset is not None and not any(dataset is other for other in found.values()):
        found[place] = dataset
        place, dataset = f"{place}.dataset", getattr(dataset, "dataset", None)
    return found


def _is_torchdatas(value: Any) -> bool:
    return type(value).__module__.startswith("torchdata.")
