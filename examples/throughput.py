"""Is it the data or the model? The same training from a slow source, and from one that reads ahead in a thread."""

import time
from collections.abc import Iterator
from queue import Queue
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from lucid_train import Trainer, nn, optims
from lucid_train.callbacks import ThroughputMonitor

Batch = tuple[NDArray[np.float64], NDArray[np.float64]]


class Slow:
    """Twenty batches, each of which takes 3 ms, as if it came over a network."""

    def __len__(self) -> int:
        return 20

    def __iter__(self) -> Iterator[Batch]:
        rng = np.random.default_rng(0)
        for _ in range(len(self)):
            time.sleep(0.003)
            x = rng.normal(size=(64, 8))
            yield x, x.sum(axis=1, keepdims=True)


class Ahead(Slow):
    """The same, read ahead."""

    def __iter__(self) -> Iterator[Batch]:
        queue: Queue[Batch | None] = Queue(maxsize=8)

        def read() -> None:
            for batch in Slow():
                queue.put(batch)
            queue.put(None)

        Thread(target=read, daemon=True).start()
        while (batch := queue.get()) is not None:
            yield batch


def train(data: Slow) -> dict[str, float]:
    """Train for two epochs and return the metrics of the second."""
    model = nn.Linear(8, 1, rng=0)
    optimizer, criterion = optims.SGD(model.parameters(), lr=0.05), nn.MSELoss()

    def train_step(batch: Batch) -> float:
        optimizer.zero_grad()
        loss = criterion(model(batch[0]), batch[1])
        model.backward(criterion.backward())
        optimizer.step()
        time.sleep(0.003)  # a real one takes its time
        return loss

    monitor = ThroughputMonitor(samples=64)
    history = Trainer(train_step, data, model=model, optimizer=optimizer, epochs=2, callbacks=[monitor]).fit()
    return dict(history[-1].metrics)


for data in (Slow(), Ahead()):
    metrics = train(data)
    print(
        f"{type(data).__name__:5}  {metrics['samples_per_second']:6,.0f} samples/s, "
        f"{metrics['data_wait']:.0%} of the time waiting for data"
    )
