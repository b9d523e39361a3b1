"""`lucid-train preview`: the curves of schedules in the terminal, as SVG or as CSV, before anything is trained."""

from __future__ import annotations

import argparse
import csv
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from lucid_train.callbacks.display.formatting import clean
from lucid_train.cli.expression import names, parse, signature
from lucid_train.plot import MARKS, svg_picture, text_rows
from lucid_train.schedules.schedule import Schedule
from lucid_train.validation import real_number, whole_number

_HEIGHT = 12
# Of several curves, in their order.
_COLORS = ("cyan", "yellow", "green", "magenta")
_MOST_STEPS = 10_000_000


def add_command(commands: Any) -> None:
    """Add `preview` to what argparse's `add_subparsers` returned."""
    parser = commands.add_parser(
        "preview",
        help="draw the curves of schedules",
        description='Draw the curves of schedules, such as "Linear(0, 1, 5).then(Cosine())" or '
        "\"Cosine().warmup('5%') * Step(30, gamma=0.5)\". lucid-train preview --list names all.",
    )
    parser.add_argument(
        "expressions",
        nargs="*",
        metavar="schedule",
        help="a schedule as it is written in Python, joined by .then, .until, .warmup and *; up to four",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, metavar="N", help="length of the run in epochs (default: 100)")
    length.add_argument("--steps", type=int, metavar="N", help="length of the run in steps (default: 100 epochs)")
    parser.add_argument("--lr", type=float, default=0.1, metavar="X", help="base rate (default: 0.1)")
    parser.add_argument("--svg", metavar="FILE", help="write a picture to this file (default: draw on the terminal)")
    parser.add_argument("--csv", metavar="FILE", help="write the numbers to this file (default: draw on the terminal)")
    parser.add_argument("--list", action="store_true", help="name every schedule and its settings (default: draw)")
    parser.set_defaults(command=preview)


def preview(chosen: argparse.Namespace) -> int:
    """Draw, or write, what the command line asks for."""
    if chosen.list:
        _list_schedules(Console())
        return 0
    if not 1 <= len(chosen.expressions) <= len(MARKS):
        raise ValueError(
            f"'schedule' must be 1 to {len(MARKS)} expressions, such as \"Cosine().warmup('5%')\": "
            f"{len(chosen.expressions)}; lucid-train preview --list names the schedules"
        )
    unit, length = ("epoch", chosen.epochs) if chosen.steps is None else ("step", chosen.steps)
    length = whole_number(f"{unit}s", 100 if length is None else length, least=1)
    if length > _MOST_STEPS:
        raise ValueError(f"'{unit}s' must be <= {_MOST_STEPS:,}: {length:,}")
    base = real_number("lr", chosen.lr, least=0)
    try:
        schedules = [parse(text) for text in chosen.expressions]
    except (TypeError, ValueError) as error:
        for line in (f"lucid-train: error: {error}", *getattr(error, "__notes__", ())):
            print(clean(line, sys.stderr.encoding), file=sys.stderr)
        return 2
    if chosen.csv is not None:
        _write_numbers(Path(chosen.csv), [each.sized(length) for each in schedules], length, base, unit)
    curves = {repr(each): each.curve(length, base) for each in schedules} if chosen.svg or not chosen.csv else {}
    if chosen.svg is not None:
        Path(chosen.svg).write_text(svg_picture(curves, unit), encoding="utf-8")
    if chosen.csv is None and chosen.svg is None:
        draw(Console(), {name: values for name, (_, values) in curves.items()}, unit, length - 1)
    return 0


def _list_schedules(console: Console) -> None:
    for kind in names().values():
        # What follows a colon is a formula and its error, for those who read the documentation.
        first = (inspect.getdoc(kind) or "").partition("\n")[0]
        summary = re.split(r"[:.]|, within", first)[0].replace("`", "")
        console.print(Text(signature(kind), style="bold", overflow="fold"))
        console.print(Text(f"    {summary}.", overflow="fold"))


def _write_numbers(file: Path, schedules: Sequence[Schedule], length: int, base: float, unit: str) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow([unit, *map(repr, schedules)])
        rows.writerows([t, *(repr(schedule(t, base)) for schedule in schedules)] for t in range(length))


def draw(console: Console, curves: Mapping[str, Sequence[float]], unit: str, last_time: int) -> None:
    """Draw curves: dots of braille on a terminal that takes them, else ASCII, in which several have their own marks."""
    low, high = min(map(min, curves.values())), max(map(max, curves.values()))
    last = _HEIGHT - 1
    labels = [f"{high * ((last - row) / last) + low * (row / last):.3g}" for row in range(_HEIGHT)]
    margin = max(len(unit), *map(len, labels))
    columns = max(min(console.width, 80) - margin - 3, 10)
    unicode = console.is_terminal and not console.options.ascii_only
    # Dots look alike without a color.
    fine = unicode and (len(curves) == 1 or console.color_system is not None)
    bar = chr(0x2502) if unicode else "|"
    for name, mark, color in zip(curves, MARKS, _COLORS, strict=False):
        key = Text() if len(curves) == 1 else Text(f"{chr(0x25CF) if fine else mark} ", style=color)
        line = key + Text(name, style="bold")
        for start in range(0, len(line), console.width):
            console.print(line[start : start + console.width], soft_wrap=True)
    for index, row in enumerate(text_rows([*curves.values()], columns, _HEIGHT, fine=fine)):
        label = labels[index] if index % 3 == 0 or index == last else ""
        text = Text(f"{label:>{margin}} {bar} ", style="dim")
        for letter, curve in row:
            text.append(letter, style=_COLORS[curve])
        text.rstrip()
        console.print(text, soft_wrap=True)
    console.print(Text(f"{unit:>{margin}}   0{last_time or '':>{columns - 1}}", style="dim"), soft_wrap=True)
