"""MLflowLogger, read back by MLflow's client, after fits that end well, are killed and are resumed."""

import math
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as Found

from lucid_train import StepEnd, Trainer
from lucid_train.callbacks import MLflowLogger
from tests.support.tracking import expected_curves, mlflow_database


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return mlflow_database(tmp_path)


def runs(uri: str, experiment: str = "digits") -> list[Found]:
    client = MlflowClient(tracking_uri=uri)
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


def curves(uri: str, run: Found) -> dict[str, list[tuple[int, float]]]:
    """Return the numbers of a run, but for how long the epochs took."""
    client = MlflowClient(tracking_uri=uri)
    names = sorted(set(run.data.metrics) - {"seconds"})
    found = {name: client.get_metric_history(run.info.run_id, name) for name in names}
    return {name: sorted((each.step, each.value) for each in history) for name, history in found.items()}


def trainer(uri: str, epochs: int = 2, **settings: Any) -> Trainer:
    logger = MLflowLogger("digits", **{"tracking_uri": uri, "step_every": 1, "timeout": 60, **settings})
    return Trainer(lambda batch: batch / 4, [1.0, 3.0], evaluate=lambda: 0.25, epochs=epochs, callbacks=[logger])


def test_mlflow_has_the_metrics_the_parameters_and_the_end(uri: str) -> None:
    trainer(uri, config={"seed": 3}, run_name="first").fit()
    [run] = runs(uri)
    assert curves(uri, run) == expected_curves(2)
    assert run.data.params == {"epochs": "2", "evaluate_every": "1", "config.seed": "3"}
    assert (run.info.status, run.info.run_name, run.data.tags["status"]) == ("FINISHED", "first", "completed")


@pytest.mark.parametrize(
    ("end", "status"), [("stop", "FINISHED"), ("interrupt", "KILLED"), ("raise", "FAILED")], ids=str
)
def test_the_status_is_that_of_the_fit(uri: str, end: str, status: str) -> None:
    run = trainer(uri)

    @run.on(StepEnd, at=3)
    def act(event: StepEnd) -> None:
        if end == "stop":
            event.run.stop("enough")
        elif end == "interrupt":
            event.run.interrupt(KeyboardInterrupt("now"), "Ctrl-C")
        else:
            raise OSError("now")

    if end == "stop":
        run.fit()
    else:
        with pytest.raises((KeyboardInterrupt, OSError), match="now"):
            run.fit()
    [found] = runs(uri)
    assert found.info.status == status


def test_a_second_fit_goes_on_with_the_run_and_notes_a_parameter_that_changed(uri: str) -> None:
    run = trainer(uri)
    run.fit()
    run.fit(3)
    [found] = runs(uri)
    assert curves(uri, found) == expected_curves(3)
    assert (found.data.params["epochs"], found.data.tags["changed.epochs"]) == ("2", "3")
    assert found.info.status == "FINISHED"


def test_a_restart_is_another_run(uri: str) -> None:
    run = trainer(uri)
    run.fit()
    run.fit(1, restart=True)
    assert [curves(uri, found) for found in runs(uri)] == [expected_curves(1), expected_curves(2)]


def test_names_and_values_that_mlflow_does_not_have(uri: str) -> None:
    losses = iter([math.nan, math.inf])
    logger = MLflowLogger("digits", tracking_uri=uri, timeout=60, config={"a#b": "x" * 7000})
    Trainer(lambda batch: {"loss@1": next(losses)}, [1], epochs=2, callbacks=[logger]).fit()
    [run] = runs(uri)
    assert str(curves(uri, run)["loss_1"]) == "[(1, nan), (2, 1.7976931348623157e+308)]"
    assert run.data.params["config.a_b"] == "x" * 6000


def test_more_parameters_than_a_call_may_have(uri: str) -> None:
    trainer(uri, config={f"key{index}": index for index in range(250)}).fit()
    [run] = runs(uri)
    assert len(run.data.params) == 252


def test_the_database_is_that_of_the_environment_else_one_in_the_current_folder(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    trainer("unused", 1, tracking_uri=None).fit()
    assert len(runs(uri)) == 1
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_database(tmp_path / "other"))
    trainer("unused", 1, tracking_uri=None).fit()
    assert (len(runs(uri)), len(runs(mlflow_database(tmp_path / "other")))) == (1, 1)


def test_a_server_that_does_not_answer_is_one_warning_and_the_limit() -> None:
    program = (
        "import sys; from lucid_train import Trainer; from lucid_train.callbacks import MLflowLogger\n"
        "logger = MLflowLogger(tracking_uri=sys.argv[1], timeout=0.2)\n"
        "print(Trainer(lambda batch: batch, [1.0], callbacks=[logger]).fit().status)"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:  # it takes calls, and never answers
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        done = subprocess.run([sys.executable, "-c", program, address], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "completed\n")
    assert done.stderr.count("Warning") == 1
    assert "MLflowLogger could not be opened, and is sent nothing in this fit: no answer within 0.2 s" in done.stderr


PROGRAM = """
import os, signal, sys
from lucid_train import StepEnd, Trainer
from lucid_train.callbacks import Checkpoint, MLflowLogger

uri, checkpoints, *kills = sys.argv[1:]
kills = {int(step) for step in kills}
checkpoint = Checkpoint(checkpoints, weights=False, every=3, interval="step")
trainer = Trainer(lambda batch: batch / 4, [1.0, 3.0], evaluate=lambda: 0.25, epochs=6,
                  callbacks=[MLflowLogger("digits", tracking_uri=uri, step_every=1, timeout=60), checkpoint])
trainer.on(StepEnd, at=kills)(lambda event: os.kill(os.getpid(), signal.SIGKILL))
trainer.fit(resume="auto")
"""


def test_a_run_that_is_killed_and_resumed_is_one_run_with_each_step_once(uri: str, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", PROGRAM, uri, str(tmp_path / "checkpoints")]
    for kill in (5, 10):
        assert subprocess.run([*arguments, str(kill)], capture_output=True, timeout=100).returncode == -9
        assert [run.info.status for run in runs(uri)] == ["RUNNING"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    [run] = runs(uri)
    assert (curves(uri, run), run.info.status) == (expected_curves(6), "FINISHED")
