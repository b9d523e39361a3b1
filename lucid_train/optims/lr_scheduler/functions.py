"""Schedules that are given as functions of the epoch."""

from __future__ import annotations

from bisect import bisect_right
from math import frexp, ldexp

from lucid_train.optims.lr_scheduler.base import LRScheduler
from lucid_train.validation import real_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    Function = Callable[[int], float]


class FunctionLR(LRScheduler):
    """The base of the schedules of this module: the base rate times a factor that functions of the user's give."""

    def __init__(
        self,
        optimizer: Any,
        lr_lambda: Function | Sequence[Function],
        last_epoch: int = -1,
        *,
        base_lrs: Sequence[float] | None = None,
    ) -> None:
        several = isinstance(lr_lambda, (list, tuple))
        self._functions: tuple[Any, ...] = tuple(lr_lambda) if several else (lr_lambda,)  # type: ignore[arg-type]  # several
        self._one = not several
        for index, function in enumerate(self._functions):
            if not callable(function) or isinstance(function, type):
                name = f"lr_lambda[{index}]" if several else "lr_lambda"
                raise TypeError(f"{name!r} must be a function of the epoch: {function!r}")
        self._factors: tuple[Function, ...] = self.factors(self._functions)
        super().__init__(optimizer, last_epoch, base_lrs=base_lrs)

    @staticmethod
    def factors(functions: tuple[Function, ...]) -> tuple[Function, ...]:
        """Return the factors of the base rates as functions of the epoch."""
        return functions

    @property
    def lr_lambdas(self) -> list[Function]:
        """The functions, one per group."""
        return [*self._functions] * (len(self.base_lrs) if self._one else 1)

    def validate(self) -> None:
        if not self._one and len(self._functions) != len(self.base_lrs):
            groups = len(self.base_lrs)
            raise ValueError(f"'lr_lambda' must be one function or one per group, {groups}: {len(self._functions)}")
        for index, factor in enumerate(self._factors):
            name = "lr_lambda" if self._one else f"lr_lambda[{index}]"
            real_number(f"{name}({self.last_epoch})", factor(self.last_epoch))

    def linear(self, t: int) -> tuple[float, float] | None:
        return (float(self._factors[0](t)), 0.0) if self._one else None

    def rates_from(self, base_lrs: Sequence[float], t: int) -> list[float]:
        factors = [float(factor(t)) for factor in self._factors] * (len(base_lrs) if self._one else 1)
        # With the 0 that a line adds, to the bit.
        return [base_lr * factor + 0.0 for base_lr, factor in zip(base_lrs, factors, strict=True)]

    def rates_array(self, t: NDArray[np.int64]) -> NDArray[np.float64] | None:
        import numpy as np

        epochs = t.tolist()
        factors = [np.fromiter(map(factor, epochs), float, len(epochs)) for factor in self._factors]
        rates: NDArray[np.float64] = np.column_stack(factors) * np.array(self.base_lrs)
        return rates if rates.min() >= 0 else None  # one that is wrong is found out by asking for each

    def _is_linear(self) -> bool:
        return self._one and type(self).rates is LRScheduler.rates

    def _translated(self, state: dict[str, Any]) -> dict[str, Any]:
        # PyTorch keeps the attributes of callable objects, and None for functions.
        kept = state.pop("lr_lambdas", None) or [None] * len(self.lr_lambdas)
        for index, (function, attributes) in enumerate(zip(self.lr_lambdas, kept, strict=False)):
            if attributes and attributes != vars(function):
                raise ValueError(
                    f"'lr_lambda[{index}]' must be the object of the state, functions stay outside: "
                    f"it has {vars(function)!r} and the state {attributes!r}"
                )
        return state


