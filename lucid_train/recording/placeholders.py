"""Placeholders for the objects of a recorded run: they can be shown, not trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic
from types import SimpleNamespace
from typing import Any

import numpy as np
from attrs import define, field

from lucid_train.callback import Callback, Scheduled
from lucid_train.history import EpochRecord
from lucid_train.monitor import Monitor
from lucid_train.recording.lines import ADDED_FIELDS, RUN_FIELDS, read_fields
from lucid_train.recording.values import read_count, read_json
from lucid_train.training.run import Run


@define(eq=False, repr=False)
class RecordedCallback(Callback):
    """Placeholder for a callback, with its name and repr, what it schedules in words, and how it describes itself."""

    __name__: str
    text: str
    scheduled: tuple[Scheduled, ...]
    described: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return self.text

    def schedules(self) -> tuple[Scheduled, ...]:
        return self.scheduled

    def describe(self) -> dict[str, str]:
        return dict(self.described)


@define(eq=False)
class RecordedModel:
    """Placeholder for a model: it has its name and as many parameters, without values."""

    __name__: str
    size: int | None

    def parameters(self) -> list[Any]:
        """Return one array of the right size, which takes no memory.

        Raises:
            TypeError: If the size is not known.
        """
        if self.size is None:
            raise TypeError("how many parameters the model had was not recorded")
        return [np.broadcast_to(np.int8(0), (self.size,))]


def read_callback(packed: Any) -> Callback:
    """Return the placeholder for a recorded callback.

    Raises:
        ValueError: If its description is not one.
    """
    entry = read_json("callback", packed, dict)
    schedule = read_json("schedule", entry.get("schedule", {}), dict)
    scheduled = tuple(Scheduled(text=str(text), key=key) for key, text in schedule.items())
    described = read_json("described", entry.get("described", {}), dict).items()
    texts = tuple((label, str(text)) for label, text in described)
    return RecordedCallback(str(entry.get("name")), str(entry.get("repr")), scheduled, texts)


def read_model(packed: Any) -> RecordedModel | None:
    """Return the placeholder for a recorded model, or None if the run had none.

    Raises:
        ValueError: If its description is not one.
    """
    if packed is None:
        return None
    entry = read_json("model", packed, dict)
    size = entry.get("parameters")
    return RecordedModel(str(entry.get("name")), None if size is None else read_count("parameters", size))


def read_monitor(packed: Any) -> Monitor | None:
    """Return the metric by which a recorded run compared epochs, or None if none had been chosen.

    Raises:
        ValueError: If it is not a metric and its mode.
    """
    match packed:
        case None:
            return None
        case [str(name), "min" | "max" as mode] if name:
            return Monitor(name, mode)
    raise ValueError(f"'monitored' must be a metric and its mode: {packed!r:.80}")


def read_processes(packed: Any) -> tuple[int, str]:
    """Return how many processes trained a recorded run, and what connected them.

    Raises:
        ValueError: If it is not a number and a name.
    """
    match packed:
        case None:
            return 1, "one process"
        case [int(), str(name)]:
            return read_count("processes", packed[0]), name
    raise ValueError(f"'processes' must be a number and a name: {packed!r:.80}")


@define(eq=False)
class RecordedRun(Run):
    """A run that has taken place, as the lines of its log tell it.

    Args:
        pace: How fast its clock runs between two lines: 1 is real time, 0 stands still.

    Attributes:
        callbacks: Placeholders for its callbacks, in list order.
        writer: The process that recorded it.
    """

    pace: float = 0.0
    _recorded: tuple[Callback, ...] = field(default=(), init=False)
    writer: Any = field(default=None, init=False)
    _monitored: Monitor | None = field(default=None, init=False)
    _optimizer: str = field(default="optimizer", init=False)
    _processes: tuple[int, str] = field(default=(1, "one process"), init=False)
    _rates: tuple[float, ...] = field(default=(), init=False)
    _scheduled: dict[str, tuple[float, ...]] = field(factory=dict, init=False)
    _time: float = field(default=0.0, init=False)
    _since: float = field(factory=monotonic, init=False)
    _latest: float = field(default=math.inf, init=False)

    @property
    def callbacks(self) -> tuple[Callback, ...]:
        """Placeholders for the callbacks of the recorded run."""
        return self._recorded

    @property
    def monitored(self) -> Monitor | None:
        return self._monitored

    @property
    def world_size(self) -> int:
        return self._processes[0]

    @property
    def connection(self) -> str:
        return self._processes[1]

    def held_scheduled(self, read: Callable[[Any, str], list[Any]]) -> dict[str, list[Any]]:
        return {name: list(values) for name, values in self._scheduled.items()}

    def clock(self) -> float:
        return max(self._time, min(self._latest, self._time + (monotonic() - self._since) * self.pace))

    def limit(self, time: float) -> None:
        """Let the clock go no further than a recorded time: the time that playing takes is not the run's."""
        self._latest = time

    def tick(self, time: float, *, restart: bool = False) -> None:
        """Move the clock on to a recorded time. It never goes back, unless it is restarted."""
        self._time, self._since = time if restart else max(time, self.clock()), monotonic()

    def begin_recorded(self, fields: dict[str, Any]) -> None:
        """Take over what a FitStart line says.

        Raises:
            ValueError: If something in it is of the wrong kind.
        """
        self._recorded = tuple(map(read_callback, read_json("callbacks", fields.get("callbacks"), list)))
        self._monitored = read_monitor(fields.get("monitored"))
        self.writer = fields.get("writer")
        self._processes = read_processes(fields.get("processes"))
        self._optimizer = str(fields.get("optimizer", self._optimizer))
        self.model: Any = read_model(fields.get("model"))
        self._progress.phase = "between"
        if (step := fields.get("open_step")) is not None:
            self.open_epoch(read_count("open_step", step))

    def take(self, changes: dict[str, Any]) -> None:
        """Take over what a line says has changed.

        Raises:
            ValueError: If a value is of the wrong kind.
        """
        for name, value in read_fields(changes.keys() & {*RUN_FIELDS, *ADDED_FIELDS}, changes).items():
            if name == "last_lr":
                self._rates = value
            elif name == "scheduled":
                self._scheduled = value
            elif name == "history":
                for record in value:
                    self._add(record)
            elif name == "evaluations":
                self.history.evaluations += value
            elif name in ("epoch", "step", "steps_per_epoch"):
                setattr(self._progress, name, value)
            elif name != "reason" or not self.stopping:  # a callback of the replay may have stopped it for its own
                setattr(self, name, value)
        # The recorded rates hold, not those that a callback of the replay has written.
        groups = [{"lr": rate} for rate in self._rates]
        self.optimizer: Any = SimpleNamespace(param_groups=groups, __name__=self._optimizer) if groups else None

    def _add(self, record: EpochRecord) -> None:
        if record.epoch != len(self.history) + 1:
            raise ValueError(f"epoch {record.epoch} comes after {len(self.history)} epochs")
        self._progress.close_epoch(record)

    def open_epoch(self, steps_done: int = 0) -> None:
        """Open the current epoch, of which some steps may be done."""
        self._progress.open_epoch()
        self._progress.first_step -= steps_done

    def move(self, steps: int) -> None:
        """Change the number of steps done."""
        self._progress.step += steps

    @property
    def stopping(self) -> bool:
        """Whether a callback of the replay has stopped the run."""
        return self._fit is not None and self._fit.stopping
