"""What others print while the display is up goes above it: sys.stdout, sys.stderr, and the handlers of logging."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO, cast

from rich.console import Console


class Display(Protocol):
    """What takes the lines that others print."""

    console: Console
    """Where it is."""

    lock: threading.RLock
    """Held while lines are taken."""

    @property
    def up(self) -> bool:
        """Whether it takes them now."""

    def say(self, text: str) -> None:
        """Take lines, without the last newline."""


class Stream:
    """Stands in for a standard stream: hands whole lines to the display while that is up.

    It is no subclass of io.TextIOBase: one that is collected is closed, and would close the stream behind it.

    Args:
        original: The stream behind it.
        display: What takes the lines.
    """

    def __init__(self, original: TextIO, display: Display) -> None:
        self.original = original
        self._display: Display | None = display
        self._process = os.getpid()
        self._unfinished: dict[int, str] = {}

    def __getattr__(self, name: str) -> Any:
        if name == "original":  # a copy that is being made has no attributes yet
            raise AttributeError(name)
        return getattr(self.original, name)

    @property
    def console(self) -> Console | None:
        """Where the display is, or None if there is none any more."""
        return None if self._display is None else self._display.console

    @property
    def unfinished(self) -> str:
        """What was written last without a newline, as a terminal would show it."""
        return next(reversed([*self._unfinished.values()]), "").rstrip("\r").rpartition("\r")[2]

    def write(self, text: str) -> int:
        """Write text, as the stream behind would."""
        display = self._display
        # A forked child has the display's state, but neither its thread nor the right to the screen.
        if display is None or self._process != os.getpid() or not isinstance(text, str):
            return self.original.write(text)
        with display.lock:
            if not display.up:
                return self.original.write(text)
            # What the stream would refuse is refused here, not in the middle of the display.
            text.encode(self.original.encoding or "utf-8", self.original.errors or "strict")
            me = threading.get_ident()
            lines, newline, rest = (self._unfinished.pop(me, "") + text).rpartition("\n")
            if newline:
                display.say(lines)
            if rest:
                self._unfinished[me] = rest
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts one after the other."""
        for text in lines:
            self.write(text)

    def flush(self) -> None:
        """Flush the stream behind it; a line that has not ended waits for its end."""
        self.original.flush()

    def finish(self) -> None:
        """End the lines that have not ended."""
        display = self._display
        if display is not None and display.up:
            for rest in self._unfinished.values():
                display.say(rest)
            self._unfinished.clear()

    def release(self) -> None:
        """Write what waits for the end of its line to the stream behind."""
        rest = "".join(self._unfinished.values())
        self._unfinished.clear()
        if rest:
            self.original.write(rest)
            self.original.flush()

    def retire(self) -> None:
        """From now on hand everything on to the stream behind: somebody may have kept this one."""
        self._display = None
        self.release()


@contextmanager
def redirected(console: Console, display: Display) -> Iterator[list[Stream]]:
    """Put a Stream in the place of each standard stream that shows on the console's screen.

    One that leads elsewhere, to a file for example, is left alone. Afterwards they are the objects that they were, and
    so are the streams of all logging handlers.
    """
    streams = {name: Stream(getattr(sys, name), display) for name in ("stdout", "stderr") if _shows(name, console)}
    target, followed = console.file, False
    try:
        for name, stream in streams.items():
            setattr(sys, name, stream)
            # A console that writes to whatever sys.stdout is would now write to the stand-in.
            if cast("object", console.file) is stream:
                console.file, followed = target, True
        _exchange({id(stream.original): stream for stream in streams.values()})
        yield list(streams.values())
    finally:
        for name, stream in streams.items():
            if getattr(sys, name) is stream:
                setattr(sys, name, stream.original)
        _exchange({id(stream): stream.original for stream in streams.values()})
        if followed:
            console.file = cast("TextIO", None)  # rich's own value for it: whatever sys.stdout is
        for stream in streams.values():
            stream.retire()


def _shows(name: str, console: Console) -> bool:
    stream = getattr(sys, name)
    # A display that is up already, the user's or ours, has taken care of it.
    if stream is None or isinstance(stream, Stream) or hasattr(stream, "rich_proxied_file"):
        return False
    return stream is console.file or (_is_terminal(console.file) and _is_terminal(stream))


def _is_terminal(file: Any) -> bool:
    try:
        return bool(file.isatty())
    except (AttributeError, ValueError):  # not every object that can be written to has it, and a closed one refuses
        return False


def _exchange(streams: dict[int, Any]) -> None:
    """Give handlers of logging another stream: they keep the one that was there when they were made."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):  # a PlaceHolder has none
            # The handler of last resort has no stream of its own, it looks at sys.stderr.
            if isinstance(handler, logging.StreamHandler) and id(vars(handler).get("stream")) in streams:
                handler.setStream(streams[id(handler.stream)])
