"""Optimizers, and a rate, that the schedules know nothing about."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lucid_train.nn import Parameter
from lucid_train.optims import SGD


class Bare:
    """An optimizer that is nothing but groups, one per rate, each with the given options."""

    def __init__(self, *rates: Any, **options: Any) -> None:
        self.param_groups: list[dict[str, Any]] = [{"lr": rate, **options} for rate in rates]


class RateWitness(Bare):
    """Remembers the rates that it read in each step, and does nothing else."""

    def __init__(self, *rates: Any, **options: Any) -> None:
        super().__init__(*rates, **{"params": [], **options})
        self.used: list[tuple[float, ...]] = []

    def step(self) -> None:
        self.used.append(tuple(float(group["lr"]) for group in self.param_groups))


@dataclass
class ByValue:
    """Compared by value, hence not hashable."""

    param_groups: list[dict[str, Any]]


class Engine:
    """As Lucid 3's engines: keeps the rate that it was built with until it is given another."""

    def __init__(self, lr: float) -> None:
        self.lr = lr


class LucidLike(Bare):
    """As Lucid 3's optimizers: engines are built at the first step, and then refreshed only on request."""

    def __init__(self, *rates: float) -> None:
        super().__init__(*rates)
        self.engines: list[Engine] = []
        self.used: list[list[float]] = []

    def step(self) -> None:
        if not self.engines:
            self.engines = [Engine(group["lr"]) for group in self.param_groups]
        self.used.append([engine.lr for engine in self.engines])

    def _sync_hyperparams(self) -> None:
        for engine, group in zip(self.engines, self.param_groups, strict=False):
            engine.lr = group["lr"]


class Scalar:
    """A rate as tensors are: filled in place, in single precision."""

    def __init__(self, value: float) -> None:
        self.held = np.float32(value)

    def fill_(self, value: float) -> None:
        self.held = np.float32(value)

    def __float__(self) -> float:
        return float(self.held)


def with_momentum(*rates: Any) -> Bare:
    """Return an optimizer whose groups have a momentum of 0.9, for schedules that drive it."""
    return Bare(*rates, momentum=0.9)


def sgd(*rates: float) -> SGD:
    """Return the library's SGD with a group of one parameter for each rate."""
    return SGD([{"params": [Parameter([1.0])], "lr": rate} for rate in rates], lr=0.1)
