"""What the oracle looks at: every schedule, recipe and loaded state, built in one expression from public names."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

from attrs import define, field

from lucid_train.optims import lr_scheduler
from lucid_train.optims.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    NoamLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

T = TypeVar("T")
Build = Callable[[Any], Any]

RATES = (0.1, 0.025, 0.3)
MOMENTUM, BETAS = 0.9, (0.9, 0.999)


class Optimizer:
    """An optimizer with the first 1, 2 or 3 of three groups; the third has betas, the others have a momentum."""

    def __init__(self, groups: int = 3) -> None:
        momenta: list[dict[str, Any]] = [{"momentum": MOMENTUM}, {"momentum": MOMENTUM}, {"betas": BETAS}]
        self.param_groups = [
            {"params": [], "lr": rate, **momentum} for rate, momentum in zip(RATES[:groups], momenta, strict=False)
        ]

    def step(self) -> None:
        pass


def per(optimizer: Any, *values: T) -> list[T]:
    """Return as many of the values as the optimizer has groups."""
    return list(values[: len(optimizer.param_groups)])


def inverse(t: float) -> float:
    return 1 / (1 + t)


def power(t: int) -> float:
    return 0.95**t


def wave(t: int) -> float:
    return 1 + 0.5 * math.sin(t)


def alternating(t: int) -> float:
    return 1.0 + (1 if t % 2 else -1) / (t + 1)


def falling(t: int) -> float:
    return 0.97


def by_cycle(cycle: float) -> float:
    return 1 / (5 ** (cycle * 0.0001))


# The schedules that are functions of time.

SCHEDULES: dict[str, Build] = {
    "StepLR": lambda opt: StepLR(opt, 7, 0.3),
    "StepLR, default gamma": lambda opt: StepLR(opt, 13),
    "StepLR, every epoch": lambda opt: StepLR(opt, 1, 0.9),
    "StepLR, growing": lambda opt: StepLR(opt, 9, 1.1),
    "StepLR, base rates given": lambda opt: StepLR(opt, 7, 0.3, base_lrs=per(opt, 1.0, 0.7, 0.1)),
    "StepLR, from epoch 5": lambda opt: StepLR(opt, 3, 0.3, 4, base_lrs=per(opt, 1.0, 0.7, 0.1)),
    "MultiStepLR": lambda opt: MultiStepLR(opt, [30, 5, 12], 0.3),
    "MultiStepLR, default gamma, twice in one epoch": lambda opt: MultiStepLR(opt, [20, 20, 40]),
    "MultiStepLR, from the first epoch": lambda opt: MultiStepLR(opt, [0, 1, 1000, 1_000_000], 0.7),
    "MultiStepLR, no milestones": lambda opt: MultiStepLR(opt, [], 0.3),
    "ExponentialLR": lambda opt: ExponentialLR(opt, 0.93),
    "ExponentialLR, growing": lambda opt: ExponentialLR(opt, 1.03),
    "PolynomialLR": lambda opt: PolynomialLR(opt),
    "PolynomialLR, linear": lambda opt: PolynomialLR(opt, 50),
    "PolynomialLR, power 2": lambda opt: PolynomialLR(opt, 40, 2.0),
    "PolynomialLR, power 0.7": lambda opt: PolynomialLR(opt, 1_000_000, 0.7),
    "CosineAnnealingLR": lambda opt: CosineAnnealingLR(opt, 25),
    "CosineAnnealingLR, restart": lambda opt: CosineAnnealingLR(opt, 10, 0.001, after="restart"),
    "CosineAnnealingLR, hold": lambda opt: CosineAnnealingLR(opt, 33, 0.001, after="hold"),
    "CosineAnnealingLR, mirror": lambda opt: CosineAnnealingLR(opt, 11, 0.001, after="mirror"),
    "CosineAnnealingLR, T_max 1": lambda opt: CosineAnnealingLR(opt, 1, after="mirror"),
    "CosineAnnealingLR, eta_min of the lowest rate": lambda opt: CosineAnnealingLR(opt, 17, 0.025),
    "CosineAnnealingLR, a million epochs": lambda opt: CosineAnnealingLR(opt, 1_000_000, 0.0005, after="mirror"),
    "CosineAnnealingLR, from epoch 16, mirror": lambda opt: CosineAnnealingLR(
        opt, 11, 0.001, 15, after="mirror", base_lrs=per(opt, 0.5, 0.4, 0.3)
    ),
    "CosineAnnealingWarmRestarts": lambda opt: CosineAnnealingWarmRestarts(opt, 9),
    "CosineAnnealingWarmRestarts, T_mult 2": lambda opt: CosineAnnealingWarmRestarts(opt, 4, 2, 0.001),
    "CosineAnnealingWarmRestarts, T_mult 3": lambda opt: CosineAnnealingWarmRestarts(opt, 1, 3, 0.02),
    "CosineAnnealingWarmRestarts, from epoch 13": lambda opt: CosineAnnealingWarmRestarts(
        opt, 4, 2, 0.001, 12, base_lrs=per(opt, 0.5, 0.4, 0.3)
    ),
    "ConstantLR": lambda opt: ConstantLR(opt),
    "ConstantLR, factor 0": lambda opt: ConstantLR(opt, 0.0, 12),
    "LinearLR": lambda opt: LinearLR(opt),
    "LinearLR, up": lambda opt: LinearLR(opt, 0.01, 1.0, 30),
    "LinearLR, down to 0": lambda opt: LinearLR(opt, 1.0, 0.0, 45),
    "LinearLR, down a million epochs": lambda opt: LinearLR(opt, 0.9, 0.001, 1_000_000),
    "NoamLR": lambda opt: NoamLR(opt, 512),
    "NoamLR, short": lambda opt: NoamLR(opt, 64, 20, 2.0),
    "LambdaLR, one function": lambda opt: LambdaLR(opt, power),
    "LambdaLR, one function, inverse": lambda opt: LambdaLR(opt, inverse),
    "LambdaLR, a list": lambda opt: LambdaLR(opt, per(opt, inverse, power, wave)),
    "MultiplicativeLR, one function": lambda opt: MultiplicativeLR(opt, falling),
    "MultiplicativeLR, one function, alternating": lambda opt: MultiplicativeLR(opt, alternating),
    "MultiplicativeLR, a list": lambda opt: MultiplicativeLR(opt, per(opt, falling, alternating, inverse)),
    "CyclicLR": lambda opt: CyclicLR(opt, 0.01, 0.2),
    "CyclicLR, triangular": lambda opt: CyclicLR(opt, 0.01, 0.2, 7, 4, "triangular"),
    "CyclicLR, triangular2": lambda opt: CyclicLR(
        opt, 0.01, 0.2, 5, mode="triangular2", base_momentum=0.7, max_momentum=0.95
    ),
    "CyclicLR, exp_range": lambda opt: CyclicLR(opt, 0.01, 0.2, 6, 3, "exp_range", 0.97),
    "CyclicLR, no way down": lambda opt: CyclicLR(opt, 0.01, 0.2, 6, 0),
    "CyclicLR, no momentum": lambda opt: CyclicLR(opt, 0.01, 0.2, 6, cycle_momentum=False),
    "CyclicLR, own scale of cycles": lambda opt: CyclicLR(opt, 0.01, 0.2, 6, 5, scale_fn=by_cycle),
    "CyclicLR, own scale of iterations": lambda opt: CyclicLR(
        opt, 0.01, 0.2, 6, 5, scale_fn=inverse, scale_mode="iterations"
    ),
    "CyclicLR, lists": lambda opt: CyclicLR(
        opt,
        per(opt, 0.01, 0.02, 0.005),
        per(opt, 0.3, 0.2, 0.7),
        8,
        base_momentum=per(opt, 0.6, 0.7, 0.8),
        max_momentum=per(opt, 0.9, 0.85, 0.99),
    ),
    "CyclicLR, one low, a list of high rates": lambda opt: CyclicLR(opt, 0.01, per(opt, 0.3, 0.2, 0.7), 8, 3),
    "CyclicLR, from step 9": lambda opt: CyclicLR(opt, 0.01, 0.2, 7, 4, last_epoch=8),
    "OneCycleLR": lambda opt: OneCycleLR(opt, 0.5, 50),
    "OneCycleLR, epochs and steps": lambda opt: OneCycleLR(opt, 0.5, epochs=8, steps_per_epoch=7),
    "OneCycleLR, linear": lambda opt: OneCycleLR(opt, 0.5, 40, anneal_strategy="linear", pct_start=0.45),
    "OneCycleLR, three phases": lambda opt: OneCycleLR(opt, 0.5, 55, three_phase=True),
    "OneCycleLR, three phases, linear": lambda opt: OneCycleLR(
        opt, 0.5, 30, three_phase=True, anneal_strategy="linear", pct_start=0.25
    ),
    "OneCycleLR, lists": lambda opt: OneCycleLR(
        opt,
        per(opt, 0.5, 0.25, 1.0),
        50,
        base_momentum=per(opt, 0.6, 0.7, 0.8),
        max_momentum=per(opt, 0.9, 0.85, 0.99),
        div_factor=10.0,
        final_div_factor=100.0,
    ),
    "OneCycleLR, no momentum": lambda opt: OneCycleLR(opt, 0.5, 60, cycle_momentum=False),
    "OneCycleLR, no way up": lambda opt: OneCycleLR(opt, 0.5, 20, pct_start=0.0),
    "OneCycleLR, up only": lambda opt: OneCycleLR(opt, 0.5, 20, pct_start=1.0),
    "OneCycleLR, a million steps": lambda opt: OneCycleLR(opt, 0.5, 1_000_000),
    "OneCycleLR, from step 21": lambda opt: OneCycleLR(opt, 0.5, 50, last_epoch=20),
    "SequentialLR, warm-up and cosine": lambda opt: SequentialLR(
        opt, [LinearLR(opt, 0.1), CosineAnnealingLR(opt, 45, 0.001)], [5]
    ),
    "SequentialLR, three parts": lambda opt: SequentialLR(
        opt, [ConstantLR(opt, 0.5, 20), StepLR(opt, 4, 0.5), CosineAnnealingLR(opt, 1000, after="hold")], [10, 30]
    ),
    "SequentialLR, one part": lambda opt: SequentialLR(opt, [ExponentialLR(opt, 0.9)], []),
    "SequentialLR, momentum first": lambda opt: SequentialLR(
        opt, [OneCycleLR(opt, 0.5, 20), ExponentialLR(opt, 0.9)], [12]
    ),
    "SequentialLR, momentum later": lambda opt: SequentialLR(opt, [LinearLR(opt), CyclicLR(opt, 0.01, 0.2, 6)], [10]),
    "SequentialLR, momentum twice": lambda opt: SequentialLR(
        opt, [CyclicLR(opt, 0.01, 0.2, 4), NoamLR(opt, 64, 10), OneCycleLR(opt, 0.5, 30)], [11, 20]
    ),
    "SequentialLR, lists of functions": lambda opt: SequentialLR(
        opt, [LambdaLR(opt, per(opt, inverse, power, wave)), MultiplicativeLR(opt, falling)], [20]
    ),
    "SequentialLR, from epoch 12": lambda opt: SequentialLR(
        opt,
        [
            LinearLR(opt, 0.1, 1.0, 5, base_lrs=per(opt, 0.5, 0.4, 0.3)),
            ExponentialLR(opt, 0.9, base_lrs=per(opt, 0.5, 0.4, 0.3)),
        ],
        [5],
        11,
    ),
    "SequentialLR, nested": lambda opt: SequentialLR(
        opt,
        [
            ChainedScheduler([ConstantLR(opt), StepLR(opt, 2)]),
            SequentialLR(opt, [StepLR(opt, 3, 0.5), CyclicLR(opt, 0.01, 0.2, 6)], [15]),
        ],
        [8],
    ),
    "ChainedScheduler": lambda opt: ChainedScheduler([ConstantLR(opt, 0.1, 8), ExponentialLR(opt, 0.95)]),
    "ChainedScheduler, eta_min": lambda opt: ChainedScheduler(
        [LinearLR(opt), ExponentialLR(opt, 0.99), CosineAnnealingLR(opt, 40, 0.001)]
    ),
    "ChainedScheduler, momentum first": lambda opt: ChainedScheduler([OneCycleLR(opt, 0.5, 40), LinearLR(opt)]),
    "ChainedScheduler, momentum first, lists": lambda opt: ChainedScheduler(
        [CyclicLR(opt, 0.01, per(opt, 0.3, 0.2, 0.7), 6), LambdaLR(opt, per(opt, inverse, power, wave))]
    ),
    "ChainedScheduler, nested": lambda opt: ChainedScheduler(
        [
            SequentialLR(opt, [LinearLR(opt), CosineAnnealingLR(opt, 12)], [5]),
            SequentialLR(opt, [ConstantLR(opt, 1.0), MultiStepLR(opt, [3, 9], 0.5)], [20]),
        ],
        opt,
    ),
}

# Times beyond the walk at which the rates are asked for: past every end above, around powers of ten and of two.
FAR = (99, 100, 101, 999, 1000, 1001, 9_999, 10_000, 65_535, 65_536, 999_999, 10**6, 10**6 + 1, 10**9 - 1, 10**9)
# A product of factors takes as long as there are.
NEARER = {name: 10_000 for name in SCHEDULES if "Multiplicative" in name or "lists of functions" in name}

# ReduceLROnPlateau follows a metric. This one falls, stands still, rises, is NaN, gains less than the thresholds, goes
# below 0 and up again, so that "min" and "max" both have something to do.
METRIC = [
    *(1.0, 0.9, 0.8, 0.79999, 0.7999, 0.8, 0.81, 0.7, 0.695, 0.69, 0.685, 0.68, math.nan, 0.5, 0.5, 0.5, 0.5, 0.5),
    *(0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.19, 1.21, 1.215, 1.22, 1.22, 1.22, 0.2, 0.1, 0.0, -0.1, -0.1, -0.101),
    *(-0.2, -0.2, math.nan, math.nan, -0.2, -0.2, -0.3, 2.0, 2.001, 2.002, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, -1.0, -1.0),
    *(-1.0, -1.0, -1.0, 4.0, 4.0, 4.0),
]


def plateau(mode: Any, threshold_mode: Any) -> Build:
    return lambda opt: ReduceLROnPlateau(
        opt,
        mode,
        factor=0.5,
        patience=2,
        threshold=0.01,
        threshold_mode=threshold_mode,
        cooldown=2,
        min_lr=per(opt, 0.02, 0.001, 0.1),
    )


PLATEAUS: dict[str, Build] = {
    "ReduceLROnPlateau": lambda opt: ReduceLROnPlateau(opt),
    "ReduceLROnPlateau, patience 0": lambda opt: ReduceLROnPlateau(opt, factor=0.7, patience=0),
    "ReduceLROnPlateau, one min_lr, eps": lambda opt: ReduceLROnPlateau(
        opt, factor=0.3, patience=1, min_lr=0.001, eps=0.005
    ),
    "ReduceLROnPlateau, min, rel": plateau("min", "rel"),
    "ReduceLROnPlateau, min, abs": plateau("min", "abs"),
    "ReduceLROnPlateau, max, rel": plateau("max", "rel"),
    "ReduceLROnPlateau, max, abs": plateau("max", "abs"),
}

# Schedules whose lengths follow from the run, each by its expression in the names of `lucid_train.schedules`.
RECIPES = (
    "Cosine()",
    "Cosine().warmup('5%')",
    "Cosine().warmup('10%', start=0.01)",
    "Cosine().warmup(3)",
    "Cosine(eta_min=0.001).warmup('33.3%', start=1.0)",
    "Cosine(eta_min=0.001, after='hold').warmup('5%')",
    "Cosine(T_max='25%', after='mirror')",
    "Cosine(T_max='25%').warmup('5%')",
    "Cosine(T_max=4)",
    "Linear(1.0, 0.0)",
    "Linear(1.0, 0.0).warmup('10%')",
    "Polynomial(power=2.0).warmup('10%')",
    "Constant(1.0).until('80%').then(Polynomial())",
    "Constant(1.0).until('80%').then(Linear(1.0, 0.0)).warmup('5%')",
    "Constant(0.5)",
    "Exponential(0.9).until('50%').then(Cosine(eta_min=0.001))",
    "Linear(0.1).until(2).then(Constant(1.0)).until('60%').then(Exponential(0.8))",
    "Exponential(0.9).warmup('12.5%')",
    "Step('25%', gamma=0.5)",
    "MultiStep(['50%', '75%'])",
    "MultiStep(['50%', 6]).warmup('5%')",
    "WarmRestarts(T_0='20%')",
    "Noam(64, warmup_steps='10%')",
    "OneCycle(0.5)",
    "OneCycle(0.5, total_steps='50%')",
    "Cyclic(0.01, 0.2, step_size_up='10%')",
    "Function(power).warmup('5%')",
)
LENGTHS = (7, 20, 33, 61, 1000)


# States of PyTorch's schedulers. `home` is PyTorch's module when the states are made, and ours when they are loaded.


@define(eq=False, slots=False)
class Decay:
    """A callable object, whose attributes PyTorch keeps in the state."""

    gamma: float = field()

    def __call__(self, t: float) -> float:
        return float(self.gamma**t)


TORCH: dict[str, Callable[[Any, Any], Any]] = {
    "StepLR": lambda home, opt: home.StepLR(opt, 3, 0.7),
    "MultiStepLR": lambda home, opt: home.MultiStepLR(opt, [3, 3, 8], 0.5),
    "ExponentialLR": lambda home, opt: home.ExponentialLR(opt, 0.93),
    "PolynomialLR": lambda home, opt: home.PolynomialLR(opt, 20, 2.0),
    "CosineAnnealingLR": lambda home, opt: home.CosineAnnealingLR(opt, 30, 0.001),
    "CosineAnnealingLR, mirror": lambda home, opt: home.CosineAnnealingLR(
        opt, 7, 0.001, **({"after": "mirror"} if home is lr_scheduler else {})
    ),
    "CosineAnnealingWarmRestarts": lambda home, opt: home.CosineAnnealingWarmRestarts(opt, 3, 2, 0.001),
    "ConstantLR": lambda home, opt: home.ConstantLR(opt, 0.5, 7),
    "LinearLR": lambda home, opt: home.LinearLR(opt, 0.1, 0.9, 9),
    "LambdaLR": lambda home, opt: home.LambdaLR(opt, power),
    "LambdaLR, a list, one an object": lambda home, opt: home.LambdaLR(opt, [inverse, Decay(0.9)]),
    "MultiplicativeLR": lambda home, opt: home.MultiplicativeLR(opt, falling),
    "CyclicLR, triangular2": lambda home, opt: home.CyclicLR(opt, 0.1, 1.0, 4, mode="triangular2"),
    "CyclicLR, exp_range": lambda home, opt: home.CyclicLR(opt, 0.1, 1.0, 4, 3, "exp_range", 0.9),
    # PyTorch keeps the sum and the ratio, of which 13 comes back as 12.999999999999998.
    "CyclicLR, 13 up and 10 down": lambda home, opt: home.CyclicLR(opt, 0.1, 1.0, 13, 10),
    "CyclicLR, lists": lambda home, opt: home.CyclicLR(opt, [0.1, 0.2], [1.0, 2.0], 4, base_momentum=[0.5, 0.6]),
    "CyclicLR, no momentum": lambda home, opt: home.CyclicLR(opt, [0.1, 0.2], [1.0, 2.0], 4, cycle_momentum=False),
    "CyclicLR, own scale": lambda home, opt: home.CyclicLR(opt, 0.1, 1.0, 4, scale_fn=Decay(0.9)),
    "OneCycleLR": lambda home, opt: home.OneCycleLR(opt, 1.0, 30, pct_start=0.4, final_div_factor=10.0),
    "OneCycleLR, three phases, list": lambda home, opt: home.OneCycleLR(opt, [1.0, 0.5], 30, three_phase=True),
    "OneCycleLR, linear": lambda home, opt: home.OneCycleLR(
        opt, 1.0, 30, anneal_strategy="linear", cycle_momentum=False
    ),
    "SequentialLR": lambda home, opt: home.SequentialLR(
        opt, [home.LinearLR(opt, 0.1, 1.0, 5), home.CosineAnnealingLR(opt, 30), home.ExponentialLR(opt, 0.9)], [5, 15]
    ),
    "ChainedScheduler": lambda home, opt: home.ChainedScheduler(
        [home.ConstantLR(opt, 0.1, 5), home.ExponentialLR(opt, 0.9)]
    ),
    "ReduceLROnPlateau": lambda home, opt: home.ReduceLROnPlateau(opt, factor=0.5, patience=1, min_lr=[0.02, 0.001]),
    "ReduceLROnPlateau, max": lambda home, opt: home.ReduceLROnPlateau(
        opt, "max", patience=2, threshold_mode="abs", cooldown=2, min_lr=0.001
    ),
}
TORCH_EPOCHS = (0, 1, 7, 15, 26)

# A state of the first, after some epochs, is refused by the second.
REFUSED: dict[str, tuple[str, int, Build]] = {
    "another class": ("StepLR", 7, lambda opt: ExponentialLR(opt, 0.93)),
    "another step_size": ("StepLR", 7, lambda opt: StepLR(opt, 4, 0.7)),
    "another gamma": ("ExponentialLR", 7, lambda opt: ExponentialLR(opt, 0.9)),
    "other milestones": ("MultiStepLR", 7, lambda opt: MultiStepLR(opt, [3, 8], 0.5)),
    "another power": ("PolynomialLR", 7, lambda opt: PolynomialLR(opt, 20, 1.0)),
    "a cosine on its way up, restart": ("CosineAnnealingLR, mirror", 15, lambda opt: CosineAnnealingLR(opt, 7, 0.001)),
    "another T_0": (
        "CosineAnnealingWarmRestarts",
        7,
        lambda opt: CosineAnnealingWarmRestarts(opt, 4, 2, 0.001),
    ),
    "another object as function": (
        "LambdaLR, a list, one an object",
        7,
        lambda opt: LambdaLR(opt, [inverse, Decay(0.5)]),
    ),
    "another object as scale": ("CyclicLR, own scale", 7, lambda opt: CyclicLR(opt, 0.1, 1.0, 4, scale_fn=Decay(0.5))),
    "another step_size_up": ("CyclicLR, exp_range", 7, lambda opt: CyclicLR(opt, 0.1, 1.0, 5, 3, "exp_range", 0.9)),
    "another max_lr": ("OneCycleLR", 7, lambda opt: OneCycleLR(opt, 2.0, 30, pct_start=0.4, final_div_factor=10.0)),
    "another pct_start": ("OneCycleLR", 7, lambda opt: OneCycleLR(opt, 1.0, 30, final_div_factor=10.0)),
    "fewer phases": ("OneCycleLR, three phases, list", 7, lambda opt: OneCycleLR(opt, [1.0, 0.5], 30)),
    "fewer parts": ("SequentialLR", 7, lambda opt: SequentialLR(opt, [LinearLR(opt), ExponentialLR(opt, 0.9)], [5])),
    "another part": (
        "SequentialLR",
        7,
        lambda opt: SequentialLR(
            opt, [LinearLR(opt, 0.1), CosineAnnealingLR(opt, 30), ExponentialLR(opt, 0.8)], [5, 15]
        ),
    ),
    "other milestones of a sequence": (
        "SequentialLR",
        7,
        lambda opt: SequentialLR(
            opt, [LinearLR(opt, 0.1), CosineAnnealingLR(opt, 30), ExponentialLR(opt, 0.9)], [5, 16]
        ),
    ),
    "a chain as a sequence": (
        "ChainedScheduler",
        7,
        lambda opt: SequentialLR(opt, [ConstantLR(opt, 0.1), ExponentialLR(opt, 0.9)], [5]),
    ),
    "another mode": ("ReduceLROnPlateau", 7, lambda opt: ReduceLROnPlateau(opt, "max", factor=0.5, patience=1)),
}
# Of these, the state's settings can be preferred.
PREFERRED = (
    "another step_size",
    "another gamma",
    "a cosine on its way up, restart",
    "another max_lr",
    "another part",
    "another mode",
)
