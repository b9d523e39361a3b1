import contextlib
import copy
import io
import json
import math
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from lucid_train import Callback, EpochStart, EvaluateEnd, EvaluateStart, FitEnd, StepEnd, Trainer, replay
from lucid_train.callbacks import Checkpoint, EarlyStopping, ExponentialLRCallback, RichLogger
from lucid_train.callbacks.display.throughput import Throughput
from lucid_train.callbacks.event_log import EventLog
from lucid_train.cli import main as cli
from lucid_train.command import Command
from lucid_train.nn import Linear
from lucid_train.optims import SGD
from tests.support.processes import command
from tests.support.terminal import Terminal, has


def called(*arguments: Any) -> int:
    return cli.main(list(map(str, arguments)))


def trained(path: Path, scale: float, **settings: Any) -> None:
    model = Linear(3, 2)
    epochs = iter(range(1, 100))
    Trainer(
        step=lambda batch: batch,
        data=[0.5],
        epochs=3,
        model=model,
        optimizer=SGD(model.parameters(), lr=0.1),
        evaluate=lambda: scale / next(epochs),
        callbacks=[ExponentialLRCallback(gamma=0.5), EventLog(path), EarlyStopping()],
        **settings,
    ).fit()


def test_a_display_that_comes_late_shows_the_pace_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    Trainer(step=lambda batch: None, data=[1, 2, 3], epochs=2, callbacks=[EventLog(path, step_every=1)]).fit()
    entries = [json.loads(line) for line in path.read_text().splitlines()][:9]
    assert entries[-1]["event"] == "StepEnd"
    for index, entry in enumerate(entries):
        entry["time"] = 1000.0 + 10 * index
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    throughputs: list[Throughput] = []

    class Timed(Callback):
        def on_epoch_start(self, event: EpochStart) -> None:
            throughputs.append(Throughput(event.run))

        def on_fit_end(self, event: FitEnd) -> None:
            last = throughputs[-1]
            assert (last.elapsed, last.steps_per_second, last.remaining) == (10.0, 0.1, 20.0)

    replay(path, [Timed()])
    assert len(throughputs) == 2


@pytest.mark.filterwarnings("ignore:scheduler.step")
def test_show_prints_the_header_and_the_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a path that is longer than a line is broken
    trained(Path("run.jsonl"), 1.0)
    assert called("show", "run.jsonl") == 0
    *header, status, best = capsys.readouterr().out.splitlines()
    assert header == [
        "model Linear, 8 parameters",
        "training 3 epochs of 1 step, SGD",
        "schedule times 0.5 every epoch",
        "recording run.jsonl",
        "stopping after 5 epochs without a lower val_loss",
        "best lowest val_loss (*)",
    ]
    assert status.startswith("completed 3 epochs, 3 steps in ")
    assert best == "best epoch 3: val_loss 0.3333, loss 0.5000"


@pytest.mark.filterwarnings("ignore:scheduler.step")
def test_show_compares_several_runs_and_marks_the_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = [tmp_path / name for name in ("a.jsonl", "b.jsonl", "c.jsonl")]
    for log, scale in zip(logs, (3.0, 1.5, 2.0), strict=True):
        trained(log, scale)
    assert called("show", *logs) == 0
    header, *shown = capsys.readouterr().out.splitlines()
    assert header.split() == ["run", "best", "val_loss", "at", "epoch", "epochs", "status", "time", "lr"]
    cells = [re.sub(r" \S+s +0\.0125$", "", line).split() for line in shown]
    assert cells == [
        [str(logs[0]), "1.0000", "3", "3", "completed"],
        ["*", str(logs[1]), "0.5000", "3", "3", "completed"],
        [str(logs[2]), "0.6667", "3", "3", "completed"],
    ]
    assert called("show", *logs, "--mode", "max") == 0
    assert [line.split()[0] == "*" for line in capsys.readouterr().out.splitlines()] == [False, True, False, False]


