"""Monitor: whether a metric has improved."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, Literal, TypeVar

from attrs import define, field

from lucid_train.validation import checked, metric_name, one_of, real_number

Mode = Literal["min", "max"]
Record = TypeVar("Record", bound=Any)


# The last word of a name, and the mode that follows from it.
_MODES: dict[str, Mode] = {"loss": "min", "accuracy": "max"}


@define(frozen=True)
class Monitor:
    """A metric by which the epochs of a run are compared.

    Args:
        name: The metric's name.
        mode: Whether "min" or "max" is better. Left out, it follows from the last word of the name, "loss" or
            "accuracy"; a name that ends otherwise does not tell.
        min_delta: What a value must gain to count as better. At least 0.

    Raises:
        ValueError: If the mode is left out and does not follow from the name.

    >>> Monitor("val_loss").is_better(0.5, than=0.6), Monitor("f1", "max").is_better(0.5, than=0.6)
    (True, False)
    >>> Monitor("val_accuracy")
    Monitor(name='val_accuracy', mode='max', min_delta=0.0)
    """

    name: str = field(validator=checked(metric_name))
    mode: Mode | None = field(default=None, validator=checked(one_of, choices=("min", "max")))
    min_delta: float = field(default=0.0, validator=checked(real_number, least=0))

    def __attrs_post_init__(self) -> None:
        if self.mode is None:
            object.__setattr__(self, "mode", self.mode_of(self.name))
        if self.mode is None:
            raise ValueError(
                f"'mode' must be given, as {self.name!r} does not end in loss or accuracy, from which it would follow: "
                f'write monitor="{self.name}", mode="max", or mode="min" if less is better'
            )

    @staticmethod
    def mode_of(name: str) -> Mode | None:
        """Return the mode that follows from the last word of a name, or None if none does."""
        return _MODES.get(re.split(r"[_/\-. ]", name)[-1].lower())

    def __str__(self) -> str:
        return f"{self.name}, {'lower' if self.mode == 'min' else 'higher'} is better"

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
