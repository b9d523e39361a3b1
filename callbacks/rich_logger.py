"""RichLogger: a run on the console."""

from __future__ import annotations

import copy
import logging
from typing import Any, final

from attrs import define, field
from rich.console import Console
from rich.theme import Theme

from lucid_train.callback import TRANSIENT, Callback
from lucid_train.callbacks.display.session import Session
from lucid_train.events import EpochReport, EpochStart, EvaluateEnd, EvaluateStart, FitEnd, FitStart
from lucid_train.monitor import Mode, Monitor
from lucid_train.validation import checked, flag, metric_name, one_of, real_number


def _console(instance: object, attribute: Any, value: object) -> None:
    if value is not None and not isinstance(value, Console):
        raise TypeError(f"'console' must be a rich.console.Console: {value!r}")


def _theme(instance: object, attribute: Any, value: object) -> None:
    if value is not None and not isinstance(value, Theme):
        raise TypeError(f"'theme' must be a rich.theme.Theme: {value!r}")


def _log(instance: object, attribute: Any, value: object) -> None:
    if value is not None and not isinstance(value, (str, logging.Logger)):
        raise TypeError(f"'log' must be a logging.Logger or the name of one: {value!r}")


@final
@define(eq=False)
class RichLogger(Callback):
    """Show a run on the console: a row per epoch, bars that move below, and in the end what it came to.

    On a terminal the rows are a table, and the best value so far of a metric has a star. Off a terminal, and on a dumb
    one, there is one plain line per epoch, which says the same. The rate of a row is what the epoch's last update used;
    `0.1 -> 0.05` says that the next epoch uses another.

    What others print or log meanwhile appears above the bars, and a debugger's prompt makes them go away until the run
    goes on. Bars are drawn by a thread; a step costs nothing. Where they cannot be had, inside another live display
    with an old version of rich for example, there are rows alone. Without `monitor` the star goes to what EarlyStopping
    monitors, if it is there, or else to the lowest "val_loss" or "loss". A run that is replayed is judged
    by what it was judged by live.

    A copy and a pickle of it have the settings. A pickle has no console, because a console cannot be pickled.

    Args:
        console: Where to show it; by default standard output as it is when a fit starts. One that records shows rows
            and no bars.
        bars: Show what moves.
        rows: Show a row, or a line, per epoch.
        header: Say what is about to be trained.
        summary: Say what it came to.
        monitor: The metric whose best value is marked.
        mode: Whether "min" or "max" of it is better.
        refresh_per_second: How often the bars are drawn. At most 10.
        heartbeat: Off a terminal, and in `log`, say where the run stands when nothing was said for so many seconds.
        timings: Say in the summary how long each hook of each callback took, the slowest first.
        log: A logger of `logging`, or its name, that is told the same in plain lines.
        theme: Styles by the names in `lucid_train.callbacks.display.theme.STYLES`, "lucid.best" for example; a theme of
            the console may set them too.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.
    """

    console: Console | None = field(default=None, validator=_console)
    bars: bool = field(default=True, kw_only=True, validator=checked(flag))
    rows: bool = field(default=True, kw_only=True, validator=checked(flag))
    header: bool = field(default=True, kw_only=True, validator=checked(flag))
    summary: bool = field(default=True, kw_only=True, validator=checked(flag))
    monitor: str | None = field(default=None, kw_only=True, validator=checked(metric_name))
    mode: Mode = field(default="min", kw_only=True, validator=checked(one_of, choices=("min", "max")))
    refresh_per_second: float = field(default=10, kw_only=True, validator=checked(real_number, above=0, most=10))
    heartbeat: float | None = field(default=None, kw_only=True, validator=checked(real_number, above=0))
    timings: bool = field(default=False, kw_only=True, validator=checked(flag))
    log: logging.Logger | str | None = field(default=None, kw_only=True, validator=_log)
    theme: Theme | None = field(default=None, kw_only=True, validator=_theme)
    _session: Session | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)

    def monitored(self) -> Monitor | None:
        return None if self.monitor is None else Monitor(self.monitor, self.mode)

    def settings(self) -> dict[str, Any]:
        return {}  # how a run is shown does not change it

    def on_fit_start(self, event: FitStart) -> None:
        self._session = Session(self, event.run)
        self._session.open()

    def on_epoch_start(self, event: EpochStart) -> None:
        if self._session is not None:
            self._session.introduce()
            self._session.pace.start_epoch()

    def on_evaluate_start(self, event: EvaluateStart) -> None:
        if self._session is not None:
            self._session.introduce()
            self._session.pace.start_evaluation()

    def on_evaluate_end(self, event: EvaluateEnd) -> None:
        if self._session is not None:
            self._session.pace.end_evaluation()

    def on_epoch_report(self, event: EpochReport) -> None:
        if self._session is not None:
            self._session.report(event.record)

    def on_fit_end(self, event: FitEnd) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close(event)

    def __deepcopy__(self, memo: dict[int, Any]) -> RichLogger:
        memo[id(self)] = duplicate = RichLogger.__new__(RichLogger)
        # A console is a place, not a value: the copy shows in the same one.
        duplicate.__setstate__({**copy.deepcopy(self.__getstate__(), memo), "console": self.console})
        return duplicate

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "console": None}
