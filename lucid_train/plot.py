"""Curves from plain sequences: as a figure of matplotlib, which is an extra, and as HTML for a notebook."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from html import escape
from io import BytesIO
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Where a curve goes: the x values and, as many, the y values. One that is NaN leaves a gap.
Points: TypeAlias = tuple[Sequence[float], Sequence[float]]

# Distinct from one another, and legible on white and on black.
_COLORS = ("#3b82c4", "#d9772b", "#3a9d5d", "#a566c9")
# Of a drawing, and of what is left for its labels.
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 360, 150, 60, 18
# A curve is drawn by the highest and the lowest point in each of so many places.
_PLACES = 300
# A table has so many rows at most, or else these at each end, and those that count.
_MOST_ROWS, _ENDS = 20, 5
# How several curves are drawn in a text, in their order, as more could not be distinguished; or by two by four dots.
MARKS = "*+ox"
_BRAILLE = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_GAP = "&hellip;"


def curves(
    metrics: Sequence[Mapping[str, Points]], scheduled: Sequence[Mapping[str, Points]], figure: Figure | None = None
) -> Figure:
    """Return a figure with metrics above and what is scheduled below, over the epochs.

    Args:
        metrics: The metrics of each panel, by name.
        scheduled: The rates, and what else is scheduled, in a panel each: of each parameter group, by name.
        figure: An empty figure to draw in; by default a new one, which a notebook shows.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    count = max(1, len(metrics) + len(scheduled))
    figure = _figure(1 + 2.5 * count) if figure is None else figure
    panels = figure.subplots(count, sharex=True, squeeze=False)[:, 0]
    for panel, lines in zip(panels, metrics, strict=False):
        for name, points in lines.items():
            # A mark shows a value that stands alone, between two that are NaN.
            panel.plot(*points, marker=".", label=name)
        panel.legend()
    for panel, lines in zip(panels[len(metrics) :], scheduled, strict=False):
        name = next(iter(lines))
        for group, points in enumerate(lines.values()):
            panel.plot(*points, drawstyle="steps-mid", label=f"{name} of group {group}")
        panel.set_ylabel(name)
        if len(lines) > 1:
            panel.legend()
    panels[-1].set_xlabel("epoch")
    return figure


def lines(named: Mapping[str, Points], axis: str, figure: Figure | None = None) -> Figure:
    """Return a figure with curves in one panel.

    Args:
        named: The curves by name.
        axis: What the x values are.
        figure: An empty figure to draw in; by default a new one, which a notebook shows.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure = _figure(3.5) if figure is None else figure
    panel = figure.subplots()
    for name, points in named.items():
        panel.plot(*points, label=name)
    panel.legend(fontsize="small")
    panel.set_xlabel(axis)
    return figure


def log_curve(
    rates: Sequence[float], lines: Mapping[str, Sequence[float]], mark: float | None, figure: Figure | None = None
) -> Figure:
    """Return a figure of losses over learning rates, on a logarithmic axis.

    Args:
        rates: The rates.
        lines: The losses, by name; the last ones are drawn above the others.
        mark: A rate to be marked, if any.
        figure: An empty figure to draw in; by default a new one, which a notebook shows.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure = _figure(4) if figure is None else figure
    panel = figure.subplots()
    for number, (name, losses) in enumerate(lines.items(), 1):
        panel.plot(rates, losses, label=name, alpha=1.0 if number == len(lines) else 0.4)
    if mark is not None:
        panel.axvline(mark, linestyle="--", color="gray", label=f"{mark:.3g}")
    panel.set_xscale("log")
    panel.set_xlabel("lr")
    panel.legend()
    return figure


def _figure(height: float) -> Figure:
    """Return a new figure, so many inches high, which a notebook shows."""
    try:
        # The class itself, not pyplot: nothing is registered, no window opens and no backend is chosen.
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plotting needs matplotlib: pip install 'lucid-train[plot]'") from error
    figure = Figure(figsize=(8, height), layout="constrained")
    # Without pyplot, IPython does not know how to show a figure.
    figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]
    return figure


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def html_page(parts: Iterable[str]) -> str:
    """Return parts of HTML one below the other. They have the colors of the page that they are in, light or dark."""
    return f'<div style="max-width:100%;overflow-x:auto;font-size:13px">{"".join(parts)}</div>'


def html_text(text: str, tag: str = "div") -> str:
    """Return a line of text in HTML."""
    return f'<{tag} style="margin:4px 0">{escape(text)}</{tag}>'


