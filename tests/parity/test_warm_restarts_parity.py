"""PyTorch's warm restarts keep their place in the cycle in public attributes, which are no settings."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from lucid_train import StepEnd, Trainer
from lucid_train.callbacks import Checkpoint, LRSchedulerCallback


def test_pytorchs_warm_restarts_resume_in_a_later_cycle(tmp_path: Path) -> None:
    def built(folder: Path) -> Trainer:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        schedule = LRSchedulerCallback(CosineAnnealingWarmRestarts(optimizer, 2, 2))
        return Trainer(optimizer=optimizer, epochs=9, callbacks=[schedule, Checkpoint(folder)])

    straight = built(tmp_path / "straight").fit(resume="auto")
    cut = built(tmp_path / "parts")
    cut.on(StepEnd, at=5)(lambda event: event.run.stop())
    cut.fit(resume="auto")
    resumed = built(tmp_path / "parts").fit(resume="auto")
    assert [record.lr for record in resumed] == [record.lr for record in straight]
