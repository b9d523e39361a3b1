"""What importing costs, against starting the interpreter."""

from __future__ import annotations

import subprocess
import sys

from measure import Row, best_of


def rows() -> list[Row]:
    """Measure everything."""

    def start(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    bare, schedules, trainer = best_of(
        lambda: start("pass"),
        lambda: start("from lucid_train.optims.lr_scheduler import StepLR"),
        lambda: start("from lucid_train import Trainer"),
        repeats=20,
    )
    return [
        Row("import StepLR alone", schedules, bare, "bare interpreter start", budget=2.0),
        Row("import Trainer", trainer, bare, "bare interpreter start"),
    ]
