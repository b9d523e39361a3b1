"""CyclicLR: the rate goes up and down between two bounds."""

from __future__ import annotations

from lucid_train.optims.lr_scheduler.cycling import CyclingLR
from lucid_train.optims.lr_scheduler.groups import gathered, per_group, spread
from lucid_train.optims.param_groups import param_groups
from lucid_train.validation import one_of, real_number, whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Literal

    import numpy as np
    from numpy.typing import NDArray

    from lucid_train.optims.lr_scheduler.cycling import Place


class CyclicLR(CyclingLR):
    """Lead the rate up and down between two bounds, and the momentum the other way.

    Epoch `t`, counted from 0, runs at `base_lr * (1 - a) + max_lr * a`, within 4 ulp; `a` climbs from 0 to 1 in
    `step_size_up` epochs, falls back in `step_size_down`, and so on, times the mode's scale: 1 for "triangular",
    `0.5 ** (cycle - 1)` for "triangular2", `gamma ** t` for "exp_range", for which it is 6 ulp. Smith, Cyclical
    Learning Rates (2017). The momentum is `max_momentum * (1 - a) + base_momentum * a`. Made for steps: pass
    interval="step" in a Trainer.

    Args:
        optimizer: Anything with `param_groups`, a sequence of dicts with "lr"; their rates are overwritten.
        base_lr: The lower bound, one for all groups or a list with one per group. At least 0.
        max_lr: The upper bound, likewise. At least `base_lr`.
        step_size_up: Epochs from the lower bound to the upper one. At least 1.
        step_size_down: Epochs back, at least 0; by default as many.
        mode: "triangular", "triangular2" or "exp_range"; not looked at with a `scale_fn`.
        gamma: For "exp_range". Above 0, at most 1.
        scale_fn: A scale of your own, a pure function with values from 0 to 1. The state does not hold it.
        scale_mode: What `scale_fn` is given: the number of the "cycle", from 1, or of the "iterations", from 0.
        cycle_momentum: Whether to cycle the momentum, or the first of the betas where a group has them.
        base_momentum: The momentum at the upper bound, one or one per group. At least 0 and below 1.
        max_momentum: The momentum at the lower bound, likewise. At least `base_momentum`.
        last_epoch: The last epoch already done, or -1; see LRScheduler.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> from lucid_train import nn, optims
    >>> optimizer = optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0)
    >>> scheduler = CyclicLR(optimizer, base_lr=0.25, max_lr=0.75, step_size_up=2)
    >>> [scheduler.lr_at(step) for step in range(5)]
    [[0.25], [0.5], [0.75], [0.5], [0.25]]
    """

    def __init__(
        self,
        optimizer: Any,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: Literal["cycle", "iterations"] = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        self.base_lr: Any = base_lr
        self.max_lr: Any = max_lr
        self.step_size_up = step_size_up
        self.step_size_down = step_size_up if step_size_down is None else step_size_down
        self.mode: str = mode
        self.gamma = gamma
        if scale_fn is not None and not callable(scale_fn):
            raise TypeError(f"'scale_fn' must be a function: {scale_fn!r}")
        self._scale_fn = scale_fn
        self.scale_mode: str = scale_mode
        self.cycle_momentum = cycle_momentum
        self.base_momentum = base_momentum
        self.max_momentum = max_momentum
        count = len(param_groups(optimizer))
        super().__init__(optimizer, last_epoch, base_lrs=spread(per_group("base_lr", base_lr, count, least=0), count))

    def validate(self) -> None:
        super().validate()
        count = len(self.base_lrs)
        self.base_lr = per_group("base_lr", self.base_lr, count, least=0)
        self.max_lr = per_group("max_lr", self.max_lr, count, least=0)
        self.step_size_up = whole_number("step_size_up", self.step_size_up, least=1)
        self.step_size_down = whole_number("step_size_down", self.step_size_down, least=0)
        self.gamma = real_number("gamma", self.gamma, above=0, most=1)
        one_of("scale_mode", self.scale_mode, ("cycle", "iterations"))
        if self._scale_fn is None:
            one_of("mode", self.mode, ("triangular", "triangular2", "exp_range"))
        low, high = spread(self.base_lr, count), spread(self.max_lr, count)
        for bottom, top in zip(low, high, strict=True):
            if top < bottom:
                raise ValueError(f"'max_lr' must be >= 'base_lr', {bottom}: {top}")
        self.base_lrs[:] = low
        self._total = self.step_size_up + self.step_size_down
        at_low, at_high = self._momenta_of_corners()
        self._low, self._high = (low, at_low), (high, at_high)

    def between(self, t: int) -> Place:
        cycle, place = divmod(t, self._total)
        up = self.step_size_up
        height = place / up if place <= up else (self._total - place) / self.step_size_down
        if self._scale_fn is not None:
            height *= float(self._scale_fn(cycle + 1 if self.scale_mode == "cycle" else t))
        elif self.mode == "triangular2":
            height *= 0.5**cycle
        elif self.mode == "exp_range":
            height *= self.gamma**t
        return self._low, self._high, 1.0 - height, height

    def rates_array(self, t: NDArray[np.int64]) -> NDArray[np.float64] | None:
        import numpy as np

        if self._scale_fn is not None:
            return None
        up, down = self.step_size_up, self.step_size_down
        cycle = t // (up + down)
        place = t - cycle * (up + down)  # numpy's remainder takes three times as long
        height = place / up
        if down:
            np.minimum(height, (up + down - place) / down, out=height)
        if self.mode == "triangular2":
            height *= 0.5**cycle
        elif self.mode == "exp_range":
            height *= self.gamma**t
        rates = np.empty((t.size, len(self.base_lrs)))
        for column, low, high in zip(rates.T, self._low[0], self._high[0], strict=True):
            np.multiply(height, high - low, out=column)
            column += low
        return rates

    def _translated(self, state: dict[str, Any]) -> dict[str, Any]:
        if "total_size" not in state:
            return state
        # PyTorch keeps sums, ratios and lists, and no function but the attributes of a callable object.
        kept = state.pop("_scale_fn_custom", None)
        if kept and kept != getattr(self._scale_fn, "__dict__", None):
            raise ValueError(f"'scale_fn' must be the object of the state, functions stay outside: {self._scale_fn!r}")
        total = state.pop("total_size")
        up = round(total * state.pop("step_ratio"))
        state |= {"step_size_up": up, "step_size_down": round(total) - up}
        state["base_lr"] = gathered(self.base_lr, state["base_lrs"])
        state["max_lr"] = gathered(self.max_lr, state.pop("max_lrs"))
        for name in ("base_momentum", "max_momentum"):
            own = getattr(self, name)
            state[name] = gathered(own, state.pop(name + "s")) if name + "s" in state else own
        if self._scale_fn is None:
            state["scale_mode"] = self.scale_mode  # which follows from the mode
        state.pop("use_beta1", None)
        return state
