"""Bars: the lines that move, with the progress of the epoch and its metrics, that of the run, and the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from attrs import define, field
from rich.console import Console, ConsoleOptions
from rich.text import Text

from lucid_train.callbacks.display.columns import DEFAULT_COLUMNS, Column
from lucid_train.callbacks.display.formatting import Numbers, clock, join, speed
from lucid_train.callbacks.display.theme import Theme
from lucid_train.callbacks.display.throughput import Throughput
from lucid_train.optims.param_groups import held_values

_WIDEST_BAR, _NARROWEST_BAR = 40, 5
# The metrics are in the epoch's line if they leave so much room for the bar and "evaluating", else in their own.
_BAR_BESIDE_METRICS = 22
# Columns for the speed and the times: "1,234 steps/s  12:34  eta 12:34".
_REST = 32
_NOT_FINITE, _FIRST_OF_NUMBER = ("nan", "inf", "-inf"), set("0123456789-")


@define(eq=False)
class Bars:
    """A renderable that shows a run as it is when it is rendered.

    Args:
        throughput: The times of the fit, its run and its metrics.
        theme: The theme.
        numbers: How numbers are written.
        metrics: Which metrics are shown, in this order; None for all, the loss first.
        columns: What else is shown.
        unfinished: Returns what has been printed without a newline so far; it is shown above.
    """

    throughput: Throughput
    theme: Theme
    numbers: Numbers = field(factory=Numbers)
    metrics: Sequence[str] | None = None
    columns: Sequence[Column] = ()
    unfinished: Callable[[], str] = str
    # The width at which the metrics were last given a line of their own: they keep it. And the width of the bars, which
    # do not become wider again, at that of the screen.
    _apart_at: int | None = field(default=None, init=False)
    _bar_at: tuple[int, int] = field(default=(0, 0), init=False)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        # One column stays free: a line that fills the last one makes some terminals wrap.
        width = options.max_width - 1
        pending = self.theme.text(self.unfinished())
        pending.truncate(width, overflow="crop")
        yield Text("\n", no_wrap=True, overflow="crop", end="").join([pending, *self.lines(width)])

    def lines(self, width: int) -> list[Text]:
        """Return the line of the epoch, that of the run and, where they need one, that of the metrics."""
        throughput, run, theme = self.throughput, self.throughput.run, self.theme
        finished, step, total = len(run.history), run.epoch_step, run.steps_per_epoch
        epoch = min(max(run.epoch, finished, 1), max(run.epochs, finished))
        if epoch == finished and finished:
            step = total or 0
        of_epoch = min(1.0, step / total) if total else None
        of_run = (finished + (of_epoch or 0.0) * (epoch > finished)) / run.epochs if run.epochs else 1.0
        count, values = f"{step:{len(str(total))}}/{total}" if total else "", self.values()
        state = "" if total else f"step {step}"
        evaluating, tracked = throughput.evaluating, run.tracked
        if evaluating is not None:
            done, of = tracked or (0, None)
            state = "evaluating" if of else f"evaluating {done if tracked else clock(evaluating)}"
            count, of_epoch = f"{done}/{of}" if of else "", min(1.0, done / of) if of else None

        margin = " " * (width >= 59)
        epochs = f"{margin}epoch {epoch:{len(str(run.epochs))}}/{run.epochs}"
        room = max(len(count), len("100 %"), 2 * len(str(total or 0)) + 1)
        columns = (
            [] if state else [speed(throughput.steps_per_second), *(each.render(throughput) for each in self.columns)]
        )
        remaining = throughput.remaining
        times = [clock(throughput.elapsed), f"eta {'-' if remaining is None else clock(remaining)}"]
        # What there is room for without bars: the further columns go first, then the speed, then the time so far.
        after = [*filter(None, columns), *times]
        before = len(epochs) + 2 + room + 2
        while after and before + len("  ".join(after)) > width:
            del after[-3 if len(after) > 2 else 0]
        if values and before + 2 + _BAR_BESIDE_METRICS + len("  ".join(values)) > width:
            self._apart_at = width
        beside = self._apart_at != width
        # Most texts become longer in the course of a run, and the bars are not to move then.
        spent = before + 2 + max(len("  ".join(after)), _REST * bool(columns), len("  ".join(values)) * beside)
        known_width, known = self._bar_at
        bar = min(_WIDEST_BAR, width - spent, known if known_width == width else _WIDEST_BAR)
        self._bar_at = width, bar

        lines = []
        labels = [epochs, f"{margin}run".ljust(len(epochs))]
        rows = [(of_epoch, count, values if beside else []), (of_run, f"{int(100 * of_run)} %", after)]
        for label, (fraction, text, rest), word in zip(labels, rows, (state, ""), strict=True):
            parts = [theme.text(label)]
            size = bar - len(f"{word}  ") * bool(word)
            if word:
                parts.append(theme.text(word, "label"))
            if size >= _NARROWEST_BAR:
                parts.append(self._bar(fraction, size))
            elif bar >= _NARROWEST_BAR:
                parts.append(Text(" " * max(0, size)))
            parts.append(theme.text(text.rjust(room)))
            parts += [self._value(each) for each in rest]
            lines.append(join(parts))
        if not beside:
            indent = " " * (len(epochs) + 2 if bar >= _NARROWEST_BAR else len(margin))
            while values and len(indent) + len("  ".join(values)) > width:
                values.pop()
            lines.append(Text(indent, end="") + join(map(self._value, values)))
        for line in lines:
            line.rstrip()
            line.truncate(width, overflow="crop")
        return lines

    def as_line(self, width: int) -> str:
        """Return where the run stands in one line, with the metrics that it has room for."""
        throughput, run, values = self.throughput, self.throughput.run, self.values()
        total, remaining, tracked = run.steps_per_epoch, throughput.remaining, run.tracked
        before, after = [f"epoch {run.epoch:{len(str(run.epochs))}}/{run.epochs}"], []
        if throughput.evaluating is None:
            before.append(f"step {run.epoch_step}/{total}" if total else f"step {run.epoch_step}")
            after = [speed(throughput.steps_per_second), *(column.render(throughput) for column in self.columns)]
        else:
            done = "" if tracked is None else f" {tracked[0]}/{tracked[1]}" if tracked[1] else f" {tracked[0]}"
            before.append(f"evaluating{done}")
        parts = [*before, *values, *filter(None, after), "" if remaining is None else f"eta {clock(remaining)}"]
        # What there is no room for is left out: the rate and the last metrics, before columns that the user has chosen.
        further, others = after[:0:-1], [*values[:0:-1], *after[:1]]
        spare = [*filter(None, further + others if self.columns == DEFAULT_COLUMNS else others + further)]
        while spare and len("  ".join(filter(None, parts))) > width:
            parts.remove(spare.pop(0))
        return "  ".join(filter(None, parts))

    def values(self) -> list[str]:
        """Return the running means of the epoch as texts, and the rate that is set now; ask for the next ones."""
        found = self.throughput.running.read()
        self.throughput.running.ask()
        names = found if self.metrics is None else [name for name in self.metrics if name in found]
        texts = [f"{name} {self.numbers.running(name, found[name])}" for name in names]
        groups = getattr(self.throughput.run.optimizer, "param_groups", ())
        rates = [group["lr"] for group in groups]
        if texts and rates and all(type(rate) is float for rate in rates):  # a tensor's device is not asked
            texts.append(f"lr {self.numbers.rates(rates)}")
        for name, values in self.throughput.run.held_scheduled(held_values).items() if texts else ():
            if all(type(value) is float for value in values):
                texts.append(f"{name} {self.numbers.scheduled(name, values)}")
        return texts

    def _value(self, text: str) -> Text:
        """Return a text with its name and its unit dim."""
        words = text.split(" ")
        styles = ["nan" if word in _NOT_FINITE else "" if word[:1] in _FIRST_OF_NUMBER else "label" for word in words]
        return join(map(self.theme.text, words, styles), " ")

    def _bar(self, fraction: float | None, width: int) -> Text:
        if fraction is None:
            return Text(" " * width)
        full, half, empty = ("#", "", ".") if self.theme.ascii_only else ("━", "╸", "─")
        halves = int(min(1.0, fraction) * width * 2)
        done = full * (halves // 2) + half * (halves % 2)
        return self.theme.text(done, "bar.done") + self.theme.text(empty * (width - len(done)), "bar")
