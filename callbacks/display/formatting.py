"""Numbers, names and lines as the display writes them: short, aligned, never a wrong zero."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate

from attrs import define, field
from rich.cells import chop_cells
from rich.console import Group
from rich.text import Text

# The widest number, and the narrowest column of numbers.
NUMBER_WIDTH = 8
COLUMN_WIDTH = 7
SECONDS_WIDTH = 7

# Decimals of a column whose numbers are written with an exponent.
_EXPONENT = -1

_CURVE = "▁▂▃▄▅▆▇█"
_CURVE_ASCII = "_.-:=+*#"


def number(value: float, decimals: int) -> str:
    """Return a number in at most NUMBER_WIDTH characters, with as many decimals if they fit, else with an exponent.

    A number that is not zero is never written as zero.

    >>> [number(value, 4) for value in (0.41234, -1234.5, 1.5e-05, 0.0, math.nan)]
    ['0.4123', '-1234.50', '1.5e-5', '0.0000', 'nan']
    >>> [number(value, -1) for value in (3e-4, 1.2345e+100)]
    ['3.00e-4', '1.23e100']
    """
    if not math.isfinite(value):
        return str(value)
    if decimals >= 0:
        for places in range(decimals, -1, -1):
            text = f"{value:.{places}f}"
            if len(text) <= NUMBER_WIDTH and (value == 0 or float(text) != 0):
                return text
    # As wide as its column, so that it stays narrow.
    room = NUMBER_WIDTH if decimals < 0 else min(NUMBER_WIDTH, max(2 + decimals, 6) + (value < 0))
    for places in (2, 1, 0):
        mantissa, exponent = f"{value:.{places}e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
        if len(text) <= room:
            break
    return text


def metric(value: float) -> str:
    """Return a metric that stands alone, with four or five significant digits.

    >>> [metric(value) for value in (0.41234, 12.3456, 123456.0, 0.00078812, 1.5e-05, 0.0)]
    ['0.4123', '12.346', '123456', '0.000788', '1.50e-5', '0.0000']
    """
    return number(value, _decimals(value, None))


def rates(values: Sequence[float], decimals: int | None = None) -> str:
    """Return the rates of all groups: one if they are equal, both of two, or the range of more.

    >>> rates([0.1, 0.1]), rates([0.1, 0.01]), rates([0.1, 0.01, 0.00085364]), rates([3e-4])
    ('0.1000', '0.1000, 0.0100', '8.54e-4 .. 1.00e-1', '3.00e-4')
    >>> rates([1.4e-8], 4), rates([0.0], 4)
    ('~0', '0')
    """
    if not values:
        return ""
    decimals = _rate_decimals(values) if decimals is None else decimals
    shown = [_rate(value, decimals) for value in values]
    if len(set(shown)) == 1:
        return shown[0]
    if len(values) == 2:
        return ", ".join(shown)
    return f"{shown[values.index(min(values))]} .. {shown[values.index(max(values))]}"


def _rate(value: float, decimals: int) -> str:
    """Return a rate; one that has no digit in its column, as at the end of a cosine, is about 0."""
    about_zero = decimals >= 0 and 0 < abs(value) < 0.5 * 10.0**-decimals
    return "0" if value == 0 else "~0" if about_zero else number(value, decimals)


def _decimals(value: float, before: int | None) -> int:
    """Return the decimals of a column that holds a value: those it had `before`, or more, so that two digits are left.

    A new column has four, or five significant digits if its first value is 10 or more.
    """
    if value == 0 or not math.isfinite(value):
        return 4 if before is None else before
    size = math.floor(math.log10(abs(value)))
    if before is None:
        before = min(4, max(0, 4 - size))
    if before == _EXPONENT or abs(value) >= 0.95 * 10.0 ** (1 - before):
        return before
    return 2 - size if size >= -4 else _EXPONENT


def _rate_decimals(bases: Sequence[float]) -> int:
    """Return the decimals of a column of rates: three significant digits of the lowest base."""
    known = [base for base in bases if base > 0 and math.isfinite(base)]
    size = math.floor(math.log10(min(known))) if known else -1
    return _EXPONENT if size < -3 else 5 if size == -3 else min(4, max(0, 4 - size))


@define(eq=False)
class Numbers:
    """How the numbers of a run are written: each column has one format, which changes only where digits would be lost.

    >>> numbers = Numbers()
    >>> [numbers.metric("loss", value) for value in (0.8343, 0.0041, 0.00078)]
    ['0.8343', '0.0041', '0.000780']
    """

    _of_metrics: dict[str, int] = field(factory=dict, init=False)
    _of_rates: int | None = field(default=None, init=False)
    _of_scheduled: dict[str, int] = field(factory=dict, init=False)

    def metric(self, name: str, value: float) -> str:
        """Return a metric as its column has it."""
        self._of_metrics[name] = _decimals(value, self._of_metrics.get(name))
        return number(value, self._of_metrics[name])

    def running(self, name: str, value: float) -> str:
        """Return a metric as its column has it, without a change of the column's format."""
        known = self._of_metrics.get(name)
        return number(value, _decimals(value, None) if known is None else known)

    @property
    def knows_rates(self) -> bool:
        """Whether the rates have a format."""
        return self._of_rates is not None

    def expect_rates(self, bases: Sequence[float]) -> None:
        """Choose the format of the rates by the base rates of the groups."""
        self._of_rates = _rate_decimals(bases)

    def rates(self, values: Sequence[float]) -> str:
        """Return the rates of all groups as their column has them; until it has a format, each as it needs it."""
        return rates(values, self._of_rates)

    def expect_scheduled(self, name: str, first: Sequence[float]) -> None:
        """Choose the format of another scheduled number by its first values, unless it has one."""
        self._of_scheduled.setdefault(name, _rate_decimals(first))

    def scheduled(self, name: str, values: Sequence[float]) -> str:
        """Return another scheduled number of all groups as its column has it; until it has a format, as it needs it."""
        return rates(values, self._of_scheduled.get(name))

    @property
    def formats(self) -> tuple[object, ...]:
        """What changes when the format of a column does."""
        return (*self._of_metrics.items(), self._of_rates, *self._of_scheduled.items())


