"""OneCycleLR: the rate goes up once and then far down."""

from __future__ import annotations

import math
from functools import partial
from math import pi, sin

from lucid_train.optims.lr_scheduler.cycling import CyclingLR, blend
from lucid_train.optims.lr_scheduler.groups import gathered, per_group, spread
from lucid_train.optims.param_groups import param_groups
from lucid_train.validation import one_of, real_number, whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    import numpy as np
    from numpy.typing import NDArray

    from lucid_train.optims.lr_scheduler.cycling import Corner, Place


class OneCycleLR(CyclingLR):
    """Lead the rate up to `max_lr` and then far down, and the momentum the other way.

    It starts at `max_lr / div_factor`, is highest in epoch `pct_start * total_steps - 1`, and ends, in epoch
    `total_steps - 1`, at `max_lr / div_factor / final_div_factor`, where it stays (PyTorch refuses to go on). From one
    corner to the next the rate follows half a cosine or a line, within 16 ulp; the corners are exact. Smith and Topin,
    Super-Convergence (2018). Made for steps: pass interval="step" in a Trainer.

    Args:
        optimizer: Anything with `param_groups`, a sequence of dicts with "lr"; their rates are overwritten.
        max_lr: The highest rate, one for all groups or a list with one per group. At least 0.
        total_steps: Length of the curve. At least 1; by default `epochs * steps_per_epoch`.
        epochs: Epochs of the run, where `total_steps` is not given. At least 1.
        steps_per_epoch: Steps of an epoch, likewise.
        pct_start: Share of the curve that goes up, from 0 to 1.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: Whether to cycle the momentum, or the first of the betas where a group has them.
        base_momentum: The momentum at the highest rate, one or one per group. At least 0 and below 1.
        max_momentum: The momentum at either end, likewise. At least `base_momentum`.
        div_factor: What the highest rate is divided by to give the first one. Positive and finite.
        final_div_factor: What the first rate is divided by to give the last one. Positive and finite.
        three_phase: Go down as slowly as up, to the first rate, and then on to the last one.
        last_epoch: The last step already done, or -1; see LRScheduler.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> from lucid_train import nn, optims
    >>> optimizer = optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0)
    >>> scheduler = OneCycleLR(optimizer, max_lr=1.0, total_steps=10, div_factor=4, final_div_factor=10)
    >>> [round(scheduler.lr_at(step)[0], 3) for step in (0, 1, 2, 5, 9)]
    [0.25, 0.625, 1.0, 0.621, 0.025]
    """

    def __init__(
        self,
        optimizer: Any,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.max_lr: Any = max_lr
        self.total_steps = _length(total_steps, epochs, steps_per_epoch)
        self.pct_start = pct_start
        self.anneal_strategy: str = anneal_strategy
        self.cycle_momentum = cycle_momentum
        self.base_momentum = base_momentum
        self.max_momentum = max_momentum
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor
        self.three_phase = three_phase
        count = len(param_groups(optimizer))
        highest = spread(per_group("max_lr", max_lr, count, least=0), count)
        divisor = real_number("div_factor", div_factor, above=0)
        super().__init__(optimizer, last_epoch, base_lrs=[rate / divisor for rate in highest])

    def validate(self) -> None:
        super().validate()
        count = len(self.base_lrs)
        self.max_lr = per_group("max_lr", self.max_lr, count, least=0)
        self.total_steps = whole_number("total_steps", self.total_steps, least=1)
        self.pct_start = real_number("pct_start", self.pct_start, least=0, most=1)
        one_of("anneal_strategy", self.anneal_strategy, ("cos", "linear"))
        self.div_factor = real_number("div_factor", self.div_factor, above=0)
        self.final_div_factor = real_number("final_div_factor", self.final_div_factor, above=0)
        if not isinstance(self.three_phase, bool):
            raise TypeError(f"'three_phase' must be True or False: {self.three_phase!r}")
        highest = spread(self.max_lr, count)
        self.base_lrs[:] = [rate / self.div_factor for rate in highest]
        slow, fast = self._momenta_of_corners()
        first: Corner = (list(self.base_lrs), slow)
        last: Corner = ([rate / self.final_div_factor for rate in self.base_lrs], slow)
        up = self.pct_start * self.total_steps
        # The corners and the epochs, whole or not, in which they lie.
        if self.three_phase:
            corners = [first, (highest, fast), first, last]
            ends = [up - 1, 2 * up - 2, self.total_steps - 1.0]
        else:
            corners = [first, (highest, fast), last]
            ends = [up - 1, self.total_steps - 1.0]
        # A phase without length, at the start of which PyTorch divides by 0, is at its end.
        starts = [start if start < end else end - 1 for start, end in zip([0.0, *ends], ends, strict=False)]
        self._phases = list(zip(starts, ends, corners, corners[1:], strict=False))

    def between(self, t: int) -> Place:
        if t >= self.total_steps:
            t = self.total_steps - 1
        # The first phase that has not ended, though a phase may end before the one that it follows.
        for start, end, first, second in self._phases:  # noqa: B007  # looked at below
            if t <= end:
                break
        length = end - start
        done, left = (t - start) / length, (end - t) / length
        if self.anneal_strategy == "linear":
            return first, second, left, done
        # From the nearer corner, as the cosine of an angle close to pi / 2 loses what the angle was rounded by.
        if done < left:
            far = sin(pi * done / 2) ** 2
            return first, second, 1.0 - far, far
        near = sin(pi * left / 2) ** 2
        return first, second, near, 1.0 - near

    def rates_array(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        import numpy as np

        t = t.clip(max=self.total_steps - 1)
        phases = np.select([t <= end for _, end, *_ in self._phases], range(len(self._phases)))
        rates = np.empty((t.size, len(self.base_lrs)))
        for phase, (start, end, first, second) in enumerate(self._phases):
            if not (chosen := phases == phase).any():
                continue
            done = (t[chosen] - start) / (end - start)
            left = (end - t[chosen]) / (end - start)
            if self.anneal_strategy == "cos":
                early = done < left
                weight = np.sin(pi * np.where(early, done, left) / 2) ** 2
                done, left = np.where(early, weight, 1.0 - weight), np.where(early, 1.0 - weight, weight)
            rates[chosen] = blend(left, done, first[0], second[0])
        return rates

    def _translated(self, state: dict[str, Any]) -> dict[str, Any]:
        if "_schedule_phases" not in state:
            return state
        # PyTorch keeps most of the settings in the optimizer's groups: those are taken to be the constructor's.
        phases = state.pop("_schedule_phases")
        state["anneal_strategy"] = state.pop("_anneal_func_type")
        state["three_phase"] = len(phases) == 3
        share = (phases[0]["end_step"] + 1) / state["total_steps"]
        state["pct_start"] = self.pct_start if abs(share - self.pct_start) < 1e-9 else share
        highest = [rate * self.div_factor for rate in state["base_lrs"]]
        own = spread(self.max_lr, len(self.base_lrs))
        same = len(own) == len(highest) and all(map(partial(math.isclose, rel_tol=1e-9), own, highest))
        state["max_lr"] = self.max_lr if same else gathered(self.max_lr, highest)
        state.pop("use_beta1", None)
        kept = ("base_momentum", "max_momentum", "div_factor", "final_div_factor")
        return {**state, **{name: getattr(self, name) for name in kept}}


def _length(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    if total_steps is not None:
        return whole_number("total_steps", total_steps, least=1)
    if epochs is None or steps_per_epoch is None:
        raise ValueError(
            "'total_steps' must be given, or 'epochs' and 'steps_per_epoch': "
            f"epochs={epochs!r}, steps_per_epoch={steps_per_epoch!r}"
        )
    return whole_number("epochs", epochs, least=1) * whole_number("steps_per_epoch", steps_per_epoch, least=1)
