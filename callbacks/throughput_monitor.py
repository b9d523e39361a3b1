"""ThroughputMonitor: how fast the steps of an epoch go, and how long they wait for their batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from attrs import define, field

from lucid_train.callback import TRANSIENT, Callback, Hook
from lucid_train.events import EpochStart, Event, FitEnd, FitStart, StepEnd, StepStart
from lucid_train.training.run import Run
from lucid_train.validation import text, whole_number


def _samples(instance: object, attribute: Any, value: Any) -> None:
    if value is not None and not callable(value):
        whole_number("samples", value, least=1)


def _unit(instance: object, attribute: Any, value: Any) -> None:
    text(instance, attribute, value)
    if value == "steps":
        raise ValueError("'unit' must be another than that of steps_per_second: 'steps'")


@final
@define(eq=False)
class ThroughputMonitor(Callback):
    """Give each epoch its speed, and the share of time that its steps waited for their batches, as metrics.

    "steps_per_second" and, with `samples`, "samples_per_second" are over the time in steps: with the waits for batches
    what callbacks do between steps, and what a device still has to do at the epoch's end, without evaluations and
    checkpoints. "data_wait" is the share of that time, from 0 to 1, that the steps waited for batches, the start of a
    loader's workers included.

    In a run of several processes samples are those of all, the time is that of the slowest, and the share that of the
    process that waits most, as the others wait for it in their steps. It takes one exchange per epoch.

    These metrics differ from run to run: comparisons of runs leave them out by their names. They change nothing in the
    training: a run may be resumed without this callback.

    Args:
        samples: How many samples, or tokens, a step of this process takes: a number, or a function of the batch that
            returns it. At least 1.
        unit: What they are, for the metric's name: "tokens" gives "tokens_per_second".

    >>> from lucid_train import Trainer
    >>> trainer = Trainer(lambda batch: 0.5, data=[[1, 2], [3]], callbacks=[ThroughputMonitor(len)])
    >>> list(trainer.fit()[0].metrics)
    ['loss', 'steps_per_second', 'samples_per_second', 'data_wait']
    """

    samples: int | Callable[[Any], int] | None = field(default=None, validator=_samples)
    unit: str = field(default="samples", kw_only=True, validator=_unit)
    # Those of the open epoch that were counted.
    _counted: int = field(default=0, init=False, repr=False)
    _of_step: int = field(default=0, init=False, repr=False, metadata=TRANSIENT)
    _run: Run | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)

    def settings(self) -> dict[str, Any]:
        return {}  # nothing here changes the training

    def hooks(self, event: type[Event]) -> list[Hook]:
        return [] if event in (StepStart, StepEnd) and not callable(self.samples) else super().hooks(event)

    def on_fit_start(self, event: FitStart) -> None:
        self._run = event.run
        event.run.measure_waits(all_steps=True)

    def on_fit_end(self, event: FitEnd) -> None:
        self._run = None

    def on_epoch_start(self, event: EpochStart) -> None:
        self._counted = 0

    def on_step_start(self, event: StepStart) -> None:
        assert callable(self.samples)  # or this is no listener
        self._of_step = int(self.samples(event.batch))

    def on_step_end(self, event: StepEnd) -> None:
        self._counted += self._of_step  # not before: a step that fails is done again

    def epoch_metrics(self) -> dict[str, float]:
        run = self._run
        if run is None:  # outside a fit
            return {}
        steps = run.epoch_step
        samples = self._counted if callable(self.samples) else (self.samples or 0) * steps
        own = [samples, run.seconds_in_steps, run.seconds_waiting]
        given = [own] if run.world_size == 1 else run.exchange("ThroughputMonitor at an epoch's end", own)
        seconds = max(in_steps for _, in_steps, _ in given)
        if not seconds:  # by a coarse clock
            return {}
        found = {"steps_per_second": steps / seconds}
        if self.samples is not None:
            found[f"{self.unit}_per_second"] = sum(each for each, _, _ in given) / seconds
        shares = (waiting / in_steps if in_steps else 0.0 for _, in_steps, waiting in given)
        return {**found, "data_wait": min(1.0, max(shares))}
