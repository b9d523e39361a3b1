"""TrackioLogger: a run in Trackio's database on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, final

from attrs import define, field

from lucid_train.callback import TRANSIENT
from lucid_train.callbacks.trackers.tracker import Opening, Point, Tracker, imported
from lucid_train.events import Status
from lucid_train.validation import optional_text, text

# What Trackio keeps for itself.
_RESERVED = ("project", "run", "timestamp", "step", "time", "metrics")


@final
@define(eq=False)
class TrackioLogger(Tracker):
    """Write a run to Trackio's database, which `trackio show` shows; it needs the extra `trackio`.

    The database is on this machine, in the folder that the environment variable TRACKIO_DIR names, or Trackio's own;
    `trackio sync` sends it on. How the run ended is "status" among its settings. A metric whose name Trackio keeps for
    itself, such as "time", gets the prefix `metric_`.

    A run that is resumed goes on as the same one, in which each step is once: what Trackio has is not sent again. A
    kill loses at most the steps since the last evaluation, epoch or checkpoint, those of a second or so; the status is
    "running" until it is resumed.

    Args:
        project: The project; it is created if necessary.
        run_name: The name of the run, or None for the first letters of its id.
        step_every: Write the metrics of every step whose number is a multiple of this; by default of none. At least 1.
        config: Settings of your program, to be shown beside those of the run.
        timeout: Seconds to wait for the database when a fit starts and when it ends. Above 0.
        strict: Wait at every epoch, and raise what would otherwise be a warning.

    Raises:
        ImportError: When the fit starts, if trackio is not installed.
        RuntimeError: When the fit starts or later, if `strict` and the database cannot be written.
    """

    project: str = field(validator=text, kw_only=False)
    run_name: str | None = field(default=None, validator=optional_text)
    _id: str = field(default="", init=False, repr=False, metadata=TRANSIENT)
    _shown: dict[str, Any] = field(factory=dict, init=False, repr=False, metadata=TRANSIENT)
    _newest: tuple[str, dict[str, float], int, str] | None = field(
        default=None, init=False, repr=False, metadata=TRANSIENT
    )

    def describe(self) -> dict[str, str]:
        return {"recording": f"Trackio, {self.project}"}

    def waits(self) -> bool:
        return True

    def metric_name(self, name: str) -> str:
        return f"metric_{name}" if name in _RESERVED or name.startswith("__") else name

    def prepare(self) -> None:
        imported("trackio", "trackio", self)

    def open(self, opening: Opening) -> None:
        from trackio import SQLiteStorage

        SQLiteStorage.validate_project_name(self.project)
        self._id, self._newest = opening.run_id, None
        self._shown = {**opening.parameters, "status": "running"}

    def sent(self) -> Mapping[str, int]:
        from trackio import SQLiteStorage

        rows = SQLiteStorage.get_logs(self.project, run_id=self._id)
        return {name: row["step"] for row in sorted(rows, key=lambda row: row["step"]) for name in row}

    def send(self, points: Sequence[Point]) -> None:
        rows = []
        for step, group in groupby(points, attrgetter("step")):
            found = list(group)
            when = datetime.fromtimestamp(found[0].time, UTC).isoformat()
            # A row whose id is there is not written again.
            rows.append((f"{self._id}/{step}/{found[0].name}", {each.name: each.value for each in found}, step, when))
        self._write(rows)
        self._newest = rows[-1]

    def close(self, status: Status) -> None:
        if self._newest is not None:  # Trackio shows no run that has no numbers
            self._shown["status"] = status
            self._write([self._newest])

    def _write(self, rows: Sequence[tuple[str, dict[str, float], int, str]]) -> None:
        # Its Run has a queue and threads, cannot be flushed, and would write twice what a resumed run trains again.
        from trackio import SQLiteStorage

        ids, metrics, steps, times = map(list, zip(*rows, strict=True))
        SQLiteStorage.bulk_log(
            self.project,
            self.run_name or self._id[:8],
            metrics,
            steps=steps,
            timestamps=times,
            config=self._shown,
            log_ids=ids,
            run_id=self._id,
        )
