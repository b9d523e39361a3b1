"""Weights and optimizer of a run of many processes with FSDP2, exported so that any other number of them can go on.

    torchrun --nproc-per-node 2 examples/export_shards.py export FOLDER
    torchrun --nproc-per-node 3 examples/export_shards.py load FOLDER
    python examples/export_shards.py load FOLDER

A checkpoint holds the parts of its processes, and is for as many as have written it. PyTorch's distributed checkpoint
puts the parts together. `export` and `load` are collective: every process calls them. Needs PyTorch.
"""

import os
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from lucid_train import History, Trainer


def export(model: nn.Module, optimizer: torch.optim.Optimizer, folder: str) -> None:
    """Write the weights and the optimizer's state, by the names of the parameters, from all processes."""
    weights, state = get_state_dict(model, optimizer)
    state_dict_saver.save({"model": weights, "optimizer": state}, checkpoint_id=folder)


def load(model: nn.Module, optimizer: torch.optim.Optimizer, folder: str) -> None:
    """Load what `export` wrote, in any number of processes; of a single one without a group PyTorch warns."""
    weights, state = get_state_dict(model, optimizer)  # which is filled in place
    state_dict_loader.load({"model": weights, "optimizer": state}, checkpoint_id=folder)
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=state)


def build() -> tuple[nn.Sequential, torch.optim.Adam]:
    """Return a model, spread over the processes if there are any others, and its optimizer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 1))
    if dist.is_initialized():
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        for layer in (model[0], model[2], model):
            fully_shard(layer, mesh=mesh)
    return model, torch.optim.Adam(model.parameters(), lr=0.1)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> History:
    """Train for some epochs."""
    inputs = torch.linspace(-1, 1, 40).reshape(8, 5)

    def step(batch: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = (model(batch) - batch.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Trainer(step, [inputs[:4], inputs[4:]], epochs=epochs, model=model, optimizer=optimizer).fit()


def main(command: str, folder: str) -> None:
    """Train and export, or load and train on."""
    model, optimizer = build()
    if command == "export":
        train(model, optimizer, epochs=3)
        export(model, optimizer, folder)
    else:
        load(model, optimizer, folder)
    whole: dict[str, Any] = get_model_state_dict(
        model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    if whole:  # the first process has it
        print({name: [round(number, 5) for number in each.flatten().tolist()] for name, each in whole.items()})
    if command == "load":
        history = train(model, optimizer, epochs=1)
        if whole:
            print(f"loss {history[-1].metrics['loss']:.5f}")


if __name__ == "__main__":
    if "RANK" in os.environ:  # torchrun started this
        dist.init_process_group("gloo")
    main(*sys.argv[1:])
    if dist.is_initialized():
        dist.destroy_process_group()
