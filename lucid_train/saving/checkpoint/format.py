"""The file format: the layout of safetensors, with a digest at the end."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from io import BufferedReader
from pathlib import Path
from typing import Any

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

# Dtype -> safetensors dtype. Arrays of other dtypes are declared as bytes; our own JSON has their dtype and shape.
_INTEGERS = {f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)} | {
    f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)
}
_OF_NUMPY = _INTEGERS | {"bool": "BOOL", "float16": "F16", "float32": "F32", "float64": "F64", "complex64": "C64"}
_SAFETENSORS = _OF_NUMPY | {"bfloat16": "BF16", "float8_e5m2": "F8_E5M2", "float8_e4m3fn": "F8_E4M3"}
_NUMPY = _OF_NUMPY.keys() | {"complex128"}


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
    leaves = [_bytes_leaf(TREE, tree), *flat.leaves, _bytes_leaf(DIGEST, bytes(_DIGEST_SIZE))]
    table: dict[str, Any] = {METADATA: {"format": FORMAT, "version": VERSION}}
    end = 0
    for leaf in leaves:
        size = leaf.data.nbytes
        known = _SAFETENSORS.get(leaf.dtype.removeprefix("torch."))
        dtype, shape = ("U8", (size,)) if known is None else (known, leaf.shape)
        table[leaf.name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(table, separators=(",", ":")).encode("ascii")
    header += b" " * (-len(header) % 8)
    if len(header) > _LARGEST_HEADER:
        raise ValueError(f"a state must hold fewer arrays, {len(flat.leaves)} need too long a header: {path}")
    start = len(header).to_bytes(8, "little") + header
    write_whole(path, (start, *(leaf.data.data for leaf in leaves[:-1])), hashlib.sha256())


def _bytes_leaf(name: str, content: bytes) -> Leaf:
    return Leaf(name, "uint8", (len(content),), np.frombuffer(content, dtype=np.uint8))


def read_file(path: str | os.PathLike[str]) -> Any:
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

    _file: BufferedReader
    _size: int
    _hash: Any = field(factory=hashlib.sha256)
    _data: dict[str, NDArray[np.uint8]] = field(factory=dict)

    def tree(self) -> Any:
        length = int.from_bytes(self._take(8), "little")
        if length > _LARGEST_HEADER or 8 + length > self._size:
            raise ValueError("it is cut short, or its header is damaged")
        sizes = _checked_sizes(_parsed(self._take(length), "header"), self._size - 8 - length)
        self._data = {name: self._take(size) for name, size in sizes.items() if name != DIGEST}
        if self._file.read(_DIGEST_SIZE + 1) != self._hash.digest():
            raise ValueError("its SHA-256 is not that of its content, it is damaged")
        restored = unflatten(_parsed(self._data.pop(TREE), "tree"), self._array)
        if self._data:
            raise ValueError(f"nothing in the tree refers to the array {next(iter(self._data))!r}")
        return restored

    def _take(self, size: int) -> NDArray[np.uint8]:
        content = np.empty(size, dtype=np.uint8)
        if self._file.readinto(content.data) < size:
            raise ValueError("it is cut short")
        self._hash.update(content)
        return content

    def _array(self, name: str, dtype: str, shape: tuple[int, ...]) -> Any:
        """Return the array of a name, once."""
        if name not in self._data:
            raise ValueError(f"there is no array {name!r}, or the tree refers to it twice")
        data, kind = self._data.pop(name), _dtype(name, dtype)
        if math.prod(shape) * kind.itemsize != data.nbytes:
            raise ValueError(f"{name!r} has {data.nbytes} bytes, not those of shape {shape} and type {dtype}")
        if isinstance(kind, np.dtype):
            return data.view(kind).reshape(shape).astype(dtype, copy=False)
        torch = sys.modules["torch"]
        try:
            return torch.from_numpy(data).view(kind).reshape(shape) if data.nbytes else torch.empty(shape, dtype=kind)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"{name!r} cannot be a tensor: {error}") from None


def _dtype(name: str, dtype: str) -> Any:
    """Return the dtype of the array `name`: numpy's, little-endian as in the file, or PyTorch's."""
    if dtype in _NUMPY:
        return np.dtype(dtype).newbyteorder("<")
    if dtype.startswith("torch."):
        torch = sys.modules.get("torch")
        if torch is None:
            raise ValueError(f"{name!r} is a PyTorch tensor, and torch is not imported; import torch first")
        kind = getattr(torch, dtype.removeprefix("torch."), None)
        if isinstance(kind, torch.dtype):
            return kind
    raise ValueError(f"{name!r} is of an unknown type, {dtype!r}")


def _parsed(content: NDArray[np.uint8], what: str) -> Any:
    try:
        return json.loads(content.tobytes().decode("ascii"))
    except ValueError as error:
        raise ValueError(f"its {what} is not JSON: {error}") from None


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
    if sizes[TREE] > _LARGEST_TREE:
        raise ValueError(f"its tree is larger than {_LARGEST_TREE >> 20} MB")
    return sizes
