"""The ways of tests/training/test_any_path.py with PyTorch's loaders and torchdata's as the data."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, RandomSampler, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from tests.training.test_any_path import EVERY, Data, take


def of(rows: Any) -> TensorDataset:
    return TensorDataset(torch.from_numpy(rows))


def own_generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def seeding(make: Data) -> Data:
    """Return what makes a loader, as a program does that seeds PyTorch first."""

    def build(rows: Any) -> Any:
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what torchdata's says of PyTorch
            return make(rows)

    return build


def by_batches(rows: Any) -> Any:
    sampler = BatchSampler(RandomSampler(rows, generator=own_generator()), 2, False)
    return DataLoader(of(rows), batch_sampler=sampler)


_LOADERS: dict[str, Data] = {
    "shuffled": lambda rows: DataLoader(of(rows), batch_size=2, shuffle=True),
    "own generator": lambda rows: DataLoader(of(rows), batch_size=2, shuffle=True, generator=own_generator()),
    "by batches": by_batches,
    "distributed": lambda rows: DataLoader(of(rows), batch_size=1, sampler=DistributedSampler(of(rows), 2, 0)),
    "stateful": lambda rows: StatefulDataLoader(of(rows), batch_size=2, shuffle=True),
}
_IN_WORKERS: dict[str, Data] = {
    "2 workers": lambda rows: DataLoader(of(rows), batch_size=2, shuffle=True, num_workers=2),
    "persistent worker": lambda rows: DataLoader(
        of(rows), batch_size=2, shuffle=True, num_workers=1, persistent_workers=True
    ),
    "stateful, 1 worker": lambda rows: StatefulDataLoader(of(rows), batch_size=2, shuffle=True, num_workers=1),
}
LOADERS = {name: seeding(make) for name, make in _LOADERS.items()}
IN_WORKERS = {name: seeding(make) for name, make in _IN_WORKERS.items()}
each_interval = pytest.mark.parametrize("every", EVERY)


@each_interval
@pytest.mark.parametrize("data", LOADERS.values(), ids=LOADERS)
def test_every_way_to_the_last_epoch_comes_to_the_same(data: Data, every: int | str, tmp_path: Path) -> None:
    assert take(data, every, tmp_path, examples=8, rules=8) >= 8


@pytest.mark.slow
@pytest.mark.timeout(600)
@each_interval
@pytest.mark.parametrize("data", LOADERS.values(), ids=LOADERS)
def test_every_one_of_very_many_ways_comes_to_the_same(data: Data, every: int | str, tmp_path: Path) -> None:
    assert take(data, every, tmp_path, examples=60, rules=15) >= 60


@pytest.mark.slow
@pytest.mark.timeout(600)
@each_interval
@pytest.mark.parametrize("data", IN_WORKERS.values(), ids=IN_WORKERS)
def test_every_way_comes_to_the_same_with_workers(data: Data, every: int | str, tmp_path: Path) -> None:
    assert take(data, every, tmp_path, examples=6, rules=8) >= 6
