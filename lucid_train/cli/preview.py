"""`lucid-train preview`: a schedule's curve in the terminal, as SVG or as CSV, before anything is trained."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from attrs import NOTHING, fields
from rich.console import Console
from rich.text import Text

from lucid_train.schedules.cosine import Cosine, WarmRestarts
from lucid_train.schedules.cycle import Cyclic, OneCycle
from lucid_train.schedules.decay import Exponential, InverseSqrt, InverseTime, MultiStep, Polynomial, Rex, Step
from lucid_train.schedules.schedule import Linear, Ramp, Schedule
from lucid_train.schedules.warmup import Constant, Noam
from lucid_train.validation import real_number, whole_number

SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "cosine": Cosine,
    "cosine-restarts": WarmRestarts,
    "cyclic": Cyclic,
    "exponential": Exponential,
    "inverse-sqrt": InverseSqrt,
    "inverse-time": InverseTime,
    "linear": Linear,
    "multistep": MultiStep,
    "noam": Noam,
    "one-cycle": OneCycle,
    "polynomial": Polynomial,
    "ramp": Ramp,
    "rex": Rex,
    "step": Step,
}

# Functions cannot be typed on a command line.
_LEFT_OUT = ("scale_fn", "scale_mode")

_HEIGHT = 12
_BRAILLE = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def add_command(commands: Any) -> None:
    """Add `preview` to what argparse's `add_subparsers` returned."""
    parser = commands.add_parser("preview", help="draw a schedule's curve", description="Draw a schedule's curve.")
    schedules = parser.add_subparsers(required=True, metavar="schedule")
    for name, kind in SCHEDULES.items():
        # What follows a colon is a formula and its error, for those who read the documentation.
        first = (inspect.getdoc(kind) or "").partition("\n")[0]
        summary = re.split(r"[:.]|, within", first)[0].replace("`", "") + "."
        one = schedules.add_parser(name, help=summary, description=summary)
        for option, settings in options(kind).items():
            one.add_argument(option, **settings)
        _add_common(one)
        one.set_defaults(command=preview, schedule=kind)


def options(kind: type[Schedule]) -> dict[str, dict[str, Any]]:
    """Return a schedule's settings as argparse takes them: `T_max` becomes `--T-max`."""
    found: dict[str, dict[str, Any]] = {}
    types, meanings = get_type_hints(kind), _meanings(kind)
    for each in (each for each in fields(kind) if each.init and each.name not in _LEFT_OUT):
        of = types[each.name]
        # Left out, the schedule's own default holds.
        settings: dict[str, Any] = {"dest": f"set_{each.name}", "default": argparse.SUPPRESS}
        default = f"(default: {'left out' if each.default is None else each.default})"
        if each.default is NOTHING:
            settings |= {"default": None, "required": True}
            default = "(required)"
        settings["help"] = f"{meanings[each.name]} {default}".replace("%", "%%").replace("`", "")
        if of is bool:
            settings["action"] = argparse.BooleanOptionalAction
        elif get_origin(of) is Literal:
            settings["choices"] = get_args(of)
        elif of is float:
            settings |= {"type": float, "metavar": "X"}
        else:
            several = {"nargs": "+"} if get_origin(of) not in (None, type(int | str)) else {}
            settings |= {"type": length, "metavar": "N", **several}
        found[f"--{each.name.replace('_', '-')}"] = settings
    return found


def _meanings(kind: type[Schedule]) -> dict[str, str]:
    """Return what the docstring of a schedule says of its settings."""
    listed = (inspect.getdoc(kind) or "").partition("Args:\n")[2].partition("\n\n")[0]
    texts = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in texts}


def preview(chosen: argparse.Namespace) -> int:
    """Draw, or write, what the command line asks for."""
    settings = {name[4:]: value for name, value in vars(chosen).items() if name.startswith("set_")}
    epochs = whole_number("epochs", chosen.epochs, least=1)
    schedule: Schedule = chosen.schedule(**settings)
    if chosen.warmup is not None:
        schedule = schedule.warmup(chosen.warmup, chosen.warmup_start)
    base = real_number("lr", chosen.lr, least=0)
    rates = schedule.sized(epochs).table(epochs, base)
    if chosen.csv is not None:
        Path(chosen.csv).write_text("".join(["epoch,lr\n", *(f"{t},{rate!r}\n" for t, rate in enumerate(rates))]))
    if chosen.svg is not None:
        Path(chosen.svg).write_text(svg(rates, repr(schedule)), encoding="utf-8")
    if chosen.csv is None and chosen.svg is None:
        draw(Console(), rates, repr(schedule))
    return 0


