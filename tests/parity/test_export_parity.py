"""`lucid-train export`: a recorded run at a tracker is what the run itself would have sent."""

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from lucid_train import StepEnd, Trainer
from lucid_train.callbacks import CSVLogger, EventLog, TensorBoardLogger
from lucid_train.cli.main import main
from tests.parity.test_mlflow_parity import curves, runs
from tests.parity.test_tensorboard_parity import read, texts
from tests.support.tracking import mlflow_database


@pytest.fixture(autouse=True)
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of two fits in run.jsonl, the first stopped within an epoch, and what was sent of it live."""
    monkeypatch.chdir(tmp_path)
    log = EventLog("run.jsonl", step_every=1, heartbeat=None)
    settings: dict[str, Any] = {"evaluate": lambda: 0.25, "evaluate_every": "2 steps", "epochs": 3}
    callbacks = [log, TensorBoardLogger("live", step_every=1), CSVLogger("live.csv")]
    trainer = Trainer(lambda batch: batch / 4, [1.0, 2.0, 3.0], callbacks=callbacks, **settings)
    trainer.on(StepEnd, at=5)(lambda event: event.run.stop("enough"))
    assert trainer.fit().status == "stopped"
    assert trainer.fit().status == "completed"


def test_tensorboard_shows_what_it_would_have_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "run.jsonl", "--to", "tensorboard"]) == 0
    assert capsys.readouterr() == ("", "")
    assert read(Path("run")) == read(Path("live"))
    assert texts(Path("run"), "status") == texts(Path("live"), "status")


def test_mlflow_has_what_tensorboard_shows(tmp_path: Path) -> None:
    uri = mlflow_database(tmp_path)
    assert main(["export", "run.jsonl", "--to", "mlflow", "--at", uri, "--project", "digits"]) == 0
    [run] = runs(uri)
    assert curves(uri, run) == read(Path("live"))
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert MlflowClient(tracking_uri=uri).get_run(run.info.run_id).data.params["epochs"] == "3"


def test_the_table_is_that_of_the_csv_logger() -> None:
    assert main(["export", "run.jsonl", "--to", "csv"]) == 0
    assert Path("run.csv").read_text() == Path("live.csv").read_text()
    assert main(["export", "run.jsonl", "--to", "csv", "--at", "other.csv"]) == 0
    assert Path("other.csv").read_text() == Path("live.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.jsonl", "--to", "csv"], 2, "'none.jsonl': No such file or directory"),
        (["live.csv", "--to", "csv"], 2, "'live.csv' is not the log of a run"),
        (["run.jsonl", "--to", "csv", "--project", "p"], 2, "'--project' must be left out with --to csv"),
        (["run.jsonl", "--to", "mlflow", "--at", "sqlite:////dev/null/none.db"], 1, "MLflowLogger could not be opened"),
    ],
)
def test_what_cannot_be_exported_is_an_error(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *arguments]) == code
    assert f"lucid-train: error: {message}" in capsys.readouterr().err
