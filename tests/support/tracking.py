"""Databases for trackers, and what is in them."""

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

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
