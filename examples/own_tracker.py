"""A tracker of your own: a table in SQLite. Killed and resumed, it has one run, and each step once."""

import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field

from lucid_train import TRANSIENT, Trainer
from lucid_train.callbacks.trackers.tracker import Opening, Point, Tracker


@define(eq=False)
class SQLiteLogger(Tracker):
    """Write a run to a table of numbers."""

    path: Path = field(kw_only=False)
    _table: Any = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _run: str = field(default="", init=False, repr=False, metadata=TRANSIENT)

    def open(self, opening: Opening) -> None:
        self._table, self._run = sqlite3.connect(self.path), opening.run_id
        self._table.execute("create table if not exists numbers (run, name, step, value)")

    def sent(self) -> Mapping[str, int]:
        return dict(self._table.execute("select name, max(step) from numbers where run = ? group by name", [self._run]))

    def send(self, points: Sequence[Point]) -> None:
        rows = [(self._run, point.name, point.step, point.value) for point in points]
        with self._table:
            self._table.executemany("insert into numbers values (?, ?, ?, ?)", rows)

    def close(self, status: str) -> None:
        self._table.close()


def main() -> None:
    """Train, and read the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        tracker = SQLiteLogger(path, step_every=5)
        Trainer(step=lambda batch: 1 / batch, data=range(1, 11), epochs=2, callbacks=[tracker]).fit()
        for row in sqlite3.connect(path).execute("select name, step, value from numbers where name like '%loss'"):
            print(*row)


if __name__ == "__main__":
    main()
