"""A run of two processes with FSDP2, and with tensor parallelism besides, that goes on from what each of them saved.

`torchrun --nproc-per-node 2 shards.py FOLDER` leaves in the folder a checkpoint and a file of findings per process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from examples.export_shards import export
from lucid_train import StepEnd, Trainer, read_checkpoint, write_checkpoint
from lucid_train.callbacks import EarlyStopping, WeightAverage
from lucid_train.saving.checkpoint.tree import flatten
from lucid_train.saving.fingerprint import fingerprint
from lucid_train.testing import diff_states


def sharded(mesh: Any) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a model of which the second process holds nothing of one layer, and unequal parts of another."""
    model = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 1))
    for layer in (model[0], model[2], model):
        fully_shard(layer, mesh=mesh)
    return model, torch.optim.Adam(model.parameters(), lr=0.05)


def parallel(mesh: Any) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a model whose layers are cut over the second dimension of the mesh, and over the first by FSDP2."""
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1))
    parallelize_module(model, mesh["tp"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
    fully_shard(model, mesh=mesh["dp"])
    return model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def trainer(model: Any, optimizer: Any) -> Trainer:
    def step(batch: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = (model(batch) - batch.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    data = list(torch.linspace(-1, 1, 80).reshape(16, 5).split(4))
    callbacks = [EarlyStopping("loss", patience=9, restore_best=True), WeightAverage()]
    return Trainer(step, data, epochs=3, model=model, optimizer=optimizer, callbacks=callbacks)


def go_on(build: Any, mesh: Any, folder: Path, name: str) -> dict[str, Any]:
    """Train a model three epochs, and another two times, cut in the middle of an epoch; return what was found."""

    def begin(seed: int) -> Trainer:
        torch.manual_seed(seed)
        return trainer(*build(mesh))

    straight, cut, resumed = begin(1), begin(1), begin(2)
    straight.fit()
    path = folder / f"{name}-{dist.get_rank()}.safetensors"
    found: dict[str, Any] = {}

    @cut.on(StepEnd, at=6)
    def stop(event: StepEnd) -> None:
        event.run.at_safe_point(lambda: save(event.run.state_dict))
        event.run.stop("cut")

    def save(state_dict: Any) -> None:
        with CommDebugMode() as exchanges:
            state = state_dict()
            flat = flatten(state)
        found["exchanges of a save"] = exchanges.get_total_counts()
        places = {leaf.name: leaf.data.ctypes.data for leaf in flat.leaves}
        parts = {f"model.{key}": each.to_local() for key, each in state["model"].items()}
        found["copied"] = [key for key, part in parts.items() if part.numel() and places[key] != part.data_ptr()]
        write_checkpoint(path, state)

    cut.fit()
    read = read_checkpoint(path)
    with CommDebugMode() as exchanges:
        resumed.load_state_dict(read)
    found["exchanges of a resume"] = exchanges.get_total_counts()
    found["read again"] = diff_states(read, read_checkpoint(path)) + diff_states(read, resumed.state_dict())
    resumed.fit()
    found["differing"] = diff_states(straight.state_dict(), resumed.state_dict())
    found["spread"] = sum(isinstance(each, DTensor) for each in resumed.model.state_dict().values())
    found["moments"] = sorted(
        {
            key
            for kept in resumed.optimizer.state_dict()["state"].values()
            for key, each in kept.items()
            if isinstance(each, DTensor)
        }
    )
    return found


def others(mesh: Any, folder: Path) -> dict[str, Any]:
    """Return what becomes of the other places that a DTensor may come to."""
    model, optimizer = sharded(mesh)
    trainer(model, optimizer).load_state_dict(read_checkpoint(folder / f"sharded-{dist.get_rank()}.safetensors"))
    export(model, optimizer, str(folder / "export"))
    model, optimizer = sharded(mesh)
    found: dict[str, Any] = {}
    with CommDebugMode() as exchanges:
        found["fingerprints"] = len({fingerprint(each) for each in model.state_dict().values()})
    found["exchanges of fingerprints"] = exchanges.get_total_counts()
    with CommDebugMode() as exchanges:
        model(torch.ones(1, 5))
    found["exchanges of a forward pass"] = exchanges.get_total_counts() > 0
    loss = DTensor.from_local(torch.tensor(1.0), mesh, [Partial()])
    try:
        Trainer(lambda batch: loss, [1]).fit()
    except TypeError as error:
        found["loss"] = str(error)
    return found


def main(folder: Path) -> None:
    found = {
        "sharded": go_on(sharded, init_device_mesh("cpu", (2,)), folder, "sharded"),
        "parallel": go_on(parallel, init_device_mesh("cpu", (1, 2), mesh_dim_names=("dp", "tp")), folder, "parallel"),
        "others": others(init_device_mesh("cpu", (2,)), folder),
    }
    (folder / f"found-{dist.get_rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    dist.init_process_group("gloo")
    main(Path(sys.argv[1]))
    dist.destroy_process_group()
