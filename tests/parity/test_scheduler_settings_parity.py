"""Checkpoints know the settings of PyTorch's schedulers from what only says where these stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as theirs
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from lucid_train import StepEnd, StepResult, Trainer
from lucid_train.callbacks import Checkpoint, LRSchedulerCallback


def test_pytorchs_warm_restarts_resume_in_a_later_cycle(tmp_path: Path) -> None:
    def built(folder: Path) -> Trainer:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        schedule = LRSchedulerCallback(CosineAnnealingWarmRestarts(optimizer, 2, 2))
        return Trainer(optimizer=optimizer, epochs=9, callbacks=[schedule, Checkpoint(folder, weights=False)])

    straight = built(tmp_path / "straight").fit(resume="auto")
    cut = built(tmp_path / "parts")
    cut.on(StepEnd, at=5)(lambda event: event.run.stop())
    cut.fit(resume="auto")
    resumed = built(tmp_path / "parts").fit(resume="auto")
    assert [record.lr for record in resumed] == [record.lr for record in straight]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda o: theirs.MultiStepLR(o, [5]), lambda o: theirs.MultiStepLR(o, [3])),
        (lambda o: sequence(o, 0.9), lambda o: sequence(o, 0.1)),
        (lambda o: theirs.OneCycleLR(o, 0.5, total_steps=6), lambda o: theirs.OneCycleLR(o, 0.5, total_steps=9)),
    ],
    ids=["milestones", "a part of a sequence", "phases"],
)
def test_changed_settings_of_pytorchs_schedulers_are_refused_by_name(one: Any, other: Any, tmp_path: Path) -> None:
    def built(make: Any, epochs: int) -> Trainer:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
        callbacks = [LRSchedulerCallback(make(optimizer)), Checkpoint(tmp_path, weights=False)]
        return Trainer(optimizer=optimizer, epochs=epochs, callbacks=callbacks)

    built(one, 2).fit(resume="auto")
    assert len(built(one, 4).fit(resume="auto", accept="epochs")) == 4
    with pytest.raises(ValueError, match=r"LRSchedulerCallback\.schedule is"):
        built(other, 5).fit(resume="auto", accept="epochs")


def sequence(optimizer: Any, gamma: float) -> Any:
    return theirs.SequentialLR(optimizer, [theirs.ConstantLR(optimizer), theirs.ExponentialLR(optimizer, gamma)], [3])


def test_a_save_that_falls_due_while_gradients_accumulate_waits_for_the_update(tmp_path: Path) -> None:
    def step(batch: int) -> StepResult | float:
        return StepResult(1.0, updated=False) if batch % 2 else 1.0

    checkpoint = Checkpoint(tmp_path, every=3, interval="step", keep=None, weights=False)
    Trainer(step, [1, 2, 3, 4, 5, 6, 7, 8], callbacks=[checkpoint]).fit()
    steps = sorted({int(path.stem.rpartition("-")[2]) for path in tmp_path.glob("checkpoint-*")})
    assert steps == [4, 6, 8]


ENDING: dict[str, Any] = {
    "OneCycleLR": lambda o: theirs.OneCycleLR(o, 0.5, total_steps=8),
    "CosineAnnealingLR": lambda o: theirs.CosineAnnealingLR(o, 8),
    "PolynomialLR": lambda o: theirs.PolynomialLR(o, 8),
}


def trained() -> torch.nn.Parameter:
    """Return a parameter with a gradient, without which no update would change anything."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    return parameter


def accumulated(scheduler: Any, every: int) -> None:
    """Train for eight steps, each `every`th of which performs an update."""

    def step(batch: int) -> StepResult:
        if updated := batch % every == 0:
            scheduler.optimizer.step()
        return StepResult(updated=updated)

    Trainer(step, range(4), epochs=2, callbacks=[LRSchedulerCallback(scheduler, interval="step")]).fit()


@pytest.mark.parametrize("make", ENDING.values(), ids=ENDING)
def test_a_scheduler_of_pytorch_that_does_not_come_to_its_end_is_named(make: Any) -> None:
    def made() -> Any:
        return make(torch.optim.SGD([trained()], lr=0.1, momentum=0.9))

    with pytest.warns(
        UserWarning, match="never reaches its end: 8 updates were planned and 4 were performed"
    ) as caught:
        accumulated(made(), 2)
    assert len(caught) == 1
    accumulated(made(), 1)


def test_a_scheduler_of_pytorch_that_the_step_steps_too_is_named() -> None:
    optimizer = torch.optim.SGD([trained()], lr=0.1)
    scheduler = theirs.StepLR(optimizer, 1)

    def step(batch: int) -> None:
        optimizer.step()
        scheduler.step()

    with pytest.warns(UserWarning, match="the StepLR of LRSchedulerCallback is stepped by other code too") as caught:
        Trainer(step, range(2), epochs=3, callbacks=[LRSchedulerCallback(scheduler)]).fit()
    assert len(caught) == 1
