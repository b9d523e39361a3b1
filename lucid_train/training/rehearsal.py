"""What a Trainer does in a step when it is given nothing to do."""

from __future__ import annotations

from collections.abc import Callable

from lucid_train.training.run import Run


class Rehearsal:
    """The step function of a Trainer that has none: it steps the optimizer, if there is one that can be stepped."""

    def __init__(self, run: Run) -> None:
        self._step: Callable[[], object] | None = getattr(run.optimizer, "step", None)

    def __call__(self, batch: object) -> None:
        if self._step is not None:
            self._step()
