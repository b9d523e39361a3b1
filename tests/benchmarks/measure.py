"""How everything here is measured: alternately with its yardstick, in one process, the best of many short repeats."""

from __future__ import annotations

import gc
import os
import platform
from collections.abc import Callable
from datetime import date
from pathlib import Path
from time import perf_counter

from attrs import define

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


@define(frozen=True)
class Row:
    """One line of the table.

    Args:
        what: What is measured.
        ours: Seconds, or bytes, that it takes.
        yardstick: What the yardstick takes, in the same unit.
        against: What the yardstick is.
        budget: The ratio that is allowed, or None where it is for information only.
        extra: What is allowed beyond the yardstick, where the budget is a difference and not a ratio.
        unit: "s" or "B".
    """

    what: str
    ours: float
    yardstick: float
    against: str
    budget: float | None = None
    extra: float | None = None
    unit: str = "s"

    @property
    def ratio(self) -> float:
        """Ours as a multiple of the yardstick."""
        return self.ours / self.yardstick if self.yardstick else float("inf")

    @property
    def kept(self) -> bool | None:
        """Whether the budget is kept; None without one."""
        if self.extra is not None:
            return self.ours - self.yardstick <= self.extra
        return None if self.budget is None else self.ratio <= self.budget


def best_of(*functions: Callable[[], object], repeats: int = 200, number: int = 1) -> list[float]:
    """Return the shortest time of one call of each function, in seconds.

    The functions take turns, so that a slow moment of the machine hits all of them.
    """
    best = [float("inf")] * len(functions)
    gc.disable()
    try:
        for _ in range(repeats):
            for index, function in enumerate(functions):
                began = perf_counter()
                for _ in range(number):
                    function()
                best[index] = min(best[index], (perf_counter() - began) / number)
    finally:
        gc.enable()
    return best


def into_page(mark: str, table: str) -> None:
    """Put a table into docs/performance.md, between the comments with its mark, and when and where it was measured."""
    text = PAGE.read_text("utf-8")
    first, last = f"<!-- {mark} -->\n", "<!-- end -->"
    before, found, rest = text.partition(first)
    _, ended, after = rest.partition(last)
    if not (found and ended):
        raise ValueError(f"'mark' must be that of a comment in {PAGE.name}, with an end after it: {mark}")
    where = f"{os.cpu_count()} cores of a machine of the kind {platform.machine()}"
    measured = f"Measured {date.today()}, Python {platform.python_version()}, {where}:"
    PAGE.write_text(f"{before}{first}{measured}\n\n{table}\n{last}{after}", "utf-8")
