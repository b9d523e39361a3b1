"""Trees of values and arrays, flattened to JSON and a list of arrays, and restored exactly.

In the JSON, a dict with one key is a mark: `{"tuple": [1, 2]}` stands for `(1, 2)`. A dict of the tree that has one
key, or keys that are not strings, is marked too, as `{"dict": [[key, value], ...]}`, so that it cannot be taken for a
mark.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import chain, count
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

    def add(self, path: str, dtype: str, shape: tuple[int, ...], data: NDArray[np.uint8]) -> list[Any]:
        """Add an array and return what stands for it in the JSON: its name, dtype and shape."""
        names = chain([path or "array"], (f"{path}#{number}" for number in count(2)))
        name = next(name for name in names if name not in self._names)
        self._names.add(name)
        self.leaves.append(Leaf(name, dtype, shape, data))
        return [name, dtype, list(shape)]

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


def unflatten(json: Any, array: ReadArray, depth: int = 0) -> Any:
    """Restore the tree that `flatten` was given.

    Args:
        json: The JSON part.
        array: Returns the array of a name, given the dtype and the shape that it must have.
        depth: How deep this part lies in the tree.

    Raises:
        ValueError: If `flatten` cannot have returned this JSON.
    """
    if depth > 2 * _DEEPEST + 4:
        raise ValueError("the tree is nested too deep")
    if isinstance(json, list):
        return [unflatten(item, array, depth + 1) for item in json]
    if not isinstance(json, dict):
        return json
    if len(json) != 1:
        return {key: unflatten(item, array, depth + 1) for key, item in json.items()}
    [(mark, content)] = json.items()
    match mark, content:
        case "float", "nan" | "inf" | "-inf":
            return float(content)
        case "complex", [_, _]:
            parts = [unflatten(part, array, depth + 1) for part in content]
            if all(isinstance(part, float) for part in parts):
                return complex(*parts)
        case "tuple", list():
            return tuple([unflatten(item, array, depth + 1) for item in content])
        case "dict", list() if all(isinstance(pair, list) and len(pair) == 2 for pair in content):
            pairs = [[unflatten(part, array, depth + 1) for part in pair] for pair in content]
            with suppress(TypeError):  # a key that cannot be one
                return dict(pairs)
        case "array" | "scalar" | "bytes" | "numbers" | "row", [str(name), str(dtype), list(shape)]:
            if len(shape) > _LARGEST_RANK or not all(type(size) is int and size >= 0 for size in shape):
                raise ValueError(f"the shape of {name!r} must be at most {_LARGEST_RANK} sizes >= 0")
            match mark, array(name, dtype, tuple(shape)):
                case "array", found:
                    return found
                case "scalar", np.ndarray(shape=()) as found:
                    return found[()]
                case "bytes", np.ndarray(dtype=np.uint8) as found:
                    return found.tobytes()
                case "numbers" | "row", np.ndarray(ndim=1) as found:
                    return found.tolist() if mark == "numbers" else tuple(found.tolist())
    raise ValueError(f"{mark!r} is not a known mark, or marks what it cannot")


def _encode(value: Any, path: str, flat: FlatTree, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError(f"a state must be nested at most {_DEEPEST} deep: {path}")
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) in (list, tuple):
        is_list = type(value) is list
        packed = _packed(value)
        if packed is not None:
            return {"numbers" if is_list else "row": _array(packed, path, flat)}
        items = [_encode(item, _below(path, index), flat, depth + 1) for index, item in enumerate(value)]
        return items if is_list else {"tuple": items}
    if isinstance(value, Mapping):
        pairs = [(key, _encode(item, _below(path, key), flat, depth + 1)) for key, item in value.items()]
        if all(type(key) is str for key, _ in pairs) and len(pairs) != 1:
            return dict(pairs)
        return {"dict": [[_encode(key, f"{path}.key", flat, depth + 1), item] for key, item in pairs]}
    return _encode_leaf(value, path, flat)


def _below(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _encode_leaf(value: Any, path: str, flat: FlatTree) -> Any:
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": flat.add(path, "uint8", (len(value),), np.frombuffer(bytes(value), dtype=np.uint8))}
    if type(value) is complex:
        return {"complex": [_encode(value.real, path, flat, 0), _encode(value.imag, path, flat, 0)]}
    if isinstance(value, np.generic):
        return {"scalar": _array(np.asarray(value), path, flat)}
    if hasattr(value, "element_size") and hasattr(value, "detach"):
        return {"array": _tensor(value, path, flat)}
    if hasattr(value, "__array__"):
        return {"array": _array(np.asarray(value), path, flat)}
    for base in (int, str, float):
        if isinstance(value, base):
            return _encode(base(value), path, flat, 0)
    kinds = "None, bool, int, float, complex, str, bytes, arrays, tensors, lists, tuples and dicts"
    raise _refusal(path, f"only {kinds} can: a {type(value).__name__}")


def _packed(value: list[Any] | tuple[Any, ...]) -> NDArray[Any] | None:
    """Return a long row of floats, or of ints that int64 can hold, as an array."""
    types = set(map(type, value)) if len(value) >= _LONG else set()
    if types == {float} or (types == {int} and -(2**63) <= min(value) <= max(value) < 2**63):
        return np.array(value, dtype=np.float64 if float in types else np.int64)
    return None


def _array(value: NDArray[Any], path: str, flat: FlatTree) -> list[Any]:
    if value.dtype.char not in _NUMERIC:
        raise _refusal(path, f"only arrays of numbers can: dtype {value.dtype}")
    # Files are little-endian, as safetensors requires.
    value = value.astype(value.dtype.newbyteorder("<"), copy=False)
    data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    return flat.add(path, value.dtype.name, value.shape, data)


def _tensor(value: Any, path: str, flat: FlatTree) -> list[Any]:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        raise _refusal(path, f"it is not a PyTorch tensor: a {type(value).__name__}")
    if value.layout is not torch.strided or value.is_quantized:
        raise _refusal(path, f"only dense tensors can: {value.layout}")
    whole = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    elements = whole.as_strided((whole.numel(),), (1,))  # one element counts as contiguous with any stride
    # Bytes, not numbers: numpy has no bfloat16 and no float8.
    data = elements.view(torch.uint8).numpy() if elements.numel() else np.empty(0, dtype=np.uint8)
    return flat.add(path, str(value.dtype), tuple(value.shape), data)


def _refusal(path: str, reason: str) -> TypeError:
    return TypeError(f"{path or 'the state'!r} cannot be saved, {reason}")
