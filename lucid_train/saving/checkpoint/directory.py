"""A folder of checkpoints: their names, the newest whole one, the best one, and the removal of old ones."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Literal

from attrs import define, field, frozen

from lucid_train.files import give_name, part_file, whole_file
from lucid_train.progress import structure
from lucid_train.saving.checkpoint.format import CheckpointError, read_file
from lucid_train.saving.checkpoint.segment import NAME, Segment, read_history
from lucid_train.saving.parts import OWN, Parted, checked_part, joined
from lucid_train.validation import one_of, whole_number

# Two names that lead to one of the checkpoints, and what the process that writes them has locked.
LAST, BEST, LOCK = "last.safetensors", "best.safetensors", ".checkpoint.lock"
_CHECKPOINT = re.compile(r"checkpoint-([0-9]{6,})-epoch-[0-9]+-step-[0-9]+\.safetensors")
# What the other processes of a run have written beside it.
_PART = re.compile(r"(checkpoint-[0-9]{6,}-epoch-[0-9]+-step-[0-9]+)\.rank-[0-9]+\.safetensors")


@frozen
class Loaded:
    """What a checkpoint file holds, and where.

    Args:
        file: The file.
        state: The state in it, with the history.
        recorded: Where the history is, as the file has it; None if the state has it itself, or if it is lost.
        parted: What the file says of the other processes of the run, or None if there was one process.
    """

    file: Path
    state: Any
    recorded: dict[str, Any] | None = None
    parted: Parted | None = None

    def of_rank(self, rank: int, world_size: int) -> Loaded:
        """Return what a process goes on from: with its own part, which is beside the file of the first one.

        Where there were more or fewer processes, weights are those of the first one; a process that the run did not
        have has all that the first one had.

        Raises:
            CheckpointError: If its part is missing, damaged, or of another save.
        """
        if self.parted is None or rank == 0 or rank >= self.parted.world_size:
            return self
        file = part_of(self.file.with_name(self.parted.file), rank)
        if not file.is_file():  # the checkpoint may be named by a link
            file = part_of(self.file.resolve().with_name(self.parted.file), rank)
        try:
            own = checked_part(read_file(file), rank, self.parted)
        except FileNotFoundError:
            raise CheckpointError(f"{self.file} is not a usable checkpoint: its part {file.name} is missing") from None
        except ValueError as error:
            raise CheckpointError(f"{file} is not a usable part of a checkpoint: {error}") from None
        if world_size != self.parted.world_size:
            own = {name: each for name, each in own.items() if name in OWN}
        return Loaded(self.file, joined(self.state, own), self.recorded, self.parted)


def part_of(file: Path, rank: int) -> Path:
    """Return the name of what a process of this rank writes beside a checkpoint."""
    return file.with_name(f"{file.name.removesuffix('.safetensors')}.rank-{rank}.safetensors")


def load(file: Path) -> Loaded:
    """Load a checkpoint, and the history beside it. If that is not there, the state names it still.

    Raises:
        CheckpointError: If the checkpoint or the history is damaged.
        OSError: If the checkpoint cannot be read.
    """
    state = read_file(file)
    progress = state.get("progress") if isinstance(state, dict) else None
    history = progress.get("history") if isinstance(progress, dict) else None
    parted = _parted(file, state)
    if not isinstance(progress, dict) or not isinstance(history, dict) or "segment" not in history:
        return Loaded(file, state, parted=parted)
    try:
        found = read_history(history, file.parent) or read_history(history, file.resolve().parent)  # it may be a link
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, MemoryError, OSError) as error:
        raise CheckpointError(f"{file} is not a usable checkpoint: {error}") from None
    if found is None:
        return Loaded(file, state, parted=parted)
    progress["history"] = found
    return Loaded(file, state, history, parted)


def _parted(file: Path, state: Any) -> Parted | None:
    """Take out of a state what it says of other processes."""
    if not isinstance(state, dict) or "ranks" not in state:
        return None
    try:
        return structure(Parted, state.pop("ranks"), "ranks")
    except ValueError as error:
        raise CheckpointError(f"{file} is not a usable checkpoint: {error}") from None


def read_checkpoint(path: str | os.PathLike[str], *, which: Literal["last", "best"] = "last") -> Any:
    """Read a checkpoint: what `write_checkpoint` wrote, or the state of a run, with its history.

    Nothing in the file is ever run, no file is touched but this and the history beside it, and memory use is a small
    multiple of their size. The digest detects damage; it does not prove who wrote the file.

    Args:
        path: A file, or the directory of a Checkpoint.
        which: In a directory, the "last" one that is whole, or the "best" one, which Checkpoint(monitor=...) keeps.

    Returns:
        The tree. Tensors are PyTorch's again, on the CPU. A history that is not there is left as it is named.

    Raises:
        CheckpointError: If the file is cut short, changed, of another version, or not a checkpoint at all.
        FileNotFoundError: If the directory holds no such checkpoint.
        OSError: If the file cannot be read.
    """
    one_of("which", which, ("last", "best"))
    if not os.path.isdir(path):
        return load(Path(path)).state
    loaded = Directory(path).best() if which == "best" else Directory(path).last()
    if loaded is None:
        cure = "; Checkpoint(monitor=...) keeps the best one, 'last' is the newest" * (which == "best")
        raise FileNotFoundError(f"there is no {which} checkpoint in '{os.fspath(path)}'{cure}")
    return loaded.state


@define(frozen=True)
class Directory:
    """A folder with the checkpoints of one run, numbered in the order in which they were written.

    A file with a part of the history has the number of the first checkpoint that names it; so do the following ones, up
    to that of the next such file. What has the name of either and is no file is left alone.

    Args:
        path: The folder. It need not exist yet.

    >>> Directory("/nowhere").last() is None
    True
    """

    path: Path = field(converter=Path)

    def files(self) -> list[Path]:
        """Return the checkpoints, oldest first."""
        return [file for _, file in self._numbered(_CHECKPOINT)]

    def files_of(self, file: Path) -> list[Path]:
        """Return all files that a checkpoint consists of: its own, those of other processes, and its history."""
        stem = file.name.removesuffix(".safetensors")
        parts = [each for each in self.parts() if each.name.startswith(f"{stem}.rank-")]
        number = int(file.name.split("-")[1])
        segments = [path for begin, path in self._numbered(NAME) if begin <= number]
        return [file, *sorted(parts), *segments[-1:]]

    def next_file(self, epoch: int, step: int, *, after: Path | None = None) -> Path:
        """Return the name of the next checkpoint, which comes after all existing ones.

        Args:
            epoch: Its epoch.
            step: Its step.
            after: The one before it, if that is known: then the folder need not be looked at.
        """
        if after is not None:
            file = self._file(int(after.name.split("-")[1]) + 1, epoch, step)
            if not os.path.lexists(file):
                return file
        names = (whole_file(self.path / name).name for name in self._names())  # those that are being written, too
        found = (match for name in names if (match := _CHECKPOINT.fullmatch(name) or NAME.fullmatch(name)))
        return self._file(max((int(match[1]) for match in found), default=0) + 1, epoch, step)

    def _file(self, number: int, epoch: int, step: int) -> Path:
        return self.path / f"checkpoint-{number:06d}-epoch-{epoch}-step-{step}.safetensors"

    def segment(self, file: Path) -> Segment:
        """Return the beginning of a new part of the history, which a checkpoint is the first to name."""
        return Segment(self.path / f"history-{file.name.split('-')[1]}.jsonl")

    def last(self) -> Loaded | None:
        """Return the newest checkpoint that is whole, or None if there are no checkpoints.

        Damaged ones are skipped, with a warning that names them.

        Raises:
            CheckpointError: If there are checkpoints and all are damaged.
        """
        damaged: list[str] = []
        for file in reversed(self.files()):
            try:
                loaded = load(file)
            except (CheckpointError, OSError) as error:  # the latter: an unreadable block
                damaged.append(str(error))
                continue
            if damaged:
                warnings.warn(f"{'; '.join(damaged)}; resuming from the one before, {file}", UserWarning, stacklevel=2)
            return loaded
        if damaged:
            raise CheckpointError(f"no checkpoint in {self.path} is whole: {'; '.join(damaged)}")
        return None

    def best(self) -> Loaded | None:
        """Return the best checkpoint, or None if none is kept."""
        file = self.path / BEST
        return load(file) if file.is_file() else None

    def tidy(self, last: str, best: str | None, keep: int | None) -> None:
        """Let the two stable names lead to checkpoints, and remove those that are not to be kept any more.

        Args:
            last: The name of the last checkpoint.
            best: That of the best one, or None if there is none.
            keep: At least 1, or None to remove none.
        """
        give_name(self.path / last, self.path / LAST)
        if best is not None:
            give_name(self.path / best, self.path / BEST)
        elif _is_file(self.path / BEST):
            (self.path / BEST).unlink(missing_ok=True)
        if keep is not None:
            self.prune(keep, besides=best)

    def prune(self, keep: int, *, besides: str | None = None) -> None:
        """Remove all checkpoints except the last `keep`, at least 1, and except the one named `besides`."""
        old = [each for each in self.files()[: -whole_number("keep", keep, least=1)] if each.name != besides]
        for file in old:
            file.unlink(missing_ok=True)
        if old:
            self._prune_parts()
        self._prune_history()

    def sweep(self) -> None:
        """Remove what processes that were killed while saving have left: partial files, a history nobody names."""
        for name in self._names():
            part = self.path / name
            whole = whole_file(part).name
            is_ours = _CHECKPOINT.fullmatch(whole) or _PART.fullmatch(whole)
            if part == part_file(whole_file(part)) and is_ours and part.is_file():
                part.unlink(missing_ok=True)
        self._prune_parts()
        self._prune_history()

    def parts(self) -> list[Path]:
        """Return what processes other than the first have written, in no order."""
        return [self.path / name for name in self._names() if _PART.fullmatch(name)]

    def _prune_parts(self) -> None:
        """Remove the parts of checkpoints that are not there: it was removed first, or was not to come to one."""
        whole = {file.name for file in self.files()}
        for part in self.parts():
            match = _PART.fullmatch(part.name)
            if match is not None and f"{match[1]}.safetensors" not in whole and part.is_file():
                part.unlink(missing_ok=True)

    def move_aside(self) -> None:
        """Move the checkpoints and their history to a new folder `earlier-1` (or 2 ...) in this one."""
        files, segments = self.files(), [file for _, file in self._numbered(NAME)]
        if not files:
            return
        folder = next(each for number in count(1) if not (each := self.path / f"earlier-{number}").exists())
        folder.mkdir()
        for segment in segments:  # both folders have them while files are moved: a kill leaves each file its history
            with suppress(OSError):
                os.link(segment, folder / segment.name)
                continue
            shutil.copyfile(segment, folder / segment.name)
        for file in (*filter(_is_file, (self.path / LAST, self.path / BEST)), *files, *self.parts()):
            os.replace(file, folder / file.name)
        for segment in segments:
            segment.unlink()

    def _prune_history(self) -> None:
        numbers = [number for number, _ in self._numbered(_CHECKPOINT)]
        segments = self._numbered(NAME)
        ends = [number for number, _ in segments[1:]] + [max(numbers, default=0) + 1]
        for (begin, file), end in zip(segments, ends, strict=False):
            if not any(begin <= number < end for number in numbers):
                file.unlink(missing_ok=True)

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _numbered(self, pattern: re.Pattern[str]) -> list[tuple[int, Path]]:
        """Return the files whose names are of a pattern, with their numbers, the lowest first."""
        found: Iterator[tuple[int, Path]] = (
            (int(match[1]), self.path / name) for name in self._names() if (match := pattern.fullmatch(name))
        )
        return sorted((number, file) for number, file in found if file.is_file())


def _is_file(path: Path) -> bool:
    return path.is_symlink() or path.is_file()
