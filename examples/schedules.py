"""Schedules that read like a sentence: with a warm-up, in sequence, in shares of the run, shown before training."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lucid_train import Trainer, nn, optims
from lucid_train.callbacks import LRSchedulerCallback, ParamSchedulerCallback
from lucid_train.optims.lr_scheduler import LRScheduler, ParamScheduler
from lucid_train.schedules import Constant, Cosine, Exponential, Linear, Polynomial, Schedule

rng = np.random.default_rng(0)
inputs, noise = rng.normal(size=(20, 32, 1)), rng.normal(scale=0.1, size=(20, 32, 1))
batches = list(zip(inputs, 3 * inputs + 1 + noise, strict=True))


def train(schedule: Schedule, interval: Literal["epoch", "step"]) -> None:
    """Fit a line with a schedule; print the plan first, and the losses afterwards."""
    model = nn.Linear(1, 1, rng=np.random.default_rng(0))
    criterion = nn.MSELoss()
    optimizer = optims.SGD(model.parameters(), lr=0.1)

    def step(batch: tuple[NDArray[Any], NDArray[Any]]) -> float:
        x, y = batch
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        model.backward(criterion.backward())
        optimizer.step()
        return loss

    callbacks = [LRSchedulerCallback(schedule, interval=interval)]
    trainer = Trainer(step, batches, optimizer=optimizer, epochs=8, callbacks=callbacks)
    print(trainer.plan())  # who listens to what, and the rate of every epoch; nothing is trained yet
    history = trainer.fit()
    print(f"loss {history[0].metrics['loss']:.4f} -> {history[-1].metrics['loss']:.4f}", end="\n\n")


# A warm-up over the first 5 % of all steps, then half a cosine until the end.
train(Cosine().warmup("5%"), "step")

# The full rate for the first half, a linear decay until three quarters, then a hundredth of the rate until the end.
train(Constant().until("50%").then(Polynomial()).until("75%").then(Constant(0.01)), "epoch")

# A schedule is a value: what a number is at time t, without an optimizer. `a * b` scales one by the other.
product = Exponential(0.9) * Constant(0.1, total_iters=2)
print(product, "at 0 to 3:", np.round(product.table(4, base=0.1), 4))


def sgd() -> optims.SGD:
    """Return a new optimizer."""
    return optims.SGD(nn.Linear(1, 1).parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)


# Without a Trainer, a scheduler binds it to any optimizer; the rate of any epoch can be asked for.
scheduler = LRScheduler(sgd(), Cosine(T_max=5).warmup(3))
print("joined", scheduler.lr_at(np.arange(8))[:, 0].round(4))

# Any other hyperparameter can follow a schedule too.
optimizer = sgd()
both = ParamScheduler(optimizer, weight_decay=Cosine(T_max=4), momentum=Linear(0.5, total_iters=4))
for _ in range(4):
    optimizer.step()
    both.step()
    (group,) = optimizer.param_groups
    print(f"weight_decay {group['weight_decay']:.4f}, momentum {group['momentum']:.4f}")


class Model:
    """What has a number that a step uses."""

    kl_weight = 1.0


# In a Trainer a callback does that, for keys of the groups and for attributes, beside the one of the rates.
model, optimizer = Model(), sgd()
numbers = [
    LRSchedulerCallback(Cosine()),
    ParamSchedulerCallback(weight_decay=Exponential(0.5)),
    ParamSchedulerCallback(kl_weight=Linear(0.0, 1.0, "50%"), on=model, interval="step"),
]


def weighted(batch: int) -> float:
    """Train a step whose loss has a weight."""
    optimizer.step()
    return model.kl_weight * batch


history = Trainer(weighted, range(2), optimizer=optimizer, epochs=4, callbacks=numbers).fit()
for record in history:
    print("epoch", record.epoch, "used", record.scheduled)