def html_panels(panels: Iterable[Mapping[str, Points]], axis: str = "epoch") -> str:
    """Return drawings beside one another, of curves over the same epochs; one without a number is left out.

    Args:
        panels: The curves of each drawing, by name.
        axis: What the x values are.
    """
    thinned = [{name: _thinned([*zip(*points, strict=True)]) for name, points in lines.items()} for lines in panels]
    xs = [x for lines in thinned for points in lines.values() for x, y in points if math.isfinite(y)]
    drawn = "".join(_drawing(lines, math.floor(min(xs)), math.ceil(max(xs)), axis) for lines in thinned) if xs else ""
    return f'<div style="display:flex;flex-wrap:wrap;gap:4px 24px">{drawn}</div>' if drawn else ""


def html_table(
    columns: Mapping[str, Sequence[str]], numbers: Collection[str] = (), marked: Mapping[str, int] | None = None
) -> str:
    """Return a table in HTML; of a long one the first and the last rows, and those with a mark.

    Args:
        columns: By title, as many cells each.
        numbers: The titles of the columns of numbers, which stand at the right.
        marked: Of some columns the row, from 0, whose cell is to be bold.
    """
    marked = marked or {}
    count = len(next(iter(columns.values()), ()))
    chosen = {*range(count)} if count <= _MOST_ROWS else {*range(_ENDS), *marked.values(), *range(count - _ENDS, count)}
    cell = "padding:1px 10px;border:none;text-align:{};white-space:pre"
    sides = ["right" if title in numbers else "left" for title in columns]
    rows, before = [], -1
    for row in sorted(chosen):
        if row != before + 1:
            rows.append(f'<tr><td colspan="{len(columns)}" style="{cell.format("center")}">{_GAP}</td></tr>')
        cells = []
        for (title, texts), side in zip(columns.items(), sides, strict=True):
            text = escape(texts[row])
            text = f"<b>{text}</b>" if marked.get(title) == row else text
            cells.append(f'<td style="{cell.format(side)}">{text}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
        before = row
    titles = "".join(
        f'<th style="{cell.format(side)}">{escape(title)}</th>' for title, side in zip(columns, sides, strict=True)
    )
    body = f"<thead><tr>{titles}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<table style="border-collapse:collapse;margin:6px 0;font-variant-numeric:tabular-nums">{body}</table>'


def number_texts(values: Sequence[float | None]) -> list[str]:
    """Return the numbers of a column in one format, but for one that would look like zero; None is empty.

    >>> [number_texts(values) for values in ([0.8343, 0.00412, None], [123.4, 5.0], [3e-4, 1.5e-9], [9, 10])]
    [['0.8343', '0.0041', ''], ['123.40', '5.00'], ['0.000300', '1.5e-09'], ['9', '10']]
    """
    known = [value for value in values if value is not None]
    if all(isinstance(value, int) for value in known):
        return ["" if value is None else str(value) for value in values]
    largest = max((abs(value) for value in known if math.isfinite(value)), default=0.0)
    size = math.floor(math.log10(largest)) if largest else 0
    digits = max(0, 4 - size) if size > 0 else max(4, 2 - size)

    def text(value: float) -> str:
        fixed = f"{value:.{min(digits, 6)}f}"
        return f"{value:.1e}" if size > 9 or (value and float(fixed) == 0) else fixed

    return ["" if value is None else text(value) for value in values]


def svg_picture(named: Mapping[str, Points], axis: str) -> str:
    """Return curves as an SVG picture of its own, dark where the reader's screen is.

    Args:
        named: The curves by name, each with a number.
        axis: What the x values are, which are whole numbers.
    """
    thinned = {name: _thinned([*zip(*points, strict=True)]) for name, points in named.items()}
    xs = [x for points in thinned.values() for x, _ in points]
    top = 18 * len(named) + 12
    legend = "".join(
        f'<path d="M16 {18 * index + 14}h16" stroke="{_color(index)}" stroke-width="3"/>'
        f'<text x="40" y="{18 * index + 18}" fill="currentColor">{escape(name)}</text>'
        for index, name in enumerate(named)
    )
    inside = _shapes(thinned, int(min(xs)), int(max(xs)), axis)
    width, height = _WIDTH * 3 // 2, _HEIGHT * 3 // 2 + top
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="13" fill="none" stroke-linecap="round" stroke-linejoin="round">\n'
        "<style>:root{color:#222;background:#fff}"
        "@media(prefers-color-scheme:dark){:root{color:#ddd;background:#111}}</style>\n"
        f'{legend}<g transform="translate(0 {top}) scale(1.5)">{inside}</g>\n</svg>\n'
    )


def _color(index: int) -> str:
    return _COLORS[index % len(_COLORS)]


def _drawing(lines: Mapping[str, list[tuple[float, float]]], left: int, right: int, axis: str) -> str:
    """Return curves from one epoch to another as an SVG with a legend, or nothing if they have no number."""
    shapes = _shapes(lines, left, right, axis)
    if not shapes:
        return ""
    legend = [f'<span style="color:{_color(index)}">&#9644;</span> {escape(name)}' for index, name in enumerate(lines)]
    title = escape(", ".join(lines))
    return (
        f"<div><div>{' &nbsp; '.join(legend)}</div>"
        f'<svg role="img" aria-label="{title}" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'fill="none" stroke-linecap="round" stroke-linejoin="round" style="max-width:100%">{shapes}</svg></div>'
    )


