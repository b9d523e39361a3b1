"""A recorded run, replayed to callbacks as if it took place now."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import define, field

from lucid_train.callback import Callback
from lucid_train.events import EpochStart, EvaluateEnd, Event, FitEnd, FitError, FitStart, Status, StepEnd, StepStart
from lucid_train.history import History
from lucid_train.recording.digests import read_digests
from lucid_train.recording.lines import LIBRARY_EVENTS, Line, not_a_log, pack_event, read_event, read_log
from lucid_train.recording.placeholders import RecordedRun
from lucid_train.recording.writer import is_gone
from lucid_train.training.dispatch import Dispatcher
from lucid_train.training.fit import Fit
from lucid_train.validation import real_number

_LONGEST_PAUSE = 3600.0


def replay(path: str | os.PathLike[str], callbacks: Iterable[Callback] = (), *, speed: float | None = None) -> History:
    """Replay a run that an EventLog recorded to callbacks, and return its history.

    The callbacks receive the events that they would have received live. `event.run` has the recorded epoch, step, rates
    and history, and placeholders for the model and the optimizer. Steps are replayed if they were recorded, without
    their batches. A callback that stops the run ends the replay. If the log ends without FitEnd, because the process
    died, the run has failed. Every callback that got FitStart gets FitEnd, also after an exception.

    Args:
        path: The log.
        callbacks: Callbacks in the order in which they run; none to read the history alone.
        speed: How many times faster than the run itself, by the recorded times; by default without any pause. Above 0.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the file is not the log of a run.
    """
    if speed is not None:
        real_number("speed", speed, above=0)
    return play(Player(Path(path), tuple(callbacks), pace=speed or 0.0), speed)


def play(player: Player, speed: float | None = None) -> History:
    """Replay the whole log of a player, as `replay` does."""
    line = None
    try:
        for line in read_log(player.path):
            player.run.limit(line.time)
            if speed is not None and player.playing and line.event != "FitStart":
                time.sleep(min(max(0.0, line.time - player.run.clock()), _LONGEST_PAUSE) / speed)
            if player.stops_before(line):
                break
            player.play(line)
        if line is None:
            raise not_a_log(player.path, "it has no complete line")
        player.end()
    except BaseException as error:
        player.fail(error)
        raise
    return player.run.history


@define(eq=False)
class _Listeners(Dispatcher):
    """The callbacks of a replay. What they emit themselves, as they did when it was recorded, is not emitted twice."""

    # For each event by content: how often it was emitted here, less how often the log had it.
    balance: Counter[str] = field(factory=Counter, init=False)

    def emit(self, event: Event) -> None:
        content = _content(type(event).__name__, pack_event(event))
        self.balance[content] += 1
        if self.balance[content] > 0:
            super().emit(event)

    def play(self, event: Event) -> None:
        """Emit an event of the log."""
        super().emit(event)

    def play_own(self, event: Event, line: Line) -> None:
        """Emit a user's own event of the log, unless a callback here has just emitted it."""
        content = _content(line.event, line.fields)
        self.balance[content] -= 1
        if self.balance[content] < 0:
            super().emit(event)


