"""A run that is continued by more or fewer processes at an epoch's end sees every sample once, in the same order."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lucid_train import StepResult, Trainer, nn
from lucid_train.callbacks import Checkpoint
from lucid_train.data import GlobalBatchSampler, batches, weighted
from lucid_train.optims import SGD
from lucid_train.testing.threads import run_in_threads


def of_arrays(group: Any) -> Any:
    return batches(np.arange(21), batch_size=8, seed=3, last="pad", group=group)


def of_pytorch(group: Any) -> Any:
    samples = weighted(TensorDataset(torch.arange(21)))
    return DataLoader(samples, batch_sampler=GlobalBatchSampler(samples, 8, seed=3, last="pad", group=group))


def run(make: Any, world: int, folder: Path, epochs: int, **options: Any) -> tuple[list[Any], list[Any]]:
    """Return what is real of each global batch, and the mean loss of each epoch on each rank."""

    def one(group: Any) -> Any:
        model, seen = nn.Linear(1, 1, rng=0), []

        def step(batch: Any) -> Any:
            numbers, weights = (np.ravel(np.asarray(each)) for each in batch)
            seen.append(numbers[weights > 0].tolist())
            return StepResult(float((numbers * weights).sum() / max(weights.sum(), 1)), weight=float(weights.sum()))

        optimizer = SGD(model.parameters(), lr=0.1)
        trainer = Trainer(
            step,
            make(group),
            epochs=epochs,
            model=model,
            optimizer=optimizer,
            group=group,
            callbacks=[Checkpoint(folder)],
        )
        history = trainer.fit(**options)
        return seen, [record.metrics["loss"] for record in history]

    found = run_in_threads(world, one)
    slices = zip(*[seen for seen, _ in found], strict=True)
    return [[number for part in parts for number in part] for parts in slices], [means for _, means in found]


@pytest.mark.parametrize("make", [of_arrays, of_pytorch])
@pytest.mark.parametrize(("before", "after"), [(2, 4), (4, 1), (1, 2)])
def test_it_goes_on_in_the_same_order(make: Any, before: int, after: int, tmp_path: Path) -> None:
    straight, _ = run(make, 1, tmp_path / "straight", 3)
    first, _ = run(make, before, tmp_path / "run", 1)
    rest, means = run(make, after, tmp_path / "run", 3, resume="auto", accept=["world_size", "epochs"])
    assert first + rest == straight
    assert [sorted(chain.from_iterable(straight[at : at + 3])) for at in (0, 3, 6)] == [list(range(21))] * 3
    assert means == [[10.0] * 3] * after
