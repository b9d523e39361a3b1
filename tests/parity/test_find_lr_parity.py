"""find_lr on every set-up with PyTorch: training after it is training without it."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lucid_train import Trainer, find_lr
from tests.parity.setups import SETUPS, loader
from tests.support.rehearsals import PLACES, Place, assert_unnoticed
from tests.support.setups import SetUp

REFUSED = {
    (
        "a shuffle buffer on the generator that the step draws from",
        PLACES[2],
    ): "must not draw from a random generator that the steps draw from too",
    (
        "a data set that draws in persistent workers",
        PLACES[1],
    ): "must not draw random numbers in persistent workers.*; wrap the data set with lucid_train.data.seeded",
    **{("a generator", place): "an iterator cannot" for place in PLACES},
}
# Of most set-ups one place each, in turn; of these all three.
EVERY_PLACE = (
    "shuffled, noise in the step, dropout",
    "distributed",
    "persistent workers",
    "a data set that draws in persistent workers",
    "torchdata's stateful loader",
    "a part of each pass",
    "distributed, in groups",
    "a GradScaler that skips",
    "a shuffle buffer on the generator that the step draws from",
    "a moving average, evaluated within epochs",
)
CASES = [
    pytest.param(setup, place, REFUSED.get((name, place)), id=f"{name}, {place}")
    for number, (name, setup) in enumerate(SETUPS.items())
    for index, place in enumerate(PLACES)
    # What it accumulates is counted in a variable of the step function.
    if name in EVERY_PLACE or (index == 1 if name == "accumulated gradients" else index == number % 3)
]


@pytest.mark.parametrize(("setup", "place", "refused"), CASES)
def test_training_after_it_is_training_without_it(
    setup: SetUp, place: Place, refused: str | None, tmp_path: Path
) -> None:
    assert_unnoticed(setup.build, place, tmp_path, refused=refused)
    assert multiprocessing.active_children() == []


def regression(step: Any, model: nn.Module, **extras: Any) -> Trainer:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Trainer(lambda batch: step(optimizer, batch), loader()(), model=model, optimizer=optimizer, extras=extras)


def descend(optimizer: Any, batch: Any) -> Any:
    optimizer.zero_grad()
    loss = sum((each**2).sum() for each in optimizer.param_groups[0]["params"]) * batch[0].mean() ** 2
    loss.backward()
    optimizer.step()
    return loss


def test_it_leaves_no_worker_behind() -> None:
    trainer = regression(descend, nn.Linear(3, 1))
    trainer.data = data = loader(num_workers=2, persistent_workers=True)()
    find_lr(trainer, steps=10)
    assert (data._iterator, multiprocessing.active_children()) == (None, [])


def test_gradients_modes_and_buffers_that_are_not_saved_are_put_back() -> None:
    model = nn.Sequential(nn.Linear(3, 1), nn.Dropout(0.5))
    model[1].eval()
    model.register_buffer("seen", torch.zeros(()), persistent=False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    held, seen = [each.grad for each in model.parameters()], model.seen

    def step(optimizer: Any, batch: Any) -> Any:
        model.train()
        model.seen += 1
        loss = nn.functional.mse_loss(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    find_lr(regression(step, model), 1e-3, 1e-2, 10)
    found = [each.grad for each in model.parameters()]
    assert [each is other for each, other in zip(found, held, strict=True)] == [True, True]
    assert [bool((each == 1).all()) for each in found if each is not None] == [True, True]
    assert [each.training for each in model.modules()] == [True, True, False]
    assert (model.seen is seen, float(seen)) == (True, 0.0)


def test_a_scaler_that_fails_between_its_calls_may_begin_again() -> None:
    model, fails = nn.Linear(3, 1), True
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)

    def step(optimizer: Any, batch: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(batch[0]), batch[1])
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if fails:
            raise ZeroDivisionError
        scaler.step(optimizer)
        scaler.update()
        return loss

    trainer = regression(step, model, scaler=scaler)
    with pytest.raises(ZeroDivisionError):
        find_lr(trainer)
    assert scaler._scale is None
    fails = False
    assert len(trainer.fit()) == 1


def test_a_schedule_of_pytorchs_does_not_warn_of_an_order_that_it_has_not_seen() -> None:
    trainer = regression(descend, nn.Linear(3, 1))
    schedule = torch.optim.lr_scheduler.StepLR(trainer.optimizer, 1)  # type: ignore[arg-type]
    find_lr(trainer, steps=10)
    with pytest.warns(UserWarning, match=r"`lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
        schedule.step()


def test_it_draws_a_figure() -> None:
    figure = find_lr(regression(descend, nn.Linear(3, 1)), steps=10).plot()
    [panel] = figure.axes
    assert (panel.get_xscale(), panel.get_xlabel()) == ("log", "lr")
    assert [line.get_label() for line in panel.lines] == ["loss", "smoothed"]
