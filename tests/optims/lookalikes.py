"""Optimizers, and a rate, that the schedules have never heard of."""

from dataclasses import dataclass
from typing import Any

import numpy as np


class Bare:
    def __init__(self, *rates: Any) -> None:
        self.param_groups = [{"lr": rate} for rate in rates]


class Scalar:
    """A rate as tensors are: filled in place, of a precision of its own."""

    def __init__(self, value: float) -> None:
        self.held = np.float32(value)

    def fill_(self, value: float) -> None:
        self.held = np.float32(value)

    def __float__(self) -> float:
        return float(self.held)


class Engine:
    """As Lucid 3's engines do: the rate is the one that it was built with, until it is told another."""

    def __init__(self, lr: float) -> None:
        self.lr = lr


class LucidLike:
    """As Lucid 3's optimizers do: engines are built at the first step, and then refreshed only on request."""

    def __init__(self, *rates: float) -> None:
        self.param_groups = [{"lr": rate} for rate in rates]
        self.engines: list[Engine] = []
        self.used: list[list[float]] = []

    def step(self) -> None:
        if not self.engines:
            self.engines = [Engine(group["lr"]) for group in self.param_groups]
        self.used.append([engine.lr for engine in self.engines])

    def _sync_hyperparams(self) -> None:
        for engine, group in zip(self.engines, self.param_groups, strict=False):
            engine.lr = group["lr"]


@dataclass
class ByValue:
    """Compared by value, hence not hashable."""

    param_groups: list[dict[str, Any]]
