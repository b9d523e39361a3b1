"""Trainings on all processes of a launch: `torchrun ... distributed.py FOLDER CASE ...`, each in a folder of its case.

Each process writes how a case has ended to `ended-RANK.json`, and the state that its run came to to `result-RANK`.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # which the first step imports: processes that are forked from this one find it imported
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from lucid_train import FitEnd, StepEnd, Trainer, write_checkpoint
from lucid_train.callbacks import Checkpoint, CSVLogger, EventLog, LRSchedulerCallback, RichLogger
from lucid_train.data import GlobalBatchSampler, digits, grouped
from lucid_train.metrics import Mean
from lucid_train.schedules import Cosine

EPOCHS, BATCH = 3, 20


def seed(number: int) -> None:
    """Seed all generators; processes draw different numbers, and DDP hands out the weights of the first."""
    torch.manual_seed(number)
    np.random.seed(number)
    random.seed(number)


def samples() -> TensorDataset:
    images, labels, _, _ = (torch.from_numpy(array) for array in digits())
    return TensorDataset(images[:400].float(), labels[:400])


def slices() -> DataLoader[Any]:
    """Return the loader that gives this process its slice of every batch."""
    return DataLoader(samples(), batch_sampler=GlobalBatchSampler(400, BATCH, seed=0))


def network(dropout: float = 0.1) -> nn.Module:
    return nn.Sequential(nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(dropout), nn.Linear(24, 10))


def writers(folder: Path, every: int = 10) -> list[Any]:
    """Return what writes and shows a run: each in one place for all processes."""
    return [
        Checkpoint(folder / "checkpoints", every=every, interval="step"),
        EventLog(folder / "log", heartbeat=None),
        CSVLogger(folder / "table"),
        RichLogger(bars=False),
    ]


def replicated(folder: Path, *, every: int = 10, seconds: float = 0.0, held: Path | None = None) -> Trainer:
    """Return a training of DDP that is saved every so many steps, which also sleep for so many seconds.

    If `held` is a file, the second step of a process and those that follow wait until it is there, or make it if this
    process has been interrupted.
    """
    done: list[int] = []
    seed(dist.get_rank())
    rank, size = dist.get_rank(), dist.get_world_size()
    # Without it the buckets are rebuilt after the first step of each process, also of one that resumes: gradients of
    # three and more processes are then added in another order, as those of an uninterrupted run are not.
    model = DistributedDataParallel(network(), find_unused_parameters=size > 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    _, _, images, labels = (torch.from_numpy(array) for array in digits())
    images, labels = images.float()[rank::size], labels[rank::size]

    def step(batch: Any) -> torch.Tensor:
        x, y = batch
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        time.sleep(seconds)
        done.append(1)
        while held is not None and len(done) > 1 and not held.exists():
            if trainer._run.interruption is not None:
                held.touch()
            time.sleep(0.002)
        return loss

    @torch.no_grad()
    def evaluate() -> dict[str, Mean]:
        scores = model.module(images)
        return {"accuracy": Mean((scores.argmax(dim=1) == labels).sum(), len(labels))}

    callbacks = [LRSchedulerCallback(Cosine(), interval="step"), *writers(folder, every)]
    trainer = Trainer(
        step, slices(), epochs=EPOCHS, model=model, optimizer=optimizer, evaluate=evaluate, callbacks=callbacks
    )
    return trainer


def accumulated(folder: Path) -> Trainer:
    """Return a training of DDP in which only the last micro-batch of an update exchanges gradients."""
    seed(0)
    model = DistributedDataParallel(network(dropout=0.0)[0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(batches: Any) -> torch.Tensor:
        optimizer.zero_grad()
        total = torch.zeros(())
        for number, (x, y) in enumerate(batches, 1):
            with nullcontext() if number == len(batches) else model.no_sync():
                loss = nn.functional.cross_entropy(model(x), y) / len(batches)
                loss.backward()
            total += loss.detach()
        optimizer.step()
        return total

    callbacks = [Checkpoint(folder / "checkpoints", every=10, interval="step")]
    return Trainer(step, grouped(slices(), 2), epochs=EPOCHS, model=model, optimizer=optimizer, callbacks=callbacks)


def measured(folder: Path) -> Trainer:
    """Return a training whose accuracy and confusion matrix torchmetrics puts together over all processes."""
    from torchmetrics import MetricCollection
    from torchmetrics.classification import MulticlassAccuracy

    seed(dist.get_rank())
    model = DistributedDataParallel(network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    accuracy = MulticlassAccuracy(10, average="micro")
    within = MetricCollection({"top3": MulticlassAccuracy(10, average="micro", top_k=3)})
    for metric in (accuracy, *within.values()):
        metric.persistent(True)
    rank, size = dist.get_rank(), dist.get_world_size()
    _, _, images, labels = (torch.from_numpy(array) for array in digits())

    def step(batch: Any) -> torch.Tensor:
        x, y = batch
        scores = model(x)
        loss = nn.functional.cross_entropy(scores, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        accuracy.update(scores, y)
        return (scores.argmax(dim=1) == y).float().mean()

    @torch.no_grad()
    def evaluate() -> dict[str, Mean]:
        scores = model.module(images.float()[rank::size])
        within.update(scores, labels[rank::size])
        found = scores.topk(3, dim=1).indices == labels[rank::size][:, None]
        return {"by_hand": Mean(found.sum(), len(found))}

    return Trainer(
        step,
        slices(),
        epochs=EPOCHS,
        model=model,
        optimizer=optimizer,
        evaluate=evaluate,
        metrics={"accuracy": accuracy, "val": within},
        callbacks=[Checkpoint(folder / "checkpoints", every=10, interval="step")],
    )


def accelerated(folder: Path) -> Trainer:
    """Return a training in which Accelerate prepares model, optimizer and data, and does the backward pass."""
    from accelerate import Accelerator

    seed(int(os.environ["RANK"]))
    accelerator = Accelerator(cpu=True)
    loader = DataLoader(samples(), batch_size=BATCH // 2, shuffle=True)
    model = network()
    model, optimizer, data = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=0.01), loader)

    def step(batch: Any) -> torch.Tensor:
        x, y = batch
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        accelerator.backward(loss)
        optimizer.step()
        return loss.detach()

    callbacks = [LRSchedulerCallback(Cosine(), interval="step"), *writers(folder)]
    return Trainer(step, data, epochs=EPOCHS, model=model, optimizer=optimizer, callbacks=callbacks)


def fabricated(folder: Path) -> Trainer:
    """Return a training in which Fabric sets up model, optimizer and data, and does the backward pass."""
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=int(os.environ["WORLD_SIZE"]), strategy="ddp")
    fabric.launch()
    seed(0)
    loader = DataLoader(samples(), batch_size=BATCH // 2, shuffle=True)
    model = network()
    model, optimizer = fabric.setup(model, torch.optim.AdamW(model.parameters(), lr=0.01))
    seed(fabric.global_rank)

    def step(batch: Any) -> torch.Tensor:
        x, y = batch
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        fabric.backward(loss)
        optimizer.step()
        return loss.detach()

    callbacks = [LRSchedulerCallback(Cosine(), interval="step"), *writers(folder)]
    data = fabric.setup_dataloaders(loader)
    return Trainer(step, data, epochs=EPOCHS, model=model, optimizer=optimizer, callbacks=callbacks)


def trained(trainer: Trainer, folder: Path) -> None:
    """Train, and write how this ended, however it ended."""
    rank = int(os.environ["RANK"])
    ended: dict[str, Any] = {}
    trainer.on(FitEnd)(lambda event: ended.update(step=event.run.step, status=event.status, reason=event.reason))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        history = trainer.fit(resume="auto")
        ended["metrics"] = [{name: value.hex() for name, value in record.metrics.items()} for record in history]
        write_checkpoint(folder / f"result-{rank}", trainer.state_dict())
    except BaseException as error:
        ended["error"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        (folder / f"ended-{rank}.json").write_text(json.dumps(ended))


def in_two_parts(build: Callable[[Path], Trainer], folder: Path) -> None:
    """Train without a break; and again, stopped by the last process within the first epoch, and built once more."""
    trained(build(folder / "straight"), folder / "straight")
    first = build(folder / "parts")

    @first.on(StepEnd, at=3)
    def stop(event: StepEnd) -> None:
        if event.run.rank == event.run.world_size - 1:
            event.run.stop("enough for now")

    trained(first, folder / "parts")
    ended = folder / "parts" / f"ended-{os.environ['RANK']}.json"
    ended.rename(ended.with_name(f"stopped-{os.environ['RANK']}.json"))
    trained(build(folder / "parts"), folder / "parts")


def different_weights(folder: Path) -> None:
    """Try to train replicas that differ."""
    trainer = replicated(folder)
    if dist.get_rank() == 1:
        with torch.no_grad():
            next(trainer.model.parameters()).add_(1e-7)  # type: ignore[union-attr]
    try:
        trained(trainer, folder)
    except ValueError:
        return


CASES: dict[str, Callable[[Path], object]] = {
    "replicated": lambda folder: in_two_parts(replicated, folder),
    "accumulated": lambda folder: in_two_parts(accumulated, folder),
    "measured": lambda folder: in_two_parts(measured, folder),
    "accelerated": lambda folder: in_two_parts(accelerated, folder),
    "fabricated": lambda folder: in_two_parts(fabricated, folder),
    "different weights": different_weights,
    # For processes that are killed, or asked to end: `slow` may be started again and again.
    "slow": lambda folder: trained(replicated(folder, every=1, seconds=0.01, held=folder.with_name("goes on")), folder),
    "straight": lambda folder: trained(replicated(folder, every=1), folder),
}


def connected(store: Path, rank: int, size: int, folder: Path) -> None:
    """Train on processes that meet at a store; a file beside it says that this one has met the others."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    Path(f"{store}-met-{rank}").touch()
    trained(replicated(folder, every=1), folder)
    dist.destroy_process_group()


def main(folder: str, *cases: str) -> None:
    """Train each case, in a function: models are gone when the processes part."""
    torch.set_num_threads(1)
    if not {"fabricated", "accelerated"} & set(cases):  # they connect the processes themselves
        dist.init_process_group("gloo")
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
    for case in cases:
        print(f"case {case}", flush=True)
        CASES[case](Path(folder) / case)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
