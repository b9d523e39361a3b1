"""PyTorch's loaders give each process its slice of every batch, and a run of several is one of one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from attrs import frozen
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from lucid_train import StepResult, Trainer
from lucid_train.data import GlobalBatchSampler, batches, seeded, weighted
from lucid_train.group.protocol import Solo

Kind = Literal["drop", "pad"]
ROWS = torch.randn(21, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGETS = ROWS.sum(dim=1) ** 2
EXAMPLES: Any = TensorDataset(ROWS, TARGETS)


@frozen
class Of:
    """A process of several."""

    rank: int
    world_size: int


class Table(Dataset[Any]):
    """Reads several samples at once, as data sets on a disk do."""

    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("one sample was asked for")

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return list(zip(ROWS[indices], TARGETS[indices], strict=True))


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(EXAMPLES)


def loaded(dataset: Any, group: Any, last: Kind, **settings: Any) -> Any:
    sampler = GlobalBatchSampler(dataset, 8, seed=3, last=last, group=group)
    return DataLoader(dataset, batch_sampler=sampler, **settings)


DATASETS: dict[str, Any] = {
    "tensors": EXAMPLES,
    "a part": Subset(EXAMPLES, range(21)),
    "several at once": Table(),
    "seeded": seeded(EXAMPLES, 0),
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", DATASETS)
def test_the_slices_of_a_batch_come_with_their_weights_and_are_together_that_of_one_process(
    name: str, workers: int
) -> None:
    dataset = weighted(DATASETS[name])
    (whole,), parts = (
        [list(loaded(dataset, Of(rank, world), "pad", num_workers=workers)) for rank in range(world)]
        for world in (1, 2)
    )
    assert [len(part) for part in parts] == [len(whole)] * 2 == [3, 3]
    for ((x, y), weights), *slices in zip(whole, *parts, strict=True):
        assert [len(weights) for _, weights in slices] == [4, 4]
        assert torch.equal(x, torch.cat([x for (x, _), _ in slices]))
        assert torch.equal(y, torch.cat([y for (_, y), _ in slices]))
        assert torch.equal(weights, torch.cat([weights for _, weights in slices]))
        assert weights.dtype == torch.float32
    assert [weights.tolist() for _, weights in whole] == [[1.0] * 8, [1.0] * 8, [1.0] * 5 + [0.0] * 3]
    order = np.random.default_rng([3, 0]).permutation(21)
    assert torch.equal(torch.cat([x for (x, _), _ in whole]), ROWS[[*order, *order[:3]]])


@pytest.mark.parametrize("name", DATASETS)
def test_a_padded_batch_of_a_data_set_without_weights_is_an_error(name: str) -> None:
    loader = loaded(DATASETS[name], Solo(), "pad")
    with pytest.raises((IndexError, TypeError)):
        next(iter(loader))


def test_a_stream_has_no_indices() -> None:
    with pytest.raises(TypeError, match="'dataset' must have __getitem__ and __len__: <"):
        weighted(Stream())
    with pytest.raises(TypeError, match="'dataset' must have a length, or be one: <"):
        GlobalBatchSampler(Stream(), 2)  # type: ignore[arg-type]


def trained(rank: int, world: int, last: Kind, workers: int) -> tuple[Any, Any, list[float]]:
    """Return each step's sum of losses and weights, and its gradients, on a process of several; and the mean losses."""
    torch.manual_seed(0)
    model, sums, gradients = torch.nn.Linear(3, 1, dtype=torch.float64), [], []

    def step(batch: Any) -> Any:
        (x, y), weights = batch
        model.zero_grad()
        total = ((model(x)[:, 0] - y) ** 2 * weights).sum()
        total.backward()
        sums.append((total.item(), weights.sum().item()))
        gradients.append([number for parameter in model.parameters() for number in parameter.grad.ravel().tolist()])
        return StepResult(total.detach() / weights.sum().clamp(min=1), weight=weights.sum())

    data = loaded(weighted(EXAMPLES), Of(rank, world), last, num_workers=workers)
    history = Trainer(step, data, epochs=3, model=model).fit()
    return np.array(sums), np.array(gradients), [record.metrics["loss"] for record in history]


