from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucid_train import CheckpointError
from lucid_train.saving.checkpoint import Directory, read_checkpoint, write_checkpoint
from lucid_train.testing import diff_states

OLD = {"weight": np.arange(20_000, dtype=np.float32), "epoch": 1}
NEW = {"weight": np.arange(20_000, dtype=np.float32) + 1, "epoch": 2}
CALLS = ("open", "write", "fsync", "close", "replace", "unlink")


class Crash(BaseException):
    """The machine stops here."""


class Machine:
    """Stops at one of the calls to the file system: before it is done, or, with `after`, when it is."""

    def __init__(self, stop_at: int, *, after: bool) -> None:
        self.stop_at, self.after = stop_at, after
        self.calls: list[str] = []
        self.down = False

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if self.down:
                raise Crash  # what comes from a finally clause is not done any more
            self.calls.append(name)
            if len(self.calls) < self.stop_at:
                return function(*arguments, **options)
            self.down = True
            if name == "write":  # half of it has reached the file
                function(arguments[0], arguments[1][: len(arguments[1]) // 2])
            elif self.after:
                function(*arguments, **options)
            raise Crash

        return call

    @contextmanager
    def running(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self.wrapped(name, getattr(os, name)))
            yield


def saved(folder: Path, machine: Machine) -> None:
    file = Directory(folder).next_file(epoch=2, step=20)
    with machine.running():
        write_checkpoint(file, NEW)
        Directory(folder).prune(1)


def number_of_calls(tmp_path: Path) -> int:
    folder = fresh(tmp_path / "counted")
    machine = Machine(10**9, after=False)
    saved(folder, machine)
    assert {"open", "write", "fsync", "replace"} <= set(machine.calls)
    return len(machine.calls)


def fresh(folder: Path) -> Path:
    folder.mkdir()
    write_checkpoint(Directory(folder).next_file(epoch=1, step=10), OLD)
    return folder


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_call_leaves_the_old_checkpoint_or_the_new_one(tmp_path: Path, after: bool) -> None:
    for stop_at in range(1, number_of_calls(tmp_path) + 1):
        folder = fresh(tmp_path / f"{stop_at}")
        machine = Machine(stop_at, after=after)
        with pytest.raises(Crash):
            saved(folder, machine)
        state = read_checkpoint(folder)
        renamed = "replace" in machine.calls[:-1] or (machine.calls[-1] == "replace" and after)
        assert diff_states(state, NEW if renamed else OLD) == []
        Directory(folder).sweep()
        assert [name for name in os.listdir(folder) if name.endswith(".part")] == []


def test_what_was_not_forced_to_the_disk_may_be_lost_in_a_crash(tmp_path: Path) -> None:
    for stop_at in range(1, number_of_calls(tmp_path) + 1):
        folder = fresh(tmp_path / f"{stop_at}")
        before = tmp_path / f"{stop_at}-before"
        shutil.copytree(folder, before)
        machine = Machine(stop_at, after=True)
        with pytest.raises(Crash):
            saved(folder, machine)
        done = machine.calls[:-1]
        if done.count("fsync") < 2:
            for part in folder.glob(".*.part"):
                os.truncate(part, part.stat().st_size // 2)
            assert not list(folder.glob("checkpoint-000002*"))  # nothing has its name that was not forced before
        elif done.count("fsync") == 2:  # the file with its digest, and not yet the folder: the new name may be gone
            assert diff_states(read_checkpoint(before), OLD) == []
            assert list(folder.glob("checkpoint-000001*"))  # the old one is removed only after that
        assert diff_states(read_checkpoint(folder), OLD) == [] or diff_states(read_checkpoint(folder), NEW) == []


def test_checkpoints_are_numbered_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "run")
    assert (directory.files(), directory.last()) == ([], None)
    directory.path.mkdir()
    for epoch, step in ((3, 30), (1, 10)):
        write_checkpoint(directory.next_file(epoch, step), {"epoch": epoch})
    for name in ("notes.txt", "checkpoint-000009.safetensors", ".checkpoint-000009-epoch-1-step-1.safetensors"):
        (directory.path / name).touch()
    assert [file.name for file in directory.files()] == [
        "checkpoint-000001-epoch-3-step-30.safetensors",
        "checkpoint-000002-epoch-1-step-10.safetensors",
    ]
    assert read_checkpoint(directory.path) == {"epoch": 1}
    assert directory == Directory(str(tmp_path / "run"))


def filled(path: Path, count: int) -> Directory:
    directory = Directory(path)
    for epoch in range(1, count + 1):
        write_checkpoint(directory.next_file(epoch, epoch), {"epoch": epoch})
    return directory


def epochs(directory: Directory) -> list[int]:
    return [read_checkpoint(file)["epoch"] for file in directory.files()]


@pytest.mark.parametrize(("keep", "left"), [(1, [4]), (2, [3, 4]), (4, [1, 2, 3, 4]), (9, [1, 2, 3, 4])])
def test_pruning_keeps_the_last_ones(tmp_path: Path, keep: int, left: list[int]) -> None:
    directory = filled(tmp_path, 4)
    directory.prune(keep)
    assert epochs(directory) == left


def test_pruning_keeps_one_more_by_name(tmp_path: Path) -> None:
    directory = filled(tmp_path, 4)
    directory.prune(1, besides=directory.files()[1].name)
    assert epochs(directory) == [2, 4]


@pytest.mark.parametrize("keep", [0, -1])
def test_pruning_that_keeps_none_is_refused(tmp_path: Path, keep: int) -> None:
    directory = filled(tmp_path, 2)
    with pytest.raises(ValueError, match=f"'keep' must be >= 1: {keep}"):
        directory.prune(keep)
    assert epochs(directory) == [1, 2]


def test_damaged_checkpoints_are_skipped_with_a_warning(tmp_path: Path) -> None:
    directory = filled(tmp_path, 3)
    first, second, third = directory.files()
    second.write_bytes(b"")
    third.write_bytes(third.read_bytes()[:-1])
    message = rf"{third.name}.*{second.name} is not.*; resuming from the one before, {first}"
    with pytest.warns(UserWarning, match=message):
        assert read_checkpoint(directory.path) == {"epoch": 1}
    first.write_bytes(b"")
    with pytest.raises(CheckpointError, match=rf"no checkpoint in .* is whole: .*{second.name}.*{first.name}"):
        directory.last()


def test_sweeping_removes_only_partial_checkpoints(tmp_path: Path) -> None:
    directory = filled(tmp_path, 1)
    kept = {directory.files()[0].name, ".hidden.part", "checkpoint-000002-epoch-1-step-1.safetensors.part", "notes"}
    for name in (*kept, f".{directory.next_file(2, 2).name}.part"):
        (tmp_path / name).touch()
    directory.sweep()
    assert set(os.listdir(tmp_path)) == kept
    Directory(tmp_path / "nothing").sweep()
