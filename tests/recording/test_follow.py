"""Following a log that is being written: which lines are new, and what becomes of lines that are gone."""

from pathlib import Path

import pytest

from lucid_train import Callback, EpochReport, FitEnd, FitStart, Trainer
from lucid_train.callbacks.event_log import EventLog
from lucid_train.recording.follow import Watch, new_lines
from lucid_train.recording.lines import Line


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
        *["start after 0", "epoch 1", "epoch 2", "epoch 3", "end failed the run died"],
        *["start after 1", "epoch 2", "epoch 3", "end completed None"],
    ]
    trained(2)  # another run, to the same file
    watch._step()
    assert received[-4:] == ["start after 0", "epoch 1", "epoch 2", "end completed None"]
    assert said == []


def test_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    log, copy = tmp_path / "run.jsonl", tmp_path / "copy.jsonl"
    Trainer(epochs=2, callbacks=[EventLog(log)]).fit()
    seen: list[Line] = []

    def read_on() -> bool:
        gone, lines = new_lines(copy, seen[-1] if seen else None)
        seen.extend(lines)
        return gone

    with open(copy, "wb", buffering=0) as file:
        for byte in log.read_bytes():
            assert not read_on()
            file.write(bytes([byte]))
    assert not read_on()
    assert [line.number for line in seen] == list(range(1, len(log.read_bytes().splitlines()) + 1))


def test_a_log_is_read_again_where_the_last_line_is_gone(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    Trainer(epochs=2, callbacks=[EventLog(log, heartbeat=None)]).fit()
    whole = log.read_bytes().splitlines(keepends=True)
    gone, lines = new_lines(log, None)
    assert (gone, len(lines)) == (False, len(whole))
    assert new_lines(log, lines[-1]) == (False, [])
    log.write_bytes(b"".join(whole[:3]))
    assert new_lines(log, lines[-1]) == (True, lines[:3])
    log.write_bytes(b"".join(whole))
    assert new_lines(log, lines[2]) == (False, lines[3:])
    log.write_bytes(b"")
    assert new_lines(log, lines[-1]) == (True, [])
    log.unlink()
    assert new_lines(log, lines[-1]) == (False, [])
    log.write_bytes(b"notes\n")
    for last in (None, lines[-1]):
        with pytest.raises(ValueError, match=r"'.*run\.jsonl' is not the log of a run: in line 1, it is not JSON"):
            new_lines(log, last)
