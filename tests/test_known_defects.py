"""What a run should do and does not do yet. Each mark goes with its defect: a test that passes all at once fails."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucid_train import FitStart, StepEnd, Trainer
from lucid_train.callbacks import Checkpoint
from lucid_train.data import batches
from lucid_train.testing import diff_states


class Fails:
    """A step that remembers its batches, and fails in one of its calls."""

    def __init__(self, call: int) -> None:
        self.call, self.calls = call, 0
        self.seen: list[list[float]] = []

    def __call__(self, batch: Any) -> float:
        self.calls += 1
        if self.calls == self.call:
            raise OSError("lost")
        self.seen.append(batch.tolist())
        return float(batch.sum())


@pytest.mark.xfail(raises=RuntimeError, strict=True, reason="Checkpoint asks for the state of a run that has none")
def test_a_step_that_failed_is_tried_again_in_a_run_with_checkpoints(tmp_path: Path) -> None:
    step = Fails(2)
    trainer = Trainer(step, batches(np.arange(3.0), batch_size=1), callbacks=[Checkpoint(tmp_path)])
    with pytest.raises(OSError, match="lost"):
        trainer.fit()
    assert trainer.fit().status == "completed"
    assert sorted(step.seen) == [[0.0], [1.0], [2.0]]


class DrawnLate:
    """The order of a pass is drawn with its first batch."""

    def __iter__(self) -> Iterator[Any]:
        yield from np.random.permutation(6).reshape(3, 2)


@pytest.mark.xfail(raises=AssertionError, strict=True, reason="the generators are saved as they were after the batch")
def test_a_state_taken_when_a_first_step_has_failed_resumes_exactly() -> None:
    np.random.seed(1)
    straight = Fails(0)
    Trainer(straight, DrawnLate()).fit()
    np.random.seed(1)
    trainer = Trainer(Fails(1), DrawnLate())
    with pytest.raises(OSError, match="lost"):
        trainer.fit()
    step = Fails(0)
    resumed = Trainer(step, DrawnLate())
    resumed.load_state_dict(trainer.state_dict())
    resumed.fit()
    assert step.seen == straight.seen


@pytest.mark.xfail(raises=AssertionError, strict=True, reason="each resume goes on in the pass that was given up")
def test_resuming_without_training_leaves_the_place_in_the_data_alone() -> None:
    def built(stops: bool) -> Trainer:
        data = batches(np.arange(6.0), batch_size=2, seed=3)
        trainer = Trainer(lambda batch: float(batch[0]), data, epochs=3, steps_per_epoch=2)
        trainer.on(StepEnd, at=2)(lambda event: event.run.stop() if stops else None)
        trainer.on(FitStart)(lambda event: event.run.stop() if event.run.resumed and stops else None)
        return trainer

    straight = built(stops=False)
    straight.fit()
    trainer = built(stops=True)
    trainer.fit()
    for attempt in range(4):
        state = copy.deepcopy(trainer.state_dict())
        trainer = built(stops=attempt < 3)
        trainer.load_state_dict(state)
        trainer.fit()
    assert diff_states(straight.state_dict()["history"], trainer.state_dict()["history"]) == []
