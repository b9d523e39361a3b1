"""Stochastic gradient descent."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from lucid_train.nn.module import Parameter
from lucid_train.optims.optimizer import Group, Optimizer, Params, Rate, rate
from lucid_train.validation import flag, real_number


@final
class SGD(Optimizer):
    """Step against the gradient, optionally with momentum.

    With gradient `g` (plus `weight_decay * data`), `buffer = momentum * buffer + (1 - dampening) * g`, where the first
    buffer is `g` itself, and `data -= lr * buffer`; Nesterov's form is `data -= lr * (g + momentum * buffer)`. As in
    PyTorch, the rate is not part of the buffer, so a schedule scales the whole of the next update.

    Args:
        params: Parameters, or groups as dicts with "params" and any of the options.
        lr: Learning rate, at least 0; a float, or a 0-d array that is read at every step.
        momentum: Share of the buffer that is kept at each step. At least 0.
        dampening: Share of the gradient that is not added to the buffer.
        weight_decay: Share of the parameters that is added to the gradient. At least 0.
        nesterov: Whether to use Nesterov's form, which needs momentum and no dampening.

    >>> weight = Parameter([1.0])
    >>> optimizer = SGD([weight], lr=0.1, momentum=0.5)
    >>> for _ in range(2):
    ...     weight.grad = [2.0]
    ...     optimizer.step()
    >>> weight.data
    array([0.5])
    """

    state_names: ClassVar[tuple[str, ...]] = ("momentum_buffer",)

    def __init__(
        self,
        params: Params,
        lr: Rate,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        *,
        nesterov: bool = False,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**options, "nesterov": nesterov})

    def check(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Validate the options of one group and return them in their final form."""
        checked = {
            "lr": rate(options["lr"]),
            "momentum": real_number("momentum", options["momentum"], least=0),
            "dampening": real_number("dampening", options["dampening"]),
            "weight_decay": real_number("weight_decay", options["weight_decay"], least=0),
            "nesterov": flag("nesterov", options["nesterov"]),
        }
        momentum, dampening = checked["momentum"], checked["dampening"]
        if checked["nesterov"] and not (momentum and not dampening):
            held = f"momentum={momentum}, dampening={dampening}"
            raise ValueError(f"'nesterov' must come with momentum > 0 and dampening 0: {held}")
        return checked

    def update(self, parameter: Parameter, gradient: NDArray[Any], group: Group) -> None:
        """Change `parameter.data` in place by the formula of the class."""
        momentum, weight_decay = group["momentum"], group["weight_decay"]
        if weight_decay:
            gradient = gradient + weight_decay * parameter.data
        if momentum:
            state = self.state.setdefault(parameter, {})
            if state:
                state["momentum_buffer"] *= momentum
                state["momentum_buffer"] += (1 - group["dampening"]) * gradient
            else:
                # A copy: the gradient belongs to the user, who may write into it.
                state["momentum_buffer"] = np.array(gradient, dtype=parameter.data.dtype)
            buffer = state["momentum_buffer"]
            gradient = gradient + momentum * buffer if group["nesterov"] else buffer
        parameter.data -= float(group["lr"]) * gradient
