"""What many processes cost: votes, exchanges and saves of two gloo processes of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from measure import Row

from lucid_train import EpochReport, Saved, Trainer
from lucid_train.callbacks import Checkpoint
from lucid_train.group.discovery import open_group
from lucid_train.group.exchanges import Exchanges

PARAMETERS = 10_000_000
STEPS = 2_000_000
METRICS = {name: [1.0, 2.0] for name in ("loss", "accuracy", "grad_norm", "val_loss", "val_accuracy", "val_f1")}
# What a vote has: all numbers of an exchange between two steps.
WISHES = [0.0] * 32


class Model:
    """Something of so many parameters that are the same on all processes."""

    def __init__(self) -> None:
        self.weight = np.ones(PARAMETERS, dtype=np.float32)

    def state_dict(self) -> dict[str, Any]:
        """Return the array."""
        return {"weight": self.weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the numbers."""
        self.weight[...] = state["weight"]


def constant(batch: object) -> float:
    """Do as little as a step function can."""
    return 0.5


def mean_of(function: Callable[[], object], number: int) -> float:
    """Return the seconds of one call, the shortest mean of five series: all processes call it as often."""
    means = []
    for _ in range(5):
        began = perf_counter()
        for _ in range(number):
            function()
        means.append((perf_counter() - began) / number)
    return min(means)


def step() -> float:
    """Return the seconds of a step that does nothing, in an epoch of many."""
    return mean_of(lambda: Trainer(step=constant, data=range(STEPS)).fit(), 1) / STEPS


def save(folder: Path) -> float:
    """Return the seconds of a save: from the end of an epoch until it is announced."""
    times: list[float] = []
    checkpoint = Checkpoint(folder, keep=1, signals=())
    trainer = Trainer(constant, [1], epochs=6, model=Model(), callbacks=[checkpoint])
    trainer.on(EpochReport)(lambda event: times.append(-perf_counter()))

    @trainer.on(Saved)
    def note(event: Saved) -> None:
        times[-1] += perf_counter()

    trainer.fit()
    return min(times)


def measure(rank: int, size: int, folder: Path) -> dict[str, float]:
    """Measure everything, on each process at the same time."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    if size == 1:
        return {"step": step(), "save": save(folder / "one")}
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    group = open_group()
    exchanges, numbers, found = Exchanges(group), torch.zeros(32, dtype=torch.float64), list[Any]([None] * size)
    posting = 0.0

    def vote() -> None:
        nonlocal posting
        began = perf_counter()
        read = group.post(WISHES)
        posting += perf_counter() - began
        read()

    took = {
        "voted": mean_of(vote, 500),
        "posted": posting / 2500,
        "all_reduce": mean_of(lambda: dist.all_reduce(numbers), 500),
        "exchange": mean_of(lambda: exchanges.exchange("at the end of epoch 1", METRICS), 200),
        "all_gather_object": mean_of(lambda: dist.all_gather_object(found, METRICS), 200),
    }
    group.close()
    took |= {"step": step(), "save": save(folder / "several")}
    dist.destroy_process_group()
    return took


def rows() -> list[Row]:
    """Measure everything."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        one, two = started(1, folder), started(2, folder)
    what = f"of {PARAMETERS:,} float32"
    return [
        Row("a step of two processes", two["step"], one["step"], "one of one process", extra=1e-6),
        Row("a vote, posted: what a step waits", two["posted"], two["all_reduce"], "all_reduce of 32 numbers"),
        Row("a vote, posted and read", two["voted"], two["all_reduce"], "all_reduce of 32 numbers"),
        Row("an exchange of six metrics", two["exchange"], two["all_gather_object"], "all_gather_object"),
        Row(f"a save by two processes, {what}", two["save"], one["save"], "by one process", budget=2.5),
    ]


def started(size: int, folder: str) -> dict[str, float]:
    """Return what the first of so many processes measures."""
    commands = [[sys.executable, __file__, str(rank), str(size), str(Path(folder).resolve())] for rank in range(size)]
    running = [subprocess.Popen(each, stdout=subprocess.PIPE, text=True) for each in commands]
    outputs = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError(f"a process has failed: {[process.returncode for process in running]}")
    took: dict[str, float] = json.loads(outputs[0])
    return took


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
