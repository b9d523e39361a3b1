"""The benchmarks as one table: `python tests/benchmarks [name ...]`, by hand and on a quiet machine.

`python tests/benchmarks --page` puts it into docs/performance.md too, for which PyTorch must be installed.
A benchmark is a module of this folder with a function `rows()`. The exit code is 1 if a budget is exceeded.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from measure import Row, into_page
from rich.console import Console
from rich.table import Table


def amount(value: float, unit: str) -> str:
    """Return a number of seconds or bytes with three figures."""
    if unit == "B":
        return f"{value / 1e3:.3g} kB" if value < 1e6 else f"{value / 1e6:.3g} MB"
    for scale, name in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= scale:
            return f"{value / scale:.3g} {name}"
    return f"{value / 1e-9:.3g} ns"


def cells(row: Row) -> list[str]:
    """Return a row as text."""
    budget = "" if row.budget is None else f"<= {row.budget:g}x"
    if row.extra is not None:
        budget = f"<= +{amount(row.extra, row.unit)}"
    verdict = {True: "kept", False: "EXCEEDED", None: ""}[row.kept]
    ratio = f"{row.ratio:.2f}x" if row.ratio >= 0.1 else f"{row.ratio:.3f}x"
    return [row.what, amount(row.ours, row.unit), row.against, amount(row.yardstick, row.unit), ratio, budget, verdict]


def markdown(rows: list[Row]) -> str:
    """Return the table of docs/performance.md."""
    lines = ["| what | ours | against | it takes | ratio | budget |", "|---|---|---|---|---|---|"]
    for row in rows:
        *texts, ratio, budget, _ = cells(row)
        over = " (over)" if row.kept is False else ""
        lines.append(f"| {' | '.join(texts)} | {ratio}{over} | {budget or '-'} |")
    return "\n".join(lines)


def main() -> int:
    """Measure what is asked for, or everything, and print the table."""
    own = {"__main__", "measure", "peers", "peers_training"}
    options = [each for each in sys.argv[1:] if each.startswith("--")]
    names = [each for each in sys.argv[1:] if each not in options]
    if options not in ([], ["--page"]) or (options and names):
        print("python tests/benchmarks [name ...], or --page alone, which puts the whole table into its page")
        return 2
    names = names or sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in own)
    rows: list[Row] = [row for name in names for row in import_module(name).rows()]
    table = Table("what", "ours", "against", "yardstick", "ratio", "budget", "")
    for row in rows:
        table.add_row(*cells(row))
    Console(width=150 if not sys.stdout.isatty() else None).print(table)
    if options:
        into_page("python tests/benchmarks --page", markdown(rows))
    return int(any(row.kept is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
