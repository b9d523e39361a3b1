"""RichLogger: a run on the console."""

from __future__ import annotations

import copy
import logging
from typing import Any, final

from attrs import define, field
from rich.console import Console
from rich.theme import Theme as RichTheme

from lucid_train.callback import TRANSIENT, Callback
from lucid_train.callbacks.display.outputs import current_console
from lucid_train.callbacks.display.session import Session
from lucid_train.callbacks.display.theme import Theme
from lucid_train.events import EpochReport, EpochStart, EvaluateEnd, EvaluateStart, FitEnd, FitStart
from lucid_train.monitor import Mode, Monitor
from lucid_train.training.run import Run
from lucid_train.validation import checked, choice, flag, metric_name, real_number


def _instance(name: str, value: object, *, kind: type | tuple[type, ...], words: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name!r} must be {words}: {value!r}")


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
    callback with one monitors, as EarlyStopping does, or else the lowest "val_loss" or "loss". In a replay it is the
    metric of the recorded run.

    A deep copy shows on the same console. A pickle has no console, because consoles cannot be pickled.

    Args:
        console: The console; by default standard output as it is when a fit starts. One that records shows rows and
            no bars.
        bars: Show moving bars.
        rows: Show a row, or a line, per epoch, and per evaluation within an epoch.
        header: Show what is about to be trained.
        summary: Show what the fit has come to.
        monitor: The metric whose best value is marked.
        mode: Whether "min" or "max" of it is better.
        refresh_per_second: How often the bars are drawn. At most 10.
        heartbeat: In a pipe or a file, and in `log`, add a line on the run's progress when there has been none for so
            many seconds.
        timings: Show in the summary how long each hook of each callback took, the slowest first.
        log: A logger of `logging`, or its name, that gets the same content in plain lines.
        theme: Styles by the names in `lucid_train.callbacks.display.theme.STYLES`, "lucid.best" for example. A theme of
            the console may set them too.
    """

    console: Console | None = field(
        default=None, validator=checked(_instance, kind=Console, words="a rich.console.Console")
    )
    bars: bool = field(default=True, kw_only=True, validator=checked(flag))
    rows: bool = field(default=True, kw_only=True, validator=checked(flag))
    header: bool = field(default=True, kw_only=True, validator=checked(flag))
    summary: bool = field(default=True, kw_only=True, validator=checked(flag))
    monitor: str | None = field(default=None, kw_only=True, validator=checked(metric_name))
    mode: Mode = field(default="min", kw_only=True, validator=choice("min", "max"))
    refresh_per_second: float = field(default=10, kw_only=True, validator=checked(real_number, above=0, most=10))
    heartbeat: float | None = field(default=None, kw_only=True, validator=checked(real_number, above=0))
    timings: bool = field(default=False, kw_only=True, validator=checked(flag))
    log: logging.Logger | str | None = field(
        default=None,
        kw_only=True,
        validator=checked(_instance, kind=(logging.Logger, str), words="a logging.Logger or the name of one"),
    )
    theme: RichTheme | None = field(
        default=None, kw_only=True, validator=checked(_instance, kind=RichTheme, words="a rich.theme.Theme")
    )
    _session: Session | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)

    def monitored(self) -> Monitor | None:
        return None if self.monitor is None else Monitor(self.monitor, self.mode)

    def settings(self) -> dict[str, Any]:
        return {}  # how a run is shown does not change it

    def on_fit_start(self, event: FitStart) -> None:
        console = current_console() if self.console is None else self.console
        self._session = Session(
            run=event.run,
            console=console,
            theme=Theme.of(console, self.theme),
            monitor=self.monitored() or _monitor_of(event.run),
            mode=self.mode,
            bars_interval=1 / self.refresh_per_second if self.bars else None,
            rows=self.rows,
            header=self.header,
            summary=self.summary,
            heartbeat=self.heartbeat,
            log=logging.getLogger(self.log) if isinstance(self.log, str) else self.log,
        )
        if self.timings:
            event.run.measure_hooks()
        self._session.open()

    def on_epoch_start(self, event: EpochStart) -> None:
        if self._session is not None:
            self._session.introduce()
            self._session.throughput.start_epoch()

    def on_evaluate_start(self, event: EvaluateStart) -> None:
        if self._session is not None:
            self._session.introduce()
            self._session.throughput.start_evaluation()

    def on_evaluate_end(self, event: EvaluateEnd) -> None:
        if self._session is not None:
            self._session.throughput.end_evaluation()
            if event.within_epoch:
                self._session.show(event.run.history.evaluations[-1])

    def on_epoch_report(self, event: EpochReport) -> None:
        if self._session is not None:
            self._session.end_epoch(event.record)

    def on_fit_end(self, event: FitEnd) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close(event)

    def __deepcopy__(self, memo: dict[int, Any]) -> RichLogger:
        memo[id(self)] = duplicate = RichLogger.__new__(RichLogger)
        # The console is shared, as an open file would be.
        duplicate.__setstate__({**copy.deepcopy(self.__getstate__(), memo), "console": self.console})
        return duplicate

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "console": None}


def _monitor_of(run: Run) -> Monitor | None:
    """Return the metric by which a run is judged: in a replay the recorded one, else that of the first callback."""
    recorded: Monitor | None = getattr(run, "monitored", None)
    found = [monitor for each in run.callbacks if (monitor := each.monitored()) is not None]
    return next(iter(found), None) if recorded is None else recorded
