"""PyTorch's own optimizers under a schedule; for the tests that need PyTorch."""

from collections.abc import Callable
from typing import Any

import torch


def sgd(*rates: Any) -> torch.optim.SGD:
    """Return an optimizer with a momentum and one group per rate."""
    groups: list[dict[str, Any]] = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


def rates(optimizer: Any) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def rates_and_momenta(optimizer: Any) -> list[float]:
    momenta = [group["betas"][0] if "betas" in group else group["momentum"] for group in optimizer.param_groups]
    return rates(optimizer) + momenta


def walk(optimizer: Any, scheduler: Any, epochs: int, read: Callable[[Any], Any] = rates) -> list[Any]:
    """Train for as many epochs; return what was read inside `optimizer.step`."""
    used: list[Any] = []
    hook = optimizer.register_step_pre_hook(lambda *_: used.append(read(optimizer)))
    for _ in range(epochs):
        optimizer.step()
        scheduler.step()
    hook.remove()
    return used


def walk_with_momenta(optimizer: Any, scheduler: Any, epochs: int) -> list[list[float]]:
    return walk(optimizer, scheduler, epochs, rates_and_momenta)
