"""What a step of each scheduler costs, against the closed form written by hand and against PyTorch's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import cos, pi
from typing import Any

from measure import Row, best_of

from lucid_train.optims import lr_scheduler as ours

Factor = Callable[[int], float]
GAMMA = 0.999999


class Bare:
    """An optimizer that only has groups; the momentum is the first of the betas, or stands by itself."""

    def __init__(self, groups: int, betas: bool = False) -> None:
        momentum: dict[str, Any] = {"betas": (0.9, 0.999)} if betas else {"momentum": 0.9}
        self.param_groups: list[dict[str, Any]] = [{"lr": 0.1, **momentum} for _ in range(groups)]


class ByHand:
    """The schedule that one writes without a library: a function of the step, and a loop over the groups."""

    def __init__(self, groups: int, factor: Factor) -> None:
        self.optimizer = Bare(groups)
        self.base_lrs = [0.1] * groups
        self.factor = factor
        self.t = 0

    def step(self) -> None:
        self.t += 1
        factor = self.factor(self.t)
        for group, base_lr in zip(self.optimizer.param_groups, self.base_lrs):  # noqa: B905  # as it is written in a hurry
            group["lr"] = base_lr * factor


class ByHandWithMomentum(ByHand):
    """The same for rates between two bounds, with the momentum the other way."""

    def step(self) -> None:
        self.t += 1
        height = self.factor(self.t)
        for group, base_lr in zip(self.optimizer.param_groups, self.base_lrs):  # noqa: B905  # as it is written in a hurry
            group["lr"] = base_lr + (1.0 - base_lr) * height
            group["momentum"] = 0.9 - 0.1 * height


class ByHandWithBetas(ByHand):
    """The same for an optimizer with betas."""

    def step(self) -> None:
        self.t += 1
        height = self.factor(self.t)
        for group, base_lr in zip(self.optimizer.param_groups, self.base_lrs):  # noqa: B905  # as it is written in a hurry
            group["lr"] = base_lr + (1.0 - base_lr) * height
            group["betas"] = (0.9 - 0.1 * height, group["betas"][1])


class ByHandProduct(ByHand):
    """The same where there is no closed form: the product goes along."""

    product = 1.0

    def step(self) -> None:
        self.t += 1
        self.product *= self.factor(self.t)
        for group, base_lr in zip(self.optimizer.param_groups, self.base_lrs):  # noqa: B905  # as it is written in a hurry
            group["lr"] = base_lr * self.product


def triangle(t: int) -> float:
    """Return the height of CyclicLR in step `t`."""
    place = t % 4000
    return place / 2000 if place <= 2000 else (4000 - place) / 2000


def restarted(t: int) -> float:
    """Return the factor of CosineAnnealingWarmRestarts in step `t`."""
    start, length = 0, 1000
    while t >= start + length:
        start, length = start + length, 2 * length
    return 0.5 + 0.5 * cos(pi * (t - start) / length)


def one_cycle(t: int) -> float:
    """Return the height of OneCycleLR in step `t`."""
    if t <= 300_000:
        return 0.5 - 0.5 * cos(pi * t / 300_000)
    return 0.5 + 0.5 * cos(pi * min(t - 300_000, 700_000) / 700_000)


def decayed(t: int) -> float:
    """Return the factor of a user's own."""
    return GAMMA**t


def constant(t: int) -> float:
    """Return a factor that never changes."""
    return GAMMA


MILESTONES = [1000, 5000, 20_000]

