"""Throughput: how fast a fit goes, and how long it will still take."""

from __future__ import annotations

from collections import deque

from attrs import define, field

from lucid_train.callbacks.display.running import RunningMeans
from lucid_train.history import EpochRecord
from lucid_train.training.run import Run

# Epochs that an estimate is based on. The first one of a fit, which warms up, soon drops out.
_RECENT = 5


@define(eq=False)
class Throughput:
    """Times one fit: finished epochs by their records, the rest by the run's clock, of which a replay has its own.

    Args:
        run: The run.

    Attributes:
        running: The metrics of the open epoch.
        epochs: Epochs finished in this fit.
        steps: Steps of these epochs.
        seconds: Duration of these epochs.
    """

    run: Run
    running: RunningMeans = field(init=False)
    epochs: int = field(default=0, init=False)
    steps: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)
    _start: float = field(default=0.0, init=False)
    _epoch_start: float = field(default=0.0, init=False)
    _first_step: int = field(default=0, init=False)
    _evaluation_start: float | None = field(default=None, init=False)
    # Duration of the latest evaluation, and of those in the current epoch.
    _evaluation: float = field(default=0.0, init=False)
    _evaluations: float = field(default=0.0, init=False)
    # Steps and seconds of the latest epochs, without their evaluations.
    _recent: deque[tuple[int, float]] = field(factory=lambda: deque(maxlen=_RECENT), init=False)

    def __attrs_post_init__(self) -> None:
        self.running = RunningMeans(self.run)
        self._start = self.run.clock()
        self.start_epoch()

    def start_epoch(self) -> None:
        """Begin an epoch, or the rest of one."""
        self._epoch_start, self._first_step = self.run.clock(), self.run.epoch_step
        self._evaluation_start, self._evaluations = None, 0.0

    def start_evaluation(self) -> None:
        """Begin an evaluation."""
        self._evaluation_start = self.run.clock()

    def end_evaluation(self) -> None:
        """End an evaluation; the next one is expected to take as long."""
        self._evaluation = self.evaluating or 0.0
        self._evaluations += self._evaluation
        self._evaluation_start = None

    def end_epoch(self, record: EpochRecord) -> None:
        """End an epoch."""
        self.epochs += 1
        self.steps += record.steps
        self.seconds += record.seconds
        self._recent.append((record.steps, max(0.0, record.seconds - self._evaluations)))
        self.start_epoch()

    @property
    def epoch_steps(self) -> int:
        """Steps that this fit has done in the current epoch."""
        return max(0, self.run.epoch_step - self._first_step)

    @property
    def evaluating(self) -> float | None:
        """Duration of the evaluation that is running, or None."""
        start = self._evaluation_start  # read once: the bars are drawn in another thread
        return None if start is None else self.run.clock() - start

    @property
    def elapsed(self) -> float:
        """Duration of the fit; in a replay at least that of its records."""
        now = self.run.clock()
        return max(now - self._start, self.seconds + now - self._epoch_start)

    @property
    def steps_per_second(self) -> float:
        """Speed of the current epoch, or of the latest ones while it has just begun; 0 if unknown."""
        seconds, done = self._training_seconds, self.epoch_steps
        if done and seconds > 0.2:
            return done / seconds
        recent = list(self._recent)
        steps, time = sum(steps for steps, _ in recent), sum(time for _, time in recent)
        return steps / time if time > 0 else done / seconds if seconds > 0 else 0.0

    @property
    def data_share(self) -> float | None:
        """The share of the time of a step that it waits for its batch, from 0 to 1; None unless it is measured."""
        wait, speed = self.run.seconds_per_batch, self.steps_per_second
        return None if wait is None or not speed else min(1.0, wait * speed)

    @property
    def remaining(self) -> float | None:
        """Seconds until the fit is done, evaluations included, or None if unknown."""
        run, total = self.run, self.run.steps_per_epoch
        recent = [*self._recent, (self.epoch_steps, self._training_seconds)]
        steps = sum(steps for steps, _ in recent)
        if not total or not steps:
            return None
        first = max(run.epoch, len(run.history) + 1)
        per_step = sum(time for _, time in recent) / steps
        steps_left = max(0, total - run.epoch_step) + (run.epochs - first) * total if first <= run.epochs else 0
        if run.evaluate_steps is not None:  # the evaluation that is running belongs to the steps done
            last_step, spent = run.step + steps_left, self.evaluating or 0.0
            evaluations = last_step // run.evaluate_steps - run.step // run.evaluate_steps + bool(spent)
        else:
            every = run.evaluate_every
            evaluations = 0 if every is None else run.epochs // every - (first - 1) // every
            spent = self.evaluating or (self._evaluations if run.evaluated(first) else 0.0)
        return max(0.0, steps_left * per_step + max(0, evaluations) * self._evaluation - min(spent, self._evaluation))

    @property
    def _training_seconds(self) -> float:
        """Duration of the current epoch without its evaluations."""
        evaluations = self._evaluations + (self.evaluating or 0.0)
        return max(0.0, self.run.clock() - self._epoch_start - evaluations)
