"""One fit as it is shown: what RichLogger has from FitStart to FitEnd."""

from __future__ import annotations

import logging
import sys
import warnings
from importlib import import_module
from importlib.metadata import version
from time import monotonic
from typing import TYPE_CHECKING

from rich import get_console
from rich.console import Console
from rich.text import Text

from lucid_train.callbacks.display import formatting, summary, table
from lucid_train.callbacks.display.bars import Bars
from lucid_train.callbacks.display.outputs import Notebook, Outlet, Paper
from lucid_train.callbacks.display.terminal.screen import Screen
from lucid_train.callbacks.display.terminal.streams import Stream
from lucid_train.callbacks.display.theme import Look
from lucid_train.callbacks.display.throughput import Pace
from lucid_train.callbacks.display.ticker import Ticker
from lucid_train.events import FitEnd
from lucid_train.history import EpochRecord
from lucid_train.training.run import Run

if TYPE_CHECKING:
    from lucid_train.callbacks.rich_logger import RichLogger


class Session:
    """Shows one fit of a run where it is to be shown.

    Args:
        settings: The callback, whose settings these are.
        run: The run. Nothing but its public attributes is used, and no hook on the step path.
    """

    def __init__(self, settings: RichLogger, run: Run) -> None:
        self.pace = Pace(run.clock)
        self.pace.start_epoch(run.epoch_step)
        self._settings = settings
        self._run = run
        self._console = console = current_console() if settings.console is None else settings.console
        self._look = Look.of(console, settings.theme)
        self._best = _best(settings, run)
        # A recording is for a picture: it has the table, whatever the console leads to.
        self._plain = not (console.is_jupyter or console.record) and (
            not console.is_terminal or console.is_dumb_terminal
        )
        self._table = table.Table(self._look)
        self._log = logging.getLogger(settings.log) if isinstance(settings.log, str) else settings.log
        self._outlet = self._chosen_outlet()
        self._told = monotonic()
        self._introduced = False
        self._heart = Ticker(min(1.0, (settings.heartbeat or 0) / 4), self._beat)

    def open(self) -> None:
        """Begin to show."""
        if self._settings.timings:
            self._run.measure_hooks()
        self._outlet.open()
        if self._settings.heartbeat is not None and (self._plain or self._log is not None):
            self._heart.start()

    def introduce(self) -> None:
        """Say what is about to happen, once; all callbacks have begun by then."""
        self._outlet.go_on()
        if not self._introduced:
            self._introduced = True
            if self._settings.header:
                self._outlet.put([*self._lines(summary.before(self._run)), *([] if self._plain else [Text("")])])

    def report(self, record: EpochRecord) -> None:
        """Show an epoch."""
        self.introduce()
        self.pace.end_epoch(record)
        best = self._best.name if self._best.see(record) else None
        self._told = monotonic()
        if self._plain or self._log is not None:
            self._tell(table.line(record, self._run.epochs, best), self._settings.rows)
        if self._settings.rows and not self._plain:
            self._outlet.put(self._table.lines(record, self._run.epochs, best, self._console.width))

    def close(self, event: FitEnd) -> None:
        """Show how it ended, and leave everything as it was before."""
        last: list[Text] = []
        try:
            self._heart.stop()
            if self._settings.summary:
                level = logging.ERROR if event.status == "failed" else logging.INFO
                last = [Text(""), *self._lines(summary.after(event, self.pace, self._best), level)]
        finally:
            self._outlet.close(last[self._plain :])
        if self._outlet.error is not None:
            error = self._outlet.error
            message = f"RichLogger could not show everything, {type(error).__name__}: {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _chosen_outlet(self) -> Outlet:
        settings, console = self._settings, self._console
        if console.is_jupyter:
            try:
                display = import_module("IPython.display").display
            except ModuleNotFoundError:
                return Paper(console)
            return Notebook(display, console.width, Bars(self._run, self.pace, self._look) if settings.bars else None)
        drawn = console.is_terminal and console.is_interactive and not console.record
        if self._plain or not drawn or not settings.bars:
            return Paper(console)
        bars = Bars(self._run, self.pace, self._look)
        run = self._run
        screen = Screen(console, bars, 1 / settings.refresh_per_second, lambda: run.step)
        bars.unfinished = lambda: screen.unfinished
        return screen

    def _lines(self, said: list[summary.Fact], level: int = logging.INFO) -> list[Text]:
        """Return facts as the outlet shows them, and log them."""
        line = summary.as_line(said)
        if self._log is not None:
            self._log.log(level, "%s", line)
        return [self._look.text(line)] if self._plain else summary.as_lines(said, self._look, self._console.width)

    def _tell(self, line: str, on_console: bool) -> None:
        if self._plain and on_console:
            self._outlet.put([self._look.text(line)])
        if self._log is not None:
            self._log.info("%s", line)

    def _beat(self) -> None:
        if monotonic() - self._told >= (self._settings.heartbeat or 0):
            self._told = monotonic()
            run = self._run
            step, total = run.epoch_step, run.steps_per_epoch
            evaluating = self.pace.evaluating
            left = self.pace.left(run, step)
            parts = [
                f"epoch {run.epoch:{len(str(run.epochs))}}/{run.epochs}",
                f"step {step}/{total}" if total else f"step {step}",
                formatting.pace(self.pace.steps_per_second(step)) if evaluating is None else "evaluating",
                "" if left is None else f"eta {formatting.clock(left)}",
            ]
            self._tell("  ".join(filter(None, parts)), True)


def current_console() -> Console:
    """Return a console for standard output: rich's own if a new one is no different, so that rich.print shares it.

    Before rich 14.1 a console had room for one live display: there rich's own is left to the user. Inside a display of
    ours it is the console of that.
    """
    if isinstance(sys.stdout, Stream) and sys.stdout.console is not None:
        return sys.stdout.console
    new, shared = Console(), get_console()
    if tuple(map(int, version("rich").split(".")[:2])) < (14, 1):
        return new
    alike = ("file", "is_terminal", "is_interactive", "is_jupyter", "color_system", "no_color", "record", "size")
    return shared if all(getattr(new, name) == getattr(shared, name) for name in alike) else new


def _best(settings: RichLogger, run: Run) -> table.Best:
    """Return what watches the metric that is asked for, or that the run itself goes by."""
    # Of a run that is replayed, its log says what it was judged by.
    recorded = getattr(run, "monitored", None)
    found = [monitor for each in run.callbacks if (monitor := each.monitored()) is not None]
    monitor = settings.monitored() or recorded or next(iter(found), None)
    best = table.Best(None, settings.mode) if monitor is None else table.Best(monitor.name, monitor.mode)
    for record in run.history:
        best.see(record)
    return best
