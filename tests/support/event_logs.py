"""Runs that are recorded in an event log, and what the file holds."""

import json
from pathlib import Path
from typing import Any

from lucid_train import Trainer
from lucid_train.callbacks.event_log import EventLog

SILENT = {"heartbeat": None}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def events(path: Path) -> list[tuple[str, Any]]:
    """Return what happened, without what differs from run to run: times, processes."""
    found = []
    for line in lines(path):
        if line["event"] in ("FitStart", "FitEnd", "FitError", "progress"):
            continue
        del line["time"]
        run = line.pop("run", {})
        added = [record for name in ("history", "evaluations") for record in run.get(name, ())]
        for record in added:
            del record["seconds"]
        found.append((line["event"], [line, added]))
    return found


def fit(path: Path, epochs: int, steps: int = 3, **settings: Any) -> Trainer:
    log = EventLog(path, **SILENT, **settings)
    trainer = Trainer(step=lambda batch: batch / 4, data=range(steps), epochs=epochs, callbacks=[log])
    trainer.fit()
    return trainer
