"""Following a log that is being written: which lines are new, and what becomes of lines that are gone."""

from pathlib import Path

import pytest

from lucid_train import Callback, EpochReport, FitEnd, FitStart, Trainer
from lucid_train.callbacks.event_log import EventLog
from lucid_train.recording.follow import Follower, Watch


def test_a_run_that_is_resumed_before_anybody_noticed_is_followed_from_there(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    said: list[str] = []
    received: list[str] = []

    def trained(epochs: int, done: int = 0) -> None:
        trainer = Trainer(step=lambda batch: batch, data=[1.0], epochs=done)
        trainer.fit()
        trainer.callbacks = (EventLog(log),)
        trainer.fit(epochs)

    class Journal(Callback):
        def on_fit_start(self, event: FitStart) -> None:
            received.append(f"start after {len(event.run.history)}")

        def on_epoch_report(self, event: EpochReport) -> None:
            received.append(f"epoch {event.epoch}")

        def on_fit_end(self, event: FitEnd) -> None:
            received.append(f"end {event.status} {event.reason}")

    watch = Watch(log, lambda: [Journal()], said.append)
    assert not watch._step()  # nothing there yet
    trained(3)
    whole = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(whole[:-1]))  # as if it had died before its end
    watch._step()
    trained(3, done=1)
    watch._step()
    assert received == [
        *["start after 0", "epoch 1", "epoch 2", "epoch 3", "end failed the run died after epoch 3"],
        *["start after 1", "epoch 2", "epoch 3", "end completed None"],
    ]
    trained(2)  # another run, to the same file
    watch._step()
    assert received[-4:] == ["start after 0", "epoch 1", "epoch 2", "end completed None"]
    assert said == []


def test_a_follower_reads_a_line_when_it_is_whole(tmp_path: Path) -> None:
    log, copy = tmp_path / "run.jsonl", tmp_path / "copy.jsonl"
    Trainer(epochs=2, callbacks=[EventLog(log)]).fit()
    follower, seen = Follower(copy), []
    with open(copy, "wb", buffering=0) as file:
        for byte in log.read_bytes():
            gone, lines = follower.poll()
            assert not gone
            seen += lines
            file.write(bytes([byte]))
    seen += follower.poll()[1]
    assert [line.number for line in seen] == list(range(1, len(log.read_bytes().splitlines()) + 1))


def test_a_follower_begins_again_where_its_last_line_is_gone(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    Trainer(epochs=2, callbacks=[EventLog(log, heartbeat=None)]).fit()
    follower, whole = Follower(log), log.read_bytes().splitlines(keepends=True)
    gone, lines = follower.poll()
    assert (gone, len(lines)) == (False, len(whole))
    assert follower.poll() == (False, [])
    log.write_bytes(b"".join(whole[:3]))
    assert follower.poll() == (True, lines[:3])
    log.write_bytes(b"".join(whole))
    assert follower.poll() == (False, lines[3:])
    log.write_bytes(b"")
    assert follower.poll() == (True, [])
    log.write_bytes(b"".join(whole))
    assert follower.poll() == (False, lines)
    log.unlink()
    assert follower.poll() == (False, [])
    log.write_bytes(b"notes\n")
    with pytest.raises(ValueError, match=r"'.*run\.jsonl' is not the log of a run: in line 1, it is not JSON"):
        follower.poll()