def draw(console: Console, rates: Sequence[float], title: str) -> None:
    """Draw a curve: dots of braille on a terminal that takes them, else ASCII."""
    low, high = min(rates), max(rates)
    last = _HEIGHT - 1
    labels = [f"{high * ((last - row) / last) + low * (row / last):.3g}" for row in range(_HEIGHT)]
    margin = max(map(len, labels))
    columns = max(min(console.width, 80) - margin - 3, 10)
    fine = console.is_terminal and not console.options.ascii_only
    bar = chr(0x2502) if fine else "|"
    console.print(Text(title, style="bold", overflow="fold"))
    for index, row in enumerate(braille(rates, columns) if fine else plain(rates, columns)):
        label = labels[index] if index % 3 == 0 or index == last else ""
        console.print(Text(f"{label:>{margin}} {bar} ", style="dim") + Text(row, style="cyan"), soft_wrap=True)
    console.print(Text(f"{'epoch':>{margin}}   0{len(rates) - 1:>{columns - 1}}", style="dim"), soft_wrap=True)


def plain(rates: Sequence[float], columns: int) -> list[str]:
    """Return a curve as rows of stars."""
    spans = _spans(rates, columns, _HEIGHT)
    return ["".join("*" if row in span else " " for span in spans).rstrip() for row in range(_HEIGHT)]


def braille(rates: Sequence[float], columns: int) -> list[str]:
    """Return a curve as rows of braille, two by four dots to a character."""
    cells = [[0] * columns for _ in range(_HEIGHT)]
    for column, span in enumerate(_spans(rates, 2 * columns, 4 * _HEIGHT)):
        for row in span:
            cells[row // 4][column // 2] |= _BRAILLE[column % 2][row % 4]
    return ["".join(chr(0x2800 + cell) if cell else " " for cell in row).rstrip() for row in cells]


def svg(rates: Sequence[float], title: str) -> str:
    """Return a curve as an SVG picture of its own."""
    from html import escape

    left, right, top, floor = 70, 620, 40, 280
    low, high, last = min(rates), max(rates), len(rates) - 1
    across, up = (right - left) / max(last, 1), (floor - top) / ((high - low) or 1.0)
    points = " ".join(f"{left + across * t:.2f},{floor - up * (rate - low):.2f}" for t, rate in enumerate(rates))
    texts = [
        (left, 24, "start", title),
        (left - 8, top + 5, "end", f"{high:.3g}"),
        (left - 8, floor + 5, "end", f"{low:.3g}"),
        (left, floor + 24, "middle", "0"),
        (right, floor + 24, "end", f"epoch {last}"),
    ]
    elements = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 320" font-family="sans-serif" font-size="12">',
        '<rect width="640" height="320" fill="white"/>',
        f'<path d="M{left} {top}V{floor}H{right}" fill="none" stroke="gray"/>',
        f'<polyline points="{points}" fill="none" stroke="teal" stroke-width="2"/>',
        *(f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>' for x, y, anchor, text in texts),
    ]
    return "\n".join([*elements, "</svg>\n"])


def _spans(rates: Sequence[float], columns: int, height: int) -> list[range]:
    """Return the rows, from the top, that the curve crosses in every column."""
    low, high = min(rates), max(rates)
    scale = (height - 1) / (high - low) if high > low else 0.0
    levels = [round((high - rate) * scale) for rate in rates]
    cuts = [column * len(levels) // columns for column in range(columns + 1)]
    parts = [levels[start : max(end, start + 1)] for start, end in pairwise(cuts)]
    return [range(min(part), max(part) + 1) for part in parts]


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lr", type=float, default=0.1, metavar="X", help="base rate (default: 0.1)")
    parser.add_argument("--epochs", type=int, default=100, metavar="N", help="epochs, or steps, to show (default: 100)")
    parser.add_argument(
        "--warmup",
        type=length,
        metavar="N",
        help="epochs, or N%% of them, of a linear warm-up before it (default: none)",
    )
    parser.add_argument(
        "--warmup-start",
        type=float,
        default=0.1,
        metavar="X",
        help="share of the base that it begins at (default: 0.1)",
    )
    parser.add_argument("--svg", metavar="FILE", help="write a picture to this file (default: draw on the terminal)")
    parser.add_argument("--csv", metavar="FILE", help="write the numbers to this file (default: draw on the terminal)")


def length(text: str) -> int | str:
    """Return a count, or a share such as "5%", that was typed; argparse names this function in its error."""
    return text if text.endswith("%") else int(text)
