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
        monitor: The metric to look at; by default all of them.
        interval: How often to look: after every "step", which waits for a tensor's device each time, or every "epoch".
        action: What to do then: "stop" ends the fit in good order, "raise" lets a FloatingPointError leave it.

    Raises:
        ValueError: If `interval` or `action` is none of these.
        FloatingPointError: With action="raise", from `fit`.
    """

    monitor: str | None = None
    interval: Literal["step", "epoch"] = field(
        default="step", kw_only=True, validator=checked(one_of, choices=("step", "epoch"))
    )
    action: Literal["stop", "raise"] = field(
        default="stop", kw_only=True, validator=checked(one_of, choices=("stop", "raise"))
    )

    def hooks(self, event: type[Event]) -> list[Hook]:
        unheard = StepEnd if self.interval == "epoch" else EpochEnd
        return [] if event is unheard else super().hooks(event)

    def on_step_end(self, event: StepEnd) -> None:
        self._look(event, f"epoch {event.epoch}, step {event.step}")

    def on_epoch_end(self, event: EpochEnd) -> None:
        self._look(event, f"epoch {event.epoch}")

    def _look(self, event: StepEnd | EpochEnd, place: str) -> None:
        for name, value in event.metrics.items():
            if name == (self.monitor or name) and not math.isfinite(value):
                reason = f"{name} is {value} in {place}"
                if self.action == "raise":
                    raise FloatingPointError(reason)
                event.run.stop(reason)
