"""What a step or an evaluation returned, as numbers: converted only on request, so that no step waits for a device."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, SupportsFloat, TypeAlias, final

from attrs import define, field, frozen

from lucid_train.description import attributed
from lucid_train.protocols import MetricObject
from lucid_train.validation import checked, dtype_name, flag, real_number

# What an evaluation returns: metrics by name, or one number, which is the loss. Arrays and tensors are numbers too.
Metrics: TypeAlias = SupportsFloat | Mapping[str, SupportsFloat]
# A sum and its weight: the mean of a metric in one process, to be put together with those of others.
Part: TypeAlias = tuple[float, float]

# A sum that would exceed the largest float is kept in this unit, and so is one on a device, always: which is exact.
_UNIT = 64
_TO_UNIT = 2.0**-_UNIT
_TENSOR_OR_NUMBER = "a number >= 0 and finite, or a tensor that holds one"
# How many floats are kept before they are put together.
_MANY = 2048
_ONE = 1.0
# A name with one of these words is that of a time.
_TIMES = {"second", "seconds", "wait"}


def _weight(name: str, value: Any) -> None:
    if hasattr(value, "full_tensor"):
        raise TypeError(f"{name!r} must be {_TENSOR_OR_NUMBER}, no DTensor; pass its full_tensor()")
    if not (_is_tensor(value) or _is_late(value)):
        real_number(name, value, least=0)
    elif value.ndim != 0 or dtype_name(value).startswith("complex") or getattr(value, "is_meta", False):
        raise TypeError(f"{name!r} must be {_TENSOR_OR_NUMBER}: {value!r}")


@final
@define(frozen=True)
class StepResult:
    """Returned by a step function that says more than its metrics.

    Args:
        metrics: What the step would have returned otherwise: None, a loss or a mapping of metrics.
        weight: How many samples, or tokens, the metrics stand for: the means of an epoch are weighted by it. At least
            0; with 0 the metrics are left out. A tensor is not read before the epoch ends.
        updated: Whether the step performed an update. Step-interval schedules do not advance where it did not, because
            it was skipped or gradients are accumulated.

    >>> StepResult(0.25, weight=32)
    StepResult(metrics=0.25, weight=32, updated=True)
    """

    metrics: Metrics | None = None
    weight: SupportsFloat = field(default=1, validator=checked(_weight))
    updated: bool = field(default=True, validator=checked(flag))


@final
@frozen
class Mean:
    """A mean as a sum and a weight, so that those of several steps, or processes, are put together.

    `evaluate` returns one for a metric over samples, and a step one for a metric whose weight is not that of the
    others; within a StepResult it counts as many times as the result's weight says. Tensors are not read before the
    epoch ends.

    Args:
        total: The sum of the values, each times its weight.
        weight: The sum of the weights, as how many samples were evaluated. At least 0; with 0 there is no mean, and a
            step is without this metric.

    >>> float(Mean(6.0, 4))
    1.5
    """

    total: SupportsFloat
    weight: SupportsFloat = field(validator=checked(_weight))

    def __float__(self) -> float:
        weight = float(self.weight)
        return float(self.total) / weight if weight else math.nan


# What a step returns.
Output: TypeAlias = Metrics | StepResult | None


def to_metrics(output: Any, source: str = "a step") -> dict[str, float]:
    """Return an output as floats: nothing for None, a number as "loss", a mapping as it is, but for means of weight 0.

    Args:
        output: What was returned.
        source: By what, for the error.

    Raises:
        TypeError: If it is none of these, or a metric is no number.
    """
    metrics = {}
    for metric, value in _items(output.metrics if type(output) is StepResult else output):
        _check_name(metric)
        _check_value(metric, value, source)
        if type(value) is Mean and not float(value.weight):
            continue
        # PyTorch warns of a number that still has its gradients' graph.
        metrics[metric] = float(value.detach() if hasattr(value, "detach") else value)
    return metrics


def evaluation(output: Any, prefix: str, taken: Collection[str]) -> dict[str, Part]:
    """Return what an evaluation found in this process as sums and weights, under the names that are recorded.

    Args:
        output: What it returned: a mapping of metrics, or a number, which is the loss; `Mean` has its own weight, any
            other number has weight 1.
        prefix: What stands before the name of each, unless it begins so already.
        taken: The names of the steps' metrics.

    Raises:
        TypeError: If it is neither a number nor a mapping of numbers.
        ValueError: If two metrics would have one name.

    >>> evaluation({"loss": Mean(2.0, 4), "val_accuracy": 1}, "val_", taken=[])
    {'val_loss': (2.0, 4.0), 'val_accuracy': (1.0, 1.0)}
    """
    if output is None:
        raise TypeError("'evaluate' must return a number or a mapping of metrics, {} where it has none: None")
    found: dict[str, Part] = {}
    for name, part in to_parts(output, "'evaluate'").items():
        recorded = name if name.startswith(prefix) else f"{prefix}{name}"
        if recorded in taken or recorded in found:
            raise ValueError(f"'evaluate' must not return {name!r}: another metric has the name {recorded!r}")
        found[recorded] = part
    return found


def to_parts(output: Any, source: str) -> dict[str, Part]:
    """Return an output as sums and weights: a `Mean` has its own weight, any other number has weight 1.

    Args:
        output: What was returned.
        source: By what, for the error.

    Raises:
        TypeError: If it is neither a number nor a mapping of numbers.
    """
    numbers = to_metrics(output, source)
    return {
        name: (float(each.total), float(each.weight)) if type(each) is Mean else (numbers[name], 1.0)
        for name, each in _items(output)
    }


def combined(processes: Sequence[Mapping[str, Sequence[float]]], source: str) -> dict[str, float]:
    """Return the means of metrics over all processes, in the order of the first that has any.

    Sums and weights may be in any unit that is the same on all. Both are added up exactly and rounded once, so that
    every process has the same bits. A mean that all have alike stays as it is.

    Args:
        processes: Of each process its metrics: of each the sum and the weight. One without any takes no part.
        source: Whose metrics they are, for the error.

    Raises:
        ValueError: If two processes have other metrics.

    >>> combined([{"loss": (6.0, 3.0)}, {"loss": (1.0, 1.0)}, {}], "the steps")
    {'loss': 1.75}
    """
    measured = [(rank, each) for rank, each in enumerate(processes) if each]
    if not measured:
        return {}
    first, names = measured[0][0], measured[0][1].keys()
    for rank, each in measured:
        if each.keys() != names:
            differing = ", ".join(sorted(each.keys() ^ names))
            raise ValueError(
                f"{source} must give the same metrics on all processes that give any: "
                f"ranks {first} and {rank} differ in {differing}"
            )
    return {name: _mean_of([each[name] for _, each in measured]) for name in names}


def _mean_of(parts: Sequence[Sequence[float]]) -> float:
    parts = [(total, weight) for total, weight in parts if weight]
    means = [total / weight for total, weight in parts]
    if not means:
        return math.nan
    if all(mean == means[0] for mean in means):
        return means[0]
    try:
        return _sum(total for total, _ in parts) / math.fsum(weight for _, weight in parts)
    except OverflowError:  # beyond the largest float
        return _sum(total * _TO_UNIT for total, _ in parts) / math.fsum(weight for _, weight in parts) / _TO_UNIT


def _sum(values: Iterable[float]) -> float:
    return _condensed(values)[0]


def computed(metrics: Mapping[str, MetricObject], taken: Collection[str]) -> dict[str, Part]:
    """Return what metric objects have come to, with weight 1; of a mapping, each number under its name.

    Args:
        metrics: The objects, by the names of their metrics.
        taken: The names that what a step or an evaluation returned has.

    Raises:
        TypeError: If one returns neither a single number nor a mapping of them.
        ValueError: If a name is taken, by a step, an evaluation or another object.

    >>> from types import SimpleNamespace
    >>> computed({"top": SimpleNamespace(compute=lambda: {"1": 0.5, "top_5": 0.75})}, taken=["loss"])
    {'top_1': (0.5, 1.0), 'top_5': (0.75, 1.0)}
    """
    found: dict[str, Part] = {}
    for name, metric in metrics.items():
        value, source = attributed(f"metrics[{name!r}].compute", metric.compute), f"'metrics[{name!r}].compute()'"
        if isinstance(value, Mapping):
            numbers = to_metrics(value, source)
            named = {key if key.startswith(f"{name}_") else f"{name}_{key}": each for key, each in numbers.items()}
        elif hasattr(value, "__float__"):
            named = to_metrics({name: value}, source)
        else:
            raise TypeError(f"{source} must return a real number or a mapping of them: {value!r:.200}")
        for each in named:
            if each in taken:
                raise ValueError(
                    f"'metrics' must not have a name that is returned too, by a step or 'evaluate': {each!r}"
                )
            if each in found:
                raise ValueError(f"'metrics' must not come to one name twice: {each!r}, by metrics[{name!r}] too")
        found |= {each: (number, 1.0) for each, number in named.items()}
    return found


def detached(output: Any) -> Any:
    """Return an output without what its tensors hold on to, their gradients' graph."""
    if type(output) is float or output is None:
        return output
    if type(output) is StepResult:
        return StepResult(detached(output.metrics), detached(output.weight), output.updated)
    if type(output) is Mean:
        return Mean(detached(output.total), detached(output.weight))
    if isinstance(output, Mapping):
        return {name: detached(value) for name, value in output.items()}
    return output.detach() if hasattr(output, "detach") else output


