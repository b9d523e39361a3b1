"""Schedules in a Trainer, PyTorch's and ours: a resumed run and a restarted one have the values of the first."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as theirs
from torch.optim.swa_utils import SWALR

from lucid_train import StepEnd, Trainer
from lucid_train.callbacks import Checkpoint, LRSchedulerCallback
from lucid_train.optims import lr_scheduler as ours
from lucid_train.schedules import Cosine, Exponential, Linear, OneCycle

# What a callback is given, made on an optimizer; and the metric that it follows, if any.
SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda o: theirs.StepLR(o, 2, 0.5),
    "MultiStepLR": lambda o: theirs.MultiStepLR(o, [2, 5], 0.5),
    "ConstantLR": lambda o: theirs.ConstantLR(o),
    "LinearLR": lambda o: theirs.LinearLR(o),
    "ExponentialLR": lambda o: theirs.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: theirs.PolynomialLR(o, 9, 2.0),
    "CosineAnnealingLR": lambda o: theirs.CosineAnnealingLR(o, 4, 0.01),
    "CosineAnnealingWarmRestarts": lambda o: theirs.CosineAnnealingWarmRestarts(o, 2, 2),
    "LambdaLR": lambda o: theirs.LambdaLR(o, lambda t: 0.9**t),
    "MultiplicativeLR": lambda o: theirs.MultiplicativeLR(o, lambda t: 0.9),
    "CyclicLR": lambda o: theirs.CyclicLR(o, 0.1, 0.5, 3),
    "OneCycleLR": lambda o: theirs.OneCycleLR(o, 0.5, total_steps=12),
    "SequentialLR": lambda o: theirs.SequentialLR(o, [theirs.ConstantLR(o, 0.5, 2), theirs.ExponentialLR(o, 0.9)], [2]),
    "ChainedScheduler": lambda o: theirs.ChainedScheduler([theirs.ConstantLR(o, 0.5, 2), theirs.ExponentialLR(o, 0.9)]),
    "ReduceLROnPlateau": lambda o: theirs.ReduceLROnPlateau(o, factor=0.5, patience=1),
    "SWALR": lambda o: SWALR(o, 0.01, 5),
    "ours, OneCycleLR": lambda o: ours.OneCycleLR(o, 0.5, 12),
    "ours, ReduceLROnPlateau": lambda o: ours.ReduceLROnPlateau(o, factor=0.5, patience=1),
    "ours, several keys": lambda o: ours.ParamScheduler(
        o, weight_decay=Exponential(0.5), momentum=Linear(0.5).sized(5)
    ),
    "ours, momentum of a part that is over": lambda o: ours.SequentialLR(
        o, [ours.CyclicLR(o, 0.1, 0.5, 4), ours.ConstantLR(o, 0.5, 9)], [4]
    ),
    "a value, warmed up from below eta_min": lambda o: Cosine(eta_min=0.05).warmup(5),
    "a value per group": lambda o: [Cosine(), OneCycle(0.5)],
}
MONITOR = {name: "loss" for name in SCHEDULES if "Plateau" in name}
each_schedule = pytest.mark.parametrize("name", SCHEDULES)


def built(name: str, seen: list[Any], *others: Any) -> Trainer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.1, 0.05)]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.25)
    for group in groups:
        group["params"][0].grad = torch.zeros(1)  # or no update would change anything
    # A length, so that a value is the same however far a fit goes.
    callbacks = [LRSchedulerCallback(SCHEDULES[name](optimizer), monitor=MONITOR.get(name), length=9), *others]

    def step(batch: int) -> float:
        optimizer.step()
        return 1.0

    trainer = Trainer(step, [0], optimizer=optimizer, epochs=9, callbacks=callbacks)

    @trainer.on(StepEnd)
    def note(event: StepEnd) -> None:
        keys = ("lr", "momentum", "weight_decay")
        # The groups are others once a state has been loaded.
        seen.append([event.step, *([float(group[key]) for key in keys] for group in optimizer.param_groups)])

    return trainer


@functools.cache
def straight(name: str) -> list[Any]:
    """Return the values of a run from its first to its last epoch."""
    seen: list[Any] = []
    built(name, seen).fit()
    return seen


@each_schedule
@pytest.mark.parametrize("cut", [1, 3, 6])
def test_a_resumed_run_has_the_same_rates_and_momenta(name: str, cut: int, tmp_path: Path) -> None:
    seen: list[Any] = []
    first = built(name, seen, Checkpoint(tmp_path, every=None, weights=False))
    first.on(StepEnd, at=cut)(lambda event: event.run.stop())
    first.fit(resume="auto")
    built(name, seen, Checkpoint(tmp_path, every=None, weights=False)).fit(resume="auto")
    assert seen == straight(name)


@each_schedule
@pytest.mark.parametrize("epochs", [1, 4])
def test_a_restarted_run_has_the_rates_and_momenta_of_the_first(name: str, epochs: int) -> None:
    seen: list[Any] = []
    trainer = built(name, seen)
    trainer.fit(epochs)
    for _ in range(2):
        seen.clear()
        trainer.fit(restart=True)
        assert seen == straight(name)


@each_schedule
def test_a_run_restarted_after_it_was_resumed_has_those_of_the_first(name: str, tmp_path: Path) -> None:
    first = built(name, [], Checkpoint(tmp_path, every=None, weights=False))
    first.on(StepEnd, at=4)(lambda event: event.run.stop())
    first.fit()
    seen: list[Any] = []
    trainer = built(name, seen, Checkpoint(tmp_path, every=None, weights=False))
    trainer.load_state_dict(first.state_dict())
    trainer.fit(restart=True)
    assert seen == straight(name)
