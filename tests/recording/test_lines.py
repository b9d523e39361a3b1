"""The lines of a log, as they stand in the file: logs are read by other versions than those that wrote them."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from lucid_train import EpochEnd, Event, StepEnd, StepResult, Trainer
from lucid_train.callbacks import EarlyStopping, EventLog, ExponentialLRCallback
from lucid_train.nn import Linear
from tests.support.optimizers import Bare


@define
class WeightSeen(Event):
    """An event of the user's own."""

    weight: Any = None


FIRST_FIT = """\
{"event":"FitStart","time":0,"format":1,"heartbeat":null,"writer":{},"control":false,"callbacks":[\
{"name":"ExponentialLRCallback","repr":"ExponentialLRCallback(...)",\
"schedule":{"lr":"times 0.5 every epoch"},"described":{}},\
{"name":"EarlyStopping","repr":"EarlyStopping(...)","schedule":{},\
"described":{"stopping":"after 2 epochs without a lower val_loss"}},\
{"name":"EventLog","repr":"EventLog(...)","schedule":{},"described":{"recording":"run.jsonl"}},\
{"name":"stop","repr":"FunctionListener(...)","schedule":{},"described":{}},\
{"name":"look","repr":"FunctionListener(...)","schedule":{},"described":{}}],\
"monitored":["val_loss","min"],"optimizer":"Bare","model":{"name":"Linear","parameters":8},"open_step":null,\
"run":{"epochs":2,"steps_per_epoch":3,"evaluate_every":2,"evaluate_steps":null,"epoch":0,"step":0,"reason":null,"last_lr":[0.1,0.02],"scheduled":{}}}
{"event":"EpochStart","time":0,"epoch":1,"run":{"epoch":1}}
{"event":"StepEnd","time":0,"epoch":1,"step":1,"output":0.5,"run":{"step":1}}
{"event":"StepEnd","time":0,"epoch":1,"step":2,"output":{"loss":1.5,"accuracy":"inf"},"run":{"step":2}}
{"event":"StepEnd","time":0,"epoch":1,"step":3,"output":null,"weight":1,"updated":false,"run":{"step":3}}
{"event":"EpochEnd","time":0,"epoch":1,"metrics":{"loss":1.0,"accuracy":"inf"},"lr":[0.1,0.02],\
"run":{"last_lr":[0.05,0.01]}}
{"event":"WeightSeen","time":0,"module":"test_lines",\
"fields":{"weight":{"!tuple":[1,{"!float":"nan"},{"!repr":"<class 'int'>"}]}}}
{"event":"EpochReport","time":0,"run":{"history":[{"epoch":1,"steps":3,"seconds":0,"metrics":{"loss":1.0,"accuracy":"inf"},\
"lr":[0.1,0.02],"last_lr":[0.05,0.01],"scheduled":{}}]}}
{"event":"EpochStart","time":0,"epoch":2,"run":{"epoch":2}}
{"event":"StepEnd","time":0,"epoch":2,"step":4,"output":0.5,"run":{"step":4}}
{"event":"FitEnd","time":0,"status":"stopped","reason":"enough","run":{"reason":"enough"}}
"""
SECOND_FIT = """\
{"event":"StepEnd","time":0,"epoch":2,"step":5,"output":{"loss":1.5,"accuracy":"inf"},"run":{"step":5}}
{"event":"StepEnd","time":0,"epoch":2,"step":6,"output":null,"weight":1,"updated":false,"run":{"step":6}}
{"event":"EvaluateStart","time":0,"epoch":2,"step":6,"within_epoch":false,"asked":false}
{"event":"EvaluateEnd","time":0,"epoch":2,"step":6,"metrics":{"val_loss":"nan"},"within_epoch":false,"asked":false}
{"event":"EpochEnd","time":0,"epoch":2,"metrics":{"loss":1.0,"accuracy":"inf","val_loss":"nan"},"lr":[0.05,0.01],\
"run":{"last_lr":[0.025,0.005]}}
{"event":"WeightSeen","time":0,"module":"test_lines",\
"fields":{"weight":{"!tuple":[2,{"!float":"nan"},{"!repr":"<class 'int'>"}]}}}
{"event":"EpochReport","time":0,"run":{"history":[{"epoch":2,"steps":3,"seconds":0,\
"metrics":{"loss":1.0,"accuracy":"inf","val_loss":"nan"},"lr":[0.05,0.01],"last_lr":[0.025,0.005],"scheduled":{}}]}}
{"event":"EpochStart","time":0,"epoch":3,"run":{"epoch":3}}
{"event":"FitError","time":0,"error":"ZeroDivisionError: division by zero",\
"run":{"reason":"ZeroDivisionError: division by zero"}}
{"event":"FitEnd","time":0,"status":"failed","reason":"ZeroDivisionError: division by zero"}
"""


def masked(path: Path) -> str:
    """Return the text of a log without times, the process, the set-up and the arguments of callbacks."""
    text = re.sub(r'"(time|seconds)":[0-9.e-]+', r'"\1":0', path.read_text("ascii"))
    text = re.sub(r'"writer":\{"pid":\d+,[^}]*\}', '"writer":{}', text)
    text = re.sub(r',"versions":\{[^}]*\},"setup":.*?(?=,"run":)', "", text)
    text = re.sub(r'("repr":"\w+)\([^"]*\)', r"\1(...)", text)
    return re.sub(r'"module":"[^"]*test_lines"', '"module":"test_lines"', text)


def test_the_lines_of_a_run_are_what_they_always_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = Linear(3, 2)
    log = EventLog("run.jsonl", step_every=1, heartbeat=None)
    trainer = Trainer(
        step=lambda batch: 1 / 0 if trainer._run.epoch == 3 else batch,
        data=[0.5, {"loss": 1.5, "accuracy": math.inf}, StepResult(updated=False)],
        epochs=2,
        model=model,
        optimizer=Bare(0.1, 0.02),
        evaluate=lambda: math.nan,
        evaluate_every=2,
        callbacks=[ExponentialLRCallback(gamma=0.5), EarlyStopping(patience=2), log],
    )

    @trainer.on(StepEnd, at=4)
    def stop(event: StepEnd) -> None:
        event.run.stop("enough")

    @trainer.on(EpochEnd)
    def look(event: EpochEnd) -> None:
        event.run.emit(WeightSeen(event.run, (event.epoch, math.nan, int)))

    trainer.fit()
    assert masked(tmp_path / "run.jsonl") == FIRST_FIT
    with pytest.raises(ZeroDivisionError):
        trainer.fit(3)
    resumed = masked(tmp_path / "run.jsonl").removeprefix(FIRST_FIT).splitlines(keepends=True)
    assert '"open_step":1,"run":{"epochs":3,' in resumed[0]
    assert "".join(resumed[1:]) == SECOND_FIT
