"""`lucid-train export`: a recorded run, sent to a tracker or written as a table."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lucid_train.callback import Callback
from lucid_train.callbacks.csv_logger import CSVLogger
from lucid_train.callbacks.trackers.mlflow import MLflowLogger
from lucid_train.callbacks.trackers.tensorboard import TensorBoardLogger
from lucid_train.callbacks.trackers.trackio import TrackioLogger
from lucid_train.callbacks.trackers.wandb import WandbLogger
from lucid_train.recording.replay import replay

# Each step that was recorded; what cannot be sent is an error, and is waited for long.
_ALL: dict[str, Any] = {"step_every": 1, "strict": True, "timeout": 600.0}


def _mlflow(log: Path, at: str | None, project: str | None) -> Callback:
    return MLflowLogger(project or log.stem, tracking_uri=at, run_name=log.stem, **_ALL)


def _wandb(log: Path, at: str | None, project: str | None) -> Callback:
    return WandbLogger(project or log.stem, run_name=log.stem, mode="offline", folder=at, **_ALL)


_TARGETS: dict[str, Callable[[Path, str | None, str | None], Callback]] = {
    "tensorboard": lambda log, at, project: TensorBoardLogger(at or log.with_suffix(""), **_ALL),
    "mlflow": _mlflow,
    "trackio": lambda log, at, project: TrackioLogger(project or log.stem, run_name=log.stem, **_ALL),
    "wandb": _wandb,
    "csv": lambda log, at, project: CSVLogger(at or log.with_suffix(".csv")),
}


def add_command(commands: Any) -> None:
    """Add `export` to what argparse's `add_subparsers` returned."""
    summary = "send a recorded run to a tracker, or write it as a table"
    parser = commands.add_parser("export", help=summary, description=f"{summary.capitalize()}.")
    parser.add_argument("log", type=Path, help="file that EventLog wrote")
    parser.add_argument("--to", choices=tuple(_TARGETS), required=True, help="what to send it to (required)")
    parser.add_argument(
        "--at",
        metavar="PLACE",
        help="tensorboard's or wandb's folder, csv's file or mlflow's server (default: the log's name without .jsonl; "
        "WANDB_DIR, else this folder; with .csv; MLFLOW_TRACKING_URI, else mlflow.db in this folder)",
    )
    meaning = "MLflow's experiment, or Trackio's or wandb's project (default: the log's name)"
    parser.add_argument("--project", metavar="NAME", help=meaning)
    parser.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> int:
    if arguments.project is not None and arguments.to in ("tensorboard", "csv"):
        raise ValueError(f"'--project' must be left out with --to {arguments.to}: {arguments.project!r}")
    if arguments.at is not None and arguments.to == "trackio":
        raise ValueError(f"'--at' must be left out with --to trackio, set TRACKIO_DIR: {arguments.at!r}")
    try:
        target = _TARGETS[arguments.to](arguments.log, arguments.at, arguments.project)
        replay(arguments.log, [target])
    except (ImportError, RuntimeError) as error:
        raise OSError(str(error)) from error
    return 0
