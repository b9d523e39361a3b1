"""PyTorch's own optimizers under a schedule; for the tests that need PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.optim import lr_scheduler as theirs

from lucid_train.optims import lr_scheduler as ours


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


def assert_same_rates(
    build: Callable[[Any, Any], Any], base_rates: list[float], epochs: int, make: Callable[..., Any] = sgd
) -> None:
    """Train as many epochs under our schedule and under PyTorch's: rates and momenta are within 1e-12.

    Args:
        build: Makes the schedule, given its home (ours or PyTorch's) and an optimizer.
        base_rates: The rate of each group.
        epochs: How far to go.
        make: Makes the optimizer, given the rates.
    """
    here, there = make(*base_rates), make(*base_rates)
    mine, pytorchs = build(ours, here), build(theirs, there)
    used, expected = walk_with_momenta(here, mine, epochs), walk_with_momenta(there, pytorchs, epochs)
    np.testing.assert_allclose(used, expected, rtol=1e-12, atol=0)
    assert (mine.last_epoch, mine.get_last_lr()) == (epochs, rates(here))
    assert mine.lr_at(np.arange(epochs)).tolist() == [values[: len(base_rates)] for values in used]