# Name, how to build it, what one would write by hand, and the loop around that.
SCHEDULES: list[tuple[str, Callable[[Any, Any], Any], Factor, type[ByHand]]] = [
    ("StepLR", lambda home, opt: home.StepLR(opt, 1000, GAMMA), lambda t: GAMMA ** (t // 1000), ByHand),
    ("ExponentialLR", lambda home, opt: home.ExponentialLR(opt, GAMMA), lambda t: GAMMA**t, ByHand),
    (
        "MultiStepLR",
        lambda home, opt: home.MultiStepLR(opt, MILESTONES, 0.5),
        lambda t: 0.5 ** sum(t >= milestone for milestone in MILESTONES),
        ByHand,
    ),
    (
        "ConstantLR",
        lambda home, opt: home.ConstantLR(opt, 0.5, 1000),
        lambda t: 0.5 if t < 1000 else 1.0,
        ByHand,
    ),
    (
        "LinearLR",
        lambda home, opt: home.LinearLR(opt, 0.5, 1.0, 1_000_000),
        lambda t: 0.5 + 0.5 * min(t, 1_000_000) / 1_000_000,
        ByHand,
    ),
    (
        "PolynomialLR",
        lambda home, opt: home.PolynomialLR(opt, 1_000_000, 2.0),
        lambda t: (1 - min(t, 1_000_000) / 1_000_000) ** 2.0,
        ByHand,
    ),
    (
        "CosineAnnealingLR",
        lambda home, opt: home.CosineAnnealingLR(opt, 1_000_000),
        lambda t: 0.5 + 0.5 * cos(pi * min(t, 1_000_000) / 1_000_000),
        ByHand,
    ),
    (
        "CosineAnnealingWarmRestarts",
        lambda home, opt: home.CosineAnnealingWarmRestarts(opt, 1000, 2),
        restarted,
        ByHand,
    ),
    ("LambdaLR", lambda home, opt: home.LambdaLR(opt, decayed), decayed, ByHand),
    ("MultiplicativeLR", lambda home, opt: home.MultiplicativeLR(opt, constant), constant, ByHandProduct),
    ("CyclicLR", lambda home, opt: home.CyclicLR(opt, 0.1, 1.0), triangle, ByHandWithMomentum),
    ("OneCycleLR", lambda home, opt: home.OneCycleLR(opt, 1.0, 1_000_000), one_cycle, ByHandWithMomentum),
    (
        "NoamLR",
        lambda home, opt: ours.NoamLR(opt, 512, 4000),
        lambda t: 512**-0.5 * min((t + 1) ** -0.5, (t + 1) * 4000**-1.5),
        ByHand,
    ),
    (
        "SequentialLR",
        lambda home, opt: home.SequentialLR(opt, [home.LinearLR(opt), home.ExponentialLR(opt, GAMMA)], [5]),
        lambda t: 1 / 3 + 2 / 3 * t / 5 if t < 5 else GAMMA ** (t - 5),
        ByHand,
    ),
    (
        "ChainedScheduler",
        lambda home, opt: home.ChainedScheduler([home.ConstantLR(opt), home.ExponentialLR(opt, GAMMA)]),
        lambda t: (1 / 3 if t < 5 else 1.0) * GAMMA**t,
        ByHand,
    ),
]

# By the number of groups, and whether the momentum is driven too.
_BUDGETS = {(1, False): 1.5, (10, False): 2.0, (1, True): 2.7, (10, True): 2.5}


def rows() -> list[Row]:
    """Measure everything."""
    return [*_steps(), *_betas(), _many_parts()]


def main() -> None:
    """Print the rows."""
    for row in rows():
        verdict = {True: "kept", False: "EXCEEDED", None: ""}[row.kept]
        print(
            f"{row.what:45} {row.ours * 1e9:10.0f} ns {row.ratio:6.2f} of {row.against}, at most {row.budget} {verdict}"
        )


def _steps() -> list[Row]:
    found = []
    for name, build, factor, loop in SCHEDULES:
        for groups in (1, 10):
            what = f"{name}.step, {groups} group" + "s" * (groups > 1)
            # Each is built and measured on an optimizer of its own: the first steps are the ones with checks.
            timed: list[Any] = [build(ours, Bare(groups)), loop(groups, factor)]
            if name != "NoamLR" and (theirs := _pytorch(build, groups)) is not None:
                timed.append(theirs)
            steps = [scheduler.step for scheduler in timed]
            mine, by_hand, *pytorch = best_of(*steps, repeats=400, number=40)
            budget = _BUDGETS[groups, loop is ByHandWithMomentum]
            found.append(Row(what, mine, by_hand, "the closed form by hand", budget=budget))
            found += [Row(what, mine, seconds, "PyTorch", budget=0.25) for seconds in pytorch]
    return found


def _pytorch(build: Callable[[Any, Any], Any], groups: int) -> Any:
    try:
        import torch
        from torch.optim import lr_scheduler as theirs
    except ImportError:
        return None
    warnings.simplefilter("ignore")  # its warning that the optimizer was not stepped first
    parameters = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(groups)]
    return build(theirs, torch.optim.SGD(parameters, lr=0.1, momentum=0.9))


def _betas() -> list[Row]:
    found = []
    for groups in (1, 10):
        by_hand = ByHandWithBetas(groups, one_cycle)
        by_hand.optimizer = Bare(groups, betas=True)
        scheduler = ours.OneCycleLR(Bare(groups, betas=True), 1.0, 1_000_000)
        mine, theirs = best_of(scheduler.step, by_hand.step, repeats=400, number=40)
        what = f"OneCycleLR.step, betas, {groups} group" + "s" * (groups > 1)
        found.append(Row(what, mine, theirs, "the closed form by hand"))
    return found


def _many_parts() -> Row:
    def sequence(parts: int) -> Any:
        optimizer = Bare(1)
        schedulers = [ours.ExponentialLR(optimizer, GAMMA) for _ in range(parts)]
        return ours.SequentialLR(optimizer, schedulers, [1000 * index for index in range(1, parts)])

    many, two = best_of(sequence(100).step, sequence(2).step, repeats=400, number=40)
    return Row("SequentialLR.step, 100 parts", many, two, "2 parts", budget=1.5)


if __name__ == "__main__":
    main()
