"""Monitor: whether a metric has improved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

from attrs import define, field

from lucid_train.validation import checked, choice, metric_name, real_number

Mode = Literal["min", "max"]
Record = TypeVar("Record", bound=Any)


@define(frozen=True)
class Monitor:
    """A metric that a run is judged by.

    Args:
        name: The metric's name.
        mode: Whether "min" or "max" is better.
        min_delta: What a value must gain to count as better. At least 0.

    >>> Monitor("val_loss").is_better(0.5, than=0.6), Monitor("accuracy", "max").is_better(0.5, than=0.6)
    (True, False)
    """

    name: str = field(validator=checked(metric_name))
    mode: Mode = field(default="min", validator=choice("min", "max"))
    min_delta: float = field(default=0.0, validator=checked(real_number, least=0))

    def is_better(self, value: float, than: float | None) -> bool:
        """Return whether `value` is better than the best so far: NaN never is, any number is better than none."""
        if math.isnan(value):
            return False
        if than is None or math.isnan(than):
            return True
        return (than - value if self.mode == "min" else value - than) > self.min_delta

    def best_of(self, records: Iterable[Record], best: Record | None = None) -> Record | None:
        """Return the record with the best value in its `metrics`, the first of equals.

        Args:
            records: The records, epochs of a history for example.
            best: The best of those before.
        """
        for record in records:
            value = record.metrics.get(self.name, math.nan)
            if self.is_better(value, than=None if best is None else best.metrics[self.name]):
                best = record
        return best

    def read(self, metrics: Mapping[str, float], *, evaluated: bool) -> float | None:
        """Return the metric of an epoch, or None if the epoch lacks it because it was not evaluated.

        Args:
            metrics: The epoch's metrics.
            evaluated: Whether they are all that the run has.

        Raises:
            ValueError: If there is no such metric.
        """
        if self.name not in metrics and evaluated:
            raise ValueError(f"'monitor' must be one of the metrics, {', '.join(metrics) or 'none'}: {self.name!r}")
        return metrics.get(self.name)
