"""The file format: the layout of safetensors, with a digest at the end."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from attrs import define, field
from numpy.typing import NDArray

from lucid_train.files import write_whole
from lucid_train.saving.checkpoint.tree import DIGEST, METADATA, TREE, FlatTree, Leaf, flatten, unflatten

FORMAT = "lucid_train.saving.checkpoint"
VERSION = "1"

_DIGEST_SIZE = 32
# Parsed JSON takes some 25 times its length in memory; these limits keep a hostile file far below a gigabyte.
_LARGEST_HEADER = 8 << 20
_LARGEST_TREE = 12 << 20
_CHUNK = 8 << 20

# Dtype -> safetensors dtype. Arrays of other dtypes are declared as bytes; our own JSON has their dtype and shape.
_SAFETENSORS = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fn": "F8_E4M3",
    "complex64": "C64",
}
_NUMPY = frozenset(_SAFETENSORS) - {"bfloat16", "float8_e5m2", "float8_e4m3fn"} | {"complex128"}


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
    if len(tree) > _LARGEST_TREE:
        limit = f"{_LARGEST_TREE >> 20} MB as JSON"
        raise ValueError(f"a state must take at most {limit}, arrays not counted; put long lists into arrays: {path}")
    table: dict[str, Any] = {METADATA: {"format": FORMAT, "version": VERSION}}
    end = _declare(table, TREE, "U8", (len(tree),), 0, len(tree))
    for leaf in flat.leaves:
        end = _declare(table, leaf.name, *_safetensors_type(leaf), end, leaf.data.nbytes)
    _declare(table, DIGEST, "U8", (_DIGEST_SIZE,), end, _DIGEST_SIZE)
    header = json.dumps(table, separators=(",", ":")).encode("ascii")
    header += b" " * (-len(header) % 8)
    if len(header) > _LARGEST_HEADER:
        raise ValueError(f"a state must hold fewer arrays, {len(flat.leaves)} need too long a header: {path}")
    start = len(header).to_bytes(8, "little") + header + tree
    write_whole(path, (memoryview(start), *(leaf.data.data for leaf in flat.leaves)), hashlib.sha256())


def read_checkpoint(path: str | os.PathLike[str]) -> Any:
    """Read the tree that `write_checkpoint` wrote, provided that the file is whole.

    Nothing in the file is ever run, no other file is touched, and memory use is a small multiple of the file's size.
    The digest detects damage; it does not prove who wrote the file.

    Args:
        path: The file.

    Returns:
        The tree. Tensors are PyTorch's again, on the CPU.

    Raises:
        CheckpointError: If the file is cut short, changed, of another version, or not a checkpoint at all.
        OSError: If the file cannot be read.
    """
    with open(path, "rb") as file:
        try:
            return _Reader(file, os.fstat(file.fileno()).st_size).tree()
        except (ValueError, RecursionError, OverflowError, MemoryError) as error:
            reason = "its JSON is nested too deep" if isinstance(error, RecursionError) else str(error)
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
        if length > _LARGEST_HEADER or 8 + length > self._size:
            raise ValueError("it is cut short, or its header is damaged")
        spans = _checked_spans(_parsed(self._take(length), "header"), self._size - 8 - length)
        tree = b""
        for span in spans[:-1]:  # all but the digest
            if span.name == TREE:
                tree = self._take(span.size)
            else:
                self._data[span.name] = self._array(span.size)
        expected = self._hash.digest()
        if self._file.read(_DIGEST_SIZE + 1) != expected:
            raise ValueError("its SHA-256 is not that of its content, it is damaged")
        restored = unflatten(_parsed(tree, "tree"), self._typed)
        if self._data:
            raise ValueError(f"nothing in the tree refers to the array {next(iter(self._data))!r}")
        return restored

    def _take(self, size: int) -> bytes:
        content = self._file.read(size)
        if len(content) < size:
            raise ValueError("it is cut short")
        self._hash.update(content)
        return content

    def _array(self, size: int) -> NDArray[np.uint8]:
        array = np.empty(size, dtype=np.uint8)
        for start in range(0, size, _CHUNK):
            chunk = array.data[start : start + _CHUNK]
            if self._file.readinto(chunk) < len(chunk):  # type: ignore[attr-defined]  # a binary file has it
                raise ValueError("it is cut short")
            self._hash.update(chunk)
        return array

    def _typed(self, name: str, dtype: str, shape: tuple[int, ...]) -> Any:
        """Return the array of a name, once."""
        if name not in self._data:
            raise ValueError(f"there is no array {name!r}, or the tree refers to it twice")
        data = self._data.pop(name)
        if dtype.startswith("torch."):
            return _tensor(name, data, dtype, shape)
        if dtype not in _NUMPY:
            raise ValueError(f"{name!r} is of an unknown type, {dtype!r}")
        numeric = np.dtype(dtype).newbyteorder("<")
        _check_size(name, data, numeric.itemsize, dtype, shape)
        return data.view(numeric).reshape(shape).astype(dtype, copy=False)


def _tensor(name: str, data: NDArray[np.uint8], dtype: str, shape: tuple[int, ...]) -> Any:
    torch = sys.modules.get("torch")
    if torch is None:
        raise ValueError(f"{name!r} is a PyTorch tensor, and torch is not imported; import torch first")
    kind = getattr(torch, dtype.removeprefix("torch."), None)
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"{name!r} is of an unknown type, {dtype!r}")
    _check_size(name, data, kind.itemsize, dtype, shape)
    try:
        return torch.from_numpy(data).view(kind).reshape(shape) if data.nbytes else torch.empty(shape, dtype=kind)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{name!r} cannot be a tensor: {error}") from None


def _check_size(name: str, data: NDArray[np.uint8], itemsize: int, dtype: str, shape: tuple[int, ...]) -> None:
    if math.prod(shape) * itemsize != data.nbytes:
        raise ValueError(f"{name!r} has {data.nbytes} bytes, not those of shape {shape} and type {dtype}")


def _parsed(content: bytes, what: str) -> Any:
    try:
        return json.loads(content.decode("ascii"))
    except UnicodeDecodeError:
        raise ValueError(f"its {what} is not JSON") from None
    except ValueError as error:
        raise ValueError(f"its {what} is not JSON: {error}") from None


class _Span(NamedTuple):
    """Where an entry's bytes are, counted from the end of the header."""

    start: int
    end: int
    name: str

    @property
    def size(self) -> int:
        return self.end - self.start


