"""Snapshot: the objects of a run as they are at one moment, in host memory, and restored in the same process."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from lucid_train.saving.checkpoint.arrays import unpack
from lucid_train.saving.checkpoint.tree import flatten, unflatten
from lucid_train.saving.state import Participants, has_weights

_PLAIN = (bool, int, float, str, type(None))
# Nothing here comes from a stranger.
_UNBOUNDED = 2**62


class Snapshot:
    """Model, optimizers, extras and metric objects of a run, with all that steps change of them.

    That is their state, as a checkpoint has it, and what a checkpoint leaves out because a process begins without it:
    gradients, buffers that are not persistent, the flags of optimizers and of other extras, and parameters that an
    optimizer trains and no model has. Arrays are copied to the memory of the host.

    Args:
        participants: The objects; neither callbacks nor data are in it.

    Raises:
        TypeError: If a state holds what a checkpoint cannot hold, naming its place.
        ValueError: If there is no state of a model, nor one with weights among the extras.
    """

    def __init__(self, participants: Participants) -> None:
        self._participants = participants
        objects = participants.objects()
        if not has_weights(objects):
            raise ValueError(
                "'trainer' must have a model, so that its weights can be restored: None; pass Trainer(model=...), or "
                "several models as extras={'generator': ..., ...}"
            )
        self._objects = flatten(objects).copy()
        holders = [participants.model, *participants.extras.values()]
        parameters = {id(each): each for holder in holders for each in _parameters(holder)}
        trained = {
            id(each): each
            for optimizer in participants.optimizers().values()
            for group in optimizer.param_groups
            for each in _listed(group.get("params", ()))
        }
        every = {**parameters, **trained}.values()
        self._gradients = [(each, each.grad, _copy(each.grad)) for each in every if hasattr(each, "grad")]
        others = [_array(each) for key, each in trained.items() if key not in parameters]
        self._arrays = [(each, _copy(each)) for each in others if each is not None]
        self._buffers = [(held, name, held[name], _copy(held[name])) for held, name in _buffers(holders)]
        plain = [each for each in (*participants.optimizers().values(), *holders[1:]) if not hasattr(each, "modules")]
        self._flags = [(each, dict(each)) for each in (getattr(each, "__dict__", None) for each in plain) if each]
        # What a GradScaler knows of an optimizer between two calls.
        self._scaled = [
            (found, {key: dict(value) for key, value in found.items()})
            for found in (getattr(each, "_per_optimizer_states", None) for each in holders[1:])
            if found is not None
        ]

    def restore(self) -> None:
        """Put everything back; it may be done again."""
        leaves = {leaf.name: leaf.data for leaf in self._objects.leaves}
        text = json.dumps(self._objects.json).encode("ascii")
        held = unflatten(text, lambda name, *rest: unpack(leaves[name].copy(), *rest), size=_UNBOUNDED)
        objects = self._participants.placed(held)
        for name, metric in self._participants.metrics.items():
            if not hasattr(metric, "state_dict"):
                _restore_attributes(metric, objects["metrics"][name]["state"])
        self._participants.put_back(objects)
        for array, held in self._arrays:
            _fill(array, held)
        for buffers, name, buffer, held in self._buffers:
            buffers[name] = _fill(buffer, held)
        for parameter, gradient, held in self._gradients:
            parameter.grad = _fill(gradient, held)
        for attributes, before in self._flags:
            _restore_flags(attributes, before)
        for states, before in self._scaled:
            states.clear()
            states.update({key: dict(value) for key, value in before.items()})


def _parameters(holder: Any) -> Iterable[Any]:
    """Return the parameters of a model, of PyTorch's or of this library's."""
    found = getattr(holder, "parameters", None)
    return found() if callable(found) else ()


def _listed(params: Any) -> Iterable[Any]:
    return params if isinstance(params, (list, tuple)) else ()


def _array(parameter: Any) -> Any:
    """Return the array of a parameter, which an update changes in place; None if it has none, as JAX's."""
    if hasattr(parameter, "copy_"):
        return parameter.detach()
    array = parameter if isinstance(parameter, np.ndarray) else getattr(parameter, "data", None)
    return array if isinstance(array, np.ndarray) else None


def _buffers(holders: Iterable[Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield where each buffer is that the state of its module leaves out."""
    for holder in holders:
        for module in holder.modules() if callable(getattr(holder, "modules", None)) else ():
            for name in getattr(module, "_non_persistent_buffers_set", ()):
                yield module._buffers, name


def _copy(array: Any) -> Any:
    """Return a copy of an array in host memory; None of None."""
    if array is None:
        return None
    return array.detach().to("cpu", copy=True) if hasattr(array, "detach") else np.array(array)


def _fill(array: Any, held: Any) -> Any:
    """Return an array, which stays the object that it is, with the values that it had."""
    if array is not None:
        if hasattr(array, "detach"):
            array.detach().copy_(held)
        else:
            array[...] = held
    return array


def _restore_flags(attributes: dict[str, Any], before: Mapping[str, Any]) -> None:
    """Set attributes that were plain values to what they were, and remove plain ones that were not there."""
    for name in [name for name, value in attributes.items() if name not in before and isinstance(value, _PLAIN)]:
        del attributes[name]
    attributes.update({name: value for name, value in before.items() if isinstance(value, _PLAIN)})


def _restore_attributes(metric: Any, held: Mapping[str, Any]) -> None:
    """Set what a metric gathers in its attributes to what it was; some make them only when they are reset."""
    for name in [name for name in getattr(metric, "__dict__", ()) if name not in held]:
        delattr(metric, name)
    for name, value in held.items():
        setattr(metric, name, value)
