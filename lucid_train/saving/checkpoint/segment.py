"""The history of a run, beside its checkpoints: a file to which each save adds what is new.

A line is JSON: `[epoch, steps, seconds, ...]` is an epoch, with its metrics, rates and what else is scheduled in the
order that the latest line `{"metrics": [...], "lr": 1, "last_lr": 1, "scheduled": {"weight_decay": 1}}` gives, and null
for a metric that it lacks; any other object is an evaluation within an epoch. A checkpoint names the file, and how much
of it is its own history.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from lucid_train.files import force_folder, open_regular, write_all
from lucid_train.history import EpochRecord, History
from lucid_train.validation import check_entries, whole_number

NAME = re.compile(r"history-([0-9]{6,})\.jsonl")
_CHUNK = 1 << 20


@frozen
class _Columns:
    """What the numbers in the line of an epoch are, after its number, steps and seconds."""

    metrics: tuple[str, ...] = ()
    lr: int = 0
    last_lr: int = 0
    scheduled: Mapping[str, int] = field(factory=dict)

    def fit(self, record: EpochRecord) -> _Columns:
        """Return these if they have room for a record, else some that have."""
        names = tuple(dict.fromkeys((*self.metrics, *record.metrics)))
        scheduled = {name: len(values) for name, values in record.scheduled.items()}
        return _Columns(names, len(record.lr), len(record.last_lr), scheduled)

    def line(self, record: EpochRecord) -> str:
        metrics = [None if name not in record.metrics else float(record.metrics[name]) for name in self.metrics]
        rates = map(float, chain(record.lr, record.last_lr, *(record.scheduled[name] for name in self.scheduled)))
        return _line([int(record.epoch), int(record.steps), float(record.seconds), *metrics, *rates])

    def unpack(self, rows: list[list[Any]], state: dict[str, Any]) -> None:
        """Add the epochs of some lines to the state of a History."""
        if not rows:
            return
        first, columns = len(state["epoch"]), list(zip(*rows, strict=True))
        if len(columns) != 3 + len(self.metrics) + self.lr + self.last_lr + sum(self.scheduled.values()):
            raise ValueError("an epoch does not have the numbers that are announced")
        rest = iter(columns)
        for name in ("epoch", "steps", "seconds"):
            state[name] += next(rest)
        for name in self.metrics:
            values, column = next(rest), state["metrics"].setdefault(name, {"epochs": [], "values": []})
            column["epochs"] += [index for index, value in enumerate(values, first) if value is not None]
            column["values"] += [value for value in values if value is not None]
        for name, count in (("lr", self.lr), ("last_lr", self.last_lr)):
            _add(state[name], count, rest, len(rows))
        for name, count in self.scheduled.items():
            _add(state["scheduled"].setdefault(name, {"groups": [0] * first, "values": []}), count, rest, len(rows))
        for name, column in state["scheduled"].items():
            if name not in self.scheduled:
                column["groups"] += [0] * len(rows)


def _add(column: dict[str, Any], count: int, rest: Iterator[Any], rows: int) -> None:
    """Add the numbers of so many groups, which come next, to a column of a state."""
    column["groups"] += [count] * rows
    column["values"] += chain.from_iterable(zip(*(next(rest) for _ in range(count)), strict=True))


@frozen
class Segment:
    """A file of the history, up to a place in it; a value, from which the next one follows.

    Args:
        path: The file.
        size: The bytes before the place.
        epochs: The epochs in them.
        evaluations: The evaluations within epochs in them.
        digest: Their SHA-256, a hash object.
        columns: What the numbers in the line of an epoch are there.
    """

    path: Path
    size: int = 0
    epochs: int = 0
    evaluations: int = 0
    digest: Any = field(factory=hashlib.sha256, repr=False)
    columns: _Columns | None = None

    @property
    def reference(self) -> dict[str, Any]:
        """What a checkpoint has in place of the history."""
        numbers = {"epochs": self.epochs, "evaluations": self.evaluations}
        return {"segment": self.path.name, "bytes": self.size, "sha256": self.digest.hexdigest(), **numbers}

    def is_there(self) -> bool:
        """Return whether the file has at least the bytes before the place."""
        with suppress(OSError):
            return self.size == 0 or (self.path.is_file() and self.path.stat().st_size >= self.size)
        return False

    def extended(self, history: History) -> tuple[Segment, bytes]:
        """Return the place at which all of a history is in the file, and the lines up to there."""
        lines, columns = [], self.columns
        for record in history[self.epochs :]:
            fitting = (columns or _Columns()).fit(record)
            if fitting != columns:
                columns = fitting
                lines.append(_line(attrs.asdict(columns)))
            lines.append(columns.line(record))
        lines += [_line(attrs.asdict(evaluation)) for evaluation in history.evaluations[self.evaluations :]]
        added = "".join(lines).encode("ascii")
        digest = self.digest.copy()
        digest.update(added)
        counts = len(history), len(history.evaluations)
        return Segment(self.path, self.size + len(added), *counts, digest, columns), added

    def write(self, lines: bytes) -> None:
        """Put lines at the place, instead of what follows it in the file, and force them to the disk."""
        if not lines:
            return
        flags = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | (os.O_CREAT | os.O_EXCL if self.size == 0 else 0)
        if self.size == 0:
            self.path.unlink(missing_ok=True)  # of a save that failed
        descriptor = open_regular(self.path, flags)
        try:
            os.ftruncate(descriptor, self.size)
            os.lseek(descriptor, self.size, os.SEEK_SET)
            write_all(descriptor, memoryview(lines))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if self.size == 0:
            force_folder(self.path.parent)  # before a checkpoint names it


def read_history(reference: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """Return the state of the history that a checkpoint names, or None if its file is not there.

    Raises:
        ValueError: If the file is not what the checkpoint says.
        OSError: If it cannot be read.
    """
    found = find_segment(reference, folder)
    if found is None:
        return None
    segment, content = found
    state = _unpacked(json.loads(b"[" + content[:-1].replace(b"\n", b",") + b"]"))
    if (len(state["epoch"]), len(state["evaluations"])) != (segment.epochs, segment.evaluations):
        raise ValueError(f"its history, {segment.path}, has other numbers of epochs and evaluations than it says")
    return state


def find_segment(reference: dict[str, Any], folder: Path) -> tuple[Segment, bytes] | None:
    """Return the place in a file of the history that a checkpoint names, and what is before it, or None without a file.

    Raises:
        ValueError: If the file is not what the checkpoint says.
        OSError: If it cannot be read.
    """
    check_entries("the history", reference, Segment(Path()).reference)
    name, size = reference.get("segment"), whole_number("bytes", reference.get("bytes"), least=0)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"'segment' must be the name of a file such as history-000001.jsonl: {name!r}")
    path, digest = folder / name, hashlib.sha256()
    try:
        content = b"" if size == 0 else _content(path, size)
    except FileNotFoundError:
        return None
    digest.update(content)
    if len(content) != size or digest.hexdigest() != reference.get("sha256"):
        cure = "move it away and pass accept='history' to go on without"
        raise ValueError(f"its history, {path}, is shorter than it was, or was changed; {cure}")
    return Segment(path, size, reference["epochs"], reference["evaluations"], digest), content


def _content(path: Path, size: int) -> bytes:
    chunks: list[bytes] = []
    with open(open_regular(path, os.O_RDONLY), "rb") as file:
        while size > 0 and (chunk := file.read(min(size, _CHUNK))):
            if b"\0" in chunk:  # a file with holes may claim any size, and JSON has no such byte
                break
            chunks.append(chunk)
            size -= len(chunk)
    return b"".join(chunks)


def _unpacked(lines: Iterable[Any]) -> dict[str, Any]:
    state = History().state_dict()
    for columns, rows in _blocks(lines, state["evaluations"]):
        columns.unpack(rows, state)
    return state


def _blocks(lines: Iterable[Any], evaluations: list[Any]) -> Iterator[tuple[_Columns, list[list[Any]]]]:
    """Yield the epochs in some lines with their columns, and collect the evaluations."""
    columns, rows = _Columns(), list[list[Any]]()
    for line in lines:
        if isinstance(line, list):
            rows.append(line)
        elif "step" in line:
            evaluations.append(line)
        else:
            yield columns, rows
            columns, rows = _Columns(tuple(line["metrics"]), line["lr"], line["last_lr"], line["scheduled"]), []
    yield columns, rows


def _line(value: Any) -> str:
    # NaN and the infinities stand as Python's own reader takes them: nobody else is to read these files.
    return json.dumps(value, separators=(",", ":")) + "\n"
