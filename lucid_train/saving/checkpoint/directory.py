"""A folder of checkpoints: their names, the newest whole one, and the removal of old ones."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

from attrs import define, field

from lucid_train.files import part_file, whole_file
from lucid_train.saving.checkpoint.format import CheckpointError, read_checkpoint
from lucid_train.validation import whole_number

_NAME = re.compile(r"checkpoint-(\d{6,15})-epoch-\d+-step-\d+\.safetensors")


@define(frozen=True)
class Directory:
    """A folder with the checkpoints of one run, numbered in the order in which they were written.

    Args:
        path: The folder. It need not exist yet.

    >>> Directory("/nowhere").newest() is None
    True
    """

    path: Path = field(converter=Path)

    def files(self) -> list[Path]:
        """Return the checkpoints, oldest first."""
        try:
            names = os.listdir(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        numbered = [(int(match[1]), name) for name in names if (match := _NAME.fullmatch(name))]
        return [self.path / name for _, name in sorted(numbered)]

    def next_file(self, epoch: int, step: int) -> Path:
        """Return the name of the next checkpoint, which comes after all existing ones."""
        files = self.files()
        number = int(files[-1].name.split("-")[1]) + 1 if files else 1
        return self.path / f"checkpoint-{number:06d}-epoch-{epoch}-step-{step}.safetensors"

    def newest(self) -> Any:
        """Return the state in the newest checkpoint that is whole, or None if there are no checkpoints.

        Damaged ones are skipped, with a warning that names them.

        Raises:
            CheckpointError: If there are checkpoints and all are damaged.
        """
        damaged: list[str] = []
        for file in reversed(self.files()):
            try:
                state = read_checkpoint(file)
            except (CheckpointError, OSError) as error:  # the latter: a folder of that name, an unreadable block
                damaged.append(str(error))
                continue
            if damaged:
                warnings.warn(f"{'; '.join(damaged)}; resuming from the one before, {file}", UserWarning, stacklevel=2)
            return state
        if damaged:
            raise CheckpointError(f"no checkpoint in {self.path} is whole: {'; '.join(damaged)}")
        return None

    def prune(self, keep: int, *, besides: str | None = None) -> None:
        """Remove all checkpoints except the last `keep`, at least 1, and except the one named `besides`."""
        for file in self.files()[: -whole_number("keep", keep, least=1)]:
            if file.name != besides:
                file.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove the partial files of processes that were killed while saving."""
        for part in self.path.glob(part_file(Path("*")).name):
            if _NAME.fullmatch(whole_file(part).name):
                part.unlink(missing_ok=True)
