"""Databases for trackers, and what is in them."""

import json
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from attrs import define

# Trackio reads this when it is imported.
TRACKIO_FOLDER = os.environ["TRACKIO_DIR"] = tempfile.mkdtemp()


@cache
def _template() -> Path:
    from mlflow import MlflowClient

    path = Path(tempfile.mkdtemp()) / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments(max_results=1)
    return path


def mlflow_database(folder: Path) -> str:
    """Return the URI of a database of MLflow's in a folder, which is made by copying one: its tables take seconds."""
    path = folder.absolute() / "mlflow.db"
    if not path.exists():
        shutil.copy(_template(), path)
    return f"sqlite:///{path}"


def expected_curves(epochs: int) -> dict[str, list[tuple[int, float]]]:
    """Return what a run of epochs of two steps has, whose losses are 0.25 and 0.75 and whose evaluation is 0.25."""
    ends = range(1, epochs + 1)
    return {
        "epoch": [(2 * epoch, float(epoch)) for epoch in ends],
        "loss": [(2 * epoch, 0.5) for epoch in ends],
        "step/loss": [point for epoch in ends for point in ((2 * epoch - 1, 0.25), (2 * epoch, 0.75))],
        "val_loss": [(2 * epoch, 0.25) for epoch in ends],
    }


def trackio_runs(project: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the runs of a project with their settings."""
    from trackio import SQLiteStorage

    def own(name: str) -> dict[str, Any]:
        config = SQLiteStorage.get_run_config(project, name) or {}
        return {key: value for key, value in config.items() if not key.startswith("_")}

    return [(name, own(name)) for name in SQLiteStorage.get_runs(project)]


def trackio_curves(project: str, run: str) -> dict[str, list[tuple[int, float]]]:
    """Return the numbers of a run, but for how long the epochs took."""
    from trackio import SQLiteStorage

    found: dict[str, list[tuple[int, float]]] = {}
    for row in SQLiteStorage.get_logs(project, run):
        for name in row.keys() - {"step", "timestamp", "seconds"}:
            found.setdefault(name, []).append((row["step"], row[name]))
    return {name: sorted(points) for name, points in sorted(found.items())}


def wandb_records(path: Path) -> Iterator[Any]:
    """Return the records of a file of wandb's that is perhaps still being written."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = path.read_bytes(), 7, b""  # after the file's own header
    while at + 7 <= len(data):
        left = 32768 - at % 32768  # of a block
        if left < 7:  # too short for the header of a part
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4) and at <= len(data):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


@define(frozen=True)
class WandbRun:
    """What wandb has written to a folder; `code` is the exit code, or None of a run that was not ended."""

    id: str
    name: str
    config: dict[str, Any]
    curves: dict[str, list[tuple[int, float]]]
    status: str | None
    code: int | None


def wandb_runs(folder: Path) -> list[WandbRun]:
    """Return the runs of a folder, one per folder of wandb's, but for how long the epochs took."""
    found = []
    for path in sorted((folder / "wandb").glob("*run-*/*.wandb")):
        identity, name, status, code = "", "", None, None
        config: dict[str, Any] = {}
        curves: dict[str, list[tuple[int, float]]] = {}
        for record in wandb_records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                identity, name = record.run.run_id, record.run.display_name
            if kind in ("run", "config"):
                changes = record.run.config if kind == "run" else record.config
                config |= {each.key: json.loads(each.value_json) for each in changes.update if each.key != "_wandb"}
            elif kind == "history":
                row = {each.nested_key[0]: json.loads(each.value_json) for each in record.history.item}
                for key in row.keys() - {"step", "seconds"}:
                    if "step" in row and not key.startswith("_"):
                        curves.setdefault(key, []).append((row["step"], row[key]))
            elif kind == "summary":
                changes = {(each.key or each.nested_key[0]): each.value_json for each in record.summary.update}
                status = json.loads(changes["status"]) if "status" in changes else status
            elif kind == "exit":
                code = record.exit.exit_code
        found.append(WandbRun(identity, name, config, dict(sorted(curves.items())), status, code))
    return found
