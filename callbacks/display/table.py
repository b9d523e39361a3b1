"""Table: epochs as rows below the titles of their columns, or as lines that stand alone."""

from __future__ import annotations

import math

from attrs import define, field
from rich.text import Text

from lucid_train.callbacks.display import formatting
from lucid_train.callbacks.display.formatting import flow, join
from lucid_train.callbacks.display.theme import Theme
from lucid_train.history import EpochRecord, EvaluationRecord, History

# Wide enough for "step 1234567".
_STEP_WIDTH = 12
_EPOCH, _METRIC, _EVALUATION, _RATE, _NEXT_RATE, _TIME = range(6)
# A column has one of these places, and a title; a cell has a text and a style.
_Column = tuple[int, str]
_Cells = dict[_Column, tuple[str, str]]

# What is shown as a row: an epoch, or an evaluation within one.
Record = EpochRecord | EvaluationRecord


def records(history: History) -> list[Record]:
    """Return the epochs of a history and the evaluations within them, in the order in which they were finished."""
    return sorted([*history.evaluations, *history], key=lambda record: record.epoch)


def metric_names(*histories: History) -> list[str]:
    """Return the names of all metrics: those of the epochs, then those that only evaluations within epochs have."""
    found = [record.metrics for each in histories for record in (*each, *each.evaluations)]
    return list(dict.fromkeys(name for metrics in found for name in metrics))


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
    epoch = f"epoch {record.epoch:{len(str(epochs))}}/{epochs}"
    step = f"step {record.step}" if isinstance(record, EvaluationRecord) else ""
    metrics = [f"{name} {formatting.metric(value)}{'*' * (name == best)}" for name, value in record.metrics.items()]
    return "  ".join(
        filter(None, [epoch, step, *metrics, " ".join(_rates(record)), formatting.seconds(record.seconds)])
    )


@define(eq=False)
class Table:
    """Records in rows below titles; where the screen is too narrow for these, a few lines per record.

    A column never becomes narrower. The titles are shown again when there is a new column or one becomes wider.
    """

    _theme: Theme
    # The widths of the columns so far, from left to right.
    _widths: dict[_Column, int] = field(factory=dict)
    _shown: tuple[object, ...] = ()

    def lines(self, record: Record, epochs: int, best: str | None, width: int) -> list[Text]:
        """Return the lines of a record, with the titles above them if they are needed.

        Args:
            record: The record.
            epochs: The last epoch of the fit.
            best: The metric whose best value so far this is, or None.
            width: The width of the screen.
        """
        cells = self._cells(record, epochs, best)
        margin = " " * (width >= 60)
        for gap in ("  ", " "):
            titles = self._row({column: (column[1], "label") for column in self._widths}, margin, gap)
            if titles.cell_len < width or titles.cell_len == width < 60:
                shown, self._shown = self._shown, (width, *self._widths.items())
                row = self._row(cells, margin, gap)
                return [row] if shown == self._shown else [titles, row]
        self._shown = ()
        return self._card(record, epochs, best, width)

    def _cells(self, record: Record, epochs: int, best: str | None) -> _Cells:
        """Return the texts and styles of a record by their columns, which become as wide as they need to be."""
        cells = {(_EPOCH, "epoch"): (str(record.epoch).rjust(len(str(epochs))), "epoch")}
        for name, value in record.metrics.items():
            # The mark is in the gap, so that it takes no column.
            text = formatting.metric(value).rjust(formatting.METRIC_WIDTH) + ("*" if name == best else " ")
            place = _EVALUATION if name.startswith("val_") else _METRIC
            cells[place, f"{name} "] = text, _style(value, name == best)
        if isinstance(record, EpochRecord) and record.lr:
            used, following = formatting.rates_and_next(record.lr, record.last_lr)
            room = formatting.rates_width(record.lr, record.last_lr)
            cells[_RATE, "lr"] = used.rjust(room), "rate"
            cells[_NEXT_RATE, ""] = (f" -> {following}" if following else "").ljust(room + 4), "change"
        room = _STEP_WIDTH if isinstance(record, EvaluationRecord) else formatting.SECONDS_WIDTH
        cells[_TIME, "time"] = _time_text(record).rjust(room), "time"
        needed = {each: max(self._theme.width(each[1]), len(text)) for each, (text, _) in cells.items()}
        widths = {each: max(width, self._widths.get(each, 0)) for each, width in (self._widths | needed).items()}
        self._widths = dict(sorted(widths.items(), key=lambda item: item[0][0]))
        return cells

    def _row(self, cells: _Cells, margin: str, gap: str) -> Text:
        parts = [Text(margin)]
        for column, width in self._widths.items():
            text, style = cells.get(column, ("", ""))
            place = column[0]
            parts.append(self._theme.cell(text, width, style, left=place == _NEXT_RATE))
            parts.append(Text("" if place == _RATE else gap[place in (_METRIC, _EVALUATION) :]))
        return join(parts[:-1], "")

    def _card(self, record: Record, epochs: int, best: str | None, width: int) -> list[Text]:
        theme = self._theme
        indent = 2 if width >= 30 else 1
        head = [
            theme.text(f"epoch {record.epoch:{len(str(epochs))}}", "epoch"),
            *(theme.text(each, "rate") for each in _rates(record)),
            theme.text(_time_text(record), "time"),
        ]
        room = max(map(theme.width, record.metrics), default=0)
        grid = []
        for name, value in record.metrics.items():
            number = formatting.metric(value).rjust(formatting.METRIC_WIDTH) + ("*" if name == best else " ")
            cells = theme.cell(name, room, "label", left=True), theme.text(number, _style(value, name == best))
            grid.append(join(cells, " "))
        return [*flow(head, width, indent), *(Text(" " * indent, end="") + part for part in flow(grid, width - indent))]


def _rates(record: Record) -> list[str]:
    """Return the rates that an epoch used, and those for the next if they are others; nothing of an evaluation."""
    if isinstance(record, EvaluationRecord) or not record.lr:
        return []
    used, following = formatting.rates_and_next(record.lr, record.last_lr)
    return [f"lr {used}", f"-> {following}"] if following else [f"lr {used}"]


def _time_text(record: Record) -> str:
    """Return how long an epoch took, or when within it an evaluation was."""
    return formatting.seconds(record.seconds) if isinstance(record, EpochRecord) else f"step {record.step}"


def _style(value: float, best: bool) -> str:
    return "best" if best else "metric" if math.isfinite(value) else "nan"
