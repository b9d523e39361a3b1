"""Files of a run: written whole or not at all, and never over the files of another run."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from threading import Thread
from typing import IO, Any, cast

_BINARY = getattr(os, "O_BINARY", 0)


def as_path(value: str | os.PathLike[str]) -> Path:
    """Return a path as a Path, and anything else unchanged, for the validator to refuse; an attrs converter."""
    is_path = isinstance(value, (str, os.PathLike)) and os.fspath(value)
    return Path(value) if is_path else cast(Path, value)


def writable_path(instance: object, attribute: Any, value: Any) -> None:
    """Check that a value is the path of a file that can be written; an attrs validator.

    Raises:
        TypeError: If it is not a path.
        ValueError: If a folder, a device or a pipe is there.
    """
    if not isinstance(value, Path):
        raise TypeError(f"{attribute.name!r} must be the path of a file: {value!r}")
    check_replaceable(attribute.name, value)


def check_replaceable(name: str, path: Path) -> None:
    """Check that there is nothing at a path but a file, which `write_whole` can replace.

    Raises:
        ValueError: If a folder, a device or a pipe is there.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{name!r} must be a file, not a folder or a device: '{path}'")


def open_file(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a file to read its bytes, without waiting for anything.

    Raises:
        ValueError: If it is a folder, a device or a pipe, or a file of more than a gigabyte with next to nothing in it.
        OSError: If it cannot be opened.
    """
    found = os.stat(path)  # before it is opened, which may do something to a device
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is not a file")
    # Compression makes no file so much smaller than it is.
    if found.st_size > 1 << 30 and getattr(found, "st_blocks", found.st_size) << 19 < found.st_size:
        raise ValueError(f"it claims {found.st_size} bytes, of which the disk holds next to none")
    return open(open_regular(Path(path), os.O_RDONLY), "rb")


def rotate(path: Path) -> Path:
    """Rename a file to its own name with the first free number after it, and return the new path."""
    numbered = (path.with_name(f"{path.name}.{number}") for number in count(1))
    return path.rename(next(free for free in numbered if not free.exists()))


def part_file(path: Path) -> Path:
    """Return the path under which a file is written until it is whole."""
    return path.with_name(f".{path.name}.part")


def whole_file(part: Path) -> Path:
    """Return the path that a file from `part_file` gets once it is whole."""
    return part.with_name(part.name.removeprefix(".").removesuffix(".part"))


def write_whole(path: Path, pieces: Iterable[bytes | memoryview], digest: Any = None) -> None:
    """Write a file so that readers, also after a crash, find either the old content or the new, never a mixture.

    The pieces go to a file of another name, which is forced to the disk and then renamed.

    Args:
        path: The file, replaced if it exists. A link is followed.
        pieces: The content, as bytes and views of bytes.
        digest: A hash object of hashlib. It is updated with the pieces, and its digest is written after them.

    Raises:
        OSError: If the disk is full or anything else fails, naming the file. The old content is untouched then.
    """
    target = Path(os.path.realpath(path))
    part = part_file(target)
    try:
        with _naming(path, "write the file"):
            part.unlink(missing_ok=True)  # left by a process that was killed
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
            try:
                _write_pieces(descriptor, pieces, digest)
            finally:
                os.close(descriptor)
            os.replace(part, target)
    except OSError:
        with suppress(OSError):
            os.unlink(part)
        raise
    force_folder(target.parent)


def open_regular(path: Path, flags: int) -> int:
    """Open a regular file without waiting, as for the other end of a pipe, and return its descriptor.

    Raises:
        FileNotFoundError: If there is nothing, or something else.
    """
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | _BINARY, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "there is no regular file", os.fspath(path))
    return descriptor


def give_name(path: Path, name: Path) -> None:
    """Let a second path in the same folder lead to a file, in place of what it led to: a link, or else a copy.

    What is there and is neither a file nor a link is left as it is.
    """
    if name.is_symlink() or name.is_file() or not name.exists():
        part = part_file(name)
        part.unlink(missing_ok=True)
        try:
            os.symlink(path.name, part)
        except (OSError, NotImplementedError):  # a file system without links; Windows, which reserves them
            shutil.copyfile(path, part)
            with open(part, "rb+") as copied:
                os.fsync(copied.fileno())
        os.replace(part, name)


def force_folder(folder: Path) -> None:
    """Force a folder's entries to the disk: only then does a new name certainly survive a crash."""
    if os.name == "nt":
        return  # Windows cannot open a folder
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with _naming(folder, "force the folder to the disk"):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _naming(path: Path, action: str) -> Iterator[None]:
    """Say in an error of the system what could not be done, and to which path."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"cannot {action}, {error.strerror}", os.fspath(path)) from error


def _write_pieces(descriptor: int, pieces: Iterable[bytes | memoryview], digest: Any) -> None:
    pieces = list(pieces)
    # Hashing takes as long as writing; hashlib releases the interpreter's lock, so the two run in parallel. Not in an
    # executor, which refuses to work in a thread that outlives the main one.
    hashing = Thread(target=lambda: [digest.update(piece) for piece in pieces], name="lucid-train-hash")
    if digest is not None:
        hashing.start()
    try:
        for piece in pieces:
            write_all(descriptor, memoryview(piece))
        # The written data reaches the disk while the rest is being hashed.
        os.fsync(descriptor)
    finally:
        if digest is not None:
            hashing.join()
    if digest is not None:
        write_all(descriptor, memoryview(digest.digest()))
        os.fsync(descriptor)


def write_all(descriptor: int, data: memoryview) -> None:
    """Write all of some bytes."""
    while data:
        data = data[os.write(descriptor, data) :]  # some systems write no more than 2 GB in one call
