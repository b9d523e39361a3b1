from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from lucid_train import Callback, EpochReport, FitEnd, FitError, StepEnd, StepStart, Trainer
from lucid_train.callbacks import Checkpoint
from lucid_train.saving.checkpoint import Directory
from lucid_train.training.signals import signal_named


def sending(number: int, checkpoint: Checkpoint, heard: list[Any], *, at: int = 3, times: int = 1) -> Trainer:
    def step(batch: int) -> float:
        if batch == at:
            for _ in range(times):
                os.kill(os.getpid(), number)
        heard.append(batch)
        return 0.5

    trainer = Trainer(step, range(1, 11), epochs=2, callbacks=[checkpoint])
    trainer.on(FitError)(lambda event: heard.append(type(event.error)))
    trainer.on(FitEnd)(lambda event: heard.append((event.status, event.reason)))
    return trainer


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("SIGINT", KeyboardInterrupt, "interrupted by the keyboard"),
        ("SIGTERM", SystemExit, "interrupted by SIGTERM"),
        ("SIGUSR1", SystemExit, "interrupted by SIGUSR1"),
    ],
)
def test_the_step_in_hand_finishes_and_all_is_saved(
    tmp_path: Path, name: str, error: type[BaseException], reason: str
) -> None:
    number = signal.Signals[name]
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    heard: list[Any] = []
    checkpoint = Checkpoint(tmp_path, signals=["SIGINT", "SIGTERM", "SIGUSR1"])
    trainer = sending(number, checkpoint, heard)
    with pytest.raises(error) as caught:
        trainer.fit()
    assert heard == [1, 2, 3, error, ("interrupted", reason)]
    if error is SystemExit:
        assert caught.value.code == 128 + number  # type: ignore[attr-defined]  # a SystemExit
    assert {each: signal.getsignal(each) for each in before} == before
    state = Directory(tmp_path).newest()
    assert state["run"] == {"epoch": 1, "step": 3, "steps_per_epoch": 10, "over": None}
    resumed = sending(number, Checkpoint(tmp_path), again := [], at=-1)
    assert len(resumed.fit(resume="auto")) == 2
    assert again[:7] == [4, 5, 6, 7, 8, 9, 10]


def test_a_second_interrupt_from_the_keyboard_ends_at_once(tmp_path: Path) -> None:
    heard: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        sending(signal.SIGINT, Checkpoint(tmp_path), heard, times=2).fit()
    assert heard == [1, 2, KeyboardInterrupt, ("interrupted", "interrupted by the keyboard")]
    assert Directory(tmp_path).files() == []


def test_a_second_signal_of_another_kind_changes_nothing(tmp_path: Path) -> None:
    heard: list[Any] = []
    with pytest.raises(SystemExit, match="143"):
        sending(signal.SIGTERM, Checkpoint(tmp_path), heard, times=2).fit()
    assert len(Directory(tmp_path).files()) == 1


def test_the_users_handler_is_called_too_and_put_back(tmp_path: Path) -> None:
    calls: list[int] = []

    def mine(number: int, frame: FrameType | None) -> None:
        calls.append(number)

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with pytest.raises(SystemExit, match="143"):
            sending(signal.SIGTERM, Checkpoint(tmp_path), []).fit()
        assert calls == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_set_during_the_fit_stays(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    trainer = Trainer(callbacks=[Checkpoint(tmp_path)])
    trainer.on(StepEnd)(lambda event: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    try:
        trainer.fit()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert sending(signal.SIGTERM, Checkpoint(tmp_path), []).fit().status == "completed"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_signals_may_be_left_alone(tmp_path: Path) -> None:
    heard: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        sending(signal.SIGINT, Checkpoint(tmp_path, signals=()), heard).fit()
    assert heard[:3] == [1, 2, KeyboardInterrupt]


def test_in_another_thread_no_handler_is_set(tmp_path: Path) -> None:
    found: list[Any] = []
    trainer = Trainer(callbacks=[Checkpoint(tmp_path)])
    trainer.on(StepStart)(lambda event: found.append(signal.getsignal(signal.SIGINT)))
    thread = threading.Thread(target=trainer.fit)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]
    assert len(Directory(tmp_path).files()) == 1


def test_a_signal_that_comes_when_the_loop_is_over_is_not_lost(tmp_path: Path) -> None:
    class Late(Callback):
        def on_fit_end(self, event: FitEnd) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit, match="143"):
        Trainer(callbacks=[Checkpoint(tmp_path), Late()]).fit()
    assert len(Directory(tmp_path).files()) == 1


def test_a_signal_in_the_last_step_lets_the_epoch_be_finished(tmp_path: Path) -> None:
    heard: list[Any] = []
    trainer = sending(signal.SIGTERM, Checkpoint(tmp_path), heard, at=10)
    trainer.on(EpochReport)(lambda event: heard.append("report"))
    with pytest.raises(SystemExit):
        trainer.fit()
    assert heard[10] == "report"


PROGRAM = """
import os, signal, sys, time
from lucid_train import Trainer
from lucid_train.callbacks import Checkpoint

def step(batch):
    print(batch, flush=True)
    time.sleep(0.05)

Trainer(step, range(1000), callbacks=[Checkpoint(sys.argv[1])]).fit(resume="auto")
"""


@pytest.mark.parametrize(("number", "codes"), [(signal.SIGINT, (-signal.SIGINT, 130)), (signal.SIGTERM, (143,))])
def test_the_exit_code_says_what_happened(tmp_path: Path, number: int, codes: tuple[int, ...]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in codes, errors
    assert len(Directory(tmp_path).files()) == 1


def test_a_signal_must_have_a_name() -> None:
    assert signal_named("signals", "SIGTERM") is signal.SIGTERM
    with pytest.raises(
        ValueError, match="'signals' must name signals that can be caught here, such as 'SIGTERM': 'TERM'"
    ):
        signal_named("signals", "TERM")
