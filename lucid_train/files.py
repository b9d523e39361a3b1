"""Files of a run: written whole or not at all, and never over those of another run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

_CHUNK = 8 << 20
# Some systems write no more than 2 GB in one call.
_LARGEST_WRITE = 1 << 30
_BINARY = getattr(os, "O_BINARY", 0)


def as_path(value: Any) -> Any:
    """Return a path as a Path, anything else as it is; an attrs converter."""
    return Path(value) if isinstance(value, (str, os.PathLike)) and os.fspath(value) else value


def writable_path(instance: object, attribute: Any, value: Any) -> None:
    """Refuse what is not the path of a file; an attrs validator.

    Raises:
        TypeError: If it is not a path.
        ValueError: If a folder, a device or a pipe is there.
    """
    if not isinstance(value, Path):
        raise TypeError(f"{attribute.name!r} must be the path of a file: {value!r}")
    if value.exists() and not value.is_file():
        raise ValueError(f"{attribute.name!r} must be a file, not a folder or a device: '{value}'")


def rotate(path: Path) -> Path:
    """Rename a file to the first free name that adds a number to its own, and return that name."""
    for number in count(1):
        free = path.with_name(f"{path.name}.{number}")
        if not free.exists():
            break
    path.rename(free)
    return free


def part_file(path: Path) -> Path:
    """Return the name under which a file is written before it is whole."""
    return path.with_name(f".{path.name}.part")


def write_whole(path: Path, pieces: Iterable[memoryview], digest: Any = None) -> None:
    """Write a file so that after a crash, and for whoever reads it meanwhile, it is the old one or the new one.

    The pieces go to a file of another name, which is forced to the disk and then renamed.

    Args:
        path: The file, replaced if it exists.
        pieces: Bytes, each piece contiguous.
        digest: A hash of hashlib; it is fed with the pieces, and what it comes to is written after them.

    Raises:
        OSError: If the disk is full or anything else fails, naming the file. What was there before is untouched then.
    """
    part = part_file(path)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)  # left by a process that was killed
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
        try:
            if digest is None:
                for piece in pieces:
                    _write_all(descriptor, _as_bytes(piece))
            else:
                _write_hashed(descriptor, pieces, digest)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(part)
        named = OSError(error.errno, f"cannot write the file, {error.strerror}", os.fspath(path))
        raise named from error
    force_folder(path.parent)


def force_folder(folder: Path) -> None:
    """Force a folder's entries to the disk: only then is a new name certain to survive a crash."""
    if os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        named = OSError(error.errno, f"cannot force the folder to the disk, {error.strerror}", os.fspath(folder))
        raise named from error
    finally:
        os.close(descriptor)


def _write_hashed(descriptor: int, pieces: Iterable[memoryview], digest: Any) -> None:
    # A hash costs as much as the writing does; hashlib releases the interpreter's lock, so the two run side by side.
    with ThreadPoolExecutor(1, thread_name_prefix="lucid-train-hash") as hashing:
        hashed = []
        for piece in pieces:
            data = _as_bytes(piece)
            for start in range(0, len(data), _CHUNK):
                hashed.append(hashing.submit(digest.update, data[start : start + _CHUNK]))
            _write_all(descriptor, data)
        # What is written reaches the disk while the rest is being hashed.
        os.fsync(descriptor)
        for each in hashed:
            each.result()
    _write_all(descriptor, memoryview(digest.digest()))


def _as_bytes(piece: memoryview) -> memoryview:
    return piece.cast("B") if piece.nbytes else memoryview(b"")


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data[:_LARGEST_WRITE]) :]
