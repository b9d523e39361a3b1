"""A callback and an event of your own: the name of the event's hook follows from the name of its class."""

from attrs import define, field

from lucid_train import Callback, Event, StepEnd, Trainer, on
from lucid_train.validation import checked, real_number


@define(kw_only=True)
class LossSpike(Event):
    """The loss of a step is far above its running mean.

    Args:
        step: The step's number, from 1.
        factor: The loss as a multiple of its running mean.
    """

    step: int
    factor: float


@define(eq=False)
class SpikeDetector(Callback):
    """Emit LossSpike when a loss exceeds `threshold` times the running mean of those before it."""

    threshold: float = field(default=3.0, validator=checked(real_number, above=1))
    _mean: float | None = field(default=None, init=False, repr=False)  # state: saved, copied and reset with the rest

    def on_step_end(self, event: StepEnd) -> None:
        """Compare the loss of one step with the running mean, and update the mean."""
        if self._mean is not None and event.loss > self.threshold * self._mean:
            event.run.emit(LossSpike(event.run, step=event.step, factor=event.loss / self._mean))
        self._mean = event.loss if self._mean is None else 0.9 * self._mean + 0.1 * event.loss


@define(eq=False)
class SpikeReport(Callback):
    """Print every spike, and stop the run at the second one."""

    spikes: int = field(default=0, init=False, repr=False)

    def on_loss_spike(self, event: LossSpike) -> None:
        """Print a spike."""
        self.spikes += 1
        print(f"step {event.step}: loss is {event.factor:.1f} times its mean")
        if self.spikes == 2:
            event.run.stop("the loss has spiked twice")

    @on(StepEnd, every=4)  # a method marked with @on may have any name
    def pulse(self, event: StepEnd) -> None:
        """Print every fourth loss."""
        print(f"step {event.step}: loss {event.loss}")


losses = [1.0, 0.9, 0.8, 0.8, 9.0, 0.7, 0.7, 0.6, 8.0, 0.5]
history = Trainer(step=lambda loss: loss, data=losses, callbacks=[SpikeDetector(threshold=4), SpikeReport()]).fit()
print(history.status, "-", history.reason)
