"""Arrays of numpy, PyTorch and JAX as bytes, and as they were again: type, shape, strides and every bit."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from lucid_train.description import object_name

_NAMES = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
_NAMES += ("float16", "float32", "float64", "complex64", "complex128")
_LARGEST_RANK = 32
_KEYS = ("threefry2x32", "rbg", "unsafe_rbg")


@frozen
class Packed:
    """An array as bytes.

    Args:
        dtype: Such as "float32"; with "torch.", "jax." or "ml_dtypes." before it where it is not numpy's own, with ">"
            where it is big-endian, and with "jax.weak." where it is weakly typed.
        shape: Its shape.
        strides: How many elements lie between two neighbours along each axis; None in the usual order.
        data: The elements in the usual order, for any strides, as little-endian bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    data: NDArray[np.uint8]


def pack(value: Any) -> Packed | None:
    """Return an array as bytes, which are its own memory where that is possible, or None if it is none that is known.

    Strides are kept where the elements fill a block of memory, as PyTorch's `clone` keeps them.

    Raises:
        TypeError: If it is one that cannot be saved, saying why.
    """
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch is not None and type(value) in (torch.Tensor, torch.nn.Parameter):
        return _pack_tensor(value, torch)
    if jax is not None and isinstance(value, jax.Array):
        return _pack_jax(value, jax)
    if isinstance(value, np.generic) and type(value) is value.dtype.type:
        return _pack_numpy(np.asarray(value))
    return _pack_numpy(value) if type(value) is np.ndarray else None


def unpack(data: NDArray[np.uint8], dtype: str, shape: list[Any], strides: list[Any] | None) -> Any:
    """Return the array that `pack` packed; it owns `data`.

    Raises:
        ValueError: If `pack` cannot have returned these.
    """
    if len(shape) > _LARGEST_RANK or not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise ValueError(f"the shape must be at most {_LARGEST_RANK} sizes >= 0")
    if strides is not None and not (all(type(each) is int for each in strides) and _is_dense(shape, strides)):
        raise ValueError(f"the strides must fill a block of memory: {strides!r:.80}")
    library, _, name = dtype.rpartition(".")
    if library == "torch":
        return _unpack_tensor(data, name, shape, strides)
    big = name.startswith(">") and not library
    known = library in ("", "ml_dtypes", "jax", "jax.weak")
    kind = _numpy_dtype(name.removeprefix(">"), extended=bool(library)) if known else None
    if kind is None:
        raise ValueError(f"it is of an unknown type, {dtype!r:.80}")
    _check_size(data, dtype, shape, kind.itemsize)
    found = data.view(kind.newbyteorder("<")).reshape(shape)
    found = found.astype(kind.newbyteorder(">") if big else kind, copy=False)
    if library.startswith("jax"):
        return _unpack_jax(found, weak=library == "jax.weak")
    if strides is None:
        return found
    order = sorted(range(len(shape)), key=lambda axis: -strides[axis])
    turned = np.empty([shape[axis] for axis in order], found.dtype).transpose(np.argsort(order))
    turned[...] = found
    return turned


def key_of(value: Any) -> tuple[str, Any] | None:
    """Return the generator and the numbers of a random key of JAX, or None if this is none.

    Raises:
        TypeError: If it is of a generator of the user's own.
    """
    jax = sys.modules.get("jax")
    if jax is None or not (isinstance(value, jax.Array) and jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key)):
        return None
    if (name := str(jax.random.key_impl(value))) not in _KEYS:
        raise TypeError(f"only keys of {', '.join(_KEYS)} can: {name}")
    return name, jax.random.key_data(value)


def key_from(name: str, numbers: Any) -> Any:
    """Return the random key that `key_of` was given.

    Raises:
        ValueError: If there can be none.
    """
    jax = sys.modules.get("jax")
    if jax is None or name not in _KEYS or not isinstance(numbers, jax.Array):
        raise ValueError(f"{name!r:.80} is no generator of JAX, or its numbers are no array of JAX")
    try:
        return jax.random.wrap_key_data(numbers, impl=name)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a random key of JAX cannot be restored: {error}") from None


