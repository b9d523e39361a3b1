"""Locks that the system holds: who is refused, and what does not refuse anybody."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from io import FileIO
from pathlib import Path

import pytest

from lucid_train.saving.lock import Lock, try_lock

# Locks the file, and forks a child that outlives it, which says so.
HOLDER = """
import os, sys, time
from pathlib import Path
from lucid_train.saving.lock import Lock
lock = Lock(Path(sys.argv[1]))
lock.acquire()
child = os.fork()
if child == 0:
    print(os.getpid(), flush=True)
time.sleep(600)
"""


def test_a_lock_is_held_once_and_says_by_whom(tmp_path: Path) -> None:
    lock, other = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert lock.acquire()
    assert not lock.acquire()  # it is held already
    holder = (tmp_path / "lock").read_text()
    since = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(f"process {os.getpid()} on {socket.gethostname()} since {since}", holder)
    with pytest.raises(RuntimeError, match=f"^'{tmp_path}' is in use by {holder}: two runs must not share it$"):
        other.acquire()
    other.release()
    assert (tmp_path / "lock").exists()
    lock.release()
    assert not (tmp_path / "lock").exists()
    assert other.acquire()
    other.release()


@pytest.mark.parametrize("text", ["", "{", "process 1\x1b[2J", "process\n"])
def test_a_holder_that_does_not_say_who_it_is_is_another_process(tmp_path: Path, text: str) -> None:
    with FileIO(tmp_path / "lock", "w+") as file:
        assert try_lock(file)
        (tmp_path / "lock").write_text(text)
        with pytest.raises(RuntimeError, match="is in use by another process: two runs"):
            Lock(tmp_path / "lock").acquire()


def test_a_killed_process_holds_nothing_though_its_child_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    lock = Lock(path)
    try:
        with pytest.raises(RuntimeError, match=f"is in use by process {holder.pid} on"):
            lock.acquire()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        os.kill(child, 0)  # it is still there
        assert lock.acquire()
    finally:
        os.kill(child, signal.SIGKILL)
        holder.stdout.close()
    lock.release()


def test_a_forked_child_does_not_hold_the_lock_of_its_parent(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    lock.acquire()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            lock.release()  # which is not its to release
            lock.acquire()
        except RuntimeError as error:
            code = 0 if f"process {os.getppid()}" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert (tmp_path / "lock").exists()
    assert not lock.acquire()
    lock.release()


def test_a_lock_whose_file_was_removed_is_taken_again_unless_another_has_it(tmp_path: Path) -> None:
    lock, other = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    lock.acquire()
    (tmp_path / "lock").unlink()
    assert lock.acquire()
    (tmp_path / "lock").unlink()
    other.acquire()
    with pytest.raises(RuntimeError, match="is in use by"):
        lock.acquire()
    lock.release()
    assert not other.acquire()  # it still has it
    other.release()


def test_what_is_no_file_is_not_locked_and_blocks_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError, match=f"'{tmp_path}/pipe' must be a file, it is to be locked"):
        Lock(tmp_path / "pipe").acquire()
    for name in ("folder", "link"):
        with pytest.raises(OSError, match=name):
            Lock(tmp_path / name).acquire()
    assert (tmp_path / "file").read_bytes() == b""
