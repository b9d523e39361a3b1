"""A training on processes that sockets connect, without PyTorch; its gradients are averaged, its noise is not."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
from attrs import define

from lucid_train import FitEnd, Trainer, write_checkpoint
from lucid_train.callbacks import Checkpoint, CSVLogger, EarlyStopping, EventLog, LRSchedulerCallback
from lucid_train.group import Group
from lucid_train.metrics import Mean
from lucid_train.nn import Linear
from lucid_train.optims import Adam
from lucid_train.schedules import Cosine
from lucid_train.testing.processes import Hub, SocketGroup

EPOCHS, STEPS = 3, 12


@define
class Noisy:
    """Batches of a process, with noise from its own generator."""

    batches: list[tuple[Any, Any]]
    noise: Any

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        for inputs, targets in self.batches:
            yield inputs + self.noise.normal(size=inputs.shape), targets


def build(
    group: Group,
    average: Group,
    folder: Path,
    *,
    epochs: int = EPOCHS,
    seconds: float = 0.0,
    held: Path | None = None,
    threads: bool = False,
    **checkpoint: Any,
) -> Trainer:
    """Return the training of one process; `average` is what averages the gradients, as DDP does.

    Threads have no global generators of their own, and so draw from others. If `held` is a file, a step waits until it
    is there, as soon as there is a checkpoint.
    """
    rank = group.rank
    own = random.Random(rank)
    draw = own.random if threads else random.random
    if not threads:
        random.seed(rank)
    rng = np.random.default_rng(rank)
    batches = [(rng.normal(size=(4, 3)), rng.normal(size=(4, 1))) for _ in range(STEPS)]
    model = Linear(3, 1, rng=0)
    optimizer = Adam(model.parameters(), lr=0.05)

    def step(batch: tuple[Any, Any]) -> float:
        inputs, targets = batch
        errors = model(inputs) - targets
        optimizer.zero_grad()
        model.backward(2 * errors / len(errors))
        for parameter in model.parameters():
            parts = average.gather(np.ascontiguousarray(parameter.grad).tobytes())
            gradients = [np.frombuffer(each).reshape(parameter.grad.shape) for each in parts]
            parameter.grad[...] = sum(gradients) / len(gradients)
        optimizer.step()
        time.sleep(seconds)
        while held is not None and (folder / "checkpoints" / "last.safetensors").exists() and not held.exists():
            time.sleep(0.002)
        return float((errors**2).mean() + 0.01 * draw())

    def evaluate() -> dict[str, Mean]:
        inputs, targets = batches[0]
        return {"loss": Mean(((model(inputs) - targets) ** 2).sum(), len(inputs))}

    settings = {"every": 1, "interval": "step", **checkpoint}
    callbacks = [
        LRSchedulerCallback(Cosine(), interval="step"),
        Checkpoint(folder / "checkpoints", monitor="val_loss", **settings),
        EarlyStopping("val_loss", patience=99),
        EventLog(folder / "log", heartbeat=None),
        CSVLogger(folder / "table"),
    ]
    return Trainer(
        step,
        Noisy(batches, rng),
        model=model,
        optimizer=optimizer,
        epochs=epochs,
        evaluate=evaluate,
        extras={"noise": rng, "own": own},
        callbacks=callbacks,
        group=group,
    )


def trained(trainer: Trainer, rank: int, folder: Path) -> None:
    """Train, and write how this ended, and what the run has come to."""
    ended: dict[str, Any] = {}
    trainer.on(FitEnd)(lambda event: ended.update(step=event.run.step, status=event.status, reason=event.reason))
    try:
        trainer.fit(resume="auto")
        write_checkpoint(folder / f"result-{rank}", trainer.state_dict())
    finally:
        (folder / f"ended-{rank}.json").write_text(json.dumps(ended))


def connected(store: Path, rank: int, size: int, folder: Path, **settings: Any) -> None:
    """Train on processes whose hubs have written their addresses to a file."""
    while not store.exists():
        time.sleep(0.002)
    addresses = json.loads(store.read_text())
    group, average = (SocketGroup(address, rank, size) for address in addresses)
    try:
        trained(build(group, average, folder, **settings), rank, folder)
    finally:
        average.close()
        group.close()


def serve(store: Path, size: int) -> None:
    """Be the hubs, and write their addresses to a file."""
    hubs = [Hub(size) for _ in range(2)]
    part = store.with_suffix(".part")
    part.write_text(json.dumps([each.address for each in hubs]))
    os.replace(part, store)
    time.sleep(3600)
