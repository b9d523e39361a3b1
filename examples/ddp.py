"""A training with PyTorch's DistributedDataParallel; started again, it goes on from its newest checkpoint.

python examples/ddp.py [directory]
torchrun --nproc-per-node 2 examples/ddp.py [directory]
"""

import os
import sys
from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from lucid_train import StepResult, Trainer, schedules
from lucid_train.callbacks import Checkpoint, CSVLogger, EarlyStopping, EventLog, LRSchedulerCallback, RichLogger
from lucid_train.data import GlobalBatchSampler, digits, grouped
from lucid_train.metrics import Mean


def train(directory: str) -> None:
    """Train on the digits; two micro-batches of 32, on all processes together, make an update."""
    torch.manual_seed(0)  # DDP hands out the weights of the first process; the seed is the same on all
    images, labels, test_images, test_labels = (torch.from_numpy(array) for array in digits())
    train_set, test_set = TensorDataset(images.float(), labels), TensorDataset(test_images.float(), test_labels)
    loader = DataLoader(train_set, batch_sampler=GlobalBatchSampler(train_set, 32, seed=0))
    rank, size = dist.get_rank(), dist.get_world_size()
    test_loader = DataLoader(test_set, batch_size=100, sampler=range(rank, len(test_set), size))  # each its share

    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
    # With it the buckets of the gradients are never rebuilt. That is done after the first step of each process, also of
    # one that resumes, and changes the order of the sums: on three or more processes they would not be the same bits.
    model = DistributedDataParallel(network, find_unused_parameters=size > 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    def train_step(batches: list[list[Tensor]]) -> StepResult:
        optimizer.zero_grad()
        samples, total = sum(len(y) for _, y in batches), torch.zeros(())
        for number, (x, y) in enumerate(batches, 1):
            # The last one adds up the gradients of all processes.
            with nullcontext() if number == len(batches) else model.no_sync():
                loss = nn.functional.cross_entropy(model(x), y, reduction="sum") / samples
                loss.backward()
            total += loss.detach()
        optimizer.step()
        return StepResult(total, weight=samples)

    @torch.no_grad()
    def evaluate() -> dict[str, Mean]:
        loss, right, samples = torch.zeros(()), 0, 0
        for x, y in test_loader:
            scores = network(x)  # without DDP, which would expect as many batches on all processes
            loss += nn.functional.cross_entropy(scores, y, reduction="sum")
            right, samples = right + int((scores.argmax(dim=1) == y).sum()), samples + len(y)
        return {"loss": Mean(loss, samples), "accuracy": Mean(right, samples)}

    Trainer(
        train_step,
        grouped(loader, 2),
        epochs=6,
        model=model,
        optimizer=optimizer,
        evaluate=evaluate,
        callbacks=[
            LRSchedulerCallback(schedules.Cosine().warmup("5%"), interval="step"),
            EarlyStopping("val_loss", patience=3),
            Checkpoint(directory, every=10, interval="step", monitor="val_accuracy"),
            EventLog(f"{directory}/run.jsonl"),
            CSVLogger(f"{directory}/run.csv"),
            RichLogger(),
        ],
    ).fit(resume="auto")


def main(directory: str = "runs/ddp") -> None:
    """Connect the processes and train. The model is gone when they part: else PyTorch may abort as it exits."""
    if "RANK" in os.environ:
        dist.init_process_group("gloo")  # "nccl" for GPUs
    else:
        dist.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    train(directory)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
