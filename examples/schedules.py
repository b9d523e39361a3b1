"""Schedules that read like a sentence: with a warm-up, in sequence, in shares of the run, shown before training."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lucid_train import Trainer, nn, optims
from lucid_train.callbacks import LRSchedulerCallback
from lucid_train.optims.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    PolynomialLR,
    Recipe,
)

rng = np.random.default_rng(0)
inputs = rng.normal(size=(20, 32, 1))
batches = [(x, 3 * x + 1 + rng.normal(scale=0.1, size=x.shape)) for x in inputs]


def train(recipe: Recipe, interval: Literal["epoch", "step"]) -> None:
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

    schedule = LRSchedulerCallback(recipe, interval)
    trainer = Trainer(step, batches, optimizer=optimizer, epochs=8, callbacks=[schedule])
    print(trainer.plan())  # who listens to what, and the rate of every epoch; nothing is trained yet
    history = trainer.fit()
    print(f"loss {history[0].metrics['loss']:.4f} -> {history[-1].metrics['loss']:.4f}", end="\n\n")


# A warm-up over the first 5 % of all steps, then half a cosine until the end.
train(Recipe(CosineAnnealingLR).warmup("5%"), "step")

# The full rate for the first half, a linear decay until three quarters, then a hundredth of the rate until the end.
train(
    Recipe(ConstantLR, factor=1.0).until("50%").then(PolynomialLR).until("75%").then(ConstantLR, factor=0.01), "epoch"
)


def sgd() -> optims.SGD:
    """Return a new optimizer."""
    return optims.SGD(nn.Linear(1, 1).parameters(), lr=0.1)


# Without a Trainer, the recipe builds a scheduler for any optimizer. The rate of any epoch can be asked for.
scheduler = Recipe(CosineAnnealingLR, T_max=5).warmup(3)(sgd())
print("joined ", scheduler.lr_at(np.arange(8))[:, 0].round(4))

# Not in sequence but at the same time: the product of both.
optimizer = sgd()
chain = ChainedScheduler([ConstantLR(optimizer, factor=0.1, total_iters=2), ExponentialLR(optimizer, gamma=0.9)])
print("chained", chain.lr_at(np.arange(4))[:, 0].round(4))
