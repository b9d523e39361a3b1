"""What stands for a run that has taken place: nothing of it can be trained, all of it can be shown."""

from __future__ import annotations

import math
from time import monotonic
from typing import Any

import numpy as np
from attrs import define, field

from lucid_train.callback import Callback, Scheduled
from lucid_train.events import Status
from lucid_train.history import EpochRecord
from lucid_train.monitor import Mode
from lucid_train.recording.lines import read_record
from lucid_train.recording.values import read_count, read_rates
from lucid_train.training.dispatch import Dispatcher
from lucid_train.training.run import OpenEpoch, Run


class RecordedCallback(Callback):
    """Stands for a callback of a recorded run: a class of its own by the same name, with the same repr."""

    text = ""

    def __repr__(self) -> str:
        return self.text


class RecordedSchedule(RecordedCallback):
    """Stands for a callback that advanced a schedule, of which no more is known."""

    def schedules(self) -> tuple[Scheduled, ...]:
        return (Scheduled(),)


class RecordedModel:
    """Stands for a model: its parameters are as many, and hold nothing."""

    size: int | None = None

    def parameters(self) -> list[Any]:
        """Return one array of the right size, which takes no memory.

        Raises:
            TypeError: If the size is not known.
        """
        if self.size is None:
            raise TypeError("how many parameters the model had was not recorded")
        return [np.broadcast_to(np.int8(0), (self.size,))]


def recorded_callback(packed: Any) -> Callback:
    """Return what stands for a callback, as a log has it.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(packed, dict):
        raise ValueError("a callback is no object")
    base = RecordedSchedule if packed.get("schedule") is True else RecordedCallback
    stand_in: Callback = _named(packed.get("name"), base, text=str(packed.get("repr")))
    return stand_in


def recorded_model(packed: Any) -> RecordedModel:
    """Return what stands for a model, as a log has it.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(packed, dict):
        raise ValueError("the model is no object")
    size = packed.get("parameters")
    stand_in: RecordedModel = _named(packed.get("name"), RecordedModel, size=None if size is None else read_count(size))
    return stand_in


def recorded_judgement(packed: Any) -> tuple[str, Mode] | None:
    """Return the metric that a run was judged by and its mode, as a log has them.

    Raises:
        ValueError: If they are none.
    """
    match packed:
        case None:
            return None
        case [str(monitor), "min" | "max" as mode] if monitor:
            return monitor, mode
    raise ValueError("what it was judged by is not a metric and its mode")


def _named(name: Any, base: type, **attributes: Any) -> Any:
    if not isinstance(name, str) or not name.isprintable() or len(name) > 100:
        raise ValueError(f"{str(name)[:100]!r} is no name of a class")
    return type(name, (base,), attributes)()


@define(eq=False)
class RecordedOptimizer:
    """Stands for the optimizer of a recorded run."""

    param_groups: list[dict[str, Any]] = field(factory=list)


@define(eq=False)
class RecordedRun(Run):
    """A run that has taken place; what it was, the lines of its log say.

    Args:
        pace: How fast its clock goes between two lines: 1 is as fast as time does, 0 stands still.

    Attributes:
        callbacks: What stands for its callbacks, in list order.
        writer: The process that recorded it.
        judged_by: The metric whose best value was marked and its mode, or None if nobody had chosen one.
    """

    pace: float = 0.0
    _recorded: tuple[Callback, ...] = field(default=(), init=False)
    writer: Any = field(default=None, init=False)
    judged_by: tuple[str, Mode] | None = field(default=None, init=False)
    _rates: tuple[float, ...] = field(default=(), init=False)
    _time: float = field(default=0.0, init=False)
    _since: float = field(factory=monotonic, init=False)
    _latest: float = field(default=math.inf, init=False)

    @property
    def callbacks(self) -> tuple[Callback, ...]:
        """What stands for the callbacks of the run that was recorded."""
        return self._recorded

    def clock(self) -> float:
        return max(self._time, min(self._latest, self._time + (monotonic() - self._since) * self.pace))

    def limit(self, time: float) -> None:
        """Let the clock go no further than a recorded time: what playing takes is no time of the run's."""
        self._latest = time

    def tick(self, time: float, *, anew: bool = False) -> None:
        """Let the clock go on to a recorded time. It never goes back, unless it begins anew."""
        self._time, self._since = time if anew else max(time, self.clock()), monotonic()

    def begin_recorded(self, fields: dict[str, Any]) -> None:
        """Take over what a FitStart line says.

        Raises:
            ValueError: If it does not say what it should.
        """
        packed = fields.get("history", [])
        if not isinstance(packed, list):
            raise ValueError("its history is no list")
        for record in packed:
            self.add(read_record(record))
        callbacks, model, step = fields.get("callbacks"), fields.get("model"), fields.get("open_step")
        if not isinstance(callbacks, list):
            raise ValueError("its callbacks are no list")
        self._recorded = tuple(map(recorded_callback, callbacks))
        self.judged_by = recorded_judgement(fields.get("judged_by"))
        self.writer = fields.get("writer")
        self.model = None if model is None else recorded_model(model)
        self.open_epoch = None if step is None else OpenEpoch(iter(()), self.step - read_count(step))

    def take(self, changes: dict[str, Any]) -> None:
        """Take over what a line says has changed.

        Raises:
            ValueError: If it is not what a run has.
        """
        for name, value in changes.items():
            if name in ("epochs", "evaluate_every", "epoch", "step"):
                setattr(self, name, read_count(value, least=name == "evaluate_every"))
            elif name == "steps_per_epoch":
                self.steps_per_epoch = None if value is None else read_count(value)
            elif name == "reason" and isinstance(value, str | None):
                if not self.stopping:  # by a callback of the replay, for a reason of its own
                    self.reason = value
            elif name == "last_lr":
                self._rates = read_rates(value)
        # The recorded rates hold, whatever a replayed schedule has written.
        self.optimizer = RecordedOptimizer([{"lr": rate} for rate in self._rates]) if self._rates else None

    def add(self, record: EpochRecord) -> None:
        """Take over a finished epoch.

        Raises:
            ValueError: If it is not the next one.
        """
        if record.epoch != len(self.history) + 1:
            raise ValueError(f"epoch {record.epoch} comes after {len(self.history)} epochs")
        self.history.append(record)
        self.open_epoch = None

    def enter(self, dispatcher: Dispatcher) -> None:
        """Begin a fit, or go on with one, for the callbacks of a dispatcher."""
        self._dispatcher = dispatcher
        self.stopping = False
        self.conclude_recorded("running", None)

    def conclude_recorded(self, status: Status, reason: str | None) -> None:
        """Settle how the fit ended."""
        self.status = self.history.status = status
        self.reason = self.history.reason = reason
