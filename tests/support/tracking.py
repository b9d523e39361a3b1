"""Databases for trackers."""

import shutil
import tempfile
from functools import cache
from pathlib import Path


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
