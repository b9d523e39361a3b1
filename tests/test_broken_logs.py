import json
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from lucid_train import Callback, Event, replay


@define
class Marked(Event):
    """An event of a user's own."""

    label: Any = None


@define(eq=False)
class Names(Callback):
    """Notes the name of every event."""

    heard: list[str]

    def hooks(self, event: type[Event]) -> list[Any]:
        return [lambda event: self.heard.append(type(event).__name__)]


START = {
    "event": "FitStart",
    "time": 1.0,
    "format": 1,
    "callbacks": [],
    "model": None,
    "open_step": None,
    "history": [],
    "run": {"epochs": 2, "step": 0, "last_lr": []},
}
RECORD = {"epoch": 1, "steps": 1, "seconds": 1.0, "metrics": {}, "lr": [], "last_lr": []}


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([""], "in line 1, it is not JSON"),
        (["[1]"], "in line 1, it is no JSON object"),
        (["{}"], "in line 1, it lacks the name of an event, or its time"),
        ([{"event": "EpochStart", "time": 1, "epoch": 1}], "in line 1, it is not how a log of format 1 begins"),
        ([{**START, "format": 2}], "in line 1, it is not how a log of format 1 begins"),
        ([{**START, "time": True}], "in line 1, it lacks"),
        ([{**START, "time": 1e308}], "in line 1, it lacks"),
        ([{**START, "time": -1}], "in line 1, it lacks"),
        ([{**START, "callbacks": None}], "in line 1, its callbacks are no list"),
        ([{**START, "callbacks": [1]}], "in line 1, a callback is no object"),
        ([{**START, "callbacks": [{"name": "a\x1bb"}]}], "is no name of a class"),
        ([{**START, "model": 1}], "in line 1, the model is no object"),
        ([{**START, "model": {"name": "M", "parameters": -1}}], "in line 1, -1 is no count"),
        ([{**START, "history": 1}], "in line 1, its history is no list"),
        ([{**START, "history": [{**RECORD, "epoch": 2}]}], "in line 1, epoch 2 comes after 0 epochs"),
        ([{**START, "run": {"epochs": 2**70}}], "is no count"),
        ([{**START, "run": {"last_lr": 1}}], "in line 1, the rates are no list"),
        ([START, '{"event":"EpochStart","time":NaN}'], "in line 2, it is not JSON"),
        ([START, '{"event":"EpochStart","time":1' + "0" * 5000 + "}"], "in line 2, it"),
        ([START, "[" * 100_000], "in line 2, it is not JSON"),
        ([START, {"event": "EpochStart", "time": 1}], "in line 2, None is no count"),
        ([START, {"event": "EpochEnd", "time": 1, "epoch": 1, "lr": []}], "in line 2, the metrics are no object"),
        ([START, {"event": "EpochReport", "time": 1}], "in line 2, the record is no object"),
        ([START, {"event": "StepEnd", "time": 1, "epoch": 1, "step": 1, "output": "1"}], "'1' is no number"),
        ([START, {"event": "FitEnd", "time": 1, "status": "odd"}], "in line 2, 'odd' is no way to end"),
        ([START, {"event": "Marked", "time": 1, "fields": {"!code": "exit()"}}], "'!code' is no value that a log"),
        ([START, {"event": "Marked", "time": 1, "fields": []}], "in line 2, Marked carries no fields"),
        ([START, {"event": "Marked", "time": 1, "fields": {"!dict": [[[], 1]]}}], "a key that is none"),
        (
            [START, {"event": "FitEnd", "time": 1, "status": "completed"}, {"event": "progress", "time": 2}],
            "in line 3, progress comes when no fit is running",
        ),
    ],
)
def test_a_broken_log_is_refused_by_line(tmp_path: Path, lines: list[Any], why: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    names: list[str] = []
    with pytest.raises(ValueError, match=r"'.*run\.jsonl' is no log of a run: ") as caught:
        replay(path, [Names(names)])
    assert why in str(caught.value)
    assert names.count("FitStart") == names.count("FitEnd")


def test_a_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run\.jsonl"):
        replay(tmp_path / "run.jsonl")


@pytest.mark.parametrize("text", ["", '{"event":"FitStart"'])
def test_a_log_without_a_whole_line_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.jsonl").write_text(text)
    with pytest.raises(ValueError, match="is no log of a run: it holds no whole line"):
        replay(tmp_path / "run.jsonl")


def test_a_line_beyond_all_bounds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with open(path, "wb") as file:
        file.truncate(2**26 + 10)
    with pytest.raises(ValueError, match=r"line 1 is longer than \d+ bytes"):
        replay(path)
