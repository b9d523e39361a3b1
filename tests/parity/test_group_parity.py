"""Processes that torch.distributed has joined to a group do not overwrite each other's files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os
import sys
import torch.distributed as dist
from lucid_train import Trainer
from lucid_train.callbacks import Checkpoint, CSVLogger, EventLog

rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
for kind in (Checkpoint, CSVLogger, EventLog):
    try:
        print(Trainer(callbacks=[kind(f"{folder}/{kind.__name__}")]).fit().status)
    except RuntimeError as error:
        print(error)
dist.barrier()
dist.destroy_process_group()
"""


def printed(size: int, folder: Path, program: str = PROGRAM) -> list[list[str]]:
    """Return the lines of each process of a group."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(rank), str(size), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    ended = [(*each.communicate(timeout=100), each.returncode) for each in running]
    assert [code for *_, code in ended] == [0] * size, ended
    return [output.splitlines() for output, *_ in ended]


def test_the_processes_of_a_group_write_one_set_of_files(tmp_path: Path) -> None:
    assert printed(2, tmp_path) == [["completed"] * 3] * 2
    names = ["checkpoint-000001-epoch-1-step-1.rank-1.safetensors", "checkpoint-000001-epoch-1-step-1.safetensors"]
    assert sorted(os.listdir(tmp_path / "Checkpoint")) == [*names, "history-000001.jsonl", "last.safetensors"]
    assert len((tmp_path / "CSVLogger").read_text().splitlines()) == 2
    assert (tmp_path / "EventLog").read_text().count('"event":"FitStart"') == 1


def test_a_group_of_one_process_is_one_process(tmp_path: Path) -> None:
    assert printed(1, tmp_path) == [["completed"] * 3]
    assert len(os.listdir(tmp_path / "Checkpoint")) == 3


LATE = """
import random
import sys
import time
import torch.distributed as dist
from lucid_train.group import torch_group

rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
torch_group._SLICE = 0.002
group, chance = torch_group.TorchGroup(), random.Random(0)
for _ in range(2000):
    seconds = chance.uniform(0.0, 0.006)
    if rank == 1:
        time.sleep(seconds)
    group.gather(b"")
print("all have come")
group.close()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_who_comes_just_when_a_slice_of_the_wait_has_passed_is_not_lost(tmp_path: Path) -> None:
    assert printed(2, tmp_path, LATE) == [["all have come"]] * 2
