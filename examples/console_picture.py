"""Draw the console display as SVGs, the pictures in the README: `python examples/console_picture.py [FOLDER]`.

A picture like console.svg can be made of any run: give RichLogger a console that records, and export the recording. It
holds only what is printed permanently: for live.svg a callback prints the moving lines once, in the middle of an epoch.
"""

import io
import os
import sys
import tempfile
from pathlib import Path

from attrs import define
from rich.console import Console

from lucid_train import Callback, StepEnd, on
from lucid_train.callbacks import Checkpoint, EarlyStopping, RichLogger
from lucid_train.cli.demo import train

STEP = 7 * 1348 + 861  # in epoch 8


@define(eq=False)
class Still(Callback):
    """Print the moving lines as they are at one step, and draw what was printed until then."""

    logger: RichLogger
    file: Path

    @on(StepEnd, at=[STEP - 1, STEP])
    def draw(self, event: StepEnd) -> None:
        """Draw the moving lines; what is drawn first asks for the means, which the next drawing shows."""
        console = self.logger.console
        if event.step < STEP:
            Console(file=io.StringIO()).print(self.logger.moving)
        else:
            console.print(self.logger.moving)
            console.save_svg(str(self.file), title="lucid-train demo, while it runs", unique_id="live")


def recording() -> Console:
    """Return a console that shows nothing and records everything."""
    return Console(record=True, file=io.StringIO(), force_terminal=True, width=100, legacy_windows=False)


folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent).resolve()
os.chdir(tempfile.mkdtemp())  # where the checkpoints go
live, whole = RichLogger(recording(), header=False, summary=False), RichLogger(recording())
train(
    callbacks=[
        EarlyStopping("val_accuracy", patience=8, restore_best=True),
        Checkpoint("runs/digits", monitor="val_accuracy"),
        live,
        whole,
        Still(live, folder / "live.svg"),
    ]
)
whole.console.save_svg(
    str(folder / "console.svg"), title="lucid-train demo --directory runs/digits", unique_id="console"
)
print("drawn: live.svg, console.svg")
