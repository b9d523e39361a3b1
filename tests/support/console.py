"""Consoles that write into memory, what they show, and a run for RichLogger to show."""

import io
import re
from typing import Any, cast

from rich.console import Console

from lucid_train import Callback, History, Trainer
from lucid_train.callbacks import RichLogger
from lucid_train.nn import Linear
from lucid_train.optims import SGD

SECONDS = re.compile(r"\b\d+(\.\d+)?(ms|s)\b|[\d.,]+ (steps/s|s/step)")


class Sink(io.StringIO):
    """A file that counts how often it is written to."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def terminal(width: int = 80, **settings: Any) -> Console:
    return Console(file=Sink(), force_terminal=True, width=width, height=40, color_system=None, **settings)


def pipe(width: int = 80) -> Console:
    return Console(file=Sink(), force_terminal=False, width=width, color_system=None)


def shown(console: Console) -> str:
    return cast("io.StringIO", console.file).getvalue()


def permanent(console: Console) -> list[str]:
    """Return the lines that are on a terminal when all is over: each redrawing erases the lines that move."""
    lines: list[str] = [""]
    for piece in re.split(r"(\n|\x1b\[2K|\x1b\[1A|\r|\x1b\[\?25[lh])", shown(console)):
        if piece == "\n":
            lines.append("")
        elif piece == "\x1b[1A":
            lines.pop()
        elif piece == "\x1b[2K":
            lines[-1] = ""
        elif piece not in ("\r", "\x1b[?25l", "\x1b[?25h"):
            lines[-1] += piece
    return [line.rstrip() for line in lines]


def optimizer(lr: float = 0.1) -> SGD:
    return SGD(Linear(1, 1).parameters(), lr=lr)


def train(logger: RichLogger, *others: Callback, epochs: int = 3, **settings: Any) -> History:
    """Train on three batches, with two metrics unless `step` returns others, and with the logger as last callback."""
    sgd = settings.pop("optimizer", None) or optimizer()
    work = settings.pop("step", lambda number: {"loss": 1 / number, "acc[top5]": number / 10})

    def step(number: float) -> Any:
        sgd.step()
        return work(number)

    settings = {"data": [1, 2, 4], **settings}
    return Trainer(step, epochs=epochs, optimizer=sgd, callbacks=[*others, logger], **settings).fit()
