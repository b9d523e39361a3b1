"""Where lines can go besides a screen of our own: to a file, one after the other, or to a notebook."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.text import Text

from lucid_train.callbacks.display.theme import stack
from lucid_train.callbacks.display.ticker import Ticker

# Rows that a notebook shows while the run goes on; at its end it shows all of them.
_ROWS_WHILE_RUNNING = 30
# A browser need not be kept as busy as a terminal.
_NOTEBOOK_INTERVAL = 0.5
_PRE = '<pre style="white-space:pre;overflow-x:auto;line-height:1.3;font-family:Menlo,Consolas,monospace">{code}</pre>'


class Outlet(Protocol):
    """What shows lines."""

    error: Exception | None
    """What made it impossible to show any more, or None."""

    def open(self) -> None:
        """Begin."""

    def put(self, lines: Sequence[Text]) -> None:
        """Add lines that stay."""

    def go_on(self) -> None:
        """The run goes on: come back, if something else was shown meanwhile."""

    def close(self, lines: Sequence[Text] = ()) -> None:
        """Add the last lines, and leave everything as it was."""


@contextmanager
def broken_pipe_as_error() -> Iterator[None]:
    """Let a pipe that nobody reads any more be an OSError: rich would end the whole program."""
    try:
        yield
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            raise end.__context__ from None
        raise


class Paper:
    """Prints lines at once, each as long as it is."""

    def __init__(self, console: Console) -> None:
        self.error: Exception | None = None
        self._console = console

    def open(self) -> None:
        """Do nothing."""

    def put(self, lines: Sequence[Text]) -> None:
        """Print lines and flush them."""
        try:
            with broken_pipe_as_error():
                self._console.print(Group(stack(lines)), crop=False)
        except (OSError, ValueError) as error:  # the disk is full, or nobody reads: the training goes on
            self.error = self.error or error

    def go_on(self) -> None:
        """Do nothing."""

    def close(self, lines: Sequence[Text] = ()) -> None:
        """Print the last lines."""
        if lines:
            self.put(lines)


class Notebook:
    """Shows everything in one output cell, which is updated in place.

    Args:
        display: IPython's function of that name.
        width: Columns.
        moving: What is shown below the lines while the run goes on, or None.
    """

    def __init__(self, display: Any, width: int, moving: RenderableType | None) -> None:
        self.error: Exception | None = None
        self._display = display
        self._width = width
        self._moving = moving
        self._lines: list[Text] = []
        self._handle: Any = None
        self._lock = threading.Lock()
        self._ticker = Ticker(_NOTEBOOK_INTERVAL, self._update)

    def open(self) -> None:
        """Show the output."""
        self._show()
        self._ticker.start()

    def put(self, lines: Sequence[Text]) -> None:
        """Add lines; they are shown with the next update."""
        with self._lock:
            self._lines += lines

    def go_on(self) -> None:
        """Do nothing."""

    def close(self, lines: Sequence[Text] = ()) -> None:
        """Show all lines."""
        self._ticker.stop()
        self._lines += lines
        self._moving = None
        self._show(len(self._lines))

    def _update(self) -> None:
        try:
            self._show()
        except Exception as error:  # the thread must not die with a traceback in the middle of the training
            self.error = self.error or error

    def _show(self, rows: int = _ROWS_WHILE_RUNNING) -> None:
        with self._lock:
            shown = self._lines[-rows:] if rows else []
            paper = Console(
                file=io.StringIO(),
                record=True,
                width=self._width,
                force_terminal=True,
                force_jupyter=False,
                color_system="truecolor",
                legacy_windows=False,
            )
            if shown:
                paper.print(Group(stack(shown)), crop=False)
            if self._moving is not None:
                paper.print(self._moving)
            data = {
                "text/plain": paper.export_text(clear=False).rstrip("\n"),
                "text/html": paper.export_html(inline_styles=True, code_format=_PRE),
            }
            if self._handle is None:
                self._handle = self._display(data, raw=True, display_id=True)
            else:
                self._handle.update(data, raw=True)
