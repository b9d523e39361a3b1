"""Trees of values and arrays, flattened to JSON and a list of arrays, and restored exactly.

In the JSON, a dict with one key is a mark: `{"tuple": [1, 2]}` stands for `(1, 2)`. A dict of the tree that has one
key, or keys that are not strings, is marked too, as `{"dict": [[key, value], ...]}`, so that it cannot be taken for a
mark.
"""

from __future__ import annotations

import math
import re
import struct
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from attrs import define, field, frozen
from numpy.typing import NDArray

from lucid_train.saving.bounded_json import MOST_DIGITS, Pairs, check_hashes, parse, unique_dict
from lucid_train.saving.checkpoint.arrays import key_from, key_of, pack
from lucid_train.saving.shards import read_shard, shard_of

# Names that a file needs for itself.
RESERVED = METADATA, TREE, DIGEST = "__metadata__", "__tree__", "__sha256__"
# From this length on, a list whose numbers are all of one type is stored as an array: a long history or the state of a
# generator would otherwise make up most of the JSON.
_LONG = 32
# Well within Python's own recursion limit, and deeper than any training state.
_DEEPEST = 100
# What a defaultdict may be filled up with; a file names one of these, and nothing else is looked up.
_BUILT_IN: tuple[Any, ...] = (bool, int, float, complex, str, bytes, list, tuple, set, dict)
_FACTORIES: dict[str, Any] = {each.__name__: each for each in (*_BUILT_IN, Counter, OrderedDict)}
_MOST_BITS = int(MOST_DIGITS * math.log2(10)) - 4  # and a sign
# The bits of a NaN.
_NAN = re.compile("[7f]ff(?!0000000000000)[0-9a-f]{13}")
_KEYS = (type(None), bool, int, float, complex, str, bytes, np.generic)

# Returns the array of a name, given the dtype, the shape and the strides that it must have.
ReadArray: TypeAlias = Callable[[str, str, list[Any], "list[Any] | None"], Any]


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
    _names: dict[str, int] = field(factory=lambda: dict.fromkeys(RESERVED, 1), repr=False)

    def add(self, path: str, dtype: str, shape: tuple[int, ...], data: NDArray[np.uint8]) -> list[Any]:
        """Add an array and return what stands for it in the JSON: its name, dtype and shape."""
        name = path = path or "array"
        while name in self._names:
            self._names[path] = number = self._names[path] + 1
            name = f"{path}#{number}"
        self._names[name] = 1
        self.leaves.append(Leaf(name, dtype, shape, data))
        return [name, dtype, list(shape)]

    def copy(self) -> FlatTree:
        """Return the same with copies of the arrays, which further training does not change."""
        return FlatTree(self.json, [Leaf(x.name, x.dtype, x.shape, x.data.copy()) for x in self.leaves])


def flatten(tree: Any) -> FlatTree:
    """Flatten a tree.

    It may hold what comes back as it was:

    - None, bools, ints, floats (NaN and infinities too), complex numbers, strings, bytes and bytearrays;
    - lists, tuples, sets, frozensets, and dicts, Counters, OrderedDicts (with the `_metadata` of a module's state) and
      defaultdicts of a built-in type, nested at most 100 deep; keys are numbers, strings, bytes, None or tuples of
      these;
    - arrays and numbers of numpy, with the types of ml_dtypes; dense tensors and Parameters of PyTorch, which are on
      the CPU when they come back; arrays and random keys of JAX;
    - DTensors of PyTorch, of which this process's part is kept and comes back as a Shard.

    Values come back, not identities: two tensors that share memory are two. Strides are kept where the elements fill a
    block of memory; other views come back in the usual order.

    Raises:
        TypeError: If it holds anything else, also an object of a subclass of these, naming the place.
        ValueError: If it is nested more than 100 deep.
    """
    flat = FlatTree()
    flat.json = _Encoder(flat).encode(tree, "", 0)
    return flat


def unflatten(json: bytes, array: ReadArray, *, size: int, spent: int = 0) -> Any:
    """Restore the tree that `flatten` was given.

    Args:
        json: The JSON part as text.
        array: Returns the array of a name, given the dtype, the shape and the strides that it must have.
        size: The length of the whole file, which bounds the memory.
        spent: Memory that other parts of the file have taken.

    Raises:
        ValueError: If `flatten` cannot have returned this JSON.
    """
    return parse(json, size=size, spent=spent, depth=_DEEPEST, restore=lambda pairs: _restored(pairs, array))


