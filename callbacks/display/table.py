"""Table: epochs as rows below the titles of their columns, or as lines that stand alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from attrs import define, field
from rich.text import Text

from lucid_train.callbacks.display import formatting
from lucid_train.callbacks.display.formatting import Numbers, flow, join, seconds
from lucid_train.callbacks.display.theme import Theme
from lucid_train.history import EpochRecord, EvaluationRecord, History

_EPOCH, _METRIC, _EVALUATION, _RATE, _SCHEDULED, _TIME = range(6)
# A column has one of these places, and a name.
_Column = tuple[int, str]

# What is shown as a row: an epoch, or an evaluation within one.
Record = EpochRecord | EvaluationRecord


def records(history: History) -> list[Record]:
    """Return the epochs of a history and the evaluations within them, in the order in which they were finished."""
    return sorted([*history.evaluations, *history], key=lambda record: record.epoch)


def candidates(history: History) -> list[Record]:
    """Return those of `records` that may be the best: not those of evaluations that somebody has asked for."""
    return [each for each in records(history) if isinstance(each, EpochRecord) or not each.asked]


def metric_names(*histories: History) -> list[str]:
    """Return the names of all metrics: those of the epochs, then those that only evaluations within epochs have."""
    found = [record.metrics for each in histories for record in (*each, *each.evaluations)]
    return list(dict.fromkeys(name for metrics in found for name in metrics))


def line(record: Record, epochs: int, best: str | None, numbers: Numbers) -> str:
    """Return a record as a line that needs no titles.

    Args:
        record: The record.
        epochs: The last epoch of the fit.
        best: The metric whose best value so far this is, or None.
        numbers: How numbers are written.

    >>> record = EpochRecord(epoch=2, seconds=1.2, metrics={"loss": 0.25}, lr=(0.1,), last_lr=(0.05,))
    >>> line(record, 10, "loss", Numbers())
    'epoch  2/10  loss 0.2500*  lr 0.1000 -> 0.0500  1.20s'
    >>> line(EvaluationRecord(epoch=2, step=150, seconds=0.5, metrics={"val_loss": 0.25}), 10, None, Numbers())
    'epoch  2/10  step 150  val_loss 0.2500  0.50s'
    """
    epoch = f"epoch {record.epoch:{len(str(epochs))}}/{epochs}"
    step = f"step {record.step}" if isinstance(record, EvaluationRecord) else ""
    metrics = [f"{name} {numbers.metric(name, each)}{'*' * (name == best)}" for name, each in record.metrics.items()]
    rates = " -> ".join(filter(None, _rates(record, numbers)))
    others = [f"{name} {text}" for name, text in _scheduled(record, numbers).items()]
    return "  ".join(filter(None, [epoch, step, *metrics, rates and f"lr {rates}", *others, seconds(record.seconds)]))


@define(eq=False)
class Table:
    """Records in rows below titles; where the screen is too narrow for these, a few lines per record.

    A column never becomes narrower. The titles are shown again when a column is new, becomes wider or changes its
    format, and when those before have left the screen. The star has a place of its own beside the monitored metric.

    Args:
        theme: The theme.
        numbers: How numbers are written.
        changing: Whether the rates are going to change, so that there is room for the next ones from the start.
        explained: Whether it has been said what the star means; else the titles say so.
        height: Lines of the screen, or None where nothing leaves it.
        place: The place with the longest text that is known of, "step 3000" where evaluations within epochs have rows.
        order: The order of the metrics; None for that in which they come, those of evaluations last.
    """

    _theme: Theme
    _numbers: Numbers
    _changing: bool = False
    _explained: bool = False
    _height: int | None = None
    _place: str = ""
    _order: Sequence[str] | None = None
    # The widths of the columns so far, from left to right, and that of the rates that an epoch used.
    _widths: dict[_Column, int] = field(factory=dict, init=False)
    _used_width: int = field(default=0, init=False)
    # What the titles were shown for, and how many rows ago.
    _shown: tuple[object, ...] = field(default=(), init=False)
    _rows: int = field(default=0, init=False)

    def lines(self, record: Record, epochs: int, monitor: str | None, best: bool, width: int) -> list[Text]:
        """Return the lines of a record, with the titles above them if they are needed.

        Args:
            record: The record.
            epochs: The last epoch of the fit.
            monitor: The metric whose best value is marked, or None.
            best: Whether this is its best value so far.
            width: The width of the screen.
        """
        cells = self._cells(record, epochs, monitor, best)
        margin = " " * (width >= 60)
        layouts = [(gap, brief) for brief in (False, True) for gap in ("  ", " ") if not brief or self._changing]
        for gap, brief in layouts:
            rooms = [self._room(column, brief) for column in self._widths]
            taken = len(margin) + sum(rooms) + len(gap) * (len(rooms) - 1)
            if taken < width or taken == width < 60:
                shown, self._shown = self._shown, (width, *self._widths.items(), self._numbers.formats, monitor)
                row = self._row(cells, margin, gap, brief)
                left = self._height is not None and self._rows >= self._height
                self._rows += 1
                if shown == self._shown and not left:
                    return [row]
                self._rows = 2
                legend = self._theme.text("  * best so far" if best and not self._explained else "", "label")
                self._explained |= best
                titles = self._titles(monitor, margin, gap, brief)
                if titles.cell_len + legend.cell_len < width:
                    titles.append_text(legend)
                return [titles, row]
        self._shown = ()
        return self._card(record, epochs, monitor, best, width)

    def _cells(self, record: Record, epochs: int, monitor: str | None, best: bool) -> dict[_Column, Text]:
        """Return the cells of a record, whose columns become as wide as they need to be."""
        theme = self._theme
        within = isinstance(record, EvaluationRecord)
        place = f"step {record.step}" if isinstance(record, EvaluationRecord) else str(record.epoch)
        cells = {
            (_EPOCH, "epoch"): theme.text(
                place.rjust(max(len(str(epochs)), len(self._place))), "label" if within else "epoch"
            )
        }
        for name, value in record.metrics.items():
            is_best = best and name == monitor
            text = theme.text(self._numbers.metric(name, value).rjust(formatting.COLUMN_WIDTH), _style(value, is_best))
            if name == monitor:
                text += theme.text(" *" if is_best else "  ", "best")
            is_evaluation = self._order is None and name.startswith("val_")
            cells[_EVALUATION if is_evaluation else _METRIC, name] = text
        used, following = _rates(record, self._numbers)
        if used:
            self._changing |= bool(following)
            self._used_width = max(self._used_width, len(used))
            rates = theme.cell(used, self._used_width, "rate")
            if self._changing:
                rest = f" -> {following}" if following else ""
                rates += theme.cell(rest, 4 + self._used_width, "change", left=True)
            cells[_RATE, "lr"] = rates
        cells |= {
            (_SCHEDULED, name): theme.text(text, "rate") for name, text in _scheduled(record, self._numbers).items()
        }
        cells[_TIME, "time"] = theme.text(formatting.seconds(record.seconds).rjust(formatting.SECONDS_WIDTH), "time")
        needed = {
            each: max(theme.width(self._title(each, monitor, brief=False)), cell.cell_len)
            for each, cell in cells.items()
        }
        widths = {each: max(width, self._widths.get(each, 0)) for each, width in (self._widths | needed).items()}
        order = {name: place for place, name in enumerate(self._order or ())}
        self._widths = dict(sorted(widths.items(), key=lambda item: (item[0][0], order.get(item[0][1], 0))))
        return cells

    def _titles(self, monitor: str | None, margin: str, gap: str, brief: bool) -> Text:
        """Return the titles of all columns so far in one line."""
        titles = {each: self._theme.text(self._title(each, monitor, brief), "label") for each in self._widths}
        return self._row(titles, margin, gap, brief)

    def _title(self, column: _Column, monitor: str | None, brief: bool) -> str:
        place, name = column
        if place == _RATE and self._changing and not brief:
            return "lr -> next"
        return f"{name}  " if name == monitor and place in (_METRIC, _EVALUATION) else name

    def _room(self, column: _Column, brief: bool) -> int:
        return self._used_width if brief and column[0] == _RATE else self._widths[column]

    def _row(self, cells: Mapping[_Column, Text], margin: str, gap: str, brief: bool) -> Text:
        """Return cells in one line; a brief one has no room for the next rates."""
        parts = []
        for column in self._widths:
            cell, room = cells.get(column, Text()).copy(), self._room(column, brief)
            if column[0] == _RATE and self._changing and not brief:
                cell.pad_right(room - cell.cell_len)
            else:
                cell.truncate(room, overflow="crop")
                cell.pad_left(room - cell.cell_len)
            parts.append(cell)
        return join([Text(margin, end="") + parts[0], *parts[1:]], gap)

    def _card(self, record: Record, epochs: int, monitor: str | None, best: bool, width: int) -> list[Text]:
        theme = self._theme
        indent = 2 if width >= 30 else 1
        head = [theme.text(f"epoch {record.epoch:{len(str(epochs))}}", "epoch")]
        if isinstance(record, EvaluationRecord):
            head.append(theme.text(f"step {record.step}", "label"))
        used, following = _rates(record, self._numbers)
        if used:
            rest = theme.text(f" -> {following}" if following else "", "change")
            head.append(theme.text("lr ", "label") + theme.text(used, "rate") + rest)
        for name, text in _scheduled(record, self._numbers).items():
            head.append(theme.text(f"{name} ", "label") + theme.text(text, "rate"))
        head.append(theme.text(formatting.seconds(record.seconds), "time"))
        grid = []
        for name, value in record.metrics.items():
            is_best = best and name == monitor
            number = self._numbers.metric(name, value) + (" *" if is_best else "")
            grid.append(theme.text(f"{name} ", "label") + theme.text(number, _style(value, is_best)))
        return [*flow(head, width, indent), *(Text(" " * indent, end="") + part for part in flow(grid, width - indent))]


def _rates(record: Record, numbers: Numbers) -> tuple[str, str]:
    """Return the rates that an epoch used, and those that are set now if they look different; "" for none."""
    if isinstance(record, EvaluationRecord) or not record.lr:
        return "", ""
    used, following = numbers.rates(record.lr), numbers.rates(record.last_lr)
    return used, "" if following == used else following


def _scheduled(record: Record, numbers: Numbers) -> dict[str, str]:
    """Return what else is scheduled, as an epoch used it, by name."""
    found = {} if isinstance(record, EvaluationRecord) else record.scheduled
    return {name: numbers.scheduled(name, values) for name, values in found.items()}


def _style(value: float, best: bool) -> str:
    return "best" if best else "metric" if math.isfinite(value) else "nan"
