"""The files that a run writes as it goes: another run's are moved aside, and what is replaced is replaced at once."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import Any


def as_path(value: Any) -> Any:
    """Return a path as a Path, anything else as it is; an attrs converter."""
    return Path(value) if isinstance(value, (str, os.PathLike)) and os.fspath(value) else value


def writable_path(instance: object, attribute: Any, value: Any) -> None:
    """Refuse what is no path of a file; an attrs validator.

    Raises:
        TypeError: If it is no path.
        ValueError: If there is something there that is no file: a folder, a device, a pipe.
    """
    if not isinstance(value, Path):
        raise TypeError(f"{attribute.name!r} must be the path of a file: {value!r}")
    if value.exists() and not value.is_file():
        raise ValueError(f"{attribute.name!r} must be a file, not a folder or a device: '{value}'")


def set_aside(path: Path) -> Path:
    """Rename a file to the first free name that adds a number to its own, and return that name."""
    for number in count(1):
        aside = path.with_name(f"{path.name}.{number}")
        if not aside.exists():
            break
    path.rename(aside)
    return aside


def replace_text(path: Path, text: str) -> None:
    """Write a file so that whoever reads it finds the old text or the new one, and never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with open(draft, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
