"""Schedules that a recipe builds anew when a run is resumed leave the restored optimizer as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as theirs

from lucid_train import StepEnd, Trainer
from lucid_train.callbacks import Checkpoint, LRSchedulerCallback
from lucid_train.optims.lr_scheduler import ConstantLR, CosineAnnealingLR, CyclicLR, Recipe

RECIPES: dict[str, Callable[[Any], Any]] = {
    "ConstantLR": lambda o: theirs.ConstantLR(o),
    "LinearLR": lambda o: theirs.LinearLR(o),
    "LambdaLR": lambda o: theirs.LambdaLR(o, lambda t: 0.9**t),
    "CyclicLR": lambda o: theirs.CyclicLR(o, 0.1, 0.5, 3),
    "OneCycleLR": lambda o: theirs.OneCycleLR(o, 0.5, total_steps=12),
    "SequentialLR": lambda o: theirs.SequentialLR(o, [theirs.ConstantLR(o, 0.5, 2), theirs.ExponentialLR(o, 0.9)], [2]),
    "ChainedScheduler": lambda o: theirs.ChainedScheduler([theirs.ConstantLR(o, 0.5, 2), theirs.ExponentialLR(o, 0.9)]),
    "ours, momentum of a part that is over": Recipe(CyclicLR, base_lr=0.1, max_lr=0.5, step_size_up=4)
    .until(4)
    .then(ConstantLR, factor=0.5, total_iters=9),
    "ours, warmed up from below eta_min": Recipe(CosineAnnealingLR, eta_min=0.05).warmup(5),
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("cut", [1, 3, 6])
def test_a_recipe_resumes_to_the_same_rates_and_momenta(name: str, cut: int, tmp_path: Path) -> None:
    def trained(folder: Path, stop: int | None, seen: list[Any]) -> None:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
        callbacks = [LRSchedulerCallback(RECIPES[name]), Checkpoint(folder)]
        trainer = Trainer(optimizer=optimizer, epochs=9, callbacks=callbacks)

        @trainer.on(StepEnd)
        def note(event: StepEnd) -> None:
            (group,) = optimizer.param_groups  # another dict once a state has been loaded
            seen.append((event.step, float(group["lr"]), group["momentum"]))

        if stop is not None:
            trainer.on(StepEnd, at=stop)(lambda event: event.run.stop())
        trainer.fit(resume="auto")

    straight: list[Any] = []
    resumed: list[Any] = []
    trained(tmp_path / "straight", None, straight)
    trained(tmp_path / "parts", cut, resumed)
    trained(tmp_path / "parts", None, resumed)
    assert resumed == straight
