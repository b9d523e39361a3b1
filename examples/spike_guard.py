"""Skip the updates whose loss is a spike: some batches have targets that are a thousand times too large."""

import numpy as np
from numpy.typing import NDArray

from lucid_train import Callback, StepResult, Trainer, nn, optims
from lucid_train.callbacks import SpikeGuard
from lucid_train.callbacks.spike_guard import Spike

Batch = tuple[NDArray[np.float64], NDArray[np.float64]]

rng = np.random.default_rng(0)
model = nn.Linear(4, 1, rng=0)
optimizer = optims.SGD(model.parameters(), lr=0.05)
guard = SpikeGuard(warmup=10)
criterion = nn.MSELoss()


def batch(number: int) -> Batch:
    """Return 32 inputs and targets; those of every 40th batch are wrong."""
    x = rng.normal(size=(32, 4))
    y = x @ np.array([[1.0], [2.0], [3.0], [4.0]]) + rng.normal(size=(32, 1))
    return x, y * 1000 if number % 40 == 39 else y


def train_step(batch: Batch) -> StepResult:
    """Do one update, unless the loss is a spike; what is skipped does not count in the epoch's mean."""
    x, y = batch
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    model.backward(criterion.backward())
    if guard.spiked(loss):
        return StepResult(loss, weight=0, updated=False)
    optimizer.step()
    return StepResult(loss)


class Report(Callback):
    """Print each spike."""

    def on_spike(self, event: Spike) -> None:
        """Print one."""
        print(f"step {event.step}: {event.decision}, loss {event.loss:.3g}, {event.limit:.3g} would have been none")


history = Trainer(
    train_step,
    [batch(number) for number in range(120)],
    model=model,
    optimizer=optimizer,
    epochs=2,
    callbacks=[guard, Report()],
).fit()
print(f"{guard.spikes} spikes, loss {history.metric('loss')[-1]:.2f}, weights {model.weight.data.ravel().round(1)}")
