"""Numbers, names and lines as the display writes them: short, aligned, never a wrong zero."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate

from rich.cells import chop_cells
from rich.console import Group
from rich.text import Text

RATE_WIDTH = 10
METRIC_WIDTH = 8
SECONDS_WIDTH = 7
# Wide enough for the rates of several groups, unless an exponent has three digits.
GROUPS_WIDTH = 20

_CURVE = "▁▂▃▄▅▆▇█"
_CURVE_ASCII = "_.-:=+*#"


def rate(value: float, digits: int = 4) -> str:
    """Return a rate in at most RATE_WIDTH characters, within 0.05 % of its value.

    >>> [rate(value) for value in (0.1, 0.05, 1e-05, 1.2345e-300)]
    ['0.1', '0.05', '1e-05', '1.234e-300']
    """
    return f"{value:.{digits}g}"


def rates(values: Sequence[float], digits: int = 4) -> str:
    """Return the rates of all groups: one if they are equal, both of two, or the range of more.

    Several rates have one digit less each, to be short and equally wide in every epoch.

    >>> rates([0.1, 0.1]), rates([0.1, 0.01]), rates([0.1, 0.01, 0.00085364])
    ('0.1', '0.1, 0.01', '0.000854 .. 0.1')
    """
    if len(set(values)) <= 1:
        return rate(values[0], digits) if values else ""
    if len(values) == 2:
        return ", ".join(rate(value, digits - 1) for value in values)
    return f"{rate(min(values), digits - 1)} .. {rate(max(values), digits - 1)}"


def rates_width(*groups: Sequence[float]) -> int:
    """Return the width to reserve for rates, wide enough for later epochs too.

    >>> rates_width([0.1, 0.1], [0.05, 0.05]), rates_width([0.1, 0.1], [0.1, 0.05])
    (10, 20)
    """
    return GROUPS_WIDTH if any(len(set(values)) > 1 for values in groups) else RATE_WIDTH


def rates_and_next(used: Sequence[float], following: Sequence[float]) -> tuple[str, str]:
    """Return the rates that an epoch used, and those of the next epoch, or "" if they are the same.

    >>> rates_and_next([0.1], [0.05]), rates_and_next([0.1], [0.1]), rates_and_next([0.1], [0.0999999])
    (('0.1', '0.05'), ('0.1', ''), ('0.1', '0.0999999'))
    """
    before, after = rates(used), ""
    if tuple(used) != tuple(following):
        after = rates(following)
        # A small change is shown by more digits, as far as they fit the column.
        for digits in range(5, 18):
            finer = rates(used, digits), rates(following, digits)
            if before != after or max(map(len, finer)) > max(rates_width(used, following), len(before)):
                break
            before, after = finer
    return before, after


def metric(value: float) -> str:
    """Return a metric in at most METRIC_WIDTH characters, with four decimals if they fit.

    >>> [metric(value) for value in (0.41234, -1234.5, 123456.0, 1.5e-05, -1.5e-05, 0.0, math.nan)]
    ['0.4123', '-1234.50', '1.23e+05', '1.50e-05', '-1.5e-05', '0.0000', 'nan']
    """
    if not math.isfinite(value):
        return str(value)
    short = value != 0 and not 1e-3 <= abs(value) < 99999.5
    decimals, kind = (2, "e") if short else (4, "f")
    while decimals and len(f"{value:.{decimals}{kind}}") > METRIC_WIDTH:
        decimals -= 1
    return f"{value:.{decimals}{kind}}"


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


def speed(steps_per_second: float) -> str:
    """Return a speed, or "" if it is unknown.

    >>> speed(12345.6), speed(24.13), speed(0.2), speed(0.0)
    ('12,346 steps/s', '24.1 steps/s', '5.0 s/step', '')
    """
    if not 0 < steps_per_second < math.inf:
        return ""
    if steps_per_second < 1:
        return f"{1 / steps_per_second:,.1f} s/step"
    return f"{steps_per_second:,.{0 if steps_per_second >= 99.95 else 1}f} steps/s"


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
    visible = "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in text)
    return visible if encoding is None else visible.encode(encoding, "backslashreplace").decode(encoding)


def join(parts: Iterable[Text], gap: str = "  ") -> Text:
    """Return texts in one line."""
    return Text(gap, no_wrap=True, overflow="ignore", end="").join(parts)


def stack(lines: Iterable[Text]) -> Group:
    """Return lines one below the other, which rich neither wraps nor crops."""
    # In a group, because Console.print joins texts into one that wraps.
    return Group(Text("\n", no_wrap=True, overflow="ignore").join(lines))


def flow(parts: Iterable[Text], width: int, indent: int = 0) -> list[Text]:
    """Return texts in as few lines of this width as hold them in order, all but the first indented.

    A text that is longer than a line is split into words, and a word that is into pieces.
    """
    lines: list[Text] = []
    for part in parts:
        words = [part] if part.cell_len <= width - indent else list(filter(None, part.split(" ")))
        for word, gap in zip(words, ["  ", *" " * len(words)], strict=False):
            if lines and lines[-1].cell_len + len(gap) + word.cell_len <= width:
                lines[-1].append(gap).append_text(word)
            else:
                lines.append(join([Text(" " * (indent if lines else 0)), word], ""))
    for line in lines:
        line.rstrip()
    return [piece for line in lines for piece in _folded(line, width)]


def _folded(line: Text, width: int) -> list[Text]:
    """Return a line in pieces of at most this width."""
    if line.cell_len <= width or width < 1:
        return [line]
    ends = accumulate(map(len, chop_cells(line.plain, width)))
    return [piece for piece in line.divide(ends) if piece.plain]
