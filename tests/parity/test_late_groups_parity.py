"""A group that is added to a PyTorch optimizer in the middle of a run has the schedules of its name, resumed or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lucid_train import EpochStart, Trainer
from lucid_train.callbacks import Checkpoint, LRSchedulerCallback, ParamSchedulerCallback
from lucid_train.schedules import Exponential


def run(folder: Path, *, added: bool, epochs: int) -> list[Any]:
    """Train, with a group that is added in epoch 3 or by the program before, and return what was recorded."""
    torch.manual_seed(0)
    body, head = nn.Linear(2, 2), nn.Linear(2, 1)
    model = nn.Sequential(body, head)
    groups = [{"params": list(body.parameters()), "name": "body"}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.1)

    def add() -> None:
        optimizer.add_param_group({"params": list(head.parameters()), "name": "head", "lr": 0.5})

    def step(batch: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    by_name = {"body": Exponential(0.5), "head": Exponential(0.9)}
    callbacks = [
        LRSchedulerCallback(by_name),
        ParamSchedulerCallback(weight_decay=by_name, interval="step"),
        Checkpoint(folder),
    ]
    data = list(torch.ones(2, 3, 2))
    trainer = Trainer(step, data, epochs=epochs, model=model, optimizer=optimizer, callbacks=callbacks)

    @trainer.on(EpochStart, at=3)
    def add_in_time(event: EpochStart) -> None:
        if len(optimizer.param_groups) == 1:
            add()

    if added:
        add()
    return [(record.lr, record.scheduled, record.metrics) for record in trainer.fit(resume="auto")]


@pytest.mark.parametrize(("cut", "added"), [(2, False), (3, True)])
def test_a_run_with_a_late_group_resumes_exactly(tmp_path: Path, cut: int, added: bool) -> None:
    straight = run(tmp_path / "straight", added=False, epochs=4)
    assert [rates for rates, _, _ in straight] == [(0.1,), (0.05,), (0.025, 0.5), (0.0125, 0.36450000000000005)]
    run(tmp_path / "cut", added=False, epochs=cut)
    assert run(tmp_path / "cut", added=added, epochs=4) == straight


def test_a_program_without_a_group_that_is_in_the_checkpoint_is_refused(tmp_path: Path) -> None:
    run(tmp_path, added=False, epochs=3)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        run(tmp_path, added=False, epochs=4)
