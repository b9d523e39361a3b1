"""Draw the console display as SVGs, the pictures in the README: `python examples/console_picture.py [FOLDER]`.

A picture like console.svg can be made of any run: give RichLogger a console that records, and export the recording. It
holds only what is printed permanently: for live.svg a callback prints the moving lines once, in the middle of an epoch.
"""

import io
import sys
from pathlib import Path

from attrs import define
from rich.console import Console

from lucid_train import Callback, StepEnd, on
from lucid_train.callbacks import RichLogger
from lucid_train.cli.demo import train


@define(eq=False)
class Still(Callback):
    """Print the moving lines as they are at one step, and stop."""

    logger: RichLogger

    @on(StepEnd, at=[7 * 150 + 95, 7 * 150 + 96])
    def draw(self, event: StepEnd) -> None:
        """Draw the moving lines; what is drawn first asks for the means, which the next drawing shows."""
        console = Console(file=io.StringIO()) if event.step % 150 == 95 else self.logger.console
        if console is not None:
            console.print(self.logger.moving)
        if event.step % 150 == 96:
            event.run.stop("the picture is taken")


def recording() -> Console:
    """Return a console that shows nothing and records everything."""
    return Console(record=True, file=io.StringIO(), force_terminal=True, width=100, legacy_windows=False)


folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent

console = recording()
rows = RichLogger(console, header=False, summary=False, monitor="val_accuracy")
train(epochs=10, callbacks=[rows, Still(rows)])
console.save_svg(str(folder / "live.svg"), title="lucid-train demo --epochs 10, while it runs", unique_id="live")

console = recording()
train(epochs=10, callbacks=[RichLogger(console, monitor="val_accuracy")])
console.save_svg(str(folder / "console.svg"), title="lucid-train demo --epochs 10", unique_id="console")
print("drawn: live.svg, console.svg")
