"""Recipes: schedules described before there is an optimizer, joined, warmed up, measured in shares of the run."""

import copy
import functools
import pickle
from typing import Any

import pytest

from lucid_train.optims.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    Recipe,
    SequentialLR,
    StepLR,
)
from tests.support.optimizers import Bare, with_momentum


def rates(recipe: Recipe, epochs: int, length: int | None = None) -> list[float]:
    scheduler = recipe(Bare(1.0), length)
    return [scheduler.lr_at(t)[0] for t in range(epochs)]


def test_one_schedule_alone_is_itself() -> None:
    scheduler = Recipe(StepLR, step_size=2, gamma=0.5)(Bare(1.0))
    assert type(scheduler) is StepLR
    assert repr(scheduler) == "StepLR(step_size=2, gamma=0.5, last_epoch=0)"


def test_a_warm_up_is_one_call() -> None:
    assert rates(Recipe(ExponentialLR, gamma=0.5).warmup(2, start_factor=0.5), 5) == [0.5, 0.75, 1.0, 0.5, 0.25]


def test_schedules_are_joined_end_to_end() -> None:
    recipe = Recipe(ConstantLR, factor=0.5).until(2).then(ExponentialLR, gamma=0.5).until(4).then(StepLR, step_size=1)
    assert rates(recipe, 6) == pytest.approx([0.5, 0.5, 1.0, 0.5, 1.0, 0.1])


def test_ends_are_counted_from_the_beginning_whatever_the_warm_up() -> None:
    recipe = Recipe(PolynomialLR).until(6).then(ConstantLR, factor=0.5).warmup(2, start_factor=0.5)
    assert rates(recipe, 8, length=8) == [0.5, 0.75, 1.0, 0.75, 0.5, 0.25, 0.5, 0.5]


@pytest.mark.parametrize(
    ("share", "length", "expected"),
    [("5%", 100, 5), ("5 %", 10, 1), ("2.5%", 1000, 25), ("33%", 10, 3), ("25%", 10, 3), ("1%", 10, 1), ("100%", 7, 7)],
)
def test_a_share_is_rounded_and_at_least_one(share: str, length: int, expected: int) -> None:
    assert Recipe(StepLR, step_size=share)(Bare(1.0), length).step_size == expected


def test_shares_stand_in_lists_and_ends() -> None:
    scheduler = Recipe(MultiStepLR, milestones=["50%", 9]).warmup("10%")(Bare(1.0), 20)
    assert (scheduler.milestones, scheduler.schedulers[1].milestones) == ([2], [9, 10])


@pytest.mark.parametrize(
    ("recipe", "name", "expected"),
    [
        (Recipe(CosineAnnealingLR), "T_max", 20),
        (Recipe(LinearLR), "total_iters", 20),
        (Recipe(ConstantLR), "total_iters", 20),
        (Recipe(PolynomialLR, power=2), "total_iters", 20),
        (Recipe(OneCycleLR, max_lr=1), "total_steps", 20),
        (Recipe(OneCycleLR, max_lr=1, epochs=2, steps_per_epoch=3), "total_steps", 6),
        (Recipe(CosineAnnealingLR, T_max=7), "T_max", 7),
    ],
)
def test_a_length_left_out_is_as_long_as_its_part_of_the_run(recipe: Recipe, name: str, expected: int) -> None:
    assert getattr(recipe(with_momentum(1.0), 20), name) == expected
    if expected == 20:
        assert getattr(recipe.warmup("25%")(with_momentum(1.0), 20).schedulers[1], name) == 15


def test_a_length_is_not_needed_where_the_end_is_given() -> None:
    scheduler = Recipe(LinearLR).until(4).then(ExponentialLR, gamma=0.5)(Bare(1.0))
    assert (type(scheduler), scheduler.schedulers[0].total_iters) == (SequentialLR, 4)


