"""The frozen data: how it is written, read and compared. Floats are hexadecimal, so that the last bit is visible."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
_FLOAT = re.compile(r"-?(0x[01]\.[0-9a-f]+p[+-]\d+|inf)|nan")


def encode(value: Any) -> Any:
    """Return plain JSON; a list of floats is one string, in which equal neighbours are written once: "[0x1.0p+0*5]"."""
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, dict):
        return {str(name): encode(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        if not value or not all(isinstance(item, float) for item in value):
            return [encode(item) for item in value]
        runs = [(text, len(list(run))) for text, run in groupby(map(float.hex, value))]
        return f"[{' '.join(text if count == 1 else f'{text}*{count}' for text, count in runs)}]"
    return value


def decode(value: Any) -> Any:
    """Return what `encode` was given, tuples as lists."""
    if isinstance(value, dict):
        return {name: decode(item) for name, item in value.items()}
    if isinstance(value, list):
        return [decode(item) for item in value]
    if isinstance(value, str) and _FLOAT.fullmatch(value):
        return float.fromhex(value)
    if isinstance(value, str) and value.startswith("["):
        runs = [token.partition("*") for token in value[1:-1].split()]
        return [float.fromhex(text) for text, _, count in runs for _ in range(int(count or 1))]
    return value


def read(table: str) -> dict[str, Any]:
    """Return a table of the frozen data, empty before the first time."""
    file = FOLDER / f"{table}.json"
    entries: dict[str, Any] = decode(json.loads(file.read_text())) if file.exists() else {}
    return entries


def write(table: str, entries: dict[str, Any]) -> None:
    """Write a table, one entry after the other, sorted."""
    text = json.dumps(encode(entries), indent=0, sort_keys=True, separators=(",", ":"), allow_nan=False)
    (FOLDER / f"{table}.json").write_text(f"{text}\n")


def differing(expected: Any, found: Any, rel: float = 0.0) -> list[str]:
    """Return where two results differ, with both values; [] if all types are the same and all floats to the bit.

    Args:
        expected: The frozen result.
        found: Today's.
        rel: How much floats may differ, relatively. 0 compares their bits.
    """
    theirs, own = dict(_leaves(expected, "")), dict(_leaves(found, ""))
    return [
        f"{place}: {own.get(place, 'nothing')!r} instead of {theirs.get(place, 'nothing')!r}"
        for place in dict.fromkeys([*theirs, *own])
        if place not in theirs or place not in own or not _equal(theirs[place], own[place], rel)
    ]


def _equal(expected: Any, found: Any, rel: float) -> bool:
    if type(expected) is not type(found):
        return False
    if isinstance(expected, float):
        return expected.hex() == found.hex() or (rel > 0.0 and math.isclose(expected, found, rel_tol=rel))
    return bool(expected == found)


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (dict, list, tuple)) and value:
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, f"{place}.{name}" if place else str(name))
    else:
        yield place, value