def _shapes(lines: Mapping[str, list[tuple[float, float]]], left: int, right: int, axis: str) -> str:
    """Return the frame, the curves and the labels, or nothing if the curves have no number."""
    known = [y for points in lines.values() for _, y in points if math.isfinite(y)]
    if not known:
        return ""
    low, high = min(known), max(known)
    right_end, bottom = _WIDTH - 6, _HEIGHT - _BOTTOM

    def place(point: tuple[float, float]) -> tuple[float, float]:
        # Halving before subtracting keeps the largest floats from overflowing.
        x, y = (
            (value / 2 - least / 2) / (most / 2 - least / 2) if most > least else 0.5
            for value, least, most in zip(point, (left, low), (right, high), strict=True)
        )
        return _LEFT + x * (right_end - _LEFT), bottom - 4 - y * (bottom - 12)

    shapes = []
    for index, points in enumerate(lines.values()):
        for is_known, stretch in groupby(points, lambda point: math.isfinite(point[1])):
            if is_known:
                at = [f"{x:.1f},{y:.1f}" for x, y in map(place, stretch)]
                # A line of no length, with round ends, is a dot.
                path = f"M{' '.join(at if len(at) > 1 else at * 2)}"
                width = 1.5 if len(at) > 1 else 5
                shapes.append(f'<path d="{path}" stroke="{_color(index)}" stroke-width="{width}"/>')
    frame = f'<path d="M{_LEFT} 4V{bottom}H{right_end}" stroke="currentColor" stroke-opacity=".4"/>'
    labels = "".join(
        f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(str(value))}</text>'
        for x, y, anchor, value in [
            (_LEFT - 5, 12, "end", f"{high:.3g}"),
            (_LEFT - 5, bottom, "end", f"{low:.3g}" if high > low else ""),
            (_LEFT, _HEIGHT - 4, "start", f"{left}"),
            ((_LEFT + right_end) / 2, _HEIGHT - 4, "middle", axis),
            (right_end, _HEIGHT - 4, "end", f"{right}" if right > left else ""),
        ]
    )
    return f'{frame}{"".join(shapes)}<g fill="currentColor" font-size="11" font-family="inherit">{labels}</g>'


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return points, or of very many the lowest and the highest of each place."""
    if len(points) <= 2 * _PLACES:
        return points
    kept = []
    for place in range(_PLACES):
        here = points[place * len(points) // _PLACES : (place + 1) * len(points) // _PLACES]
        finite = [point for point in here if math.isfinite(point[1])] or here[:1]
        ends = {min(finite, key=lambda point: point[1]), max(finite, key=lambda point: point[1])}
        kept += sorted(ends)
    return kept


def text_rows(
    curves: Sequence[Sequence[float]], columns: int, height: int, *, fine: bool
) -> list[list[tuple[str, int]]]:
    """Return curves as rows of characters, from the top, each with the index of its curve.

    Args:
        curves: The values of each, all evenly spaced over the columns; at most four.
        columns: How many columns there are.
        height: How many rows.
        fine: Whether it is drawn in braille, two by four dots to a character; else each curve has a mark of its own.
            Where two curves meet, the first lies on top; in braille the character has the dots of both.
    """
    across, down = (2, 4) if fine else (1, 1)
    cells = [[(0, 0)] * columns for _ in range(height)]
    for index, spans in reversed([*enumerate(_spans(curves, across * columns, down * height))]):
        for column, span in enumerate(spans):
            for row in span:
                dots, _ = cells[row // down][column // across]
                cells[row // down][column // across] = dots | _BRAILLE[column % across][row % down], index
    return [[(_letter(dots, index, fine), index) for dots, index in row] for row in cells]


def _letter(dots: int, index: int, fine: bool) -> str:
    if not dots:
        return " "
    return chr(0x2800 + dots) if fine else MARKS[index]


def _spans(curves: Sequence[Sequence[float]], columns: int, height: int) -> list[list[range]]:
    """Return, of each curve, the rows, from the top, that it crosses in every column."""
    low, high = min(map(min, curves)), max(map(max, curves))
    scale = (height - 1) / (high - low) if high > low else 0.0
    found = []
    for values in curves:
        levels = [round((high - value) * scale) for value in values]
        cuts = [column * len(levels) // columns for column in range(columns + 1)]
        last, spans = levels[0], []
        for start, end in pairwise(cuts):
            part = levels[start : max(end, start + 1)]
            # A jump from the column before is a line without gaps.
            spans.append(range(min(*part, last + 1), max(*part, last - 1) + 1))
            last = part[-1]
        found.append(spans)
    return found
