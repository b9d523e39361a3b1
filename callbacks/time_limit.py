"""TimeLimit: a run that must be over by a certain time stops before it, in good order."""

from __future__ import annotations

import time
from typing import Any, final

from attrs import define, field

from lucid_train import TRANSIENT, Callback, EpochReport, EpochStart, FitStart, StepEnd
from lucid_train.arguments import checked, real_number
from lucid_train.run import Run


@final
@define(eq=False)
class TimeLimit(Callback):
    """Stop the run before a wall-clock limit: when another step as long as the longest so far might exceed it.

    Args:
        seconds: The limit, counted from the start of the fit. Above 0.
        margin: Seconds to leave for what comes after the last step: an evaluation, a checkpoint. At least 0.
        earlier: Whether the time of earlier fits of the run counts as well, also of those before it was resumed.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range.

    >>> from lucid_train import Trainer
    >>> Trainer(epochs=1_000_000, callbacks=[TimeLimit(0.01)]).fit().status
    'stopped'
    """

    seconds: float = field(validator=checked(real_number, above=0))
    margin: float = field(default=0.0, kw_only=True, validator=checked(real_number, least=0))
    earlier: bool = field(default=False, kw_only=True)
    seconds_spent: float = field(default=0.0, init=False, repr=False)
    seconds_longest: float = field(default=0.0, init=False, repr=False)
    _spent_before: float = field(default=0.0, init=False, repr=False, metadata=TRANSIENT)
    _began: float = field(default=0.0, init=False, repr=False, metadata=TRANSIENT)
    _latest: float = field(default=0.0, init=False, repr=False, metadata=TRANSIENT)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.earlier, bool):
            raise TypeError(f"'earlier' must be True or False: {self.earlier!r}")

    def settings(self) -> dict[str, Any]:
        return {}  # the next job may have another limit

    def on_fit_start(self, event: FitStart) -> None:
        self._began = self._latest = time.monotonic()
        self._spent_before = self.seconds_spent
        self._look(event.run)

    def on_epoch_start(self, event: EpochStart) -> None:
        self._latest = time.monotonic()

    def on_step_end(self, event: StepEnd) -> None:
        now = time.monotonic()
        self.seconds_longest = max(self.seconds_longest, now - self._latest)
        self._latest = now
        self._look(event.run)

    def on_epoch_report(self, event: EpochReport) -> None:
        self._look(event.run)

    def _look(self, run: Run) -> None:
        this = time.monotonic() - self._began
        self.seconds_spent = self._spent_before + this
        used = self.seconds_spent if self.earlier else this
        if used + self.seconds_longest + self.margin >= self.seconds:
            run.stop(f"the time limit of {self.seconds:g} s is reached")
