"""`lucid-train watch`: a process that follows the run of another."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lucid_train import Trainer, replay
from lucid_train.callbacks import EventLog
from tests.support.processes import command, run
from tests.support.terminal import Terminal, has
from tests.support.waiting import until

# Trains under control: an epoch ends when a file of its number is there.
WRITER = """
import os, sys, time
from pathlib import Path
from lucid_train import Trainer
from lucid_train.callbacks.event_log import EventLog
log, epochs, done = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
gates = Path(log + ".gates")
trainer = Trainer(step=lambda batch: batch / 4, data=[1, 2, 3, 4], epochs=done)
def step(batch):
    while batch == 4 and not (gates / str(trainer._run.epoch)).exists():
        time.sleep(0.01)
    return batch / 4
trainer.fit()
trainer.step = step
trainer.callbacks = (EventLog(log, heartbeat=0.05),)
trainer.fit(epochs)
"""


class Writer:
    """A process that trains, epoch by epoch, as it is let."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.gates = Path(f"{log}.gates")
        self.gates.mkdir()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, epochs: int, done: int = 0) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", WRITER, self.log, str(epochs), str(done)])

    def allow(self, *epochs: int) -> None:
        for epoch in epochs:
            (self.gates / str(epoch)).touch()

    def wait_for(self, text: str) -> None:
        until(lambda: self.log.exists() and text in self.log.read_text())

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(tmp_path / "run.jsonl")
    yield writer
    if writer.process is not None:
        writer.kill()


class Reader:
    """A process that watches, and what it has printed so far."""

    def __init__(self, log: Path, *options: str) -> None:
        self.output = log.with_name(f"watched-{time.monotonic_ns()}.txt")
        with open(self.output, "wb") as file:
            self.process = subprocess.Popen(command("watch", log, *options), stdout=file, stderr=subprocess.STDOUT)

    def wait_for(self, text: str) -> None:
        until(lambda: text in self.output.read_text())

    def finish(self) -> tuple[int, str]:
        return self.process.wait(timeout=100), self.output.read_text()


def rows(text: str) -> list[str]:
    """The epochs' rows, without the seconds they took."""
    return [re.sub(r"  \S+$", "", line) for line in text.splitlines() if line.startswith("epoch ")]


def expected(*epochs: int, of: int) -> list[str]:
    return [f"epoch {epoch}/{of}  loss 0.6250{'*' * (epoch == 1)}" for epoch in epochs]


def test_a_watcher_may_be_started_before_during_and_after(writer: Writer) -> None:
    before = Reader(writer.log)
    before.wait_for("waiting for a run to begin in")
    writer.start(3)
    writer.allow(1)
    before.wait_for("epoch 1/3")
    during = Reader(writer.log)
    during.wait_for("epoch 1/3")
    writer.allow(2, 3)
    for reader in (before, during, Reader(writer.log)):
        code, text = reader.finish()
        assert code == 0
        assert rows(text) == expected(1, 2, 3, of=3)
        assert "completed" in text.splitlines()[-2]


