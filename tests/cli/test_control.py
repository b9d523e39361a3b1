"""`lucid-train control`: a run in another process is saved, evaluated, stopped, and goes on with another rate."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lucid_train import Trainer, read_checkpoint
from lucid_train.callbacks import EventLog
from lucid_train.cli.main import main
from lucid_train.command import Command
from lucid_train.recording.mailbox import Mailbox
from tests.support.processes import command, run
from tests.support.waiting import until

# Trains until it is stopped; the log and the checkpoints are named like the first argument.
WRITER = """
import sys, time
from lucid_train import Trainer, nn, optims, schedules
from lucid_train.callbacks import Checkpoint, EventLog, LRSchedulerCallback, RichLogger
place, settings = sys.argv[1], eval(sys.argv[2])
model = nn.Linear(2, 1)
optimizer = optims.SGD(model.parameters(), lr=0.1)
def step(batch):
    time.sleep(0.01)
    optimizer.step()
    return 0.5
Trainer(
    step, range(50), model=model, optimizer=optimizer, epochs=1000, evaluate=lambda: 0.25,
    callbacks=[
        LRSchedulerCallback(schedules.Exponential(0.999)), Checkpoint(place, every=None), RichLogger(),
        EventLog(place + ".jsonl", **{"heartbeat": 0.05, **settings}),
    ],
).fit(resume="auto")
"""


class Writer:
    """A process that trains and records itself."""

    def __init__(self, place: Path) -> None:
        self.place, self.log = place, place.with_name(f"{place.name}.jsonl")
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, **settings: Any) -> subprocess.Popen[str]:
        before = self.text.count("EpochStart")
        arguments = [sys.executable, "-c", WRITER, str(self.place), repr(settings)]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.processes.append(process)
        until(lambda: self.text.count("EpochStart") > before or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        return process

    @property
    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    @property
    def answers(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in lines if line["event"] == "CommandAnswered"]

    def control(self, *words: str, wait: float = 100) -> tuple[int, str]:
        done = run("control", self.log, *words, "--wait", wait)
        assert done.stderr == ""
        return done.returncode, done.stdout


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    made = Writer(tmp_path / "run")
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_run_is_steered_from_another_process_and_goes_on_when_it_is_started_again(writer: Writer) -> None:
    process = writer.start()
    code, said = writer.control("set", "lr=0.01")
    assert code == 0
    match = re.fullmatch(r"set lr=0.01: lr from 0\.\d+ to 0.01, its base from 0.1 to 0\.\d+, saved (\S+)\n", said)
    assert match is not None, said
    assert read_checkpoint(match[1])["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.01)
    code, said = writer.control("evaluate")
    assert (code, re.sub(r"\d+", "N", said)) == (0, "evaluate: after step N: val_loss N.N\n")
    code, said = writer.control("save")
    assert code == 0
    assert Path(said.removeprefix("save: saved ").rstrip("\n")).is_file()
    code, said = writer.control("set", "momentum=0.5")
    assert (code, said) == (
        1,
        "set momentum=0.5: refused: 'momentum' must be one of the numbers that this run can set: lr\n",
    )
    code, said = writer.control("stop")
    assert (code, re.sub(r"\d+", "N", said)) == (0, "stop: the fit ends after step N\n")
    output, errors = process.communicate(timeout=100)
    assert (process.returncode, errors) == (0, "")
    assert re.search(r"\ndone set lr=0.01 by \S+ on \S+: lr from", output)
    assert re.search(r"\nrefused set momentum=0.5 by ", output)
    assert not Mailbox(writer.log).folder.exists()
    code, said = writer.control("save")
    assert code == 1
    assert re.fullmatch(r"save: the run has ended, stopped: stopped by a command of .*\n", said)
    # It goes on with the rate that was set, and has no command to answer.
    given = len(writer.answers)
    again = writer.start()
    code, said = writer.control("stop")
    assert code == 0
    again.communicate(timeout=100)
    rates = [
        line["run"]["last_lr"][0]
        for line in map(json.loads, writer.text.splitlines())
        if "last_lr" in line.get("run", {})
    ]
    assert rates[-1] < 0.0101
    assert len(writer.answers) == given + 1
    shown = run("show", "--json", writer.log)
    facts = json.loads(shown.stdout)
    assert (shown.returncode, facts["status"]) == (0, "stopped")
    assert [each["command"] for each in facts["commands"]][:3] == ["set lr=0.01", "evaluate", "save"]


@pytest.mark.slow
def test_a_command_that_a_dead_process_has_left_is_never_carried_out(writer: Writer) -> None:
    process = writer.start()
    process.send_signal(signal.SIGSTOP)
    code, said = writer.control("stop", wait=0.5)
    assert (code, said) == (
        3,
        "stop: no answer in 0.5 s: the run looks for commands every 0.05 s and did not take it, it is withdrawn\n",
    )
    first = next(json.loads(line) for line in writer.text.splitlines())
    file = Mailbox(writer.log).post(Command("stop", by="me", id="left"), first["writer"])
    shown = run("show", "--json", writer.log)
    assert (shown.returncode, json.loads(shown.stdout)["status"]) == (3, "running")
    process.kill()
    process.wait()
    code, said = writer.control("save")
    assert (code, said) == (1, "save: the run has died, its process is gone\n")
    shown = run("show", "--json", writer.log)
    assert (shown.returncode, json.loads(shown.stdout)["status"]) == (1, "died")
    assert file.exists()
    writer.start()
    until(lambda: any(each["id"] == "left" for each in writer.answers))
    [answer] = [each for each in writer.answers if each["id"] == "left"]
    assert not answer["done"]
    assert answer["answer"] == "stale: it is addressed to a process that wrote this log before"
    assert not file.exists()
    assert writer.control("stop")[0] == 0


def asked(writer: Writer, *words: str) -> tuple[subprocess.Popen[str], Path]:
    """Begin to give a command to a process that stands still; return who waits for the answer, and the folder."""
    asking = subprocess.Popen(command("control", writer.log, *words), stdout=subprocess.PIPE, text=True)
    folder = Mailbox(writer.log).folder
    until(lambda: folder.exists() and any(each.suffix == ".json" for each in folder.iterdir()))
    return asking, folder


@pytest.mark.slow
def test_a_run_that_dies_while_a_command_awaits_it_is_said_to_have_died(writer: Writer) -> None:
    process = writer.start()
    process.send_signal(signal.SIGSTOP)
    asking, folder = asked(writer, "save")
    process.kill()
    process.wait()
    said, _ = asking.communicate(timeout=100)
    assert (asking.returncode, said) == (1, "save: the run has died, its process is gone\n")
    assert list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_takes_a_command_back(writer: Writer, number: int, code: int) -> None:
    process = writer.start()
    process.send_signal(signal.SIGSTOP)
    asking, folder = asked(writer, "stop")
    asking.send_signal(number)
    said, _ = asking.communicate(timeout=100)
    assert (asking.returncode, said) == (code, "stop: it is withdrawn\n")
    assert list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (
            {"heartbeat": None},
            "the run has no heartbeat, with which it looks for commands: EventLog(..., heartbeat=None)",
        ),
        ({"control": False}, "the run takes no commands: EventLog(..., control=False), or it is on Windows"),
    ],
)
def test_a_run_that_takes_no_commands_is_not_given_any(writer: Writer, settings: dict[str, Any], why: str) -> None:
    writer.start(**settings)
    assert writer.control("save") == (1, f"save: {why}\n")
    assert not Mailbox(writer.log).folder.exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["sav"], "'command' must be save, stop, evaluate or set NAME=VALUE: 'sav'"),
        (["set", "lr"], "'command' must be save, stop, evaluate or set NAME=VALUE: 'set lr'"),
        (["set", "lr=0"], "'lr' must be set to a number > 0, as no schedule can be scaled from 0: 0.0"),
        (["save", "--wait", "-1"], "'--wait' must be >= 0: -1.0"),
    ],
)
def test_a_wrong_command_is_refused_before_the_log_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    assert main(["control", str(tmp_path / "none.jsonl"), *words]) == 2
    assert capsys.readouterr().err == f"lucid-train: error: {why}\n"


def test_a_log_that_is_not_there_or_not_a_log_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "run.jsonl"
    assert main(["control", str(log), "save"]) == 2
    assert f"'{log}': No such file or directory" in capsys.readouterr().err
    log.write_text("{}\n")
    assert main(["control", str(log), "save"]) == 2
    assert "is not the log of a run" in capsys.readouterr().err


def test_a_run_that_has_ended_is_not_given_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "run.jsonl"
    Trainer(epochs=1, callbacks=[EventLog(log)]).fit()
    assert main(["control", str(log), "save"]) == 1
    assert capsys.readouterr().out == "save: the run has ended, completed\n"
    assert os.listdir(tmp_path) == ["run.jsonl"]


def test_a_log_of_another_user_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "run.jsonl"
    Trainer(epochs=1, callbacks=[EventLog(log)]).fit()
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(line for line in lines if '"FitE' not in line))
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    assert main(["control", str(log), "save"]) == 2
    assert "the log belongs to another user, who alone can control its run" in capsys.readouterr().err


def test_a_log_in_which_nothing_has_begun_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.jsonl").touch()
    assert main(["control", str(tmp_path / "run.jsonl"), "save"]) == 1
    assert capsys.readouterr().out == "save: no run has begun in this log\n"


@pytest.mark.slow
def test_a_link_to_the_log_is_the_log(writer: Writer, tmp_path: Path) -> None:
    writer.start()
    (tmp_path / "latest.jsonl").symlink_to(writer.log)
    assert run("control", tmp_path / "latest.jsonl", "stop", "--wait", 100).returncode == 0
    assert not (tmp_path / "latest.jsonl.control").exists()