def _restored(pairs: Pairs, array: ReadArray) -> Any:
    """Return what an object of the JSON stands for; what it holds has been restored."""
    if len(pairs) != 1:
        return unique_dict(pairs)
    [(mark, content)] = pairs
    match mark, content:
        case "float", "nan" | "inf" | "-inf":
            return float(content)
        case "nan", str() if _NAN.fullmatch(content):
            return struct.unpack(">d", bytes.fromhex(content))[0]
        case "complex", [float(real), float(imaginary)]:
            return complex(real, imaginary)
        case "tuple", list():
            return tuple(content)
        case "set" | "frozenset", list() if _are_keys(content):
            return set(content) if mark == "set" else frozenset(content)
        case "dict", list() if all(type(pair) is list and len(pair) == 2 for pair in content):
            if _are_keys([key for key, _ in content]):
                return dict(content)
        case "Counter", dict():
            return Counter(content)
        case "OrderedDict", [dict(entries), metadata] if _is_metadata(metadata):
            found: Any = OrderedDict(entries)
            if metadata is not None:
                found._metadata = metadata
            return found
        case "defaultdict", [None | str() as name, dict(entries)] if name is None or name in _FACTORIES:
            return defaultdict(None if name is None else _FACTORIES[name], entries)
        case "key", [str(name), numbers]:
            return key_from(name, numbers)
        case "dtensor", [local, *layout]:
            return read_shard(local, layout)
        case "parameter" | "requires_grad", [bool(trained), tensor] if hasattr(tensor, "requires_grad_"):
            return _as_trained(tensor, trained, is_parameter=mark == "parameter")
        case (
            "array" | "scalar" | "bytes" | "bytearray" | "numbers" | "row",
            [str(name), str(dtype), list(shape), *strides],
        ) if not strides or (len(strides) == 1 and type(strides[0]) is list):
            return _restored_array(mark, array(name, dtype, shape, strides[0] if strides else None))
    raise ValueError(f"{mark!r:.80} is not a known mark, or marks what it cannot")


def _restored_array(mark: str, found: Any) -> Any:
    match mark, found:
        case "array", _:
            return found
        case "scalar", np.ndarray(shape=()):
            return found[()]
        case "bytes" | "bytearray", np.ndarray(dtype=np.uint8):
            return found.tobytes() if mark == "bytes" else bytearray(found.tobytes())
        case "numbers" | "row", np.ndarray(ndim=1):
            return found.tolist() if mark == "numbers" else tuple(found.tolist())
    raise ValueError(f"{mark!r} marks what it cannot")


def _as_trained(tensor: Any, trained: bool, *, is_parameter: bool) -> Any:
    import torch

    try:
        return torch.nn.Parameter(tensor, trained) if is_parameter else tensor.requires_grad_(trained)
    except RuntimeError as error:  # numbers that have no gradients
        raise ValueError(str(error)) from None


def _are_keys(values: list[Any]) -> bool:
    """Return whether values may be the keys of one dict, or the items of one set.

    Raises:
        ValueError: If two are the same, or too many have one hash.
    """
    if not all(map(_is_key, values)):
        return False
    check_hashes(values)
    if len(set(values)) != len(values):
        raise ValueError("a key occurs twice in one dict or set")
    return True


def _is_key(value: Any) -> bool:
    return all(map(_is_key, value)) if type(value) is tuple else isinstance(value, _KEYS)


def _is_metadata(value: Any) -> bool:
    """Return whether this can be the `_metadata` of a module's state: what each submodule says of its version."""
    if value is None:
        return True
    entries = value.items() if isinstance(value, dict) else [("", None)]
    return all(type(name) is str and isinstance(each, dict) for name, each in entries)