def copied(output: Any) -> Any:
    """Return an output whose numbers stay what they are: arrays and tensors are copied, without reading them."""
    if type(output) is float or output is None:
        return output
    if type(output) is StepResult:
        return copied(output.metrics)
    if type(output) is Mean:
        return Mean(copied(output.total), copied(output.weight))
    if isinstance(output, Mapping):
        return {name: copied(value) for name, value in output.items()}
    for copy in ("clone", "copy"):
        if hasattr(output, copy):
            return getattr(output, copy)()
    return output


@define(eq=False)
class Sum:
    """A sum of numbers: of floats exactly, in any order; of tensors in double precision, where they are.

    Args:
        parts: Floats whose exact sum is that of all that were floats.
        scaled: Whether they are in units of 2**64, because their sum is beyond the largest float.
        tensor: The sum of what were tensors, in units of 2**64, as a tensor while training; None if there were none.
    """

    parts: list[float] = field(factory=list)
    scaled: bool = False
    tensor: float | None = None

    def add(self, value: Any, factor: Any = 1.0) -> None:
        """Add a number or a tensor, times a factor that is one too."""
        if _is_tensor(factor):
            self._add_tensor(_wide(value) * _wide(factor), 1.0)
        elif _is_tensor(value):
            self._add_tensor(value, factor)
        else:
            term = value * factor
            if not self.scaled and math.isinf(term) and not math.isinf(value):
                self._scale()
            self.extend([value * _TO_UNIT * factor if self.scaled else term])

    def extend(self, terms: Iterable[float]) -> None:
        """Add floats, in units of 2**64 if the sum is scaled."""
        self.parts.extend(terms)
        if len(self.parts) > _MANY:
            self.condense()

    def condense(self) -> None:
        """Put the floats together, into a few that have the same sum."""
        if len(self.parts) > 1:
            try:
                self.parts = _condensed(self.parts)
            except OverflowError:
                self._scale()
                self.parts = _condensed(self.parts)

    def read(self) -> tuple[float, int]:
        """Return the sum as a float and the power of two that it is to be multiplied by; this waits for a device."""
        self.condense()
        exact = self.parts[0] if self.parts else 0.0  # the rounded sum: what follows is what it was rounded by
        if self.tensor is None:
            return exact, _UNIT if self.scaled else 0
        found = float(self.tensor)
        return found + exact * (1.0 if self.scaled else _TO_UNIT) if self.parts else found, _UNIT

    def _add_tensor(self, value: Any, factor: float) -> None:
        total: Any = self.tensor
        if hasattr(total, "add_"):
            total.add_(value.detach(), alpha=factor * _TO_UNIT)  # it is our own, and wide
        else:
            term = _wide(value) * (factor * _TO_UNIT)
            self.tensor = term if total is None else total + term

    def _scale(self) -> None:
        self.scaled, self.parts = True, [part * _TO_UNIT for part in self.parts]