def _pack_numpy(value: NDArray[Any]) -> Packed:
    name, is_added = value.dtype.name, value.dtype.type.__module__ == "ml_dtypes"
    if not (name in _NAMES or is_added):
        raise TypeError(f"only arrays of numbers can: dtype {value.dtype}")
    name = f"{'ml_dtypes.' if is_added else ''}{'>' if value.dtype.byteorder == '>' else ''}{name}"
    strides = tuple(stride // value.itemsize for stride in value.strides)
    kept = not value.flags.c_contiguous and _is_dense(value.shape, strides)
    # Files are little-endian, as safetensors requires.
    plain = np.ascontiguousarray(value.astype(value.dtype.newbyteorder("<"), copy=False))
    return Packed(name, value.shape, strides if kept else None, plain.reshape(-1).view(np.uint8))


def _numpy_dtype(name: str, *, extended: bool) -> Any:
    """Return a dtype of numpy, or of those that ml_dtypes adds to it; None if there is none of this name.

    Raises:
        ValueError: If ml_dtypes is needed and not imported.
    """
    if name in _NAMES:
        return np.dtype(name)
    if extended and (added := sys.modules.get("ml_dtypes")) is None:
        raise ValueError(
            f"it is of the type {name!r:.80}, and ml_dtypes is not imported; import ml_dtypes, or jax, first"
        )
    kind = getattr(added, name, None) if extended else None
    return np.dtype(kind) if isinstance(kind, type) and issubclass(kind, np.generic) else None


def _pack_tensor(value: Any, torch: Any) -> Packed:
    if value.layout is not torch.strided or value.is_quantized or value.is_nested or value.is_meta:
        what = "meta" if value.is_meta else value.layout
        raise TypeError(f"only dense tensors can: {'quantized' if value.is_quantized else what}")
    if value.requires_grad and not value.is_leaf:
        raise TypeError("it is part of a graph of gradients, which cannot; detach it")
    whole = value.detach().cpu().resolve_conj().resolve_neg()
    strides = None
    if whole.numel() and whole.stride() != _usual_strides(whole.shape) and _is_dense(whole.shape, whole.stride()):
        strides = tuple(whole.stride())
    plain = whole.contiguous()
    elements = plain.as_strided((plain.numel(),), (1,))  # one element counts as contiguous with any stride
    # Bytes, not numbers: numpy has no bfloat16 and no float8.
    data = elements.view(torch.uint8).numpy() if elements.numel() else np.empty(0, dtype=np.uint8)
    return Packed(str(value.dtype), tuple(value.shape), strides, data)


def _unpack_tensor(data: NDArray[np.uint8], name: str, shape: list[int], strides: list[int] | None) -> Any:
    torch = sys.modules.get("torch")
    if torch is None:
        raise ValueError("it is a PyTorch tensor, and torch is not imported; import torch first")
    kind = getattr(torch, name, None)
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"it is of an unknown type, {f'torch.{name}'!r:.80}")
    _check_size(data, f"torch.{name}", shape, kind.itemsize)
    try:
        if not data.nbytes:
            return torch.empty(shape, dtype=kind)
        found = torch.from_numpy(data).view(kind).reshape(shape)
        return found if strides is None else torch.empty_strided(shape, strides, dtype=kind).copy_(found)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"it cannot be a tensor: {error}") from None


def _pack_jax(value: Any, jax: Any) -> Packed:
    if isinstance(value, jax.core.Tracer) or not value.is_fully_addressable:
        raise TypeError(f"only whole arrays of this process can: a {object_name(type(value))}")
    packed = _pack_numpy(np.asarray(value))
    library = "jax.weak" if value.weak_type else "jax"
    return Packed(f"{library}.{packed.dtype.rpartition('.')[2]}", packed.shape, None, packed.data)


def _unpack_jax(value: NDArray[Any], *, weak: bool) -> Any:
    jax = sys.modules.get("jax")
    if jax is None:
        raise ValueError("it is an array of JAX, and jax is not imported; import jax first")
    if jax.dtypes.canonicalize_dtype(value.dtype) != value.dtype:
        raise ValueError(f"it is of {value.dtype}, which JAX has only with jax_enable_x64")
    if not weak:
        return jax.numpy.asarray(value)
    # Numbers of Python are what makes an array weakly typed, and it stays so when it is written to.
    found = jax.numpy.full(value.shape, value.dtype.type(0).item()).at[...].set(value)
    if found.dtype != value.dtype:
        raise ValueError(f"it is of {value.dtype}, which is not weakly typed in JAX as it is set up here")
    return found


def _check_size(data: NDArray[np.uint8], dtype: str, shape: list[int], itemsize: int) -> None:
    if math.prod(shape) * itemsize != data.nbytes:
        raise ValueError(f"it has {data.nbytes} bytes, not those of shape {tuple(shape)} and type {dtype}")


def _usual_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(max(size, 1) for size in shape[axis + 1 :]) for axis in range(len(shape)))


def _is_dense(shape: Any, strides: Any) -> bool:
    """Return whether elements with these strides fill a block of memory, each place once."""
    if len(strides) != len(shape) or not all(0 <= stride < 2**62 for stride in strides) or 0 in shape:
        return False
    place = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size > 1:
            if stride != place:
                return False
            place *= size
    return True
