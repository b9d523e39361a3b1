"""Losses: their value as a float, and the gradient that the model's `backward` starts from."""

from typing import final

import numpy as np
from numpy.typing import ArrayLike

from lucid_train.nn.module import Array, Differentiable, check_shape, floats


@final
class MSELoss(Differentiable):
    """The mean of `(output - target)**2` over all elements.

    >>> criterion = MSELoss()
    >>> criterion([[1.0], [4.0]], [[0.0], [2.0]])
    2.5
    >>> criterion.backward()
    array([[1.],
           [2.]])
    """

    def __call__(self, output: ArrayLike, target: ArrayLike) -> float:
        """Return the loss.

        Args:
            output: Numbers of any shape, at least one.
            target: Numbers of the same shape; they are not broadcast.
        """
        output = _not_empty(floats("output", output))
        self._kept = np.asarray(output - floats("target", target, output.shape, output.dtype))
        return float(np.mean(self._kept * self._kept))

    def backward(self) -> Array:
        """Return the loss's gradient with respect to the output."""
        difference = self._use_kept()
        return np.asarray(difference * (2 / difference.size))


@final
class CrossEntropyLoss(Differentiable):
    """The mean over the rows of `-log(softmax(output)[target])`.

    >>> criterion = CrossEntropyLoss()
    >>> round(criterion([[0.0, 0.0], [1000.0, 0.0]], [0, 0]), 4)
    0.3466
    >>> criterion.backward()
    array([[-0.25,  0.25],
           [ 0.  ,  0.  ]])
    """

    def __call__(self, output: ArrayLike, target: ArrayLike) -> float:
        """Return the loss.

        Args:
            output: Scores of shape (n, classes), at any scale.
            target: The correct classes, integers from 0, of shape (n,).
        """
        output, target = _not_empty(floats("output", output, ("n", "classes"))), np.asarray(target)
        if target.dtype.kind not in "iu":
            raise TypeError(f"'target' must be integers, the numbers of the classes: {target.dtype}")
        rows, classes = output.shape
        check_shape("target", target, (rows,))
        outside = (target < 0) | (target >= classes)
        if outside.any():
            raise ValueError(f"'target' must be >= 0 and < {classes}, the classes in 'output': {target[outside][0]}")
        # With the largest score subtracted, no exponential can overflow and one of them is 1.
        scores = output - output.max(axis=1, keepdims=True)
        log_softmax = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        each = np.arange(rows)
        self._kept = log_softmax, each, target.copy()
        return float(-log_softmax[each, target].mean())

    def backward(self) -> Array:
        """Return the loss's gradient with respect to the output, `(softmax - onehot) / n`."""
        log_softmax, each, target = self._use_kept()
        grad: Array = np.exp(log_softmax)
        grad[each, target] -= 1
        return grad / len(grad)


def _not_empty(output: Array) -> Array:
    if not output.size:  # the mean of nothing would be NaN
        raise ValueError(f"'output' must not be empty: shape {output.shape}")
    return output
