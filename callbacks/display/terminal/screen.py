"""A terminal with lines that stay and, below them, a few that move."""

from __future__ import annotations

import math
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from time import monotonic

from rich.ansi import AnsiDecoder
from rich.console import Console, ConsoleRenderable, Group, RenderableType
from rich.errors import LiveError
from rich.live import Live
from rich.text import Text

from lucid_train.callbacks.display.outputs import broken_pipe_as_error
from lucid_train.callbacks.display.terminal.forks import held_while_forking
from lucid_train.callbacks.display.terminal.prompts import stepping_aside, tidy_at_sigterm
from lucid_train.callbacks.display.terminal.streams import Stream, redirected
from lucid_train.callbacks.display.theme import stack
from lucid_train.callbacks.display.ticker import Ticker

# Seconds after an answer at a prompt until the lines that move come back.
_PAUSE_AFTER_INPUT = 0.3
# Steps after which somebody in a debugger must have let the run go on.
_STEPS_AFTER_BREAKPOINT = 2


class Screen:
    """Shows lines that stay and below them `moving`, drawn at most once per interval.

    What others print meanwhile goes above `moving` too, whole and in order.

    Args:
        console: The console.
        moving: What is drawn below.
        interval: Seconds between two drawings.
        steps: Returns how many steps the run has done, which tells that a debugger has let it go on.
    """

    def __init__(self, console: Console, moving: RenderableType, interval: float, steps: Callable[[], int]) -> None:
        self.error: Exception | None = None
        self.console = console
        self._moving: RenderableType = moving
        self._interval = interval
        self._steps = steps
        self.lock = threading.RLock()
        self._lines: deque[Text] = deque()
        self._drawn = -math.inf
        self._live: Live | None = None
        self._streams: list[Stream] = []
        self._decoder = AnsiDecoder()
        # Twice as often as it draws, so that a tick that comes a little early does not cost a whole interval.
        self._ticker = Ticker(interval / 2, self._tick)
        self._borrowed = ExitStack()
        # While aside: the step at which it stepped aside, and when it comes back in any case.
        self._aside: tuple[int, float] | None = None
        self._asking = 0

    @property
    def unfinished(self) -> str:
        """What others printed without a newline so far."""
        return next((stream.unfinished for stream in self._streams if stream.unfinished), "")

    @property
    def up(self) -> bool:
        """Whether the lines that move are on the screen."""
        return self._live is not None

    def open(self) -> None:
        """Take the screen, or as much of it as can be had."""
        self._start_live()
        if self._live is not None:
            self._streams = self._borrowed.enter_context(redirected(self.console, self))
            self._borrowed.enter_context(held_while_forking(self.lock))
            self._borrowed.enter_context(stepping_aside(self._step_aside, self._ask, self._answered))
            self._borrowed.enter_context(tidy_at_sigterm(self.close))
        self._ticker.start()

    def put(self, lines: Sequence[Text]) -> None:
        """Add lines that stay: at once if a drawing is due, otherwise they come with the next one."""
        with self.lock:
            self._lines += lines
            self._draw_if_due()

    def say(self, text: str) -> None:
        """Add lines that somebody printed."""
        with self.lock:
            for line in text.split("\n"):
                said = self._decoder.decode_line(line.rstrip("\r"))
                said.no_wrap, said.overflow = True, "ignore"
                self._lines.append(said)
            self._draw_if_due()

    def go_on(self) -> None:
        """Come back, if it is aside and nobody is being asked."""
        with self.lock:
            if self._aside is not None and not self._asking:
                self._aside = None
                self._start_live()

    def close(self, lines: Sequence[Text] = ()) -> None:
        """Add the last lines, and leave the screen and all that was borrowed as they were; nothing is lost."""
        try:
            # It has to end first, and must not be waited for with the lock in hand.
            self._ticker.stop()
        finally:
            try:
                with self.lock:
                    for stream in self._streams:
                        stream.finish()
                    self._lines.extend(lines)
                    self._stop_live()
            finally:
                # Nothing here may hold on to the run.
                self._aside, self._moving, self._steps = None, "", int
                self._borrowed.close()

    def _start_live(self) -> None:
        live = _Live(self._print_lines, lambda: self._moving, self.console)
        try:
            live.start()
        except LiveError:  # rich before 14.1 allows one at a time, and there is one of the user's
            return
        except (OSError, ValueError) as error:  # the first thing it does is to hide the cursor
            self.console.clear_live()
            self.error = error
            return
        self._live = live
        self._draw()

    def _stop_live(self) -> None:
        with self.lock:
            live = self._live
            if self._lines:
                self._draw()
            self._live = None
            if live is not None:
                self._tried(live.stop)
                for stream in self._streams:
                    stream.release()

    def _draw_if_due(self) -> None:
        # Without the ticker nobody would do it later.
        if self._aside is None and (monotonic() - self._drawn >= self._interval or not self._ticker.alive):
            self._draw()

    def _draw(self) -> None:
        self._drawn = monotonic()
        if self._lines:
            # This draws what moves as well: rich does so whenever something is printed.
            self._tried(self._print_lines)
        elif self._live is not None:
            self._tried(self._live.refresh)

    def _print_lines(self) -> None:
        # Without the lock, for rich calls this while it holds one of its own.
        lines = []
        while self._lines:
            lines.append(self._lines.popleft())
        if lines:
            self.console.print(Group(stack(lines)), crop=False)

    def _tried(self, action: Callable[[], object]) -> None:
        try:
            with broken_pipe_as_error():
                action()
        except (OSError, ValueError) as error:  # the terminal is gone, or the file is closed: the training is not
            self.error = self.error or error

    def _tick(self) -> None:
        # Whoever has the lock is drawing.
        if not self.lock.acquire(blocking=False):
            return
        try:
            if self._aside is None:
                self._draw_if_due()
            else:
                step, latest = self._aside
                if monotonic() >= latest or self._steps() - step >= _STEPS_AFTER_BREAKPOINT:
                    self.go_on()
        except Exception as error:  # a picture that cannot be drawn is left out: lines still can
            self.error, self._moving = error, ""
        finally:
            self.lock.release()

    def _step_aside(self) -> None:
        with self.lock:
            self._stop_live()
            self._aside = self._steps(), math.inf

    def _ask(self) -> None:
        with self.lock:
            self._asking += 1
            self._step_aside()

    def _answered(self) -> None:
        with self.lock:
            self._asking -= 1
            # Whoever is stepping through code may be asked again at any time.
            soon = math.inf if sys.gettrace() else monotonic() + _PAUSE_AFTER_INPUT
            self._aside = self._steps(), soon


class _Live(Live):
    """A live display that lets what waits be printed before what somebody prints on the console directly."""

    def __init__(self, before: Callable[[], None], moving: Callable[[], RenderableType], console: Console) -> None:
        super().__init__(
            get_renderable=moving,
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._before = before

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        self._before()
        return super().process_renderables(renderables)
