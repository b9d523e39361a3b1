"""A folder of checkpoints: what they are called, which is the newest good one, and which may go."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from pathlib import Path
from typing import Any

from lucid_train.saving.checkpoint.format import CheckpointError, read_checkpoint

_NAME = re.compile(r"checkpoint-(\d{6,15})-epoch-\d+-step-\d+\.safetensors")


class Directory:
    """A folder that holds the checkpoints of one run, numbered as they were written.

    Args:
        path: The folder; it need not exist before something is written.

    >>> Directory("/nowhere").newest() is None
    True
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def files(self) -> list[Path]:
        """Return the checkpoints, oldest first."""
        try:
            names = os.listdir(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        numbered = [(int(match[1]), name) for name in names if (match := _NAME.fullmatch(name))]
        return [self.path / name for _, name in sorted(numbered)]

    def next_file(self, epoch: int, step: int) -> Path:
        """Return the name of the next checkpoint, one that comes after all that are there."""
        files = self.files()
        last = _NAME.fullmatch(files[-1].name) if files else None
        number = 1 if last is None else int(last[1]) + 1
        return self.path / f"checkpoint-{number:06d}-epoch-{epoch}-step-{step}.safetensors"

    def newest(self) -> Any:
        """Return the state in the newest checkpoint that is whole, or None where there is none at all.

        Damaged ones are passed over, with a warning that names them.

        Raises:
            CheckpointError: If there are checkpoints and every one is damaged.
        """
        damaged: list[str] = []
        for file in reversed(self.files()):
            try:
                state = read_checkpoint(file)
            except (CheckpointError, OSError) as error:  # a folder of that name, a block that cannot be read
                damaged.append(str(error))
                continue
            if damaged:
                message = f"{'; '.join(damaged)}; going on from the one before, {file}"
                warnings.warn(message, UserWarning, stacklevel=2)
            return state
        if damaged:
            raise CheckpointError(f"no checkpoint in {self.path} is whole: {'; '.join(damaged)}")
        return None

    def prune(self, keep: int, *, besides: str | None = None) -> None:
        """Remove all checkpoints but the last `keep`, and but the one of the name `besides`."""
        for file in self.files()[:-keep]:
            if file.name != besides:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file)

    def sweep(self) -> None:
        """Remove what a process that was killed in the middle of a save has left."""
        for name in os.listdir(self.path) if self.path.is_dir() else []:
            if name.startswith(".") and name.endswith(".part") and _NAME.fullmatch(name[1 : -len(".part")]):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path / name)

    def __repr__(self) -> str:
        return f"Directory({os.fspath(self.path)!r})"
