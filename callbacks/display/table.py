"""Table: epochs as rows below the titles of their columns, or as lines that stand alone."""

from __future__ import annotations

import math
import re

from attrs import define, field
from rich.text import Text

from lucid_train.callbacks.display import formatting
from lucid_train.callbacks.display.formatting import flow, join
from lucid_train.callbacks.display.theme import Theme
from lucid_train.history import EpochRecord, EvaluationRecord

# Wide enough for "step 1234567".
_STEP_WIDTH = 12

# What is shown as a row: an epoch, or an evaluation within one.
Record = EpochRecord | EvaluationRecord


def line(record: Record, epochs: int, best: str | None) -> str:
    """Return a record as a line that needs no titles.

    Args:
        record: The record.
        epochs: The last epoch of the fit.
        best: The metric whose best value so far this is, or None.

    >>> line(EpochRecord(epoch=2, seconds=1.2, metrics={"loss": 0.25}, lr=(0.1,), last_lr=(0.05,)), 10, "loss")
    'epoch  2/10  loss 0.2500*  lr 0.1 -> 0.05  1.20s'
    >>> line(EvaluationRecord(epoch=2, step=150, seconds=0.5, metrics={"val_loss": 0.25}), 10, None)
    'epoch  2/10  step 150  val_loss 0.2500  0.50s'
    """
    parts = [f"epoch {record.epoch:{len(str(epochs))}}/{epochs}"]
    if isinstance(record, EvaluationRecord):
        parts.append(f"step {record.step}")
    parts += [f"{name} {formatting.metric(value)}{'*' * (name == best)}" for name, value in record.metrics.items()]
    if rates := formatting.rates_and_change(*_rates(record)):
        parts.append(f"lr {rates}")
    return "  ".join([*parts, formatting.seconds(record.seconds)])


@define(eq=False)
class Table:
    """Records in rows below titles; where the screen is too narrow for these, a few lines per record.

    A column never becomes narrower. The titles are shown again when there is a new column or one becomes wider.
    """

    _theme: Theme
    # The widths of the columns so far; that of the rates is 0 as long as there are none.
    _epoch: int = 5
    _metrics: dict[str, int] = field(factory=dict)
    _lr: int = 0
    _next: int = 0
    _time: int = formatting.SECONDS_WIDTH
    _shown: tuple[object, ...] = ()

    def lines(self, record: Record, epochs: int, best: str | None, width: int) -> list[Text]:
        """Return the lines of a record, with the titles above them if they are needed.

        Args:
            record: The record.
            epochs: The last epoch of the fit.
            best: The metric whose best value so far this is, or None.
            width: The width of the screen.
        """
        self._grow(record, len(str(max(epochs, record.epoch))))
        margin = " " * (width >= 60)
        for gap in ("  ", " "):
            titles = Text(margin, end="") + self._titles(gap)
            if titles.cell_len < width or titles.cell_len == width < 60:
                shown = self._shown
                self._shown = width, self._epoch, *self._metrics, self._lr, self._next, self._time
                row = Text(margin, end="") + self._row(record, best, gap)
                return [row] if shown == self._shown else [titles, row]
        self._shown = ()
        return self._card(record, epochs, best, width)

    def _grow(self, record: Record, digits: int) -> None:
        self._epoch = max(self._epoch, digits)
        wanted = {name: max(formatting.METRIC_WIDTH, self._theme.width(name)) for name in record.metrics}
        # In the order in which the metrics were first seen, those of evaluations after the others.
        columns = sorted((self._metrics | wanted).items(), key=lambda column: column[0].startswith("val_"))
        self._metrics = dict(columns)
        if isinstance(record, EvaluationRecord):
            self._time = max(self._time, _STEP_WIDTH, len(_time_text(record)))
        elif record.lr:
            used, following = formatting.rates_and_next(record.lr, record.last_lr)
            room = formatting.rates_width(record.lr, record.last_lr)
            self._lr, self._next = max(self._lr, room, len(used)), max(self._next, room, len(following))

    def _titles(self, gap: str) -> Text:
        cell = self._theme.cell
        titles = [cell(name, width, "label") for name, width in [("epoch", self._epoch), *self._metrics.items()]]
        if self._lr:
            titles.append(cell("lr", self._lr, "label"))
            titles[-1].pad_right(self._next + 4)
        return join([*titles, cell("time", self._time, "label")], gap)

    def _row(self, record: Record, best: str | None, gap: str) -> Text:
        theme = self._theme
        cells = [theme.cell(str(record.epoch), self._epoch, "epoch"), Text(gap)]
        for name, width in self._metrics.items():
            value = formatting.metric(record.metrics[name]) if name in record.metrics else ""
            style = _style(record.metrics.get(name, 0.0), name == best)
            # The mark is in the gap, so that it takes no column.
            cells += [theme.cell(value, width, style), theme.text("*" if name == best else " ", style), Text(gap[1:])]
        if self._lr:
            used, following = formatting.rates_and_next(*_rates(record))
            change = f" -> {following}" if following else ""
            cells += [theme.cell(used, self._lr, "rate"), theme.cell(change, self._next + 4, "change", left=True)]
            cells.append(Text(gap))
        return join([*cells, theme.cell(_time_text(record), self._time, "time")], "")

    def _card(self, record: Record, epochs: int, best: str | None, width: int) -> list[Text]:
        theme = self._theme
        indent = 2 if width >= 30 else 1
        head = [theme.text(f"epoch {record.epoch:{len(str(epochs))}}", "epoch")]
        if rates := formatting.rates_and_change(*_rates(record)):
            pieces = _pieces(f"lr {rates}", width - indent)
            head += flow([theme.text(piece, "rate") for piece in pieces], width - indent, " ")
        head.append(theme.text(_time_text(record), "time"))
        room, digits = max(map(theme.width, record.metrics), default=0), formatting.METRIC_WIDTH
        if room + digits + 4 > width:
            room = digits = 0
        parts = []
        for name, value in record.metrics.items():
            number = formatting.metric(value).rjust(digits) + ("*" if name == best else " " * (digits > 0))
            cells = theme.cell(name, room, "label", left=True), theme.text(number, _style(value, name == best))
            parts.append(join(cells, " "))
        grid = flow(parts, width - indent)
        return [*flow(head, width, indent=indent), *(Text(" " * indent, end="") + part for part in grid)]


def _rates(record: Record) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the rates that an epoch used and those for the next; none of an evaluation."""
    return (record.lr, record.last_lr) if isinstance(record, EpochRecord) else ((), ())


def _time_text(record: Record) -> str:
    """Return how long an epoch took, or when within it an evaluation was."""
    return formatting.seconds(record.seconds) if isinstance(record, EpochRecord) else f"step {record.step}"


def _pieces(rates: str, width: int) -> list[str]:
    """Return rates in pieces between which a line may end: where one ends or changes, or at spaces if need be."""
    pieces = re.split("(?<=,) | (?=-> )", rates)
    return pieces if max(map(len, pieces)) <= width else rates.split(" ")


def _style(value: float, best: bool) -> str:
    return "best" if best else "metric" if math.isfinite(value) else "nan"
