from __future__ import annotations

import hashlib
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lucid_train import CheckpointError, read_checkpoint, write_checkpoint
from lucid_train.testing import diff_states

STATE = {"model": {"weight": np.arange(6.0).reshape(2, 3), "halves": np.ones(3, np.float16)}, "epoch": 3, "lr": [0.1]}

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | hnp.arrays(hnp.scalar_dtypes().filter(lambda dtype: dtype.kind in "biufc" and dtype.itemsize <= 8), (2,))
    | st.lists(st.floats(), min_size=32, max_size=40)
    | st.lists(st.integers(), min_size=32, max_size=40)
    | st.lists(st.integers(-(2**63), 2**63 - 1), min_size=32, max_size=33).map(tuple)
)
keys = st.text(max_size=8) | st.integers() | st.sampled_from(["array", "dict", "float", "tuple", "row", "__tree__"])
trees = st.recursive(
    leaves,
    lambda below: st.lists(below, max_size=3) | st.tuples(below, below) | st.dictionaries(keys, below, max_size=3),
    max_leaves=8,
)


def structure(value: Any) -> Any:
    """A value with its arrays as bytes and its floats as text, so that NaN equals itself and 1 is not 1.0."""
    if isinstance(value, (np.ndarray, np.generic)):
        return (
            type(value).__name__,
            value.dtype.newbyteorder("=").str,
            value.shape,
            value.astype(value.dtype.name).tobytes(),
        )
    if isinstance(value, dict):
        return [(structure(key), structure(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [structure(item) for item in value]
    return type(value).__name__, repr(value)


@given(trees)
@settings(max_examples=150, deadline=None)
def test_every_tree_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "tree"
    write_checkpoint(path, tree)
    assert structure(read_checkpoint(path)) == structure(tree)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 5e-324, 2**70, np.float32("nan")])
def test_every_number_survives(tmp_path: Path, value: Any) -> None:
    write_checkpoint(tmp_path / "x", [value])
    assert structure(read_checkpoint(tmp_path / "x")) == structure([value])


def test_arrays_of_any_layout_survive(tmp_path: Path) -> None:
    square = np.arange(16, dtype=">i4").reshape(4, 4)
    tree = {"turned": square.T, "part": square[::2, 1:3], "empty": np.zeros((0, 3)), "point": np.array(1.5)}
    write_checkpoint(tmp_path / "x", tree)
    found = read_checkpoint(tmp_path / "x")
    assert {name: array.tolist() for name, array in found.items()} == {n: array.tolist() for n, array in tree.items()}
    assert found["empty"].shape == (0, 3)
    found["turned"][0, 0] = 7  # what is read is the reader's own


def test_a_file_has_the_layout_of_safetensors(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "x", STATE)
    content = (tmp_path / "x").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert header["__metadata__"] == {"format": "lucid_train.saving.checkpoint", "version": "1"}
    first, last = header["model.weight"]["data_offsets"]
    assert header["model.weight"] == {"dtype": "F64", "shape": [2, 3], "data_offsets": [first, last]}
    weight = np.frombuffer(content[8 + length + first : 8 + length + last])
    assert weight.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    spans = sorted(entry["data_offsets"] for name, entry in header.items() if name != "__metadata__")
    assert [0, *(end for _, end in spans)] == [*(start for start, _ in spans), len(content) - 8 - length]
    assert content[-32:] == hashlib.sha256(content[:-32]).digest()


def test_nothing_is_written_of_a_tree_that_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"'a\.1' cannot be saved.*: object"):
        write_checkpoint(tmp_path / "x", {"a": [np.zeros(2), object()]})
    assert os.listdir(tmp_path) == []


