"""Adam and AdamW: steps scaled by running averages of the gradient and of its square."""

from collections.abc import Mapping
from math import sqrt
from typing import Any, ClassVar, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from lucid_train.nn.module import Parameter
from lucid_train.optims.optimizer import Group, Optimizer, Params, Rate, rate
from lucid_train.validation import real_number

Pair: TypeAlias = tuple[float, float]


class _Adaptive(Optimizer):
    """The options and the state that Adam and AdamW share, and Adam's step."""

    state_names: ClassVar[tuple[str, ...]] = ("step", "exp_avg", "exp_avg_sq")

    def check(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Validate the options of one group and return them in their final form."""
        betas = options["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"'betas' must be two numbers: {betas!r}")
        beta1, beta2 = (real_number("betas", beta, least=0) for beta in betas)
        if beta1 >= 1 or beta2 >= 1:
            raise ValueError(f"'betas' must be < 1: {betas!r}")
        return {
            "lr": rate(options["lr"]),
            "betas": (beta1, beta2),
            "eps": real_number("eps", options["eps"], above=0),
            "weight_decay": real_number("weight_decay", options["weight_decay"], least=0),
        }

    def _descend(self, parameter: Parameter, gradient: NDArray[Any], group: Group) -> None:
        state = self.state.setdefault(parameter, {})
        if not state:
            state.update(step=0, exp_avg=np.zeros_like(parameter.data), exp_avg_sq=np.zeros_like(parameter.data))
        beta1, beta2 = group["betas"]
        state["step"] += 1
        state["exp_avg"] += (1 - beta1) * (gradient - state["exp_avg"])
        state["exp_avg_sq"] *= beta2
        state["exp_avg_sq"] += (1 - beta2) * gradient * gradient
        step_size = float(group["lr"]) / (1 - beta1 ** state["step"])
        # Root first, then the correction: PyTorch's order, and it keeps small averages from underflowing.
        root = np.sqrt(state["exp_avg_sq"]) / sqrt(1 - beta2 ** state["step"])
        parameter.data -= step_size * state["exp_avg"] / (root + group["eps"])


@final
class Adam(_Adaptive):
    """Scale each step by the gradient's running mean and mean square (Kingma and Ba, 2015, algorithm 1).

    With gradient `g` (plus `weight_decay * data`): `m += (1 - beta1) * (g - m)`, `v = beta2 * v + (1 - beta2) * g**2`,
    and in step `t`, counted from 1, `data -= lr / (1 - beta1**t) * m / (sqrt(v / (1 - beta2**t)) + eps)`.

    Args:
        params: Parameters, or groups as dicts with "params" and any of the options.
        lr: Learning rate, at least 0; a float, or a 0-d array that is read at every step.
        betas: Shares that the two running averages keep at each step. At least 0, below 1.
        eps: Added to the denominator. Above 0: without it, a gradient that is always 0 would make the parameter NaN.
        weight_decay: Share of the parameters that is added to the gradient. At least 0.

    >>> weight = Parameter([1.0, 1.0])
    >>> optimizer = Adam([weight], lr=0.25)
    >>> weight.grad = [100.0, -0.001]
    >>> optimizer.step()
    >>> weight.data.round(3)
    array([0.75, 1.25])
    """

    def __init__(
        self, params: Params, lr: Rate = 1e-3, betas: Pair = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def update(self, parameter: Parameter, gradient: NDArray[Any], group: Group) -> None:
        """Change `parameter.data` in place by the formula of the class."""
        if group["weight_decay"]:
            gradient = gradient + group["weight_decay"] * parameter.data
        self._descend(parameter, gradient, group)


@final
class AdamW(_Adaptive):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, algorithm 2, as in PyTorch).

    `data *= 1 - lr * weight_decay`, followed by Adam's step without weight decay.

    Args:
        params: Parameters, or groups as dicts with "params" and any of the options.
        lr: Learning rate, at least 0; a float, or a 0-d array that is read at every step.
        betas: Shares that the two running averages keep at each step. At least 0, below 1.
        eps: Added to the denominator. Above 0.
        weight_decay: Share of the parameters that a step removes, times the rate. At least 0.

    >>> weight = Parameter([1.0])
    >>> optimizer = AdamW([weight], lr=0.5, weight_decay=0.5)
    >>> weight.grad = [0.0]
    >>> optimizer.step()
    >>> weight.data
    array([0.75])
    """

    def __init__(
        self, params: Params, lr: Rate = 1e-3, betas: Pair = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 1e-2
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def update(self, parameter: Parameter, gradient: NDArray[Any], group: Group) -> None:
        """Change `parameter.data` in place by the formula of the class."""
        parameter.data *= 1 - float(group["lr"]) * group["weight_decay"]
        self._descend(parameter, gradient, group)
