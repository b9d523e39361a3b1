"""Find a learning rate on the digits, and train with it, a tenth of it and ten times it."""

from __future__ import annotations

from typing import Any

from lucid_train import Trainer, data, find_lr, nn, optims

images, labels = data.digits()[:2]


def build(rate: float) -> Trainer:
    """Return a Trainer of a small network."""
    model = nn.Sequential(nn.Linear(64, 32, rng=0), nn.ReLU(), nn.Linear(32, 10, rng=1))
    criterion = nn.CrossEntropyLoss()
    optimizer = optims.SGD(model.parameters(), lr=rate, momentum=0.9)

    def step(batch: Any) -> float:
        x, y = batch
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        model.backward(criterion.backward())
        optimizer.step()
        return loss

    batches = data.batches(images, labels, batch_size=32)
    return Trainer(step, batches, model=model, optimizer=optimizer, epochs=3)


# The Trainer's own rate does not matter here, and it is what it was afterwards.
curve = find_lr(build(rate=0.1), low=1e-6, high=10)
print(curve)
assert curve.suggestion is not None
for factor in (0.1, 1, 10):
    history = build(curve.suggestion * factor).fit()
    print(f"lr {curve.suggestion * factor:.3g}: loss {history[-1].metrics['loss']:.3f} after {len(history)} epochs")
