"""timm's `lr_scale` in the groups gives the rates that timm's own schedulers give."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from lucid_train.optims.lr_scheduler import LRScheduler
from lucid_train.schedules import Cosine, Step


@pytest.fixture
def their_scheduler() -> Iterator[Any]:
    """timm's schedulers without timm's own `__init__`, which needs torchvision."""
    spec = importlib.machinery.PathFinder.find_spec("timm")
    assert spec is not None
    known = {name for name in sys.modules if name.partition(".")[0] == "timm"}
    package = type(sys)("timm")
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules.setdefault("timm", package)
    import timm.scheduler

    yield timm.scheduler
    for name in {each for each in sys.modules if each.partition(".")[0] == "timm"} - known:
        del sys.modules[name]


def layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))


def layer_wise(model: nn.Sequential, decay: float = 0.5) -> torch.optim.Optimizer:
    """Return an optimizer whose layers learn the more slowly the earlier they come."""
    groups = [
        {"params": layer.parameters(), "lr_scale": decay ** (len(model) - 1 - index)}
        for index, layer in enumerate(model)
    ]
    return torch.optim.AdamW(groups, lr=0.1)


def rates(optimizer: Any) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def test_the_rates_are_those_of_timm(their_scheduler: Any) -> None:
    mine, theirs = layer_wise(layers()), layer_wise(layers())
    ours = LRScheduler(mine, Cosine(9, eta_min=0.01))
    other = their_scheduler.CosineLRScheduler(theirs, t_initial=9, lr_min=0.01)
    for epoch in range(9):
        other.step(epoch)
        assert rates(mine) == pytest.approx(rates(theirs), rel=1e-12)
        mine.step()
        ours.step()
    mine, theirs = layer_wise(layers()), layer_wise(layers())
    ours, other = LRScheduler(mine, Step(2, 0.5)), their_scheduler.StepLRScheduler(theirs, decay_t=2, decay_rate=0.5)
    for epoch in range(6):
        other.step(epoch)
        assert rates(mine) == pytest.approx(rates(theirs), rel=1e-12)
        mine.step()
        ours.step()
