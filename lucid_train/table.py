"""The epochs of a run as a table: the names of its columns, and the lines of a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO


def cells(names: Sequence[str], row: Mapping[str, float]) -> list[str]:
    """Return the cells of a row of a CSV file, in the order of `names`."""
    return [number_text(row[name]) if name in row else "" for name in names]


def number_text(value: float) -> str:
    """Return a number in full, as Python reads it back."""
    return str(value) if isinstance(value, int) else repr(float(value))


def csv_line(entries: Sequence[str]) -> str:
    """Return a line of a CSV file, with its newline."""
    buffer = StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(entries)
    return buffer.getvalue()


def rate_column(group: int) -> str:
    """Return the name of the column of a parameter group's rate."""
    return f"lr_{group}" if group else "lr"


def metric_column(name: str) -> str:
    """Return the name of a metric's column."""
    # A name that cannot be taken for a column of ours, nor for one that was made so from another metric's name.
    taken = name in ("epoch", "steps", "seconds", "lr") or name.startswith(("lr_", "metric_"))
    return f"metric_{name}" if taken else name
