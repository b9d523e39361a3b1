"""What a schedule's constructor refuses, and in what form it keeps what it takes."""

import math
from typing import Any

import numpy as np
import pytest

from lucid_train import schedules
from lucid_train.schedules import (
    WSD,
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    Function,
    InverseSqrt,
    InverseTime,
    Linear,
    Multiplicative,
    MultiStep,
    Noam,
    OneCycle,
    Piecewise,
    Polynomial,
    Ramp,
    Rex,
    Schedule,
    Step,
    WarmRestarts,
)
from lucid_train.schedules.cycle import OneCycleMomentum

FROM_0 = "'shape' must be 'linear', 'cosine' or '1-sqrt' from or to 0, which no power reaches: 'exponential'"
SHARE = "must be a share of the run, above 0% and at most 100%, such as '5%': "


@pytest.mark.parametrize(
    ("kind", "arguments", "error", "message"),
    [
        (Step, {"step_size": 0}, ValueError, "'step_size' must be >= 1: 0"),
        (Step, {"step_size": math.nan}, TypeError, "'step_size' must be an int: nan"),
        (Step, {"step_size": math.inf}, ValueError, "'step_size' must be finite: inf"),
        (
            Step,
            {"step_size": 0.05},
            TypeError,
            "'step_size' must be an int, or a share of the run as a string, '5%': 0.05",
        ),
        (Step, {"step_size": True}, TypeError, "'step_size' must be an int: True"),
        (Step, {"step_size": None}, TypeError, "'step_size' must be an int: None"),
        (Step, {"step_size": "0%"}, ValueError, f"'step_size' {SHARE}'0%'"),
        (Step, {"step_size": "101%"}, ValueError, f"'step_size' {SHARE}'101%'"),
        (Step, {"step_size": "-5%"}, ValueError, f"'step_size' {SHARE}'-5%'"),
        (Step, {"step_size": "five%"}, ValueError, f"'step_size' {SHARE}'five%'"),
        (Step, {"step_size": "5"}, ValueError, f"'step_size' {SHARE}'5'"),
        (Step, {"step_size": 2, "gamma": 0}, ValueError, "'gamma' must be > 0: 0.0"),
        (Step, {"step_size": 2, "gamma": "0.5"}, TypeError, "'gamma' must be a number: '0.5'"),
        (Step, {"step_size": 2, "gamma": math.inf}, ValueError, "'gamma' must be > 0 and finite: inf"),
        (MultiStep, {"milestones": 3}, TypeError, "'milestones' must be a list of epochs: 3"),
        (MultiStep, {"milestones": "5%"}, TypeError, "'milestones' must be a list of epochs: '5%'"),
        (MultiStep, {"milestones": [1, 2.5]}, TypeError, "'milestones[1]' must be an int: 2.5"),
        (MultiStep, {"milestones": [-1]}, ValueError, "'milestones[0]' must be >= 0: -1"),
        (MultiStep, {"milestones": ["0%"]}, ValueError, f"'milestones[0]' {SHARE}'0%'"),
        (MultiStep, {"milestones": [], "gamma": -1}, ValueError, "'gamma' must be > 0: -1.0"),
        (Exponential, {"gamma": None}, TypeError, "'gamma' must be a number: None"),
        (Exponential, {"gamma": 0}, ValueError, "'gamma' must be > 0: 0.0"),
        (Polynomial, {"total_iters": 0}, ValueError, "'total_iters' must be >= 1: 0"),
        (Polynomial, {"power": 0}, ValueError, "'power' must be > 0: 0.0"),
        (Cosine, {"T_max": 0}, ValueError, "'T_max' must be >= 1: 0"),
        (Cosine, {"T_max": "200%"}, ValueError, f"'T_max' {SHARE}'200%'"),
        (Cosine, {"eta_min": -1}, ValueError, "'eta_min' must be >= 0: -1.0"),
        (Cosine, {"after": "stop"}, ValueError, "'after' must be one of 'restart', 'hold', 'mirror': 'stop'"),
        (WarmRestarts, {"T_0": 0}, ValueError, "'T_0' must be >= 1: 0"),
        (WarmRestarts, {"T_0": 2, "T_mult": 0}, ValueError, "'T_mult' must be >= 1: 0.0"),
        (WarmRestarts, {"T_0": 2, "T_mult": "2"}, TypeError, "'T_mult' must be a number: '2'"),
        (WarmRestarts, {}, ValueError, "'T_0' must be given, or 'cycles', of which as many fill the run: None"),
        (WarmRestarts, {"T_0": 2, "cycles": 0}, ValueError, "'cycles' must be >= 1: 0"),
        (WarmRestarts, {"T_mult": 2, "cycles": 3}, ValueError, "'T_0' must be given where 'T_mult' is not 1: 2"),
        (WarmRestarts, {"T_0": 2, "gamma": 1.5}, ValueError, "'gamma' must be > 0 and <= 1: 1.5"),
        (
            WarmRestarts,
            {"T_0": 2, "eta_min": 0.1, "min_ratio": 0.5},
            ValueError,
            "'min_ratio' must be left out where 'eta_min' is given: 0.5",
        ),
        (Cosine, {"min_ratio": 1.5}, ValueError, "'min_ratio' must be >= 0 and <= 1: 1.5"),
        (
            Cosine,
            {"eta_min": 0.1, "min_ratio": 0.5},
            ValueError,
            "'min_ratio' must be left out where 'eta_min' is given: 0.5",
        ),
        (Cosine, {"cycles": 0}, ValueError, "'cycles' must be > 0: 0.0"),
        (Cosine, {"power": 0}, ValueError, "'power' must be > 0: 0.0"),
        (Polynomial, {"end": -1}, ValueError, "'end' must be >= 0: -1.0"),
        (
            Polynomial,
            {"end": 0.1, "min_ratio": 0.5},
            ValueError,
            "'min_ratio' must be left out where 'end' is given: 0.5",
        ),
        (Polynomial, {"cycle": 1}, TypeError, "'cycle' must be True or False: 1"),
        (Step, {"step_size": 2, "min_ratio": 2}, ValueError, "'min_ratio' must be >= 0 and <= 1: 2.0"),
        (Exponential, {"gamma": 0.5, "every": 0}, ValueError, "'every' must be >= 1: 0"),
        (Exponential, {"gamma": 0.5, "min_ratio": -1}, ValueError, "'min_ratio' must be >= 0 and <= 1: -1.0"),
        (Rex, {"total_iters": 0}, ValueError, "'total_iters' must be >= 1: 0"),
        (Rex, {"min_ratio": 2}, ValueError, "'min_ratio' must be >= 0 and <= 1: 2.0"),
        (InverseSqrt, {"timescale": 0}, ValueError, "'timescale' must be >= 1: 0"),
        (InverseTime, {"decay_steps": 0}, ValueError, "'decay_steps' must be >= 1: 0"),
        (InverseTime, {"decay_steps": 2, "decay_rate": 0}, ValueError, "'decay_rate' must be > 0: 0.0"),
        (InverseTime, {"decay_steps": 2, "power": 0}, ValueError, "'power' must be > 0: 0.0"),
        (InverseTime, {"decay_steps": 2, "staircase": 1}, TypeError, "'staircase' must be True or False: 1"),
        (Piecewise, {"milestones": 3, "factors": [1]}, TypeError, "'milestones' must be a list of epochs: 3"),
        (Piecewise, {"milestones": [], "factors": [1]}, ValueError, "'milestones' must hold at least one place: []"),
        (Piecewise, {"milestones": [0], "factors": [1, 2]}, ValueError, "'milestones[0]' must be >= 1: 0"),
        (Piecewise, {"milestones": [3, 3], "factors": [1, 1, 1]}, ValueError, "'milestones' must rise: [3, 3]"),
        (
            Piecewise,
            {"milestones": ["9%", "5%"], "factors": [1, 1, 1]},
            ValueError,
            "'milestones' must rise: ['9%', '5%']",
        ),
        (
            Piecewise,
            {"milestones": [3], "factors": [1]},
            ValueError,
            "'factors' must be one more than the 1 milestones: [1.0]",
        ),
        (Piecewise, {"milestones": [3], "factors": [1, -1]}, ValueError, "'factors[1]' must be >= 0: -1.0"),
        (
            Piecewise,
            {"milestones": [3], "factors": [1, 2], "interpolate": "sine"},
            ValueError,
            "'interpolate' must be one of 'linear', 'cosine': 'sine'",
        ),
        (Ramp, {"start_factor": 2}, ValueError, "'start_factor' must be >= 0 and <= 1: 2.0"),
        (Ramp, {"start_factor": 0, "total_iters": 0}, ValueError, "'total_iters' must be >= 1: 0"),
        (
            Ramp,
            {"start_factor": 0.5, "shape": "linear"},
            ValueError,
            "'shape' must be one of 'cosine', '1-sqrt', 'exponential': 'linear'",
        ),
        (Ramp, {"start_factor": 0, "shape": "exponential"}, ValueError, FROM_0),
        (WSD, {"warmup": -1}, ValueError, "'warmup' must be >= 0: -1"),
        (WSD, {"decay": 0}, ValueError, "'decay' must be >= 1: 0"),
        (WSD, {"stable": -1}, ValueError, "'stable' must be >= 0: -1"),
        (
            WSD,
            {"shape": "sqrt"},
            ValueError,
            "'shape' must be one of 'linear', 'cosine', '1-sqrt', 'exponential': 'sqrt'",
        ),
        (WSD, {"shape": "exponential"}, ValueError, FROM_0),
        (WSD, {"start": 0, "warmup_shape": "exponential"}, ValueError, FROM_0.replace("shape", "warmup_shape", 1)),
        (WSD, {"start": 2}, ValueError, "'start' must be >= 0 and <= 1: 2.0"),
        (WSD, {"eta_min": -1}, ValueError, "'eta_min' must be >= 0: -1.0"),
        (
            WSD,
            {"eta_min": 0.1, "min_ratio": 0.5},
            ValueError,
            "'min_ratio' must be left out where 'eta_min' is given: 0.5",
        ),
        (Step(2).skip, {"n": -1}, ValueError, "'n' must be >= 0: -1"),
        (Step(2).skip, {"n": 2.5}, TypeError, "'n' must be an int: 2.5"),
        (
            Step(2).warmup,
            {"length": 5, "shape": "sqrt"},
            ValueError,
            "'shape' must be one of 'linear', 'cosine', '1-sqrt', 'exponential': 'sqrt'",
        ),
        (Step(2).warmup, {"length": 0, "start": 0, "shape": "exponential"}, ValueError, FROM_0),
        (WarmRestarts, {"T_0": 2, "eta_min": -1}, ValueError, "'eta_min' must be >= 0: -1.0"),
        (Constant, {"factor": 1.5}, ValueError, "'factor' must be >= 0 and <= 1: 1.5"),
        (Constant, {"total_iters": 0}, ValueError, "'total_iters' must be >= 1: 0"),
        (Linear, {"start_factor": -0.5}, ValueError, "'start_factor' must be >= 0 and <= 1: -0.5"),
        (Linear, {"start_factor": 0.5, "end_factor": 2}, ValueError, "'end_factor' must be >= 0 and <= 1: 2.0"),
        (Linear, {"start_factor": 0.5, "total_iters": 0}, ValueError, "'total_iters' must be >= 1: 0"),
        (Noam, {"d_model": 0}, ValueError, "'d_model' must be >= 1: 0"),
        (Noam, {"d_model": 8, "warmup_steps": 0}, ValueError, "'warmup_steps' must be >= 1: 0"),
        (Noam, {"d_model": 8, "factor": 0}, ValueError, "'factor' must be > 0: 0.0"),
        (Cyclic, {"base_lr": -1, "max_lr": 1}, ValueError, "'base_lr' must be >= 0: -1.0"),
        (Cyclic, {"base_lr": 0, "max_lr": -1}, ValueError, "'max_lr' must be >= 0: -1.0"),
        (Cyclic, {"base_lr": 0, "max_lr": 1, "step_size_up": 0}, ValueError, "'step_size_up' must be >= 1: 0"),
        (Cyclic, {"base_lr": 0, "max_lr": 1, "step_size_down": -1}, ValueError, "'step_size_down' must be >= 0: -1"),
        (
            Cyclic,
            {"base_lr": 0, "max_lr": 1, "mode": "square"},
            ValueError,
            "'mode' must be one of 'triangular', 'triangular2', 'exp_range': 'square'",
        ),
        (Cyclic, {"base_lr": 0, "max_lr": 1, "gamma": 2}, ValueError, "'gamma' must be > 0 and <= 1: 2.0"),
        (Cyclic, {"base_lr": 0, "max_lr": 1, "scale_fn": 3}, TypeError, "'scale_fn' must be a function of t: 3"),
        (
            Cyclic,
            {"base_lr": 0, "max_lr": 1, "scale_mode": "steps"},
            ValueError,
            "'scale_mode' must be one of 'cycle', 'iterations': 'steps'",
        ),
        (OneCycle, {"max_lr": -1}, ValueError, "'max_lr' must be >= 0: -1.0"),
        (OneCycle, {"max_lr": 1, "total_steps": 0}, ValueError, "'total_steps' must be >= 1: 0"),
        (OneCycle, {"max_lr": 1, "pct_start": 1.5}, ValueError, "'pct_start' must be >= 0 and <= 1: 1.5"),
        (
            OneCycle,
            {"max_lr": 1, "anneal_strategy": "step"},
            ValueError,
            "'anneal_strategy' must be one of 'cos', 'linear': 'step'",
        ),
        (OneCycle, {"max_lr": 1, "div_factor": 0}, ValueError, "'div_factor' must be > 0: 0.0"),
        (OneCycle, {"max_lr": 1, "final_div_factor": 0}, ValueError, "'final_div_factor' must be > 0: 0.0"),
        (OneCycle, {"max_lr": 1, "three_phase": 1}, TypeError, "'three_phase' must be True or False: 1"),
        (OneCycleMomentum, {"cycle": Step(2)}, TypeError, "'cycle' must be a OneCycle: Step(2)"),
        (
            OneCycle(1.0).momentum,
            {"base_momentum": 1},
            ValueError,
            "'base_momentum' must be >= 0 and < 1: 1.0",
        ),
        (
            OneCycle(1.0).momentum,
            {"max_momentum": 1},
            ValueError,
            "'max_momentum' must be >= 0 and < 1: 1.0",
        ),
        (
            OneCycle(1.0).momentum,
            {"base_momentum": 0.9, "max_momentum": 0.8},
            ValueError,
            "'base_momentum' must be <= 'max_momentum', 0.8: 0.9",
        ),
        (Function, {"f": 3}, TypeError, "'f' must be a function of t: 3"),
        (Function, {"f": int}, TypeError, "'f' must be a function of t: <class 'int'>"),
        (Multiplicative, {"f": None}, TypeError, "'f' must be a function of t: None"),
    ],
)
def test_wrong_settings_are_refused_by_name(kind: Any, arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        kind(**arguments)
    assert str(caught.value) == message


numbers: Any = (np.int64(5), np.float32(0.5), np.array([3, 1]), iter(["50%", 1]))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Step(numbers[0], numbers[1]), Step(5, 0.5)),
        (MultiStep(numbers[2]), MultiStep((1, 3))),
        (MultiStep(numbers[3]), MultiStep(["50%", 1])),
        (Exponential(1), Exponential(1.0)),
        (WarmRestarts(5, 2.0), WarmRestarts(5, 2)),
        (Step(2.0), Step(2)),
        (Piecewise(numbers[0:1], [1, 2]), Piecewise((5,), (1.0, 2.0))),
        (Cosine(numbers[0], 0), Cosine(5)),
        (Cyclic(0, 1, 5), Cyclic(0.0, 1.0, 5, 5)),
        (Cyclic(0, 1, "5%"), Cyclic(0.0, 1.0, "5%", "5%")),
        (Cyclic(0, 1, 5, mode="other", scale_fn=math.sqrt), Cyclic(0.0, 1.0, 5, mode="other", scale_fn=math.sqrt)),  # type: ignore[arg-type]  # not looked at
    ],
)
def test_settings_are_kept_as_plain_numbers(given: Schedule, expected: Schedule) -> None:
    assert given == expected
    assert repr(given.settings()) == repr(expected.settings())


def test_milestones_are_in_order_once_they_can_be() -> None:
    assert MultiStep([3, 1, 3]).milestones == (1, 3, 3)
    assert MultiStep(["50%", 1], 0.5).milestones == ("50%", 1)
    assert MultiStep(["50%", 1], 0.5).sized(4).table(4) == [1.0, 0.5, 0.25, 0.25]


def test_the_public_names_are_in_order_and_one_per_schedule() -> None:
    assert schedules.__all__ == sorted(schedules.__all__)
    ours = {cls.__name__ for cls in Schedule.__subclasses__() if cls.__module__.startswith("lucid_train.schedules.")}
    assert ours <= set(schedules.__all__)
