"""How fast a run goes and when it will be done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic

from attrs import define, field

from lucid_train.history import EpochRecord
from lucid_train.training.run import Run

# The epochs that an estimate looks back to: the first, which warms up, is soon forgotten.
_RECENT = 5


@define(eq=False)
class Pace:
    """The times of one fit. What a finished epoch took is taken from its record, the rest from the clock.

    Args:
        clock: Returns seconds; a run's own clock, because a run that is replayed has another than this process.

    Attributes:
        epochs: Epochs finished in this fit.
        steps: Steps in them.
        seconds: The time they took, by their records.
    """

    clock: Callable[[], float] = monotonic
    epochs: int = field(default=0, init=False)
    steps: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)
    _began: float = field(default=0.0, init=False)
    _epoch_began: float = field(default=0.0, init=False)
    _first_step: int = field(default=0, init=False)
    _evaluation_began: float | None = field(default=None, init=False)
    _evaluation: float = field(default=0.0, init=False)
    _evaluation_at_hand: float = field(default=0.0, init=False)
    # Steps and seconds of each of the last epochs, without their evaluation.
    _recent: deque[tuple[int, float]] = field(factory=lambda: deque(maxlen=_RECENT), init=False)

    def __attrs_post_init__(self) -> None:
        self._began = self._epoch_began = self.clock()

    def start_epoch(self, steps_done: int = 0) -> None:
        """Begin an epoch, or what is left of it."""
        self._epoch_began, self._first_step = self.clock(), steps_done
        self._evaluation_began, self._evaluation_at_hand = None, 0.0

    def start_evaluation(self) -> None:
        """Begin an evaluation."""
        self._evaluation_began = self.clock()

    def end_evaluation(self) -> None:
        """End an evaluation, and expect the next to take as long."""
        if self._evaluation_began is not None:
            self._evaluation_at_hand = self._evaluation = self.clock() - self._evaluation_began
        self._evaluation_began = None

    def end_epoch(self, record: EpochRecord) -> None:
        """End an epoch."""
        self.epochs += 1
        self.steps += record.steps
        self.seconds += record.seconds
        self._recent.append((record.steps, max(0.0, record.seconds - self._evaluation_at_hand)))
        self.start_epoch()

    def steps_at_hand(self, steps_done: int) -> int:
        """Return how many steps of the epoch at hand this fit has taken, of those that are done."""
        return max(0, steps_done - self._first_step)

    @property
    def evaluating(self) -> float | None:
        """How long the evaluation has taken so far, or None while there is none."""
        return None if (began := self._evaluation_began) is None else self.clock() - began

    @property
    def elapsed(self) -> float:
        """How long the fit has taken so far; of a run that is replayed, what its records say."""
        now = self.clock()
        return max(now - self._began, self.seconds + now - self._epoch_began)

    def steps_per_second(self, steps_done: int) -> float:
        """Return the speed of the epoch at hand, or of the last ones while there is nothing to go by yet."""
        took = self._training()
        done = steps_done - self._first_step
        if done > 0 and took > 0.2:
            return done / took
        recent = list(self._recent)
        steps, time = sum(steps for steps, _ in recent), sum(time for _, time in recent)
        return steps / time if time > 0 else done / took if took > 0 else 0.0

    def left(self, run: Run, steps_done: int) -> float | None:
        """Return the seconds that the fit will go on for, evaluations included, or None while nothing is known."""
        total = run.steps_per_epoch
        done = self.steps_at_hand(steps_done)
        recent = [*self._recent, (done, self._training())]
        steps = sum(steps for steps, _ in recent)
        if not total or not steps:
            return None
        first = max(run.epoch, len(run.history) + 1)
        per_step = sum(time for _, time in recent) / steps
        steps_left = max(0, total - steps_done) + (run.epochs - first) * total if first <= run.epochs else 0
        evaluations = run.epochs // run.evaluate_every - (first - 1) // run.evaluate_every
        spent = self.evaluating or (self._evaluation_at_hand if run.evaluated(first) else 0.0)
        return max(0.0, steps_left * per_step + max(0, evaluations) * self._evaluation - min(spent, self._evaluation))

    def _training(self) -> float:
        """Return the time of the epoch at hand so far, without its evaluation."""
        evaluation = self._evaluation_at_hand + (self.evaluating or 0.0)
        return max(0.0, self.clock() - self._epoch_began - evaluation)
