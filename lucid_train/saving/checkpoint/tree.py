"""Trees of values and arrays, flattened to JSON and a list of arrays, and restored exactly.

In the JSON, a dict with one key is a mark: `{"tuple": [1, 2]}` stands for `(1, 2)`. A dict of the tree that has one
key, or keys that are not strings, is marked too, as `{"dict": [[key, value], ...]}`, so that it cannot be taken for a
mark.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from attrs import define, field
from numpy.typing import NDArray

# Names that a file needs for itself.
RESERVED = METADATA, TREE, DIGEST = "__metadata__", "__tree__", "__sha256__"
# From this length on, a list whose numbers are all of one type is stored as an array: a long history or the state of a
# generator would otherwise make up most of the JSON.
_LONG = 32
# Well within Python's own recursion limit, and deeper than any training state.
_DEEPEST = 100
_NUMERIC = "?bhilqBHILQefdFD"
_LARGEST_RANK = 32

# Returns the array of a name, given the dtype and the shape that it must have.
ReadArray: TypeAlias = Callable[[str, str, tuple[int, ...]], Any]


@define(frozen=True)
class Leaf:
    """One array of a tree.

    Args:
        name: Its place in the tree, such as "model.0.weight"; unique within the tree.
        dtype: Such as "float32"; with "torch." before it for a tensor.
        shape: Its shape.
        data: Its bytes, one-dimensional; a view of the array's own memory where that is possible.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: NDArray[np.uint8]


