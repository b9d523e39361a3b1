"""The file format: the layout of safetensors, with a digest at the end."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
from attrs import define, field

from lucid_train.files import write_whole
from lucid_train.saving.checkpoint.tree import Leaf, Parts, put_together, take_apart

FORMAT = "lucid_train.saving.checkpoint"
VERSION = "1"

_TREE = "__tree__"
_DIGEST = "__sha256__"
_DIGEST_SIZE = 32
# JSON grows some 25 times when it is parsed; these keep what a hostile file can take far below a gigabyte.
_LARGEST_HEADER = 8 << 20
_LARGEST_TREE = 12 << 20
_CHUNK = 8 << 20

# What safetensors calls a type; anything else is stored as bytes there, and our own JSON knows better.
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
    """A checkpoint cannot be used: it is damaged, of another version, or does not fit this run."""


def write_checkpoint(path: str | os.PathLike[str], tree: Any) -> None:
    """Write a tree of values and arrays to a file, so that after a crash there is the whole file or what was before.

    It is written under another name in the same folder, forced to the disk and then given its name. Arrays are written
    from where they are; none is copied.

    Args:
        path: The file; one that exists is replaced.
        tree: None, numbers, strings, bytes, numpy's arrays, PyTorch's tensors, and lists, tuples and dicts of these.

    Raises:
        TypeError: If something in the tree cannot be saved, naming where it stands.
        OSError: If the file cannot be written, naming it.
    """
    write_parts(Path(path), take_apart(tree))


def write_parts(path: Path, parts: Parts) -> None:
    """Write a tree that was taken apart already; see `write_checkpoint`."""
    tree = json.dumps(parts.json, allow_nan=False, separators=(",", ":")).encode("ascii")
    if len(tree) > _LARGEST_TREE:
        limit = f"{_LARGEST_TREE >> 20} MB as JSON"
        raise ValueError(f"a state must take at most {limit}, arrays not counted; put long lists into arrays: {path}")
    table: dict[str, Any] = {"__metadata__": {"format": FORMAT, "version": VERSION}}
    place = _enter(table, _TREE, "U8", (len(tree),), 0, len(tree))
    for leaf in parts.leaves:
        place = _enter(table, leaf.name, *_declared(leaf), place, leaf.octets.nbytes)
    _enter(table, _DIGEST, "U8", (_DIGEST_SIZE,), place, _DIGEST_SIZE)
    header = json.dumps(table, separators=(",", ":")).encode("ascii")
    header += b" " * (-len(header) % 8)
    if len(header) > _LARGEST_HEADER:
        raise ValueError(f"a state must hold fewer arrays, {len(parts.leaves)} need too long a header: {path}")
    start = len(header).to_bytes(8, "little") + header + tree
    write_whole(path, (memoryview(start), *(leaf.octets.data for leaf in parts.leaves)), hashlib.sha256())


def read_checkpoint(path: str | os.PathLike[str]) -> Any:
    """Read the tree that `write_checkpoint` wrote, if the file is whole.

    Nothing in the file is run, whatever it holds, no other file is touched, and no more memory is taken than a small
    multiple of the file's size. The digest finds damage; who wrote the file it does not say.

    Args:
        path: The file.

    Returns:
        The tree. Tensors are PyTorch's again, on the CPU.

    Raises:
        CheckpointError: If the file is cut short, changed, of another version, or no checkpoint at all.
        OSError: If the file cannot be read.
    """
    with open(path, "rb") as file:
        try:
            return _Reader(file, os.fstat(file.fileno()).st_size).tree()
        except (ValueError, RecursionError, OverflowError, MemoryError) as error:
            reason = "its JSON is nested too deep" if isinstance(error, RecursionError) else str(error)
            raise CheckpointError(f"{os.fspath(path)} is no usable checkpoint: {reason}") from None


@define
class _Reader:
    """Reads one file from its beginning to its end, once, and takes the digest of what it reads."""

    _file: IO[bytes]
    _size: int
    _hash: Any = field(factory=hashlib.sha256)
    _data: dict[str, np.ndarray[Any, np.dtype[np.uint8]]] = field(factory=dict)

    def tree(self) -> Any:
        length = int.from_bytes(self._take(8), "little")
        if length > _LARGEST_HEADER or 8 + length > self._size:
            raise ValueError("it is cut short, or its header is damaged")
        table = _parsed(self._take(length), "header")
        places = _checked_places(table, self._size - 8 - length)
        content: Any = None
        for name, size in places:
            if name == _DIGEST:
                break
            if name == _TREE:
                content = self._take(size)
            else:
                self._data[name] = self._array(size)
        expected = self._hash.digest()
        if self._file.read(_DIGEST_SIZE + 1) != expected:
            raise ValueError("its SHA-256 is not that of its content, it is damaged")
        tree = put_together(_parsed(content, "tree"), self._typed)
        if self._data:
            raise ValueError(f"nothing in the tree refers to the array {next(iter(self._data))!r}")
        return tree

    def _take(self, size: int) -> bytes:
        content = self._file.read(size)
        if len(content) < size:
            raise ValueError("it is cut short")
        self._hash.update(content)
        return content

    def _array(self, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        array = np.empty(size, dtype=np.uint8)
        for start in range(0, size, _CHUNK):
            part = array.data[start : start + _CHUNK]
            if self._file.readinto(part) < len(part):  # type: ignore[attr-defined]  # a binary file has it
                raise ValueError("it is cut short")
            self._hash.update(part)
        return array

    def _typed(self, name: str, dtype: str, shape: tuple[int, ...]) -> Any:
        if name not in self._data:
            raise ValueError(f"there is no array {name!r}, or the tree refers to it twice")
        data = self._data.pop(name)
        if dtype.startswith("torch."):
            return _tensor(name, data, dtype, shape)
        if dtype not in _NUMPY:
            raise ValueError(f"{name!r} is of an unknown type, {dtype!r}")
        numeric = np.dtype(dtype).newbyteorder("<")
        if math.prod(shape) * numeric.itemsize != data.nbytes:
            raise ValueError(f"{name!r} has {data.nbytes} bytes, which are no {shape} of {dtype}")
        return data.view(numeric).reshape(shape).astype(dtype, copy=False)


def _tensor(name: str, data: Any, dtype: str, shape: tuple[int, ...]) -> Any:
    torch = sys.modules.get("torch")
    if torch is None:
        raise ValueError(f"{name!r} is a tensor of PyTorch, which is not imported; import torch first")
    kind = getattr(torch, dtype.removeprefix("torch."), None)
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"{name!r} is of an unknown type, {dtype!r}")
    if math.prod(shape) * kind.itemsize != data.nbytes:
        raise ValueError(f"{name!r} has {data.nbytes} bytes, which are no {shape} of {dtype}")
    try:
        return torch.from_numpy(data).view(kind).reshape(shape) if data.nbytes else torch.empty(shape, dtype=kind)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{name!r} is no tensor: {error}") from None


def _parsed(content: bytes | None, what: str) -> Any:
    if content is None:
        raise ValueError(f"it has no {what}")
    try:
        return json.loads(content.decode("ascii"))
    except UnicodeDecodeError:
        raise ValueError(f"its {what} is no JSON") from None
    except ValueError as error:
        raise ValueError(f"its {what} is no JSON: {error}") from None


def _checked_places(table: Any, size: int) -> list[tuple[str, int]]:
    """Return the entries in the order of the file with their sizes, which add up to what is there."""
    about = table.get("__metadata__") if isinstance(table, dict) else None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError("it is not one of lucid_train")
    if about.get("version") != VERSION:
        raise ValueError(f"it is of version {about.get('version')!r}, and this is a reader of version {VERSION!r}")
    places = []
    for name, entry in table.items():
        if name == "__metadata__":
            continue
        span = entry.get("data_offsets") if isinstance(entry, dict) else None
        if not (isinstance(span, list) and len(span) == 2 and all(type(offset) is int for offset in span)):
            raise ValueError(f"{name!r} has no place in it")
        places.append((span[0], span[1], name))
    end = 0
    for first, last, name in sorted(places):
        if first != end or last < first:
            raise ValueError(f"{name!r} has a wrong place in it")
        end = last
    if end != size:
        raise ValueError(f"it is cut short or too long: {size} bytes follow the header, and not {end}")
    # Of entries without bytes, several share a place: the order of the header is that of the file.
    if [place[:2] for place in places] != sorted(place[:2] for place in places):
        raise ValueError("its entries are out of order")
    named = [(name, last - first) for first, last, name in places]
    if not named or named[-1] != (_DIGEST, _DIGEST_SIZE) or dict(named).get(_TREE, _LARGEST_TREE + 1) > _LARGEST_TREE:
        raise ValueError("it lacks its tree or its SHA-256")
    return named


def _declared(leaf: Leaf) -> tuple[str, tuple[int, ...]]:
    name = _SAFETENSORS.get(leaf.dtype.removeprefix("torch."))
    return ("U8", (leaf.octets.nbytes,)) if name is None else (name, leaf.shape)


def _enter(table: dict[str, Any], name: str, dtype: str, shape: tuple[int, ...], place: int, size: int) -> int:
    table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, place + size]}
    return place + size
