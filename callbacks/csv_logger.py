"""CSVLogger: the finished epochs as a table in a file."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar, final

from attrs import define, field

from lucid_train.callback import TRANSIENT, Callback, Ranks
from lucid_train.events import EpochReport, FitStart
from lucid_train.files import as_path, rotate, writable_path
from lucid_train.history import csv_cells, csv_line, number_text
from lucid_train.training.run import Run

_FIRST = "epoch,steps,seconds"


@final
@define(eq=False)
class CSVLogger(Callback):
    """Write one row per epoch to a file, as `History.to_csv` does, each as soon as its epoch is finished.

    A metric that first appears in a later epoch adds a column: the file is replaced by one with the wider header, in
    which the cells of earlier epochs are empty. If the file is removed or replaced while the run goes on, it is written
    again as a whole. A run that continues, in this process or another, continues the same file; rows beyond the epoch
    from which it is resumed are dropped. A file that holds something else, another run's epochs for example, is first
    renamed, with ".1" (or ".2" ...) added.

    Args:
        path: The file; its folder is created if necessary.

    Raises:
        ValueError: If `path` is a folder.
        OSError: When the fit starts or later, if the file cannot be written.
    """

    ranks: ClassVar[Ranks] = "first"

    path: Path = field(converter=as_path, validator=writable_path)
    _columns: list[str] = field(factory=list, init=False, repr=False, metadata=TRANSIENT)
    _left: tuple[int, int] | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)

    def settings(self) -> dict[str, Any]:
        return {}  # nothing here changes the training: a run may be resumed with another table, or none

    def describe(self) -> dict[str, str]:
        return {"recording": str(self.path)}

    def on_fit_start(self, event: FitStart) -> None:
        self._write_all(event.run)

    def on_epoch_report(self, event: EpochReport) -> None:
        history = event.run.history
        row = history.row(-1)
        if row.keys() <= set(self._columns) and self._mark() == self._left:
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                file.write(csv_line(csv_cells(self._columns, row)))
            self._left = self._mark()
        else:
            self._write_all(event.run)

    def _write_all(self, run: Run) -> None:
        if self.path.exists() and not self._continues(run):
            rotate(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        run.history.to_csv(self.path)
        self._columns, self._left = run.history.columns(), self._mark()

    def _mark(self) -> tuple[int, int] | None:
        """Return what tells whether the file is still as it was left: nobody has removed, replaced or changed it."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size

    def _continues(self, run: Run) -> bool:
        """Return whether the file holds nothing but epochs of this run, so that replacing it loses nothing."""
        try:
            text = self.path.read_text(encoding="utf-8")
            rows = list(csv.DictReader(StringIO(text, newline="")))
        except (csv.Error, UnicodeDecodeError):
            return False
        if not (text.startswith(_FIRST) or _FIRST.startswith(text)) or (rows and not run.step):
            return False
        if rows and not text.endswith("\n"):
            rows.pop()  # incomplete: the process was killed while it wrote
        history = run.history
        ours = [{name: number_text(cell) for name, cell in history.row(index).items()} for index in range(len(history))]
        return all(map(_is_same_epoch, rows, ours))


def _is_same_epoch(row: Mapping[str, str], own: Mapping[str, str]) -> bool:
    # How long it took does not matter: a history that was restored from elsewhere may not know that.
    cells = {name: cell for name, cell in row.items() if cell}
    return {**cells, "seconds": ""} == {**own, "seconds": ""}
