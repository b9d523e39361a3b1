"""Gradients that are clipped, spikes and throughput under torchrun: `instruments.py ddp|fsdp` prints what came."""

import sys
from hashlib import sha256
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from lucid_train import StepResult, Trainer
from lucid_train.callbacks import GradientMonitor, SpikeGuard, ThroughputMonitor


def trained(kind: str, *, monitored: bool) -> str:
    """Train, clipped by a monitor or by PyTorch, and describe the weights here and the norms."""
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(7, 33), nn.Tanh(), nn.Linear(33, 1))
    model = DistributedDataParallel(model) if kind == "ddp" else fully_shard(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rank = torch.distributed.get_rank()
    generator = torch.Generator().manual_seed(rank)
    data = [torch.randn(4, 7, generator=generator) * (1000 if number == 5 else 1) for number in range(8)]
    monitor, guard = GradientMonitor(0.01, ratio=True), SpikeGuard(warmup=3)

    def step(batch: torch.Tensor) -> StepResult:
        optimizer.zero_grad()
        loss = model(batch).square().mean() + batch.abs().mean()
        loss.backward()
        shared = loss.detach().clone()
        torch.distributed.all_reduce(shared)
        if guard.spiked(shared):
            return StepResult({"loss": loss}, weight=0, updated=False)
        if not monitored:
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            optimizer.step()
            return StepResult({"loss": loss, "grad_norm": norm.full_tensor() if hasattr(norm, "full_tensor") else norm})
        monitor.clip()
        optimizer.step()
        return StepResult({"loss": loss, **monitor.metrics()})

    callbacks = [monitor, guard, ThroughputMonitor(4)]
    history = Trainer(step, data, model=model, optimizer=optimizer, epochs=2, callbacks=callbacks).fit()
    weights = sha256()
    for parameter in model.parameters():
        own: Any = parameter.to_local() if hasattr(parameter, "to_local") else parameter
        weights.update(own.detach().numpy().tobytes())
    names = {"samples_per_second", "data_wait", *(("clipped", "update_ratio") if monitored else ())}
    assert names < set(history.metric_names())
    return f"{weights.hexdigest()} {history.metric('grad_norm')} {guard.spikes}"


if __name__ == "__main__":
    torch.distributed.init_process_group("gloo")
    for monitored in (True, False):
        found = trained(sys.argv[1], monitored=monitored)
        sys.stdout.write(f"end {torch.distributed.get_rank()} {found}\n")  # at once, as two processes write
        sys.stdout.flush()
    torch.distributed.destroy_process_group()
