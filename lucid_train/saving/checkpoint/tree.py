"""A tree of values and arrays, taken apart into JSON and a list of arrays, and put together again exactly."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from attrs import define, field
from numpy.typing import NDArray

# A list of this many numbers, all of one kind, is stored as an array: a long history or a generator's state would
# otherwise make up most of the JSON.
_LONG = 32
# Python's own stack ends somewhere above; no state of a training run is this deep.
_DEEPEST = 100
# Names that a file needs for itself.
RESERVED = ("__metadata__", "__tree__", "__sha256__")
_NUMERIC = "?bhilqBHILQefdFD"


@define(frozen=True)
class Leaf:
    """One array of a tree.

    Args:
        name: Where it stands in the tree, such as "model.0.weight"; no two are alike.
        dtype: "float32" and so on; with "torch." before it for a tensor.
        shape: Its shape.
        octets: The bytes, as a one-dimensional array over the memory of the array itself where that is possible.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    octets: NDArray[np.uint8]


@define
class Parts:
    """What a tree consists of.

    Args:
        json: Everything but the arrays: dicts with string keys, lists, strings, ints, finite floats, bools, None.
        leaves: The arrays.
    """

    json: Any = None
    leaves: list[Leaf] = field(factory=list)
    _names: set[str] = field(factory=lambda: set(RESERVED), repr=False)

    def add(self, path: str, dtype: str, shape: tuple[int, ...], data: NDArray[np.uint8]) -> str:
        """Add an array and return its name."""
        name = path or "array"
        number = 1
        while name in self._names:
            number += 1
            name = f"{path}#{number}"
        self._names.add(name)
        self.leaves.append(Leaf(name, dtype, shape, data))
        return name

    def copied(self) -> Parts:
        """Return the same with arrays of its own, which no further training changes."""
        return Parts(self.json, [Leaf(x.name, x.dtype, x.shape, x.octets.copy()) for x in self.leaves])


def take_apart(tree: Any) -> Parts:
    """Return the parts of a tree.

    It may hold None, bools, ints, floats (NaN and infinities too), complex numbers, strings, bytes, numpy's numbers and
    arrays, PyTorch's dense tensors of any type, and lists, tuples and dicts of these; keys may be anything that can be
    saved itself.

    Raises:
        TypeError: If something else is in it, naming where.
        ValueError: If it is nested more than 100 deep.
    """
    parts = Parts()
    parts.json = _encode(tree, "", parts, 0)
    return parts


def put_together(json: Any, array: Callable[[str, str, tuple[int, ...]], Any]) -> Any:
    """Return the tree that `take_apart` took apart.

    Args:
        json: The JSON part.
        array: Returns the array of a name, given the type and the shape that it must have.

    Raises:
        ValueError: If the JSON is none that `take_apart` makes.
    """
    return _decode(json, array, 0)


