"""A resumed run sees the batches that the uninterrupted one would have, or says that it cannot: PyTorch's data."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
)
from torch.utils.data.distributed import DistributedSampler
from torchdata.stateful_dataloader import StatefulDataLoader

from lucid_train import EpochReport, EpochStart, StepEnd, Trainer, read_checkpoint, write_checkpoint
from lucid_train.data import seeded
from lucid_train.saving.fingerprint import fingerprint

NUMBERS: Any = TensorDataset(torch.arange(12.0))
EPOCHS = 3


class Noisy(Dataset[Any]):
    """Draws from all global generators for each sample."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        return torch.rand(()) + index + random.random() + np.random.rand()


class Epochal(Dataset[Any]):
    """Has other samples in each epoch."""

    number = -1

    def set_epoch(self, epoch: int) -> None:
        self.number = epoch

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> float:
        return index + 100.0 * self.number


class Transform:
    """Has a generator that nobody finds."""

    def __init__(self) -> None:
        self.rng = random.Random(3)

    def __call__(self, value: float) -> float:
        return value + self.rng.random()


class Transformed(Noisy):
    def __init__(self) -> None:
        self.transform = Transform()

    def __getitem__(self, index: int) -> float:
        return self.transform(index)


class Stream(IterableDataset[Any]):
    """A stream that the workers share, which knows where it stands."""

    def __init__(self, *, noisy: bool = False) -> None:
        self.at, self.start, self.noisy = 0, 0, noisy

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        self.at, self.start = self.start, 0
        while (number := self.at * workers + worker) < 12:
            self.at += 1
            yield torch.rand(()) + number if self.noisy else torch.tensor(number)

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at = self.start = state["at"]


class Buffered(IterableDataset[Any]):
    """Shuffles in a buffer, with the global generator."""

    def __iter__(self) -> Iterator[Any]:
        buffer = list(range(6))
        for number in range(6, 24):
            place = random.randrange(6)
            yield buffer[place]
            buffer[place] = number
        random.shuffle(buffer)
        yield from buffer


class Shuffling(Sampler[int]):
    """Draws from Python's global generator."""

    def __init__(self) -> None:
        pass

    def __len__(self) -> int:
        return 12

    def __iter__(self) -> Iterator[int]:
        return iter(random.sample(range(12), 12))


