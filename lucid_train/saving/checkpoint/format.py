"""The file format: the layout of safetensors, with a digest at the end."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from attrs import define, field
from numpy.typing import NDArray

from lucid_train.files import open_file, write_whole
from lucid_train.saving.bounded_json import affordable_size, parse, parsing_cost
from lucid_train.saving.checkpoint.arrays import unpack
from lucid_train.saving.checkpoint.tree import DIGEST, METADATA, TREE, FlatTree, Leaf, flatten, unflatten

FORMAT = "lucid_train.saving.checkpoint"
VERSION = "1"

_DIGEST_SIZE = 32

# Dtype -> safetensors dtype. Arrays of other dtypes are declared as bytes; our own JSON has their dtype and shape.
_INTEGERS = {f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)} | {
    f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)
}
_FLOATS = {"bool": "BOOL", "float16": "F16", "float32": "F32", "float64": "F64", "complex64": "C64"}
_SAFETENSORS = _INTEGERS | _FLOATS | {"bfloat16": "BF16", "float8_e5m2": "F8_E5M2", "float8_e4m3fn": "F8_E4M3"}


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: it is damaged, of another version, or does not fit this run."""


def write_checkpoint(path: str | os.PathLike[str], tree: Any) -> None:
    """Write a tree of values and arrays to a file. A crash leaves either the whole file or what was there before.

    It is written under another name in the same folder, forced to the disk and then renamed. Arrays are written from
    their own memory; none is copied.

    Args:
        path: The file; one that exists is replaced.
        tree: None, numbers, strings, bytes, numpy's arrays, PyTorch's tensors, and lists, tuples and dicts of these.

    Raises:
        TypeError: If something in the tree cannot be saved, naming its place.
        OSError: If the file cannot be written, naming it.
    """
    write_flat(Path(path), flatten(tree))


def write_flat(path: Path, flat: FlatTree) -> None:
    """Write a tree that is already flattened; see `write_checkpoint`."""
    tree = json.dumps(flat.json, allow_nan=False, separators=(",", ":")).encode("ascii")
    leaves = [_bytes_leaf(TREE, tree), *flat.leaves, _bytes_leaf(DIGEST, bytes(_DIGEST_SIZE))]
    table: dict[str, Any] = {METADATA: {"format": FORMAT, "version": VERSION}}
    end = 0
    for leaf in leaves:
        size = leaf.data.nbytes
        known = _SAFETENSORS.get(leaf.dtype.rpartition(".")[2])
        dtype, shape = ("U8", (size,)) if known is None else (known, leaf.shape)
        table[leaf.name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(table, separators=(",", ":")).encode("ascii")
    # Readers take no more memory than the file's size allows.
    missing = affordable_size(parsing_cost(header) + parsing_cost(tree)) - 8 - len(header) - end
    header = header.ljust(len(header) + max(missing, 0))
    header += b" " * (-len(header) % 8)
    start = len(header).to_bytes(8, "little") + header
    write_whole(path, (start, *(leaf.data.data for leaf in leaves[:-1])), hashlib.sha256())


def _bytes_leaf(name: str, content: bytes) -> Leaf:
    return Leaf(name, "uint8", (len(content),), np.frombuffer(content, dtype=np.uint8))


def read_file(path: str | os.PathLike[str]) -> Any:
    """Read the tree that `write_checkpoint` wrote, provided that the file is whole.

    Nothing in the file is ever run, no other file is touched, and reading takes at most ten times the file's size in
    memory, or a megabyte more than the file. The digest detects damage; it does not prove who wrote the file.

    Args:
        path: The file.

    Returns:
        The tree. Tensors are PyTorch's again, on the CPU.

    Raises:
        CheckpointError: If it is cut short, changed, of another version, not a checkpoint, or not a file at all.
        OSError: If the file cannot be read.
    """
    try:
        with open_file(path) as file:
            return _Reader(file, os.fstat(file.fileno()).st_size).tree()
    except (ValueError, RecursionError, OverflowError, MemoryError) as error:
        reason = "there is not enough memory" if isinstance(error, MemoryError) else str(error)
        raise CheckpointError(f"{os.fspath(path)} is not a usable checkpoint: {reason}") from None


@define
class _Reader:
    """Reads one file once, from its beginning to its end, and computes the digest on the way."""

    _file: IO[bytes]
    _size: int
    _hash: Any = field(factory=hashlib.sha256)
    _data: dict[str, NDArray[np.uint8]] = field(factory=dict)

    def tree(self) -> Any:
        length = int.from_bytes(self._take(8), "little")
        if 8 + length > self._size:
            raise ValueError("it is cut short, or its header is damaged")
        header = self._take(length).tobytes()
        spent = parsing_cost(header)
        sizes = _checked_sizes(_parsed("header", parse, header, size=self._size, depth=4), self._size - 8 - length)
        self._data = {name: self._take(size) for name, size in sizes.items() if name != DIGEST}
        if self._file.read(_DIGEST_SIZE + 1) != self._hash.digest():
            raise ValueError("its SHA-256 is not that of its content, it is damaged")
        json = self._data.pop(TREE).tobytes()
        restored = _parsed("tree", unflatten, json, self._array, size=self._size, spent=spent)
        if self._data:
            raise ValueError(f"nothing in the tree refers to the array {next(iter(self._data))!r}")
        return restored

    def _take(self, size: int) -> NDArray[np.uint8]:
        content = np.empty(size, dtype=np.uint8)
        if (self._file.readinto(content.data) or 0) < size:  # type: ignore[attr-defined]  # of every binary file of the system
            raise ValueError("it is cut short")
        self._hash.update(content)
        return content

    def _array(self, name: str, dtype: str, shape: list[Any], strides: list[Any] | None) -> Any:
        """Return the array of a name, once."""
        if name not in self._data:
            raise ValueError(f"there is no array {name!r:.80}, or the tree refers to it twice")
        try:
            return unpack(self._data.pop(name), dtype, shape, strides)
        except ValueError as error:
            raise ValueError(f"{name!r:.80} cannot be restored: {error}") from None


def _parsed(what: str, read: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    try:
        return read(*arguments, **options)
    except ValueError as error:
        raise ValueError(f"its {what} is not what it should be: {error}") from None


def _checked_sizes(table: Any, size: int) -> dict[str, int]:
    """Return the sizes of a header's entries, in the order of the file; together they fill the `size` that follows."""
    about = table.pop(METADATA, None) if isinstance(table, dict) else None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError("it was not written by lucid_train")
    if about.get("version") != VERSION:
        raise ValueError(f"it is of version {about.get('version')!r}, and this release reads version {VERSION!r}")
    sizes: dict[str, int] = {}
    end = 0
    for name, entry in table.items():
        offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
        if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(offset) is int for offset in offsets)):
            raise ValueError(f"{name!r} has no place in it")
        if offsets[0] != end or offsets[1] < end:
            raise ValueError(f"{name!r} has a wrong place in it: it overlaps, leaves a gap or is out of order")
        sizes[name], end = offsets[1] - end, offsets[1]
    if end != size:
        raise ValueError(f"it is cut short or too long: {size} bytes follow the header, and not {end}")
    if TREE not in sizes or list(sizes)[-1] != DIGEST or sizes[DIGEST] != _DIGEST_SIZE:
        raise ValueError("it lacks its tree or its SHA-256")
    return sizes
