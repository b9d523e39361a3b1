"""Bad arguments of every schedule are refused in the constructor: the error names argument, rule and value."""

import re
from typing import Any

import pytest

from lucid_train.optims import lr_scheduler as schedules
from lucid_train.schedules import Step
from tests.support.optimizers import Bare

NAN, INF = float("nan"), float("inf")


CASES: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("MultiStepLR", {"milestones": 3}, TypeError, "'milestones' must be a list of epochs: 3"),
    ("MultiStepLR", {"milestones": "12"}, TypeError, "'milestones' must be a list of epochs: '12'"),
    ("MultiStepLR", {"milestones": [1, 2.5]}, TypeError, "'milestones[1]' must be an int: 2.5"),
    ("MultiStepLR", {"milestones": [-1]}, ValueError, "'milestones[0]' must be >= 0: -1"),
    ("MultiStepLR", {"milestones": [1], "gamma": 0}, ValueError, "'gamma' must be > 0: 0.0"),
    ("MultiStepLR", {"milestones": [1], "gamma": INF}, ValueError, "'gamma' must be > 0 and finite: inf"),
    ("ConstantLR", {"factor": 1.5}, ValueError, "'factor' must be >= 0 and <= 1: 1.5"),
    ("ConstantLR", {"factor": NAN}, ValueError, "'factor' must be >= 0 and <= 1 and finite: nan"),
    ("ConstantLR", {"factor": "1"}, TypeError, "'factor' must be a number: '1'"),
    ("ConstantLR", {"total_iters": 0}, ValueError, "'total_iters' must be >= 1: 0"),
    ("ConstantLR", {"total_iters": 2.0}, TypeError, "'total_iters' must be an int: 2.0"),
    ("LinearLR", {"start_factor": 0}, ValueError, "'start_factor' must be > 0 and <= 1: 0.0"),
    ("LinearLR", {"end_factor": -0.5}, ValueError, "'end_factor' must be >= 0 and <= 1: -0.5"),
    ("LinearLR", {"total_iters": True}, TypeError, "'total_iters' must be an int: True"),
    ("PolynomialLR", {"total_iters": -3}, ValueError, "'total_iters' must be >= 1: -3"),
    ("PolynomialLR", {"power": 0.0}, ValueError, "'power' must be > 0: 0.0"),
    ("LambdaLR", {"lr_lambda": 0.5}, TypeError, "'lr_lambda' must be a function of t: 0.5"),
    ("LambdaLR", {"lr_lambda": [abs, 2]}, TypeError, "'lr_lambda[1]' must be a function of t: 2"),
    ("LambdaLR", {"lr_lambda": [abs]}, ValueError, "'lr_lambda' must be one function or one per group, 2: 1"),
    ("LambdaLR", {"lr_lambda": str}, TypeError, "'lr_lambda' must be a function of t: <class 'str'>"),
    ("LambdaLR", {"lr_lambda": lambda t: "1"}, TypeError, "'f(0)' must be a number: '1'"),
    ("LambdaLR", {"lr_lambda": lambda t: None}, TypeError, "'f(0)' must be a number: None"),
    ("MultiplicativeLR", {"lr_lambda": None}, TypeError, "'lr_lambda' must be a function of t: None"),
    ("CosineAnnealingWarmRestarts", {"T_0": 0}, ValueError, "'T_0' must be >= 1: 0"),
    ("CosineAnnealingWarmRestarts", {"T_0": 2, "T_mult": 1.5}, TypeError, "'T_mult' must be an int: 1.5"),
    ("CosineAnnealingWarmRestarts", {"T_0": 2, "eta_min": -1}, ValueError, "'eta_min' must be >= 0: -1.0"),
    ("CyclicLR", {"base_lr": -1, "max_lr": 1}, ValueError, "'base_lr' must be >= 0: -1.0"),
    ("CyclicLR", {"base_lr": [1], "max_lr": 1}, ValueError, "'base_lr' must be one number or one per group, 2: [1]"),
    ("CyclicLR", {"base_lr": 1, "max_lr": 0.5}, ValueError, "'max_lr' must be >= 'base_lr', 1.0: 0.5"),
    ("CyclicLR", {"base_lr": 1, "max_lr": [2, NAN]}, ValueError, "'max_lr[1]' must be >= 0 and finite: nan"),
    ("CyclicLR", {"base_lr": 1, "max_lr": 2, "step_size_up": 0}, ValueError, "'step_size_up' must be >= 1: 0"),
    ("CyclicLR", {"base_lr": 1, "max_lr": 2, "step_size_down": -1}, ValueError, "'step_size_down' must be >= 0: -1"),
    ("CyclicLR", {"base_lr": 1, "max_lr": 2, "mode": "saw"}, ValueError, "'mode' must be one of 'triangular'"),
    ("CyclicLR", {"base_lr": 1, "max_lr": 2, "gamma": 1.1}, ValueError, "'gamma' must be > 0 and <= 1: 1.1"),
    ("CyclicLR", {"base_lr": 1, "max_lr": 2, "scale_fn": 3}, TypeError, "'scale_fn' must be a function of t: 3"),
    ("CyclicLR", {"base_lr": 1, "max_lr": 2, "scale_mode": "x"}, ValueError, "'scale_mode' must be one of 'cycle'"),
    ("CyclicLR", {"base_lr": 1, "max_lr": 2, "cycle_momentum": 1}, TypeError, "'cycle_momentum' must be True or Fal"),
    ("CyclicLR", {"base_lr": 1, "max_lr": 2, "max_momentum": 1}, ValueError, "'max_momentum' must be >= 0 and < 1: 1"),
    (
        "CyclicLR",
        {"base_lr": 1, "max_lr": 2, "base_momentum": 0.95},
        ValueError,
        "'max_momentum' must be >= 'base_momentum', 0.95: 0.9",
    ),
    (
        "OneCycleLR",
        {"max_lr": 1},
        ValueError,
        "'total_steps' must be given, or 'epochs' and 'steps_per_epoch': epochs=",
    ),
    ("OneCycleLR", {"max_lr": 1, "total_steps": 0}, ValueError, "'total_steps' must be >= 1: 0"),
    ("OneCycleLR", {"max_lr": 1, "epochs": 0, "steps_per_epoch": 2}, ValueError, "'epochs' must be >= 1: 0"),
    ("OneCycleLR", {"max_lr": -1, "total_steps": 2}, ValueError, "'max_lr' must be >= 0: -1.0"),
    ("OneCycleLR", {"max_lr": 1, "total_steps": 2, "pct_start": 1.5}, ValueError, "'pct_start' must be >= 0 and <= 1"),
    ("OneCycleLR", {"max_lr": 1, "total_steps": 2, "div_factor": 0}, ValueError, "'div_factor' must be > 0: 0.0"),
    (
        "OneCycleLR",
        {"max_lr": 1, "total_steps": 2, "final_div_factor": 0},
        ValueError,
        "'final_div_factor' must be > 0: 0.0",
    ),
    (
        "OneCycleLR",
        {"max_lr": 1, "total_steps": 2, "anneal_strategy": "exp"},
        ValueError,
        "'anneal_strategy' must be one of 'cos', 'linear': 'exp'",
    ),
    (
        "OneCycleLR",
        {"max_lr": 1, "total_steps": 2, "three_phase": 1},
        TypeError,
        "'three_phase' must be True or False: 1",
    ),
    ("NoamLR", {"d_model": 0}, ValueError, "'d_model' must be >= 1: 0"),
    ("NoamLR", {"d_model": 8, "warmup_steps": 0}, ValueError, "'warmup_steps' must be >= 1: 0"),
    ("NoamLR", {"d_model": 8, "factor": -1}, ValueError, "'factor' must be > 0: -1.0"),
    ("ReduceLROnPlateau", {"mode": "up"}, ValueError, "'mode' must be one of 'min', 'max': 'up'"),
    ("ReduceLROnPlateau", {"factor": 1.0}, ValueError, "'factor' must be > 0 and < 1: 1.0"),
    ("ReduceLROnPlateau", {"patience": -1}, ValueError, "'patience' must be >= 0: -1"),
    ("ReduceLROnPlateau", {"threshold": NAN}, ValueError, "'threshold' must be >= 0 and finite: nan"),
    ("ReduceLROnPlateau", {"threshold_mode": "x"}, ValueError, "'threshold_mode' must be one of 'rel', 'abs': 'x'"),
    ("ReduceLROnPlateau", {"cooldown": 0.5}, TypeError, "'cooldown' must be an int: 0.5"),
    ("ReduceLROnPlateau", {"min_lr": [0.1]}, ValueError, "'min_lr' must be one number or one per group, 2: [0.1]"),
    ("ReduceLROnPlateau", {"eps": -1}, ValueError, "'eps' must be >= 0: -1.0"),
    ("MultiStepLR", {"milestones": [1], "last_epoch": -2}, ValueError, "'last_epoch' must be >= -1: -2"),
    ("PolynomialLR", {"base_lrs": [1.0]}, ValueError, "'base_lrs' must have one rate per group, 2: [1.0]"),
]


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"), CASES, ids=[f"{name} {message}" for name, _, _, message in CASES]
)
def test_refused_and_nothing_written(name: str, arguments: dict[str, Any], error: Any, message: str) -> None:
    optimizer = Bare(0.4, 0.2, momentum=0.9)
    with pytest.raises(error, match=re.escape(message)):
        getattr(schedules, name)(optimizer, **arguments)
    assert optimizer.param_groups == [{"lr": 0.4, "momentum": 0.9}, {"lr": 0.2, "momentum": 0.9}]


