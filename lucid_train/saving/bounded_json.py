"""JSON from strangers: parsed in time and memory that its length bounds, to a limited depth."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

Pairs = list[tuple[str, Any]]

# What parsing may take per byte of the file, its content not counted, and for a file of any size.
_PER_BYTE, _ALWAYS = 8, 1 << 20
# Bytes that an object of Python takes at most for each of these characters; numbers and slots are counted by commas.
_COSTS = {b"[": 80, b"{": 200, b'"': 30, b":": 140, b",": 100}
# Entries of one hash that a dict or a set may have: each is compared with all before it.
_MOST_OF_ONE_HASH = 8


def parsing_cost(content: bytes) -> int:
    """Return how many bytes of memory parsing a JSON text takes at most, its own not counted."""
    text = (7 if b"\\u" in content else 3) * len(content)  # one character beyond ASCII widens a whole string
    return text + sum(cost * content.count(character) for character, cost in _COSTS.items())


def affordable_size(cost: int) -> int:
    """Return how long a file must be for its parsing to take so much; shorter ones are filled up with spaces."""
    return 0 if cost <= _ALWAYS else -(-cost // _PER_BYTE)


def parse(
    content: bytes, *, size: int, depth: int, spent: int = 0, restore: Callable[[Pairs], Any] | None = None
) -> Any:
    """Parse a JSON text: strict, in ASCII, no name twice in an object.

    Args:
        content: The text.
        size: The length of the file that it is from, which bounds the memory.
        depth: How deep the result may be nested.
        spent: Memory that other parts of the file have taken.
        restore: Makes a value of the entries of an object, innermost first; by default a dict.

    Raises:
        ValueError: If it is not such a text, or takes too much memory.
    """
    if affordable_size(spent + parsing_cost(content)) > size:
        raise ValueError("it would take far more memory than a file of its size may")
    try:
        found = json.loads(
            content.decode("ascii"), object_pairs_hook=restore or unique_dict, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    level = _parts([found])
    for _ in range(depth + 1):
        level = [part for each in level for part in _parts(each)]
        if not level:
            return found
    raise ValueError("it is nested too deep")


def unique_dict(pairs: Pairs) -> dict[str, Any]:
    """Return a dict of these entries.

    Raises:
        ValueError: If two have one name.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return found


def check_hashes(keys: list[Any]) -> None:
    """Check that keys can be entries of one dict or set, in time that is linear in their number.

    Raises:
        ValueError: If too many have the same hash.
    """
    if len(keys) <= _MOST_OF_ONE_HASH:
        return
    _, counts = np.unique(np.array([hash(key) for key in keys], dtype=np.int64), return_counts=True)
    if counts.max() > _MOST_OF_ONE_HASH:
        raise ValueError(f"a dict or a set must have at most {_MOST_OF_ONE_HASH} entries of one hash: {counts.max()}")


def _parts(value: Any) -> list[Any]:
    """Return the containers directly in a container."""
    items = [*value, *value.values()] if isinstance(value, dict) else value
    return [item for item in items if isinstance(item, (dict, list, tuple, set, frozenset))]


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
