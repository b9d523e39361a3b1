"""An epoch as text: a line of its own, or a row of a table whose columns stay where they are."""

from __future__ import annotations

import math
import re

from attrs import define, field
from rich.text import Text

from lucid_train.callbacks.display import formatting
from lucid_train.callbacks.display.theme import Look, flow, join
from lucid_train.history import EpochRecord
from lucid_train.monitor import Mode


@define(eq=False)
class Best:
    """The best value so far of the metric that is watched.

    Args:
        monitor: The metric's name; by default "val_loss" once there is one, until then "loss".
        mode: Whether "min" or "max" is better.
    """

    monitor: str | None = None
    mode: Mode = "min"
    name: str | None = field(default=None, init=False)
    value: float = field(default=math.nan, init=False)
    epoch: int = field(default=0, init=False)

    def see(self, record: EpochRecord) -> bool:
        """Take an epoch into account; return whether it is the best so far."""
        watched = "val_loss" if "val_loss" in (self.name, *record.metrics) else "loss"
        if self.name != (self.monitor or watched):
            self.name, self.value, self.epoch = self.monitor or watched, math.nan, 0
        value = record.metrics.get(self.name, math.nan)
        better = value < self.value if self.mode == "min" else value > self.value
        if better or (math.isnan(self.value) and not math.isnan(value)):
            self.value, self.epoch = value, record.epoch
            return True
        return False


def line(record: EpochRecord, epochs: int, best: str | None) -> str:
    """Return an epoch as a line that needs no other to be understood.

    Args:
        record: The epoch.
        epochs: The epoch that the fit goes on to.
        best: The metric whose best value so far this is, or None.

    >>> line(EpochRecord(epoch=2, seconds=1.2, metrics={"loss": 0.25}, lr=(0.1,), last_lr=(0.05,)), 10, "loss")
    'epoch  2/10  loss 0.2500*  lr 0.1 -> 0.05  1.20s'
    """
    parts = [f"epoch {record.epoch:{len(str(epochs))}}/{epochs}"]
    parts += [f"{name} {formatting.metric(value)}{'*' * (name == best)}" for name, value in record.metrics.items()]
    if record.lr:
        parts.append(f"lr {formatting.rates_and_change(record.lr, record.last_lr)}")
    return "  ".join([*parts, formatting.seconds(record.seconds)])


@define(eq=False)
class Table:
    """Rows under a header; where the screen is too narrow for them, a few lines per epoch.

    A column never becomes narrower. When there is a new column, or one needs more room, the header is shown again.
    """

    _look: Look
    _widths: dict[str, int] = field(factory=dict)
    _shown: tuple[int, dict[str, int]] | None = None

    def lines(self, record: EpochRecord, epochs: int, best: str | None, width: int) -> list[Text]:
        """Return an epoch's lines, below the header where it is needed.

        Args:
            record: The epoch.
            epochs: The epoch that the fit goes on to.
            best: The metric whose best value so far this is, or None.
            width: The width of the screen.
        """
        self._grow(record, len(str(max(epochs, record.epoch))))
        margin = " " * (width >= 60)
        for gap in ("  ", " "):
            header = Text(margin, end="") + self._header(gap)
            if header.cell_len < width or header.cell_len == width < 60:
                row = Text(margin, end="") + self._row(record, best, gap)
                shown = width, dict(self._widths)
                titles = [] if shown == self._shown else [header]
                self._shown = shown
                return [*titles, row]
        return self._card(record, epochs, best, width)

    def _grow(self, record: EpochRecord, epoch: int) -> None:
        wanted = {f"metric {name}": max(formatting.METRIC_WIDTH, self._look.width(name)) for name in record.metrics}
        wanted = {"epoch": max(5, epoch), **wanted, "time": formatting.SECONDS_WIDTH}
        if record.lr:
            used, following = formatting.rates_and_next(record.lr, record.last_lr)
            room = formatting.rates_width(record.lr, record.last_lr)
            wanted |= {"lr": max(room, len(used)), "next": max(room, len(following))}
        for name, width in wanted.items():
            self._widths[name] = max(width, self._widths.get(name, 0))
        # In the order of the columns, whenever a metric came.
        last = ("lr", "next", "time")
        self._widths = dict(
            sorted(self._widths.items(), key=lambda item: last.index(item[0]) if item[0] in last else -1)
        )

    def _header(self, gap: str) -> Text:
        look, widths = self._look, self._widths
        names = [look.cell(name.removeprefix("metric "), widths[name], "label") for name in widths if name != "next"]
        if "next" in widths:
            names[-2].pad_right(widths["next"] + 4)
        return join(names, gap)

    def _row(self, record: EpochRecord, best: str | None, gap: str) -> Text:
        look, widths = self._look, self._widths
        row = look.cell(str(record.epoch), widths["epoch"], "epoch")
        owed = gap
        for column, width in widths.items():
            if column.startswith("metric "):
                name = column.removeprefix("metric ")
                value = formatting.metric(record.metrics[name]) if name in record.metrics else ""
                style = _style(record.metrics.get(name, 0.0), name == best)
                # The mark stands in the gap, so that it takes no column.
                row += Text(owed) + look.cell(value, width, style) + look.text("*" if name == best else " ", style)
                owed = gap[1:]
        if "lr" in widths:
            used, following = formatting.rates_and_next(record.lr, record.last_lr)
            row += Text(owed) + look.cell(used, widths["lr"], "rate")
            row += look.cell(f" -> {following}" if following else "", widths["next"] + 4, "change", left=True)
            owed = gap
        return row + Text(owed) + look.cell(formatting.seconds(record.seconds), widths["time"], "time")

    def _card(self, record: EpochRecord, epochs: int, best: str | None, width: int) -> list[Text]:
        look = self._look
        self._shown = None
        indent = 2 if width >= 30 else 1
        head = [look.text(f"epoch {record.epoch:{len(str(epochs))}}", "epoch")]
        if record.lr:
            pieces = _pieces(f"lr {formatting.rates_and_change(record.lr, record.last_lr)}", width - indent)
            head += flow([look.text(piece, "rate") for piece in pieces], width - indent, " ")
        head.append(look.text(formatting.seconds(record.seconds), "time"))
        room = max((look.width(name) for name in record.metrics), default=0)
        if room + formatting.METRIC_WIDTH + 4 > width:
            room = 0
        parts = []
        for name, value in record.metrics.items():
            number = formatting.metric(value).rjust(formatting.METRIC_WIDTH if room else 0) + "*" * (name == best)
            style = _style(value, name == best)
            parts.append(
                look.cell(name, room, "label", left=True)
                + Text(" ")
                + look.cell(number, formatting.METRIC_WIDTH + 1 if room else 0, style, left=True)
            )
        grid = flow(parts, width - indent)
        return [*flow(head, width, indent=indent), *(Text(" " * indent, end="") + part for part in grid)]


def _pieces(rates: str, width: int) -> list[str]:
    """Return rates in pieces that stay whole where a line ends: each group's, and what it changes to, if they fit."""
    pieces = re.split("(?<=,) | (?=-> )", rates)
    return pieces if max(map(len, pieces)) <= width else rates.split(" ")


def _style(value: float, best: bool) -> str:
    return "best" if best else "metric" if math.isfinite(value) else "nan"
