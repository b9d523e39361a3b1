from __future__ import annotations

import json
import math
import struct
from collections import Counter, OrderedDict, defaultdict
from enum import Enum, IntEnum
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pytest

from lucid_train.saving.checkpoint.arrays import unpack
from lucid_train.saving.checkpoint.tree import FlatTree, flatten, unflatten

OTHER_NAN = struct.unpack(">d", bytes.fromhex("fff8000000000123"))[0]

# What a tree becomes: these marks are in files, and may not change.
MARKED: list[tuple[Any, Any]] = [
    ([None, True, 1, 0.5, "text"], [None, True, 1, 0.5, "text"]),
    ([math.nan, math.inf, -math.inf], [{"float": "nan"}, {"float": "inf"}, {"float": "-inf"}]),
    ([OTHER_NAN, -0.0], [{"nan": "fff8000000000123"}, -0.0]),
    (complex(1, math.inf), {"complex": [1.0, {"float": "inf"}]}),
    ((1, (2,)), {"tuple": [1, {"tuple": [2]}]}),
    ({}, {}),
    ({"a": 1, "b": 2}, {"a": 1, "b": 2}),
    ({"float": "nan"}, {"dict": [["float", "nan"]]}),
    ({1: "a", (2,): "b"}, {"dict": [[1, "a"], [{"tuple": [2]}, "b"]]}),
    ({"x": np.zeros((2, 3)), "y": 0}, {"x": {"array": ["x", "float64", [2, 3]]}, "y": 0}),
    ([np.float32(1.5)], [{"scalar": ["0", "float32", []]}]),
    ([b"ab", bytearray(b"c")], [{"bytes": ["0", "uint8", [2]]}, {"bytearray": ["1", "uint8", [1]]}]),
    ([{1}, frozenset({"a"})], [{"set": [1]}, {"frozenset": ["a"]}]),
    (OrderedDict(b=1, a=2), {"OrderedDict": [{"b": 1, "a": 2}, None]}),
    (Counter("aab"), {"Counter": {"a": 2, "b": 1}}),
    (defaultdict(list, {1: [2]}), {"defaultdict": ["list", {"dict": [[1, [2]]]}]}),
    (defaultdict(None, a=1, b=2), {"defaultdict": [None, {"a": 1, "b": 2}]}),
    ([np.zeros((2, 3), order="F")], [{"array": ["0", "float64", [2, 3], [1, 2]]}]),
    ([np.zeros(2, ">i2")], [{"array": ["0", ">int16", [2]]}]),
    ([[0.5] * 32], [{"numbers": ["0", "float64", [32]]}]),
    ([(7,) * 32], [{"row": ["0", "int64", [32]]}]),
    ([[2**63] * 32], [[2**63] * 32]),
    ([[0, 0.5] * 16], [[0, 0.5] * 16]),
]


@pytest.mark.parametrize(("tree", "marked"), MARKED, ids=[str(marked)[:40] for _, marked in MARKED])
def test_what_json_lacks_is_marked(tree: Any, marked: Any) -> None:
    assert flatten(tree).json == marked


def test_arrays_are_leaves_named_by_their_place() -> None:
    tree = {"a": {"b": np.arange(2, dtype=np.uint8)}, "a.b": np.array(3, dtype=">i2"), "__tree__": b"", "n": 0}
    flat = flatten(tree)
    assert flat.json == {
        "a": {"dict": [["b", {"array": ["a.b", "uint8", [2]]}]]},
        "a.b": {"array": ["a.b#2", ">int16", []]},
        "__tree__": {"bytes": ["__tree__#2", "uint8", [0]]},
        "n": 0,
    }
    assert [(leaf.name, leaf.dtype, leaf.shape, leaf.data.tolist()) for leaf in flat.leaves] == [
        ("a.b", "uint8", (2,), [0, 1]),
        ("a.b#2", ">int16", (), [3, 0]),
        ("__tree__#2", "uint8", (0,), []),
    ]


def test_an_array_that_is_the_whole_tree_has_a_name_too() -> None:
    assert flatten(np.zeros(1)).json == {"array": ["array", "float64", [1]]}


def test_leaves_are_views_and_a_copy_of_the_tree_is_not() -> None:
    array = np.zeros(2, dtype=np.uint8)
    flat = flatten([array])
    copy = flat.copy()
    array[:] = 7
    assert [tree.leaves[0].data.tolist() for tree in (flat, copy)] == [[7, 7], [0, 0]]
    assert copy.json == flat.json


class Pair(NamedTuple):
    one: int


class Color(IntEnum):
    RED = 1


