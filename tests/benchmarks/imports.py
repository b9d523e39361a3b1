"""What importing costs, against starting the interpreter, and against importing attrs, which the schedules stand on."""

from __future__ import annotations

import os
import subprocess
import sys
from tempfile import TemporaryDirectory

from measure import Row, best_of


def rows() -> list[Row]:
    """Measure everything."""

    with TemporaryDirectory() as compiled:
        # Also where the environment says otherwise: an installed package is compiled already.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": compiled}

        def start(code: str) -> None:
            subprocess.run([sys.executable, "-c", code], check=True, env=environment)

        bare, attrs, schedules, trainer = best_of(
            lambda: start("pass"),
            lambda: start("import attrs"),
            lambda: start("from lucid_train.optims.lr_scheduler import StepLR"),
            lambda: start("from lucid_train import Trainer"),
            repeats=20,
        )
    return [
        Row("import StepLR alone", schedules, attrs, "import attrs", budget=1.4),
        Row("import attrs", attrs, bare, "bare interpreter start"),
        Row("import Trainer", trainer, bare, "bare interpreter start"),
    ]
