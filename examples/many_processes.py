"""One program for one process and for many; started again, it goes on from its newest checkpoint.

    python examples/many_processes.py [directory]
    torchrun --nproc-per-node 2 examples/many_processes.py [directory]
    mpirun -n 2 python -m mpi4py examples/many_processes.py [directory]

Ray's TorchTrainer runs `main` too, with a RayReport among the callbacks: see docs/guides/ray.md. Steps, rates and
losses do not depend on the number of processes.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from lucid_train import Callback, Trainer, nn, optims, schedules
from lucid_train.callbacks import Checkpoint, EventLog, LRSchedulerCallback, RichLogger
from lucid_train.data import batches, digits
from lucid_train.metrics import Mean


def connect() -> tuple[int, int, Callable[[Any], object], Callable[[], object]]:
    """Return this process's rank, how many there are, what adds up an array over all in place, and what ends this."""
    if "RANK" in os.environ:  # of torchrun, or of Ray, which has connected the processes already
        import torch
        import torch.distributed as dist

        close = (lambda: None) if dist.is_initialized() else dist.destroy_process_group
        if not dist.is_initialized():
            dist.init_process_group("gloo")

        def add_up(array: Any) -> None:
            dist.all_reduce(torch.from_numpy(array))

        return dist.get_rank(), dist.get_world_size(), add_up, close
    if "mpi4py" in sys.modules:
        from mpi4py import MPI

        world = MPI.COMM_WORLD
        return world.rank, world.size, lambda array: world.Allreduce(MPI.IN_PLACE, array), lambda: None
    return 0, 1, lambda array: None, lambda: None


def main(directory: str = "runs/digits", *, others: Sequence[Callback] = ()) -> None:
    """Train on the digits: each process takes its slice of every batch, and of the test set.

    Args:
        directory: Where checkpoints and the log go; one that all processes see.
        others: Further callbacks.
    """
    rank, size, add_up, close = connect()
    images, labels, test_images, test_labels = digits()
    test_images, test_labels = test_images[rank::size], test_labels[rank::size]
    model = nn.Sequential(nn.Linear(64, 32, rng=0), nn.ReLU(), nn.Linear(32, 10, rng=1))
    criterion, optimizer = nn.CrossEntropyLoss(), optims.Adam(model.parameters(), lr=0.01)

    def step(batch: Any) -> float:
        x, y = batch
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        model.backward(criterion.backward())
        for parameter in model.parameters():
            gradient: Any = parameter.grad
            add_up(gradient)
            gradient /= size
        optimizer.step()
        return loss

    def evaluate() -> dict[str, Mean]:
        return {"accuracy": Mean((model(test_images).argmax(axis=1) == test_labels).sum(), len(test_labels))}

    data = batches(images, labels, batch_size=32, last="drop")  # 32 on all processes together
    checkpoint, log = Checkpoint(directory, every=10, interval="step"), EventLog(f"{directory}/run.jsonl")
    callbacks = [LRSchedulerCallback(schedules.Cosine()), checkpoint, log, RichLogger(), *others]
    trainer = Trainer(step, data, epochs=5, model=model, optimizer=optimizer, evaluate=evaluate, callbacks=callbacks)
    trainer.fit(resume="auto")
    close()


if __name__ == "__main__":
    main(*sys.argv[1:])