@pytest.mark.parametrize(
    ("recipe", "what"),
    [
        (Recipe(CosineAnnealingLR), "'T_max', which is left out,"),
        (Recipe(StepLR, step_size="5%"), "step_size='5%'"),
        (Recipe(StepLR, step_size=2).warmup("5%"), "until='5%'"),
    ],
)
def test_an_unknown_length_is_an_error_that_says_what_needs_it(recipe: Recipe, what: str) -> None:
    optimizer = Bare(1.0)
    with pytest.raises(ValueError, match=f"the length of the run must be known for {what}"):
        recipe(optimizer)
    assert optimizer.param_groups[0]["lr"] == 1.0


@pytest.mark.parametrize("share", ["0%", "101%", "-5%", "five%", "5%%"])
def test_what_is_no_share_is_refused_at_once(share: str) -> None:
    with pytest.raises(ValueError, match="'step_size' must be a share of the run, above 0% and at most 100%"):
        Recipe(StepLR, step_size=share)
    with pytest.raises(ValueError, match="'end' must be a share of the run"):
        Recipe(StepLR, step_size=2).until(share)


@pytest.mark.parametrize(
    ("attempt", "error", "message"),
    [
        (lambda: Recipe(3), TypeError, "'schedule' must be a schedule's class or a function that builds one: 3"),  # type: ignore[arg-type]  # refused
        (lambda: Recipe(StepLR(Bare(1.0), 1)), TypeError, "'schedule' must be a schedule's class"),  # type: ignore[arg-type]  # refused
        (
            lambda: Recipe(StepLR, stepsize=2),
            TypeError,
            "StepLR cannot be built, got an unexpected keyword .*'stepsize'",
        ),
        (
            lambda: Recipe(StepLR, step_size=2).then(StepLR),
            ValueError,
            r"'then' must follow an end, as in .until\('5%'\)",
        ),
        (
            lambda: Recipe(StepLR).until(2).until(3),
            ValueError,
            r"'end' must follow a schedule, as in .then\(...\).until",
        ),
        (lambda: Recipe(StepLR).until(0), ValueError, "'end' must be >= 1: 0"),
        (lambda: Recipe(StepLR).until(2.5), TypeError, "'end' must be an int: 2.5"),  # type: ignore[arg-type]  # refused
        (
            lambda: Recipe(StepLR).until(3).then(StepLR).until(3),
            ValueError,
            "'end' must be after the end before it, 3: 3",
        ),
        (
            lambda: Recipe(StepLR, step_size=2).until(3)(Bare(1.0)),
            ValueError,
            "a recipe must not end before the run",
        ),
        (lambda: Recipe(StepLR, step_size=2)(Bare(1.0), 0), ValueError, "'length' must be >= 1: 0"),
        (
            lambda: Recipe(StepLR, step_size=1).until("10%").then(StepLR).until("20%").then(StepLR)(Bare(1.0), 4),
            ValueError,
            "StepLR must last an epoch at least: it would go from 1 to 1",
        ),
        (
            lambda: Recipe(StepLR, step_size=1).until(9).then(CosineAnnealingLR)(Bare(1.0), 9),
            ValueError,
            "'T_max' of CosineAnnealingLR must be given: the run ends at 9, before it begins",
        ),
    ],
)
def test_wrong_recipes_are_refused(attempt: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        attempt()


def test_a_recipe_reads_as_it_was_written() -> None:
    recipe = Recipe(LinearLR, start_factor=0.1).until("5%").then(CosineAnnealingLR, eta_min=0.001)
    assert repr(recipe) == "Recipe(LinearLR, start_factor=0.1).until('5%').then(CosineAnnealingLR, eta_min=0.001)"
    assert eval(repr(recipe)) == recipe
    assert Recipe(CosineAnnealingLR, eta_min=0.001).warmup("5%") == recipe


def test_recipes_are_values_and_can_be_copied() -> None:
    recipe = Recipe(StepLR, step_size=2).warmup(3)
    assert pickle.loads(pickle.dumps(recipe)) == copy.deepcopy(recipe) == recipe
    assert recipe.until(9) != recipe


def test_a_function_that_builds_is_a_schedule_too() -> None:
    recipe = Recipe(functools.partial(StepLR, gamma=0.5), step_size=1).warmup(1)
    assert rates(recipe, 4) == [0.1, 1.0, 0.5, 0.25]
