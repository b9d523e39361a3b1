"""What happens in a run: one attrs class per event, in the order of a fit, and the names of their hooks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from attrs import define, field

from lucid_train.metrics import StepResult, to_metrics

if TYPE_CHECKING:
    from lucid_train.history import EpochRecord, History
    from lucid_train.training.run import Run

Status = Literal["ready", "running", "completed", "stopped", "interrupted", "failed"]

# Every event class by its name and its module, in the order of definition. Of one name and module the latest counts:
# attrs defines a class with slots twice, and so does whoever runs a notebook's cell again.
_classes: dict[tuple[str, str], type[Event]] = {}


@define
class Event:
    """The base of all events. A subclass is a new event; the name of its hook follows from the name of the class.

    An event `BatchLost` is received by methods named `on_batch_lost(self, event)`. Define it with `@define` or
    `@define(kw_only=True)` and emit it with `run.emit(BatchLost(run, ...))`.

    Args:
        run: The run in which it happened. It takes no part in repr and comparison.
    """

    hook: ClassVar[str] = "on_event"
    # The attribute that `count` returns.
    counted: ClassVar[str | None] = None

    run: Run = field(default=cast("Run", None), repr=False, eq=False)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        name, module = cls.__name__, cls.__module__
        if module != __name__ and ((name, __name__) in _classes or name == "Event"):
            raise TypeError(f"{module}.{name} must not have the name of an event of the library")
        cls.hook = "on_" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
        _classes.pop((name, module), None)
        _classes[name, module] = cls

    @property
    def count(self) -> int | None:
        """The number that `every` and `at` of a listener look at, from 1; None counts the emitted events instead."""
        return None if self.counted is None else getattr(self, self.counted)


@define
class EpochEvent(Event):
    """The base of the events that belong to an epoch.

    Args:
        epoch: The epoch's number, from 1.
    """

    counted: ClassVar[str | None] = "epoch"

    epoch: int = 0


@define
class StepEvent(EpochEvent):
    """The base of the events that have a place among the steps.

    Args:
        step: The step's number, from 1, counted through the whole run; of an evaluation, the steps done before it.
    """

    counted: ClassVar[str | None] = "step"

    step: int = 0


@define
class FitStart(Event):
    """A fit begins; nothing has been trained in it yet."""


@define
class EpochStart(EpochEvent):
    """An epoch begins; the pass over its data has not begun yet."""


@define
class StepStart(StepEvent):
    """The step function is about to be called.

    Args:
        batch: The argument of the step function.
    """

    batch: Any = None


@define
class StepEnd(StepEvent):
    """The step function has returned.

    Args:
        output: What the step function returned; tensors are detached. Nothing is converted until it is asked for.
    """

    output: Any = None

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of this step as floats; reading them waits for a tensor's device."""
        return to_metrics(self.output)

    @property
    def loss(self) -> float:
        """The metric "loss" of this step.

        Raises:
            KeyError: If the step function returned none.
        """
        metrics = self.metrics
        if "loss" not in metrics:
            raise KeyError(f"step {self.step} returned no 'loss' but {', '.join(metrics) or 'nothing'}")
        return metrics["loss"]

    @property
    def updated(self) -> bool:
        """Whether the step performed an update, as it did unless its StepResult says otherwise."""
        return type(self.output) is not StepResult or self.output.updated


@define
class EvaluateStart(StepEvent):
    """An evaluation begins, at an epoch's end or within it.

    Args:
        within_epoch: Whether it is one that is due after a number of steps, as `Trainer(evaluate_every="500 steps")`
            asks for, or that somebody has asked for.
        asked: Whether somebody has asked for it, by a command: it changes nothing in the training.
    """

    within_epoch: bool = False
    asked: bool = False

    @property
    def count(self) -> int | None:
        return self.step if self.within_epoch else self.epoch


