"""Saved: the event after a checkpoint is durable."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from lucid_train import (
    Callback,
    EpochReport,
    EpochStart,
    Event,
    FitEnd,
    FitError,
    FitStart,
    Saved,
    StepEnd,
    StepStart,
    Trainer,
    nn,
    read_checkpoint,
    replay,
)
from lucid_train.callbacks import Checkpoint, EventLog
from lucid_train.saving.checkpoint import Directory
from tests.support.disks import small_disk
from tests.support.event_logs import SILENT, events, lines
from tests.support.waiting import until


def trainer(*callbacks: Callback, epochs: int = 3) -> Trainer:
    return Trainer(lambda batch: batch / 4, range(2), epochs=epochs, model=nn.Linear(9, 9, rng=0), callbacks=callbacks)


def listening(run: Trainer, *classes: type[Event]) -> list[Event]:
    seen: list[Event] = []
    for event in classes:
        run.on(event)(seen.append)
    return seen


def file(directory: Path, number: int, epoch: int, step: int) -> Path:
    return directory / f"checkpoint-{number:06d}-epoch-{epoch}-step-{step}.safetensors"


def test_every_checkpoint_is_announced_once_all_have_received_what_led_to_it(tmp_path: Path) -> None:
    run = trainer(Checkpoint(tmp_path, every=3, interval="step"))
    seen = listening(run, StepEnd, EpochReport, Saved, FitEnd)
    run.on(Saved)(lambda event: read_checkpoint(event.file))  # which is whole by now
    run.fit(2)
    assert [(type(event).__name__, event.count) for event in seen] == [
        ("StepEnd", 1),
        ("StepEnd", 2),
        ("EpochReport", 1),
        ("StepEnd", 3),
        ("Saved", 3),
        ("StepEnd", 4),
        ("EpochReport", 2),
        ("Saved", 4),
        ("FitEnd", None),
    ]
    assert [event for event in seen if isinstance(event, Saved)] == [
        Saved(epoch=2, step=3, file=file(tmp_path, 1, 2, 3)),
        Saved(epoch=2, step=4, file=file(tmp_path, 2, 2, 4)),
    ]


def test_one_that_a_thread_writes_is_announced_in_the_training_thread_before_the_step_that_follows(
    tmp_path: Path,
) -> None:
    run = trainer(Checkpoint(tmp_path, background=True, keep=None))
    seen: list[Any] = []
    run.on(Saved)(lambda event: seen.append((threading.current_thread(), event.epoch, read_checkpoint(event.file))))

    def wait(event: StepEnd) -> None:  # for the file of the epoch before
        until(lambda: len(Directory(tmp_path).files()) == event.epoch - 1)
        until(lambda: threading.active_count() == 1)

    run.on(StepEnd, at=[3, 5])(wait)
    run.on(StepStart, at=[4, 6])(lambda event: seen.append(event.step))
    run.on(FitEnd)(lambda event: seen.append("end"))
    run.fit()
    here = threading.current_thread()
    first, second, third = map(read_checkpoint, Directory(tmp_path).files())
    assert repr(seen) == repr([(here, 1, first), 4, (here, 2, second), 6, (here, 3, third), "end"])


def test_one_that_is_being_written_when_the_fit_fails_is_announced_before_its_end(tmp_path: Path) -> None:
    run = trainer(Checkpoint(tmp_path, background=True))
    seen = listening(run, Saved, FitEnd)
    run.on(EpochStart, at=2)(lambda event: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.fit()
    assert [type(event) for event in seen] == [Saved, FitEnd]


@pytest.mark.parametrize("background", [False, True])
def test_one_that_failed_is_not_announced(tmp_path: Path, background: bool) -> None:
    run = trainer(Checkpoint(tmp_path, background=background, failure="warn"), epochs=1)
    seen = listening(run, Saved)
    with small_disk(100), pytest.warns(UserWarning, match="training goes on, there is no checkpoint yet"):
        run.fit()
    assert seen == []


def test_an_exception_in_its_hook_is_not_taken_for_a_failed_save(tmp_path: Path) -> None:
    run = trainer(Checkpoint(tmp_path, failure="warn"))

    @run.on(Saved)
    def upload(event: Saved) -> None:
        raise OSError("no network")

    seen = listening(run, FitError)
    with pytest.raises(OSError, match="no network") as caught:
        run.fit()
    assert "raised by upload on Saved in epoch 1, step 2" in caught.value.__notes__
    assert [type(event) for event in seen] == [FitError]


def test_one_that_is_asked_for_at_the_end_is_announced_after_it(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, every=None)
    run = trainer(checkpoint, epochs=1)
    run.on(FitEnd)(lambda event: checkpoint.save())
    seen = listening(run, FitStart, Saved, FitEnd)
    run.fit()
    assert [type(event) for event in seen] == [FitStart, Saved, FitEnd, Saved]


def test_a_log_has_it_and_a_replay_gives_it(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    trainer(EventLog(log, **SILENT), Checkpoint(tmp_path), epochs=1).fit()
    (line,) = [line for line in lines(log) if line["event"] == "Saved"]
    del line["time"]
    assert line == {"event": "Saved", "epoch": 1, "step": 2, "file": str(file(tmp_path, 1, 1, 2))}
    seen: list[Saved] = []

    class Listener(Callback):
        def on_saved(self, event: Saved) -> None:
            seen.append(event)

    replay(log, [Listener()])
    assert seen == [Saved(epoch=1, step=2, file=file(tmp_path, 1, 1, 2))]


# Is killed in step 9 of 12; the newest checkpoint is that of step 8.
KILLED = """
import os, signal, sys
from lucid_train import StepStart, Trainer
from lucid_train.callbacks import Checkpoint, EventLog
log = EventLog("run.jsonl", step_every=1)
callbacks = [log, Checkpoint("saved", every=2, interval="step", keep=None, weights=False)]
trainer = Trainer(lambda batch: batch / 4, range(3), epochs=4, callbacks=callbacks)
if sys.argv[1:]:
    trainer.on(StepStart, at=9)(lambda event: os.kill(os.getpid(), signal.SIGKILL))
trainer.fit(resume="auto")
"""


def test_the_log_of_a_run_that_was_killed_and_resumed_has_the_same_saves(tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    for folder, codes in ((straight, [0]), (killed, [-signal.SIGKILL, 0])):
        folder.mkdir()
        for code in codes:
            arguments = ["kill"] * (code != 0)
            done = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=folder, timeout=100)
            assert done.returncode == code
    assert events(killed / "run.jsonl") == events(straight / "run.jsonl")
    saves = [each for each in events(killed / "run.jsonl") if each[0] == "Saved"]
    assert [line["step"] for _, (line, _) in saves] == [
        2,
        4,
        6,
        8,
        10,
        12,
        12,
    ]  # the last one is written when the epoch is over
    assert {os.path.dirname(line["file"]) for _, (line, _) in saves} == {"saved"}
