"""CSVLogger: the finished epochs as a table in a file."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path
from typing import IO, Any, final

from attrs import define, field

from lucid_train.callback import TRANSIENT, Callback
from lucid_train.events import EpochReport, FitEnd, FitStart
from lucid_train.files import as_path, rotate, writable_path, write_whole
from lucid_train.history import History, csv_cells, csv_line, number_text
from lucid_train.training.run import Run

_FIRST = "epoch,steps,seconds"


@final
@define(eq=False)
class CSVLogger(Callback):
    """Write one row per epoch to a file, as `History.to_csv` does, each as soon as its epoch is finished.

    A metric that first appears in a later epoch adds a column: the file is replaced by one with the wider header, in
    which the cells of earlier epochs are empty. A run that continues, in this process or another, continues the same
    file; rows beyond the epoch from which it is resumed are dropped. A file that holds something else, another run's
    epochs for example, is first renamed, with ".1" (or ".2" ...) added.

    Args:
        path: The file; its folder is created if necessary.

    Raises:
        ValueError: If `path` is a folder.
        OSError: When the fit starts or later, if the file cannot be written.
    """

    path: Path = field(converter=as_path, validator=writable_path)
    _file: IO[str] | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _columns: list[str] = field(factory=list, init=False, repr=False, metadata=TRANSIENT)

    def settings(self) -> dict[str, Any]:
        return {}  # nothing here changes the training: a run may be resumed with another table, or none

    def on_fit_start(self, event: FitStart) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and not self._continues(event.run):
            rotate(self.path)
        self._write_all(event.run.history)

    def on_epoch_report(self, event: EpochReport) -> None:
        history = event.run.history
        row = history.row(-1)
        if self._file is None or not row.keys() <= set(self._columns):
            self._write_all(history)
        else:
            self._file.write(csv_line(csv_cells(self._columns, row)))
            self._file.flush()

    def on_fit_end(self, event: FitEnd) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write_all(self, history: History) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        text = StringIO()
        history.to_csv(text)
        write_whole(self.path, [memoryview(text.getvalue().encode())])
        self._columns = history.columns()
        self._file = open(self.path, "a", encoding="utf-8", newline="")  # noqa: SIM115  # closed when the fit ends

    def _continues(self, run: Run) -> bool:
        """Return whether the file holds nothing but epochs of this run, so that replacing it loses nothing."""
        try:
            text = self.path.read_text(encoding="utf-8")
            rows = list(csv.DictReader(StringIO(text, newline="")))
        except (csv.Error, UnicodeDecodeError):
            return False
        header = text.partition("\n")[0]
        if not (header.startswith(_FIRST) or _FIRST.startswith(text)) or (rows and not run.step):
            return False
        if rows and not text.endswith("\n"):
            rows.pop()  # incomplete: the process was killed while it wrote
        history = run.history
        for index, row in enumerate(rows[: len(history)]):
            known = {name: cell for name, cell in row.items() if cell and name != "seconds"}
            ours = {name: number_text(value) for name, value in history.row(index).items() if name != "seconds"}
            if known != ours:
                return False
        return True
