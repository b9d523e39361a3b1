"""Where a sampler has a generator of its own, a resumed run sees the batches that the uninterrupted one would have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from lucid_train import StepEnd, Trainer
from lucid_train.callbacks import Checkpoint

NUMBERS = TensorDataset(torch.arange(8.0))


class Shuffled:
    def __init__(self) -> None:
        self.rng = np.random.default_rng(3)

    def __iter__(self) -> Any:
        return iter([(number,) for number in self.rng.permutation(4)])


def batch_sampled() -> Any:
    sampler = RandomSampler(NUMBERS, generator=torch.Generator().manual_seed(3))
    return DataLoader(NUMBERS, batch_sampler=BatchSampler(sampler, 2, False))


@pytest.mark.parametrize("data", [batch_sampled, Shuffled])
def test_a_generator_in_the_data_resumes_where_it_stood(data: Callable[[], Any], tmp_path: Path) -> None:
    def trained(folder: Path, stop: int | None, seen: list[Any]) -> None:
        def step(batch: Any) -> None:
            seen.append(np.asarray(batch[0]).tolist())

        trainer = Trainer(step, data(), epochs=3, callbacks=[Checkpoint(folder, weights=False)])
        if stop is not None:
            trainer.on(StepEnd, at=stop)(lambda event: event.run.stop())
        trainer.fit(resume="auto")

    straight: list[Any] = []
    resumed: list[Any] = []
    trained(tmp_path / "straight", None, straight)
    trained(tmp_path / "parts", 6, resumed)
    trained(tmp_path / "parts", None, resumed)
    assert resumed == straight
