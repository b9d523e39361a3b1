import json
from pathlib import Path

from attrs import define, field

from lucid_train import Callback, FitEnd, FitStart, Trainer, replay
from lucid_train.callbacks import EventLog


@define(eq=False)
class Clock(Callback):
    read: list[float] = field(factory=list, init=False)

    def on_fit_start(self, event: FitStart) -> None:
        self.read.append(event.run.clock())

    def on_fit_end(self, event: FitEnd) -> None:
        self.read.append(event.run.clock())


def test_a_fast_replay_takes_no_longer_by_its_clock_than_the_run_did(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    Trainer(step=lambda batch: 0.5, data=[1], epochs=20, callbacks=[EventLog(path)]).fit()
    times = [json.loads(line)["time"] for line in path.read_text("utf-8").splitlines()]
    clock = Clock()
    replay(path, [clock], speed=1e6)
    assert clock.read == [times[0], max(times)]
