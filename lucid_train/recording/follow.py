"""Follow a log that another process is writing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from attrs import define, field

from lucid_train.callback import Callback
from lucid_train.recording.lines import Line, read_log
from lucid_train.recording.replay import Player
from lucid_train.recording.values import is_number
from lucid_train.recording.writer import is_gone
from lucid_train.validation import checked, real_number

POLL_SECONDS = 0.2

# How long after the end of a fit the same run may start another one, which is then followed too.
_SECONDS_TO_NEXT_FIT = 2.0
# A run may have died when no line came for this many of its longest pauses, and for this many seconds or heartbeats.
_PAUSES = 3.0
_SILENCE = 30.0


def new_lines(path: Path, last: Line | None) -> tuple[bool, list[Line]]:
    """Return whether the lines of a log that were read before are gone, and its new lines, which are all lines if so.

    They are gone when the log was cut or replaced, because the run was resumed. A file that does not exist yet has no
    lines.

    Args:
        path: The log.
        last: The last line that was read, or None.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not the log of a run.
    """
    try:
        following = _following(path, last)
        gone = following is None
        return gone, list(read_log(path) if following is None else following)
    except FileNotFoundError:
        return False, []  # renamed a moment ago, or not created yet
    except ValueError:
        if gone or _following(path, last) is not None:
            raise
        return False, []  # it was cut while it was read; the next call notices


def _following(path: Path, last: Line | None) -> Iterator[Line] | None:
    """Return the lines after the last one, or None if that is no longer where it was.

    The file is opened each time: a network file system looks only then for what another machine has written.
    """
    if last is None:
        return read_log(path)
    lines = read_log(path, offset=last.begin, number=last.number - 1)
    with suppress(ValueError):
        if next(lines, None) == last:
            return lines
    return None


@define(eq=False)
class Watch:
    """Replays a run to callbacks while another process writes its log.

    Args:
        path: The log.
        callbacks: Returns the callbacks; called once, and again when the run is resumed from an earlier point.
        say: Called with a sentence for the user about what the log does not record: waiting, silence.
        patience: Seconds without a line after which the run may have died; by default what its pauses suggest. Above 0.
        stay: Continue when the run has ended or died, as it may be resumed.
    """

    path: Path
    callbacks: Callable[[], Iterable[Callback]]
    say: Callable[[str], object]
    patience: float | None = field(default=None, validator=checked(real_number, above=0))
    stay: bool = False
    player: Player = field(init=False)
    _last: Line | None = field(default=None, init=False)
    _starts: set[float] = field(factory=set, init=False)
    _received: float = field(factory=time.monotonic, init=False)
    _pause: float = field(default=0.0, init=False)
    _heartbeat: float = field(default=0.0, init=False)
    _silent: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.player = Player(self.path, tuple(self.callbacks()), pace=1.0)

    def follow(self) -> str:
        """Follow the run to its end and return its status; Ctrl-C ends the watching, not the run.

        Raises:
            KeyboardInterrupt: On Ctrl-C, when the callbacks have received FitEnd.
            OSError: If the file cannot be read.
            ValueError: If it is not the log of a run.
        """
        try:
            self._step()
            if not self._starts:
                folder = self.path.parent
                absent = "" if folder.is_dir() else f", whose folder '{folder}' does not exist yet"
                self.say(f"waiting for a run to begin in '{self.path}'{absent}")
            while not self._step():
                time.sleep(POLL_SECONDS)
            return self.player.run.status
        except KeyboardInterrupt:
            self.player.close("interrupted", "no longer watched; the run itself continues")
            raise
        except BaseException as error:
            self.player.fail(error)
            raise

    def _step(self) -> bool:
        """Replay the new lines; return whether the run is over."""
        # Checked before the log is read, so that the writer's last lines are in it.
        gone = is_gone(self.player.run.writer)
        rewound, lines = new_lines(self.path, self._last)
        if rewound:
            self._last = None
            self.player.close("failed", "the run died")
            self.player = Player(self.path, tuple(self.callbacks()), muted=True, pace=1.0)
        if lines:
            self._play(lines)
            return False
        player, silence = self.player, time.monotonic() - self._received
        if player.playing and gone and self._last is not None:
            player.run.tick(self._last.time, restart=True)  # the time since then is not the run's
            player.close("failed", "the run died, its process is gone")
        if player.playing:
            self._warn_of_silence(silence)
        return bool(self._starts) and not player.playing and not self.stay and (gone or silence > _SECONDS_TO_NEXT_FIT)

    def _play(self, lines: list[Line]) -> None:
        if self._silent:
            self._silent = False
            self.say("the run continues")
        # By this machine's clock, as the writer's may differ. Only a line from before the watching is older than now.
        age = 0.0 if self._starts else max(0.0, time.time() - lines[-1].time)
        for line in lines:
            if line.event == "FitStart":
                self.player.muted &= line.time in self._starts
                self._starts.add(line.time)
                beat = line.fields.get("heartbeat")
                self._heartbeat, self._pause = float(beat) if is_number(beat) else 0.0, 0.0
            elif self._last is not None:
                self._pause = max(self._pause, line.time - self._last.time)
            self._last = line
            self.player.play(line)
        self._received = time.monotonic() - age

    def _warn_of_silence(self, silence: float) -> None:
        known = self._pause or self._heartbeat  # of how long its pauses are
        limit = max(_SILENCE, _PAUSES * self._pause, _SILENCE * self._heartbeat) if known else math.inf
        if silence > (limit if self.patience is None else self.patience) and not self._silent:
            self._silent = True
            longest = f"its longest pause so far was {self._pause:.0f} s"
            self.say(f"no line from the run for {silence:.0f} s, {longest}: it may have died")
