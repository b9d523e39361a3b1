"""Following a log that another process is writing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from attrs import define, field

from lucid_train.callback import Callback
from lucid_train.recording.lines import Line, read_log
from lucid_train.recording.replay import Player
from lucid_train.recording.values import is_number
from lucid_train.recording.writer import is_gone

POLL_SECONDS = 0.2

# After the end of a fit, how long the same run is given to begin another one.
_GRACE = 2.0
# A run that has said nothing for longer than this many of its longest pauses, and than these seconds, may have died.
_PAUSES = 3.0
_SILENCE = 30.0


@define(eq=False)
class Follower:
    """Reads what is added to a log, and notices when it was cut or replaced because the run is resumed."""

    path: Path
    _offset: int = field(default=0, init=False)
    _number: int = field(default=0, init=False)
    _last: bytes = field(default=b"", init=False)

    def poll(self) -> tuple[bool, list[Line]]:
        """Return whether what was read before is gone, and the new lines: all there are, if it is.

        A file that is not there yet has no lines.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is no log of a run.
        """
        try:
            gone = not self._intact()
            if gone:
                self._offset, self._number = 0, 0
            lines = list(read_log(self.path, offset=self._offset, number=self._number))
            if lines:
                begin = lines[-2].end if len(lines) > 1 else self._offset
                self._offset, self._number = lines[-1].end, lines[-1].number
                self._last = self._read(begin, self._offset)
            elif gone:
                self._last = b""
            return gone, lines
        except FileNotFoundError:
            return False, []  # moved aside a moment ago, or not begun
        except ValueError:
            if self._intact():
                raise
            return False, []  # it was being cut while it was read; the next poll finds out

    def _intact(self) -> bool:
        return not self._last or self._read(self._offset - len(self._last), self._offset) == self._last

    def _read(self, begin: int, end: int) -> bytes:
        # Opened anew each time: that is when a network file system looks for what another machine wrote.
        with open(self.path, "rb") as file:
            file.seek(begin)
            return file.read(end - begin)


@define(eq=False)
class Watch:
    """Plays a run to callbacks while another process writes its log.

    Args:
        path: The log.
        callbacks: Returns callbacks; asked once, and again when the run is resumed from an earlier point.
        say: Hears in one sentence what the log itself does not tell.
        patience: Seconds without a word after which the run may have died; by default what its pauses suggest.
        stay: Go on when the run has ended or died, for it may be resumed.
    """

    path: Path
    callbacks: Callable[[], Iterable[Callback]]
    say: Callable[[str], object]
    patience: float | None = None
    stay: bool = False
    player: Player = field(init=False)
    _follower: Follower = field(init=False)
    _starts: set[float] = field(factory=set, init=False)
    _heard: float = field(default=0.0, init=False)
    _last: float = field(default=math.nan, init=False)
    _pause: float = field(default=0.0, init=False)
    _heartbeat: float | None = field(default=None, init=False)
    _silent: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.player = Player(self.path, tuple(self.callbacks()), pace=1.0)
        self._follower = Follower(self.path)
        self._heard = time.monotonic()

    def follow(self) -> str:
        """Follow the run to its end and return its status; on Ctrl-C let go of it, and raise KeyboardInterrupt.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is no log of a run.
        """
        try:
            waiting = False
            while not self._step():
                if not waiting and not self._starts:
                    waiting = True
                    self.say(f"waiting for a run to begin in '{self.path}'")
                time.sleep(POLL_SECONDS)
            return self.player.run.status
        except KeyboardInterrupt:
            self.player.close("interrupted", "no longer watched; the run itself goes on")
            raise
        except BaseException as error:
            self.player.fail(error)
            raise

    def _step(self) -> bool:
        """Play what is new; return whether the run is over."""
        player = self.player
        # Asked before the log is read: what the writer wrote last is in it then.
        gone = is_gone(player.run.writer)
        rewound, lines = self._follower.poll()
        if rewound:
            player.close("failed", f"the run died {player.place()}")
            player = self.player = Player(self.path, tuple(self.callbacks()), muted=True, pace=1.0)
        aged = not self._starts
        for line in lines:
            self._take_note(line, aged)
            player.play(line)
        if lines:
            return False
        silence = time.monotonic() - self._heard
        if player.playing and gone:
            player.run.tick(self._last, restart=True)  # the time since then is not the run's
            player.close("failed", f"the run died {player.place()}: its process is gone")
        if player.playing:
            self._complain(silence)
        return bool(self._starts) and not player.playing and not self.stay and (gone or silence > _GRACE)

    def _take_note(self, line: Line, aged: bool) -> None:
        if line.event == "FitStart":
            if line.time not in self._starts:
                self.player.muted = False
            self._starts.add(line.time)
            beat = line.fields.get("heartbeat")
            self._heartbeat, self._pause = None if beat is None or not is_number(beat) else float(beat), 0.0
        elif line.time > self._last:
            self._pause = max(self._pause, line.time - self._last)
        self._last = line.time
        # By this machine's clock, as the writer's may be another's; only what was there before has its age to tell.
        self._heard = time.monotonic() - (max(0.0, time.time() - line.time) if aged else 0.0)
        if self._silent:
            self._silent = False
            self.say("the run goes on")

    def _complain(self, silence: float) -> None:
        if self.patience is not None:
            limit = self.patience
        elif self._pause == 0 and self._heartbeat is None:
            return  # nothing is known yet of how long it takes
        else:
            limit = max(_SILENCE, _PAUSES * self._pause, _SILENCE * (self._heartbeat or 0))
        if silence > limit and not self._silent:
            self._silent = True
            self.say(
                f"no word of the run for {silence:.0f} s, its longest pause before was {self._pause:.0f} s: "
                "it may have died"
            )
