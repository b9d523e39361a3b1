"""What a metric object has gathered, as a state, and loaded again."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from lucid_train.progress import check_like
from lucid_train.validation import check_entries


def read_metric(metric: Any) -> dict[str, Any]:
    """Return what a metric object has gathered; its arrays may be the live ones.

    That of torchmetrics is in attributes, which `state_dict()` leaves out by default; a collection has that of each of
    its members. Others are asked for their `state_dict()`, or, without one, are their attributes.
    """
    if (members := _members(metric)) is not None:
        return {"updates": None, "state": {name: read_metric(each) for name, each in members.items()}}
    if _is_of_torchmetrics(metric):
        held = {name: [*each] if isinstance(each, list) else each for name, each in metric.metric_state.items()}
        return {"updates": metric._update_count, "state": held}
    if hasattr(metric, "state_dict"):
        return {"updates": None, "state": metric.state_dict()}
    return {"updates": None, "state": copy.deepcopy(_attributes(metric))}


def load_metric(name: str, metric: Any, state: Any) -> None:
    """Load what `read_metric` returned; tensors go to the device of those that they replace.

    Raises:
        ValueError: If it is not the state of such a metric, by its name.
    """
    check_entries(f"the state of {name}", state, ("updates", "state"))
    of_torchmetrics, held = _is_of_torchmetrics(metric), state["state"]
    if (members := _members(metric)) is not None:
        check_entries(f"the state of {name}", held, members)
        for key, member in members.items():
            load_metric(f"{name}.{key}", member, held[key])
        return
    if hasattr(metric, "state_dict") and not of_torchmetrics:
        metric.load_state_dict(held)
        return
    own = metric.metric_state if of_torchmetrics else _attributes(metric)
    check_entries(f"the state of {name}", held, own)
    check_like(name, {**held}, {**own})
    device = metric.device if of_torchmetrics else None
    for key, value in held.items():
        setattr(metric, key, _placed(value, getattr(own[key], "device", device)))
    if of_torchmetrics:
        # Without the count it would warn that it was never updated.
        metric._update_count, metric._computed = state["updates"], None


def check_saves(name: str, metric: Any) -> None:
    """Refuse a metric object that would save nothing of what it gathers.

    Raises:
        TypeError: Naming it and the cure.
    """
    if (members := _members(metric)) is not None:
        for key, member in members.items():
            check_saves(f"{name}[{key!r}]", member)
        return
    modules = [*metric.modules()] if callable(getattr(metric, "modules", None)) else []
    if any(each is not metric and _is_of_torchmetrics(each) for each in modules):
        cure = "pass each of them by its name, and call its update()"
        raise TypeError(f"'{name}' must be one metric, not a {type(metric).__name__} of several, {cure}")
    if hasattr(metric, "state_dict") and not _is_of_torchmetrics(metric) and not metric.state_dict():
        cure = "let it return what update() changes"
        raise TypeError(f"'{name}' must save what it gathers, but its state_dict() is empty, {cure}: {metric!r:.200}")


def unsaved_metrics(networks: Mapping[str, Any], metrics: Iterable[Any]) -> list[str]:
    """Return the metrics of torchmetrics in networks whose state is neither in the network's nor saved by itself.

    Args:
        networks: What consists of modules, by its place.
        metrics: The metric objects that are saved.
    """
    saved = {id(module) for metric in metrics if hasattr(metric, "modules") for module in metric.modules()}
    found: list[str] = []
    for place, network in networks.items():
        for name, module in network.named_modules() if hasattr(network, "named_modules") else ():
            own = id(module) not in saved and _is_of_torchmetrics(module) and _members(module) is None
            if own and not module.metric_state.keys() <= module.state_dict().keys():
                found.append(f"{place}.{name}")
    return found


def _members(metric: Any) -> dict[str, Any] | None:
    """Return the metrics of a collection of torchmetrics by their names, or None if it is none."""
    if not hasattr(metric, "compute_groups"):
        return None
    return dict(metric.items(keep_base=True, copy_state=False))  # which brings those that share a state up to date


def _is_of_torchmetrics(metric: Any) -> bool:
    return isinstance(getattr(metric, "metric_state", None), Mapping)


def _attributes(metric: Any) -> dict[str, Any]:
    """Return the attributes of an object, in `__dict__` and in slots."""
    found: Any = object.__getstate__(metric)
    parts = found if isinstance(found, tuple) else (found,)
    return {name: value for part in parts for name, value in (part or {}).items()}


def _placed(value: Any, device: Any) -> Any:
    """Return a copy of a value, its tensors on a device, if it is known."""
    if isinstance(value, list):
        return [_placed(each, device) for each in value]
    if not hasattr(value, "element_size"):
        return copy.deepcopy(value)
    return value.detach().clone() if device is None else value.detach().to(device, copy=True)
