"""Numbers and names as the display writes them: short, aligned, never a wrong zero."""

from __future__ import annotations

import math
from collections.abc import Sequence

RATE_WIDTH = 10
METRIC_WIDTH = 8
SECONDS_WIDTH = 7
# What the rates of several groups take, but for exponents of three digits.
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
    """Return the rates of all groups: one if they are equal, else both of two, else their range.

    Several have a digit less each, so that they take little room, and the same in every epoch.

    >>> rates([0.1, 0.1]), rates([0.1, 0.01]), rates([0.1, 0.01, 0.00085364])
    ('0.1', '0.1, 0.01', '0.000854 .. 0.1')
    """
    if len(set(values)) <= 1:
        return rate(values[0], digits) if values else ""
    if len(values) == 2:
        return ", ".join(rate(value, digits - 1) for value in values)
    return f"{rate(min(values), digits - 1)} .. {rate(max(values), digits - 1)}"


def rates_width(*groups: Sequence[float]) -> int:
    """Return the width to reserve for rates, so that those to come have room too.

    >>> rates_width([0.1, 0.1], [0.05, 0.05]), rates_width([0.1, 0.1], [0.1, 0.05])
    (10, 20)
    """
    return GROUPS_WIDTH if any(len(set(values)) > 1 for values in groups) else RATE_WIDTH


def rates_and_next(used: Sequence[float], following: Sequence[float]) -> tuple[str, str]:
    """Return the rates that an epoch used, and what they change to, or "".

    >>> rates_and_next([0.1], [0.05]), rates_and_next([0.1], [0.1]), rates_and_next([0.1], [0.0999999])
    (('0.1', '0.05'), ('0.1', ''), ('0.1', '0.0999999'))
    """
    before, after = rates(used), ""
    if tuple(used) != tuple(following):
        after = rates(following)
        # A small change is still to be seen, if there is room for the digits that tell.
        for digits in range(5, 18):
            finer = rates(used, digits), rates(following, digits)
            if before != after or max(map(len, finer)) > max(rates_width(used, following), len(before)):
                break
            before, after = finer
    return before, after


def rates_and_change(used: Sequence[float], following: Sequence[float]) -> str:
    """Return the rates that an epoch used and, where they change, what they change to, in one string.

    >>> rates_and_change([0.1], [0.05])
    '0.1 -> 0.05'
    """
    before, after = rates_and_next(used, following)
    return f"{before} -> {after}" if after else before


def metric(value: float) -> str:
    """Return a metric, in METRIC_WIDTH characters, four decimals where they fit.

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
    """Return the time that something took, in at most SECONDS_WIDTH characters up to 999 hours.

    >>> [seconds(value) for value in (0.00012, 0.25, 12.34, 75, 3661)]
    ['0.1ms', '0.25s', '12.3s', '1:15', '1h01m']
    """
    if value < 0.00995:
        return f"{1000 * value:.1f}ms"
    if value < 59.95:
        return f"{value:.{2 if value < 9.995 else 1}f}s"
    minutes = round(value / 60)
    return clock(value) if value < 3599.5 else f"{minutes // 60}h{minutes % 60:02}m"


def clock(value: float) -> str:
    """Return a time that is still running, or to come.

    >>> clock(75.4), clock(3661)
    ('1:15', '1:01:01')
    """
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def pace(steps_per_second: float) -> str:
    """Return a speed.

    >>> pace(12345.6), pace(24.13), pace(0.2), pace(0.0)
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
    """Return a curve in one line of at most `width` characters; several values that share one are averaged.

    >>> curve([1, 2, 3, 4, 8], 5)
    '▁▂▃▄█'
    """
    size = min(width, len(values))
    if size < 1:
        return ""
    parts = [values[index * len(values) // size : (index + 1) * len(values) // size] for index in range(size)]
    known = [[value for value in part if math.isfinite(value)] for part in parts]
    # Divided before they are added up, lest the largest floats overflow.
    means = [sum(value / len(part) for value in part) if part else math.nan for part in known]
    finite = [mean for mean in means if math.isfinite(mean)]
    marks = _CURVE_ASCII if ascii_only else _CURVE
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    scale = 0.5 if math.isinf(high - low) else 1.0
    span = (high * scale - low * scale) or 1.0

    def mark(mean: float) -> str:
        return marks[min(len(marks) - 1, int((mean * scale - low * scale) / span * len(marks)))]

    return "".join(" " if math.isnan(mean) else mark(mean) for mean in means)


def clean(text: str, encoding: str) -> str:
    r"""Return text in one line, without control characters, as a stream of this encoding can hold it.

    >>> print(clean("top\n5 [\u03bb]", "ascii"))
    top\n5 [\u03bb]
    """
    visible = "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in text)
    return visible.encode(encoding, "backslashreplace").decode(encoding)
