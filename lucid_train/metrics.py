"""What a step or an evaluation returned, as numbers: converted only on request, so that no step waits for a device."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from attrs import define, field


@define(frozen=True)
class NoUpdate:
    """Returned by a step function that performed no update: it skipped one, or it accumulates gradients.

    Step-interval schedules do not advance then. The metrics count all the same.

    Args:
        output: What the step would have returned otherwise: None, a loss or a mapping of metrics.

    >>> NoUpdate(0.25)
    NoUpdate(output=0.25)
    """

    output: Any = None


def to_metrics(output: Any) -> dict[str, float]:
    """Return an output as floats: nothing for None, a number as "loss", a mapping as it is.

    Raises:
        TypeError: If it is none of these, or a metric is no number.
    """
    metrics = {}
    for metric, value in _items(output):
        _check_name(metric)
        _check_value(metric, value)
        metrics[metric] = float(value)
    return metrics


def evaluation(output: Any, prefix: str, taken: Collection[str]) -> dict[str, float]:
    """Return what an evaluation found as floats, under the names that are recorded.

    Args:
        output: What it returned: a mapping of metrics, or a number, which is the loss.
        prefix: What stands before the name of each, unless it begins so already.
        taken: The names of the steps' metrics.

    Raises:
        TypeError: If it is neither a number nor a mapping of numbers.
        ValueError: If two metrics would have one name.

    >>> evaluation({"loss": 0.5, "val_accuracy": 1}, "val_", taken=["loss"])
    {'val_loss': 0.5, 'val_accuracy': 1.0}
    """
    if output is None:
        raise TypeError("'evaluate' must return a number or a mapping of metrics, {} where it has none: None")
    found: dict[str, float] = {}
    for name, value in to_metrics(output).items():
        recorded = name if name.startswith(prefix) else f"{prefix}{name}"
        if recorded in taken or recorded in found:
            raise ValueError(f"'evaluate' must not return {name!r}: another metric has the name {recorded!r}")
        found[recorded] = value
    return found


def detached(output: Any) -> Any:
    """Return an output without what its tensors hold on to, their gradients' graph."""
    if type(output) is float or output is None:
        return output
    if type(output) is NoUpdate:
        return NoUpdate(detached(output.output))
    if isinstance(output, Mapping):
        return {name: detached(value) for name, value in output.items()}
    return output.detach() if hasattr(output, "detach") else output


@define(eq=False)
class Means:
    """The mean of each metric over the steps of an epoch. Tensors are added up where they are.

    >>> means = Means()
    >>> means.add(1.0)
    >>> means.add({"loss": 2.0, "accuracy": 0.5})
    >>> means.read()
    {'loss': 1.5, 'accuracy': 0.5}
    """

    totals: dict[str, float] = field(factory=dict)  # or tensors
    counts: dict[str, int] = field(factory=dict)
    # The sum and the number of the losses that came as bare floats, which the Trainer adds up itself: in one sum, for
    # one in two parts may differ in the last place.
    float_sum: float = 0.0
    float_count: int = 0

    def __attrs_post_init__(self) -> None:
        if self.totals.keys() != self.counts.keys() or any(count < 1 for count in self.counts.values()):
            raise ValueError(f"'counts' must have a number of values for each of 'totals': {self.counts}")

    @property
    def names(self) -> set[str]:
        """The names of the metrics so far."""
        return {*self.totals, "loss"} if self.float_count else set(self.totals)

    def add(self, output: Any) -> None:
        """Count what one step returned.

        Raises:
            TypeError: If the step returned neither None, a number nor a mapping of numbers.
        """
        for name, value in output.items() if type(output) is dict else _items(output):
            total: Any = self.totals.get(name)
            if hasattr(total, "add_") and hasattr(value, "element_size") and value.ndim == 0:
                total.add_(value.detach())  # the total is our own, and wide
                self.counts[name] += 1
            else:
                self.add_sum(name, value if type(value) is float else _addable(name, value), 1)

    def add_sum(self, name: str, total: Any, count: int) -> None:
        """Count the sum of `count` values of one metric."""
        if name in self.counts:
            self.totals[name] = self.totals[name] + total
            self.counts[name] += count
        else:
            _check_name(name)
            self.totals[name] = total
            self.counts[name] = count

    def read(self) -> dict[str, float]:
        """Return the means as floats; this waits for a tensor's device."""
        if self.float_count:
            self.add_sum("loss", self.float_sum, self.float_count)
            self.float_sum, self.float_count = 0.0, 0
        return {name: float(total) / self.counts[name] for name, total in self.totals.items()}


def _items(output: Any) -> Iterable[tuple[str, Any]]:
    if output is None:
        return ()
    if type(output) is NoUpdate:
        return _items(output.output)
    return output.items() if isinstance(output, Mapping) else (("loss", output),)


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"a metric's name must be a string: {name!r}")


def _check_value(name: str, value: Any) -> None:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__") or getattr(value, "ndim", 0) != 0:
        raise TypeError(
            f"a step must return None, a number or a mapping of metrics, evaluate likewise: {name!r} is {value!r}"
        )


def _addable(name: str, value: Any) -> Any:
    """Return a value that may be added up over many steps: a float, where that asks no device, or a tensor."""
    _check_value(name, value)
    if not hasattr(value, "element_size"):
        return float(value)
    value = value.detach()
    # A sum of float16 stops growing after a few hundred terms, and one of 1e6 float32 is wrong by a hundredth.
    try:
        wide = value.double()
    except TypeError:  # Apple's devices have no float64
        wide = value.float()
    # A copy, for the step may fill the same tensor again.
    return value.clone() if wide is value else wide
