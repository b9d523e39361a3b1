"""`lucid-train watch`, `show` and `replay`: recorded runs on the console."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve
from rich.text import Text

from lucid_train.callback import FunctionListener, Subscription
from lucid_train.callbacks.display import formatting
from lucid_train.callbacks.display.outputs import current_console
from lucid_train.callbacks.display.table import Record, candidates, metric_names
from lucid_train.callbacks.display.theme import Theme
from lucid_train.callbacks.rich_logger import RichLogger
from lucid_train.events import CommandAnswered, Event, FitStart, Saved, Status
from lucid_train.history import EpochRecord, History
from lucid_train.monitor import Monitor
from lucid_train.recording.follow import Watch
from lucid_train.recording.lines import pack_event, read_log
from lucid_train.recording.replay import Player, play, replay
from lucid_train.recording.values import pack_metrics, pack_rates
from lucid_train.recording.writer import is_gone
from lucid_train.training.run import Run

# The columns of a comparison that are left out first where the screen is too narrow.
_DISPENSABLE = ("lr", "time", "status", "epochs", "at epoch")

# What `show` says of one run to a script.
_STATUS_CODES = {"completed": 0, "stopped": 0, "running": 3}


def add_commands(commands: Any) -> None:
    """Add `watch`, `show` and `replay` to what argparse's `add_subparsers` returned."""
    watched = _command(commands, "watch", "follow a run that another process records", _watch)
    watched.add_argument("log", type=Path, help="file that EventLog writes; it, or its folder, need not exist yet")
    watched.add_argument(
        "--stay",
        action="store_true",
        help="go on watching when the run has ended or died, as it may be resumed (default: end with it)",
    )
    watched.add_argument(
        "--patience",
        type=float,
        metavar="SECONDS",
        help="silence after which to say that the run may have died (default: 3 of its longest pauses, at least 30)",
    )
    shown = _command(commands, "show", "summarise a recorded run, or compare several", _show)
    shown.epilog = (
        "The exit code for one run is 0 if it was completed or stopped, 1 if it failed, was interrupted or died, and 3 "
        "if it goes on, as far as its log tells; for several it is 0."
    )
    shown.add_argument("--json", action="store_true", help="print a line of JSON per run (default: a summary)")
    shown.add_argument("logs", type=Path, nargs="+", metavar="log", help="files that EventLog wrote")
    replayed = _command(commands, "replay", "play a recorded run", _replay)
    replayed.add_argument("log", type=Path, help="file that EventLog wrote")
    replayed.add_argument("--speed", type=float, default=1.0, help="how many times as fast as the run was (default: 1)")
    for parser in (watched, shown, replayed):
        parser.add_argument(
            "--monitor", metavar="METRIC", help="metric by which epochs are compared (default: the run's)"
        )
        parser.add_argument(
            "--mode",
            choices=("min", "max"),
            help="whether less or more is better (default: less of a loss, more of an accuracy)",
        )


