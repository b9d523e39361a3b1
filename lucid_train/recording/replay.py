"""A recorded run, played to callbacks as if it took place now."""

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
from lucid_train.events import EpochReport, EpochStart, Event, FitEnd, FitError, FitStart, Status, StepEnd, StepStart
from lucid_train.history import History
from lucid_train.recording.lines import LIBRARY_EVENTS, Line, pack_event, read_event, read_log, read_status
from lucid_train.recording.placeholders import RecordedRun
from lucid_train.recording.resume_point import is_gone
from lucid_train.training.dispatch import Dispatcher
from lucid_train.training.run import OpenEpoch
from lucid_train.validation import real_number

_LONGEST_PAUSE = 3600.0
_FASTEST_CLOCK = 1e6


def replay(path: str | os.PathLike[str], callbacks: Iterable[Callback] = (), *, speed: float | None = None) -> History:
    """Play a run that an EventLog recorded to callbacks, and return its history.

    The callbacks hear what they would have heard live, from a run of their own: its epoch, step, rates and history are
    the recorded ones, its model and optimizer stand for those that are gone. A callback that stops the run ends the
    replay. Of steps they hear those that were recorded; a batch is not. If the log just ends, because the process died,
    the run has failed. Every callback that got FitStart gets FitEnd, whatever happens.

    Args:
        path: The log.
        callbacks: Callbacks in the order in which they hear; none to read the history alone.
        speed: How many times faster than the run itself, by the recorded times; by default without any pause. Above 0.

    Raises:
        OSError: If the file cannot be read.
        TypeError: If an argument is of the wrong kind.
        ValueError: If `speed` is out of its range, or the file is no log of a run.
    """
    if speed is not None:
        real_number("speed", speed, above=0)
    player = Player(Path(path), tuple(callbacks), pace=min(speed or 0.0, _FASTEST_CLOCK))
    last: Line | None = None
    try:
        for line in read_log(player.path):
            player.run.limit(line.time)
            if speed is not None and last is not None and player.playing and line.event != "FitStart":
                time.sleep(min(max(0.0, line.time - last.time), _LONGEST_PAUSE) / speed)
            last = line
            if player.stops_before(line):
                break
            player.play(line)
        if last is None:
            raise ValueError(f"'{player.path}' is no log of a run: it holds no whole line")
        player.end()
    except BaseException as error:
        player.fail(error)
        raise
    return player.run.history


class _Listeners(Dispatcher):
    """The callbacks of a replay, some of which may emit themselves what they emitted when it was recorded."""

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        super().__init__(callbacks)
        # By content: how many times a callback here emitted an event more often than the log had it.
        self.balance: Counter[str] = Counter()

    def emit(self, event: Event) -> None:
        content = _content(type(event).__name__, pack_event(event))
        self.balance[content] += 1
        if self.balance[content] > 0:
            super().emit(event)

    def play(self, event: Event) -> None:
        """Let everybody hear an event that was recorded."""
        super().emit(event)

    def play_own(self, event: Event, line: Line) -> None:
        """Let everybody hear an event of the user's own, unless a callback has just emitted it."""
        content = _content(line.event, line.fields)
        self.balance[content] -= 1
        if self.balance[content] < 0:
            super().emit(event)


