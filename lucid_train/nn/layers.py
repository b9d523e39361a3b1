"""Layers, and `Sequential`, which applies them one after another."""

from collections.abc import Iterator
from math import sqrt
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from lucid_train.nn.module import Array, Module, Parameter, floats
from lucid_train.validation import flag, whole_number

Seed: TypeAlias = np.random.Generator | int | None


@final
class Linear(Module):
    """`y = x @ weight.T + bias`, for `x` of shape (n, in_features); weight has shape (out_features, in_features).

    Weight and bias are initialized uniformly in +-1/sqrt(in_features), as in PyTorch. Inputs are converted to the dtype
    of the weight.

    Args:
        in_features: Width of the input. At least 1.
        out_features: Width of the output. At least 1.
        bias: Whether to add a bias, of shape (out_features,).
        dtype: Float type of the parameters.
        rng: A seed for the initial values, or a Generator, which several layers can share. By default they differ in
            every run. Two layers with the same seed have the same initial values.

    >>> layer = Linear(3, 2, rng=0)
    >>> layer([[0, 0, 1]]).shape
    (1, 2)
    >>> layer
    Linear(3, 2, bias=True)
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, dtype: DTypeLike = np.float64, rng: Seed = None
    ) -> None:
        self.in_features: int = whole_number("in_features", in_features, least=1)
        self.out_features: int = whole_number("out_features", out_features, least=1)
        bias = flag("bias", bias)
        if np.dtype(dtype).kind != "f":
            raise TypeError(f"'dtype' must be a float type: {np.dtype(dtype)}")
        if not isinstance(rng, np.random.Generator):
            rng = np.random.default_rng(None if rng is None else whole_number("rng", rng, least=0))
        bound = 1 / sqrt(self.in_features)
        weight = rng.uniform(-bound, bound, (self.out_features, self.in_features))
        self.weight: Parameter = Parameter(weight.astype(dtype))
        self.bias: Parameter | None = None
        if bias:
            self.bias = Parameter(rng.uniform(-bound, bound, self.out_features).astype(dtype))

    def forward(self, x: ArrayLike) -> Array:
        """Return the output, of shape (n, out_features), for an input of shape (n, in_features)."""
        self._kept = x = floats("x", x, ("n", self.in_features), self.weight.data.dtype)
        y: Array = x @ self.weight.data.T
        return y if self.bias is None else y + self.bias.data

    def backward(self, grad_output: ArrayLike) -> Array:
        """Add to the gradients of weight and bias; return the input's gradient, of shape (n, in_features)."""
        x = self._use_kept()
        grad = floats("grad_output", grad_output, (len(x), self.out_features), x.dtype)
        _add_grad(self.weight, grad.T @ x)
        if self.bias is not None:
            _add_grad(self.bias, grad.sum(axis=0))
        return np.asarray(grad @ self.weight.data)

    def __repr__(self) -> str:
        return f"Linear({self.in_features}, {self.out_features}, bias={self.bias is not None})"


@final
class ReLU(Module):
    """`max(x, 0)`, of any shape; the gradient at 0 is 0.

    >>> ReLU()([-1.0, 2.0])
    array([0., 2.])
    """

    def forward(self, x: ArrayLike) -> Array:
        """Return `max(x, 0)`."""
        x = floats("x", x)
        self._kept = x <= 0
        return np.asarray(np.maximum(x, 0))

    def backward(self, grad_output: ArrayLike) -> Array:
        """Return the input's gradient: `grad_output` where the input was above 0, else 0."""
        clipped = self._use_kept()
        return np.where(clipped, 0, floats("grad_output", grad_output, clipped.shape))


@final
class Tanh(Module):
    """`tanh(x)`, of any shape.

    >>> Tanh()([0.0, 100.0])
    array([0., 1.])
    """

    def forward(self, x: ArrayLike) -> Array:
        """Return `tanh(x)`."""
        # The output is a copy: the caller may write into it.
        self._kept = np.tanh(floats("x", x))
        return np.array(self._kept)

    def backward(self, grad_output: ArrayLike) -> Array:
        """Return the input's gradient, `grad_output * (1 - tanh(x)**2)`."""
        y = self._use_kept()
        return np.asarray(floats("grad_output", grad_output, y.shape) * (1 - y * y))


@final
class Sequential(Module):
    """Modules applied one after another; parameters are named by position, such as "0.weight".

    Args:
        *modules: At least one. None may appear twice, since each keeps one forward pass.

    >>> model = Sequential(Linear(64, 32), ReLU(), Linear(32, 10))
    >>> list(model.state_dict())
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    def __init__(self, *modules: Module) -> None:
        if not modules:
            raise ValueError("'modules' must hold at least one Module: ()")
        for module in modules:
            if not isinstance(module, Module):
                raise TypeError(f"'modules' must hold Modules: {module!r}")
        self.modules = modules
        inside = list(_descendants(self))
        for module in inside:
            if sum(module is other for other in inside) > 1:
                raise ValueError(f"'modules' must hold each module once; create another: {module!r}")

    def forward(self, x: ArrayLike) -> Array:
        """Return the last module's output."""
        y: Any = x
        for module in self.modules:
            y = module(y)
        return np.asarray(y)

    def backward(self, grad_output: ArrayLike) -> Array:
        """Propagate the gradient back through all modules; return the gradient of the first one's input."""
        grad: Any = grad_output
        for module in reversed(self.modules):
            grad = module.backward(grad)
        return np.asarray(grad)

    def _members(self) -> Iterator[tuple[str, Parameter | Module]]:
        yield from ((str(position), module) for position, module in enumerate(self.modules))

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.modules))})"


def _add_grad(parameter: Parameter, grad: Array) -> None:
    # A new array, never `+=`: the present one may belong to the caller.
    parameter.grad = grad if parameter.grad is None else parameter.grad + grad


def _descendants(module: Module) -> Iterator[Module]:
    yield module
    for _, member in module._members():
        if isinstance(member, Module):
            yield from _descendants(member)
