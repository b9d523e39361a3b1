"""Schedules that begin below the base rate: in one jump, along a line, and Noam's."""

from __future__ import annotations

from lucid_train.optims.lr_scheduler.base import LRScheduler
from lucid_train.validation import real_number, whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray


class ConstantLR(LRScheduler):
    """Hold the rate at a fraction of the base rate until `total_iters`.

    Epoch `t`, counted from 0, runs at `base_lr * factor`, within 1 ulp, and from `total_iters` on at exactly `base_lr`.

    Args:
        optimizer: Anything with `param_groups`, a sequence of dicts with "lr".
        factor: The fraction, from 0 to 1.
        total_iters: The first epoch at the base rate. At least 1.
        last_epoch: The last epoch already done, or -1; see LRScheduler.
        base_lrs: The rates to start from, one per group, where the optimizer's own are not meant; see LRScheduler.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> from lucid_train import nn, optims
    >>> scheduler = ConstantLR(optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0), factor=0.5, total_iters=2)
    >>> [scheduler.lr_at(epoch) for epoch in range(4)]
    [[0.5], [0.5], [1.0], [1.0]]
    """

    def __init__(
        self,
        optimizer: Any,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
        *,
        base_lrs: Sequence[float] | None = None,
    ) -> None:
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch, base_lrs=base_lrs)

    def validate(self) -> None:
        self.factor = real_number("factor", self.factor, least=0, most=1)
        self.total_iters = whole_number("total_iters", self.total_iters, least=1)

    def linear(self, t: int) -> tuple[float, float]:
        return (self.factor if t < self.total_iters else 1.0), 0.0

    def linear_array(self, t: NDArray[np.int64]) -> tuple[Any, Any]:
        import numpy as np

        return np.where(t < self.total_iters, self.factor, 1.0), 0.0


class LinearLR(LRScheduler):
    """Lead the rate along a line from one fraction of the base rate to another: the usual warm-up.

    Epoch `t`, counted from 0, runs at `base_lr * (start_factor * (n - t) + end_factor * t) / n` with `n = total_iters`,
    within 4 ulp; from `total_iters` on exactly at `base_lr * end_factor`.

    Args:
        optimizer: Anything with `param_groups`, a sequence of dicts with "lr".
        start_factor: The fraction at 0. Above 0, at most 1.
        end_factor: The fraction from `total_iters` on, from 0 to 1.
        total_iters: Epochs from one to the other. At least 1.
        last_epoch: The last epoch already done, or -1; see LRScheduler.
        base_lrs: The rates to start from, one per group, where the optimizer's own are not meant; see LRScheduler.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> from lucid_train import nn, optims
    >>> scheduler = LinearLR(optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0), start_factor=0.5, total_iters=2)
    >>> [scheduler.lr_at(epoch) for epoch in range(4)]
    [[0.5], [0.75], [1.0], [1.0]]
    """

    def __init__(
        self,
        optimizer: Any,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
        *,
        base_lrs: Sequence[float] | None = None,
    ) -> None:
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch, base_lrs=base_lrs)

    def validate(self) -> None:
        self.start_factor = real_number("start_factor", self.start_factor, above=0, most=1)
        self.end_factor = real_number("end_factor", self.end_factor, least=0, most=1)
        self.total_iters = whole_number("total_iters", self.total_iters, least=1)

    def linear(self, t: int) -> tuple[float, float]:
        n = self.total_iters
        if t >= n:
            return self.end_factor, 0.0
        # Not start + (end - start) * t / n, which cancels where the end is much lower.
        return self.start_factor * ((n - t) / n) + self.end_factor * (t / n), 0.0

    def linear_array(self, t: NDArray[np.int64]) -> tuple[Any, Any]:
        import numpy as np

        n = self.total_iters
        risen = np.minimum(t, float(n))
        slope = n - risen
        for share, factor in ((risen, self.end_factor), (slope, self.start_factor)):
            share /= n
            share *= factor
        slope += risen
        return slope, 0.0


class NoamLR(LRScheduler):
    """Raise the rate along a line, then let it fall with the inverse square root of the step.

    Step `t`, counted from 0, runs at `base_lr * factor * d_model**-0.5 * min(n**-0.5, n * warmup_steps**-1.5)` with
    `n = t + 1`, within 6 ulp: Vaswani et al., Attention Is All You Need (2017), section 5.3. With a base rate of 1 the
    rates are the paper's. Made for steps: pass interval="step" in a Trainer.

    Args:
        optimizer: Anything with `param_groups`, a sequence of dicts with "lr"; lr=1.0 for the paper's rates.
        d_model: Width of the model. At least 1.
        warmup_steps: The step of the highest rate, `base_lr * factor * (d_model * warmup_steps) ** -0.5`. At least 1.
        factor: Scale of the whole curve. Positive and finite.
        last_epoch: The last step already done, or -1; see LRScheduler.
        base_lrs: The rates to start from, one per group, where the optimizer's own are not meant; see LRScheduler.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> from lucid_train import nn, optims
    >>> scheduler = NoamLR(optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0), d_model=16, warmup_steps=4)
    >>> [round(scheduler.lr_at(step)[0], 6) for step in (0, 1, 3, 15)]
    [0.03125, 0.0625, 0.125, 0.0625]
    """

    def __init__(
        self,
        optimizer: Any,
        d_model: int,
        warmup_steps: int = 4000,
        factor: float = 1.0,
        last_epoch: int = -1,
        *,
        base_lrs: Sequence[float] | None = None,
    ) -> None:
        self.d_model = d_model
        self.warmup_steps = warmup_steps
        self.factor = factor
        super().__init__(optimizer, last_epoch, base_lrs=base_lrs)

    def validate(self) -> None:
        self.d_model = whole_number("d_model", self.d_model, least=1)
        self.warmup_steps = whole_number("warmup_steps", self.warmup_steps, least=1)
        self.factor = real_number("factor", self.factor, above=0)

    def linear(self, t: int) -> tuple[float, float]:
        n, warmup = t + 1, self.warmup_steps
        scale = self.factor * self.d_model**-0.5
        return scale * (n * warmup**-1.5 if n < warmup else n**-0.5), 0.0

    def linear_array(self, t: NDArray[np.int64]) -> tuple[Any, Any]:
        import numpy as np

        n, warmup = t + 1.0, self.warmup_steps
        scale = self.factor * self.d_model**-0.5
        return scale * np.where(n < warmup, n * warmup**-1.5, n**-0.5), 0.0
