"""The lines that move: how far the run and the epoch are, how fast they go, how long they will."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import define
from rich.console import Console, ConsoleOptions
from rich.text import Text

from lucid_train.callbacks.display import formatting
from lucid_train.callbacks.display.theme import Look, join
from lucid_train.callbacks.display.throughput import Pace
from lucid_train.training.run import Run

_WIDEST_BAR = 40


@define(eq=False)
class Bars:
    """A renderable that shows a run as it is when it is rendered. Always as many lines, so that nothing jumps.

    Args:
        run: The run.
        pace: The fit's times.
        look: What may be used.
        unfinished: Returns what was printed without a newline so far.
    """

    run: Run
    pace: Pace
    look: Look
    unfinished: Callable[[], str] = str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        # One column stays free: a line that fills the last one makes some terminals wrap.
        width = options.max_width - 1
        pending = self.look.text(self.unfinished())
        pending.truncate(width, overflow="crop")
        yield Text("\n", no_wrap=True, overflow="crop", end="").join([pending, *self.lines(width)])

    def lines(self, width: int) -> list[Text]:
        """Return the line of the run and that of the epoch, in at most `width` columns."""
        run, look = self.run, self.look
        finished, step, total = len(run.history), run.epoch_step, run.steps_per_epoch
        epoch = min(max(run.epoch, finished), max(run.epochs, finished))
        part = min(1.0, step / total) if total and epoch > finished else 0.0
        if epoch == finished and finished:
            step, part = total or 0, 0.0
        left = self.pace.left(run, run.epoch_step)
        elapsed = formatting.clock(self.pace.elapsed)
        to_go = f"eta {'-' if left is None else formatting.clock(left)}"
        evaluating = self.pace.evaluating
        speed = formatting.pace(self.pace.steps_per_second(run.epoch_step))
        speed = speed if evaluating is None else f"evaluating {formatting.clock(evaluating)}"

        digits = len(str(run.epochs))
        of_epochs = f"{epoch:{digits}}/{run.epochs}"
        of_steps = f"{step:{len(str(total))}}/{total}" if total else str(step)
        room = max(len(of_epochs), len(of_steps), 7)
        labels = [f"epoch {of_epochs:>{room}}", f" step {of_steps:>{room}}"]
        long = [f"{elapsed:>7}  {to_go:<11}", f"{speed:<20}"]
        short = [f"{to_go:<11}", ""]
        fractions = [(finished + part) / run.epochs if run.epochs else 1.0, (step / total) if total else None]
        margin = " " * (width >= 59)
        lines = []
        for label, more, less, fraction in zip(labels, long, short, fractions, strict=True):
            space = width - len(margin) - len(label) - 2
            after, space = (more, space - 22) if space >= 32 else (less, space - 13)
            parts = [look.text(margin + label)]
            if space >= 4:
                parts.append(self._bar(fraction, min(_WIDEST_BAR, space)))
            if space >= -2 and after:
                parts.append(look.text(after, "time"))
            lines.append(join(parts))
            lines[-1].truncate(width, overflow="crop")
        return lines

    def _bar(self, fraction: float | None, width: int) -> Text:
        full, empty = ("#", ".") if self.look.ascii_only else ("━", "─")
        done = 0 if fraction is None else int(min(1.0, fraction) * width)
        if fraction is None:
            return Text(" " * width)
        return self.look.text(full * done, "bar.done") + self.look.text(empty * (width - done), "bar")
