from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lucid_train.saving.checkpoint.tree import FlatTree, flatten, unflatten

# What a tree becomes: these marks are in files, and may not change.
MARKED: list[tuple[Any, Any]] = [
    ([None, True, 1, 0.5, "text"], [None, True, 1, 0.5, "text"]),
    ([math.nan, math.inf, -math.inf], [{"float": "nan"}, {"float": "inf"}, {"float": "-inf"}]),
    (complex(1, math.inf), {"complex": [1.0, {"float": "inf"}]}),
    ((1, (2,)), {"tuple": [1, {"tuple": [2]}]}),
    ({}, {}),
    ({"a": 1, "b": 2}, {"a": 1, "b": 2}),
    ({"float": "nan"}, {"dict": [["float", "nan"]]}),
    ({1: "a", (2,): "b"}, {"dict": [[1, "a"], [{"tuple": [2]}, "b"]]}),
    ({"x": np.zeros((2, 3)), "y": 0}, {"x": {"array": ["x", "float64", [2, 3]]}, "y": 0}),
    ([np.float32(1.5)], [{"scalar": ["0", "float32", []]}]),
    ([b"ab"], [{"bytes": ["0", "uint8", [2]]}]),
    ([[0.5] * 32], [{"numbers": ["0", "float64", [32]]}]),
    ([(7,) * 32], [{"row": ["0", "int64", [32]]}]),
    ([[2**63] * 32], [[2**63] * 32]),
    ([[0, 0.5] * 16], [[0, 0.5] * 16]),
]


@pytest.mark.parametrize(("tree", "json"), MARKED, ids=[str(json)[:40] for _, json in MARKED])
def test_what_json_lacks_is_marked(tree: Any, json: Any) -> None:
    assert flatten(tree).json == json


def test_arrays_are_leaves_named_by_their_place() -> None:
    tree = {"a": {"b": np.arange(2, dtype=np.uint8)}, "a.b": np.array(3, dtype=">i2"), "__tree__": b"", "n": 0}
    flat = flatten(tree)
    assert flat.json == {
        "a": {"dict": [["b", {"array": ["a.b", "uint8", [2]]}]]},
        "a.b": {"array": ["a.b#2", "int16", []]},
        "__tree__": {"bytes": ["__tree__#2", "uint8", [0]]},
        "n": 0,
    }
    assert [(leaf.name, leaf.dtype, leaf.shape, leaf.data.tolist()) for leaf in flat.leaves] == [
        ("a.b", "uint8", (2,), [0, 1]),
        ("a.b#2", "int16", (), [3, 0]),
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


def test_numbers_and_text_of_subclasses_are_saved_as_what_they_are() -> None:
    class Count(int):
        pass

    class Label(str):
        pass

    json = flatten([Count(3), Label("x")]).json
    assert (json, list(map(type, json))) == ([3, "x"], [int, str])


def test_what_offers_an_array_is_saved_as_one() -> None:
    class Series:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.arange(2.0)

    assert flatten([Series()]).json == [{"array": ["0", "float64", [2]]}]


class LooksLikeATensor:
    def element_size(self) -> int:
        return 4

    def detach(self) -> LooksLikeATensor:
        return self


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": {"b": [1, {2}]}}, "'a.b.1' cannot be saved, only None, bool.* tuples and dicts can: a set"),
        ({"a": object()}, "'a' cannot be saved.*an? object"),
        ([np.array(["text"])], "'0' cannot be saved, only arrays of numbers can: dtype <U4"),
        (np.array([object()]), "'the state' cannot be saved, only arrays of numbers can: dtype object"),
        ({"a": lambda: None}, "'a' cannot be saved.*a function"),
        ({"a": LooksLikeATensor()}, "'a' cannot be saved, it is not a PyTorch tensor: a LooksLikeATensor"),
    ],
)
def test_what_cannot_be_saved_is_named(tree: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        flatten(tree)


def nested(depth: int) -> Any:
    tree: Any = []
    for _ in range(depth):
        tree = [tree]
    return tree


def test_a_tree_that_is_too_deep_is_refused() -> None:
    assert unflatten(flatten(nested(100)).json, no_array) == nested(100)
    with pytest.raises(ValueError, match=r"a state must be nested at most 100 deep: 0\.0\.0"):
        flatten(nested(101))
    with pytest.raises(ValueError, match="the tree is nested too deep"):
        unflatten(nested(300), no_array)


def test_dicts_and_tuples_may_be_as_deep_as_lists() -> None:
    tree: Any = 0
    for level in range(100):
        tree = {level: tree} if level % 2 else (tree,)
    assert unflatten(flatten(tree).json, no_array) == tree


def no_array(name: str, dtype: str, shape: tuple[int, ...]) -> Any:
    raise AssertionError("there is no array")


def arrays_of(flat: FlatTree) -> Any:
    """Return a function that finds the arrays of a flat tree."""
    leaves = {leaf.name: leaf for leaf in flat.leaves}

    def array(name: str, dtype: str, shape: tuple[int, ...]) -> Any:
        assert (leaves[name].dtype, leaves[name].shape) == (dtype, shape)
        return leaves[name].data.view(dtype).reshape(shape)

    return array


@pytest.mark.parametrize(("tree", "json"), MARKED, ids=[str(json)[:40] for _, json in MARKED])
def test_every_mark_is_understood(tree: Any, json: Any) -> None:
    flat = flatten(tree)
    assert repr(unflatten(json, arrays_of(flat))) == repr(tree)


REFERENCE = ["x", "uint8", [2]]


@pytest.mark.parametrize(
    ("json", "message"),
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
        ({"array": ["x", "uint8", [-1]]}, "the shape of 'x' must be at most 32 sizes >= 0"),
        ({"array": ["x", "uint8", [True]]}, "the shape of 'x' must be at most 32 sizes >= 0"),
        ({"array": ["x", "uint8", [1] * 33]}, "the shape of 'x' must be at most 32 sizes >= 0"),
        ({"scalar": REFERENCE}, "'scalar' is not a known mark, or marks what it cannot"),
        ({"bytes": ["x", "int8", [2]]}, "'bytes' is not a known mark, or marks what it cannot"),
        ({"numbers": ["x", "uint8", [1, 2]]}, "'numbers' is not a known mark, or marks what it cannot"),
        ({"row": ["x", "uint8", [1, 2]]}, "'row' is not a known mark, or marks what it cannot"),
    ],
)
def test_a_malformed_mark_is_refused(json: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unflatten([json], lambda name, dtype, shape: np.zeros(shape, dtype))


@pytest.mark.parametrize("mark", ["scalar", "bytes", "numbers", "row"])
def test_a_tensor_is_no_number_and_no_bytes(mark: str) -> None:
    with pytest.raises(ValueError, match=f"'{mark}' is not a known mark, or marks what it cannot"):
        unflatten({mark: ["x", "torch.uint8", [2]]}, lambda name, dtype, shape: LooksLikeATensor())
