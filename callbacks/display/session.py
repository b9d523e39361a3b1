"""Session: one fit as RichLogger shows it, from FitStart to FitEnd."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from importlib import import_module
from time import monotonic

from attrs import define, field
from rich.console import Console
from rich.text import Text

from lucid_train.callbacks.display import formatting
from lucid_train.callbacks.display.bars import Bars
from lucid_train.callbacks.display.outputs import NotebookOutput, Output, PlainOutput
from lucid_train.callbacks.display.summary import Entry, as_line, as_lines, header_entries, summary_entries
from lucid_train.callbacks.display.table import Record, Table, line
from lucid_train.callbacks.display.terminal.screen import Screen
from lucid_train.callbacks.display.theme import Theme
from lucid_train.callbacks.display.throughput import Throughput
from lucid_train.callbacks.display.ticker import Ticker
from lucid_train.events import FitEnd
from lucid_train.history import EpochRecord
from lucid_train.monitor import Mode, Monitor
from lucid_train.training.run import Run


@define(eq=False, kw_only=True)
class Session:
    """Shows one fit of a run, of which it uses the public attributes alone.

    Args:
        run: The run.
        console: Where it is shown.
        theme: How it looks.
        monitor: The metric whose best value is marked; by default "val_loss" once there is one, until then "loss".
        mode: The mode of the default.
        bars_interval: Seconds between two drawings of the bars, or None for no bars.
        rows: As RichLogger's, like `header`, `summary` and `heartbeat`.
        log: The logger that gets everything as plain lines.
    """

    run: Run
    console: Console
    theme: Theme
    monitor: Monitor | None
    mode: Mode
    bars_interval: float | None
    rows: bool
    header: bool
    summary: bool
    heartbeat: float | None
    log: logging.Logger | None
    throughput: Throughput = field(init=False)
    _plain: bool = field(init=False)
    _table: Table = field(init=False)
    _output: Output = field(init=False)
    _heart: Ticker = field(init=False)
    _shown_at: float = field(factory=monotonic, init=False)
    _introduced: bool = field(default=False, init=False)
    # The metric whose best value is marked, chosen or default, and the best record so far.
    _marked: Monitor | None = field(init=False)
    _best: Record | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        console = self.console
        # A console that records is for a picture: it gets the table, wherever its output goes.
        self._plain = not (console.is_jupyter or console.record) and (
            not console.is_terminal or console.is_dumb_terminal
        )
        self.throughput = Throughput(self.run)
        self._table = Table(self.theme)
        self._output = self._new_output()
        self._heart = Ticker(min(1.0, (self.heartbeat or 0) / 4), self._beat)
        self._marked = self.monitor
        history = self.run.history
        for record in sorted([*history.evaluations, *history], key=lambda each: each.epoch):
            self._improved(record)

    def open(self) -> None:
        """Begin to show."""
        self._output.open()
        if self.heartbeat is not None and (self._plain or self.log is not None):
            self._heart.start()

    def introduce(self) -> None:
        """Show the header, once: when the first epoch begins, because by then every callback has received FitStart."""
        self._output.resume()
        if not self._introduced:
            self._introduced = True
            if self.header:
                self._output.put([*self._entries(header_entries(self.run)), *([] if self._plain else [Text("")])])

    def end_epoch(self, record: EpochRecord) -> None:
        """Show a finished epoch."""
        self.throughput.end_epoch(record)
        self.show(record)

    def show(self, record: Record) -> None:
        """Show an epoch, or an evaluation within one."""
        self.introduce()
        self._shown_at = monotonic()
        best, epochs, width = self._improved(record), self.run.epochs, self.console.width
        lines = self._rendered(line(record, epochs, best), lambda: self._table.lines(record, epochs, best, width))
        if self.rows:
            self._output.put(lines)

    def close(self, event: FitEnd) -> None:
        """Show how the fit has ended, and restore everything that was changed."""
        last: list[Text] = []
        try:
            self._heart.stop()
            if self.summary:
                level = logging.ERROR if event.status == "failed" else logging.INFO
                entries = summary_entries(event, self.throughput, self._marked, self._best)
                last = [Text(""), *self._entries(entries, level)]
        finally:
            self._output.close(last[self._plain :])
        if (error := self._output.error) is not None:
            message = f"RichLogger could not show everything, {type(error).__name__}: {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _new_output(self) -> Output:
        console, run, bars = self.console, self.run, Bars(self.throughput, self.theme)
        if console.is_jupyter:
            try:
                display = import_module("IPython.display").display
            except ModuleNotFoundError:
                return PlainOutput(console)
            return NotebookOutput(display, console.width, None if self.bars_interval is None else bars)
        interactive = console.is_terminal and console.is_interactive and not console.record
        if self._plain or not interactive or self.bars_interval is None:
            return PlainOutput(console)
        screen = Screen(console, bars, self.bars_interval, lambda: run.step)
        bars.unfinished = lambda: screen.unfinished
        return screen

    def _entries(self, entries: list[Entry], level: int = logging.INFO) -> list[Text]:
        return self._rendered(as_line(entries), lambda: as_lines(entries, self.theme, self.console.width), level)

    def _rendered(self, text: str, styled: Callable[[], list[Text]], level: int = logging.INFO) -> list[Text]:
        """Log a line, and return what the console shows: the same line if it is plain, else `styled`."""
        if self.log is not None:
            self.log.log(level, "%s", text)
        return [self.theme.text(text)] if self._plain else styled()

    def _improved(self, record: Record) -> str | None:
        """Return the name of the marked metric if its best value so far is in this record, else None."""
        default = next((name for name in ("val_loss", "loss") if name in record.metrics), None)
        if self.monitor is None and default and (self._marked is None or default == "val_loss" != self._marked.name):
            self._marked, self._best = Monitor(default, self.mode), None
        if self._marked is None:
            return None
        name = self._marked.name
        best = None if self._best is None else self._best.metrics[name]
        if not self._marked.is_better(record.metrics.get(name, math.nan), than=best):
            return None
        self._best = record
        return name

    def _beat(self) -> None:
        if monotonic() - self._shown_at < (self.heartbeat or 0):
            return
        self._shown_at = monotonic()
        run, throughput = self.run, self.throughput
        step, total, remaining = run.epoch_step, run.steps_per_epoch, throughput.remaining
        parts = [
            f"epoch {run.epoch:{len(str(run.epochs))}}/{run.epochs}",
            f"step {step}/{total}" if total else f"step {step}",
            formatting.speed(throughput.steps_per_second) if throughput.evaluating is None else "evaluating",
            "" if remaining is None else f"eta {formatting.clock(remaining)}",
        ]
        if lines := self._rendered("  ".join(filter(None, parts)), list):
            self._output.put(lines)
