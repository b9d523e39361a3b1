"""TerminateOnNaN: a run whose loss is no longer a number goes no further."""

from __future__ import annotations

import math
from typing import Literal, final

from attrs import define, field

from lucid_train import Callback, EpochEnd, Event, StepEnd
from lucid_train.arguments import checked, one_of
from lucid_train.callback import Hook


@final
@define(eq=False)
class TerminateOnNaN(Callback):
    """Stop the run when a metric is NaN or infinite.

    Args:
        monitor: The metric to look at; by default all of them, those of the evaluation included.
        interval: How often to look: after every "step" too, which waits for a tensor's device each time, or at the end
            of an "epoch" only.
        action: What to do then: "stop" ends the fit in good order, "raise" lets a FloatingPointError leave it.

    Raises:
        TypeError: If `monitor` is no name.
        ValueError: If `interval` or `action` is none of these, or the metric does not exist at the end of an epoch.
        FloatingPointError: With action="raise", from `fit`.
    """

    monitor: str | None = None
    interval: Literal["step", "epoch"] = field(
        default="step", kw_only=True, validator=checked(one_of, choices=("step", "epoch"))
    )
    action: Literal["stop", "raise"] = field(
        default="stop", kw_only=True, validator=checked(one_of, choices=("stop", "raise"))
    )

    def __attrs_post_init__(self) -> None:
        if self.monitor is not None and not isinstance(self.monitor, str):
            raise TypeError(f"'monitor' must be the name of a metric: {self.monitor!r}")

    def hooks(self, event: type[Event]) -> list[Hook]:
        return [] if event is StepEnd and self.interval == "epoch" else super().hooks(event)

    def on_step_end(self, event: StepEnd) -> None:
        self._look(event, f"epoch {event.epoch}, step {event.step}")

    def on_epoch_end(self, event: EpochEnd) -> None:
        if self.monitor is not None and self.monitor not in event.metrics and event.run.evaluated(event.epoch):
            known = ", ".join(event.metrics) or "none"
            raise ValueError(f"'monitor' must be one of the metrics, {known}: {self.monitor!r}")
        self._look(event, f"epoch {event.epoch}")

    def _look(self, event: StepEnd | EpochEnd, place: str) -> None:
        for name, value in event.metrics.items():
            if self.monitor in (None, name) and not math.isfinite(value):
                reason = f"{name} is {value} in {place}"
                if self.action == "raise":
                    raise FloatingPointError(reason)
                event.run.stop(reason, for_good=True)
