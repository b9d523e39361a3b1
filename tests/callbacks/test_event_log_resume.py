import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lucid_train import StepEnd, Trainer, replay
from lucid_train.callbacks.event_log import EventLog
from lucid_train.recording.lines import read_log
from tests.support.event_logs import SILENT, events, fit, lines


def test_a_second_fit_goes_on_in_the_same_file(tmp_path: Path) -> None:
    straight, parts = tmp_path / "straight.jsonl", tmp_path / "parts.jsonl"
    fit(straight, 5, step_every=1)
    trainer = fit(parts, 2, step_every=1)
    trainer.fit(epochs=5)
    assert events(parts) == events(straight)
    assert [record.epoch for record in replay(parts)] == [1, 2, 3, 4, 5]


def test_a_fit_that_was_stopped_in_mid_epoch_goes_on_there(tmp_path: Path) -> None:
    straight, parts = tmp_path / "straight.jsonl", tmp_path / "parts.jsonl"
    fit(straight, 3, step_every=1)
    trainer = Trainer(
        step=lambda batch: batch / 4, data=range(3), epochs=3, callbacks=[EventLog(parts, step_every=1, **SILENT)]
    )
    trainer.on(StepEnd, at=5)(lambda event: event.run.stop("enough"))
    assert trainer.fit().status == "stopped"
    trainer.fit()
    assert events(parts) == events(straight)
    assert [record.steps for record in replay(parts)] == [3, 3, 3]


def test_what_another_run_left_is_renamed(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    for _ in range(3):
        fit(path, 2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.jsonl", "run.jsonl.1", "run.jsonl.2"]
    assert all(len(replay(file)) == 2 for file in tmp_path.iterdir())


def test_a_restart_begins_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    trainer = fit(path, 2)
    trainer.fit(3, restart=True)
    assert len(replay(path)) == 3
    assert len(replay(tmp_path / "run.jsonl.1")) == 2


def test_a_file_that_is_no_log_is_renamed(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    for index, text in enumerate(["notes", "notes\n", '{"event": "other"}\n', "\x00\xff"], 1):
        path.write_text(text)
        fit(path, 1)
        assert (tmp_path / f"notes.txt.{2 * index - 1}").read_text() == text
        path.rename(tmp_path / f"notes.txt.{2 * index}")


def test_an_empty_file_and_a_log_without_an_epoch_are_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.touch()
    fit(path, 0)
    fit(path, 1)
    assert [file.name for file in tmp_path.iterdir()] == ["run.jsonl"]
    assert len(replay(path)) == 1


def test_a_log_that_joins_late_has_the_epochs_before(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    trainer = Trainer(step=lambda batch: batch, data=[1.0, 2.0], epochs=2)
    trainer.fit()
    trainer.callbacks = (EventLog(path),)
    history = trainer.fit(4)
    assert replay(path) == history


# Is killed in step 11, the second of epoch 4.
KILLED = """
import os, signal, sys
from lucid_train import StepStart, Trainer
from lucid_train.callbacks.event_log import EventLog
trainer = Trainer(lambda batch: batch / 4, range(3), epochs=4, callbacks=[EventLog(sys.argv[1], step_every=1)])
trainer.on(StepStart, at=11)(lambda event: os.kill(os.getpid(), signal.SIGKILL))
trainer.fit()
"""


@pytest.fixture(scope="module")
def log_of_a_killed_run(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("killed") / "run.jsonl"
    killed = subprocess.run([sys.executable, "-c", KILLED, path], timeout=100)
    assert killed.returncode == -signal.SIGKILL
    return path.read_bytes()


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_a_run_that_is_resumed_earlier_than_it_died_leaves_the_log_of_an_uninterrupted_one(
    tmp_path: Path, log_of_a_killed_run: bytes, kept: int
) -> None:
    straight, path = tmp_path / "straight.jsonl", tmp_path / "run.jsonl"
    fit(straight, 5, step_every=1)
    path.write_bytes(log_of_a_killed_run)
    assert lines(path)[-1]["step"] == 10
    history = replay(path)
    assert (len(history), history.status) == (3, "failed")
    assert history.reason == "the run died"

    trainer = Trainer(step=lambda batch: batch / 4, data=range(3), epochs=kept)
    trainer.fit()  # stands for a checkpoint: a run with `kept` epochs behind it
    trainer.callbacks = (EventLog(path, step_every=1, **SILENT),)
    trainer.fit(5)
    assert events(path) == events(straight)
    assert (len(replay(path)), replay(path).status) == (5, "completed")
    assert (tmp_path / "run.jsonl.1").exists() == (kept == 0)


def test_a_run_that_is_resumed_in_mid_epoch_leaves_the_log_of_an_uninterrupted_one(tmp_path: Path) -> None:
    straight, path = tmp_path / "straight.jsonl", tmp_path / "run.jsonl"
    fit(straight, 3, step_every=1)
    fit(path, 3, step_every=1)
    trainer = Trainer(step=lambda batch: batch / 4, data=range(3), epochs=3)
    trainer.on(StepEnd, at=5)(lambda event: event.run.stop())
    trainer.fit()
    trainer.callbacks = (EventLog(path, step_every=1, **SILENT),)
    trainer.fit()
    assert events(path) == events(straight)
    assert [record.steps for record in replay(path)] == [3, 3, 3]


def test_a_log_of_other_numbers_is_another_runs(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    fit(path, 3)
    trainer = Trainer(step=lambda batch: batch / 5, data=range(3), epochs=2)
    trainer.fit()
    trainer.callbacks = (EventLog(path),)
    history = trainer.fit(4)
    assert replay(path) == history
    assert len(replay(tmp_path / "run.jsonl.1")) == 3


def test_crashes_before_the_first_epoch_do_not_pile_up(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    for _ in range(3):
        fit(path, 0)
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.index(b"\n") + 1])  # the process died after FitStart
    fit(path, 1)
    assert [line["event"] for line in lines(path)].count("FitStart") == 1


def test_a_torn_last_line_is_ignored_by_readers_and_mended_on_append(tmp_path: Path) -> None:
    path, torn = tmp_path / "run.jsonl", tmp_path / "torn.jsonl"
    fit(path, 2)
    whole = path.read_bytes().removesuffix(b"\n").rpartition(b"\n")[0] + b"\n"  # up to the last epoch's report
    begin = whole.removesuffix(b"\n").rindex(b"\n") + 1
    for end in range(begin, len(whole)):
        torn.write_bytes(whole[:end])
        assert len(replay(torn)) == 1
        assert len(list(read_log(torn))) == len(whole[:begin].splitlines())
    for end in range(begin, len(whole)):
        torn.write_bytes(whole[:end])
        again = Trainer(step=lambda batch: batch / 4, data=range(3), epochs=1)
        again.fit()
        again.callbacks = (EventLog(torn, **SILENT),)
        again.fit(2)
        assert events(torn) == events(path)
        assert replay(torn).metric("loss") == [0.25, 0.25]


def test_a_file_that_cannot_be_written_is_refused_before_the_first_step(tmp_path: Path) -> None:
    steps: list[Any] = []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file") as caught:
        Trainer(step=steps.append, data=[1], callbacks=[EventLog(tmp_path / "file" / "run.jsonl")]).fit()
    assert steps == []
    assert caught.value.__notes__ == ["raised by EventLog.on_fit_start on FitStart"]  # and no error for FitError's line
