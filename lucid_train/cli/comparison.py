"""Several recorded runs side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Group
from rich.text import Text

from lucid_train.callbacks.display import formatting
from lucid_train.callbacks.display.session import current_console
from lucid_train.callbacks.display.theme import Look, join, stack
from lucid_train.history import History
from lucid_train.monitor import Mode

# What goes first where the screen is too narrow for all columns.
_DISPENSABLE = ("lr", "time", "status", "epochs", "at epoch")


def print_comparison(
    names: Sequence[str], histories: Sequence[History], monitor: str | None = None, mode: Mode = "min"
) -> None:
    """Print a row per run, and mark the one whose best epoch is the best of all.

    Args:
        names: The runs' names.
        histories: Their epochs.
        monitor: The metric to judge by; by default "val_loss" if a run has it, else "loss".
        mode: Whether "min" or "max" of it is better.

    Raises:
        ValueError: If no run has the metric.
    """
    console = current_console()
    look = Look.of(console, None)
    known = list(dict.fromkeys(name for history in histories for name in history.metric_names()))
    chosen = monitor or next((name for name in ("val_loss", "loss", *known) if name in known), None)
    if monitor is not None and monitor not in known:
        raise ValueError(f"'monitor' must be one of the metrics, {', '.join(known) or 'none'}: {monitor!r}")
    bests = [math.nan if chosen is None else _best(history, chosen, mode) for history in histories]
    finite = [value for value in bests if not math.isnan(value)]
    winner = (min if mode == "min" else max)(finite, default=math.nan)
    rows = [
        _row(name, history, value, winner, chosen, mode)
        for name, history, value in zip(names, histories, bests, strict=True)
    ]
    columns = list(rows[0])
    room = console.width - 1 if console.is_terminal else None
    widths = {name: max(look.width(text) for text in [name, *(row[name] for row in rows)]) for name in columns}
    for name in _DISPENSABLE:
        if room is not None and sum(widths[name] + 2 for name in columns) - 2 > room:
            columns.remove(name)
    lines = [join(look.cell(name, widths[name], "label", left=name == "run") for name in columns)]
    for row, value in zip(rows, bests, strict=True):
        style = "best" if value == winner else ""
        cells = [look.cell(row[name], widths[name], style, left=name == "run") for name in columns]
        lines.append(join(cells))
    for line in lines:
        line.rstrip()
    # In a group, because print() joins texts into one that wraps.
    console.print(Group(stack(_cropped(lines, room))), crop=False)


def _row(name: str, history: History, value: float, winner: float, monitor: str | None, mode: Mode) -> dict[str, str]:
    lacks = math.isnan(value) or monitor is None
    last = history[-1] if history else None
    # The mark stands in front, so that the numbers stay aligned.
    return {
        "run": ("* " if value == winner else "  ") + name,
        f"best {monitor or 'metric'}": "-" if lacks else formatting.metric(value),
        "at epoch": "-" if lacks or monitor is None else str(history.best(monitor, mode).epoch),
        "epochs": str(len(history)),
        "status": history.status,
        "time": formatting.seconds(math.fsum(record.seconds for record in history)),
        "lr": formatting.rates(last.last_lr) if last is not None else "",
    }


def _best(history: History, monitor: str, mode: Mode) -> float:
    values = [record.metrics[monitor] for record in history if monitor in record.metrics]
    known = [value for value in values if not math.isnan(value)]
    return (min if mode == "min" else max)(known, default=math.nan)


def _cropped(lines: list[Text], room: int | None) -> list[Text]:
    for line in lines:
        if room is not None:
            line.truncate(room)
    return lines
