"""`lucid-train watch`, `show` and `replay`: recorded runs on the console."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from attrs import define, field

from lucid_train.callback import Callback
from lucid_train.callbacks.display.formatting import clean
from lucid_train.callbacks.rich_logger import RichLogger
from lucid_train.cli.comparison import print_comparison
from lucid_train.events import FitStart
from lucid_train.monitor import Mode
from lucid_train.recording.follow import Watch
from lucid_train.recording.replay import replay
from lucid_train.validation import real_number

_BROKEN = 2


def add_commands(commands: Any) -> None:
    """Add `watch`, `show` and `replay` to the commands of an argparse parser."""
    watched = _command(commands, "watch", "follow a run that another process records", _watch)
    watched.add_argument("log", type=Path, help="what EventLog writes; it may be begun later")
    watched.add_argument("--stay", action="store_true", help="go on when the run ends or dies: it may be resumed")
    watched.add_argument("--patience", type=float, metavar="SECONDS", help="silence after which it may have died")
    shown = _command(commands, "show", "summarise a recorded run, or compare several", _show)
    shown.add_argument("logs", type=Path, nargs="+", metavar="log", help="what EventLog wrote")
    replayed = _command(commands, "replay", "play a recorded run", _replay)
    replayed.add_argument("log", type=Path, help="what EventLog wrote")
    replayed.add_argument("--speed", type=float, default=1.0, help="times as fast as the run was (default: 1)")
    for parser in (watched, shown, replayed):
        parser.add_argument("--monitor", metavar="METRIC", help="judge the best by this (default: as the run did)")
        parser.add_argument("--mode", choices=("min", "max"), help="whether less or more is better")


def _command(commands: Any, name: str, summary: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
    parser.set_defaults(command=lambda arguments: _answer(run, arguments))
    return parser


def _answer(run: Any, arguments: argparse.Namespace) -> int:
    """Run a command and return its exit code; what is wrong with a file is one sentence."""
    try:
        code: int = run(arguments)
    except (OSError, ValueError) as error:
        named = isinstance(error, OSError) and error.filename is not None
        message = f"'{error.filename}': {error.strerror}" if named else str(error)  # type: ignore[union-attr]  # named: an OSError
        print(f"lucid-train: error: {clean(message, sys.stderr.encoding)}", file=sys.stderr)
        return _BROKEN
    return code


def _watch(arguments: argparse.Namespace) -> int:
    if arguments.patience is not None:
        real_number("patience", arguments.patience, above=0)
    if not arguments.log.parent.is_dir():
        raise ValueError(f"'{arguments.log}' cannot be waited for: there is no folder '{arguments.log.parent}'")
    watch = Watch(arguments.log, lambda: [_display(arguments)], _say, arguments.patience, arguments.stay)
    return _code(watch.follow())


def _replay(arguments: argparse.Namespace) -> int:
    return _code(replay(arguments.log, [_display(arguments)], speed=arguments.speed).status)


def _show(arguments: argparse.Namespace) -> int:
    if len(arguments.logs) == 1:
        replay(arguments.logs[0], [_display(arguments, live=False)])
    else:
        judge = _Judge()
        histories = [replay(log, [judge]) for log in arguments.logs]
        monitor: str | None = arguments.monitor
        mode: Mode = "min"
        if monitor is None and any(judge.chosen[0] in history.metric_names() for history in histories):
            monitor, mode = judge.chosen
        print_comparison([str(log) for log in arguments.logs], histories, monitor, arguments.mode or mode)
    return 0


@define(eq=False)
class _Judge(Callback):
    """Notes what the runs were judged by."""

    seen: set[tuple[str, Mode] | None] = field(factory=set, init=False)

    @property
    def chosen(self) -> tuple[str | None, Mode]:
        """What all of them were judged by, or no metric where they differ."""
        (first, *others) = self.seen or {None}
        return (None, "min") if others or first is None else first

    def on_fit_start(self, event: FitStart) -> None:
        monitored = getattr(event.run, "monitored", None)
        self.seen.add(None if monitored is None else (monitored.name, monitored.mode))


def _display(arguments: argparse.Namespace, *, live: bool = True) -> RichLogger:
    return RichLogger(bars=live, rows=live, monitor=arguments.monitor, mode=arguments.mode or "min")


def _say(sentence: str) -> None:
    print(f"lucid-train: {clean(sentence, sys.stdout.encoding)}", flush=True)


def _code(status: str) -> int:
    return 0 if status in ("completed", "stopped") else 1
