"""Bars: the lines that move, with the progress of the run and of the epoch, the speed, and the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import define
from rich.console import Console, ConsoleOptions
from rich.text import Text

from lucid_train.callbacks.display.formatting import clock, join, speed
from lucid_train.callbacks.display.theme import Theme
from lucid_train.callbacks.display.throughput import Throughput

_WIDEST_BAR = 40


@define(eq=False)
class Bars:
    """A renderable that shows a run as it is when it is rendered, always in as many lines.

    Args:
        throughput: The times of the fit, and its run.
        theme: The theme.
        unfinished: Returns what has been printed without a newline so far; it is shown above.
    """

    throughput: Throughput
    theme: Theme
    unfinished: Callable[[], str] = str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        # One column stays free: a line that fills the last one makes some terminals wrap.
        width = options.max_width - 1
        pending = self.theme.text(self.unfinished())
        pending.truncate(width, overflow="crop")
        yield Text("\n", no_wrap=True, overflow="crop", end="").join([pending, *self.lines(width)])

    def lines(self, width: int) -> list[Text]:
        """Return the line of the run and that of the epoch, in at most `width` columns."""
        throughput, run, theme = self.throughput, self.throughput.run, self.theme
        finished, step, total = len(run.history), run.epoch_step, run.steps_per_epoch
        epoch = min(max(run.epoch, finished), max(run.epochs, finished))
        if epoch == finished and finished:
            step = total or 0
        of_epoch = min(1.0, step / total) if total else None
        of_run = (finished + (of_epoch or 0.0) * (epoch > finished)) / run.epochs if run.epochs else 1.0
        elapsed, remaining, evaluating = clock(throughput.elapsed), throughput.remaining, throughput.evaluating
        eta = f"eta {'-' if remaining is None else clock(remaining)}"
        pace = speed(throughput.steps_per_second) if evaluating is None else f"evaluating {clock(evaluating)}"

        epochs = f"{epoch:{len(str(run.epochs))}}/{run.epochs}"
        steps = f"{step:{len(str(total))}}/{total}" if total else str(step)
        room = max(len(epochs), len(steps), 7)
        margin = " " * (width >= 59)
        rows = (
            (f"{margin}epoch {epochs:>{room}}", of_run, f"{elapsed:>7}  {eta:<11}", f"{eta:<11}"),
            (f"{margin} step {steps:>{room}}", of_epoch, f"{pace:<20}", ""),
        )
        lines = []
        for label, fraction, more, less in rows:
            space = width - len(label) - 2
            after, space = (more, space - 22) if space >= 32 else (less, space - 13)
            parts = [theme.text(label)]
            if space >= 4:
                parts.append(self._bar(fraction, min(_WIDEST_BAR, space)))
            if space >= -2 and after:
                parts.append(theme.text(after, "time"))
            lines.append(join(parts))
            lines[-1].truncate(width, overflow="crop")
        return lines

    def _bar(self, fraction: float | None, width: int) -> Text:
        if fraction is None:
            return Text(" " * width)
        full, empty = "#." if self.theme.ascii_only else "━─"
        done = int(min(1.0, fraction) * width)
        return self.theme.text(full * done, "bar.done") + self.theme.text(empty * (width - done), "bar")
