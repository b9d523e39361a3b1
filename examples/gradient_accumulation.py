"""Gradient accumulation, four batches per update: a step without an update says so, and the schedule waits for it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lucid_train import StepResult, Trainer, nn, optims
from lucid_train.callbacks import LRSchedulerCallback
from lucid_train.schedules import Cosine

ACCUMULATE, EPOCHS = 4, 5

rng = np.random.default_rng(0)
inputs = rng.normal(size=(40, 8, 3))
batches = [(x, x @ [[1.0], [-2.0], [0.5]]) for x in inputs]

model = nn.Linear(3, 1, rng=rng)
criterion = nn.MSELoss()
optimizer = optims.SGD(model.parameters(), lr=0.2)
small = 0


def step(batch: tuple[NDArray[Any], NDArray[Any]]) -> float | StepResult:
    """Accumulate the gradient of one small batch; update after every fourth."""
    global small
    x, y = batch
    loss = criterion(model(x), y)
    model.backward(criterion.backward() / ACCUMULATE)  # gradients are summed until zero_grad()
    small += 1
    if small % ACCUMULATE:
        return StepResult(loss, updated=False)  # the loss is recorded, the schedule does not advance
    optimizer.step()
    optimizer.zero_grad()
    return loss


# A share of the run is counted in updates, of which there are fewer than steps, so their number must be given.
updates = EPOCHS * len(batches) // ACCUMULATE
schedule = LRSchedulerCallback(Cosine().warmup("10%"), interval="step", length=updates)
trainer = Trainer(step, batches, optimizer=optimizer, epochs=EPOCHS, callbacks=[schedule])
print(trainer.plan())  # by the length it knows how many updates an epoch has; else plan(updates_per_epoch=10) says so
history = trainer.fit()

for record in history:
    print(f"epoch {record.epoch}  loss {record.metrics['loss']:.2e}  lr {record.lr[0]:.5f}")
print(f"{small} batches, {optimizer.step_count} updates, the schedule is at {schedule.scheduler.last_epoch}")
assert optimizer.step_count == schedule.scheduler.last_epoch == updates