@define
class FlatTree:
    """A tree without its nesting.

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

    def copy(self) -> FlatTree:
        """Return the same with copies of the arrays, which further training does not change."""
        return FlatTree(self.json, [Leaf(x.name, x.dtype, x.shape, x.data.copy()) for x in self.leaves])


def flatten(tree: Any) -> FlatTree:
    """Flatten a tree.

    It may hold None, bools, ints, floats (NaN and infinities too), complex numbers, strings, bytes, numpy's numbers and
    arrays, PyTorch's dense tensors of any type, and lists, tuples and dicts of these. Keys may be anything that can be
    saved itself.

    Raises:
        TypeError: If it holds anything else, naming the place.
        ValueError: If it is nested more than 100 deep.
    """
    flat = FlatTree()
    flat.json = _encode(tree, "", flat, 0)
    return flat


def unflatten(json: Any, array: ReadArray) -> Any:
    """Restore the tree that `flatten` was given.

    Args:
        json: The JSON part.
        array: Returns the array of a name, given the dtype and the shape that it must have.

    Raises:
        ValueError: If `flatten` cannot have returned this JSON.
    """
    return _decode(json, array, 0)


def _encode(value: Any, path: str, flat: FlatTree, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError(f"a state must be nested at most {_DEEPEST} deep: {path}")
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) is list or type(value) is tuple:
        return _encode_items(value, path, flat, depth)
    if isinstance(value, Mapping):
        return _encode_mapping(value, path, flat, depth)
    return _encode_leaf(value, path, flat)


def _encode_items(value: list[Any] | tuple[Any, ...], path: str, flat: FlatTree, depth: int) -> Any:
    is_list = type(value) is list
    packed = _packed(value)
    if packed is not None:
        return {"numbers" if is_list else "row": _array(packed, path, flat)}
    items = [_encode(item, _below(path, index), flat, depth + 1) for index, item in enumerate(value)]
    return items if is_list else {"tuple": items}


def _below(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _encode_mapping(value: Mapping[Any, Any], path: str, flat: FlatTree, depth: int) -> Any:
    items = [(key, _encode(item, _below(path, key), flat, depth + 1)) for key, item in value.items()]
    if all(type(key) is str for key, _ in items) and len(items) != 1:
        return dict(items)
    return {"dict": [[_encode(key, f"{path}.key", flat, depth + 1), item] for key, item in items]}


def _encode_leaf(value: Any, path: str, flat: FlatTree) -> Any:
    if isinstance(value, (bytes, bytearray)):
        name = flat.add(path, "uint8", (len(value),), np.frombuffer(bytes(value), dtype=np.uint8))
        return {"bytes": [name, "uint8", [len(value)]]}
    if type(value) is complex:
        return {"complex": [_encode(value.real, path, flat, 0), _encode(value.imag, path, flat, 0)]}
    if isinstance(value, np.generic):
        return {"scalar": _array(np.asarray(value), path, flat)}
    if isinstance(value, np.ndarray):
        return {"array": _array(value, path, flat)}
    if hasattr(value, "element_size") and hasattr(value, "detach"):
        return {"array": _tensor(value, path, flat)}
    if hasattr(value, "__array__"):
        return {"array": _array(np.asarray(value), path, flat)}
    if isinstance(value, (int, str, float)) and type(value).__module__ != "builtins":
        base = next(base for base in (int, str, float) if isinstance(value, base))
        return _encode(base(value), path, flat, 0)
    kinds = "None, bool, int, float, complex, str, bytes, arrays, tensors, lists, tuples and dicts"
    raise TypeError(f"{path or 'the state'!r} cannot be saved, only {kinds} can: a {type(value).__name__}")


def _packed(value: list[Any] | tuple[Any, ...]) -> NDArray[Any] | None:
    """Return a long row of floats, or of ints that int64 can hold, as an array."""
    if len(value) < _LONG:
        return None
    types = set(map(type, value))
    if types == {float}:
        return np.array(value, dtype=np.float64)
    if types == {int} and min(value) >= -(2**63) and max(value) < 2**63:
        return np.array(value, dtype=np.int64)
    return None


def _array(value: NDArray[Any], path: str, flat: FlatTree) -> list[Any]:
    if value.dtype.char not in _NUMERIC:
        raise TypeError(f"{path or 'the state'!r} cannot be saved, only arrays of numbers can: dtype {value.dtype}")
    # Files are little-endian, as safetensors requires.
    value = value.astype(value.dtype.newbyteorder("<"), copy=False)
    shape = value.shape
    data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    return [flat.add(path, value.dtype.name, shape, data), value.dtype.name, list(shape)]


def _tensor(value: Any, path: str, flat: FlatTree) -> list[Any]:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        raise TypeError(
            f"{path or 'the state'!r} cannot be saved, it is not a PyTorch tensor: a {type(value).__name__}"
        )
    if value.layout is not torch.strided or value.is_quantized:
        raise TypeError(f"{path or 'the state'!r} cannot be saved, only dense tensors can: {value.layout}")
    whole = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    elements = whole.as_strided((whole.numel(),), (1,))  # one element counts as contiguous with any stride
    # Bytes, not numbers: numpy has no bfloat16 and no float8.
    data = elements.view(torch.uint8).numpy() if elements.numel() else np.empty(0, dtype=np.uint8)
    dtype, shape = str(value.dtype), tuple(value.shape)
    return [flat.add(path, dtype, shape, data), dtype, list(shape)]


def _decode(node: Any, array: ReadArray, depth: int) -> Any:
    if depth > 2 * _DEEPEST + 4:
        raise ValueError("the tree is nested too deep")
    if isinstance(node, list):
        return [_decode(item, array, depth + 1) for item in node]
    if not isinstance(node, dict):
        return node
    if len(node) != 1:
        return {key: _decode(item, array, depth + 1) for key, item in node.items()}
    [(mark, content)] = node.items()
    if mark not in DECODERS:
        raise ValueError(f"{mark!r} is not a known mark")
    return DECODERS[mark](content, array, depth)


def _decode_float(content: Any, array: ReadArray, depth: int) -> float:
    if content not in ("nan", "inf", "-inf"):
        raise ValueError("a marked float must be 'nan', 'inf' or '-inf'")
    return float(content)


def _decode_complex(content: Any, array: ReadArray, depth: int) -> complex:
    parts = [_decode(part, array, depth + 1) for part in content] if isinstance(content, list) else []
    if len(parts) != 2 or not all(isinstance(part, float) for part in parts):
        raise ValueError("a complex number must be two floats")
    return complex(*parts)


def _decode_tuple(content: Any, array: ReadArray, depth: int) -> tuple[Any, ...]:
    if not isinstance(content, list):
        raise ValueError("a tuple must be a list")
    return tuple(_decode(item, array, depth + 1) for item in content)


def _decode_dict(content: Any, array: ReadArray, depth: int) -> dict[Any, Any]:
    if not isinstance(content, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in content):
        raise ValueError("a dict must be a list of pairs")
    pairs = [(_decode(key, array, depth + 1), _decode(item, array, depth + 1)) for key, item in content]
    try:
        return dict(pairs)
    except TypeError as error:
        raise ValueError(f"a key must be hashable: {error}") from None


def _decode_array(content: Any, array: ReadArray, depth: int) -> Any:
    name, dtype, shape = content if isinstance(content, list) and len(content) == 3 else (None, None, None)
    if not (isinstance(name, str) and isinstance(dtype, str) and isinstance(shape, list)):
        raise ValueError("an array must be a name, a dtype and a shape")
    if len(shape) > _LARGEST_RANK or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"the shape of {name!r} must be at most {_LARGEST_RANK} sizes >= 0")
    return array(name, dtype, tuple(shape))


def _decode_scalar(content: Any, array: ReadArray, depth: int) -> Any:
    found = _decode_array(content, array, depth)
    if not isinstance(found, np.ndarray) or found.shape:
        raise ValueError("a scalar must be a numpy array of shape ()")
    return found[()]


def _decode_bytes(content: Any, array: ReadArray, depth: int) -> bytes:
    found = _decode_array(content, array, depth)
    if not isinstance(found, np.ndarray) or found.dtype != np.uint8:
        raise ValueError("bytes must be a numpy array of uint8")
    return found.tobytes()


def _decode_numbers(content: Any, array: ReadArray, depth: int) -> list[Any]:
    found = _decode_array(content, array, depth)
    if not isinstance(found, np.ndarray) or found.ndim != 1:
        raise ValueError("a row of numbers must be a numpy array of one dimension")
    return list(found.tolist())


def _decode_row(content: Any, array: ReadArray, depth: int) -> tuple[Any, ...]:
    return tuple(_decode_numbers(content, array, depth))


# What each mark stands for.
DECODERS: dict[str, Callable[[Any, ReadArray, int], Any]] = {
    "float": _decode_float,
    "complex": _decode_complex,
    "tuple": _decode_tuple,
    "dict": _decode_dict,
    "array": _decode_array,
    "scalar": _decode_scalar,
    "bytes": _decode_bytes,
    "numbers": _decode_numbers,
    "row": _decode_row,
}