def _encode(value: Any, path: str, parts: Parts, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError(f"a state may be nested {_DEEPEST} deep, no more: {path}")
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        kind = "list" if type(value) is list else "tuple"
        packed = _packed(value)
        if packed is not None:
            return {"numbers" if kind == "list" else "row": _array(packed, path, parts)}
        items = [_encode(item, _below(path, index), parts, depth + 1) for index, item in enumerate(value)]
        return items if kind == "list" else {"tuple": items}
    if isinstance(value, Mapping):
        return _encode_mapping(value, path, parts, depth)
    return _encode_leaf(value, path, parts)


def _below(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _encode_mapping(value: Mapping[Any, Any], path: str, parts: Parts, depth: int) -> Any:
    items = [(key, _encode(item, _below(path, key), parts, depth + 1)) for key, item in value.items()]
    # A dict of one key could be taken for one of the marks that stand for other kinds of values.
    if all(type(key) is str for key, _ in items) and len(items) != 1:
        return dict(items)
    return {"dict": [[_encode(key, f"{path}.key", parts, depth + 1), item] for key, item in items]}


def _encode_leaf(value: Any, path: str, parts: Parts) -> Any:
    if isinstance(value, (bytes, bytearray)):
        name = parts.add(path, "uint8", (len(value),), np.frombuffer(bytes(value), dtype=np.uint8))
        return {"bytes": [name, "uint8", [len(value)]]}
    if isinstance(value, complex) and type(value) is complex:
        return {"complex": [_encode(value.real, path, parts, 0), _encode(value.imag, path, parts, 0)]}
    if isinstance(value, np.generic):
        return {"scalar": _array(np.asarray(value), path, parts)}
    if isinstance(value, np.ndarray):
        return {"array": _array(value, path, parts)}
    if hasattr(value, "element_size") and hasattr(value, "detach"):
        return {"array": _tensor(value, path, parts)}
    if hasattr(value, "__array__"):
        return {"array": _array(np.asarray(value), path, parts)}
    if isinstance(value, (int, str, float)) and type(value).__module__ != "builtins":
        base = next(base for base in (int, str, float) if isinstance(value, base))
        return _encode(base(value), path, parts, 0)
    kinds = "None, bool, int, float, complex, str, bytes, arrays, tensors, lists, tuples and dicts"
    raise TypeError(f"{path or 'the state'!r} cannot be saved, only {kinds} can: a {type(value).__name__}")


def _packed(value: list[Any] | tuple[Any, ...]) -> NDArray[Any] | None:
    if len(value) < _LONG:
        return None
    kinds = set(map(type, value))
    if kinds == {float}:
        return np.array(value, dtype=np.float64)
    if kinds == {int} and min(value) >= -(2**63) and max(value) < 2**63:
        return np.array(value, dtype=np.int64)
    return None


def _array(value: NDArray[Any], path: str, parts: Parts) -> list[Any]:
    if value.dtype.char not in _NUMERIC:
        raise TypeError(f"{path or 'the state'!r} cannot be saved, only arrays of numbers can: dtype {value.dtype}")
    # What is read elsewhere is little-endian, whatever this machine or the array is.
    value = value.astype(value.dtype.newbyteorder("<"), copy=False)
    shape = value.shape
    data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    return [parts.add(path, value.dtype.name, shape, data), value.dtype.name, list(shape)]


def _tensor(value: Any, path: str, parts: Parts) -> list[Any]:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        raise TypeError(
            f"{path or 'the state'!r} cannot be saved, it is no tensor of PyTorch: a {type(value).__name__}"
        )
    if value.layout is not torch.strided or value.is_quantized:
        raise TypeError(f"{path or 'the state'!r} cannot be saved, only dense tensors can: {value.layout}")
    whole = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    flat = whole.as_strided((whole.numel(),), (1,))  # a single number may have any stride and count as contiguous
    # Bytes, not numbers: numpy knows no bfloat16 and no float8.
    data = flat.view(torch.uint8).numpy() if flat.numel() else np.empty(0, dtype=np.uint8)
    dtype, shape = str(value.dtype), tuple(value.shape)
    return [parts.add(path, dtype, shape, data), dtype, list(shape)]


def _decode(node: Any, array: Callable[[str, str, tuple[int, ...]], Any], depth: int) -> Any:
    if depth > 2 * _DEEPEST + 4:
        raise ValueError("the tree is nested too deep")
    if isinstance(node, list):
        return [_decode(item, array, depth + 1) for item in node]
    if not isinstance(node, dict):
        return node
    if len(node) != 1:
        return {key: _decode(item, array, depth + 1) for key, item in node.items()}
    ((kind, content),) = node.items()
    if kind == "float" and content in ("nan", "inf", "-inf"):
        return float(content)
    if kind == "complex" and isinstance(content, list) and len(content) == 2:
        real, imaginary = (_decode(part, array, depth + 1) for part in content)
        if isinstance(real, float) and isinstance(imaginary, float):
            return complex(real, imaginary)
    if kind == "dict" and isinstance(content, list):
        return _decode_pairs(content, array, depth)
    if kind == "tuple" and isinstance(content, list):
        return tuple(_decode(item, array, depth + 1) for item in content)
    if kind in ("array", "scalar", "bytes", "numbers", "row") and _is_reference(content):
        found = array(content[0], content[1], tuple(content[2]))
        if kind == "array":
            return found
        if kind == "bytes" and content[1] == "uint8":
            return bytes(found)
        if kind == "scalar" and isinstance(found, np.ndarray) and not found.shape:
            return found[()]
        if kind in ("numbers", "row") and isinstance(found, np.ndarray) and found.ndim == 1:
            return found.tolist() if kind == "numbers" else tuple(found.tolist())
    raise ValueError(f"{kind!r} stands for nothing that is known")


def _decode_pairs(pairs: list[Any], array: Callable[[str, str, tuple[int, ...]], Any], depth: int) -> dict[Any, Any]:
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueError("a dict must be a list of pairs")
    decoded = [(_decode(key, array, depth + 1), _decode(item, array, depth + 1)) for key, item in pairs]
    try:
        return dict(decoded)
    except TypeError as error:
        raise ValueError(f"a key must be hashable: {error}") from None


def _is_reference(content: Any) -> bool:
    """Return whether this is a name, a type and a shape."""
    return (
        isinstance(content, list)
        and len(content) == 3
        and isinstance(content[0], str)
        and isinstance(content[1], str)
        and isinstance(content[2], list)
        and len(content[2]) <= 32
        and all(type(size) is int and size >= 0 for size in content[2])
    )