def test_runs_are_compared_by_their_evaluations_within_epochs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for log, scale in zip(logs, (1.0, 0.5), strict=True):
        losses = iter([3 * scale, scale, 2 * scale, 4 * scale])
        Trainer(
            step=lambda batch: 0.5,
            data=range(4),
            epochs=2,
            evaluate=lambda losses=losses: next(losses),  # type: ignore[misc]  # mypy infers no type for it
            evaluate_every="2 steps",
            callbacks=[EarlyStopping(), EventLog(log)],
        ).fit()
    assert called("show", logs[0]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "best epoch 1, step 4: val_loss 1.0000"
    for options in ((), ("--monitor", "val_loss")):
        assert called("show", *logs, *options) == 0
        header, *shown = capsys.readouterr().out.splitlines()
        assert header.split()[:3] == ["run", "best", "val_loss"]
        assert [line.split()[:-2] for line in shown] == [
            [str(logs[0]), "1.0000", "1,", "step", "4", "2"],
            ["*", str(logs[1]), "0.5000", "1,", "step", "4", "2"],
        ]
    assert called("show", *logs, "--monitor", "f1") == 2
    assert "'monitor' must be one of the metrics, loss, val_loss: 'f1'" in capsys.readouterr().err


@pytest.mark.parametrize("count", [1, 2])
def test_a_metric_whose_name_does_not_say_what_is_better_needs_a_mode(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    logs = [tmp_path / f"{index}.jsonl" for index in range(count)]
    for index, log in enumerate(logs):
        Trainer(lambda batch, f1=index: {"f1": f1}, [1], callbacks=[EventLog(log)]).fit()  # type: ignore[misc]
    assert called("show", *logs, "--monitor", "f1") == 2
    sentence = "'--mode' must be given with --monitor f1: pass --mode min or --mode max"
    assert sentence in capsys.readouterr().err
    assert called("show", *logs, "--monitor", "f1", "--mode", "max") == 0
    assert "f1 0.0000" in capsys.readouterr().out if count == 1 else "* " in capsys.readouterr().out.splitlines()[-1]


def test_the_time_left_of_a_recorded_run_includes_evaluations_within_epochs(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    Trainer(
        step=lambda batch: None,
        data=range(4),
        epochs=2,
        evaluate=lambda: 1.0,
        evaluate_every="2 steps",
        callbacks=[EventLog(path)],
    ).fit()
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    # Two steps take 10 seconds, and so does an evaluation.
    for index, entry in enumerate(entries):
        entry["time"] = 1000.0 + 10 * (index - 1)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    remaining: list[float | None] = []

    class Timed(Callback):
        throughput: ClassVar[Throughput]

        def on_epoch_start(self, event: EpochStart) -> None:
            type(self).throughput = Throughput(event.run)

        def on_evaluate_start(self, event: EvaluateStart) -> None:
            self.throughput.start_evaluation()

        def on_evaluate_end(self, event: EvaluateEnd) -> None:
            self.throughput.end_evaluation()
            remaining.append(self.throughput.remaining)

    replay(path, [Timed()])
    # Six more steps and three more evaluations after the first one.
    assert remaining[0] == 6 * 5 + 3 * 10


def test_show_refuses_a_metric_that_no_run_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for log in logs:
        Trainer(step=lambda batch: batch, data=[1.0], callbacks=[EventLog(log)]).fit()
    assert called("show", *logs, "--monitor", "f1") == 2
    assert "'monitor' must be one of the metrics, loss: 'f1'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["show", "replay", "watch"])
def test_a_broken_file_is_one_sentence(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("something else\n")
    assert called(name, path) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"lucid-train: error: '{path}' is not the log of a run: in line 1, it is not JSON\n"


@pytest.mark.parametrize("name", ["show", "replay"])
def test_a_missing_file_is_one_sentence(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(name, tmp_path / "run.jsonl") == 2
    error = f"lucid-train: error: '{tmp_path / 'run.jsonl'}': No such file or directory\n"
    assert capsys.readouterr().err == error


def test_an_error_is_one_sentence_in_a_stream_without_an_encoding(tmp_path: Path) -> None:
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        assert called("show", tmp_path / "run.jsonl") == 2
    assert errors.getvalue() == f"lucid-train: error: '{tmp_path / 'run.jsonl'}': No such file or directory\n"


def test_patience_is_above_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert called("watch", tmp_path / "run.jsonl", "--patience", 0) == 2
    assert capsys.readouterr().err == "lucid-train: error: 'patience' must be > 0: 0.0\n"


@pytest.mark.filterwarnings("ignore:scheduler.step")
@pytest.mark.parametrize(
    ("width", "columns"),
    [(48, "run best val_loss at epoch epochs status"), (47, "run best val_loss at epoch epochs"), (14, "run best val")],
)
def test_on_a_terminal_show_leaves_out_columns_that_have_no_room_and_colours_the_best_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, columns: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": f"{width}"}.items():
        monkeypatch.setenv(name, value)
    for name, scale in (("a", 3.0), ("b", 1.5)):
        trained(Path(name), scale)
    assert called("show", "a", "b") == 0
    shown = capsys.readouterr().out.splitlines()
    header, first, second = (re.sub(r"\x1b\[\d+m", "", line) for line in shown)
    assert " ".join(header.split()) == columns
    assert max(map(len, (header, first, second))) < width
    assert ["\x1b[32m" in line for line in shown] == [False, False, True]


EVIL = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m\r\n[bold]"


def candidates(path: Path, *callbacks: Callback) -> None:
    """Record a run whose accuracy is best in epoch 2, where its loss on other data is not."""
    values = iter([(0.1, 0.5), (0.3, 0.9), (0.2, 0.7)])
    Trainer(
        step=lambda batch: {"loss": 1.0, "accuracy": 0.5},
        data=[1],
        epochs=3,
        evaluate=lambda: dict(zip(("loss", "accuracy"), next(values), strict=True)),
        callbacks=[*copy.deepcopy(callbacks), EventLog(path)],
    ).fit()


DISPLAY = RichLogger(Console(file=io.StringIO()), monitor="val_accuracy", mode="max")
STOPPER = EarlyStopping("val_accuracy", mode="max")


@pytest.mark.parametrize(
    "callbacks",
    [
        (DISPLAY,),
        (STOPPER,),
        (EarlyStopping("val_loss"), DISPLAY),
        (DISPLAY, EarlyStopping("val_loss")),
        (STOPPER, EarlyStopping("val_loss")),
    ],
)
@pytest.mark.parametrize("name", ["show", pytest.param("watch", marks=pytest.mark.slow), "replay"])
def test_a_recorded_run_is_judged_by_what_it_was_judged_by_live(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, callbacks: tuple[Callback, ...]
) -> None:
    candidates(tmp_path / "run.jsonl", *callbacks)
    assert called(name, tmp_path / "run.jsonl") == 0
    output = capsys.readouterr().out
    assert "best epoch 2: val_accuracy 0.9000" in output
    assert name == "show" or "val_accuracy 0.9000*" in output
    assert called(name, tmp_path / "run.jsonl", "--monitor", "val_loss") == 0
    assert "best epoch 1: val_loss 0.1000" in capsys.readouterr().out


def test_nobody_having_chosen_the_loss_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    candidates(tmp_path / "run.jsonl", RichLogger(Console(file=io.StringIO())))
    assert called("show", tmp_path / "run.jsonl") == 0
    assert "best epoch 1: val_loss 0.1000" in capsys.readouterr().out


def test_runs_are_compared_by_what_all_of_them_were_judged_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, other = (tmp_path / f"{name}.jsonl" for name in ("first", "second", "other"))
    candidates(first, DISPLAY)
    candidates(second, STOPPER)
    candidates(other)
    assert called("show", first, second) == 0
    assert "best val_accuracy" in capsys.readouterr().out
    assert called("show", first, other) == 0
    assert "best val_loss" in capsys.readouterr().out


@pytest.mark.parametrize("packed", ["loss", ["", "min"], ["loss", "most"], ["loss"], [1, "min"], {}])
def test_what_is_no_metric_and_mode_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], packed: object
) -> None:
    path = tmp_path / "run.jsonl"
    candidates(path)
    first, *others = path.read_text().splitlines(keepends=True)
    path.write_text("".join([json.dumps({**json.loads(first), "monitored": packed}) + "\n", *others]))
    assert called("show", path) == 2
    assert "in line 1, 'monitored' must be a metric and its mode" in capsys.readouterr().err


def hostile(path: Path) -> None:
    """A log whose every string tries to do something to a terminal, and whose every number is as large as can be."""
    evil, large = EVIL, 2**61 - 1
    record = {"epoch": 1, "steps": large, "seconds": 1e308, "metrics": {evil: 1e308, "loss": "nan"}, "lr": [1e308]}
    entries = [
        {
            "event": "FitStart",
            "time": 1,
            "format": 1,
            "heartbeat": 1e308,
            "writer": {"pid": 1, "host": evil},
            "callbacks": [{"name": "x", "repr": evil, "schedule": {evil: True}}, {"name": evil}],
            "monitored": [evil, "max"],
            "model": {"name": evil, "parameters": large},
            "open_step": None,
            "run": {"epochs": large, "steps_per_epoch": large, "evaluate_every": 1, "last_lr": [1e308] * 1000},
        },
        {"event": evil, "time": 0, "fields": {evil: evil}},
        {"event": "EpochStart", "time": 1e11, "epoch": 1, "run": {"epoch": 1}},
        {
            "event": "EpochReport",
            "time": 2,
            "run": {"step": large, "history": [{**record, "last_lr": [], "scheduled": {evil: [1e308, "nan"]}}]},
        },
        {"event": "EpochStart", "time": 1e11, "epoch": 2, "run": {"epoch": 2}},
        {
            "event": "EpochReport",
            "time": 2,
            "run": {"step": 2 * large, "history": [{**record, "epoch": 2, "last_lr": [], "scheduled": {}}]},
        },
        {"event": "FitError", "time": 2, "error": evil},
        {"event": "FitEnd", "time": 2, "status": "failed", "reason": evil},
    ]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


@pytest.mark.parametrize("name", ["show", "watch", "replay"])
def test_a_hostile_log_does_no_harm(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.jsonl"
    hostile(path)
    options = ["--speed", 1e300] if name == "replay" else []
    assert called(name, path, *options) in (0, 1)
    captured = capsys.readouterr()
    assert captured.err == ""
    assert not [mark for mark in captured.out if not mark.isprintable() and mark != "\n"]
    assert "[bold]" in captured.out
    terminal = Terminal(command(name, path, *options))
    lines = terminal.end()
    assert has("[bold]")(lines)
    assert not has("Traceback")(lines)
    assert (terminal.code in (0, 1), terminal.sane, terminal.screen.title) == (True, True, "")


@pytest.mark.parametrize(
    "arguments",
    ["show run.jsonl", "show run.jsonl run.jsonl", "replay run.jsonl", "watch run.jsonl", "preview Step(3)"],
)
def test_a_reader_that_is_gone_ends_a_command_without_a_word(tmp_path: Path, arguments: str) -> None:
    Trainer(float, [1, 2], callbacks=[EventLog(tmp_path / "run.jsonl")]).fit()
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(command(*arguments.split()), cwd=tmp_path, stdout=write, stderr=subprocess.PIPE)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_what_could_not_be_shown_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    Trainer(float, [1, 2], callbacks=[EventLog(tmp_path / "run.jsonl")]).fit()
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}  # so that Python would write the rest at its exit
    line = shlex.join(["ulimit", "-f", "0"]) + "; exec " + shlex.join(map(str, command("show", tmp_path / "run.jsonl")))
    with open(tmp_path / "full", "wb") as full:
        done = subprocess.run(["sh", "-c", line], stdout=full, stderr=subprocess.PIPE, env=environment)
    assert (done.returncode, done.stderr) == (1, b"lucid-train: error: [Errno 27] File too large\n")


def test_hostile_logs_are_compared_without_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile(tmp_path / "run.jsonl")
    assert called("show", tmp_path / "run.jsonl", tmp_path / "run.jsonl", "--monitor", EVIL, "--mode", "max") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert not [mark for mark in captured.out if not mark.isprintable() and mark != "\n"]
    assert "[bold]" in captured.out


def facts(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_show_says_to_a_script_what_there_is_to_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, directory = tmp_path / "run.jsonl", tmp_path / "run"
    losses = iter([0.5, 0.25, math.nan])
    trainer = Trainer(
        lambda batch: {"loss": 1.0 if batch else math.inf},
        [1, 0],
        epochs=3,
        optimizer=SGD(Linear(1, 1).parameters(), lr=0.5),
        evaluate=lambda: next(losses),
        callbacks=[
            EarlyStopping("val_loss"),
            Checkpoint(directory, every=2, weights=False),
            EventLog(log, heartbeat=None),
        ],
    )
    trainer.on(StepEnd, at=3)(lambda event: event.run.command(Command("set", "lr", 0.25, by="me", id="a")))
    trainer.fit()
    assert called("show", "--json", log) == 0
    [found] = facts(capsys)
    seconds = found.pop("seconds")
    assert 0 <= seconds < 100
    file = found.pop("checkpoint")
    assert Path(file).is_file()
    assert found.pop("commands") == [
        {
            "epoch": 2,
            "step": 3,
            "command": "set lr=0.25",
            "done": True,
            "answer": f"lr from 0.5 to 0.25, saved {directory / 'checkpoint-000001-epoch-2-step-3.safetensors'}",
            "by": "me",
            "id": "a",
        }
    ]
    assert found == {
        "log": str(log),
        "status": "completed",
        "reason": None,
        "epoch": 3,
        "epochs": 3,
        "step": 6,
        "total_steps": 6,
        "processes": 1,
        "last_lr": [0.25],
        "metrics": {"loss": "inf", "val_loss": "nan"},
        "best": {"metric": "val_loss", "mode": "min", "value": 0.25, "epoch": 2, "step": None},
    }
    assert called("show", "--json", log, log) == 0
    assert [each["status"] for each in facts(capsys)] == ["completed", "completed"]


@pytest.mark.parametrize("options", [["--json"], []])
def test_the_exit_code_of_show_says_how_a_run_has_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    def run(log: Path, step: Callable[[Any], Any]) -> None:
        with suppress(ZeroDivisionError, KeyboardInterrupt):
            Trainer(step, [1, 2], callbacks=[EventLog(log, heartbeat=None)]).fit()

    def interrupted(batch: int) -> None:
        raise KeyboardInterrupt

    steps = {"completed": float, "failed": lambda batch: 1 / 0, "interrupted": interrupted}
    for status, step in steps.items():
        run(tmp_path / status, step)
        assert called("show", *options, tmp_path / status) == (0 if status == "completed" else 1)
    (tmp_path / "running").write_text("".join((tmp_path / "completed").read_text().splitlines(keepends=True)[:-1]))
    assert called("show", *options, tmp_path / "running") == 3
    if options:
        assert [each["status"] for each in facts(capsys)] == [*steps, "running"]
        assert facts(capsys) == []
    else:
        text = " ".join(capsys.readouterr().out.split())
        assert "interrupted at the end of its log; the run itself may continue after epoch 1" in text
        assert called("show", tmp_path / "running", tmp_path / "completed") == 0
        rows = [row.split() for row in capsys.readouterr().out.splitlines()[1:]]
        assert [("running" in row, "completed" in row) for row in rows] == [(True, False), (False, True)]


def test_show_says_of_a_run_that_has_not_begun_its_first_epoch_what_it_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "run.jsonl"
    Trainer(epochs=0, callbacks=[EventLog(log)]).fit()
    assert called("show", "--json", log) == 0
    [found] = facts(capsys)
    assert (found["epoch"], found["best"], found["metrics"], found["checkpoint"]) == (0, None, {}, None)