def signed(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


def file_of(header: Any, body: bytes, *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return signed((len(text) if length is None else length).to_bytes(8, "little") + text + body)


ABOUT = {"format": "lucid_train.saving.checkpoint", "version": "1"}


def header_of(tree: bytes, *arrays: tuple[str, int], about: Any = ABOUT) -> dict[str, Any]:
    table: dict[str, Any] = {"__metadata__": about}
    place = 0
    for name, size in (("__tree__", len(tree)), *arrays, ("__sha256__", 32)):
        table[name] = {"dtype": "U8", "shape": [size], "data_offsets": [place, place + size]}
        place += size
    return table


def with_tree(tree: bytes, *arrays: tuple[str, int]) -> bytes:
    return file_of(header_of(tree, *arrays), tree + b"\0" * sum(size for _, size in arrays))


BOMB = [2**40, 2**20]
HOSTILE = {
    "empty": (b"", "cut short"),
    "no header": (b"\xff" * 100, "header is damaged"),
    "a header that is no JSON": (file_of(b"{]", b""), "its header is not what it should be"),
    "a header that is no ASCII": (file_of(b"\xff", b""), "its header is not what it should be"),
    "a header that is a list": (file_of([], b""), "not written by lucid_train"),
    "another program's": (file_of({"__metadata__": {"format": "pt"}}, b""), "not written by lucid_train"),
    "another version": (file_of(header_of(b"1", about={**ABOUT, "version": "2"}), b"1"), "version '2'.*version '1'"),
    "deep header": (file_of(b"[" * 5000 + b"]" * 5000, b""), "nested too deep"),
    "deep tree": (with_tree(b"[" * 5000 + b"]" * 5000), "nested too deep"),
    "rather deep tree": (with_tree(b"[" * 400 + b"]" * 400), "nested too deep"),
    "a number without end": (with_tree(b"1" * 10_000), "its tree is not what it should be"),
    "no tree": (file_of({"__metadata__": ABOUT, "__sha256__": {"data_offsets": [0, 32]}}, b""), "lacks its tree"),
    "no digest": (file_of({"__metadata__": ABOUT, "__tree__": {"data_offsets": [0, 33]}}, b"1"), "lacks its tree"),
    "a bomb of lists": (with_tree(b"[" + b"[]," * 400_000 + b"1]"), "far more memory than a file of its size may"),
    "a bomb of dicts": (with_tree(b"[" + b"{}," * 400_000 + b"1]"), "far more memory than a file of its size may"),
    "a header full of lists": (file_of(b"[" + b"[]," * 400_000 + b"1]", b""), "far more memory than"),
    "a name that occurs twice": (with_tree(b'{"a":1,"a":2}'), "a name occurs twice"),
    "an array that occurs twice": (
        file_of(json.dumps(header_of(b"1")).encode().replace(b'"__sha256__"', b'"__tree__"'), b"1"),
        "a name occurs twice",
    ),
    "no places": (file_of({"__metadata__": ABOUT, "x": {}}, b""), "no place"),
    "overlapping": (
        file_of({"__metadata__": ABOUT, "a": {"data_offsets": [0, 4]}, "b": {"data_offsets": [2, 6]}}, b"1" * 6),
        "wrong place",
    ),
    "backwards": (file_of({"__metadata__": ABOUT, "a": {"data_offsets": [0, -4]}}, b""), "wrong place"),
    "out of order": (
        file_of(
            {
                "__metadata__": ABOUT,
                "x": {"data_offsets": [1, 2]},
                "__tree__": {"data_offsets": [0, 1]},
                "__sha256__": {"data_offsets": [2, 34]},
            },
            b"11",
        ),
        "out of order",
    ),
    "larger than it is": (
        file_of({"__metadata__": ABOUT, "__tree__": {"data_offsets": [0, 2**60]}}, b"1"),
        "cut short or too long",
    ),
    "an array that is not there": (with_tree(b'{"array":["x","uint8",[1]]}'), "no array 'x'"),
    "an array taken twice": (
        with_tree(b'[{"array":["x","uint8",[1]]},{"array":["x","uint8",[1]]}]', ("x", 1)),
        "refers to it twice",
    ),
    "an array nobody takes": (with_tree(b"1", ("x", 1)), "refers to the array 'x'"),
    "a huge shape": (with_tree(json.dumps({"array": ["x", "float32", BOMB]}).encode(), ("x", 4)), "4 bytes"),
    "a huge shape of nothing": (
        with_tree(json.dumps({"array": ["x", "float32", [2**62, 2**62, 0]]}).encode(), ("x", 0)),
        "",
    ),
    "objects": (with_tree(b'{"array":["x","object",[1]]}', ("x", 8)), "unknown type, 'object'"),
    "text": (with_tree(b'{"array":["x","U2",[1]]}', ("x", 8)), "unknown type"),
    "another type's size": (with_tree(b'{"array":["x","float64",[1]]}', ("x", 4)), "4 bytes, not those of shape .1,"),
    "a scalar with a shape": (with_tree(b'{"scalar":["x","uint8",[2]]}', ("x", 2)), "marks what it cannot"),
    "a type of another module": (with_tree(b'{"array":["x","ml_dtypes.finfo",[1]]}', ("x", 8)), "ml_dtypes"),
    "a tensor's type that is a function": (with_tree(b'{"array":["x","torch.load",[1]]}', ("x", 8)), "torch"),
    "an unknown mark": (with_tree(b'{"pickle":"x"}'), "'pickle' is not a known mark"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(tmp_path: Path, name: str) -> None:
    content, message = HOSTILE[name]
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{re.escape(str(path))} is not a usable checkpoint: .*{message}"):
        read_checkpoint(path)
    assert os.listdir(tmp_path) == ["x"]


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        read_checkpoint(tmp_path / "nothing")


def test_every_bit_counts(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_checkpoint(path, STATE)
    content = path.read_bytes()
    for position in range(0, len(content) * 8, 5):
        changed = bytearray(content)
        changed[position // 8] ^= 1 << position % 8
        path.write_bytes(changed)
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(CheckpointError, match="too long"):
        read_checkpoint(path)
    path.write_bytes(content)
    assert diff_states(read_checkpoint(path), STATE) == []
