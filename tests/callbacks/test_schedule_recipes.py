"""LRSchedulerCallback with a recipe: built when the fit starts, by epoch or by step, in shares of the run."""

import functools
import pickle
from typing import Any

import pytest

from lucid_train import NoUpdate, Trainer, nn, optims
from lucid_train.callbacks import LRSchedulerCallback, StepLRCallback
from lucid_train.optims.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    NoamLR,
    OneCycleLR,
    Recipe,
    ReduceLROnPlateau,
    StepLR,
)
from tests.support.data import Unsized
from tests.support.optimizers import RateWitness, with_momentum

HALVED = Recipe(StepLR, step_size=1, gamma=0.5)


def used(optimizer: RateWitness) -> list[float]:
    return [rate for (rate,) in optimizer.used]


def run(callback: LRSchedulerCallback, epochs: int = 3, data: Any = range(4), **options: Any) -> list[float]:
    optimizer = RateWitness(1.0, momentum=0.9)
    Trainer(lambda batch: optimizer.step(), data, optimizer=optimizer, epochs=epochs, callbacks=[callback]).fit()
    return used(optimizer)


def test_a_recipe_is_built_on_the_runs_optimizer() -> None:
    callback = LRSchedulerCallback(HALVED)
    assert callback.scheduler is None
    assert run(callback) == [1.0] * 4 + [0.5] * 4 + [0.25] * 4
    assert repr(callback.scheduler) == "StepLR(step_size=1, gamma=0.5, last_epoch=3)"


@pytest.mark.parametrize("recipe", [functools.partial(StepLR, step_size=1, gamma=0.5), lambda opt: StepLR(opt, 1, 0.5)])
def test_any_function_of_an_optimizer_is_a_recipe(recipe: Any) -> None:
    assert run(LRSchedulerCallback(recipe)) == run(LRSchedulerCallback(HALVED))


SCHEDULES = {
    "constant": Recipe(ConstantLR, factor=0.5, total_iters=2),
    "cosine": Recipe(CosineAnnealingLR),
    "noam": Recipe(NoamLR, d_model=16, warmup_steps=2),
    "one cycle": Recipe(OneCycleLR, max_lr=1.0),
    "joined": Recipe(LinearLR, start_factor=0.5).until(2).then(ExponentialLR, gamma=0.5),
}


