"""Screen: a terminal with lines that stay and, below them, a few that move."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from time import monotonic

from rich.ansi import AnsiDecoder
from rich.console import Console, ConsoleRenderable, RenderableType
from rich.errors import LiveError
from rich.live import Live
from rich.text import Text

from lucid_train.callbacks.display.formatting import stack
from lucid_train.callbacks.display.outputs import Output
from lucid_train.callbacks.display.terminal.prompts import watching_prompts
from lucid_train.callbacks.display.terminal.streams import StreamProxy, redirected
from lucid_train.callbacks.display.ticker import Ticker, drawing_lock
from lucid_train.training.signals import cleanup_at

# Seconds from an answer at a prompt until the moving lines come back.
_PAUSE_AFTER_INPUT = 0.3
# Steps after which a debugger must have let the run continue.
_STEPS_AFTER_BREAKPOINT = 2


class Screen(Output):
    """Shows lines that stay and below them `moving`, drawn at most once per interval.

    What others print goes above `moving` too, whole and in order. During a prompt nothing is drawn.

    Args:
        console: The console.
        moving: What is drawn below.
        interval: Seconds between two drawings.
        steps: Returns how many steps the run has done, by which it is known that a debugger has let it continue.
    """

    def __init__(self, console: Console, moving: RenderableType, interval: float, steps: Callable[[], int]) -> None:
        super().__init__(console)
        self._moving: RenderableType = moving
        self._steps = steps
        self._lock = drawing_lock()
        self._lines: deque[Text] = deque()
        # While the moving lines are on the screen.
        self.live: Live | None = None
        self._streams: list[StreamProxy] = []
        self._decoder = AnsiDecoder()
        self._ticker = Ticker(interval, self._tick)
        self._hooks = ExitStack()
        # While it is hidden: the step at which it was hidden, and when it comes back at the latest.
        self._hidden: tuple[int, float] | None = None
        self._prompts = 0

    @property
    def unfinished(self) -> str:
        """What others have printed without a newline so far."""
        return next((stream.unfinished for stream in self._streams if stream.unfinished), "")

    def open(self) -> None:
        self._start_live()
        if self.live is not None:
            self._streams = self._hooks.enter_context(redirected(self.console, self))
            self._hooks.enter_context(watching_prompts(self._hide, self._prompt))
            self._hooks.enter_context(cleanup_at("SIGTERM", self.close))
            self._hooks.enter_context(cleanup_at("SIGTSTP", self._suspend))
        self._ticker.start()

    def put(self, lines: Sequence[Text]) -> None:
        with self._lock:
            self._lines += lines
            if self._hidden is None and not self._ticker.alive:  # nothing would draw later
                self._draw()

    def print_above(self, text: str) -> None:
        """Add lines that other code has printed."""
        self.put([self._decoder.decode_line(line.rstrip("\r")) for line in text.split("\n")])

    def resume(self) -> None:
        with self._lock:
            if self._hidden is not None and not self._prompts:
                self._hidden = None
                self._start_live()

    def close(self, lines: Sequence[Text] = ()) -> None:
        with self._hooks as hooks:
            hooks.callback(self._end, lines)
            # Before the lock is taken: the thread may be waiting for it.
            self._ticker.stop()

    def _end(self, lines: Sequence[Text]) -> None:
        try:
            with self._lock:
                for stream in self._streams:
                    stream.finish()
                self._lines.extend(lines)
                self._stop_live()
        finally:
            # Nothing here may keep the run alive.
            self._hidden, self._moving, self._steps = None, "", int

    def _start_live(self) -> None:
        live = _Live(self._print_lines, lambda: self._moving, self.console)
        try:
            live.start()
        except LiveError:  # before version 14.1 rich allows one at a time, and the user has one
            return
        except (OSError, ValueError) as error:  # from hiding the cursor, which comes first
            self.console.clear_live()
            self.error = error
            return
        self.live = live
        self._draw()

    def _stop_live(self) -> None:
        if self._lines:
            self._draw()
        live, self.live = self.live, None
        if live is not None:
            self.attempt(live.stop)
            for stream in self._streams:
                stream.release()

    def _draw(self) -> None:
        if self._lines:
            # This draws the moving lines as well: rich does so whenever something is printed.
            self.attempt(self._print_lines)
        elif self.live is not None:
            self.attempt(self.live.refresh)

    def _print_lines(self) -> None:
        # Without the lock, because rich calls this while it holds one of its own.
        lines = []
        while self._lines:
            lines.append(self._lines.popleft())
        if lines:
            self.console.print(stack(lines), crop=False)

    def _tick(self) -> None:
        # Whoever has the lock is drawing.
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._hidden is None:
                self._draw()
            else:
                step, latest = self._hidden
                if monotonic() >= latest or self._steps() - step >= _STEPS_AFTER_BREAKPOINT:
                    self.resume()
        except Exception as error:  # a picture that cannot be drawn is left out; lines still can be shown
            self.error: Exception | None = error
            self._moving = ""
        finally:
            self._lock.release()

    def _hide(self) -> None:
        with self._lock:
            self._stop_live()
            self._hidden = self._steps(), math.inf

    def _suspend(self) -> None:
        """Leave the terminal to the shell, as for a prompt; the thread shows the moving lines when it goes on."""
        with self._prompt():
            pass

    @contextmanager
    def _prompt(self) -> Iterator[None]:
        with self._lock:
            self._prompts += 1
            self._hide()
        try:
            yield
        finally:
            with self._lock:
                self._prompts -= 1
                # In a debugger the next prompt may come at any time.
                latest = math.inf if sys.gettrace() else monotonic() + _PAUSE_AFTER_INPUT
                self._hidden = self._steps(), latest


class _Live(Live):
    """A live display that prints waiting lines before those that are printed on the console directly."""

    def __init__(self, flush: Callable[[], None], moving: Callable[[], RenderableType], console: Console) -> None:
        super().__init__(
            get_renderable=moving,
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._flush = flush

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        self._flush()
        return super().process_renderables(renderables)