class Size(Enum):
    LARGE = 1


class Word(str):
    __slots__ = ()


class Whole(int):
    pass


class Ratio(float):
    pass


class Rows(list[int]):
    pass


class Table(dict[str, int]):
    pass


class Masked(np.ndarray):
    pass


class Series:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.arange(2.0)


@pytest.mark.parametrize(
    "value",
    [
        Pair(1), Color.RED, Size.LARGE, Word("x"), Whole(1), Ratio(1), Rows([1]), Table(a=1), Series(), {1}.__iter__(),
        np.ma.masked_array([1.0], [True]), np.zeros(1).view(Masked), Pair, PurePosixPath("x"), range(3), slice(1),
        memoryview(b""),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_would_change_its_type_is_refused_by_name(value: Any) -> None:
    with pytest.raises(
        TypeError, match=f"'a' cannot be saved, only None, .* no subclass of these: .*{type(value).__name__}"
    ):
        flatten({"a": value})
    with pytest.raises(TypeError, match=r"'a.*' cannot be saved"):
        flatten({"a": {(value, value): 1} if isinstance(value, (int, str)) else [value]})


class LooksLikeATensor:
    def element_size(self) -> int:
        return 4

    def detach(self) -> LooksLikeATensor:
        return self


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"a": {"b": [1, {(2, frozenset())}]}},
            "'a.b.1' cannot be saved, only None, .* can be keys, or in a set: tuple",
        ),
        ({"a": {frozenset(): 1}}, "'a' cannot be saved, only None, .* can be keys, or in a set: frozenset"),
        ({"a": -(10**3999)}, "'a' cannot be saved, only whole numbers of at most 4000 digits can"),
        ({"a": object()}, "'a' cannot be saved.*: object"),
        (defaultdict(lambda: 0), "'the state' cannot be saved, a defaultdict must be of one of bool, int, .*lambda"),
        (defaultdict(Table), "'the state' cannot be saved, a defaultdict must be of one of bool, int, .*Table"),
        ({"a": {k * (2**61 - 1) for k in range(9)}}, "'a' cannot be saved, .* at most 8 entries of one hash: 9"),
        ([np.zeros(1, [("x", int)])], r"'0' cannot be saved, only arrays of numbers can: dtype \[\('x'"),
        ([np.zeros(1, "M8[s]")], r"'0' cannot be saved, only arrays of numbers can: dtype datetime64"),
        ([np.datetime64("2020")], r"'0' cannot be saved, only arrays of numbers can: dtype datetime64"),
        ([np.longdouble(1)], r"'0' cannot be saved, only arrays of numbers can: dtype (float128|longdouble)"),
        ([np.array(["text"])], "'0' cannot be saved, only arrays of numbers can: dtype <U4"),
        (np.array([object()]), "'the state' cannot be saved, only arrays of numbers can: dtype object"),
        ({"a": lambda: None}, "'a' cannot be saved.*: function"),
        ({"a": LooksLikeATensor()}, "'a' cannot be saved.*LooksLikeATensor"),
    ],
)
def test_what_cannot_be_saved_is_named(tree: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        flatten(tree)


def test_what_an_ordered_dict_carries_besides_its_items_is_the_version_of_a_module_or_refused() -> None:
    tree: Any = OrderedDict(a=1)
    tree._metadata = OrderedDict({"": {"version": 2}, "a": {}})
    found = restored(tree)
    assert (type(found), found, type(found._metadata), found._metadata) == (
        OrderedDict,
        tree,
        OrderedDict,
        tree._metadata,
    )
    for metadata in (1, {"": 1}, {1: {}}):
        tree._metadata = metadata
        with pytest.raises(
            TypeError, match=r"'a' cannot be saved, its attributes cannot, _metadata: collections\.OrderedDict"
        ):
            flatten({"a": tree})
    other: Any = Counter()
    other._metadata = other.note = {}
    with pytest.raises(
        TypeError, match=r"'a' cannot be saved, its attributes cannot, _metadata, note: collections\.Counter"
    ):
        flatten({"a": other})


def nested(depth: int) -> Any:
    tree: Any = []
    for _ in range(depth):
        tree = [tree]
    return tree


def test_a_tree_that_is_too_deep_is_refused() -> None:
    assert restored(nested(100)) == nested(100)
    with pytest.raises(ValueError, match=r"a state must be nested at most 100 deep: 0\.0\.0"):
        flatten(nested(101))
    for depth in (101, 300, 100_000):
        with pytest.raises(ValueError, match="it is nested too deep"):
            unflatten(b"[" * depth + b"[]" + b"]" * depth, no_array, size=10**9)


def test_dicts_and_tuples_may_be_as_deep_as_lists() -> None:
    tree: Any = 0
    for level in range(100):
        tree = {level: tree} if level % 2 else (tree,)
    assert restored(tree) == tree


def no_array(name: str, dtype: str, shape: list[int], strides: list[int] | None) -> Any:
    raise AssertionError("there is no array")


def arrays_of(flat: FlatTree) -> Any:
    """Return a function that finds the arrays of a flat tree."""
    leaves = {leaf.name: leaf for leaf in flat.leaves}

    def array(name: str, dtype: str, shape: list[int], strides: list[int] | None) -> Any:
        assert (leaves[name].dtype, leaves[name].shape) == (dtype, tuple(shape))
        return unpack(leaves[name].data, dtype, shape, strides)

    return array


def restored(tree: Any) -> Any:
    flat = flatten(tree)
    return unflatten(json.dumps(flat.json).encode(), arrays_of(flat), size=10**9)


@pytest.mark.parametrize("tree", [tree for tree, _ in MARKED], ids=[str(marked)[:40] for _, marked in MARKED])
def test_every_mark_is_understood(tree: Any) -> None:
    found = restored(tree)
    assert repr(found) == repr(tree)
    assert repr(flatten(found)) == repr(flatten(tree))


def test_the_longest_number_comes_back() -> None:
    assert restored([-(10**3990), 10**3990]) == [-(10**3990), 10**3990]


def test_the_default_of_a_dict_works_again() -> None:
    found = restored(defaultdict(Counter))
    found["a"]["b"] += 1
    assert found == {"a": Counter(b=1)}


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3).T,
        np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
        np.arange(24, dtype=">f4").reshape(2, 3, 4).transpose(2, 0, 1),
        np.array(1.5),
    ],
)
def test_an_array_lies_in_memory_as_it_did_where_it_is_dense(array: Any) -> None:
    found = restored([array])[0]
    assert (found.dtype, found.tolist(), found.strides) == (array.dtype, array.tolist(), array.copy(order="K").strides)
    assert found.flags.writeable


