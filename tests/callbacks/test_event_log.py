import copy
import fcntl
import gc
import json
import math
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from lucid_train import EpochEnd, EpochReport, Event, FitError, FitStart, StepEnd, StepResult, Trainer, replay
from lucid_train.callbacks.event_log import EventLog
from lucid_train.description import short_text
from lucid_train.recording.lines import LONGEST_LINE
from lucid_train.recording.values import pack_value, read_value
from tests.support.callbacks import At
from tests.support.disks import small_disk
from tests.support.event_logs import fit, lines
from tests.support.processes import loaded_by
from tests.support.waiting import until


def test_every_event_is_one_line_in_the_order_in_which_it_happened(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    Trainer(
        step=lambda batch: batch,
        data=[0.5],
        epochs=2,
        evaluate=lambda: {"accuracy": 1.0},
        evaluate_every=2,
        callbacks=[EventLog(path)],
    ).fit()
    epoch = ["EpochStart", "EpochEnd", "EpochReport"]
    assert [line["event"] for line in lines(path)] == [
        "FitStart",
        *epoch,
        *["EpochStart", "EvaluateStart", "EvaluateEnd", "EpochEnd", "EpochReport"],
        "FitEnd",
    ]


def test_a_line_is_in_the_file_when_the_next_callback_runs(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    seen = []
    trainer = Trainer(epochs=2, callbacks=[EventLog(path)])
    trainer.on(EpochReport)(lambda event: seen.append(lines(path)[-1]["run"]["history"][0]["epoch"]))
    trainer.fit()
    assert seen == [1, 2]


def test_the_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "run.jsonl"
    fit(path, 1)
    assert len(replay(path)) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_strict_json(tmp_path: Path, value: float) -> None:
    path = tmp_path / "run.jsonl"

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    Trainer(step=lambda batch: value, data=[1], callbacks=[EventLog(path, step_every=1)]).fit()
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    assert repr(replay(path).metric("loss")) == repr([value])


def test_steps_are_not_listened_to_unless_they_are_recorded(tmp_path: Path) -> None:
    received = []
    trainer = Trainer(callbacks=[EventLog(tmp_path / "run.jsonl")])
    trainer.on(FitStart)(lambda event: received.append(event.run.listeners(StepEnd)))
    trainer.fit()
    assert received == [[]]


def test_the_steps_that_were_asked_for_are_recorded_with_what_they_returned(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    outputs = [
        0.5,
        {"loss": 1.0, "accuracy": math.inf},
        None,
        StepResult(0.25, updated=False),
        StepResult(updated=False),
        StepResult({"loss": 0.5}, weight=32),
        2,
    ]
    Trainer(step=lambda batch: batch, data=outputs, callbacks=[EventLog(path, step_every=1)]).fit()
    received: list[Any] = []
    replay(path, [At(StepEnd, lambda event: received.append((event.step, event.output)))])
    assert received == list(enumerate(outputs, 1))
    path.unlink()
    Trainer(step=lambda batch: 1.0, data=range(7), epochs=2, callbacks=[EventLog(path, step_every=5)]).fit()
    assert [line["step"] for line in lines(path) if line["event"] == "StepEnd"] == [5, 10]


@define(kw_only=True)
class BatchLost(Event):
    why: Any = None
    _count: int = field(default=0)


@define(frozen=True)
class Frozen(Event):
    value: Any = None


class Opaque:
    def __repr__(self) -> str:
        return "Opaque()"


class Nameless:
    def __repr__(self) -> str:
        raise RuntimeError("no name")


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        7,
        2**80,
        0.1,
        math.inf,
        "text\x1b\ud800",
        (1, (2.0, "a")),
        [1, [()]],
        {"a": {"b": [1]}},
        {1: "one"},
    ],
    ids=repr,
)
def test_events_of_your_own_are_recorded_with_their_fields(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "run.jsonl"
    received: list[Event] = []
    trainer = Trainer(callbacks=[EventLog(path)])
    trainer.on(EpochEnd)(lambda event: event.run.emit(BatchLost(event.run, why=value, count=3)))
    trainer.on(EpochEnd)(lambda event: event.run.emit(Frozen(event.run, value)))
    trainer.fit()
    replay(path, [At(BatchLost, received.append), At(Frozen, received.append)])
    assert received == [BatchLost(why=value, count=3), Frozen(value=value)]


def test_what_is_not_json_is_recorded_by_its_repr(tmp_path: Path) -> None:
    assert read_value(pack_value(10**1001)) == short_text(10**1001)
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    assert read_value(pack_value(Opaque())) == "Opaque()"
    assert read_value(pack_value({"a": [Nameless()]})) == {"a": ["<Nameless, whose repr raises RuntimeError>"]}
    assert len(read_value(pack_value(frozenset(range(5000))))) == 1000
    assert len(json.dumps(pack_value(cyclic))) < 200


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["!float", "!tuple", "!"]), inner, max_size=3)
        | st.dictionaries(st.integers(0, 9) | st.tuples(st.text(max_size=2)), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(values)
def test_values_survive_the_round_trip(value: Any) -> None:
    packed = json.loads(json.dumps(pack_value(value), allow_nan=False))
    assert repr(read_value(packed)) == repr(value)


def test_a_line_that_no_reader_would_take_is_shortened(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    trainer = Trainer(callbacks=[EventLog(path)])
    trainer.on(EpochEnd)(lambda event: event.run.emit(BatchLost(event.run, why="x" * LONGEST_LINE)))
    trainer.fit()
    assert path.stat().st_size < 10_000
    assert len(replay(path)) == 1


def test_the_heartbeat_notes_how_far_the_run_has_come(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"

    def step(batch: int) -> None:
        if batch == 3:
            until(lambda: 3 in [line.get("run", {}).get("step") for line in lines(path) if line["event"] == "progress"])

    Trainer(step=step, data=range(5), callbacks=[EventLog(path, heartbeat=0.02)]).fit()
    steps = [line["run"]["step"] for line in lines(path) if line["event"] == "progress" and "run" in line]
    assert steps == sorted(set(steps))
    assert 3 in steps
    assert not [thread for thread in threading.enumerate() if "lucid" in thread.name]


def test_no_thread_is_left_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with pytest.raises(ZeroDivisionError):
        Trainer(step=lambda batch: 1 / batch, data=[1, 0], callbacks=[EventLog(path)]).fit()
    assert not [thread for thread in threading.enumerate() if "lucid" in thread.name]
    assert [line["event"] for line in lines(path)][-2:] == ["FitError", "FitEnd"]
    assert lines(path)[-2]["error"] == "ZeroDivisionError: division by zero"
    assert replay(path).reason == "ZeroDivisionError: division by zero"


def test_two_runs_do_not_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"

    def step(batch: Any) -> None:
        fit(path, 1)

    with pytest.raises(RuntimeError, match=r"'.*run.jsonl' is being written by another run"):
        Trainer(step=step, data=[1], callbacks=[EventLog(path)]).fit()
    assert replay(path).status == "failed"


def test_a_file_that_is_being_written_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with open(path, "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RuntimeError, match="is being written by another run") as caught:
            Trainer(callbacks=[EventLog(path)]).fit()
    assert caught.value.__notes__ == ["raised by EventLog.on_fit_start on FitStart"]  # and none for the later events
    assert path.read_bytes() == b""


@pytest.mark.parametrize("value", [None, 3, "", b"run.jsonl"])
def test_a_path_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="'path' must be the path of a file"):
        EventLog(value)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'path' must be a file, not a folder or a device"):
        EventLog(tmp_path)


@pytest.mark.parametrize("value", [0, -1.0, math.nan])
def test_a_heartbeat_is_above_zero(value: float) -> None:
    with pytest.raises(ValueError, match="'heartbeat' must be > 0"):
        EventLog("run.jsonl", heartbeat=value)


def test_step_every_is_a_count() -> None:
    with pytest.raises(ValueError, match="'step_every' must be >= 1: 0"):
        EventLog("run.jsonl", step_every=0)


def test_a_device_is_refused() -> None:
    with pytest.raises(ValueError, match="'path' must be a file, not a folder or a device"):
        EventLog(os.devnull)


@pytest.mark.parametrize("heartbeat", [None, 0.001])
def test_a_full_disk_ends_the_run_with_its_own_error(tmp_path: Path, heartbeat: float | None) -> None:
    path = tmp_path / "run.jsonl"
    program = f"""
        import resource, signal, time
        from lucid_train import Trainer
        from lucid_train.callbacks.event_log import EventLog
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        step = lambda batch: time.sleep(0.02)
        Trainer(step=step, data=range(5), epochs=20, callbacks=[EventLog({str(path)!r}, heartbeat={heartbeat})]).fit()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "OSError" in done.stderr
    assert path.stat().st_size <= 1000
    assert replay(path).status == "failed"


def test_a_line_that_did_not_fit_the_disk_is_not_followed_by_another(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    disk = ExitStack()
    fills = At(FitStart, lambda event: disk.enter_context(small_disk(path.stat().st_size + 500)))
    empties = At(FitError, lambda event: disk.close())
    with pytest.raises(OSError, match="cannot be written in full: the disk may be full"):
        Trainer(epochs=20, callbacks=[EventLog(path, heartbeat=None), fills, empties]).fit()
    history = replay(path)
    assert history.status == "failed"
    assert history.reason is not None
    assert "cannot be written in full" in history.reason


def test_it_can_be_copied_and_pickled_before_during_and_after_a_fit(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "run.jsonl", step_every=3, heartbeat=None)
    copies: list[EventLog] = [copy.deepcopy(log)]
    trainer = Trainer(callbacks=[log])
    trainer.on(EpochEnd)(lambda event: copies.append(pickle.loads(pickle.dumps(log))))
    trainer.fit()
    copies.append(copy.deepcopy(log))
    assert {repr(each) for each in copies} == {repr(log)}
    assert log.state_dict() == {}
    for index, each in enumerate(copies):
        each.path = tmp_path / f"copy{index}.jsonl"
        Trainer(callbacks=[each]).fit()
        assert len(replay(each.path)) == 1


def test_a_log_is_freed_with_its_trainer_at_once(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "run.jsonl")
    gone = weakref.ref(log)
    gc.disable()
    try:
        Trainer(callbacks=[log]).fit()
        del log
        assert gone() is None
    finally:
        gc.enable()


def test_a_log_grows_with_epochs_and_not_with_steps(tmp_path: Path) -> None:
    sizes = []
    for steps in (10, 1000):
        path = tmp_path / f"{steps}.jsonl"
        Trainer(step=lambda batch: 0.5, data=range(steps), epochs=5, callbacks=[EventLog(path, heartbeat=None)]).fit()
        sizes.append(path.stat().st_size)
    assert sizes[1] - sizes[0] < 200


def test_recording_and_replaying_load_no_rich() -> None:
    program = "from lucid_train import replay; from lucid_train.callbacks import CSVLogger, EventLog"
    assert "rich" not in loaded_by(program)


def test_the_process_that_writes_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    fit(path, 1)
    assert lines(path)[0]["writer"]["pid"] == os.getpid()


def test_where_the_system_has_no_folders_of_one_user_no_command_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lucid_train.callbacks.event_log.can_control", lambda: False)
    Trainer(epochs=1, callbacks=[EventLog(tmp_path / "run.jsonl")]).fit()
    assert json.loads((tmp_path / "run.jsonl").read_text().splitlines()[0])["control"] is False
