"""WandbLogger offline, its files read back, after fits that end well, are killed and are resumed."""

import json
import math
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lucid_train import StepEnd, Trainer
from lucid_train.callbacks import EventLog, WandbLogger
from lucid_train.cli.main import main
from tests.support.launchers import ROOT
from tests.support.tracking import WandbRun, expected_curves, wandb_runs
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "WANDB_SERVICE"):  # the last is of wandb's own process
        monkeypatch.delenv(name, raising=False)


def ended(folder: Path) -> list[WandbRun]:
    """Return the runs of a folder when all are ended, which wandb's own process writes a little later."""
    until(lambda: None not in [run.code for run in wandb_runs(folder)])
    return wandb_runs(folder)


def together(runs: list[WandbRun]) -> dict[str, list[tuple[int, float]]]:
    """Return the curves of several folders, of which each has its part."""
    return {name: sorted(point for run in runs for point in run.curves[name]) for name in runs[0].curves}


def trainer(folder: Path, epochs: int = 2, **settings: Any) -> Trainer:
    logger = WandbLogger("digits", mode="offline", folder=folder, step_every=1, timeout=60, **settings)
    return Trainer(lambda batch: batch / 4, [1.0, 3.0], evaluate=lambda: 0.25, epochs=epochs, callbacks=[logger])


def test_wandb_has_the_metrics_the_parameters_and_the_end(tmp_path: Path) -> None:
    trainer(tmp_path, config={"seed": 3}, run_name="first").fit()
    [run] = ended(tmp_path)
    assert (run.curves, run.name) == (expected_curves(2), "first")
    assert run.config == {"epochs": 2, "evaluate_every": 1, "config.seed": 3}
    assert (run.status, run.code) == ("completed", 0)


@pytest.mark.parametrize(("status", "code"), [("stopped", 0), ("interrupted", 255), ("failed", 1)])
def test_the_status_is_that_of_the_fit(tmp_path: Path, status: str, code: int) -> None:
    run = trainer(tmp_path)

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
    assert [(each.status, each.code) for each in ended(tmp_path)] == [(status, code)]