@define(eq=False)
class Player:
    """Replays a log to callbacks, line by line.

    Args:
        path: The log, for errors.
        callbacks: Callbacks in the order in which they run.
        muted: Follow the run without calling any callback. It takes effect with the next fit.
        pace: How fast the run's clock runs between two lines.
        unended: The status, and the reason for it, of a run whose log ends without FitEnd while its process, as far as
            is known, may live.
    """

    path: Path
    callbacks: tuple[Callback, ...]
    muted: bool = False
    pace: float = 0.0
    unended: tuple[Status, str] = ("failed", "its log ends")
    run: RecordedRun = field(init=False)
    _listeners: _Listeners | None = field(default=None, init=False)
    _fit: Fit | None = field(default=None, init=False)
    # What the log says has ended the fit, for the callbacks to receive when it is closed.
    _errors: list[Event] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.run = RecordedRun(pace=self.pace)

    @property
    def playing(self) -> bool:
        """Whether a fit has begun and not ended."""
        return self._listeners is not None

    def play(self, line: Line) -> None:
        """Replay one line.

        Raises:
            ValueError: If it does not fit the lines before it; and any exception of a callback.
        """
        if line.event == "FitStart" and self.playing:
            self.close("failed", "the run died, and was resumed later")
        self.run.tick(line.time, restart=line.event == "FitStart")
        try:
            event = self._begun(line) if line.event == "FitStart" else self._taken(line)
        except ValueError as error:
            raise not_a_log(self.path, f"in line {line.number}, {error}") from error
        listeners = self._listeners
        if event is None:
            return
        if listeners is None:
            self._listeners = listeners = _Listeners(() if self.muted else self.callbacks)
            self._fit = Fit(listeners, None, self.run).__enter__()
            listeners.open(event)
        elif isinstance(event, FitEnd):
            self.close(event.status, event.reason)
        elif isinstance(event, FitError):
            self._errors = [event]
        elif line.event in LIBRARY_EVENTS:
            if isinstance(event, StepEnd) and self.run.listeners(StepStart):
                self.run.move(-1)
                listeners.play(StepStart(self.run, epoch=event.epoch, step=event.step))
                self.run.move(1)
            listeners.play(event)
        else:
            listeners.play_own(event, line)

    def stops_before(self, line: Line) -> bool:
        """Return whether a callback has stopped the run and this line is beyond its end."""
        begins = line.event in ("EpochStart", "StepEnd", "progress")
        return self.playing and self.run.stopping and (begins or line.run.get("step", self.run.step) != self.run.step)

    def end(self) -> None:
        """End an open fit where the log ends: a callback of the replay has stopped it, or the run died there."""
        if self.playing and self.run.stopping:
            self.close("stopped", self.run.reason)
        elif self.playing:
            self.close(*(("failed", "the run died") if is_gone(self.run.writer) else self.unended))

    def close(self, status: Status, reason: str | None) -> None:
        """End the open fit, if there is one; with this status, unless a callback of the replay has stopped it."""
        run, fit, errors = self.run, self._fit, self._errors
        self._fit, self._listeners, self._errors = None, None, []
        if fit is None:
            return
        if run.stopping and status in ("completed", "stopped"):
            fit.conclude()
        else:
            fit.set_status(status, reason)
        end = FitEnd(run, status=run.status, reason=run.reason, history=run.history)
        failure = fit.dispatcher.close([*errors, end])
        fit.leave()
        if failure is not None:
            fit.conclude(failure)
            raise failure

    def fail(self, error: BaseException) -> None:
        """End the open fit, if there is one, because an exception is leaving the replay."""
        fit, self._fit, self._listeners = self._fit, None, None
        if fit is not None:
            fit.close(error)
            fit.leave()

    def _begun(self, line: Line) -> FitStart:
        self.run.take(line.run)
        self.run.begin_recorded(line.fields)
        return FitStart(self.run)

    def _taken(self, line: Line) -> Event | None:
        """Bring the run to where it was at a line, and return the line's event, if it has one."""
        run = self.run
        if not self.playing:
            raise ValueError(f"{line.event} comes while no fit is running")
        run.take(line.run)
        if line.event == "digests":
            read_digests(line.fields)
        if line.event in ("digests", "progress"):
            return None
        event = read_event(line, run)
        if isinstance(event, EpochStart):
            run.open_epoch()
        if isinstance(event, EvaluateEnd) and event.within_epoch and not run.history.evaluations:
            raise ValueError("an evaluation within an epoch ends, of which there is no record")
        return event


def _content(name: str, fields: dict[str, Any]) -> str:
    return f"{name} {json.dumps(fields.get('fields'), sort_keys=True)}"