def test_a_folder_that_does_not_exist_yet_is_waited_for_too(tmp_path: Path) -> None:
    log = tmp_path / "runs" / "one" / "run.jsonl"
    with subprocess.Popen(command("watch", log), stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        waiting = f"waiting for a run to begin in '{log}', whose folder '{log.parent}' does not exist yet"
        assert reader.stdout.readline() == f"lucid-train: {waiting}\n"
        Trainer(epochs=2, callbacks=[EventLog(log)]).fit()
        text, _ = reader.communicate(timeout=100)
    assert reader.returncode == 0
    assert [line.split()[:2] for line in text.splitlines() if line.startswith("epoch ")] == [
        ["epoch", "1/2"],
        ["epoch", "2/2"],
    ]


@pytest.mark.slow
def test_a_watcher_may_be_killed_and_started_again(writer: Writer) -> None:
    writer.start(3)
    writer.allow(1)
    first = Reader(writer.log)
    first.wait_for("epoch 1/3")
    first.process.kill()
    assert first.finish()[0] == -signal.SIGKILL
    again = Reader(writer.log)
    again.wait_for("epoch 1/3")
    writer.allow(2, 3)
    code, text = again.finish()
    assert code == 0
    assert rows(text) == expected(1, 2, 3, of=3)
    assert len(replay(writer.log)) == 3


def test_a_run_that_was_killed_is_said_to_have_died(writer: Writer) -> None:
    writer.start(3)
    writer.allow(1)
    reader = Reader(writer.log)
    reader.wait_for("epoch 1/3")
    writer.wait_for('"step":7')
    assert writer.process is not None
    os.kill(writer.process.pid, signal.SIGKILL)  # and nobody has asked for its exit code yet
    code, text = reader.finish()
    assert code == 1
    assert "failed in epoch 2, after step 7: the run died, its process is gone\n" in text
    again = Reader(writer.log).finish()[1]
    assert rows(again) == rows(text) == expected(1, of=3)
    assert "failed in epoch 2, after step 7: the run died, its process is gone\n" in again
    assert "failed in epoch 2, after step 7: the run died\n" in run("show", writer.log).stdout


@pytest.mark.slow
def test_a_run_that_is_resumed_earlier_is_followed_again(writer: Writer) -> None:
    writer.allow(1, 2, 3)
    writer.start(5)
    reader = Reader(writer.log, "--stay")
    reader.wait_for("epoch 3/5")
    writer.wait_for('"step":15')
    writer.kill()
    reader.wait_for("in epoch 4, after step 15: the run died")
    writer.allow(4, 5)
    writer.start(5, done=2)  # from a checkpoint after epoch 2
    reader.wait_for("completed")
    reader.process.send_signal(signal.SIGINT)
    code, text = reader.finish()
    assert code == 130
    assert rows(text) == [*expected(1, 2, 3, of=5), *expected(3, 4, 5, of=5)]
    lines = [line for line in text.splitlines() if "waiting" not in line and not line.startswith("  ")]
    assert [line.split()[0] for line in lines] == [
        *["training", "recording", "epoch", "epoch", "epoch", "failed", "trained", "best"],
        *["training", "recording", "epoch", "epoch", "epoch", "completed", "best"],
    ]
    assert [record.epoch for record in replay(writer.log)] == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_silence_is_said_once_and_taken_back(writer: Writer) -> None:
    writer.start(2)
    writer.allow(1)
    reader = Reader(writer.log, "--patience", "0.4")
    reader.wait_for("epoch 1/2")
    assert writer.process is not None
    writer.process.send_signal(signal.SIGSTOP)
    reader.wait_for("it may have died")
    writer.process.send_signal(signal.SIGCONT)
    reader.wait_for("the run continues")
    writer.allow(2)
    code, text = reader.finish()
    assert code == 0
    assert re.search(r"lucid-train: no line from the run for \d+ s, its longest pause so far was \d+ s: it may ", text)


@pytest.mark.slow
def test_what_is_piped_is_plain(writer: Writer) -> None:
    writer.allow(1, 2)
    writer.start(2)
    writer.wait_for("epoch")  # a reader that is there first says that it waits
    reader = Reader(writer.log)
    assert reader.finish()[0] == 0
    for output in (reader.output.read_bytes(), run("replay", writer.log, "--speed", 100).stdout.encode()):
        assert not set(output) & set(b"\x1b\r\b")
        lines = [line.split()[0] for line in output.decode().splitlines() if not line.startswith("  ")]
        assert lines == ["training", "recording", "epoch", "epoch", "completed", "best"]


def test_a_terminal_shows_the_bars_of_a_run_elsewhere(writer: Writer) -> None:
    writer.start(2)
    terminal = Terminal(command("watch", writer.log))
    terminal.until(has("epoch"))
    writer.allow(1)
    terminal.until(has("2/2 ", "3/4"))
    assert terminal.screen.cursor.hidden
    writer.allow(2)
    lines = terminal.end()
    assert terminal.code == 0
    assert terminal.sane
    assert any(line.strip().startswith("completed") for line in lines)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_watcher_that_is_interrupted_leaves_a_sane_terminal(writer: Writer, number: int, code: int) -> None:
    writer.start(2)
    writer.allow(1)
    terminal = Terminal(command("watch", writer.log))
    terminal.until(has("2/2"))
    assert terminal.screen.cursor.hidden
    terminal.child.kill(number)
    lines = terminal.end()
    assert terminal.code == code
    assert terminal.sane
    if number == signal.SIGINT:
        assert "no longer watched; the run itself continues" in " ".join(" ".join(lines).split())
    writer.allow(2)
    writer.wait_for('"FitEnd"')
