"""RichLogger: a run on the console."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from logging import ERROR, INFO, Logger, getLogger
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar, final

from attrs import define, evolve, field
from rich.console import Console, RenderableType
from rich.text import Text
from rich.theme import Theme as RichTheme

from lucid_train.callback import TRANSIENT, Callback, Ranks
from lucid_train.callbacks.display.bars import Bars
from lucid_train.callbacks.display.columns import DEFAULT_COLUMNS, Column
from lucid_train.callbacks.display.formatting import Numbers
from lucid_train.callbacks.display.outputs import NotebookOutput, Output, current_console
from lucid_train.callbacks.display.summary import (
    WIDTH,
    Entry,
    as_lines,
    as_plain,
    awaited_lines,
    header_entries,
    saved_entries,
    summary_entries,
)
from lucid_train.callbacks.display.table import Record, Table, line, records
from lucid_train.callbacks.display.terminal.screen import Screen
from lucid_train.callbacks.display.theme import Theme
from lucid_train.callbacks.display.throughput import Throughput
from lucid_train.callbacks.display.ticker import Ticker
from lucid_train.description import error_text
from lucid_train.events import (
    CommandAnswered,
    EpochReport,
    EpochStart,
    EvaluateEnd,
    EvaluateStart,
    FitEnd,
    FitStart,
    Saved,
)
from lucid_train.history import EpochRecord, EvaluationRecord
from lucid_train.monitor import Mode, Monitor
from lucid_train.training.run import Run
from lucid_train.validation import checked, flag, listed, metric_name, one_of, real_number

# Lines of a screen that are not the rows below their titles: the moving ones, and one that they are separated by.
_BELOW = 4


def _instance(name: str, value: object, *, kinds: tuple[type, ...]) -> None:
    if not isinstance(value, kinds):
        names = [f"{kind.__module__}.{kind.__name__}".removeprefix("builtins.") for kind in kinds]
        raise TypeError(f"{name!r} must be a {' or a '.join(names)}: {value!r}")


def _as_names(value: Iterable[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = listed("metrics", value, "names")
    return tuple(metric_name(f"metrics[{index}]", name) for index, name in enumerate(names))


def _as_columns(value: Iterable[Column]) -> tuple[Column, ...]:
    columns = listed("columns", value, "columns")
    for index, column in enumerate(columns):
        if not isinstance(column, Column):
            cure = "derive it from lucid_train.callbacks.display.columns.Column"
            raise TypeError(f"'columns[{index}]' must be a Column, {cure}: {column!r}")
    return columns


@final
@define(eq=False)
class RichLogger(Callback):
    """Show a run on the console: a row per epoch, moving bars below, and a summary at the end.

    On a terminal the rows are a table, and the best value of a metric so far is marked with a star. In a pipe or a
    file, and on a dumb terminal, there is a plain line per epoch with the same content. The rate in a row is the one
    that the epoch's last update used; `0.1 -> 0.05` says that the next epoch uses another.

    What others print or log during the run appears above the bars. A debugger's prompt hides them until the run goes
    on. A thread draws the bars; a step costs nothing. Where bars are impossible, inside another live display with an
    old version of rich for example, there are rows alone. Without `monitor` the star marks the metric that the first
    callback with one monitors, as EarlyStopping does, or else "val_loss" or "loss". In a replay it is the
    metric of the recorded run.

    A deep copy shows on the same console. A pickle has no console, because consoles cannot be pickled.

    Args:
        console: The console; by default standard output as it is when a fit starts. One that records shows rows and
            no bars.
        bars: Show moving bars.
        rows: Show a row, or a line, per epoch, and per evaluation within an epoch.
        header: Show what is about to be trained.
        summary: Show how the fit has ended and its results.
        monitor: The metric whose best value is marked.
        mode: Whether "min" or "max" of it is better. Left out, it follows if the name ends in loss or accuracy.
        metrics: Which metrics are shown while an epoch runs and in its row, in this order; all by default.
        columns: What the moving lines and the heartbeats show besides, for each a `Column` of
            `lucid_train.callbacks.display.columns`: by default the share of the time that is spent waiting for data.
        refresh_per_second: How often the bars are drawn. At most 10.
        heartbeat: In a pipe or a file, and in `log`, add a line on the run's progress when there has been none for so
            many seconds.
        timings: Show in the summary how long each hook of each callback took, the slowest first.
        log: A logger of `logging`, or its name, that gets the same content in plain lines.
        theme: Styles by the names in `lucid_train.callbacks.display.theme.STYLES`, "lucid.best" for example. A theme of
            the console may set them too.
    """

    ranks: ClassVar[Ranks] = "first"

    console: Console | None = field(default=None, validator=checked(_instance, kinds=(Console,)))
    bars: bool = field(default=True, kw_only=True, validator=checked(flag))
    rows: bool = field(default=True, kw_only=True, validator=checked(flag))
    header: bool = field(default=True, kw_only=True, validator=checked(flag))
    summary: bool = field(default=True, kw_only=True, validator=checked(flag))
    monitor: str | None = field(default=None, kw_only=True, validator=checked(metric_name))
    mode: Mode | None = field(default=None, kw_only=True, validator=checked(one_of, choices=("min", "max")))
    metrics: tuple[str, ...] | None = field(default=None, kw_only=True, converter=_as_names)
    columns: tuple[Column, ...] = field(default=DEFAULT_COLUMNS, kw_only=True, converter=_as_columns)
    refresh_per_second: float = field(default=10, kw_only=True, validator=checked(real_number, above=0, most=10))
    heartbeat: float | None = field(default=None, kw_only=True, validator=checked(real_number, above=0))
    timings: bool = field(default=False, kw_only=True, validator=checked(flag))
    log: Logger | str | None = field(default=None, kw_only=True, validator=checked(_instance, kinds=(Logger, str)))
    theme: RichTheme | None = field(default=None, kw_only=True, validator=checked(_instance, kinds=(RichTheme,)))
    _session: _Session = field(init=False, repr=False, metadata=TRANSIENT)

    def __attrs_post_init__(self) -> None:
        if (monitor := self.monitored()) is not None:
            self.mode = monitor.mode

    def monitored(self) -> Monitor | None:
        return None if self.monitor is None else Monitor(self.monitor, self.mode)

    def settings(self) -> dict[str, Any]:
        return {}  # how a run is shown does not change it

    @property
    def moving(self) -> RenderableType:
        """The moving lines, while a fit runs, for a layout of rich of your own; nothing otherwise."""
        return self._session.bars if hasattr(self, "_session") else ""

    def on_fit_start(self, event: FitStart) -> None:
        if self.monitor is not None:
            event.run.check_metric(self.monitor, event)
        self._session = _Session(self, event.run)
        event.run.at_interruption(self._session.alert)
        if self.timings:
            event.run.measure_hooks()
        for column in self.columns:
            column.begin(event.run)
        self._session.open()
        # By then every callback has received FitStart.
        event.run.at_safe_point(self._session.introduce)

    def on_epoch_start(self, event: EpochStart) -> None:
        self._session.introduce()
        self._session.throughput.start_epoch()

    def on_evaluate_start(self, event: EvaluateStart) -> None:
        self._session.introduce()
        self._session.throughput.start_evaluation()
        self._session.throughput.running.take()
        if event.run.interruption is not None:  # it does not end with the step, as was said
            self._session.say_what_is_awaited()

    def on_evaluate_end(self, event: EvaluateEnd) -> None:
        self._session.throughput.end_evaluation()
        if event.within_epoch:
            self._session.show(event.run.history.evaluations[-1])

    def on_epoch_report(self, event: EpochReport) -> None:
        self._session.throughput.end_epoch(event.record)
        self._session.show(event.record)

    def on_saved(self, event: Saved) -> None:
        if hasattr(self, "_session"):  # not of a checkpoint that is asked for at FitEnd
            self._session.saved = event.file

    def on_command_answered(self, event: CommandAnswered) -> None:
        self._session.show_answer(event)

    def on_fit_end(self, event: FitEnd) -> None:
        if hasattr(self, "_session"):  # it is not where FitStart failed
            session = self._session
            del self._session
            session.close(event)

    def __deepcopy__(self, memo: dict[int, Any]) -> RichLogger:
        memo[id(self)] = duplicate = RichLogger.__new__(RichLogger)
        # The console is shared, as an open file would be.
        duplicate.__setstate__({**copy.deepcopy(self.__getstate__(), memo), "console": self.console})
        return duplicate

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "console": None}


class _Session:
    """One fit as the logger shows it, from FitStart to FitEnd; it uses the run's public attributes alone."""

    def __init__(self, logger: RichLogger, run: Run) -> None:
        self._logger = logger
        self._run = run
        self._console = console = current_console() if logger.console is None else logger.console
        self._theme = Theme.of(console, logger.theme)
        self._log = getLogger(logger.log) if isinstance(logger.log, str) else logger.log
        # A console that records is for a picture: it gets the table, wherever its output goes.
        picture = console.is_jupyter or console.record
        self._plain = not picture and (not console.is_terminal or console.is_dumb_terminal)
        self.throughput = Throughput(run)
        self._numbers = Numbers()
        self.bars = Bars(self.throughput, self._theme, self._numbers, logger.metrics, logger.columns)
        self._table = Table(self._theme, self._numbers)
        self._output = self._new_output()
        self._heart = Ticker(min(1.0, (logger.heartbeat or 0) / 4), self._beat)
        self._alert = Ticker(0.0, self.say_what_is_awaited)
        self._shown_at = monotonic()
        self._introduced = False
        self.saved: Path | None = None
        # The metric whose best value is marked; by default "val_loss" once there is one, until then "loss".
        self._monitor = logger.monitored() or run.monitored
        self._by_default = self._monitor is None
        self._best: Record | None = None
        for record in records(run.history):  # as if they had been shown
            self._note(record)

    def open(self) -> None:
        """Begin to show."""
        self._output.open()
        if self._logger.heartbeat is not None and (self._plain or self._log is not None):
            self._heart.start()

    def introduce(self) -> None:
        """Show the header, once, if there is something to train."""
        self._output.resume()
        if self._introduced or len(self._run.history) >= self._run.epochs:
            return
        self._introduced = True
        run, console = self._run, self._console
        self._expect_rates()
        changing = any(one.key == "lr" for each in run.callbacks for one in each.schedules())
        scrolls = console.is_terminal and not (console.record or console.is_jupyter)
        explained = self._logger.header and not self._by_default
        height = console.height - _BELOW if scrolls else None
        steps = run.epochs * (run.steps_per_epoch or 0)
        place = "" if run.evaluate_steps is None else f"step {steps}"
        self._table = Table(self._theme, self._numbers, changing, explained, height, place, self._logger.metrics)
        if self._logger.header:
            entries = header_entries(run, self._monitor if explained else None)
            self._output.put([*self._entries(entries), *([] if self._plain else [Text("")])])

    def show(self, record: Record) -> None:
        """Show an epoch, or an evaluation within one."""
        self.introduce()
        self._shown_at = monotonic()
        self._expect_rates()
        is_best, monitor = self._note(record), None if self._monitor is None else self._monitor.name
        epochs, width, chosen = self._run.epochs, self._console.width, self._logger.metrics
        if chosen is not None:
            record = evolve(record, metrics={name: record.metrics[name] for name in chosen if name in record.metrics})
        if self._logger.rows:
            plain = partial(line, record, epochs, monitor if is_best else None, self._numbers)
            styled = partial(self._table.lines, record, epochs, monitor, is_best, width)
            self._output.put(self._rendered(lambda: [self._theme.text(plain())], styled))

    def show_answer(self, event: CommandAnswered) -> None:
        """Show what came of a command."""
        by = f" by {event.by}" if event.by else ""
        entry = Entry("done" if event.done else "refused", f"{event.command}{by}: {event.answer}")
        self._output.put(self._entries([entry]))

    def alert(self) -> None:
        """Say that the run is interrupted; in a thread, as the handler of a signal calls this."""
        self._alert.start()

    def say_what_is_awaited(self) -> bool:
        """Say what the interruption of the run waits for; return True."""
        lines = partial(awaited_lines, self._run, self.throughput, self._theme)
        self._output.put(self._rendered(lambda: lines(WIDTH), lambda: lines(self._console.width)))
        return True

    def close(self, event: FitEnd) -> None:
        """Show how the fit has ended, and restore everything that was changed."""
        last: list[Text] = []
        try:
            self._heart.stop()
            self._alert.stop()
            if self._logger.summary:
                level = ERROR if event.status == "failed" else INFO
                entries = summary_entries(event, self.throughput, self._monitor, self._best, self._numbers)
                entries += saved_entries(event, self.saved)
                last = [*([] if self._plain else [Text("")]), *self._entries(entries, level)]
        finally:
            self._output.close(last)
        if self._logger.rows and isinstance(self._output, NotebookOutput):
            event.history.rows_are_shown()
        if (error := self._output.error) is not None:
            warning = RuntimeWarning(f"RichLogger could not show everything, {error_text(error)}")
            warning.__cause__ = error  # for whoever makes it an error, as the command line does
            warnings.warn(warning, stacklevel=2)

    def _new_output(self) -> Output:
        console, run, logger, bars = self._console, self._run, self._logger, self.bars
        if console.is_jupyter:
            try:
                display = import_module("IPython.display").display
            except ModuleNotFoundError:
                return Output(console)
            return NotebookOutput(console, display, bars if logger.bars else None)
        if not logger.bars or not console.is_interactive or console.record or self._plain:
            return Output(console)
        screen = Screen(console, bars, 1 / logger.refresh_per_second, lambda: run.step)
        bars.unfinished = lambda: screen.unfinished
        return screen

    def _entries(self, entries: list[Entry], level: int = INFO) -> list[Text]:
        plain = partial(as_plain, entries, self._theme)
        return self._rendered(plain, lambda: as_lines(entries, self._theme, self._console.width), level)

    def _rendered(
        self, plain: Callable[[], list[Text]], styled: Callable[[], list[Text]], level: int = INFO
    ) -> list[Text]:
        """Log plain lines, and return what the console shows: the same lines if it is plain, else `styled`."""
        lines = plain() if self._plain or self._log is not None else []
        if self._log is not None:
            for text in lines:
                self._log.log(level, "%s", text.plain)
        return lines if self._plain else styled()

    def _note(self, record: Record) -> bool:
        """Choose the formats that its numbers need, and return whether it has the best value of the marked metric."""
        metrics = record.metrics
        for name, value in metrics.items():
            self._numbers.metric(name, value)
        for name, values in record.scheduled.items() if isinstance(record, EpochRecord) else ():
            # By the first epoch's, so that a run that is resumed has the format that it had.
            first = next((each.scheduled[name] for each in self._run.history if name in each.scheduled), values)
            self._numbers.expect_scheduled(name, first)
        if self._by_default and (self._monitor is None or self._monitor.name == "loss"):
            name = "val_loss" if "val_loss" in metrics else "loss"
            if name in metrics and (self._monitor is None or name == "val_loss"):
                self._monitor, self._best = Monitor(name, self._logger.mode), None
        if self._monitor is None or (isinstance(record, EvaluationRecord) and record.asked):
            return False
        before, self._best = self._best, self._monitor.best_of([record], self._best)
        return self._best is not before

    def _expect_rates(self) -> None:
        """Choose the format of the rates by the base rates, else by those of the first epoch; never by those of now.

        A run that is resumed has the format that it had.
        """
        if self._numbers.knows_rates:
            return
        groups = () if self._run.optimizer is None else self._run.optimizer.param_groups
        bases = [group.get("initial_lr") for group in groups]
        used = next((record.lr for record in self._run.history), ())
        if known := used if None in bases else [float(base) for base in bases]:
            self._numbers.expect_rates(known)

    def _beat(self) -> None:
        self.bars.values()  # so that those of a line are not as old as the line before
        if monotonic() - self._shown_at < (self._logger.heartbeat or 0):
            return
        self._shown_at = monotonic()
        if lines := self._rendered(lambda: [self._theme.text(self.bars.as_line(WIDTH))], list):
            self._output.put(lines)
