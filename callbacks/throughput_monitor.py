"""ThroughputMonitor: how fast a run trains, and how long its steps wait for their batches, as metrics."""

from __future__ import annotations

import math
from typing import final

from attrs import define, field

from lucid_train.callback import TRANSIENT, Callback
from lucid_train.callbacks.display.throughput import Throughput
from lucid_train.events import EpochStart, EvaluateEnd, EvaluateStart, FitEnd, FitStart
from lucid_train.validation import checked, metric_name


@final
@define(eq=False)
class ThroughputMonitor(Callback):
    """Measure how fast each epoch is trained, as metrics of it: for the history, the log, the table and the trackers.

    "steps_per_second" leaves out evaluations; of an epoch in which the run was resumed it is that of the rest, finding
    the place in the data included.
    "data_wait" is the share of this time that the steps wait for their batches, from 0 to 1, measured at every seventh
    step; NaN where none of them was measured. In a run of many processes both are means over them. They depend on the
    clock: comparisons of runs leave out numbers whose name has the word "second", "seconds" or "wait".

    Args:
        items: What the steps count as `StepResult(..., weight=n)`, such as "samples" or "tokens", for a metric
            "samples_per_second" of all processes together; None for no such metric.

    >>> from lucid_train import StepResult, Trainer
    >>> monitor = ThroughputMonitor("samples")
    >>> trainer = Trainer(lambda batch: StepResult(0.5, weight=32), data=range(9), callbacks=[monitor])
    >>> metrics = trainer.fit()[-1].metrics
    >>> list(metrics)
    ['loss', 'steps_per_second', 'data_wait', 'samples_per_second']
    >>> round(metrics["samples_per_second"] / metrics["steps_per_second"])
    32
    """

    items: str | None = field(default=None, validator=checked(metric_name))
    _throughput: Throughput | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    # How long batches were waited for until the open epoch began, and how many of them.
    _waited: tuple[float, int] = field(default=(0.0, 0), init=False, repr=False, metadata=TRANSIENT)

    def settings(self) -> dict[str, object]:
        return {}  # what is measured does not change the training

    def on_fit_start(self, event: FitStart) -> None:
        event.run.measure_waits()
        self._throughput, self._waited = Throughput(event.run), (0.0, 0)

    def on_epoch_start(self, event: EpochStart) -> None:
        if self._throughput is not None:
            self._throughput.start_epoch()
            self._waited = event.run.waits

    def on_evaluate_start(self, event: EvaluateStart) -> None:
        if self._throughput is not None:
            self._throughput.start_evaluation()

    def on_evaluate_end(self, event: EvaluateEnd) -> None:
        if self._throughput is not None:
            self._throughput.end_evaluation()

    def on_fit_end(self, event: FitEnd) -> None:
        self._throughput = None

    def measured(self) -> dict[str, float]:
        throughput = self._throughput
        if throughput is None:
            return {}
        run, seconds = throughput.run, throughput.training_seconds
        speed = throughput.epoch_steps / seconds if seconds > 0 else math.nan
        (waited, count), (before, earlier) = run.waits, self._waited
        share = (waited - before) / (count - earlier) * speed if count > earlier else math.nan
        found = {"steps_per_second": speed, "data_wait": 1.0 if share > 1 else share}
        if self.items is not None and run.epoch_step:
            per_step = run.snapshot().weight() / run.epoch_step
            found[f"{self.items}_per_second"] = speed * per_step * run.world_size  # their mean is the sum of all
        return found
