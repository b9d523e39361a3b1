"""Train on handwritten digits, with a schedule, early stopping that restores the best weights, and the display."""

import numpy as np
from numpy.typing import NDArray

from lucid_train import Trainer, nn, optims, schedules
from lucid_train.callbacks import EarlyStopping, LRSchedulerCallback, RichLogger
from lucid_train.data import batches, digits

images, labels, test_images, test_labels = digits(seed=0)
rng = np.random.default_rng(0)
model = nn.Sequential(nn.Linear(64, 64, rng=rng), nn.ReLU(), nn.Linear(64, 10, rng=rng))
criterion = nn.CrossEntropyLoss()
optimizer = optims.AdamW(model.parameters(), lr=0.003)


def train_step(batch: tuple[NDArray[np.float64], NDArray[np.intp]]) -> float:
    """Do one update and return the loss, which is averaged over the epoch."""
    x, y = batch
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    model.backward(criterion.backward())
    optimizer.step()
    return loss


def evaluate() -> dict[str, float]:
    """Return metrics of the test set; they are recorded as "val_loss" and "val_accuracy"."""
    scores = model(test_images)
    return {"loss": criterion(scores, test_labels), "accuracy": float((scores.argmax(axis=1) == test_labels).mean())}


history = Trainer(
    step=train_step,
    data=batches(images, labels, batch_size=32, seed=0),
    model=model,
    optimizer=optimizer,
    evaluate=evaluate,
    epochs=40,
    callbacks=[
        LRSchedulerCallback(schedules.Cosine()),
        EarlyStopping("val_loss", patience=5, restore_best=True),
        RichLogger(),
    ],
).fit()

best = history.best("val_loss")
print(f"{history.status}: {history.reason or 'all epochs are done'}")
print(f"best epoch {best.epoch}, accuracy {best.metrics['val_accuracy']:.2%}, restored {evaluate()['accuracy']:.2%}")
