"""Stochastic gradient descent."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from lucid_train.nn.module import Parameter
from lucid_train.optims.optimizer import Group, Optimizer, Params, rate
from lucid_train.validation import real_number


@final
class SGD(Optimizer):
    """Go down the gradient, with momentum if wanted.

    With gradient `g` (plus `weight_decay * data`), `buffer = momentum * buffer + (1 - dampening) * g`, the first one
    being `g` itself, and `data -= lr * buffer`; Nesterov's form is `data -= lr * (g + momentum * buffer)`. The formulas
    are PyTorch's: the rate is outside the buffer, so a schedule acts on the whole of the next update.

    Args:
        params: Parameters, or groups as dicts with "params" and any of the options.
        lr: Learning rate, at least 0; a float, or a 0-d array that is read at every step.
        momentum: Share of the buffer that the next one keeps. At least 0.
        dampening: Share of the gradient that does not reach the buffer.
        weight_decay: Factor of the parameters that is added to the gradient. At least 0.
        nesterov: Nesterov's form. Needs a momentum and no dampening.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

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
        lr: float | NDArray[Any],
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        *,
        nesterov: bool = False,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**options, "nesterov": nesterov})

    def check(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of one group in their final form, or refuse them."""
        momentum = real_number("momentum", options["momentum"], least=0)
        dampening = real_number("dampening", options["dampening"])
        nesterov = options["nesterov"]
        if not isinstance(nesterov, (bool, np.bool_)):
            raise TypeError(f"'nesterov' must be True or False: {nesterov!r}")
        if nesterov and not (momentum > 0 and dampening == 0):
            held = f"momentum={momentum}, dampening={dampening}"
            raise ValueError(f"'nesterov' must come with momentum > 0 and dampening 0: {held}")
        return {
            "lr": rate(options["lr"]),
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": real_number("weight_decay", options["weight_decay"], least=0),
            "nesterov": bool(nesterov),
        }

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
                # An array of its own: the gradient belongs to the user, who may go on to write into it.
                state["momentum_buffer"] = np.array(gradient, dtype=parameter.data.dtype)
            buffer = state["momentum_buffer"]
            gradient = gradient + momentum * buffer if group["nesterov"] else buffer
        parameter.data -= float(group["lr"]) * gradient
