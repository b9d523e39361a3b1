"""SIGTERM with the worker processes of a DataLoader: to all at once, to them first, to the training process first."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lucid_train import read_checkpoint
from lucid_train.saving.checkpoint import Directory
from tests.support.ends import ended, table


def test_sigterm_ends_in_good_order_and_the_run_goes_on_exactly() -> None:
    assert ended(table(["fork"], [2], [False])) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_sigterm_ends_in_good_order_however_workers_are_started(method: str) -> None:
    rows = table([method], [1], [True])
    assert ended([row for row in rows if row["order"] != "main first" and row["moment"] == "fetch"]) == []


HANGING = """
import sys, threading, time
import torch
from torch.utils.data import DataLoader, Dataset
from lucid_train import Trainer
from lucid_train.callbacks import Checkpoint, RichLogger

class Data(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 5:
            print("blocked", flush=True)
            time.sleep(600)
        return index

def watch():
    while not (trainer._run.step == 2 and trainer._run.is_repeatable):
        time.sleep(0.01)
    print("waiting", flush=True)

def step(batch):
    if batch.tolist() == [2, 3]:
        threading.Thread(target=watch, daemon=True).start()  # the workers have been forked by now
    return 0.5

if __name__ == "__main__":
    loader = DataLoader(Data(), batch_size=2, num_workers=int(sys.argv[2]))
    callbacks = [Checkpoint(sys.argv[1], every=None, weights=False), RichLogger()]
    trainer = Trainer(step, loader, callbacks=callbacks)
    trainer.fit()
"""


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("number", "codes"), [(signal.SIGTERM, (143,)), (signal.SIGINT, (-signal.SIGINT, 130))])
def test_a_second_signal_ends_a_loader_that_hangs(
    tmp_path: Path, workers: int, number: int, codes: tuple[int, ...]
) -> None:
    command = [sys.executable, "-c", HANGING, str(tmp_path), str(workers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    awaited = {"blocked\n", "waiting\n"}
    while awaited:
        awaited.discard(process.stdout.readline())
    process.send_signal(number)
    assert "Stopping" in process.stdout.readline()  # a copy is what comes soon after the first has been handled
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=100)  # PyTorch waits five seconds for each worker that hangs
    assert process.returncode in codes, errors
    files = Directory(tmp_path).files()
    assert [read_checkpoint(file)["progress"]["step"] for file in files] == ([2] if number == signal.SIGTERM else [])


def test_the_exit_code_is_that_of_sigterm(tmp_path: Path) -> None:
    row = {"method": "fork", "workers": 2, "persistent": True, "moment": "evaluation", "order": "group"}
    command = [sys.executable, "-m", "tests.support.ends", json.dumps([row]), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True, timeout=100)
    assert (done.returncode, done.stderr) == (143, "")
    assert "\ninterrupted by SIGTERM" in done.stdout
