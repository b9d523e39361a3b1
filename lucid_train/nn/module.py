"""Parameters, and the base of the modules that own them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lucid_train.nn.arrays import floats


@final
class Parameter:
    """An array that is trained, and its gradient.

    Args:
        data: Numbers of any shape, copied. Floats keep their precision, integers become float64.

    Raises:
        TypeError: If `data` are no real numbers.

    >>> Parameter([[1, 2], [3, 4]])
    Parameter(shape=(2, 2), dtype=float64)
    """

    __slots__ = ("__weakref__", "_grad", "data")

    def __init__(self, data: ArrayLike) -> None:
        self.data: NDArray[Any] = floats("data", data).copy()
        self._grad: NDArray[Any] | None = None

    @property
    def grad(self) -> NDArray[Any] | None:
        """The gradient, of the shape and precision of the data, or None."""
        return self._grad

    @grad.setter
    def grad(self, value: ArrayLike | None) -> None:
        if value is None:
            self._grad = None
            return
        gradient = np.asarray(value, dtype=self.data.dtype)
        if gradient.shape != self.data.shape:
            raise ValueError(f"'grad' must have the shape of the data, {self.data.shape}: {gradient.shape}")
        self._grad = gradient

    def __repr__(self) -> str:
        return f"Parameter(shape={self.data.shape}, dtype={self.data.dtype})"


class Differentiable:
    """Keeps from a forward pass what the backward pass needs, once; copies and pickles go without."""

    _kept: Any = None

    def _use_kept(self) -> Any:
        kept, self._kept = self._kept, None
        if kept is None:
            raise RuntimeError(f"{type(self).__name__}.backward needs a forward pass first, one for each backward")
        return kept

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_kept"}


class Module(Differentiable, ABC):
    """A function of an array, with parameters and a gradient.

    A module of your own writes `forward` and `backward`; parameters and modules among its attributes are found in the
    order in which they were set.
    """

    @abstractmethod
    def forward(self, x: ArrayLike) -> NDArray[Any]:
        """Return the output; keep what `backward` needs."""

    @abstractmethod
    def backward(self, grad_output: ArrayLike) -> NDArray[Any]:
        """Add to the gradients of the parameters, and return the gradient with respect to the last input.

        Args:
            grad_output: The loss's gradient with respect to the output, of the output's shape.

        Raises:
            RuntimeError: If no forward pass went before; each serves one backward.
            ValueError: If the shape is wrong.
        """

    def __call__(self, x: ArrayLike) -> NDArray[Any]:
        """Return `forward(x)`."""
        return self.forward(x)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield each parameter with its name as PyTorch forms it, such as "0.weight"."""
        for name, member in self._members():
            if isinstance(member, Parameter):
                yield name, member
            else:
                yield from ((f"{name}.{inner}", parameter) for inner, parameter in member.named_parameters())

    def parameters(self) -> Iterator[Parameter]:
        """Yield each parameter once, in order."""
        yield from dict.fromkeys(parameter for _, parameter in self.named_parameters())

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return a copy of every parameter's array under its name."""
        return {name: parameter.data.copy() for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Write arrays into the parameters, in place; the state of a PyTorch module of the same build will do.

        Args:
            state: One array per parameter, under its name and of its shape.

        Raises:
            ValueError: If an entry is missing, unknown or of another shape. Nothing has changed then.
        """
        own = dict(self.named_parameters())
        wrong = [f"lacks {name!r}" for name in own if name not in state]
        wrong += [f"has {name!r}" for name in state if name not in own]
        if wrong:
            raise ValueError(f"the state is not one of this {type(self).__name__}: it {', '.join(wrong)}")
        arrays = {name: floats(name, state[name]) for name in own}
        for name, parameter in own.items():
            if arrays[name].shape != parameter.data.shape:
                raise ValueError(f"{name!r} must have shape {parameter.data.shape}: {arrays[name].shape}")
        for name, parameter in own.items():
            parameter.data[...] = arrays[name]

    def _members(self) -> Iterator[tuple[str, Parameter | Module]]:
        yield from ((name, value) for name, value in vars(self).items() if isinstance(value, (Parameter, Module)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
