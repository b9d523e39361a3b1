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

    received: list[str]

    def hooks(self, event: type[Event]) -> list[Any]:
        return [lambda event: self.received.append(type(event).__name__)]


START = {
    "event": "FitStart",
    "time": 1.0,
    "format": 1,
    "callbacks": [],
    "model": None,
    "open_step": None,
    "run": {"epochs": 2, "step": 0, "last_lr": []},
}
RECORD = {"epoch": 1, "steps": 1, "seconds": 1.0, "metrics": {}, "lr": [], "last_lr": [], "scheduled": {}}


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([""], "in line 1, it is not JSON"),
        (["[1]"], "in line 1, it is not a JSON object"),
        (["{}"], "in line 1, it lacks the name of an event, or its time"),
        ([{"event": "EpochStart", "time": 1, "epoch": 1}], "in line 1, it is not the first line of a log of format 1"),
        ([{**START, "format": 2}], "in line 1, it is not the first line of a log of format 1"),
        ([{**START, "time": True}], "in line 1, it lacks"),
        ([{**START, "time": 1e308}], "in line 1, it lacks"),
        ([{**START, "time": -1}], "in line 1, it lacks"),
        ([{**START, "callbacks": None}], "in line 1, 'callbacks' must be a list: None"),
        ([{**START, "callbacks": [1]}], "in line 1, 'callback' must be an object: 1"),
        ([{**START, "model": 1}], "in line 1, 'model' must be an object: 1"),
        (
            [{**START, "model": {"name": "M", "parameters": -1}}],
            "in line 1, 'parameters' must be an int from 0 to 4611686018427387903: -1",
        ),
        ([{**START, "run": {"history": 1}}], "in line 1, 'history' must be a list: 1"),
        ([{**START, "run": {"history": [{**RECORD, "epoch": 2}]}}], "in line 1, epoch 2 comes after 0 epochs"),
        ([{**START, "run": {"epochs": 2**70}}], "in line 1, 'epochs' must be an int from 0 to 46"),
        ([{**START, "run": {"evaluate_every": 0}}], "in line 1, 'evaluate_every' must be an int from 1 to "),
        ([{**START, "run": {"steps_per_epoch": "1"}}], "in line 1, 'steps_per_epoch' must be an int from 0 to "),
        ([{**START, "run": {"reason": 1}}], "in line 1, 'reason' must be a string: 1"),
        ([{**START, "run": {"last_lr": [None]}}], "in line 1, 'last_lr' must be a number: None"),
        ([{**START, "run": {"scheduled": []}}], "in line 1, 'scheduled' must be an object: []"),
        ([{**START, "run": {"scheduled": {"kl": 1}}}], "in line 1, 'kl' must be a list: 1"),
        ([{**START, "run": {"last_lr": 1}}], "in line 1, 'last_lr' must be a list: 1"),
        ([START, '{"event":"EpochStart","time":NaN}'], "in line 2, it is not JSON"),
        ([START, '{"event":"EpochStart","time":1' + "0" * 5000 + "}"], "in line 2, it"),
        ([START, "[" * 100_000], "in line 2, it is nested too deep"),
        ([START, "[" * 60 + "]" * 60], "in line 2, it is nested too deep"),
        ([START, '{"event":"EpochStart","time":1,"time":2}'], "in line 2, a name occurs twice in one object"),
        (
            [START, {"event": "Marked", "time": 1, "fields": {"label": {"!float": 10**400}}}],
            "in line 2, {'!float': 1000",
        ),
        (
            [START, {"event": "Marked", "time": 1, "fields": {"!dict": [[k * (2**61 - 1), 0] for k in range(9)]}}],
            "in line 2, {'!dict': [[0, 0], [2305843009213693951, 0]",
        ),
        ([START, "[" + "[]," * 10**6 + "1]"], "in line 2, it would take far more memory than a file of its size may"),
        (
            [START, {"event": "EpochStart", "time": 1}],
            "in line 2, 'epoch' must be an int from 0 to 4611686018427387903: None",
        ),
        (
            [START, {"event": "EpochEnd", "time": 1, "epoch": 1, "lr": []}],
            "in line 2, 'metrics' must be an object: None",
        ),
        ([START, {"event": "EpochReport", "time": 1}], "in line 2, no epoch has ended"),
        (
            [START, {"event": "StepEnd", "time": 1, "epoch": 1, "step": 1, "output": "1"}],
            "in line 2, 'output' must be a number: '1'",
        ),
        (
            [START, {"event": "EvaluateStart", "time": 1, "epoch": 1, "step": "1"}],
            "in line 2, 'step' must be an int from 0 to 4611686018427387903: '1'",
        ),
        (
            [START, {"event": "EvaluateEnd", "time": 1, "epoch": 1, "step": 1, "metrics": {}, "within_epoch": 1}],
            "in line 2, 'within_epoch' must be true or false: 1",
        ),
        (
            [START, {"event": "EvaluateEnd", "time": 1, "epoch": 1, "metrics": {}, "within_epoch": True}],
            "in line 2, 'step' must be an int from 0 to 4611686018427387903: None",
        ),
        ([{**START, "run": {"evaluations": {}}}], "in line 1, 'evaluations' must be a list: {}"),
        ([{**START, "run": {"evaluations": [1]}}], "in line 1, 'evaluations' must be an object: 1"),
        (
            [START, {"event": "FitEnd", "time": 1, "status": "odd"}],
            "in line 2, 'status' must be one of 'completed', 'stopped', 'interrupted', 'failed': 'odd'",
        ),
        (
            [START, {"event": "Marked", "time": 1, "fields": {"!code": "exit()"}}],
            "in line 2, {'!code': 'exit()'} is not what a tag of this format has",
        ),
        ([START, {"event": "Marked", "time": 1, "fields": []}], "in line 2, 'fields' must be an object: []"),
        (
            [START, {"event": "Marked", "time": 1, "fields": {"!dict": [[[], 1]]}}],
            "in line 2, {'!dict': [[[], 1]]} is not what a tag of this format has",
        ),
        (
            [START, {"event": "FitEnd", "time": 1, "status": "completed"}, {"event": "progress", "time": 2}],
            "in line 3, progress comes while no fit is running",
        ),
    ],
)
def test_a_broken_log_is_refused_by_line(tmp_path: Path, lines: list[Any], why: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    names: list[str] = []
    with pytest.raises(ValueError, match=r"'.*run\.jsonl' is not the log of a run: ") as caught:
        replay(path, [Names(names)])
    assert why in str(caught.value)
    assert names.count("FitStart") == names.count("FitEnd")


def test_a_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run\.jsonl"):
        replay(tmp_path / "run.jsonl")


@pytest.mark.parametrize("text", ["", '{"event":"FitStart"'])
def test_a_log_without_a_whole_line_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.jsonl").write_text(text)
    with pytest.raises(ValueError, match="is not the log of a run: it has no complete line"):
        replay(tmp_path / "run.jsonl")


def test_a_line_beyond_all_bounds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with open(path, "wb") as file:
        file.truncate(2**26 + 10)
    with pytest.raises(ValueError, match=r"line 1 is longer than \d+ bytes"):
        replay(path)