@define(eq=False)
class RunningMean:
    """A weighted mean. That of floats of weight 1 is their exact sum, rounded, over their number: within 1.5 ulp.

    Args:
        total: The sum of the values, each times its weight.
        weight: The sum of the weights.
        pending: Floats of weight 1 that neither of them contains yet.
        late: Values that neither of them contains yet, each followed by its weight: one of the two is an array of JAX,
            which may not have been computed yet and is not read before.
    """

    total: Sum = field(factory=Sum)
    weight: Sum = field(factory=Sum)
    pending: list[float] = field(factory=list)
    late: list[float] = field(factory=list)

    def add(self, value: Any, weight: Any) -> None:
        """Count a number, a tensor or an array."""
        if type(value) is float and weight is _ONE:
            self.pending.append(value)
            if len(self.pending) > _MANY:
                self.condense()
        elif weight is _ONE and _is_tensor(value):  # what most steps return
            self.total.add(value)
            self.weight.extend([_TO_UNIT if self.weight.scaled else _ONE])
        elif _is_late(value) or _is_late(weight):
            self.late += value, weight
            if len(self.late) > 2 * _MANY:
                self._read_late(_MANY)  # the older half, so that the device may stay that far behind
        else:
            self.total.add(value, weight)
            self.weight.add(1.0, weight)

    def add_mean(self, mean: Mean, factor: Any) -> None:
        """Count a mean with its own weight, times a factor; one of JAX's arrays is read."""
        total, weight = (float(each) if _is_late(each) else each for each in (mean.total, mean.weight))
        factor = float(factor) if _is_late(factor) else factor
        self.total.add(total, factor)
        self.weight.add(weight, factor)

    def copy(self) -> RunningMean:
        """Return a copy; tensors are shared."""
        total, weight = (Sum(list(each.parts), each.scaled, each.tensor) for each in (self.total, self.weight))
        return RunningMean(total, weight, list(self.pending), list(self.late))

    def extend(self, values: Iterable[float]) -> None:
        """Count floats of weight 1."""
        self.pending.extend(values)
        self.condense()

    def condense(self) -> None:
        """Put together what has been collected, so that it takes little room; what is late stays so."""
        values, self.pending = self.pending, []
        if values:
            self.total.extend([value * _TO_UNIT for value in values] if self.total.scaled else values)
            self.weight.add(float(len(values)))
        self.total.condense()
        self.weight.condense()

    def _read_late(self, count: int) -> None:
        """Count the first entries of what is late; this waits for their device."""
        entries, self.late = self.late[:count], self.late[count:]
        for value, weight in zip(entries[::2], entries[1::2], strict=True):
            if number := float(weight) if _is_late(weight) else weight:
                self.add(float(value) if _is_late(value) else value, _ONE if number == 1 else number)

    def read(self) -> float:
        """Return the mean, NaN without any weight; this waits for a tensor's device."""
        (total, unit), (weight, unit_of_weight) = self._sums()
        mean = total / weight if weight else math.nan
        try:
            return math.ldexp(mean, unit - unit_of_weight)
        except OverflowError:  # it is the largest float, but for the rounding
            return math.copysign(sys.float_info.max, mean)

    def part(self) -> Part:
        """Return the sum and the weight, both in units of 2**64, in which no sum overflows; this waits for a device."""
        (total, unit), (weight, unit_of_weight) = self._sums()
        return math.ldexp(total, unit - _UNIT), math.ldexp(weight, unit_of_weight - _UNIT)

    def _sums(self) -> tuple[tuple[float, int], tuple[float, int]]:
        self._read_late(len(self.late))
        self.condense()
        return self.total.read(), self.weight.read()


