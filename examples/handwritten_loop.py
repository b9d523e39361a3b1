"""A scheduler alone in a hand-written loop, without Trainer or callbacks.

It works with any optimizer that has `param_groups`, such as PyTorch's.
"""

import numpy as np

import lucid_train.nn as nn
import lucid_train.optims as optim
from lucid_train.optims.lr_scheduler import CosineAnnealingLR

rng = np.random.default_rng(0)
inputs = rng.normal(size=(256, 10))
targets = inputs @ rng.normal(size=(10, 1)) + 0.5

model = nn.Linear(10, 1, rng=rng)
criterion = nn.MSELoss()
optimizer = optim.SGD(model.parameters(), lr=0.1)
scheduler = CosineAnnealingLR(optimizer, T_max=10, eta_min=0.001, after="hold")

for epoch in range(12):
    optimizer.zero_grad()
    loss = criterion(model(inputs), targets)
    model.backward(criterion.backward())
    optimizer.step()  # the update comes first: epoch 0 runs at exactly 0.1
    used = scheduler.last_lr
    scheduler.step()
    print(f"epoch {epoch + 1:2}  loss {loss:8.5f}  lr {used[0]:.4f} -> {scheduler.last_lr[0]:.4f}")

# A schedule is a pure function of the epoch: it can be evaluated anywhere, before, during and after training.
print("lr of epochs 0, 5, 10, 100:", [scheduler.lr_at(t)[0] for t in (0, 5, 10, 100)])
