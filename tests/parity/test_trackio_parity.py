"""TrackioLogger, read back by Trackio, after fits that end well, are killed and are resumed."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lucid_train import StepEnd, Trainer
from lucid_train.callbacks import EventLog, TrackioLogger
from lucid_train.cli.main import main
from tests.support.tracking import TRACKIO_FOLDER, expected_curves, trackio_curves, trackio_runs


@pytest.fixture
def project(tmp_path: Path) -> str:
    return f"project-{tmp_path.parent.name}-{tmp_path.name}"[-60:]


def trainer(project: str, epochs: int = 2, **settings: Any) -> Trainer:
    logger = TrackioLogger(project, step_every=1, **{"timeout": 60, **settings})
    return Trainer(lambda batch: batch / 4, [1.0, 3.0], evaluate=lambda: 0.25, epochs=epochs, callbacks=[logger])


def test_trackio_has_the_metrics_the_parameters_and_the_end(project: str) -> None:
    trainer(project, config={"seed": 3}, run_name="first").fit()
    [(name, config)] = trackio_runs(project)
    assert trackio_curves(project, name) == expected_curves(2)
    assert (name, config) == ("first", {"epochs": 2, "evaluate_every": 1, "config.seed": 3, "status": "completed"})


@pytest.mark.parametrize("status", ["stopped", "interrupted", "failed"])
def test_the_status_is_that_of_the_fit(project: str, status: str) -> None:
    run = trainer(project)

    @run.on(StepEnd, at=3)
    def act(event: StepEnd) -> None:
        if status == "stopped":
            event.run.stop("enough")
        elif status == "interrupted":
            event.run.interrupt(KeyboardInterrupt("now"), "Ctrl-C")
        else:
            raise OSError("now")

    if status == "stopped":
        run.fit()
    else:
        with pytest.raises((KeyboardInterrupt, OSError), match="now"):
            run.fit()
    assert [config["status"] for _, config in trackio_runs(project)] == [status]


def test_a_second_fit_goes_on_with_the_run_and_a_restart_is_another(project: str) -> None:
    run = trainer(project)
    run.fit()
    run.fit(3)
    [(name, config)] = trackio_runs(project)
    assert (trackio_curves(project, name), config["epochs"]) == (expected_curves(3), 3)
    run.fit(1, restart=True)
    [other] = [each for each, _ in trackio_runs(project) if each != name]
    assert trackio_curves(project, other) == expected_curves(1)


def test_names_and_values_that_trackio_keeps_for_itself_or_has(project: str) -> None:
    losses = iter([math.nan, math.inf])
    Trainer(lambda batch: {"time": next(losses)}, [1], epochs=2, callbacks=[TrackioLogger(project, timeout=60)]).fit()
    [(name, _)] = trackio_runs(project)
    assert str(trackio_curves(project, name)["metric_time"]) == "[(1, nan), (2, inf)]"


def test_a_name_that_trackio_refuses_is_a_warning() -> None:
    with pytest.warns(RuntimeWarning, match="^TrackioLogger could not be opened, and is sent nothing in this fit: "):
        trainer("registry-of-models").fit()


def test_a_text_is_asked_for_where_one_is_needed() -> None:
    with pytest.raises(TypeError, match=r"^'run_name' must be a text that is not empty: ''$"):
        TrackioLogger("digits", run_name="")


def test_a_recorded_run_is_exported(project: str, tmp_path: Path) -> None:
    log = EventLog(tmp_path / "run.jsonl", step_every=1, heartbeat=None)
    Trainer(lambda batch: batch / 4, [1.0, 3.0], evaluate=lambda: 0.25, epochs=2, callbacks=[log]).fit()
    assert main(["export", str(tmp_path / "run.jsonl"), "--to", "trackio", "--project", project]) == 0
    assert [name for name, _ in trackio_runs(project)] == ["run"]
    assert trackio_curves(project, "run") == expected_curves(2)


PROGRAM = """
import os, signal, sys
from lucid_train import StepEnd, Trainer
from lucid_train.callbacks import Checkpoint, TrackioLogger

project, checkpoints, *kills = sys.argv[1:]
kills = {int(step) for step in kills}
checkpoint = Checkpoint(checkpoints, weights=False, every=3, interval="step")
trainer = Trainer(lambda batch: batch / 4, [1.0, 3.0], evaluate=lambda: 0.25, epochs=6,
                  callbacks=[TrackioLogger(project, step_every=1, timeout=60), checkpoint])
trainer.on(StepEnd, at=kills)(lambda event: os.kill(os.getpid(), signal.SIGKILL))
trainer.fit(resume="auto")
"""


def test_a_run_that_is_killed_and_resumed_is_one_run_with_each_step_once(project: str, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", PROGRAM, project, str(tmp_path / "checkpoints")]
    settings: dict[str, Any] = {"env": {**os.environ, "TRACKIO_DIR": TRACKIO_FOLDER}, "capture_output": True}
    for kill in (5, 10):
        assert subprocess.run([*arguments, str(kill)], timeout=100, **settings).returncode == -9
        assert [config["status"] for _, config in trackio_runs(project)] == ["running"]
    done = subprocess.run(arguments, timeout=100, **settings)
    assert done.returncode == 0, done.stderr
    [(name, config)] = trackio_runs(project)
    assert (trackio_curves(project, name), config["status"]) == (expected_curves(6), "completed")