@define(eq=False)
class Means:
    """The mean of each metric over the steps of an epoch. Tensors are added up where they are.

    >>> means = Means()
    >>> means.add(1.0)
    >>> means.add(StepResult({"loss": 2.0, "accuracy": 0.5}, weight=3))
    >>> means.read()
    {'loss': 1.75, 'accuracy': 0.5}
    """

    metrics: dict[str, RunningMean] = field(factory=dict)

    @property
    def names(self) -> set[str]:
        """The names of the metrics so far."""
        return set(self.metrics)

    def add(self, output: Any) -> None:
        """Count what one step returned.

        Raises:
            TypeError: If the step returned neither None, a number, a mapping of numbers nor a StepResult.
        """
        weight: Any = _ONE
        if type(output) is StepResult:
            output, weight = output.metrics, output.weight
            if not (_is_tensor(weight) or _is_late(weight)):
                weight = _ONE if weight == 1 else float(weight)
        for name, value in output.items() if type(output) is dict else _items(output):
            number = value if type(value) is float else _addable(name, value)
            if weight is _ONE or _is_tensor(weight) or _is_late(weight) or weight:
                if type(number) is Mean:
                    self._mean(name).add_mean(number, weight)
                else:
                    self._mean(name).add(number, weight)

    def extend(self, losses: Iterable[float]) -> None:
        """Count what steps returned that were floats."""
        self._mean("loss").extend(losses)

    def condense(self) -> None:
        """Put together what has been collected, so that it takes little room."""
        for mean in self.metrics.values():
            mean.condense()

    def read(self) -> dict[str, float]:
        """Return the means as floats, the loss first; this waits for a tensor's device."""
        # In an order that does not depend on when the floats were collected.
        names = sorted(self.metrics, key=lambda name: name != "loss")
        return {name: self.metrics[name].read() for name in names}

    def parts(self) -> dict[str, Part]:
        """Return of each metric the sum and the weight, the loss first; this waits for a tensor's device."""
        names = sorted(self.metrics, key=lambda name: name != "loss")
        return {name: self.metrics[name].part() for name in names}

    def snapshot(self) -> Snapshot:
        """Return the means as they are now; what is on a device is copied from there, and is not waited for."""
        means = Means({name: mean.copy() for name, mean in self.metrics.items()})
        on_devices: dict[Any, list[Any]] = {}
        for each in (each for mean in means.metrics.values() for each in (mean.total, mean.weight)):
            if _is_tensor(each.tensor):
                on_devices.setdefault(each.tensor.device, []).append(each)  # type: ignore[union-attr]  # it is a tensor
        late: list[Any] = [each for mean in means.metrics.values() for each in mean.late]
        checks = [each.is_ready for each in filter(_is_late, late)]
        for device, sums in on_devices.items():
            torch: Any = sys.modules["torch"]
            # One copy for each device, to memory that this can be done to without waiting.
            found = torch.stack([each.tensor for each in sums]).to("cpu", non_blocking=True)
            if device.type != "cpu":
                event = getattr(torch, device.type).Event()
                event.record()
                checks.append(event.query)
            for each, value in zip(sums, found, strict=True):
                each.tensor = value
        return Snapshot(means, checks)

    def _mean(self, name: str) -> RunningMean:
        if (mean := self.metrics.get(name)) is None:
            _check_name(name)
            mean = self.metrics[name] = RunningMean()
        return mean