@define
class EvaluateEnd(StepEvent):
    """An evaluation is done.

    Callbacks that follow its metrics act on them once: here if it is one within an epoch, which is then the last of
    `run.history.evaluations`; otherwise at EpochEnd, whose metrics contain them.

    Args:
        metrics: What it found, under the names that are recorded.
        within_epoch: Whether it is one that is due after a number of steps, or that somebody has asked for.
        asked: Whether somebody has asked for it, by a command: callbacks that follow its metrics do not act on it.
    """

    metrics: Mapping[str, float] = field(factory=dict)
    within_epoch: bool = False
    asked: bool = False

    @property
    def count(self) -> int | None:
        return self.step if self.within_epoch else self.epoch


@define
class EpochEnd(EpochEvent):
    """The metrics of an epoch are final. Here callbacks change the run: schedules advance, early stopping decides.

    Args:
        metrics: The mean of every metric of the steps, and the metrics of the evaluation.
        lr: The rates that the epoch's last update used, one per group.
    """

    metrics: Mapping[str, float] = field(factory=dict)
    lr: tuple[float, ...] = ()


@define(kw_only=True)
class EpochReport(Event):
    """All that callbacks do on EpochEnd is done. Here they show and save.

    Args:
        record: The epoch, as in the history.
    """

    counted: ClassVar[str | None] = "epoch"

    record: EpochRecord = field(default=cast("EpochRecord", None))

    @property
    def epoch(self) -> int:
        """The epoch's number, from 1."""
        return self.record.epoch


@define
class Saved(StepEvent):
    """A checkpoint is durable: its file is whole and forced to the disk. One that failed is not announced.

    It is emitted in the thread that trains, at a safe point, also for a file that another thread has written; and
    before FitEnd, but for a checkpoint that was asked for at FitEnd itself.

    Args:
        file: The checkpoint. `epoch` and `step` are those that it was taken at.
    """

    file: Path = field(default=cast("Path", None))


@define
class CommandAnswered(StepEvent):
    """A command has been carried out, or refused. `Run.command` and `lucid-train control` give commands.

    It is emitted in the thread that trains, at a safe point, on all processes. Of "save" and "set" it comes after the
    checkpoint, or while that is written in the background; of "evaluate" after EvaluateEnd.

    Args:
        command: What was asked for, such as "set lr=0.0001".
        done: Whether it was carried out.
        answer: What was done, or why it was not, in words.
        by: Who has asked, or "".
        id: What tells this answer from others', or "".
    """

    command: str = ""
    done: bool = True
    answer: str = ""
    by: str = ""
    id: str = ""


@define(kw_only=True)
class FitError(Event):
    """An exception is leaving the fit.

    Args:
        error: The exception itself.
    """

    error: BaseException = field(default=cast(BaseException, None))


@define(kw_only=True)
class FitEnd(Event):
    """The fit is over, also after an exception. Every callback that got FitStart gets it once, the last one first.

    Args:
        status: "completed", "stopped", "interrupted" by Ctrl-C or another signal, or "failed".
        reason: Why the run did not complete, or None.
        history: All epochs so far.
    """

    status: Status = "completed"
    reason: str | None = None
    history: History = field(default=cast("History", None))


# These are never emitted.
BASES = (Event, EpochEvent, StepEvent)


def event_classes() -> list[type[Event]]:
    """Return the classes of all events: the library's in the order of a fit, then yours in the order of definition."""
    return [cls for cls in _classes.values() if cls not in BASES]


def find_event_class(name: str, module: object = None) -> type[Event] | None:
    """Return the event class of a name: that of the module if there is one, else the latest; None if none is defined.

    Args:
        name: The class's `__name__`.
        module: The class's `__module__`. It is a preference, as a program may be another one when its run is replayed.
    """
    found = [cls for cls in event_classes() if cls.__name__ == name]
    return next((cls for cls in found if cls.__module__ == module), found[-1] if found else None)


def hook_names() -> frozenset[str]:
    """Return the names of the hooks of all events that are defined so far."""
    return frozenset(cls.hook for cls in event_classes())
