"""WandbLogger: a run at Weights & Biases, or in files that `wandb sync` sends there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, final

from attrs import define, field
from attrs.converters import optional

from lucid_train.callback import TRANSIENT
from lucid_train.callbacks.trackers.tracker import Opening, Point, Tracker, imported
from lucid_train.events import Status
from lucid_train.files import as_path
from lucid_train.validation import one_of, optional_text, text

# wandb shows 255 as interrupted with Ctrl-C.
_EXIT_CODES = {"completed": 0, "stopped": 0, "interrupted": 255, "failed": 1}
# Seconds between two writes of the file of a run, which a kill may lose; wandb's own are 15.
_FLUSHED_EVERY = 0.5
# How many of the newest rows are read at the server when a run is resumed.
_NEWEST_ROWS = 10_000


def _folder(instance: object, attribute: Any, value: Any) -> None:
    if value is not None and not isinstance(value, Path):
        raise TypeError(f"'folder' must be the path of a folder, or None: {value!r}")


def _known_mode(instance: object, attribute: Any, value: Any) -> None:
    one_of("mode", value, (None, "online", "offline"))


@final
@define(eq=False)
class WandbLogger(Tracker):
    """Send a run to Weights & Biases, or write it to files that `wandb sync` sends; it needs the extra `wandb`.

    Metrics are over "step", the steps that are done, and not over wandb's own step, which drops what goes back; a
    metric named "step" or "status", or with "_" at its start, gets the prefix `metric_`. How the run ended is "status"
    in its summary: wandb shows "completed" and "stopped" as finished, the other two as failed or killed. It is a run
    beside one that the program has begun with `wandb.init`, and `wandb.run` is not set to it. wandb's console capture
    is off, and so are its error reports unless WANDB_ERROR_REPORTING says otherwise: they delay the interpreter's exit
    by some ten seconds where the server does not answer.

    Online, a run that is resumed goes on as the same one, in which each step is once: what the server has is read from
    it, and not sent again. A kill loses what wandb had not sent yet, up to the last 15 seconds; of these the epochs are
    sent when the run is resumed. The file of the run has what came until half a second before the kill.

    Offline, wandb cannot resume: each fit writes a folder of its own, all with the id of the run. A kill loses half a
    second. A run that is resumed writes the epochs before once more, with equal values, so that none is missing, and
    the steps since the checkpoint. `lucid-train export run.jsonl --to wandb` writes a run with each step once.

    Args:
        project: The project; it is created if necessary.
        run_name: The name of the run, or None for one that wandb makes up.
        entity: The user or team that owns the project, or None for wandb's default.
        group: The name of a group of runs, or None.
        mode: "online", "offline", or None for that of the environment variable WANDB_MODE, else "online".
        folder: The folder in which wandb makes its own, "wandb"; None for that of WANDB_DIR, else the current one.
        step_every: Send the metrics of every step whose number is a multiple of this; by default of none. At least 1.
        config: Settings of your program, to be shown as parameters beside those of the run.
        timeout: Seconds to wait for wandb when a fit starts, when it ends, and when the interpreter exits. Above 0.
        strict: Wait at every epoch, and raise what would otherwise be a warning.

    Raises:
        ImportError: When the fit starts, if wandb is not installed.
        RuntimeError: When the fit starts or later, if `strict` and wandb cannot be reached.
    """

    project: str = field(validator=text, kw_only=False)
    run_name: str | None = field(default=None, validator=optional_text)
    entity: str | None = field(default=None, validator=optional_text)
    group: str | None = field(default=None, validator=optional_text)
    mode: str | None = field(default=None, validator=_known_mode)
    folder: Path | None = field(default=None, converter=optional(as_path), validator=_folder)
    _run: Any = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _sent: dict[str, int] = field(factory=dict, init=False, repr=False, metadata=TRANSIENT)  # in this process

    def describe(self) -> dict[str, str]:
        return {"recording": f"Weights & Biases, {self.project}"}

    def metric_name(self, name: str) -> str:
        return f"metric_{name}" if name in ("step", "status") or name.startswith("_") else name

    def prepare(self) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        imported("wandb", "wandb", self)

    def open(self, opening: Opening) -> None:
        import wandb

        if self._mode() == "online" and wandb.run is None and not wandb.login(prompt=False, verify=False):
            raise PermissionError("there is no API key; run `wandb login`, or set WANDB_API_KEY")
        if self._run is not None and self._run.id != opening.run_id:
            self._sent = {}
        self._run = wandb.init(
            entity=self.entity,
            project=self.project,
            name=self.run_name,
            group=self.group,
            id=opening.run_id,
            resume="allow",
            reinit="create_new",
            mode=self._mode(),
            dir=self.folder,
            settings=wandb.Settings(
                silent=True,
                console="off",
                # It has the better message if it gives up before this tracker is given up; and must not end silently
                # before the end is waited for in vain.
                init_timeout=0.8 * self.timeout,
                finish_timeout=self.timeout + 1,
                x_transaction_log_flush_interval=_FLUSHED_EVERY,
            ),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        # A run that is resumed begins with the parameters of the server, which `init` would prefer to new ones.
        self._run.config.update(dict(opening.parameters), allow_val_change=True)

    def sent(self) -> Mapping[str, int]:
        import wandb

        if self._mode() != "online":
            return self._sent
        if not self._run.resumed:
            return {}
        first = max(0, self._run.starting_step - _NEWEST_ROWS)  # counted by wandb, in rows
        # The summary would be quicker, but has one step for all: not whether the epoch of that step has arrived.
        found = wandb.Api().run(self._run.path).scan_history(min_step=first, use_cache=False)
        rows = [row for row in found if row.get("step") is not None]
        # What is in none of these rows is in older ones.
        last = dict.fromkeys(self._run.summary.keys(), rows[0]["step"]) if first and rows else {}
        for row in rows:
            last |= {name: row["step"] for name, value in row.items() if value is not None}
        return last

    def send(self, points: Sequence[Point]) -> None:
        for step, group in groupby(points, attrgetter("step")):
            found = list(group)
            row = {"step": step, "_timestamp": found[0].time}
            self._run.log(row | {each.name: each.value for each in found})
            self._sent |= {each.name: step for each in found}

    def close(self, status: Status) -> None:
        self._run.summary["status"] = status
        self._run.finish(exit_code=_EXIT_CODES[status])

    def _mode(self) -> str:
        return self.mode or os.environ.get("WANDB_MODE") or "online"
