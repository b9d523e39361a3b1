"""`lucid-train preview`: a schedule's curve in the terminal, as SVG or as CSV, before anything is trained."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from lucid_train.optims import lr_scheduler
from lucid_train.optims.lr_scheduler import Recipe
from lucid_train.validation import whole_number

SCHEDULES = {
    "constant": "ConstantLR",
    "cosine": "CosineAnnealingLR",
    "cosine-restarts": "CosineAnnealingWarmRestarts",
    "cyclic": "CyclicLR",
    "exponential": "ExponentialLR",
    "linear": "LinearLR",
    "multistep": "MultiStepLR",
    "noam": "NoamLR",
    "one-cycle": "OneCycleLR",
    "polynomial": "PolynomialLR",
    "step": "StepLR",
}

# Arguments that say nothing of the curve, or cannot be typed.
_LEFT_OUT = {"optimizer", "last_epoch", "base_lrs", "scale_fn", "scale_mode", "epochs", "steps_per_epoch"} | {
    f"{name}_momentum" for name in ("cycle", "base", "max")
}

_HEIGHT = 12
_BRAILLE = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def add_command(commands: Any) -> None:
    """Add `preview` to what argparse's `add_subparsers` returned."""
    parser = commands.add_parser("preview", help="draw a schedule's curve", description="Draw a schedule's curve.")
    schedules = parser.add_subparsers(required=True, metavar="schedule")
    for name, schedule in SCHEDULES.items():
        kind = getattr(lr_scheduler, schedule)
        summary = inspect.getdoc(kind).partition("\n")[0]  # type: ignore[union-attr]  # all have one
        one = schedules.add_parser(name, help=summary, description=f"{schedule}: {summary}")
        for option, settings in options(kind).items():
            one.add_argument(option, **settings)
        _add_common(one)
        one.set_defaults(command=preview, schedule=kind)


def options(kind: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    """Return a schedule's arguments as argparse takes them: `T_max` becomes `--T-max`."""
    found: dict[str, dict[str, Any]] = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if name in _LEFT_OUT:
            continue
        # Without a word the schedule's own default holds; a length left out is as long as its part of the run.
        settings: dict[str, Any] = {"dest": f"set_{name}", "default": argparse.SUPPRESS}
        if parameter.default is parameter.empty and name != "T_max":
            settings |= {"default": None, "required": True}
        written = str(parameter.annotation)
        if written == "bool":
            settings["action"] = argparse.BooleanOptionalAction
        elif written.startswith("Literal"):
            settings["choices"] = [choice.strip(" \"'") for choice in written[len("Literal[") : -1].split(",")]
        elif "Iterable[int]" in written:
            settings |= {"type": _length, "nargs": "+", "metavar": "N"}
        else:
            settings |= {"type": _length, "metavar": "N"} if "int" in written else {"type": float, "metavar": "X"}
        found[f"--{name.replace('_', '-')}"] = settings
    return found


def preview(chosen: argparse.Namespace) -> int:
    """Draw, or write, what the command line asks for."""
    settings = {name[4:]: value for name, value in vars(chosen).items() if name.startswith("set_")}
    epochs = whole_number("epochs", chosen.epochs, least=1)
    recipe = Recipe(chosen.schedule, **settings)
    if chosen.schedule.__name__ in ("CyclicLR", "OneCycleLR"):
        recipe = Recipe(chosen.schedule, **settings, cycle_momentum=False)
    if chosen.warmup is not None:
        recipe = recipe.warmup(chosen.warmup, start_factor=chosen.warmup_start)
    rates = curve(recipe, chosen.lr, epochs)
    if chosen.csv is not None:
        Path(chosen.csv).write_text("".join(["epoch,lr\n", *(f"{t},{rate!r}\n" for t, rate in enumerate(rates))]))
    if chosen.svg is not None:
        Path(chosen.svg).write_text(svg(rates, repr(recipe)), encoding="utf-8")
    if chosen.csv is None and chosen.svg is None:
        draw(Console(), rates, repr(recipe))
    return 0


def curve(recipe: Recipe, lr: float, epochs: int) -> list[float]:
    """Return the rates of a recipe's epochs from 0 on, for one group with the base rate `lr`."""

    class Optimizer:
        param_groups = [{"lr": lr}]  # noqa: RUF012  # one of its own for every call

    scheduler = recipe(Optimizer(), length=epochs)
    return [scheduler.lr_at(epoch)[0] for epoch in range(epochs)]


def draw(console: Console, rates: Sequence[float], title: str) -> None:
    """Draw a curve: dots of braille on a terminal that takes them, else ASCII."""
    low, high = min(rates), max(rates)
    labels = [f"{high - (high - low) * row / (_HEIGHT - 1):.3g}" for row in range(_HEIGHT)]
    margin = max(map(len, labels))
    columns = max(min(console.width, 80) - margin - 3, 10)
    fine = console.is_terminal and not console.options.ascii_only
    bar = chr(0x2502) if fine else "|"
    console.print(Text(title, style="bold", overflow="fold"))
    for index, row in enumerate(braille(rates, columns) if fine else plain(rates, columns)):
        label = labels[index] if index % 3 == 0 or index == _HEIGHT - 1 else ""
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
    parser.add_argument("--lr", type=float, default=0.1, metavar="X", help="base rate (0.1)")
    parser.add_argument("--epochs", type=int, default=100, metavar="N", help="epochs, or steps, to show (100)")
    parser.add_argument("--warmup", type=_length, metavar="N", help="epochs of a linear warm-up before it, or N%%")
    parser.add_argument("--warmup-start", type=float, default=0.1, metavar="X", help="share of the rate it begins at")
    parser.add_argument("--svg", metavar="FILE", help="write a picture instead")
    parser.add_argument("--csv", metavar="FILE", help="write the numbers instead")


def _length(text: str) -> int | str:
    return text if text.endswith("%") else int(text)
