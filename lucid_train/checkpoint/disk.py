"""A file that is there whole or not at all, whenever the machine stops."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_CHUNK = 8 << 20
# Some systems write no more than 2 GB in one call.
_LARGEST_WRITE = 1 << 30
_BINARY = getattr(os, "O_BINARY", 0)


def temporary(path: Path) -> Path:
    """Return the name under which a file is written."""
    return path.with_name(f".{path.name}.part")


def write_whole(path: Path, pieces: Iterable[memoryview], digest: Any) -> None:
    """Write the pieces and then their digest to a file of another name, force it to the disk, and rename it.

    Args:
        path: The file, replaced if it exists.
        pieces: Bytes, each piece contiguous.
        digest: A hash of hashlib.

    Raises:
        OSError: If the disk is full or anything else fails, naming the file. What was there before is untouched then.
    """
    part = temporary(path)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)  # of a process that was killed
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
        try:
            _write(descriptor, pieces, digest)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(part)
        named = OSError(error.errno, f"cannot write the checkpoint, {error.strerror}", os.fspath(path))
        raise named from error
    force_folder(path.parent)


def force_folder(folder: Path) -> None:
    """Force a folder's entries to the disk: a new name is not there for certain before that."""
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


def _write(descriptor: int, pieces: Iterable[memoryview], digest: Any) -> None:
    # A hash costs as much as the writing does; hashlib lets go of the interpreter, so the two go side by side.
    with ThreadPoolExecutor(1, thread_name_prefix="lucid-train-hash") as beside:
        hashed = []
        for piece in pieces:
            octets = piece.cast("B") if piece.nbytes else memoryview(b"")
            for start in range(0, len(octets), _CHUNK):
                hashed.append(beside.submit(digest.update, octets[start : start + _CHUNK]))
            _write_all(descriptor, octets)
        # What is written reaches the disk while the rest is being hashed.
        os.fsync(descriptor)
        for each in hashed:
            each.result()
    _write_all(descriptor, memoryview(digest.digest()))


def _write_all(descriptor: int, octets: memoryview) -> None:
    while octets:
        octets = octets[os.write(descriptor, octets[:_LARGEST_WRITE]) :]