@pytest.mark.parametrize("name", schedules.__all__)
def test_what_is_no_optimizer_is_refused(name: str) -> None:
    arguments: dict[str, Any] = {
        "ChainedScheduler": ([schedules.StepLR(Bare(0.1), 1)], object()),
        "CosineAnnealingLR": (object(), 1),
        "CosineAnnealingWarmRestarts": (object(), 1),
        "CyclicLR": (object(), 0.1, 1),
        "ExponentialLR": (object(), 0.5),
        "LRScheduler": (object(), Step(1)),
        "LambdaLR": (object(), abs),
        "MultiStepLR": (object(), [1]),
        "MultiplicativeLR": (object(), abs),
        "NoamLR": (object(), 1),
        "OneCycleLR": (object(), 1, 1),
        "SequentialLR": (object(), [schedules.StepLR(Bare(0.1), 1)], []),
        "StepLR": (object(), 1),
    }
    options: dict[str, Any] = {"lr": Step(1)} if name == "ParamScheduler" else {}
    with pytest.raises(TypeError, match="'optimizer' must have param_groups"):
        getattr(schedules, name)(*arguments.get(name, (object(),)), **options)


@pytest.mark.parametrize("name", ["CyclicLR", "OneCycleLR"])
def test_momentum_is_not_cycled_where_there_is_none(name: str) -> None:
    arguments: dict[str, Any] = {"CyclicLR": (0.1, 1), "OneCycleLR": (1, 9)}
    with pytest.raises(ValueError, match="'cycle_momentum' must be False for an optimizer without 'momentum'"):
        getattr(schedules, name)(Bare(0.1), *arguments[name])
    getattr(schedules, name)(Bare(0.1), *arguments[name], cycle_momentum=False)


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    assert set(schedules.__all__) <= set(dir(schedules))
    with pytest.raises(AttributeError, match="has no attribute 'StepLr'"):
        schedules.StepLr  # noqa: B018
