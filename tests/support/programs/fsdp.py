"""A model that fully_shard spreads over all processes: `fsdp.py FOLDER [STEP]` dies by SIGKILL after that step."""

import os
import signal
import sys
from hashlib import sha256

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard

from lucid_train import StepEnd, Trainer
from lucid_train.callbacks import Checkpoint, RichLogger


def main(folder: str, dies_at: int | None) -> None:
    torch.manual_seed(0)
    # Neither 33 nor 7 can be halved: the shards are uneven.
    model = nn.Sequential(nn.Linear(7, 33), nn.ReLU(), nn.Linear(33, 1))
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    rank = torch.distributed.get_rank()
    generator = torch.Generator().manual_seed(rank)
    data = [torch.randn(4, 7, generator=generator) for _ in range(6)]

    def step(batch: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = (model(batch + 0.1 * torch.randn(batch.shape)) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    checkpoint = Checkpoint(folder, interval="step", every=1)
    trainer = Trainer(step, data, model=model, optimizer=optimizer, epochs=3, callbacks=[checkpoint, RichLogger()])
    if dies_at is not None:
        trainer.on(StepEnd, at=dies_at)(lambda event: os.kill(os.getpid(), signal.SIGKILL))
    history = trainer.fit(resume="auto")
    weights = sha256()
    for parameter in model.parameters():
        weights.update(parameter.to_local().detach().numpy().tobytes())
    # At once, as two processes write.
    print(f"end {rank} {weights.hexdigest()} {history.metric('loss')}\n", end="", flush=True)


if __name__ == "__main__":
    torch.distributed.init_process_group("gloo")
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
    torch.distributed.destroy_process_group()
