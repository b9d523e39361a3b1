"""What a run leaves in memory: it grows with epochs, not with steps."""

from __future__ import annotations

import gc
import tracemalloc

from measure import Row

from lucid_train import Trainer


def grown(epochs: int, steps: int) -> float:
    """Return the bytes that a run of so many epochs with so many steps each has left behind."""
    trainer = Trainer(step=lambda batch: 0.5, data=range(steps), epochs=epochs)
    gc.collect()
    tracemalloc.start()
    trainer.fit()
    gc.collect()
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return float(left)


def rows() -> list[Row]:
    """Measure everything."""
    grown(1, 10)
    few, many, epochs = grown(1, 10), grown(1, 1_000_000), grown(1_000, 10)
    return [
        Row("memory kept after 1e6 steps", many, few, "after 10 steps", extra=100e3, unit="B"),
        Row("memory kept per epoch, of 1,000", epochs / 1_000, few, "a run of one epoch", unit="B"),
    ]
