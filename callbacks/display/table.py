"""Table: an epoch as a row below the titles of its columns, or as a line that stands alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from attrs import define, field
from rich.text import Text

from lucid_train.callbacks.display import formatting
from lucid_train.callbacks.display.formatting import flow, join
from lucid_train.callbacks.display.theme import Theme
from lucid_train.history import EpochRecord

_LAST_COLUMNS = ("lr", "next", "time")


@define(frozen=True, kw_only=True)
class Row:
    """What is shown of an epoch, or of an evaluation within one.

    Args:
        epoch: The epoch.
        step: The step after which it was evaluated, or None for a whole epoch.
        metrics: The metrics.
        lr: The rates that the epoch's last update used.
        last_lr: The rates for the next update.
        seconds: How long the epoch took.
    """

    epoch: int
    metrics: Mapping[str, float]
    step: int | None = None
    lr: tuple[float, ...] = ()
    last_lr: tuple[float, ...] = ()
    seconds: float = 0.0

    @classmethod
    def of(cls, record: EpochRecord) -> Row:
        """Return the row of a finished epoch."""
        return cls(
            epoch=record.epoch,
            metrics=record.metrics,
            lr=record.lr,
            last_lr=record.last_lr,
            seconds=record.seconds,
        )

    @property
    def time(self) -> str:
        """How long the epoch took, or when within it the evaluation was."""
        return formatting.seconds(self.seconds) if self.step is None else f"step {self.step}"


def line(row: Row, epochs: int, best: str | None) -> str:
    """Return a row as a line that needs no titles.

    Args:
        row: The row.
        epochs: The last epoch of the fit.
        best: The metric whose best value so far this is, or None.

    >>> line(Row(epoch=2, seconds=1.2, metrics={"loss": 0.25}, lr=(0.1,), last_lr=(0.05,)), 10, "loss")
    'epoch  2/10  loss 0.2500*  lr 0.1 -> 0.05  1.20s'
    >>> line(Row(epoch=2, step=150, metrics={"val_loss": 0.25}), 10, None)
    'epoch  2/10  step 150  val_loss 0.2500'
    """
    parts = [f"epoch {row.epoch:{len(str(epochs))}}/{epochs}"]
    if row.step is not None:
        parts.append(row.time)
    parts += [f"{name} {formatting.metric(value)}{'*' * (name == best)}" for name, value in row.metrics.items()]
    if row.lr:
        parts.append(f"lr {formatting.rates_and_change(row.lr, row.last_lr)}")
    if row.step is None:
        parts.append(row.time)
    return "  ".join(parts)


@define(eq=False)
class Table:
    """Rows below titles; where the screen is too narrow for them, a few lines per row.

    A column never becomes narrower. The titles are shown again when there is a new column or one becomes wider.
    """

    _theme: Theme
    _widths: dict[str, int] = field(factory=dict)
    _shown: tuple[int, dict[str, int]] | None = None

    def lines(self, row: Row, epochs: int, best: str | None, width: int) -> list[Text]:
        """Return the lines of a row, with the titles above it if they are needed.

        Args:
            row: The row.
            epochs: The last epoch of the fit.
            best: The metric whose best value so far this is, or None.
            width: The width of the screen.
        """
        self._grow(row, len(str(max(epochs, row.epoch))))
        margin = " " * (width >= 60)
        for gap in ("  ", " "):
            titles = Text(margin, end="") + self._titles(gap)
            if titles.cell_len < width or titles.cell_len == width < 60:
                shown, self._shown = self._shown, (width, dict(self._widths))
                cells = Text(margin, end="") + self._cells(row, best, gap)
                return [cells] if shown == self._shown else [titles, cells]
        self._shown = None
        return self._card(row, len(str(epochs)), best, width)

    def _grow(self, row: Row, digits: int) -> None:
        wanted = {f"metric {name}": max(formatting.METRIC_WIDTH, self._theme.width(name)) for name in row.metrics}
        wanted = {"epoch": max(5, digits), **wanted, "time": max(formatting.SECONDS_WIDTH, len(row.time))}
        if row.lr:
            used, following = formatting.rates_and_next(row.lr, row.last_lr)
            room = formatting.rates_width(row.lr, row.last_lr)
            wanted |= {"lr": max(room, len(used)), "next": max(room, len(following))}
        for name, width in wanted.items():
            self._widths[name] = max(width, self._widths.get(name, 0))
        # The metrics come in the order in which they are first seen, those of evaluations after the others.
        self._widths = dict(sorted(self._widths.items(), key=lambda item: _place(item[0])))

    def _titles(self, gap: str) -> Text:
        theme, widths = self._theme, self._widths
        names = [theme.cell(name.removeprefix("metric "), widths[name], "label") for name in widths if name != "next"]
        if "next" in widths:
            names[-2].pad_right(widths["next"] + 4)
        return join(names, gap)

    def _cells(self, row: Row, best: str | None, gap: str) -> Text:
        theme, widths = self._theme, self._widths
        cells = theme.cell(str(row.epoch), widths["epoch"], "epoch")
        next_gap = gap
        for column, width in widths.items():
            if column.startswith("metric "):
                name = column.removeprefix("metric ")
                value = formatting.metric(row.metrics[name]) if name in row.metrics else ""
                style = _style(row.metrics.get(name, 0.0), name == best)
                # The mark is in the gap, so that it takes no column.
                cells += Text(next_gap) + theme.cell(value, width, style)
                cells += theme.text("*" if name == best else " ", style)
                next_gap = gap[1:]
        if "lr" in widths:
            used, following = formatting.rates_and_next(row.lr, row.last_lr)
            cells += Text(next_gap) + theme.cell(used, widths["lr"], "rate")
            cells += theme.cell(f" -> {following}" if following else "", widths["next"] + 4, "change", left=True)
            next_gap = gap
        return cells + Text(next_gap) + theme.cell(row.time, widths["time"], "time")

    def _card(self, row: Row, digits: int, best: str | None, width: int) -> list[Text]:
        theme = self._theme
        indent = 2 if width >= 30 else 1
        head = [theme.text(f"epoch {row.epoch:{digits}}", "epoch")]
        if row.lr:
            pieces = _pieces(f"lr {formatting.rates_and_change(row.lr, row.last_lr)}", width - indent)
            head += flow([theme.text(piece, "rate") for piece in pieces], width - indent, " ")
        head.append(theme.text(row.time, "time"))
        room = max(map(theme.width, row.metrics), default=0)
        if room + formatting.METRIC_WIDTH + 4 > width:
            room = 0
        parts = []
        for name, value in row.metrics.items():
            number = formatting.metric(value).rjust(formatting.METRIC_WIDTH if room else 0) + "*" * (name == best)
            cell = theme.cell(
                number, formatting.METRIC_WIDTH + 1 if room else 0, _style(value, name == best), left=True
            )
            parts.append(join([theme.cell(name, room, "label", left=True), cell], " "))
        grid = flow(parts, width - indent)
        return [*flow(head, width, indent=indent), *(Text(" " * indent, end="") + part for part in grid)]


def _place(column: str) -> int:
    if column in _LAST_COLUMNS:
        return 3 + _LAST_COLUMNS.index(column)
    return 0 if column == "epoch" else 2 if column.startswith("metric val_") else 1


def _pieces(rates: str, width: int) -> list[str]:
    """Return rates in pieces between which a line may end: where one ends or changes, or at spaces if need be."""
    pieces = re.split("(?<=,) | (?=-> )", rates)
    return pieces if max(map(len, pieces)) <= width else rates.split(" ")


def _style(value: float, best: bool) -> str:
    return "best" if best else "metric" if math.isfinite(value) else "nan"