def seconds(value: float) -> str:
    """Return a duration, in at most SECONDS_WIDTH characters up to 999 hours.

    >>> [seconds(value) for value in (0.00012, 0.25, 12.34, 75, 3661)]
    ['0.1ms', '0.25s', '12.3s', '1:15', '1h01m']
    """
    if value < 0.00995:
        return f"{1000 * value:.1f}ms"
    if value < 59.95:
        return f"{value:.{2 if value < 9.995 else 1}f}s"
    if value < 3599.5 or value == math.inf:
        return clock(value)
    minutes = round(value / 60)
    return f"{minutes // 60}h{minutes % 60:02}m"


def clock(value: float) -> str:
    """Return a duration as a clock shows it, or "-" if it exceeds the largest float.

    >>> clock(75.4), clock(3661), clock(math.inf)
    ('1:15', '1:01:01', '-')
    """
    if value == math.inf:
        return "-"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def speed(per_second: float, unit: str = "step") -> str:
    """Return a speed, or "" if it is unknown.

    >>> speed(12345.6), speed(24.13, "item"), speed(0.2), speed(0.0)
    ('12,346 steps/s', '24.1 items/s', '5.0 s/step', '')
    """
    if not 0 < per_second < math.inf:
        return ""
    if per_second < 1:
        return f"{1 / per_second:,.1f} s/{unit}"
    return f"{per_second:,.{0 if per_second >= 99.95 else 1}f} {unit}s/s"


def plural(count: int, noun: str) -> str:
    """Return a count and what it counts.

    >>> plural(1, "epoch"), plural(1500, "step")
    ('1 epoch', '1,500 steps')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def curve(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """Return a curve of at most `width` characters; values that share a character are averaged.

    >>> curve([1, 2, 3, 4, 8], 5)
    '▁▂▃▄█'
    """
    size = min(width, len(values))
    parts = [values[index * len(values) // size : (index + 1) * len(values) // size] for index in range(size)]
    known = [[value for value in part if math.isfinite(value)] for part in parts]
    # Dividing before adding, and halving before both, keep the largest floats from overflowing.
    means = [sum(value / 2 / len(part) for value in part) if part else math.nan for part in known]
    finite = [mean for mean in means if math.isfinite(mean)]
    if not finite:
        return ""
    marks = _CURVE_ASCII if ascii_only else _CURVE
    low, span, top = min(finite), (max(finite) - min(finite)) or 1.0, len(marks) - 1
    return "".join(
        " " if math.isnan(mean) else marks[min(top, int((mean - low) / span * len(marks)))] for mean in means
    )


def clean(text: str, encoding: str | None) -> str:
    r"""Return text without line breaks, control characters, and what this encoding cannot write; None writes all.

    >>> print(clean("top\n5 [\u03bb]", "ascii"))
    top\n5 [\u03bb]
    """
    if text.isascii() and text.isprintable():  # as nearly every text is
        return text
    visible = "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in text)
    return visible if encoding is None else visible.encode(encoding, "backslashreplace").decode(encoding)


def join(parts: Iterable[Text], gap: str = "  ") -> Text:
    """Return texts in one line."""
    return Text(gap, no_wrap=True, overflow="ignore", end="").join(parts)


def stack(lines: Iterable[Text]) -> Group:
    """Return lines one below the other, which rich neither wraps nor crops."""
    # In a group, because Console.print joins texts into one that wraps.
    return Group(Text("\n", no_wrap=True, overflow="ignore").join(lines))


def flow(parts: Iterable[Text], width: int, indent: int = 0, gap: str = "  ", *, fold: bool = True) -> list[Text]:
    """Return texts in as few lines of this width as hold them in order, all but the first indented.

    A text that is longer than a line is split into words, and a word that is into pieces, unless `fold` is False.
    """
    lines: list[Text] = []
    for part in parts:
        words = [part] if part.cell_len <= width - indent else list(filter(None, part.split(" ")))
        for word, space in zip(words, [gap, *" " * len(words)], strict=False):
            if lines and lines[-1].cell_len + len(space) + word.cell_len <= width:
                lines[-1].append(space).append_text(word)
            else:
                lines.append(join([Text(" " * (indent if lines else 0)), word], ""))
    for line in lines:
        line.rstrip()
    return [piece for line in lines for piece in _folded(line, width)] if fold else lines


def _folded(line: Text, width: int) -> list[Text]:
    """Return a line in pieces of at most this width."""
    if line.cell_len <= width or width < 1:
        return [line]
    ends = accumulate(map(len, chop_cells(line.plain, width)))
    return [piece for piece in line.divide(ends) if piece.plain]