@frozen
class _Encoder:
    flat: FlatTree

    def encode(self, value: Any, path: str, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError(f"a state must be nested at most {_DEEPEST} deep: {path}")
        kind = type(value)
        if value is None or kind in (bool, str):
            return value
        if kind is int:
            if value.bit_length() > _MOST_BITS:
                raise _refusal(path, f"only whole numbers of at most {MOST_DIGITS} digits can")
            return value
        if kind is float:
            return value if math.isfinite(value) else _not_finite(value)
        if kind in (list, tuple):
            is_list = kind is list
            packed = _packed(value)
            if packed is not None:
                return {"numbers" if is_list else "row": self._array(packed, path)}
            items = [self.encode(item, _below(path, index), depth + 1) for index, item in enumerate(value)]
            return items if is_list else {"tuple": items}
        if kind in (dict, Counter, OrderedDict, defaultdict):
            return self._mapping(value, path, depth)
        if kind in (set, frozenset):
            self._check_keys(list(value), path)
            return {kind.__name__: [self.encode(item, f"{path}.item", depth + 1) for item in value]}
        return self._leaf(value, path)

    def _mapping(self, value: Any, path: str, depth: int) -> Any:
        pairs = [(key, self.encode(item, _below(path, key), depth + 1)) for key, item in value.items()]
        if all(type(key) is str for key, _ in pairs) and len(pairs) != 1:
            entries: Any = dict(pairs)
        else:
            self._check_keys([key for key, _ in pairs], path)
            entries = {"dict": [[self.encode(key, f"{path}.key", depth + 1), item] for key, item in pairs]}
        own = dict(getattr(value, "__dict__", {}))
        metadata = own.pop("_metadata", None)
        if own or not _is_metadata(metadata) or (metadata is not None and type(value) is not OrderedDict):
            raise _refusal(path, f"its attributes cannot, {', '.join(vars(value))}: {_class(value)}")
        kind = type(value)
        if kind is OrderedDict:
            return {"OrderedDict": [entries, self.encode(metadata, f"{path}._metadata", depth + 1)]}
        if kind is defaultdict:
            factory = value.default_factory
            name = None if factory is None else getattr(factory, "__name__", "")
            if name is not None and _FACTORIES.get(name) is not factory:
                raise _refusal(path, f"a defaultdict must be of one of {', '.join(_FACTORIES)}: {factory!r:.80}")
            return {"defaultdict": [name, entries]}
        return entries if kind is dict else {"Counter": entries}

    def _check_keys(self, keys: list[Any], path: str) -> None:
        try:
            check_hashes(keys)
        except ValueError as error:
            raise _refusal(path, str(error)) from None
        for key in keys:
            if not _is_key(key):
                rule = "only None, numbers, strings, bytes and tuples of these can be keys, or in a set"
                raise _refusal(path, f"{rule}: {_class(key)}")

    def _leaf(self, value: Any, path: str) -> Any:
        kind = type(value)
        if kind in (bytes, bytearray):
            return {kind.__name__: self.flat.add(path, "uint8", (len(value),), np.frombuffer(bytes(value), np.uint8))}
        if kind is complex:
            return {"complex": [self.encode(part, path, 0) for part in (value.real, value.imag)]}
        try:
            if (key := key_of(value)) is not None:
                return {"key": [key[0], self._leaf(key[1], path)]}
            if (shard := shard_of(value)) is not None:
                return {"dtensor": [self._leaf(shard.local, path), *shard.layout()]}
            entry = self._array(value, path)
        except TypeError as error:
            raise _refusal(path, str(error)) from None
        if isinstance(value, np.generic):
            return {"scalar": entry}
        if getattr(value, "requires_grad", False) or kind.__name__ == "Parameter":
            mark = "parameter" if kind.__name__ == "Parameter" else "requires_grad"
            return {mark: [value.requires_grad, {"array": entry}]}
        return {"array": entry}

    def _array(self, value: Any, path: str) -> list[Any]:
        packed = pack(value)
        if packed is None:
            raise TypeError(
                "only None, numbers, strings, bytes, arrays, tensors, lists, tuples, sets and dicts can, and no "
                f"subclass of these: {_class(value)}"
            )
        entry = self.flat.add(path, packed.dtype, packed.shape, packed.data)
        return entry if packed.strides is None else [*entry, list(packed.strides)]


def _not_finite(value: float) -> dict[str, str]:
    bits, usual = struct.pack(">d", value), struct.pack(">d", float(repr(value)))
    return {"float": repr(value)} if bits == usual else {"nan": bits.hex()}


def _below(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _packed(value: list[Any] | tuple[Any, ...]) -> NDArray[Any] | None:
    """Return a long row of floats, or of ints that int64 can hold, as an array."""
    types = set(map(type, value)) if len(value) >= _LONG else set()
    if types == {float} or (types == {int} and -(2**63) <= min(value) <= max(value) < 2**63):
        return np.array(value, dtype=np.float64 if float in types else np.int64)
    return None


def _class(value: Any) -> str:
    """Return the name of a value's class, with its module unless it is built in."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _refusal(path: str, reason: str) -> TypeError:
    return TypeError(f"{path or 'the state'!r} cannot be saved, {reason}")
