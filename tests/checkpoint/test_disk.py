from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucid_train import Trainer, nn, optims
from lucid_train.callbacks import Checkpoint
from lucid_train.saving.checkpoint import Directory, read_checkpoint, write_checkpoint
from lucid_train.testing import differing

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
        state = Directory(folder).newest()
        renamed = "replace" in machine.calls[:-1] or (machine.calls[-1] == "replace" and after)
        assert differing(state, NEW if renamed else OLD) == []
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
            assert differing(Directory(before).newest(), OLD) == []
            assert list(folder.glob("checkpoint-000001*"))  # the old one is removed only after that
        assert differing(Directory(folder).newest(), OLD) == [] or differing(Directory(folder).newest(), NEW) == []


@pytest.mark.parametrize("call", ["open", "write", "fsync", "close", "replace"])
def test_an_error_of_any_call_names_the_file_and_leaves_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    folder = fresh(tmp_path / "run")

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = folder / "state.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(OSError, match=r"No space left on device.*state\.safetensors"):
            write_checkpoint(path, NEW)
    assert not path.exists()
    assert list(folder.glob(".*.part")) == []
    assert differing(Directory(folder).newest(), OLD) == []


def test_an_error_in_forcing_the_folder_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, done = os.fsync, []

    def third_fails(descriptor: int) -> None:
        done.append(descriptor)
        if len(done) == 3:
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", third_fails)
    with pytest.raises(OSError, match="cannot force the folder to the disk, Input/output error"):
        write_checkpoint(tmp_path / "state", NEW)


@contextmanager
def small_disk(octets: int) -> Iterator[None]:
    """No file may become larger than this, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def trainer(directory: Path, **settings: Any) -> Trainer:
    model = nn.Linear(100, 100, rng=0)
    optimizer = optims.SGD(model.parameters(), lr=0.5)
    callbacks = [Checkpoint(directory, **settings)]
    return Trainer(epochs=4, model=model, optimizer=optimizer, callbacks=callbacks)


@pytest.mark.parametrize("background", [False, True])
def test_a_full_disk_ends_the_fit_naming_the_file(tmp_path: Path, background: bool) -> None:
    trainer(tmp_path).fit(epochs=2)
    good = Directory(tmp_path).files()
    with small_disk(10_000), pytest.raises(OSError, match=r"File too large.*checkpoint-000003") as caught:
        trainer(tmp_path, background=background).fit(resume="auto", accept="epochs")
    assert caught.value.errno == errno.EFBIG
    assert Directory(tmp_path).files() == good
    assert read_checkpoint(good[-1])["run"]["epoch"] == 2
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("background", [False, True])
def test_training_goes_on_with_a_full_disk_if_asked_to(tmp_path: Path, background: bool) -> None:
    trainer(tmp_path).fit(epochs=2)
    good = Directory(tmp_path).files()
    resumed = trainer(tmp_path, failure="warn", background=background)
    with small_disk(10_000), pytest.warns(UserWarning, match="File too large.*checkpoint-000003.*training goes on"):
        history = resumed.fit(resume="auto", accept="epochs")
    assert [record.epoch for record in history] == [1, 2, 3, 4]
    assert Directory(tmp_path).files() == good
    assert Directory(tmp_path).newest()["run"]["epoch"] == 2


def test_once_there_is_room_again_the_next_checkpoint_is_written(tmp_path: Path) -> None:
    training = trainer(tmp_path, failure="warn")
    with small_disk(10_000), pytest.warns(UserWarning, match="there is no other"):
        training.fit(epochs=2)
    training.fit(epochs=3)
    assert Directory(tmp_path).newest()["run"]["epoch"] == 3


def test_a_directory_that_cannot_be_made_is_an_error_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    steps: list[object] = []
    with pytest.raises(FileExistsError, match="taken"):
        Trainer(steps.append, [1, 2], callbacks=[Checkpoint(tmp_path / "taken")]).fit()
    assert steps == []
