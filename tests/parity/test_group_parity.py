"""Processes that torch.distributed has joined to a group are refused what would overwrite each other's files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


def printed(size: int, folder: Path) -> list[list[str]]:
    """Return the lines of each process of a group."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(rank), str(size), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    ended = [(*each.communicate(timeout=100), each.returncode) for each in running]
    assert [code for *_, code in ended] == [0] * size, ended
    return [output.splitlines() for output, *_ in ended]


def test_all_processes_of_a_group_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    refused = [
        f"{name} must be used in a run of one process, as several would overwrite each other's files, and "
        "torch.distributed says 2; leave it out"
        for name in ("Checkpoint", "CSVLogger", "EventLog")
    ]
    assert printed(2, tmp_path) == [refused, refused]
    assert set(os.listdir(tmp_path)) <= {"store"}


def test_a_group_of_one_process_is_not_refused(tmp_path: Path) -> None:
    assert printed(1, tmp_path) == [["completed"] * 3]
