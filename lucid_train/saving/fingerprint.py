"""Fingerprints of batches: whether a batch is the one that was drawn before, without keeping either."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from hashlib import blake2b
from pathlib import PurePath
from typing import Any

import attrs
import numpy as np

from lucid_train.saving.shards import is_dtensor

# An array with more bytes is read in so many blocks, which are together as long as this.
_MOST_BYTES = 2**20
_BLOCKS = 16
# Containers within containers; what is deeper, as in a list that holds itself, is described by its type.
_MOST_LEVELS = 16


def fingerprint(batch: Any) -> str | None:
    """Return a digest of a batch, or None if it has no content that could be compared.

    Content is the structure, with the types in it, strings and numbers, and arrays: their types, shapes and values, of
    an array above 1 MiB its ends and blocks at even distances. Containers are mappings, lists, tuples, dataclasses and
    attrs classes; any other object counts by its type alone. An array on a device is waited for, and copied from it.

    >>> fingerprint({"x": np.arange(3.0)}) == fingerprint({"x": np.arange(3.0)})
    True
    >>> fingerprint([1, "a"]) == fingerprint([1, "b"])
    False
    >>> print(fingerprint(object()))
    None
    """
    digest, has_content = blake2b(digest_size=16), False
    for part in _parts(batch, 0):
        content, has_content = part if isinstance(part, bytes) else part[0], has_content or isinstance(part, bytes)
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest() if has_content else None


def _parts(value: Any, level: int) -> Iterator[bytes | tuple[bytes]]:
    """Yield what a value consists of: its content as bytes, what describes it in a tuple."""
    yield (f"{type(value).__module__}.{type(value).__qualname__}".encode(),)
    if value is None or level > _MOST_LEVELS:
        return
    if isinstance(value, (bytes, bytearray, memoryview)):
        yield bytes(value)
    elif isinstance(value, (str, int, float, complex)):
        yield (str if isinstance(value, str) else repr)(value).encode(errors="surrogatepass")
    elif isinstance(value, PurePath):
        yield str(value).encode(errors="surrogatepass")
    elif is_dtensor(value):  # only what this process holds: to read the whole would be an exchange of all
        yield (f"{tuple(value.shape)} {value.placements}".encode(),)
        yield from _parts(value.to_local(), level + 1)
    elif _is_tensor(value):
        yield from _tensor_parts(value)
    elif hasattr(value, "__array__") and hasattr(value, "dtype") and hasattr(value, "shape"):
        yield from _array_parts(value, level)
    else:
        items = _items(value)
        yield (str(len(items)).encode(),)
        for item in items:
            yield from _parts(item, level + 1)


def _items(value: Any) -> list[Any]:
    """Return what is in a container; of an object that is none, nothing."""
    if isinstance(value, Mapping):
        return [part for item in value.items() for part in item]
    if isinstance(value, (list, tuple)):
        return list(value)
    if attrs.has(type(value)):
        return [getattr(value, each.name, None) for each in attrs.fields(type(value))]
    if is_dataclass(value):
        return [getattr(value, each.name, None) for each in dataclass_fields(value)]
    return []


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _tensor_parts(tensor: Any) -> Iterator[bytes | tuple[bytes]]:
    torch = sys.modules["torch"]
    yield (f"{tensor.dtype} {tuple(tensor.shape)}".encode(),)
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_nested:
        return
    tensor = tensor.detach()
    if tensor.device.type != "cpu" or not tensor.is_contiguous() or tensor.is_conj() or tensor.is_neg():
        # In the order in which they lie in memory, so that a large one is not copied to be read.
        order = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
        tensor = tensor.resolve_conj().resolve_neg().permute(order)
    flat = tensor.reshape(-1)
    for start, stop in _blocks(flat.numel(), tensor.element_size()):
        block = (flat if stop - start == flat.numel() else flat[start:stop]).cpu().contiguous()
        if block.stride(0) != 1:  # one number of a slice counts as contiguous, and is no view of its bytes
            block = block.clone(memory_format=torch.contiguous_format)
        yield block.view(torch.uint8).numpy().tobytes()


def _array_parts(value: Any, level: int) -> Iterator[bytes | tuple[bytes]]:
    yield (f"{value.dtype} {tuple(value.shape)}".encode(),)
    try:
        array = np.asarray(value)
    except Exception:  # what keys of JAX raise, arrays on a device that are not copied unasked, and classes of users
        return
    if isinstance(value, np.ma.MaskedArray):
        yield from _array_parts(np.ma.getmaskarray(value), level)
    if array.dtype.kind in "OT":
        yield from _parts(array.tolist(), level + 1)
    elif not array.dtype.hasobject:
        for start, stop in _blocks(array.size, array.itemsize):
            yield array.flat[start:stop].tobytes()


def _blocks(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where the blocks of an array of so many items of this size begin and end."""
    if count * size <= _MOST_BYTES:
        if count:
            yield 0, count
        return
    length = max(1, _MOST_BYTES // _BLOCKS // size)
    for index in range(_BLOCKS):
        start = (count - length) * index // (_BLOCKS - 1)
        yield start, start + length