def _command(commands: Any, name: str, summary: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
    parser.set_defaults(command=run)
    return parser


def _watch(arguments: argparse.Namespace) -> int:
    watch = Watch(arguments.log, lambda: [_display(arguments)], _say, arguments.patience, arguments.stay)
    return _exit_code(watch.follow())


def _replay(arguments: argparse.Namespace) -> int:
    return _exit_code(replay(arguments.log, [_display(arguments)], speed=arguments.speed).status)


def _show(arguments: argparse.Namespace) -> int:
    logs = arguments.logs
    if arguments.json:
        for log in logs:
            print(json.dumps(_facts(log, arguments), allow_nan=False))
    elif len(logs) == 1:
        # As `watch` says it when it is left.
        going_on: tuple[Status, str] = "interrupted", "at the end of its log; the run itself may continue"
        play(Player(logs[0], (_display(arguments, live=False),), unended=going_on))
    else:
        _compare(arguments)
    return _STATUS_CODES.get(_state(logs[0])[0], 1) if len(logs) == 1 else 0


def _state(log: Path) -> tuple[str, str | None]:
    """Return the status of a run and the reason for it: that of its last fit, "running" or "died"."""
    start = end = None
    for line in read_log(log):
        if line.event == "FitStart":
            start, end = line, None
        elif line.event == "FitEnd":
            end = line
    if end is not None:
        reason = end.fields.get("reason")
        return str(end.fields.get("status")), None if reason is None else str(reason)
    gone = start is not None and is_gone(start.fields.get("writer"))
    return ("died", "its process is gone") if gone else ("running", None)


def _facts(log: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what a script wants to know of a run, as plain JSON."""
    runs, saved, commands = list[Run](), list[str](), list[dict[str, Any]]()
    listeners: list[tuple[type[Event], Callable[[Any], object]]] = [
        (FitStart, lambda event: runs.append(event.run)),
        (Saved, lambda event: saved.append(str(event.file))),
        (CommandAnswered, lambda event: commands.append(pack_event(event))),
    ]
    history = replay(log, [FunctionListener(Subscription(event), function) for event, function in listeners])
    run, (status, reason) = runs[-1], _state(log)
    monitor = _criterion(arguments, [history], {run.monitored}) if metric_names(history) else None
    best = None if monitor is None else monitor.best_of(candidates(history))
    return {
        "log": str(log),
        "status": status,
        "reason": reason,
        "epoch": run.epoch,
        "epochs": run.epochs,
        "step": run.step,
        "total_steps": run.total_steps,
        "processes": run.world_size,
        "seconds": round(sum(record.seconds for record in history), 3),
        "last_lr": pack_rates(tuple(run.last_lr)),
        "metrics": pack_metrics(history[-1].metrics) if history else {},
        "best": None if monitor is None or best is None else _packed_best(monitor, best),
        "checkpoint": saved[-1] if saved else None,
        "commands": commands,
    }


def _packed_best(monitor: Monitor, best: Record) -> dict[str, Any]:
    step = None if isinstance(best, EpochRecord) else best.step
    value = pack_metrics({monitor.name: best.metrics[monitor.name]})[monitor.name]
    return {"metric": monitor.name, "mode": monitor.mode, "value": value, "epoch": best.epoch, "step": step}


def _display(arguments: argparse.Namespace, *, live: bool = True) -> RichLogger:
    if arguments.monitor is not None:
        _monitor(arguments.monitor, arguments.mode)  # which names the option that is missing
    return RichLogger(bars=live, rows=live, monitor=arguments.monitor, mode=arguments.mode)


def _say(sentence: str) -> None:
    print(f"lucid-train: {formatting.clean(sentence, sys.stdout.encoding)}", flush=True)


def _exit_code(status: str) -> int:
    return 0 if status in ("completed", "stopped") else 1


def _compare(arguments: argparse.Namespace) -> None:
    """Print a row per run, and mark the one whose best epoch is the best of all."""
    recorded: set[Monitor | None] = set()
    listener = FunctionListener(Subscription(FitStart), lambda event: recorded.add(event.run.monitored))
    histories = [replay(log, [listener]) for log in arguments.logs]
    monitor = _criterion(arguments, histories, recorded)
    bests = [monitor.best_of(candidates(history)) for history in histories]
    values = [math.nan if best is None else best.metrics[monitor.name] for best in bests]
    known = [value for value in values if not math.isnan(value)]
    winner = (min if monitor.mode == "min" else max)(known, default=math.nan)
    rows = [
        {
            # The mark stands in front, so that the numbers stay aligned.
            "run": f"{'*' if value == winner else ' '} {log}",
            f"best {monitor.name}": "-" if best is None else formatting.metric(value),
            "at epoch": "-" if best is None else _place(best),
            "epochs": str(len(history)),
            "status": _state(log)[0],
            "time": formatting.seconds(sum(record.seconds for record in history)),
            "lr": formatting.rates(history[-1].last_lr) if history else "",
        }
        for log, history, best, value in zip(arguments.logs, histories, bests, values, strict=True)
    ]
    _print_table(rows, [value == winner for value in values])


def _criterion(arguments: argparse.Namespace, histories: Sequence[History], recorded: set[Monitor | None]) -> Monitor:
    """Return what runs are compared by: what was asked for, else what all of them compared epochs by, else a loss."""
    known = metric_names(*histories)
    if arguments.monitor is not None and arguments.monitor not in known:
        raise ValueError(f"'monitor' must be one of the metrics, {', '.join(known) or 'none'}: {arguments.monitor!r}")
    [monitor, *others] = recorded
    if arguments.monitor is None and not others and monitor is not None and monitor.name in known:
        return evolve(monitor, mode=arguments.mode or monitor.mode)
    default = next((name for name in ("val_loss", "loss", *known) if name in known), "loss")
    return _monitor(arguments.monitor or default, arguments.mode)


def _monitor(name: str, mode: Any) -> Monitor:
    if mode is None and Monitor.mode_of(name) is None:
        raise ValueError(f"'--mode' must be given with --monitor {name}: pass --mode min or --mode max")
    return Monitor(name, mode)


def _place(record: Record) -> str:
    return str(record.epoch) if isinstance(record, EpochRecord) else f"{record.epoch}, step {record.step}"


def _print_table(rows: Sequence[Mapping[str, str]], marked: Sequence[bool]) -> None:
    """Print rows under the names of their columns, without those that a terminal has no room for."""
    console = current_console()
    theme = Theme.of(console, None)
    room = console.width - 1 if console.is_terminal else sys.maxsize
    widths = {name: max(theme.width(text) for text in [name, *(row[name] for row in rows)]) for name in rows[0]}
    for name in _DISPENSABLE:
        if sum(widths.values()) + 2 * (len(widths) - 1) > room:
            del widths[name]

    def line(texts: Mapping[str, str], style: str) -> Text:
        cells = [theme.cell(texts[name], width, style, left=name == "run") for name, width in widths.items()]
        joined = formatting.join(cells)
        joined.rstrip()
        joined.truncate(room, overflow="crop")
        return joined

    header = line({name: name for name in widths}, "label")
    body = [line(row, "best" if best else "") for row, best in zip(rows, marked, strict=True)]
    console.print(formatting.stack([header, *body]), crop=False)
