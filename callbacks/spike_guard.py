"""SpikeGuard: whether a step's loss is far above those before it, asked before the update that it would spoil."""

from __future__ import annotations

import math
import warnings
from statistics import median_low
from typing import Any, Literal, SupportsFloat, final

from attrs import define, field

from lucid_train.callback import TRANSIENT, Callback
from lucid_train.events import EpochEnd, FitEnd, FitStart, StepEvent
from lucid_train.training.run import Run
from lucid_train.validation import checked, choice, real_number, whole_number

# The standard deviation of a normal distribution is this many times its median absolute deviation.
_NORMAL = 1.4826
# Of the median: what the deviation counts as at least, so that losses which hardly differ are no spikes of one another.
_LEAST_DEVIATION = 0.01


@define(kw_only=True)
class Spike(StepEvent):
    """A SpikeGuard has found a spike; emitted within the step, before its StepEnd.

    Args:
        loss: The loss that was asked about; NaN and the infinities are spikes.
        limit: The largest loss that would have been none; infinite while too few losses are known.
        in_a_row: How many spikes have come without another loss between them, this one included.
        decision: "skip", or where this is one too many in a row "stop" or "restart".
    """

    loss: float = 0.0
    limit: float = math.inf
    in_a_row: int = 1
    decision: Literal["skip", "stop", "restart"] = "skip"


@final
@define(eq=False)
class SpikeGuard(Callback):
    """Tell a step whether its loss is a spike, so that it can skip the update.

    A spike is a loss that is not finite, or that is above `median + threshold * deviation` of the last `window` losses
    that were none. The deviation is 1.4826 times their median absolute deviation (of a normal distribution that is its
    standard deviation), and at least a hundredth of the median. Medians are those below the middle where there are two.

    The step asks between `backward` and its update, and says that it has skipped it::

        if guard.spiked(loss):
            return StepResult(loss, weight=0, updated=False)
        optimizer.step()

    With `weight=0` the loss is left out of the epoch's mean, which one that is NaN would spoil.

    Asking reads the loss: the step waits for its device. In a run of many processes, pass a loss that is the same on
    all, such as one that was all-reduced, as all must skip alike; the guards compare their losses at each epoch's end.

    Args:
        threshold: Deviations above the median from which a loss is a spike. Above 0.
        window: How many losses are kept. At least 1.
        warmup: How many losses must be known before one that is finite can be a spike. From 1 to `window`.
        patience: Spikes in a row after which skipping is given up. At least 1.
        action: What then happens: "stop" ends the run for good; "warn" warns and forgets the losses, so that a new
            level is learned in a new warm-up.

    Attributes:
        spikes: How many spikes have been found.

    Raises:
        ValueError: If `warmup` is above `window`.
        RuntimeError: In `fit`, at an epoch's end, if the processes of the run were asked about different losses.

    >>> from lucid_train import StepResult, Trainer
    >>> guard = SpikeGuard(warmup=3)
    >>> def train_step(loss):
    ...     if guard.spiked(loss):
    ...         return StepResult(loss, weight=0, updated=False)
    ...     return loss
    >>> history = Trainer(train_step, data=[1.0, 1.1, 0.9, 50.0, 1.0], callbacks=[guard]).fit()
    >>> guard.spikes
    1
    """

    threshold: float = field(default=6.0, validator=checked(real_number, above=0))
    window: int = field(default=100, kw_only=True, validator=checked(whole_number, least=1))
    warmup: int = field(default=20, kw_only=True, validator=checked(whole_number, least=1))
    patience: int = field(default=5, kw_only=True, validator=checked(whole_number, least=1))
    action: Literal["stop", "warn"] = field(default="stop", kw_only=True, validator=choice("stop", "warn"))
    spikes: int = field(default=0, init=False, repr=False)
    _losses: list[float] = field(factory=list, init=False, repr=False)
    _in_a_row: int = field(default=0, init=False, repr=False)
    _run: Run | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)

    def __attrs_post_init__(self) -> None:
        if self.warmup > self.window:
            raise ValueError(f"'warmup' must be <= window, {self.window}: {self.warmup}")

    def describe(self) -> dict[str, str]:
        end = "the run ends" if self.action == "stop" else "a warning"
        rule = f"a loss {self.threshold:g} deviations above the median of {self.window} is a spike"
        return {"guarding": f"{rule}, after {self.patience} in a row {end}"}

    def on_fit_start(self, event: FitStart) -> None:
        self._run = event.run

    def on_fit_end(self, event: FitEnd) -> None:
        self._run = None

    def on_epoch_end(self, event: EpochEnd) -> None:
        run = event.run
        if run.world_size == 1:
            return
        found = run.exchange("SpikeGuard at EpochEnd", [self.spikes, self._losses])
        for rank, each in enumerate(found):
            if each != found[0]:
                raise RuntimeError(
                    f"SpikeGuard.spiked() must be asked about the same losses on all processes: ranks 0 and {rank} "
                    "differ; all-reduce the loss first"
                )

    def spiked(self, loss: SupportsFloat) -> bool:
        """Return whether a loss is a spike, and count it; this waits for a tensor's device.

        Raises:
            RuntimeError: Outside a fit of a Trainer that has this callback.
        """
        run = self._run
        if run is None:
            raise RuntimeError("SpikeGuard.spiked() must be called by the step of a Trainer that has it in 'callbacks'")
        detached: Any = loss.detach() if hasattr(loss, "detach") else loss  # PyTorch warns of one with a graph
        value = float(detached)
        limit = self.limit()
        if math.isfinite(value) and value <= limit:
            self._in_a_row = 0
            self._losses.append(value)
            del self._losses[: -self.window]
            return False
        self.spikes += 1
        self._in_a_row += 1
        in_a_row, epoch, step = self._in_a_row, run.epoch, run.step + 1  # the step under way is not done
        words = f"{in_a_row} {'spike' if in_a_row == 1 else 'spikes in a row'}, the last a loss of {value:.6g}"
        decision: Literal["skip", "stop", "restart"] = "skip"
        if in_a_row >= self.patience:
            self._in_a_row = 0
            decision = "stop" if self.action == "stop" else "restart"
            if self.action == "warn":
                self._losses.clear()
        run.emit(Spike(run, epoch=epoch, step=step, loss=value, limit=limit, in_a_row=in_a_row, decision=decision))
        if decision == "stop":
            run.stop(f"{words} in step {step}", for_good=True)
        elif decision == "restart":
            warnings.warn(f"{words} in step {step}: the losses are forgotten", UserWarning, stacklevel=2)
        return True

    def limit(self) -> float:
        """Return the largest loss that is no spike now; infinite while fewer than `warmup` are known."""
        if len(self._losses) < self.warmup:
            return math.inf
        median = median_low(self._losses)
        deviation = _NORMAL * median_low([abs(loss - median) for loss in self._losses])
        return median + self.threshold * max(deviation, _LEAST_DEVIATION * abs(median))
