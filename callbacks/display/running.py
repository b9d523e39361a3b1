"""RunningMeans: the metrics of the open epoch so far, handed from the thread that trains to those that show."""

from __future__ import annotations

import threading
from contextlib import suppress

from attrs import define, field

from lucid_train.metrics import Snapshot
from lucid_train.training.run import Run


@define(eq=False)
class RunningMeans:
    """The means of the open epoch's metrics so far, as another thread may read them without touching a device.

    The thread that trains takes a snapshot between two steps, when it is asked for one, and waits for nothing.

    Args:
        run: The run.
    """

    run: Run
    _asked: bool = field(default=False, init=False)
    # A snapshot that may be on its way, with the epoch and its steps; and the latest complete one.
    _taken: tuple[int, int, Snapshot] | None = field(default=None, init=False)
    _means: tuple[int, dict[str, float], float] = field(factory=lambda: (0, {}, 0.0), init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def ask(self) -> None:
        """Ask for a snapshot, unless one is on its way."""
        if not self._asked and self._taken is None:
            self._asked = True
            self.run.after_step(self.take)

    def take(self) -> None:
        """Take a snapshot, in the thread that trains, between two steps; this waits for nothing."""
        with suppress(Exception):  # a device without events cannot be read without waiting: nothing is shown of it
            self._taken = self.run.epoch, self.run.epoch_step, self.run.snapshot()
        self._asked = False

    def read(self) -> dict[str, float]:
        """Return the means of the latest snapshot of this epoch; {} without one."""
        with self._lock:
            taken = self._taken  # read once: the thread that trains may replace it by one that is not complete
            if taken is not None and taken[2].is_complete:
                epoch, steps, snapshot = taken
                self._means = epoch, snapshot.means.read(), snapshot.weight() / steps if steps else 0.0
                if self._taken is taken:
                    self._taken = None
            epoch, means, _ = self._means
        return means if epoch == self.run.epoch else {}

    @property
    def weight_per_step(self) -> float:
        """How many samples, or tokens, a step stands for, in the mean; 0 if that is unknown."""
        return self._means[2]
