"""What SECURITY.md says of checkpoints from strangers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucid_train import CheckpointError, Trainer, read_checkpoint, write_checkpoint
from lucid_train.callbacks import Checkpoint
from tests.support.hostile_checkpoints import bombs, measured


@pytest.mark.parametrize(
    "files", [400, pytest.param(5_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])], ids=str
)
def test_changed_files_are_refused_or_read_and_none_does_harm(tmp_path: Path, files: int) -> None:
    command = [sys.executable, "-m", "tests.support.hostile_checkpoints", str(tmp_path), str(files), "7"]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout)
    assert sum(counts.values()) == files
    assert all(count > files // 50 for count in counts.values()), counts


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


BOMBS = bombs(200_000)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("name", BOMBS)
def test_reading_takes_at_most_ten_times_the_size_of_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_bytes(BOMBS[name])
    _, share = measured(tmp_path / "x")
    assert share <= 1


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    "state",
    [
        [{"step": step, "loss": 0.5} for step in range(8_000)],
        {f"layer{index}": np.zeros(1) for index in range(1_500)},
        [[index, index + 0.5] for index in range(8_000)],
    ],
    ids=["dicts", "arrays", "lists"],
)
def test_whatever_is_written_can_be_read_in_that_memory(tmp_path: Path, state: Any) -> None:
    write_checkpoint(tmp_path / "x", state)
    found, share = measured(tmp_path / "x")
    assert share <= 1
    assert repr(found) == repr(state)


def places(folder: Path) -> dict[str, Path]:
    """Return what is no file and may be asked for as a checkpoint."""
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("pipe")
    return {"pipe": folder / "pipe", "link": folder / "link", "device": Path("/dev/zero")}


@pytest.mark.parametrize("name", ["pipe", "link", "device"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    path = places(tmp_path)[name]
    with pytest.raises(CheckpointError, match=f"{path} is not a usable checkpoint: it is not a file"):
        read_checkpoint(path)
    with pytest.raises((CheckpointError, FileNotFoundError), match=r"it is not a file|must hold a checkpoint"):
        Trainer().fit(resume=path)


def test_a_file_of_nothing_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-000001-epoch-1-step-1.safetensors"
    entry = {"dtype": "U8", "shape": [2**40], "data_offsets": [0, 2**40]}
    header = json.dumps(
        {"__metadata__": {"format": "lucid_train.saving.checkpoint", "version": "1"}, "x": entry}
    ).encode()
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(2**40 + 8 + len(header))
    with pytest.raises(CheckpointError, match=r"it claims \d+ bytes, of which the disk holds next to none"):
        read_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is whole: .* of which the disk holds next to none"):
        Trainer(callbacks=[Checkpoint(tmp_path)]).fit(resume="auto")
