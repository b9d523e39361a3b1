"""A group of PyTorch's parameters that is frozen by its schedule does not move."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lucid_train import Trainer
from lucid_train.callbacks import LRSchedulerCallback
from lucid_train.schedules import Constant, Cosine

OPTIMIZERS: dict[str, Any] = {
    "SGD": lambda groups: torch.optim.SGD(groups, lr=0.1),
    "SGD with momentum and weight decay": lambda groups: torch.optim.SGD(
        groups, lr=0.1, momentum=0.9, weight_decay=0.1
    ),
    "Adam": lambda groups: torch.optim.Adam(groups, lr=0.1, weight_decay=0.1),
    "AdamW": lambda groups: torch.optim.AdamW(groups, lr=0.1, weight_decay=0.1),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_group_at_rate_0_does_not_move_by_a_bit_until_it_is_unfrozen(make: Any) -> None:
    torch.manual_seed(0)
    body, head = nn.Linear(3, 3), nn.Linear(3, 1)
    optimizer = make([{"params": body.parameters(), "name": "body"}, {"params": head.parameters(), "name": "head"}])
    before, moved = [each.detach().clone() for each in body.parameters()], []

    def step(batch: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = head(body(batch)).square().mean()
        loss.backward()
        optimizer.step()
        moved.append(not all(map(torch.equal, before, body.parameters())))
        return loss

    callback = LRSchedulerCallback({"body": Constant(0.0).until(3).then(Cosine()), "head": Cosine()})
    data = list(torch.randn(2, 4, 3))
    model = nn.Sequential(body, head)
    history = Trainer(step, data, epochs=6, model=model, optimizer=optimizer, callbacks=[callback]).fit()
    assert moved == [False] * 6 + [True] * 6
    assert [record.lr[0] for record in history] == [0.0] * 3 + [Cosine(3)(t, 0.1) for t in range(3)]
