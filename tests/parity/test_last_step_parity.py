"""A pass that is stopped at its last step is gone through to its end: PyTorch's sampler draws once more there."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from lucid_train import StepEnd, Trainer


def test_a_stop_at_the_last_step_of_an_epoch_leaves_the_order_of_the_next_as_it_was() -> None:
    def built(seen: list[Any]) -> Trainer:
        numbers = TensorDataset(torch.arange(8.0))
        data = DataLoader(numbers, batch_size=2, shuffle=True, generator=torch.Generator().manual_seed(3))
        return Trainer(lambda batch: seen.append(batch[0].tolist()), data, epochs=3)

    straight: list[Any] = []
    stopped: list[Any] = []
    built(straight).fit()
    trainer = built(stopped)
    trainer.on(StepEnd, at=4)(lambda event: event.run.stop())
    trainer.fit()
    trainer.fit()
    assert stopped == straight
