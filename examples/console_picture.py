"""Draw the console display as SVGs, the pictures in the README: `python examples/console_picture.py [FOLDER]`.

A picture like console.svg can be made of any run: give RichLogger a console that records, and export the recording. It
holds only what is printed permanently, so for live.svg a callback prints the bars once, in the middle of an epoch.
"""

import io
import sys
from pathlib import Path

from attrs import define, field
from rich.console import Console

from lucid_train import Callback, EpochReport, EpochStart, EvaluateEnd, EvaluateStart, FitStart, StepEnd, on
from lucid_train.callbacks import RichLogger
from lucid_train.callbacks.display.bars import Bars
from lucid_train.callbacks.display.theme import Theme
from lucid_train.callbacks.display.throughput import Throughput
from lucid_train.cli.demo import train


@define(eq=False)
class Still(Callback):
    """Print the bars as they are at one step, and stop."""

    console: Console
    throughput: Throughput = field(init=False, repr=False)

    def on_fit_start(self, event: FitStart) -> None:
        """Take the same times as the logger."""
        self.throughput = Throughput(event.run)

    def on_epoch_start(self, event: EpochStart) -> None:
        """Take the same times as the logger."""
        self.throughput.start_epoch()

    def on_evaluate_start(self, event: EvaluateStart) -> None:
        """Take the same times as the logger."""
        self.throughput.start_evaluation()

    def on_evaluate_end(self, event: EvaluateEnd) -> None:
        """Take the same times as the logger."""
        self.throughput.end_evaluation()

    def on_epoch_report(self, event: EpochReport) -> None:
        """Take the same times as the logger."""
        self.throughput.end_epoch(event.record)

    @on(StepEnd, at=7 * 150 + 96)
    def draw(self, event: StepEnd) -> None:
        """Print the bars."""
        self.console.print(Bars(self.throughput, Theme.of(self.console, None)))
        event.run.stop("the picture is taken")


def recording() -> Console:
    """Return a console that shows nothing and records everything."""
    return Console(record=True, file=io.StringIO(), force_terminal=True, width=100, legacy_windows=False)


folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent

console = recording()
rows = RichLogger(console, header=False, summary=False, monitor="val_accuracy")
train(epochs=10, callbacks=[rows, Still(console)])
console.save_svg(str(folder / "live.svg"), title="lucid-train demo --epochs 10, while it runs", unique_id="live")

console = recording()
train(epochs=10, callbacks=[RichLogger(console, monitor="val_accuracy")])
console.save_svg(str(folder / "console.svg"), title="lucid-train demo --epochs 10", unique_id="console")
print("drawn: live.svg, console.svg")
