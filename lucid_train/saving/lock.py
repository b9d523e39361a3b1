"""Locks that the system holds for a process and releases when it ends, however it ends."""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from functools import cache
from io import FileIO
from pathlib import Path
from weakref import WeakSet

from attrs import define, field

_locked: WeakSet[FileIO] = WeakSet()


def try_lock(file: FileIO) -> bool:
    """Lock an open file until it is closed, and return whether that could be done: nobody else has locked it.

    A process that is forked later shares the file, and with it the lock. It closes its copy at once: a worker that
    outlives its killed parent locks nobody out. Where the system or the file system has no locks, the answer is True.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # Windows; a file system without locks
        return True
    _close_in_forks()
    _locked.add(file)
    return True


@cache
def _close_in_forks() -> None:
    os.register_at_fork(after_in_child=_close_all)


def _close_all() -> None:
    for file in _locked:
        file.close()


@define(eq=False)
class Lock:
    """A file that one process at a time has locked, and that says which one.

    Args:
        path: The file. It is made when it is locked, and removed when it is released.
    """

    path: Path
    _file: FileIO | None = field(default=None, init=False)

    def acquire(self) -> bool:
        """Lock the file, unless this process has; if it was removed since, make it again.

        Returns:
            Whether it had to be locked.

        Raises:
            RuntimeError: If another has locked it, naming who.
            OSError: If there is something else at its path, or it cannot be made.
        """
        if self._is_held():
            return False
        while not self._is_held():  # whoever held it before may remove it just before it is locked here
            self._close()
            self._file = _opened(self.path)
            if not try_lock(self._file):
                holder = _holder(self._file)
                self._close()
                raise RuntimeError(f"'{self.path.parent}' is in use by {holder}: two runs must not share it")
        self._sign()
        return True

    def release(self) -> None:
        """Remove the file, and let others lock it."""
        if self._is_held():
            with suppress(OSError):
                os.unlink(self.path)
        self._close()

    def _is_held(self) -> bool:
        if self._file is None or self._file.closed:  # it is closed in a process that was forked since
            return False
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path, follow_symlinks=False))
        except OSError:
            return False

    def _sign(self) -> None:
        host = os.uname().nodename if hasattr(os, "uname") else "this machine"
        holder = f"process {os.getpid()} on {host} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        with suppress(OSError):  # of a full disk: the lock holds all the same
            if self._file is not None:
                self._file.truncate(0)
                self._file.write(holder.encode())

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None


def _opened(path: Path) -> FileIO:
    # Neither through a link nor waiting for the other end of a pipe.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    file = FileIO(os.open(path, flags, 0o666), "r+")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"'{path}' must be a file, it is to be locked")
    return file


def _holder(file: FileIO) -> str:
    """Return who has locked a file, as far as it says."""
    with suppress(OSError, UnicodeDecodeError):
        text = file.read(200).decode()
        if text.startswith("process ") and text.isprintable():
            return text
    return "another process"
