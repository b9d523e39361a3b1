"""Outputs: where the lines of the display go. A pipe or a file and a notebook are here; a terminal has its Screen."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from rich import get_console
from rich.console import Console, RenderableType
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from lucid_train.callbacks.display.formatting import stack
from lucid_train.callbacks.display.terminal.streams import StreamProxy
from lucid_train.callbacks.display.ticker import Ticker

# Rows that a notebook shows during the run; at its end it shows all of them.
_ROWS_DURING_RUN = 30
# Seconds between two looks at the run. A browser is slower than a terminal, and is shown each fifth.
_LOOK_INTERVAL, _LOOKS = 0.1, 5
# Colors that can be read on white and on black: those of terminals cannot.
_MIDDLE = [
    (128, 128, 128),
    (214, 69, 65),
    (46, 157, 82),
    (193, 128, 20),
    (59, 130, 196),
    (165, 102, 201),
    (32, 153, 160),
]
_COLORS = TerminalTheme((255, 255, 255), (0, 0, 0), [*_MIDDLE, (128, 128, 128)])
_PRE = '<pre style="white-space:pre;overflow-x:auto;line-height:1.3;font-family:Menlo,Consolas,monospace">{code}</pre>'


class Output:
    """Prints lines at once, each as long as it is. Training goes on where that fails.

    Args:
        console: The console.

    Attributes:
        error: The first error, or None.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.error: Exception | None = None

    def open(self) -> None:
        """Begin to show."""

    def put(self, lines: Sequence[Text]) -> None:
        """Add lines that stay."""
        self.attempt(lambda: self.console.print(stack(lines), crop=False))

    def resume(self) -> None:
        """Show again what was hidden during a prompt."""

    def close(self, lines: Sequence[Text] = ()) -> None:
        """Add the last lines, and restore everything that was changed."""
        if lines:
            self.put(lines)

    def attempt(self, action: Callable[[], object]) -> None:
        """Do what may fail because the disk is full, the file closed or the terminal gone, and remember the error."""
        try:
            action()
        except SystemExit as end:  # what rich raises when the reader of a pipe is gone
            if not isinstance(end.__context__, BrokenPipeError):
                raise
            self.error = self.error or end.__context__
        except (OSError, ValueError) as error:
            self.error = self.error or error


class NotebookOutput(Output):
    """Shows everything in one output cell, which is updated in place.

    Args:
        console: The console, of which the width is used.
        display: IPython's function of that name.
        moving: What is shown below the lines during the run, or None.
    """

    def __init__(self, console: Console, display: Any, moving: RenderableType | None) -> None:
        super().__init__(console)
        self._display = display
        self._moving = moving
        self._lines: list[Text] = []
        self._handle: Any = None
        self._lock = threading.Lock()
        self._looks = 0
        self._ticker = Ticker(_LOOK_INTERVAL, self._update)

    def open(self) -> None:
        self._show()
        self._ticker.start()

    def put(self, lines: Sequence[Text]) -> None:
        with self._lock:
            self._lines += lines

    def close(self, lines: Sequence[Text] = ()) -> None:
        self._ticker.stop()
        self._lines += lines
        self._moving = None
        self._show(len(self._lines))

    def _update(self) -> None:
        self._looks += 1
        try:
            if self._looks % _LOOKS == 0:
                self._show()
            elif self._moving is not None:  # drawing it asks for the running means, which come with a later drawing
                Console(file=io.StringIO(), width=self.console.width, force_jupyter=False).print(self._moving)
        except Exception as error:  # the thread must not end with a traceback in the middle of the training
            self.error: Exception | None = self.error or error

    def _show(self, rows: int = _ROWS_DURING_RUN) -> None:
        with self._lock:
            file, width = io.StringIO(), self.console.width
            page = Console(file=file, record=True, width=width, force_jupyter=False, legacy_windows=False)
            if shown := self._lines[-rows:]:
                page.print(stack(shown), crop=False)
            if self._moving is not None:
                page.print(self._moving)
            data = {
                "text/plain": page.export_text(clear=False).rstrip("\n"),
                "text/html": page.export_html(theme=_COLORS, inline_styles=True, code_format=_PRE),
            }
            if self._handle is None:
                self._handle = self._display(data, raw=True, display_id=True)
            else:
                self._handle.update(data, raw=True)


def current_console() -> Console:
    """Return a console for standard output: rich's own if a new one is no different, so that rich.print shares it.

    Before rich 14.1 a console had room for one live display: there rich's own is left to the user. Within a display of
    ours it is that one's console.
    """
    if isinstance(sys.stdout, StreamProxy) and sys.stdout.display is not None:
        return sys.stdout.display.console
    new, shared = Console(), get_console()
    if tuple(map(int, version("rich").split(".")[:2])) < (14, 1):
        return new
    alike = ("file", "is_terminal", "is_interactive", "is_jupyter", "color_system", "no_color", "record", "size")
    return shared if all(getattr(new, name) == getattr(shared, name) for name in alike) else new