@pytest.mark.parametrize(
    "array",
    [np.arange(6)[::2], np.zeros((0, 3), order="F"), np.arange(3)[::-1], np.broadcast_to(np.float32(1), (2, 3))],
)
def test_an_array_with_gaps_or_overlaps_comes_back_in_the_usual_order(array: Any) -> None:
    found = restored([array])[0]
    assert (found.tolist(), found.flags.c_contiguous) == (array.tolist(), True)


REFERENCE = ["x", "uint8", [2]]


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        ({"pickle": "x"}, "'pickle' is not a known mark, or marks what it cannot"),
        ({"float": "__import__"}, "'float' is not a known mark, or marks what it cannot"),
        ({"float": ["nan"]}, "'float' is not a known mark, or marks what it cannot"),
        ({"complex": ["a", "b"]}, "'complex' is not a known mark, or marks what it cannot"),
        ({"complex": [0.5, 1]}, "'complex' is not a known mark, or marks what it cannot"),
        ({"complex": [0.5]}, "'complex' is not a known mark, or marks what it cannot"),
        ({"complex": 0.5}, "'complex' is not a known mark, or marks what it cannot"),
        ({"tuple": "ab"}, "'tuple' is not a known mark, or marks what it cannot"),
        ({"dict": [1]}, "'dict' is not a known mark, or marks what it cannot"),
        ({"dict": {}}, "'dict' is not a known mark, or marks what it cannot"),
        ({"dict": [[1, 2, 3]]}, "'dict' is not a known mark, or marks what it cannot"),
        ({"dict": [[[], 1]]}, "'dict' is not a known mark, or marks what it cannot"),
        ({"array": "x"}, "'array' is not a known mark, or marks what it cannot"),
        ({"array": ["x", "uint8"]}, "'array' is not a known mark, or marks what it cannot"),
        ({"array": [1, "uint8", [2]]}, "'array' is not a known mark, or marks what it cannot"),
        ({"array": ["x", None, [2]]}, "'array' is not a known mark, or marks what it cannot"),
        ({"array": ["x", "uint8", 2]}, "'array' is not a known mark, or marks what it cannot"),
        ({"array": ["x", "uint8", [-1]]}, "the shape must be at most 32 sizes >= 0"),
        ({"array": ["x", "uint8", [True]]}, "the shape must be at most 32 sizes >= 0"),
        ({"array": ["x", "uint8", [1] * 33]}, "the shape must be at most 32 sizes >= 0"),
        ({"array": ["x", "uint8", [2**63]]}, "the shape must be at most 32 sizes >= 0"),
        ({"array": [*REFERENCE, [2]]}, "the strides must fill a block of memory"),
        ({"array": [*REFERENCE, [1, 1]]}, "the strides must fill a block of memory"),
        ({"array": [*REFERENCE, [-1]]}, "the strides must fill a block of memory"),
        ({"array": [*REFERENCE, ["1"]]}, "the strides must fill a block of memory"),
        ({"array": [*REFERENCE, [1.0]]}, "the strides must fill a block of memory"),
        ({"array": [*REFERENCE, [1], 1]}, "'array' is not a known mark, or marks what it cannot"),
        ({"array": [*REFERENCE, 1]}, "'array' is not a known mark, or marks what it cannot"),
        ({"array": ["x", "uint8", [2, 1], [1, 2**62]]}, "the strides must fill a block of memory"),
        ({"array": ["x", "object", [2]]}, "it is of an unknown type, 'object'"),
        ({"array": ["x", "os.system", [2]]}, "it is of an unknown type, 'os.system'"),
        ({"array": ["x", "uint16", [2]]}, r"it has 2 bytes, not those of shape \(2,\) and type uint16"),
        ({"nan": "7ff0000000000000"}, "'nan' is not a known mark, or marks what it cannot"),
        ({"nan": "3ff8000000000001"}, "'nan' is not a known mark, or marks what it cannot"),
        ({"set": [[]]}, "'set' is not a known mark, or marks what it cannot"),
        ({"set": [1, 1.0]}, "a key occurs twice in one dict or set"),
        ({"frozenset": {}}, "'frozenset' is not a known mark, or marks what it cannot"),
        ({"set": [k * (2**61 - 1) for k in range(9)]}, "at most 8 entries of one hash: 9"),
        ({"dict": [[1, 2], [True, 2]]}, "a key occurs twice in one dict or set"),
        ({"Counter": []}, "'Counter' is not a known mark, or marks what it cannot"),
        ({"OrderedDict": [{}]}, "'OrderedDict' is not a known mark, or marks what it cannot"),
        ({"OrderedDict": [{}, {"a": 1, "b": {}}]}, "'OrderedDict' is not a known mark, or marks what it cannot"),
        ({"defaultdict": ["eval", {}]}, "'defaultdict' is not a known mark, or marks what it cannot"),
        ({"key": ["rbg", [1]]}, "'rbg' is no generator of JAX, or its numbers are no array of JAX"),
        ({"parameter": [True, [1]]}, "'parameter' is not a known mark, or marks what it cannot"),
        (
            {"dtensor": [{"array": REFERENCE}, [2], [1], [["shard", 0]], [2], None, [0]]},
            "a shard must be a tensor of Py",
        ),
        ({"dtensor": []}, "'dtensor' is not a known mark, or marks what it cannot"),
        ({"requires_grad": [1, None]}, "'requires_grad' is not a known mark, or marks what it cannot"),
        ({"scalar": REFERENCE}, "'scalar' marks what it cannot"),
        ({"bytes": ["x", "int8", [2]]}, "'bytes' marks what it cannot"),
        ({"numbers": ["x", "uint8", [1, 2]]}, "'numbers' marks what it cannot"),
        ({"row": ["x", "uint8", [1, 2]]}, "'row' marks what it cannot"),
    ],
)
def test_a_malformed_mark_is_refused(marked: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unflatten(json.dumps([marked]).encode(), lambda name, *rest: unpack(np.zeros(2, np.uint8), *rest), size=10**9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a":1,"b":2,"a":3}', "a name occurs twice in one object"),
        (b"[NaN]", "it is not JSON, which has no NaN"),
        (b"[-Infinity]", "it is not JSON, which has no -Infinity"),
        (b'["\xff"]', "it is not JSON"),
        (b"[1", "it is not JSON"),
        (b"[" + b"1" * 4001 + b"]", "it has a number of 4001 digits"),
    ],
)
def test_only_strict_json_is_read(text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unflatten(text, no_array, size=10**9)


@pytest.mark.parametrize("mark", ["scalar", "bytes", "bytearray", "numbers", "row"])
def test_a_tensor_is_no_number_and_no_bytes(mark: str) -> None:
    with pytest.raises(ValueError, match=f"'{mark}' marks what it cannot"):
        unflatten(b'{"%s":["x","torch.uint8",[2]]}' % mark.encode(), lambda *reference: LooksLikeATensor(), size=10**9)