@define(eq=False)
class Player:
    """Plays the lines of a log, one by one, to callbacks.

    Args:
        path: The log, for errors.
        callbacks: Callbacks in the order in which they hear.
        muted: Follow the run and let nobody hear. It takes effect with the next fit.
        pace: How fast the run's clock goes between two lines.
    """

    path: Path
    callbacks: tuple[Callback, ...]
    muted: bool = False
    pace: float = 0.0
    run: RecordedRun = field(init=False)
    _listeners: _Listeners | None = field(default=None, init=False)
    _failure: BaseException | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.run = RecordedRun(pace=self.pace)

    @property
    def playing(self) -> bool:
        """Whether a fit has begun and not ended."""
        return self._listeners is not None

    def play(self, line: Line) -> None:
        """Play one line.

        Raises:
            ValueError: If it does not fit to the lines before; and whatever a callback raises.
        """
        if line.event == "FitStart" and self.playing:
            self.close("failed", f"the run died {self.place()}, and was resumed later")
        self.run.tick(line.time, anew=line.event == "FitStart")
        try:
            event = self._begun(line) if line.event == "FitStart" else self._taken(line)
        except ValueError as error:
            raise ValueError(f"'{self.path}' is no log of a run: in line {line.number}, {error}") from error
        listeners = self._listeners
        if event is None:
            return
        if listeners is None:
            self._listeners = listeners = _Listeners(() if self.muted else self.callbacks)
            self.run.enter(listeners)
            listeners.open(event)
        elif isinstance(event, FitEnd):
            self._end(event)
        elif isinstance(event, FitError):
            self._failure = listeners.close([event])
        elif isinstance(event, LIBRARY_EVENTS):
            if isinstance(event, StepEnd) and self.run.listeners(StepStart):
                self.run.step -= 1
                listeners.play(StepStart(self.run, epoch=event.epoch, step=event.step))
                self.run.step += 1
            listeners.play(event)
        else:
            listeners.play_own(event, line)

    def stops_before(self, line: Line) -> bool:
        """Return whether a callback has stopped the run, so that this line comes after its end."""
        begins = line.event in ("EpochStart", "StepEnd", "progress")
        return self.playing and self.run.stopping and (begins or line.run.get("step", self.run.step) != self.run.step)

    def end(self) -> None:
        """End what is open where the log ends: the run was stopped here, or it died there."""
        if self.playing and self.run.stopping:
            self.close("stopped", self.run.reason)
        elif self.playing:
            died = is_gone(self.run.writer)
            self.close("failed", f"{'the run died' if died else 'its log ends'} {self.place()}")

    def close(self, status: Status, reason: str | None) -> None:
        """End the fit that is open, if there is one, otherwise than its log does."""
        if self.playing:
            self.run.conclude_recorded(status, reason)
            self._end(FitEnd(self.run, status=status, reason=reason))

    def fail(self, error: BaseException) -> None:
        """End the fit that is open, if there is one, because an exception is leaving the replay."""
        listeners, self._listeners = self._listeners, None
        if listeners is not None:
            self.run.conclude(error)
            run = self.run
            end = FitEnd(run, status=run.status, reason=run.reason, history=run.history)
            listeners.close([FitError(run, error=error), end], error)
            run.leave()

    def place(self) -> str:
        """Return how far the run has come, in words."""
        run = self.run
        if not run.epoch:
            return "before its first epoch"
        return f"after epoch {run.epoch}" if run.open_epoch is None else f"in epoch {run.epoch}, at step {run.step}"

    def _begun(self, line: Line) -> FitStart:
        self.run.take(line.run)
        self.run.begin_recorded(line.fields)
        return FitStart(self.run)

    def _taken(self, line: Line) -> Event | None:
        """Bring the run to where a line says it was, and return the event, if it has one."""
        run = self.run
        if not self.playing:
            raise ValueError(f"{line.event} comes when no fit is running")
        run.take(line.run)
        if line.event == "progress":
            return None
        event = read_event(line, run)
        if isinstance(event, EpochStart):
            run.open_epoch = OpenEpoch(iter(()), run.step)
        elif isinstance(event, EpochReport):
            run.add(event.record)
        elif isinstance(event, FitError):
            run.conclude_recorded(*read_status(line.fields))
        elif isinstance(event, FitEnd):
            event.history = run.history
            if run.stopping and event.status in ("completed", "stopped"):  # a callback of this replay stopped it
                run.conclude()
                event.status, event.reason = run.status, run.reason
            else:
                run.conclude_recorded(event.status, event.reason)
        return event

    def _end(self, event: FitEnd) -> None:
        listeners, self._listeners = self._listeners, None
        failure, self._failure = self._failure, None
        if listeners is not None:
            event.history = self.run.history
            failed_now = listeners.close([event])
            failure = failed_now if failure is None else failure
            self.run.leave()
        if failure is not None:
            self.run.conclude(failure)
            raise failure


def _content(name: str, fields: dict[str, Any]) -> str:
    return f"{name} {json.dumps(fields.get('fields'), sort_keys=True)}"
