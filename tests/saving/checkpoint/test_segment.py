"""The history beside the checkpoints: what is written, and what is read back."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_train import EpochRecord, EvaluationRecord, History
from lucid_train.saving.checkpoint.segment import Segment, find_segment, read_history


def history_of(*records: EpochRecord, evaluations: list[EvaluationRecord] | None = None) -> History:
    history = History(records)
    history.evaluations = evaluations or []
    return history


def written(path: Path, *histories: History) -> Segment:
    """Write a history as it grows, one save each."""
    segment = Segment(path)
    for history in histories:
        following, lines = segment.extended(history)
        segment.write(lines)
        segment = following
    return segment


def read(segment: Segment) -> History:
    found = read_history(segment.reference, segment.path.parent)
    assert found is not None
    history = History()
    history.load_state_dict(found)
    return history


NUMBERS = st.floats(allow_nan=False)
RECORDS = st.lists(
    st.builds(
        EpochRecord,
        epoch=st.integers(1, 2**60),
        steps=st.integers(0, 2**60),
        seconds=NUMBERS,
        metrics=st.dictionaries(st.text(max_size=3), NUMBERS, max_size=3),
        lr=st.lists(NUMBERS, max_size=3).map(tuple),
        last_lr=st.lists(NUMBERS, max_size=3).map(tuple),
    ),
    max_size=6,
)
EVALUATIONS = st.lists(
    st.builds(
        EvaluationRecord,
        epoch=st.integers(1, 9),
        step=st.integers(0, 99),
        seconds=NUMBERS,
        metrics=st.dictionaries(st.text(max_size=3), NUMBERS, max_size=2),
    ),
    max_size=4,
)


@given(records=RECORDS, evaluations=EVALUATIONS, cuts=st.lists(st.integers(0, 6), max_size=3))
def test_any_history_is_read_back_however_many_saves_wrote_it(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[EpochRecord],
    evaluations: list[EvaluationRecord],
    cuts: list[int],
) -> None:
    path = tmp_path_factory.mktemp("history") / "history-000001.jsonl"
    parts = [history_of(*records[:cut], evaluations=evaluations[:cut]) for cut in sorted(cuts)]
    whole = history_of(*records, evaluations=evaluations)
    segment = written(path, *parts, whole)
    assert read(segment) == whole
    assert segment.size == (path.stat().st_size if path.exists() else 0)


def test_nan_and_infinities_come_back(tmp_path: Path) -> None:
    metrics = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": -0.0}
    segment = written(tmp_path / "history-000001.jsonl", history_of(EpochRecord(epoch=1, metrics=metrics)))
    assert repr(read(segment)[0].metrics) == repr(metrics)


def test_the_columns_are_written_when_they_change(tmp_path: Path) -> None:
    path = tmp_path / "history-000001.jsonl"
    first = EpochRecord(epoch=1, steps=2, seconds=0.5, metrics={"loss": 1.0}, lr=(0.1,), last_lr=(0.1,))
    second = EpochRecord(
        epoch=2, steps=2, seconds=0.5, metrics={"loss": 2.0, "val_loss": 3.0}, lr=(0.1,), last_lr=(0.1,)
    )
    third = EpochRecord(epoch=3, steps=2, seconds=0.5, metrics={"loss": 4.0}, lr=(0.1,), last_lr=(0.1,))
    within = EvaluationRecord(epoch=1, step=1, seconds=0.25, metrics={"val_loss": 5.0})
    written(path, history_of(first, evaluations=[within]), history_of(first, second, third, evaluations=[within]))
    assert path.read_text() == (
        '{"metrics":["loss"],"lr":1,"last_lr":1,"scheduled":{}}\n'
        "[1,2,0.5,1.0,0.1,0.1]\n"
        '{"epoch":1,"step":1,"seconds":0.25,"metrics":{"val_loss":5.0},"asked":false}\n'
        '{"metrics":["loss","val_loss"],"lr":1,"last_lr":1,"scheduled":{}}\n'
        "[2,2,0.5,2.0,3.0,0.1,0.1]\n"
        "[3,2,0.5,4.0,null,0.1,0.1]\n"
    )


def epochs(count: int) -> History:
    return history_of(*(EpochRecord(epoch=epoch, metrics={"loss": 1 / epoch}) for epoch in range(1, count + 1)))


def test_what_follows_the_place_is_cut_off_by_the_next_save_and_not_by_reading(tmp_path: Path) -> None:
    path = tmp_path / "history-000001.jsonl"
    segment = written(path, epochs(2))
    whole = path.read_bytes()
    with open(path, "ab") as file:
        file.write(b"[3,0,0.0,")  # a process was killed here
    assert read(segment) == epochs(2)
    assert path.stat().st_size > len(whole)
    following, lines = segment.extended(epochs(3))
    segment.write(lines)
    assert read(following) == epochs(3)
    assert path.read_bytes() == whole + lines


def test_a_history_that_is_read_is_gone_on_with(tmp_path: Path) -> None:
    segment = written(tmp_path / "history-000001.jsonl", epochs(2))
    found = find_segment(segment.reference, tmp_path)
    assert found is not None
    following, lines = found[0].extended(epochs(4))
    found[0].write(lines)
    assert read(following) == epochs(4)
    assert following.reference["sha256"] == hashlib.sha256(segment.path.read_bytes()).hexdigest()


def test_a_history_without_records_needs_no_file(tmp_path: Path) -> None:
    segment = written(tmp_path / "history-000001.jsonl", History(), History())
    assert os.listdir(tmp_path) == []
    assert read(segment) == History()


def test_a_file_that_is_shorter_or_different_is_refused_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "history-000001.jsonl"
    segment = written(path, epochs(2))
    whole = path.read_bytes()
    for place in range(len(whole)):
        for changed in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
            path.write_bytes(changed)
            with pytest.raises(ValueError, match=r"history-000001.jsonl, is shorter than it was, or was changed; move"):
                read(segment)


def test_what_is_not_there_or_no_file_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "history-000001.jsonl"
    reference = written(path, epochs(1)).reference
    path.unlink()
    assert read_history(reference, tmp_path) is None
    os.mkfifo(path)
    assert read_history(reference, tmp_path) is None
    path.unlink()
    path.mkdir()
    assert read_history(reference, tmp_path) is None


@pytest.mark.parametrize(
    "name", ["../history-000001.jsonl", "/etc/passwd", "history-1.jsonl", "history-000001.jsonl\n", "", 1, None]
)
def test_no_file_of_another_name_is_read(tmp_path: Path, name: Any) -> None:
    reference = {**written(tmp_path / "history-000001.jsonl", epochs(1)).reference, "segment": name}
    with pytest.raises(ValueError, match=r"'segment' must be the name of a file such as history-000001\.jsonl"):
        read_history(reference, tmp_path)


@pytest.mark.parametrize("changes", [{"bytes": 10**15}, {"bytes": -1}, {"bytes": None}, {"epochs": 7}, {"more": 1}])
def test_a_reference_that_is_not_of_the_file_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    reference = {**written(tmp_path / "history-000001.jsonl", epochs(1)).reference, **changes}
    with pytest.raises((ValueError, TypeError)):
        read_history(reference, tmp_path)


def test_a_file_with_holes_is_refused_without_reading_them(tmp_path: Path) -> None:
    path = tmp_path / "history-000001.jsonl"
    reference = written(path, epochs(1)).reference
    os.truncate(path, 1 << 40)
    assert read_history(reference, tmp_path) == epochs(1).state_dict()
    with pytest.raises(ValueError, match="is shorter than it was, or was changed"):
        read_history({**reference, "bytes": 1 << 40}, tmp_path)


LINES = [
    "1",
    '"step"',
    "null",
    "[]",
    "[1]",
    '[1,2,"x"]',
    '{"step":1}',
    '{"metrics":[[]],"lr":0,"last_lr":0}',
    "[[],[],[]]",
]


@pytest.mark.parametrize("line", [*LINES, '{"metrics":["a"],"lr":-1,"last_lr":1}', "[" * 200_000, "{}", "[1,2,3,4]"])
def test_lines_that_no_run_has_written_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "history-000001.jsonl"
    path.write_text(line + "\n")
    content = path.read_bytes()
    reference = {"segment": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    with pytest.raises((ValueError, TypeError, KeyError, RecursionError)):
        History().load_state_dict(read_history({**reference, "epochs": 1, "evaluations": 0}, tmp_path) or {})


def test_saving_every_epoch_writes_each_epoch_once(tmp_path: Path) -> None:
    path = tmp_path / "history-000001.jsonl"
    segment, total = Segment(path), 0
    history = History()
    for epoch in range(1, 201):
        history.append(EpochRecord(epoch=epoch, metrics={"loss": 0.5}))
        segment, lines = segment.extended(history)
        total += len(lines)
    assert total == segment.size < 200 * 25
    assert json.loads(lines) == [200, 0, 0.0, 0.5]