def test_a_second_fit_is_another_folder_of_the_same_id_and_a_restart_is_another_run(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit()
    run.fit(3)
    run.fit(1, restart=True)
    runs = ended(tmp_path)
    [other] = [run for run in runs if run.config["epochs"] == 1]
    first, second = sorted((run for run in runs if run is not other), key=lambda run: run.config["epochs"])
    assert (first.curves, other.curves) == (expected_curves(2), expected_curves(1))
    assert together([first, second]) == expected_curves(3)
    assert (first.id == second.id, first.id == other.id) == (True, False)


def test_names_and_values_that_wandb_keeps_for_itself_or_has(tmp_path: Path) -> None:
    losses = iter([math.nan, math.inf])
    logger = WandbLogger("digits", mode="offline", folder=tmp_path, timeout=60)
    Trainer(lambda batch: {"step": next(losses), "_a": 1, "a.b": 2}, [1], epochs=2, callbacks=[logger]).fit()
    [run] = ended(tmp_path)
    assert str(run.curves["metric_step"]) == "[(1, nan), (2, inf)]"
    assert run.curves.keys() == {"a.b", "epoch", "metric__a", "metric_step"}


def test_a_run_of_the_program_is_left_alone(tmp_path: Path) -> None:
    program = (
        "import sys, wandb; from lucid_train import Trainer; from lucid_train.callbacks import WandbLogger\n"
        "own = wandb.init(project='own', mode='offline', dir=sys.argv[1])\n"
        "logger = WandbLogger('digits', mode='offline', folder=sys.argv[1], timeout=60)\n"
        "Trainer(lambda batch: batch, [1.0], callbacks=[logger]).fit()\n"
        "assert wandb.run is own\n"
        "wandb.log({'own': 1, 'step': 1})"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert sorted([*run.curves] for run in ended(tmp_path)) == [["epoch", "loss"], ["own"]]


def test_a_recorded_run_of_two_fits_is_exported_with_each_step_once(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "run.jsonl", step_every=1, heartbeat=None)
    run = Trainer(lambda batch: batch / 4, [1.0, 3.0], evaluate=lambda: 0.25, epochs=3, callbacks=[log])
    run.on(StepEnd, at=3)(lambda event: event.run.stop("enough"))
    assert (run.fit().status, run.fit().status) == ("stopped", "completed")
    command = ["export", str(tmp_path / "run.jsonl"), "--to", "wandb", "--at", str(tmp_path / "files")]
    assert main([*command, "--project", "digits"]) == 0
    runs = sorted(ended(tmp_path / "files"), key=lambda run: run.status == "completed")
    assert [(run.name, run.status, run.code) for run in runs] == [("run", "stopped", 0), ("run", "completed", 0)]
    assert len({run.id for run in runs}) == 1
    assert together(runs) == expected_curves(3)


PROGRAM = """
import os, signal, sys, time
from lucid_train import StepEnd, Trainer
from pathlib import Path
from lucid_train.callbacks import Checkpoint, EventLog, WandbLogger
from tests.support.tracking import wandb_runs

folder, awaited, *kills = sys.argv[1:]
kills = {int(step) for step in kills}
checkpoint = Checkpoint(folder + "/checkpoints", weights=False, every=3, interval="step")
log = EventLog(folder + "/run.jsonl", step_every=1, heartbeat=None)
logger = WandbLogger("digits", mode="offline", folder=folder, step_every=1, timeout=60)
trainer = Trainer(lambda batch: batch / 4, [1.0, 3.0], evaluate=lambda: 0.25, epochs=6,
                  callbacks=[logger, log, checkpoint])

def is_in_file(step):
    return step in dict(wandb_runs(Path(folder))[0].curves.get("step/loss", []))

@trainer.on(StepEnd, at=kills)
def kill(event):
    while awaited != "none" and not is_in_file(int(awaited)):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)

trainer.fit(resume="auto")
"""


def test_a_run_that_is_killed_and_resumed_has_each_epoch_and_is_repaired_by_an_export(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    settings: dict[str, Any] = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 100}
    for kill, awaited in ((5, "4"), (10, "none")):
        done = subprocess.run([*arguments, awaited, str(kill)], **settings)
        assert done.returncode == -9, done.stderr
    done = subprocess.run([*arguments, "none"], **settings)
    assert (done.returncode, done.stderr) == (0, "")
    runs, whole = wandb_runs(tmp_path), expected_curves(6)
    # That of the second was killed before the file was written to.
    assert (len(runs), len({run.id for run in runs} - {""})) == (3, 1)
    # After the wait for the fourth step, all was in the file that had come before; the last fit lacks nothing.
    first, last = runs[0], runs[-1]
    assert (first.code, last.code, last.status) == (None, 0, "completed")
    assert first.curves["step/loss"][:4] == whole["step/loss"][:4]
    assert last.curves == whole | {"step/loss": whole["step/loss"][9:]}
    # Twice, and equal.
    for run in runs:
        assert [point for name, points in run.curves.items() for point in points if point not in whole[name]] == []
    command = ["export", str(tmp_path / "run.jsonl"), "--to", "wandb", "--at", str(tmp_path / "repaired")]
    assert main(command) == 0
    assert together(ended(tmp_path / "repaired")) == whole


def test_a_step_is_in_the_file_about_a_second_later(tmp_path: Path) -> None:
    run = trainer(tmp_path, 1)
    seen: list[list[tuple[int, float]]] = []

    def wait(event: StepEnd) -> None:
        until(lambda: "step/loss" in wandb_runs(tmp_path)[0].curves)
        seen.append(wandb_runs(tmp_path)[0].curves["step/loss"])

    run.on(StepEnd, at=2)(wait)
    run.fit()
    assert seen[0][0] == (1, 0.25)


@pytest.mark.parametrize("answers", [True, False], ids=["no answer", "no server"])
def test_a_server_that_is_down_is_one_warning_and_the_exit_does_not_wait(tmp_path: Path, answers: bool) -> None:
    program = (
        "import sys; from lucid_train import Trainer; from lucid_train.callbacks import WandbLogger\n"
        "logger = WandbLogger('digits', folder=sys.argv[1], timeout=1)\n"
        "print(Trainer(lambda batch: batch, [1.0], callbacks=[logger]).fit().status, flush=True)"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:  # it takes calls, and never answers
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        if not answers:
            server.close()
        environment = {**os.environ, "WANDB_BASE_URL": address, "WANDB_API_KEY": "a" * 40, "WANDB_MODE": "online"}
        command = [sys.executable, "-c", program, str(tmp_path)]
        # 60 seconds are far more than the limits, and fewer than wandb waits by itself.
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stdout) == (0, "completed\n")
    assert done.stderr.count("Warning") == 1
    assert "WandbLogger could not be opened, and is sent nothing in this fit: " in done.stderr


class Server(BaseHTTPRequestHandler):
    """A server of wandb's that opens runs, and then does not answer any more."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/graphql" or json.loads(body)["operationName"] == "CreateRunFiles":
            threading.Event().wait()  # for ever
        project = {"id": "p", "name": "digits", "entity": {"id": "e", "name": "me"}}
        bucket = {"id": "x", "name": "r", "displayName": "n", "config": "{}", "project": project, "historyLineCount": 0}
        upsert = {"bucket": bucket | {"description": "", "sweepName": None}, "inserted": True}
        viewer = {"id": "v", "entity": "me", "flags": "{}", "teams": {"edges": []}}
        data = {"upsertBucket": upsert, "viewer": viewer, "serverInfo": {"features": []}, "model": None}
        answer = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.slow
def test_a_server_that_answers_no_more_is_one_warning_and_the_exit_has_the_limit_of_the_callback(
    tmp_path: Path,
) -> None:
    program = (
        "import sys, time; from lucid_train import Trainer; from lucid_train.callbacks import WandbLogger\n"
        "logger = WandbLogger('digits', entity='me', folder=sys.argv[1], timeout=10)\n"  # which wandb is to start in
        "print(Trainer(lambda batch: batch, [1.0], callbacks=[logger]).fit().status, flush=True)"
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {**os.environ, "WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}", "WANDB_API_KEY": "a" * 40}
    command = [sys.executable, "-c", program, str(tmp_path)]
    # Without a limit, wandb waits for ever.
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    server.shutdown()
    assert (done.returncode, done.stdout) == (0, "completed\n")
    assert done.stderr.count("Warning") == 1
    assert "WandbLogger may show the run as going on: no answer within 10 s" in done.stderr
    # What had come is in the file, for `wandb sync`.
    [run] = wandb_runs(tmp_path)
    assert (run.curves, run.status) == ({"epoch": [(1, 1)], "loss": [(1, 1)]}, "completed")


def test_that_there_is_no_key_is_one_warning_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    program = (
        "import sys; from lucid_train import Trainer; from lucid_train.callbacks import WandbLogger\n"
        "logger = WandbLogger('digits', folder=sys.argv[1])\n"
        "print(Trainer(lambda batch: batch, [1.0], callbacks=[logger]).fit().status)"
    )
    nowhere = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_BASE_URL": "http://127.0.0.1:9"}
    environment = os.environ | nowhere
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert (done.returncode, done.stdout) == (0, "completed\n")
    assert "sent nothing in this fit: there is no API key; run `wandb login`, or set WANDB_API_KEY" in done.stderr