class LambdaLR(FunctionLR):
    """Multiply the base rate by a function of the epoch.

    Epoch `t`, counted from 0, runs at `base_lr * lr_lambda(t)`, within 1 ulp of the function's value. The function must
    be pure and its values >= 0. The state does not hold functions: pass the same ones when going on from a state.

    Args:
        optimizer: Anything with `param_groups`, a sequence of dicts with "lr".
        lr_lambda: A function of the epoch, an int from 0, or a list with one per group.
        last_epoch: The last epoch already done, or -1; see LRScheduler.
        base_lrs: The rates to start from, one per group, where the optimizer's own are not meant; see LRScheduler.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> from lucid_train import nn, optims
    >>> scheduler = LambdaLR(optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0), lambda epoch: 1 / (1 + epoch))
    >>> [scheduler.lr_at(epoch) for epoch in range(3)]
    [[1.0], [0.5], [0.3333333333333333]]
    """


class MultiplicativeLR(FunctionLR):
    """Multiply the rate, every epoch, by a function of the epoch.

    Epoch `t`, counted from 0, runs at `base_lr * lr_lambda(1) * lr_lambda(2) * ... * lr_lambda(t)`. The product is
    carried in twice the precision of a float: within 2 ulp up to a billion factors. The function must be pure; `step`
    asks it once, an epoch far ahead asks it for every epoch on the way. The state does not hold functions: pass the
    same ones when going on from a state.

    Args:
        optimizer: Anything with `param_groups`, a sequence of dicts with "lr".
        lr_lambda: A function of the epoch, an int from 1, or a list with one per group.
        last_epoch: The last epoch already done, or -1; see LRScheduler.
        base_lrs: The rates to start from, one per group, where the optimizer's own are not meant; see LRScheduler.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> from lucid_train import nn, optims
    >>> scheduler = MultiplicativeLR(optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0), lambda epoch: 0.5)
    >>> [scheduler.lr_at(epoch) for epoch in range(3)]
    [[1.0], [0.5], [0.25]]
    """

    @staticmethod
    def factors(functions: tuple[Function, ...]) -> tuple[Function, ...]:
        return tuple(RunningProduct(function) for function in functions)


class RunningProduct:
    """The product `function(1) * ... * function(t)`, as a function of `t`.

    It remembers where it stands and some places before, few of them however far it goes.
    """

    _MARKS = 256

    def __init__(self, function: Function) -> None:
        self._function = function
        # Where it stands: the epoch, the product as a sum of two floats, and the power of two that both lack.
        self._here = (0, 1.0, 0.0, 0)
        self._marks = [self._here]
        self._stride = 64

    def __call__(self, t: int) -> float:
        epoch, high, low, power = self._here
        if epoch > t or t - epoch > self._stride:
            mark = self._marks[bisect_right(self._marks, t, key=_epoch) - 1]
            if epoch > t or mark[0] > epoch:
                epoch, high, low, power = mark
        function = self._function
        while epoch < t:
            epoch += 1
            factor = float(function(epoch))
            product = high * factor
            if not 1e-140 < abs(product) < 1e140:
                high, shift = frexp(high)
                factor, more = frexp(factor)
                low = ldexp(low, -shift)
                power += shift + more
                product = high * factor
            # Dekker's product: what `product` has lost to rounding, exactly.
            split = 134217729.0 * high
            high_1 = split - (split - high)
            high_2 = high - high_1
            split = 134217729.0 * factor
            factor_1 = split - (split - factor)
            factor_2 = factor - factor_1
            lost = ((high_1 * factor_1 - product) + high_1 * factor_2 + high_2 * factor_1) + high_2 * factor_2
            high, low = product, low * factor + lost
            if not epoch % 64:  # whatever the stride, so that the way taken leaves no trace in the last bit
                high, low = high + low, low - ((high + low) - high)
                self._mark((epoch, high, low, power))
        self._here = epoch, high, low, power
        return ldexp(high + low, power) if power else high + low

    def _mark(self, here: tuple[int, float, float, int]) -> None:
        if not here[0] % self._stride and here[0] > self._marks[-1][0]:
            self._marks.append(here)
            if len(self._marks) > self._MARKS:
                del self._marks[1::2]
                self._stride *= 2


def _epoch(mark: tuple[int, float, float, int]) -> int:
    return mark[0]
