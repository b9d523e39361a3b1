"""LRCurve: the losses over a rising learning rate, what they suggest, and how they look."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from html import escape
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from lucid_train.plot import log_curve, text_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The curve stands where it begins after this share of it, and at least so many updates; fewer are no curve.
_BEGINNING, _LEAST = 0.1, 5
# A fall counts if it is so many times what noise makes of the difference of two means.
_SURE = 4.0
# The variance of an exponential mean that keeps 98 percent, in that of its terms: 0.02 / 1.98.
_VARIANCE = 0.02 / 1.98
_WIDTH, _HEIGHT, _LABEL = 64, 10, 9


def _numbers(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(values)


@frozen(repr=False)
class LRCurve:
    """What `find_lr` found: a loss for each rate.

    It prints as a drawing, in dots on a terminal that shows them; a notebook shows it too.

    Args:
        rates: The rate of each update, ascending; of the group with the highest one.
        losses: The loss that each update's steps returned, their mean if they are several. As many as rates.
        smoothed: Their exponential mean, which keeps 98 percent, without the bias of its beginning.
        metric: Which of the step's metrics it is.
        end: Why the curve ended before the highest rate, in words; None if it did not.

    >>> losses = [2.0] * 10 + [1.5, 1.0, 0.5, 0.5, 3.0]
    >>> LRCurve([0.1 * 1.5**t for t in range(15)], losses, losses).suggestion is not None
    True
    """

    rates: tuple[float, ...] = field(converter=_numbers)
    losses: tuple[float, ...] = field(converter=_numbers)
    smoothed: tuple[float, ...] = field(converter=_numbers)
    metric: str = "loss"
    end: str | None = None

    @property
    def suggestion(self) -> float | None:
        """The rate at which half of the loss's fall is behind it, or None where the curve suggests none.

        The smoothed loss falls from where it stood after a tenth of the updates to its lowest point. It follows the
        losses late, so that they have fallen further by then; the rate is below the one at which they grow again.
        """
        index = self._suggested()
        return self.rates[index] if isinstance(index, int) else None

    @property
    def reason(self) -> str:
        """How the suggestion was found, or why there is none."""
        found = self._suggested()
        return found if isinstance(found, str) else f"the {self.metric} has done half of its fall there"

    def _suggested(self) -> int | str:
        """Return the index of the suggestion, or why there is none."""
        count, beginning = len(self.rates), max(_LEAST, round(_BEGINNING * len(self.rates)))
        ending = "" if self.end is None else f", as {self.end}"
        if count <= 2 * _LEAST:
            return f"the curve has {count} rates only{ending}; begin with a lower one"
        lowest = min(range(count), key=lambda index: self.smoothed[index])
        if lowest <= beginning:
            return f"the {self.metric} is lowest at the first rates; begin with a lower one"
        start, best = self.smoothed[beginning - 1], self.smoothed[lowest]
        changes = [abs(later - earlier) for earlier, later in pairwise(self.losses[: lowest + 1])]
        noise = 1.4826 * median(changes) / math.sqrt(2)
        if start - best <= _SURE * noise * math.sqrt(1 / beginning + _VARIANCE):
            return f"the {self.metric} falls by less than its noise; take more steps, or larger batches"
        if self.end is None and lowest == count - 1:
            return f"the {self.metric} still falls at the highest rate; go on to a higher one"
        # The last rate at which less than half of the fall is done: noise before it does not matter.
        half = (start + best) / 2
        return max(index for index in range(beginning - 1, lowest) if self.smoothed[index] >= half)

    def plot(self, figure: Figure | None = None) -> Figure:
        """Return a figure of the losses over the rates, on a logarithmic axis, with the suggestion.

        This needs matplotlib: `pip install lucid-train[plot]`.

        Args:
            figure: An empty figure to draw in; by default a new one, which a notebook shows.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        lines = {self.metric: self.losses, "smoothed": self.smoothed}
        return log_curve(self.rates, lines, self.suggestion, figure)

    def __repr__(self) -> str:
        found = "no suggestion" if self.suggestion is None else f"suggestion {self.suggestion:.3g}"
        return f"LRCurve({len(self.rates)} rates, {found}: {self.reason})"

    def __str__(self) -> str:
        return "\n".join(self._lines(fine=False))

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text  # asked for by rich alone

        for line in self._lines(fine=console.is_terminal and not options.ascii_only):
            yield Text(line)

    def _repr_html_(self) -> str:
        return f'<pre style="line-height:1.1">{escape(chr(10).join(self._lines(fine=True)))}</pre>'

    def _lines(self, *, fine: bool) -> Iterator[str]:
        """Yield the lines of a drawing, in braille or in stars, and what it suggests."""
        count, bar = len(self.rates), chr(0x2502) if fine else "|"
        if count:
            low, high = self._range()
            for number, row in enumerate(self._rows(fine)):
                label = f"{high if number == 0 else low:.3g}" if number in (0, _HEIGHT - 1) else ""
                yield f"{label:>{_LABEL}} {bar} {row}".rstrip()
            ends = f"{self.rates[0]:.3g}", f"{self.rates[-1]:.3g}"
            axis = [*f"{ends[0]}{ends[1]:>{_WIDTH - len(ends[0])}}"]
            if isinstance(index := self._suggested(), int):
                axis[min(index * _WIDTH // count, _WIDTH - 1)] = "^"
            yield f"{'lr':>{_LABEL}}   {''.join(axis)}"
        if self.end is not None:
            yield f"ended early: {self.end}"
        found = "no suggestion" if self.suggestion is None else f"suggestion: {self.suggestion:.3g}"
        yield f"{found}, {self.reason}"

    def _range(self) -> tuple[float, float]:
        """Return the lowest and the highest loss of a drawing: what grew far beyond the fall would flatten it."""
        low, high = min(self.smoothed), max(self.smoothed)
        top = max(self.smoothed[: self.smoothed.index(low) + 1])
        return low, min(high, top + (top - low) / 2) if top > low else high

    def _rows(self, fine: bool) -> list[str]:
        """Return the smoothed losses as rows of characters."""
        highest = self._range()[1]
        rows = text_rows([[min(loss, highest) for loss in self.smoothed]], _WIDTH, _HEIGHT, fine=fine)
        return ["".join(letter for letter, _ in row) for row in rows]
