"""A few layers and losses on numpy arrays, enough to train a multilayer perceptron.

There is no graph: each module keeps what its gradient needs from its last forward pass, and `backward` consumes it.

>>> import numpy as np
>>> from lucid_train.optims import SGD
>>> rng = np.random.default_rng(0)
>>> model = Sequential(Linear(2, 8, rng=rng), Tanh(), Linear(8, 1, rng=rng))
>>> criterion, optimizer = MSELoss(), SGD(model.parameters(), lr=0.5, momentum=0.9)
>>> x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([[0], [1], [1], [0]])
>>> for _ in range(200):
...     optimizer.zero_grad()
...     loss = criterion(model(x), y)
...     _ = model.backward(criterion.backward())
...     optimizer.step()
>>> loss < 1e-3
True
"""

from lucid_train.nn.layers import Linear, ReLU, Sequential, Tanh
from lucid_train.nn.losses import CrossEntropyLoss, MSELoss
from lucid_train.nn.module import Module, Parameter

__all__ = ["CrossEntropyLoss", "Linear", "MSELoss", "Module", "Parameter", "ReLU", "Sequential", "Tanh"]
