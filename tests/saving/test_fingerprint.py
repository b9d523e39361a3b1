"""A fingerprint differs where a batch differs, and is None where there is nothing to compare."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lucid_train.saving.fingerprint import fingerprint


class Pair(NamedTuple):
    x: Any
    y: Any


@dataclass
class Data:
    x: Any
    y: Any


@attrs.define
class Defined:
    x: Any
    y: Any


class Opaque:
    pass


class Failing:
    dtype, shape = "float32", (2,)

    def __array__(self) -> Any:
        raise LookupError("on a device")


MAKERS = [lambda x, y: [x, y], lambda x, y: (x, y), lambda x, y: {"x": x, "y": y}, Pair, Data, Defined]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        ("a", "b"),
        ("a", b"a"),
        ("a" * 10**6 + "b", "a" * 10**6 + "c"),
        (Path("a"), Path("b")),
        (np.arange(3), np.arange(3.0)),
        (np.arange(4), np.arange(4).reshape(2, 2)),
        (np.array(["a"]), np.array(["b"])),
        (np.array(["a"], dtype=object), np.array(["b"], dtype=object)),
        (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[0, 0])),
        (np.float32(1), np.float64(1)),
        ([1, [2]], [[1], 2]),
        (None, 0),
    ],
)
def test_it_differs_where_a_part_of_a_batch_differs(make: Any, one: Any, other: Any) -> None:
    assert fingerprint(make(one, 7)) == fingerprint(make(one, 7)) is not None
    assert fingerprint(make(one, 7)) != fingerprint(make(other, 7))


def test_it_differs_between_the_kinds_of_containers() -> None:
    made = [make(1, 2) for make in MAKERS] + [OrderedDict(x=1, y=2)]
    assert len({fingerprint(batch) for batch in made}) == len(made)


@pytest.mark.parametrize("batch", [None, [], {}, [None, ()], Opaque(), [Opaque()], np.zeros((0, 3)), Failing()])
def test_nothing_to_compare_has_none(batch: Any) -> None:
    assert fingerprint(batch) is None


def test_of_objects_beside_content_the_type_counts() -> None:
    assert fingerprint([1, Opaque()]) == fingerprint([1, Opaque()])
    assert fingerprint([1, Opaque()]) != fingerprint([1, Failing()])


def test_a_list_in_itself_ends() -> None:
    batch: list[Any] = [1]
    batch.append(batch)
    assert fingerprint(batch) is not None


@given(arrays.arrays(arrays.scalar_dtypes(), arrays.array_shapes(max_dims=3)), st.data())
def test_equal_arrays_have_one_however_they_lie_in_memory(array: Any, data: Any) -> None:
    order = data.draw(st.permutations(range(array.ndim)))
    lying = np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order))
    assert fingerprint(lying) == fingerprint(array.copy()) is not None


@pytest.mark.parametrize("place", [0, 1, -1, -2])
def test_the_ends_of_a_large_array_are_read(place: int) -> None:
    array = np.zeros(10**6)
    other = array.copy()
    other[place] = 1
    assert fingerprint(array) != fingerprint(other)


def test_an_array_of_a_mebibyte_is_read_whole_and_of_a_larger_one_as_much() -> None:
    def places_read(count: int) -> int:
        array = np.zeros(count, np.uint8)
        whole = fingerprint(array)
        step, found = 2**12, 0
        for start in range(0, count, step):
            array[start : start + step] = 1
            found += fingerprint(array) != whole
            array[start : start + step] = 0
        return found

    assert places_read(2**20) == 2**8
    assert 2**8 <= places_read(2**22) <= 2**8 + 16  # blocks that overlap the pieces