class Permuted:
    """No loader; has a generator of its own."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(3)

    def __iter__(self) -> Iterator[Any]:
        return iter([(number,) for number in self.rng.permutation(4)])


def own() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def shared(rank: int) -> Any:
    """The part of one of two processes."""
    return DistributedSampler(NUMBERS, num_replicas=2, rank=rank)


def persistent(data: Any, workers: int = 2, **options: Any) -> Any:
    options = {"batch_size": 2, "shuffle": True, **options}
    return DataLoader(data, num_workers=workers, persistent_workers=True, **options)


def fabric(**options: Any) -> Any:
    from lightning_fabric import Fabric

    return Fabric(accelerator="cpu", devices=1).setup_dataloaders(DataLoader(NUMBERS, 2, **options))


def accelerated(loader: Any) -> Any:
    from accelerate import Accelerator

    return Accelerator(cpu=True).prepare(loader)


def mixed(samples: list[Any]) -> Any:
    return torch.stack([sample for (sample,) in samples]) + torch.rand(())


EXACT: dict[str, Callable[[], Any]] = {
    "global generator": lambda: DataLoader(NUMBERS, 4, shuffle=True),
    "own generator": lambda: DataLoader(NUMBERS, 4, shuffle=True, generator=own()),
    "sampler with its own": lambda: DataLoader(NUMBERS, 4, sampler=RandomSampler(NUMBERS, generator=own())),
    "weighted sampler": lambda: DataLoader(NUMBERS, 4, sampler=WeightedRandomSampler([1.0] * 12, 12)),
    "sampler on Python's": lambda: DataLoader(NUMBERS, 4, sampler=Shuffling()),
    "batch sampler": lambda: DataLoader(
        NUMBERS, batch_sampler=BatchSampler(RandomSampler(NUMBERS, generator=own()), 4, False)
    ),
    "no loader": Permuted,
    "random samples": lambda: DataLoader(Noisy(), 2, shuffle=True),
    "random samples in workers": lambda: DataLoader(Noisy(), 4, shuffle=True, num_workers=2),
    "random stream": lambda: DataLoader(Stream(noisy=True), 4),
    "random stream in workers": lambda: DataLoader(Stream(noisy=True), 4, num_workers=2),
    "epochs in the data set": lambda: DataLoader(Epochal(), 4, shuffle=True, num_workers=2),
    "distributed, rank 0": lambda: DataLoader(NUMBERS, 2, sampler=shared(0)),
    "distributed, rank 1, workers": lambda: DataLoader(NUMBERS, 2, sampler=shared(1), num_workers=2),
    "distributed, batch sampler": lambda: DataLoader(NUMBERS, batch_sampler=BatchSampler(shared(1), 2, False)),
    "distributed, persistent": lambda: persistent(NUMBERS, shuffle=False, sampler=shared(1)),
    "epochs in a persistent data set": lambda: persistent(Epochal()),
    "persistent, 1 worker": lambda: persistent(NUMBERS, 1, batch_size=1),
    "persistent, 2 workers": lambda: persistent(NUMBERS, batch_size=1),
    "persistent, own generator": lambda: persistent(NUMBERS, generator=own()),
    "persistent, seeded": lambda: persistent(seeded(Noisy(), 7), batch_size=1),
    "seeded": lambda: DataLoader(seeded(Noisy(), 7), 4, shuffle=True),
    "stateful": lambda: StatefulDataLoader(NUMBERS, 4, shuffle=True),
    "stateful, own generator": lambda: StatefulDataLoader(NUMBERS, 4, shuffle=True, generator=own()),
    "stateful, workers": lambda: StatefulDataLoader(NUMBERS, 4, shuffle=True, num_workers=2),
    "stateful, persistent": lambda: StatefulDataLoader(
        NUMBERS, 2, shuffle=True, num_workers=2, persistent_workers=True
    ),
    "stateful, sampler without a state": lambda: StatefulDataLoader(NUMBERS, 4, sampler=RandomSampler(NUMBERS)),
    "stateful, the same in workers": lambda: StatefulDataLoader(
        NUMBERS, 4, sampler=RandomSampler(NUMBERS, generator=own()), num_workers=2
    ),
    "stateful, batch sampler": lambda: StatefulDataLoader(
        NUMBERS, batch_sampler=BatchSampler(RandomSampler(NUMBERS, generator=own()), 4, False)
    ),
    "stateful, distributed": lambda: StatefulDataLoader(NUMBERS, 2, sampler=shared(1)),
    "stateful, random samples": lambda: StatefulDataLoader(Noisy(), 4, shuffle=True),
    "stateful, random samples in workers": lambda: StatefulDataLoader(Noisy(), 1, shuffle=True, num_workers=2),
    "stateful, stream in workers": lambda: StatefulDataLoader(Stream(), 2, num_workers=2),
    "stateful, random stream in workers": lambda: StatefulDataLoader(Stream(noisy=True), 1, num_workers=2),
    "Fabric": lambda: fabric(shuffle=True),
    "Fabric, distributed, persistent": lambda: fabric(sampler=shared(1), num_workers=2, persistent_workers=True),
    "accelerate": lambda: accelerated(DataLoader(Noisy(), 4, shuffle=True)),
    "accelerate, distributed": lambda: accelerated(DataLoader(NUMBERS, 2, sampler=shared(1))),
}
# What is refused when its step with this number is done; before that it is exact.
REFUSED: dict[str, tuple[Callable[[], Any], int, str]] = {
    "persistent, random samples": (lambda: persistent(Noisy()), 6, "must not draw random numbers in persistent"),
    "persistent, random batches": (
        lambda: persistent(NUMBERS, collate_fn=mixed),
        6,
        "must not draw random numbers in persistent",
    ),
    "stateful, persistent, random samples": (
        lambda: StatefulDataLoader(Noisy(), 2, shuffle=True, num_workers=2, persistent_workers=True),
        6,
        "must not draw random numbers in persistent",
    ),
    "no order": (lambda: DataLoader(NUMBERS, 2, num_workers=2, in_order=False), 0, "must have in_order=True"),
    "an unknown generator": (lambda: DataLoader(Transformed(), 2), 6, "batch 1 of epoch . is another one"),
}


def build(make: Callable[[], Any], seen: list[Any]) -> Trainer:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)

    def step(batch: Any) -> None:
        seen.append((fingerprint(batch), random.random(), np.random.rand(), float(torch.rand(()))))

    return Trainer(step, make(), epochs=EPOCHS)


def stopped(make: Callable[[], Any], seen: list[Any], event: Any, count: int, file: Path) -> None:
    trainer = build(make, seen)

    def stop(event: Any) -> None:
        event.run.at_safe_point(lambda: write_checkpoint(file, event.run.state_dict()))
        event.run.stop("to be resumed")

    trainer.on(event, at=count)(stop)
    trainer.fit()


def resumed(make: Callable[[], Any], seen: list[Any], file: Path) -> Any:
    trainer = build(make, seen)
    torch.manual_seed(99)  # a program may draw before it resumes
    random.seed(99)
    trainer.fit(resume=file)
    return trainer.state_dict()["random"]


def places(steps: int) -> list[tuple[Any, int]]:
    """Return where a run of so many steps is resumed from: steps of all epochs, ends and the start of one."""
    chosen = sorted({2, steps // 3, steps // 2, steps - 1})
    return [*((StepEnd, step) for step in chosen), (EpochReport, 1), (EpochReport, 2), (EpochStart, 2)]


# Starting and stopping so many workers takes a minute; these three are tested in a quick run too.
QUICK = ("random samples in workers", "persistent, 2 workers", "stateful, workers")
SETUPS = [
    pytest.param(
        name, marks=[] if name in QUICK or not ("workers" in name or "persistent" in name) else pytest.mark.slow
    )
    for name in EXACT
]


@pytest.mark.filterwarnings("default")  # of PyTorch, Fabric and accelerate, about this machine
@pytest.mark.parametrize("name", SETUPS)
def test_data_resumes_where_it_stood(name: str, tmp_path: Path) -> None:
    straight: list[Any] = []
    trainer = build(EXACT[name], straight)
    trainer.fit()
    random_after = trainer.state_dict()["random"]
    for event, count in places(len(straight)):
        seen: list[Any] = []
        stopped(EXACT[name], seen, event, count, tmp_path / "state")
        assert resumed(EXACT[name], seen, tmp_path / "state") == random_after, (event, count)
        assert seen == straight, (event, count)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", REFUSED)
def test_data_that_cannot_is_refused_until_that_is_accepted(name: str, tmp_path: Path) -> None:
    make, last, message = REFUSED[name]
    straight: list[Any] = []
    build(make, straight).fit()
    for event, count in [(StepEnd, 5), (StepEnd, 7), (StepEnd, 13), (EpochReport, 1)]:
        seen: list[Any] = []
        stopped(make, seen, event, count, tmp_path / "state")
        if event is StepEnd and count <= last:
            resumed(make, seen, tmp_path / "state")
            assert seen == straight
        else:
            done = len(seen)
            with pytest.raises(ValueError, match=message):
                resumed(make, seen, tmp_path / "state")
            assert len(seen) == done
            build(make, seen).fit(resume=tmp_path / "state", accept="data")
            assert len(seen) == len(straight)


@pytest.mark.parametrize("cut", range(1, 24))
def test_a_buffer_that_the_steps_disturb_is_exact_or_refused(cut: int, tmp_path: Path) -> None:
    straight: list[Any] = []
    build(lambda: DataLoader(Buffered(), 3), straight).fit()
    seen: list[Any] = []
    stopped(lambda: DataLoader(Buffered(), 3), seen, StepEnd, cut, tmp_path / "state")
    if cut % 8 == 1:
        resumed(lambda: DataLoader(Buffered(), 3), seen, tmp_path / "state")
        assert seen == straight
    else:
        with pytest.raises(ValueError, match=r"'data' must (not draw from a random generator|give the batches)"):
            resumed(lambda: DataLoader(Buffered(), 3), seen, tmp_path / "state")


def test_the_epoch_that_a_callback_sets_wins_and_is_resumed(tmp_path: Path) -> None:
    def trainer(seen: list[Any]) -> Trainer:
        sampler = shared(0)
        made = build(lambda: DataLoader(NUMBERS, 2, sampler=sampler, num_workers=2), seen)
        made.on(EpochStart)(lambda event: sampler.set_epoch(10 * event.epoch))
        return made

    expected = []
    for epoch in (10, 20, 30):
        sampler = shared(0)
        sampler.set_epoch(epoch)
        expected += [fingerprint(batch) for batch in DataLoader(NUMBERS, 2, sampler=sampler)]
    seen: list[Any] = []
    first = trainer(seen)
    first.on(StepEnd, at=5)(lambda event: event.run.stop())
    first.fit()
    write_checkpoint(tmp_path / "state", first.state_dict())
    second = trainer(seen)
    second.load_state_dict(read_checkpoint(tmp_path / "state"))
    second.fit()
    assert [batch for batch, *_ in seen] == expected


def test_the_epoch_reaches_workers_that_outlive_it() -> None:
    samples: list[float] = []
    data = seeded(Noisy(), 0)
    loader: Any = persistent(data, shuffle=False, batch_size=12)
    Trainer(lambda batch: samples.extend(batch.tolist()), loader, epochs=2).fit()
    first = [float(data[index]) for index in range(12)]  # the epoch is 1 still
    assert samples[12:] == pytest.approx(first)
    data.set_epoch(0)
    assert samples[:12] == pytest.approx([float(data[index]) for index in range(12)])
    assert samples[:12] != samples[12:]