@define(eq=False)
class Snapshot:
    """Means as they were at one moment, as soon as they have come from the devices.

    Args:
        means: The means; they may be read when the snapshot is complete.
        checks: Whether a copy, or an array, is complete; these wait for nothing.
    """

    means: Means
    checks: list[Callable[[], bool]]

    @property
    def is_complete(self) -> bool:
        """Whether all copies are complete; this waits for nothing."""
        return all(check() for check in self.checks)

    def weight(self) -> float:
        """Return the largest sum of the weights of a metric: how many samples, or tokens, there were so far."""
        found = [mean.weight.read() for mean in self.means.metrics.values()]
        return max((math.ldexp(weight, unit) for weight, unit in found), default=0.0)


def _condensed(values: Iterable[float]) -> list[float]:
    """Return floats, each the rounded sum of what those before it leave of the sum of all values.

    Raises:
        OverflowError: If the sum is beyond the largest float.
    """
    parts: list[float] = []
    left = list(values)
    while True:
        try:
            part = math.fsum(left)
        except ValueError:  # infinities of both signs
            return [math.nan]
        if not math.isfinite(part):
            return [part]
        if not part:  # fsum knows no sign of 0
            return parts or [-0.0 if all(math.copysign(1.0, value) < 0.0 for value in left) else 0.0]
        parts.append(part)
        left.append(-part)


