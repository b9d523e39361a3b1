"""Columns: what the moving lines show besides the metrics and the speed. A subclass is a column of your own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

from attrs import define

from lucid_train.callbacks.display.formatting import speed
from lucid_train.callbacks.display.throughput import Throughput
from lucid_train.training.run import Run


class Column(ABC):
    """A short text in the moving lines, made again whenever they are drawn, in a thread of the display.

    >>> class Examples(Column):
    ...     def render(self, now):
    ...         return f"{32 * now.run.step:,} examples"
    """

    def begin(self, run: Run) -> None:  # noqa: B027  # most columns need nothing
        """Prepare for a fit, when it starts, in the thread that trains."""

    @abstractmethod
    def render(self, now: Throughput) -> str:
        """Return the text, "" for none. It must not touch a device.

        Args:
            now: Where the fit stands: `now.run`, its speed and its times.
        """


@final
@define(frozen=True)
class DataWait(Column):
    """The share of the time that steps wait for their batches, measured at every seventh step."""

    def begin(self, run: Run) -> None:
        run.measure_waits()

    def render(self, now: Throughput) -> str:
        share = now.data_share
        return "" if share is None else f"data {100 * share:.0f} %"


DEFAULT_COLUMNS: tuple[Column, ...] = (DataWait(),)


@final
@define(frozen=True)
class ItemsPerSecond(Column):
    """How many samples, or tokens, are trained per second: what the steps return as `StepResult.weight`.

    Args:
        unit: What they are.
    """

    unit: str = "item"

    def render(self, now: Throughput) -> str:
        return speed(now.steps_per_second * now.running.weight_per_step, self.unit)