@pytest.mark.parametrize("recipe", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize(("interval", "length"), [("epoch", 3), ("step", 12)])
def test_every_unit_serves_every_schedule(recipe: Recipe, interval: Any, length: int) -> None:
    pure = recipe(with_momentum(1.0), length)
    expected = [pure.lr_at(step if interval == "step" else step // 4)[0] for step in range(12)]
    assert run(LRSchedulerCallback(recipe, interval)) == expected


def test_shares_are_those_of_the_steps_when_steps_are_counted() -> None:
    callback = LRSchedulerCallback(Recipe(CosineAnnealingLR).warmup("25%"), "step")
    run(callback)
    assert (callback.scheduler.milestones, callback.scheduler.schedulers[1].T_max) == ([3], 9)


def test_an_unknown_length_is_a_clear_error_when_the_fit_starts() -> None:
    callback = LRSchedulerCallback(Recipe(CosineAnnealingLR).warmup("25%"), "step")
    with pytest.raises(ValueError, match="the length of the run must be known for until='25%'") as caught:
        run(callback, data=Unsized())
    assert "LRSchedulerCallback(..., length=...)" in str(caught.value)
    assert run(LRSchedulerCallback(callback.recipe, "step", length=12), data=Unsized()) == run(
        LRSchedulerCallback(callback.recipe, "step")
    )


def test_epochs_are_always_known() -> None:
    assert len(run(LRSchedulerCallback(Recipe(CosineAnnealingLR).warmup("25%")), data=Unsized())) == 12


def test_a_step_without_an_update_does_not_advance_the_schedule() -> None:
    optimizer = RateWitness(1.0)

    def accumulate(batch: int) -> NoUpdate | None:
        if batch % 2 == 0:
            return NoUpdate()
        optimizer.step()
        return None

    callback = LRSchedulerCallback(HALVED, "step")
    Trainer(accumulate, range(8), optimizer=optimizer, callbacks=[callback]).fit()
    assert used(optimizer) == [1.0, 0.5, 0.25, 0.125]


def test_a_plateau_follows_its_metric() -> None:
    optimizer = RateWitness(1.0)
    recipe = Recipe(ReduceLROnPlateau, patience=0, factor=0.5)
    callback = LRSchedulerCallback(recipe, monitor="loss")
    history = Trainer(lambda batch: 1.0, [0], optimizer=optimizer, epochs=4, callbacks=[callback]).fit()
    assert [record.lr for record in history] == [(1.0,), (1.0,), (0.5,), (0.25,)]


def test_a_recipe_that_needs_a_metric_says_so_when_the_fit_starts() -> None:
    with pytest.raises(TypeError, match=r"cannot be stepped, .* if it follows a metric, name it: monitor='val_loss'"):
        run(LRSchedulerCallback(Recipe(ReduceLROnPlateau)))


def test_two_schedules_on_one_optimizer_are_refused_and_told_how_to_be_joined() -> None:
    callbacks = [StepLRCallback(1), LRSchedulerCallback(HALVED)]
    with pytest.raises(ValueError, match=r"join them in one: LRSchedulerCallback\(Recipe\(...\).until\(5\).then"):
        Trainer(optimizer=RateWitness(1.0), callbacks=callbacks).fit()


def test_an_optimizer_of_its_own_is_scheduled() -> None:
    own = RateWitness(1.0)
    Trainer(epochs=2, callbacks=[LRSchedulerCallback(HALVED, optimizer=own)]).fit()
    assert own.param_groups[0]["lr"] == 0.25


def test_a_later_fit_goes_on_and_a_restart_begins_anew() -> None:
    optimizer = RateWitness(1.0)
    trainer = Trainer(optimizer=optimizer, epochs=2, callbacks=[LRSchedulerCallback(HALVED)])
    trainer.fit()
    trainer.fit(4)
    assert used(optimizer) == [1.0, 0.5, 0.25, 0.125]
    trainer.fit(2, restart=True)
    assert used(optimizer)[4:] == [1.0, 0.5]


def test_a_state_waits_for_the_scheduler_to_be_built() -> None:
    first, second = LRSchedulerCallback(HALVED), LRSchedulerCallback(HALVED)
    run(first, epochs=2)
    second.load_state_dict(first.state_dict())
    assert run(second, epochs=2) == [0.25] * 4 + [0.125] * 4


@pytest.mark.parametrize(
    ("attempt", "error", "message"),
    [
        (lambda: LRSchedulerCallback(StepLR), TypeError, r"or a recipe such as Recipe\(StepLR, ...\)"),
        (lambda: LRSchedulerCallback(3), TypeError, r"or a recipe, a function that builds one on an optimizer: 3"),
        (lambda: LRSchedulerCallback(HALVED, length=0), ValueError, "'length' must be >= 1: 0"),
        (lambda: LRSchedulerCallback(HALVED, optimizer=3), TypeError, "'optimizer' must have param_groups"),
        (
            lambda: LRSchedulerCallback(StepLR(RateWitness(1.0), 1), optimizer=RateWitness(1.0)),
            ValueError,
            "'optimizer' must be None with a scheduler that is built",
        ),
        (
            lambda: run(LRSchedulerCallback(lambda opt: opt.param_groups)),
            TypeError,
            "'scheduler' must build a scheduler",
        ),
        (
            lambda: Trainer(callbacks=[LRSchedulerCallback(HALVED)]).fit(),
            ValueError,
            "LRSchedulerCallback needs an optim",
        ),
    ],
)
def test_wrong_settings_are_refused(attempt: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        attempt()


def test_the_repr_shows_the_recipe_before_and_after() -> None:
    callback = LRSchedulerCallback(HALVED, "step", length=9)
    shown = (
        "LRSchedulerCallback(scheduler=Recipe(StepLR, step_size=1, gamma=0.5), interval='step', monitor=None, length=9)"
    )
    assert repr(callback) == shown
    run(callback)
    assert repr(callback) == shown
    built = LRSchedulerCallback(StepLR(RateWitness(1.0), 1), length=2)
    assert repr(built).startswith(
        "LRSchedulerCallback(scheduler=StepLR(step_size=1, gamma=0.1, last_epoch=0), interval="
    )


def test_it_can_be_pickled_before_and_after() -> None:
    callback = LRSchedulerCallback(HALVED)
    assert run(pickle.loads(pickle.dumps(callback))) == run(callback)
    twin = pickle.loads(pickle.dumps(callback))
    assert twin.scheduler.last_lr == callback.scheduler.last_lr == [0.125]


def test_the_settings_of_a_recipe_with_functions_are_the_same_in_every_process() -> None:
    def built() -> LRSchedulerCallback:
        def half(t: int) -> float:
            return 0.5**t

        return LRSchedulerCallback(Recipe(LambdaLR, lr_lambda=[half]).until(2).then(LambdaLR, lr_lambda=half))

    one, other = built(), built()
    assert one.settings() == other.settings()
    assert "0x" not in str(one.settings())


def test_a_longer_run_takes_the_recipes_new_length_where_that_is_accepted() -> None:
    def built(epochs: int) -> Trainer:
        optimizer = optims.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
        return Trainer(optimizer=optimizer, epochs=epochs, callbacks=[LRSchedulerCallback(Recipe(CosineAnnealingLR))])

    short, longer = built(4), built(8)
    short.fit()
    longer.load_state_dict(short.state_dict(), accept=["epochs", "LRSchedulerCallback"])
    expected = [record.lr for record in built(8).fit()][4:]
    assert [record.lr for record in longer.fit()][4:] == expected