@pytest.mark.parametrize(("world", "workers"), [(2, 0), (4, 0), (2, 2)])
@pytest.mark.parametrize("last", ["drop", "pad"])
def test_mean_losses_and_gradients_are_those_of_one_process(world: int, workers: int, last: Kind) -> None:
    alone, whole, means = trained(0, 1, last, 0)
    parts = [trained(rank, world, last, workers) for rank in range(world)]
    sums = np.sum([each for each, _, _ in parts], axis=0)
    assert sums == pytest.approx(alone, rel=1e-12)
    assert np.sum([each for _, each, _ in parts], axis=0) == pytest.approx(whole, rel=1e-12, abs=1e-12)
    losses, weights = sums.reshape(3, -1, 2).sum(axis=1).T
    assert losses / weights == pytest.approx(means, rel=1e-12)
    assert weights.tolist() == [21.0 if last == "pad" else 16.0] * 3


def of_pytorch(group: Any) -> Any:
    return loaded(weighted(TensorDataset(torch.arange(21))), group, "pad")


def of_arrays(group: Any) -> Any:
    return batches(np.arange(21), batch_size=8, seed=3, last="pad", group=group)


@pytest.mark.parametrize("make", [of_pytorch, of_arrays])
@pytest.mark.parametrize(("before", "after"), [(2, 4), (4, 1), (1, 2)])
def test_a_run_that_goes_on_in_another_world_sees_every_sample_once_per_epoch_in_the_same_order(
    make: Any, before: int, after: int
) -> None:
    def run(world: int, states: list[Any], epochs: int) -> tuple[list[list[Any]], list[Any]]:
        """Return what is real of the global batches, epoch by epoch, and the states at the end."""
        seen: list[list[Any]] = [[] for _ in range(world)]
        ends = []
        for rank in range(world):

            def step(batch: Any, mine: list[Any] = seen[rank]) -> Any:
                numbers, weights = batch
                mine.append([int(each) for each in np.ravel(numbers)[np.asarray(weights) > 0]])
                return StepResult(0.0, weight=float(weights.sum()))

            trainer = Trainer(step, make(Of(rank, world)), epochs=epochs)
            if states:
                trainer.load_state_dict(states[0], accept=["epochs", "data"])
            trainer.fit()
            ends.append(trainer.state_dict())
        return [[number for part in parts for number in part] for parts in zip(*seen, strict=True)], ends

    straight, _ = run(1, [], 3)
    first, states = run(before, [], 1)
    rest, _ = run(after, states, 3)
    assert first + rest == straight
    for epoch in range(3):
        assert sorted(number for batch in straight[3 * epoch : 3 * epoch + 3] for number in batch) == [*range(21)]


# Without an optimizer of PyTorch's, which takes seconds to be imported.
PROGRAM = """
import json
import sys

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, TensorDataset

from lucid_train import EpochEnd, StepResult, Trainer
from lucid_train.data import GlobalBatchSampler, weighted

rank, size, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
rows = torch.randn(21, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
examples = weighted(TensorDataset(rows, rows.sum(dim=1) ** 2))
torch.manual_seed(0)
model = torch.nn.Linear(3, 1, dtype=torch.float64)
total = torch.zeros(2, dtype=torch.float64)
means = []


def step(batch):
    (x, y), weights = batch
    model.zero_grad()
    loss = ((model(x)[:, 0] - y) ** 2 * weights).sum()
    loss.backward()
    count = weights.sum(dtype=torch.float64)
    total.add_(torch.stack([loss.detach(), count]))
    every = count.clone()
    dist.all_reduce(every)
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad)
        parameter.data -= 0.01 * parameter.grad / every
    return StepResult(loss.detach() / count.clamp(min=1), weight=count)


data = DataLoader(examples, batch_sampler=GlobalBatchSampler(examples, 8, last="pad"))
trainer = Trainer(step, data, epochs=3, model=model)


@trainer.on(EpochEnd)
def note(event):
    dist.all_reduce(total)
    means.append((total[0] / total[1]).item())
    total.zero_()


trainer.fit()
print(json.dumps([means, [number for each in model.parameters() for number in each.ravel().tolist()]]))
dist.barrier()
dist.destroy_process_group()
"""


def printed(size: int, folder: Path) -> list[Any]:
    """Return what each process of a group prints."""
    command = [sys.executable, "-c", PROGRAM]
    running = [
        subprocess.Popen(
            [*command, str(rank), str(size), str(folder / f"store-{size}")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    ended = [(*each.communicate(timeout=100), each.returncode) for each in running]
    assert [code for *_, code in ended] == [0] * size, ended
    return [json.loads(output) for output, *_ in ended]


@pytest.mark.slow
def test_processes_of_torch_distributed_train_as_one_does(tmp_path: Path) -> None:
    [(means, weights)] = printed(1, tmp_path)
    for their_means, their_weights in printed(2, tmp_path):
        assert their_means == pytest.approx(means, rel=1e-12)
        assert their_weights == pytest.approx(weights, rel=1e-12)