def _checked_spans(table: Any, size: int) -> list[_Span]:
    """Return the entries of a header in the order of the file, checked against the `size` of what follows it."""
    _check_version(table)
    spans = [_span(name, entry) for name, entry in table.items() if name != METADATA]
    _check_gapless(spans, size)
    trees = [span for span in spans if span.name == TREE]
    if not trees or spans[-1].name != DIGEST or spans[-1].size != _DIGEST_SIZE:
        raise ValueError("it lacks its tree or its SHA-256")
    if trees[0].size > _LARGEST_TREE:
        raise ValueError(f"its tree is larger than {_LARGEST_TREE >> 20} MB")
    return spans


def _check_version(table: Any) -> None:
    about = table.get(METADATA) if isinstance(table, dict) else None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError("it was not written by lucid_train")
    if about.get("version") != VERSION:
        raise ValueError(f"it is of version {about.get('version')!r}, and this release reads version {VERSION!r}")


def _span(name: str, entry: Any) -> _Span:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(offset) is int for offset in offsets)):
        raise ValueError(f"{name!r} has no place in it")
    return _Span(offsets[0], offsets[1], name)


def _check_gapless(spans: list[_Span], size: int) -> None:
    """Refuse spans that overlap, leave a gap, are not in the order of the header, or do not fill the file."""
    end = 0
    for span in sorted(spans):
        if span.start != end or span.size < 0:
            raise ValueError(f"{span.name!r} has a wrong place in it")
        end = span.end
    if end != size:
        raise ValueError(f"it is cut short or too long: {size} bytes follow the header, and not {end}")
    # Several empty entries may share a place, so only the places are compared.
    places = [span[:2] for span in spans]
    if places != sorted(places):
        raise ValueError("its entries are out of order")


def _safetensors_type(leaf: Leaf) -> tuple[str, tuple[int, ...]]:
    name = _SAFETENSORS.get(leaf.dtype.removeprefix("torch."))
    return ("U8", (leaf.data.nbytes,)) if name is None else (name, leaf.shape)


def _declare(table: dict[str, Any], name: str, dtype: str, shape: tuple[int, ...], start: int, size: int) -> int:
    """Enter an array into the header and return where it ends."""
    table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, start + size]}
    return start + size
