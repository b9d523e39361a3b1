"""Parameters, the base class of the modules that own them, and the check of the arrays that they are given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from lucid_train.validation import check_entries

Array: TypeAlias = NDArray[Any]


def floats(
    name: str, value: ArrayLike, shape: tuple[int | str, ...] | None = None, dtype: DTypeLike | None = None
) -> Array:
    """Return `value` as an array of floats; integers become float64, floats of the right dtype are not copied.

    Args:
        name: The argument's name, for the error.
        value: Real numbers.
        shape: What its shape must be, if given; a name in it stands for any size.
        dtype: The dtype of the result, if given.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name!r} must be an array of real numbers: {array.dtype}")
    if shape is not None:
        check_shape(name, array, shape)
    if dtype is None:
        dtype = array.dtype if array.dtype.kind == "f" else np.float64
    return array.astype(dtype, copy=False)


def check_shape(name: str, array: Array, shape: tuple[int | str, ...]) -> None:
    """Check an array's shape; a name in `shape` stands for any size."""
    fits = all(isinstance(size, str) or size == found for size, found in zip(shape, array.shape, strict=False))
    if len(shape) != array.ndim or not fits:
        wanted = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise ValueError(f"{name!r} must have shape ({wanted}): {array.shape}")


@final
class Parameter:
    """An array to train, and its gradient.

    Args:
        data: Real numbers of any shape, copied. Floats keep their dtype, integers become float64.

    >>> Parameter([[1, 2], [3, 4]])
    Parameter(shape=(2, 2), dtype=float64)
    """

    __slots__ = ("__weakref__", "_grad", "data")

    def __init__(self, data: ArrayLike) -> None:
        self.data: Array = floats("data", data).copy()
        self._grad: Array | None = None

    @property
    def grad(self) -> Array | None:
        """The gradient, with the shape and dtype of the data, or None."""
        return self._grad

    @grad.setter
    def grad(self, value: ArrayLike | None) -> None:
        gradient = None if value is None else np.asarray(value, dtype=self.data.dtype)
        if gradient is not None and gradient.shape != self.data.shape:
            raise ValueError(f"'grad' must have the shape of the data, {self.data.shape}: {gradient.shape}")
        self._grad = gradient

    def __repr__(self) -> str:
        return f"Parameter(shape={self.data.shape}, dtype={self.data.dtype})"


class Differentiable:
    """Keeps what one backward pass needs from a forward pass; copies and pickles do not include it."""

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

    A module of your own defines `forward` and `backward`. Parameters and modules among its attributes are found in the
    order in which they were assigned.
    """

    @abstractmethod
    def forward(self, x: ArrayLike) -> Array:
        """Return the output, and keep what `backward` needs."""

    @abstractmethod
    def backward(self, grad_output: ArrayLike) -> Array:
        """Add to the gradients of the parameters, and return the gradient with respect to the last input.

        Args:
            grad_output: The loss's gradient with respect to the output, of the output's shape.

        Raises:
            RuntimeError: If there was no forward pass since the last backward pass.
        """

    def __call__(self, x: ArrayLike) -> Array:
        """Return `forward(x)`."""
        return self.forward(x)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield each parameter with its name, formed as in PyTorch, such as "0.weight"."""
        for name, member in self._members():
            if isinstance(member, Parameter):
                yield name, member
            else:
                yield from ((f"{name}.{inner}", parameter) for inner, parameter in member.named_parameters())

    def parameters(self) -> Iterator[Parameter]:
        """Yield each parameter once, in order."""
        yield from dict.fromkeys(parameter for _, parameter in self.named_parameters())

    def state_dict(self) -> dict[str, Array]:
        """Return copies of the parameters' arrays by name."""
        return {name: parameter.data.copy() for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Write arrays into the parameters, in place; the state of a PyTorch module of the same structure fits too.

        Args:
            state: One array per parameter, by name, of the parameter's shape.

        Raises:
            ValueError: If an entry is missing, unknown or of another shape. Nothing has changed then.
        """
        own = dict(self.named_parameters())
        check_entries(f"the state of the {type(self).__name__}", state, own)
        arrays = {name: floats(name, state[name], parameter.data.shape) for name, parameter in own.items()}
        for name, parameter in own.items():
            parameter.data[...] = arrays[name]

    def _members(self) -> Iterator[tuple[str, Parameter | Module]]:
        yield from ((name, value) for name, value in vars(self).items() if isinstance(value, (Parameter, Module)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
