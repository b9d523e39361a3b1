"""Draw the display of a PyTorch training, while it runs and when it is done: `python examples/picture.py [FOLDER]`.

A picture like trained.svg can be made of any run: give RichLogger a console that records, and export the recording. It
holds only what is printed permanently; for training.svg a callback adds the moving lines, once, in the middle of an
epoch.
"""

import io
import os
import sys
import tempfile
from pathlib import Path

import torch
from attrs import define
from rich.console import Console
from rich.text import Text
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lucid_train import Callback, StepEnd, Trainer, on, schedules
from lucid_train.callbacks import Checkpoint, LRSchedulerCallback, RichLogger
from lucid_train.data import digits

TITLE = "A small CNN in PyTorch"


def recording() -> Console:
    """Return a console that shows nothing and records everything."""
    return Console(record=True, file=io.StringIO(), force_terminal=True, width=100, legacy_windows=False)


@define(eq=False)
class Still(Callback):
    """Draw the screen as it is at one step."""

    logger: RichLogger
    console: Console
    file: Path

    @on(StepEnd, at=[5 * 150 + 94, 5 * 150 + 95])
    def draw(self, event: StepEnd) -> None:
        """Draw what is there and the moving lines; what is drawn first asks for the means, which come with the next."""
        still = recording()
        still.print(Text.from_ansi(self.console.export_text(clear=False, styles=True)), "", self.logger.moving)
        still.save_svg(str(self.file), title=f"{TITLE}, while it runs", unique_id="training")


folder = Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
folder = folder if folder.is_dir() else folder.parent
torch.manual_seed(0)
torch.set_num_threads(1)  # threads cost more than they gain on a network of this size
images, labels, test_images, test_labels = (torch.from_numpy(array) for array in digits())
images, test_images = (each.float().reshape(-1, 1, 8, 8) for each in (images, test_images))
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.25), nn.Linear(256, 10)
)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.005)


def metrics(images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the loss and the accuracy."""
    scores = model(images)
    return {"loss": cross_entropy(scores, labels), "accuracy": (scores.argmax(1) == labels).float().mean()}


def train_step(batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Do one update."""
    optimizer.zero_grad()
    found = metrics(*batch)
    found["loss"].backward()
    optimizer.step()
    return found


@torch.no_grad()
def evaluate() -> dict[str, torch.Tensor]:
    """Return the metrics of the test set."""
    return metrics(test_images, test_labels)


console = recording()
logger = RichLogger(console, monitor="val_accuracy")
with tempfile.TemporaryDirectory() as elsewhere:
    os.chdir(elsewhere)  # for the checkpoints
    Trainer(
        step=train_step,
        data=DataLoader(TensorDataset(images, labels), batch_size=8, shuffle=True),
        model=model,
        optimizer=optimizer,
        evaluate=evaluate,
        epochs=10,
        callbacks=[
            LRSchedulerCallback(schedules.Cosine().warmup("5%"), interval="step"),
            Checkpoint("runs/digits", monitor="val_accuracy"),
            logger,
            Still(logger, console, folder / "training.svg"),
        ],
    ).fit()
    os.chdir(folder)
console.save_svg(str(folder / "trained.svg"), title=f"{TITLE}, when it is done", unique_id="trained")
print("drawn: training.svg, trained.svg")
