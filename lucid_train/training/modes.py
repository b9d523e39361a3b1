"""The training modes of networks, which are off while they are evaluated and as before afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def networks(model: Any, extras: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a run consists of modules, as PyTorch's networks do, by its place: the model, and extras."""
    places = {"model": model, **{f"extras.{name}": each for name, each in extras.items()}}
    return {place: each for place, each in places.items() if callable(getattr(each, "modules", None))}


def has_eval_mode(network: Any) -> bool:
    """Return whether `eval()` can be called on a network: all its modules have a boolean `training`."""
    return callable(getattr(network, "eval", None)) and all(_has_mode(module) for module in network.modules())


def training_modes(networks: Iterable[Any]) -> list[tuple[Any, bool]]:
    """Return the modules of networks, those that hold others first, each with its training mode."""
    return [(module, module.training) for network in networks for module in network.modules() if _has_mode(module)]


def restore_modes(modes: Iterable[tuple[Any, bool]]) -> None:
    """Put training modes back that `training_modes` returned."""
    # By the method first, as a module may do more in it: those of LoRA merge their weights in eval mode.
    for module, mode in modes:
        if module.training is not mode and callable(getattr(module, "train", None)):
            module.train(mode)
    # A module that several others hold may have been switched after its turn.
    for module, mode in modes:
        if module.training is not mode:
            module.training = mode


def _has_mode(module: Any) -> bool:
    return isinstance(getattr(module, "training", None), bool)