def _items(output: Any) -> Iterable[tuple[str, Any]]:
    if output is None:
        return ()
    if _is_tensor(output):  # first, as it takes long to find out that one is no mapping
        return (("loss", output),)
    return output.items() if isinstance(output, Mapping) else (("loss", output),)


def is_time(name: str) -> bool:
    """Return whether a number of this name depends on the clock, so that equal runs do not have it alike.

    One of the words "second", "seconds" and "wait" is in it.

    >>> [is_time(name) for name in ("seconds", "samples_per_second", "data_wait", "secondary_loss")]
    [True, True, True, False]
    """
    return not _TIMES.isdisjoint(re.split(r"[\W_]+", name))


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"a metric's name must be a string: {name!r}")


def _check_value(name: str, value: Any, source: str = "a step") -> None:
    if getattr(value, "is_meta", False):
        raise TypeError(f"a metric must have a value, which a tensor on the meta device lacks: {name!r} is {value!r}")
    if hasattr(value, "full_tensor"):  # a sum of DTensors, or a look at one, would be an exchange of all processes
        raise TypeError(f"{source} must return single numbers: {name!r} is a DTensor; return its full_tensor()")
    shape = tuple(getattr(value, "shape", ()))
    if shape and hasattr(value, "__float__"):
        cure = "return its mean, or leave it out"
        raise TypeError(f"{source} must return single numbers: {name!r} has the shape {shape}; {cure}")
    if isinstance(value, (tuple, list)):
        cure = 'return {"loss": loss, "accuracy": accuracy}, with names of your own'
        raise TypeError(f"{source} must return no {type(value).__name__}: {value!r:.200}; {cure}")
    is_number = hasattr(value, "__float__") and not isinstance(value, (str, bytes))
    if not is_number or dtype_name(value).startswith("complex"):
        kinds = "a real number or a mapping of metrics"
        kinds = kinds if source == "'evaluate'" else "None, a real number, a mapping of metrics or a StepResult"
        raise TypeError(f"{source} must return {kinds}: {name!r} is {value!r:.200}")


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "element_size")


def _is_late(value: Any) -> bool:
    """Whether reading a value may wait for a device, and it is no tensor: JAX's arrays are."""
    return hasattr(value, "block_until_ready")


@lru_cache(100)
def _is_real(kind: type, dtype: Any) -> bool:
    """Return whether tensors of a class and a dtype, if they have one value, are metrics; each is looked at once."""
    return hasattr(kind, "__float__") and not hasattr(kind, "full_tensor") and not dtype.is_complex


def _addable(name: str, value: Any) -> Any:
    """Return a value that is added up later: a float, where that asks no device, a tensor or an array of JAX."""
    if type(value) is Mean:
        _check_value(name, value.total)
        return value
    kind: Any = type(value)
    if _is_tensor(value) and not value.shape and _is_real(kind, value.dtype) and not value.is_meta:
        return value
    _check_value(name, value)
    return value if _is_tensor(value) or _is_late(value) else float(value)


def _wide(value: Any) -> Any:
    """Return a tensor, or a number, in double precision; a sum of float16 stops growing after a few hundred terms."""
    if not _is_tensor(value):
        return value
    try:
        return value.detach().double()
    except TypeError:  # Apple's devices have no float64
        return value.detach().float()
