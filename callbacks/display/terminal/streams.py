"""Redirects what others print, to sys.stdout, sys.stderr and by logging, to above the display while that is up."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO, cast

from rich.console import Console

from lucid_train.callbacks.display.ticker import drawing_lock


class Display(Protocol):
    """What takes the lines that others print."""

    console: Console
    # Not None while it takes lines.
    live: Any

    def print_above(self, text: str) -> None:
        """Take lines, without the last newline."""


class StreamProxy:
    """Replaces a standard stream, and hands whole lines to the display while that is live.

    The rest, flush() for example, is the original's: an unfinished line waits for its end. The class does not subclass
    io.TextIOBase, whose instances close their stream when they are collected.

    Args:
        original: The stream that it replaces.
        display: What takes the lines; None once it has ended.
    """

    def __init__(self, original: TextIO, display: Display) -> None:
        self.original = original
        self.display: Display | None = display
        self._process = os.getpid()
        # The line that each thread has begun.
        self._unfinished: dict[int, str] = {}

    def __getattr__(self, name: str) -> Any:
        if name == "original":  # a copy under construction has no attributes yet
            raise AttributeError(name)
        return getattr(self.original, name)

    @property
    def unfinished(self) -> str:
        """The latest text without a newline, as a terminal would show it."""
        return next(reversed([*self._unfinished.values()]), "").rstrip("\r").rpartition("\r")[2]

    def write(self, text: str) -> int:
        """Write text, as the original stream would."""
        display = self.display
        # A forked child has a copy of the display, but neither its thread nor the right to the screen.
        if display is None or self._process != os.getpid() or not isinstance(text, str):
            return self.original.write(text)
        with drawing_lock():
            if not display.live:
                return self.original.write(text)
            # What the stream would refuse is refused here, not while the display is being drawn.
            text.encode(self.original.encoding or "utf-8", self.original.errors or "strict")
            thread = threading.get_ident()
            lines, newline, rest = (self._unfinished.pop(thread, "") + text).rpartition("\n")
            if newline:
                display.print_above(lines)
            if rest:
                self._unfinished[thread] = rest
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts one after the other."""
        for text in lines:
            self.write(text)

    def finish(self) -> None:
        """End the unfinished lines."""
        if self.display is not None and self.display.live:
            for rest in self._unfinished.values():
                self.display.print_above(rest)
            self._unfinished.clear()

    def release(self) -> None:
        """Write the unfinished lines to the original stream, as they are."""
        rest = "".join(self._unfinished.values())
        self._unfinished.clear()
        if rest:
            self.original.write(rest)
            self.original.flush()

    def retire(self) -> None:
        """Pass everything on to the original stream from now on, for those who have kept a reference to this one."""
        self.display = None
        self.release()


@contextmanager
def redirected(console: Console, display: Display) -> Iterator[list[StreamProxy]]:
    """Replace each standard stream that shows on the console's screen, and restore it afterwards.

    One that leads elsewhere, to a file for example, is left alone. Streams of logging handlers are replaced and
    restored too.
    """
    proxies = {name: StreamProxy(getattr(sys, name), display) for name in ("stdout", "stderr") if _shows(name, console)}
    target, follows_stdout = console.file, False
    try:
        for name, proxy in proxies.items():
            setattr(sys, name, proxy)
            # A console that looks up sys.stdout at each write would now write to the proxy.
            if cast("object", console.file) is proxy:
                console.file, follows_stdout = target, True
        _exchange_in_logging({id(proxy.original): proxy for proxy in proxies.values()})
        yield list(proxies.values())
    finally:
        for name, proxy in proxies.items():
            if getattr(sys, name) is proxy:
                setattr(sys, name, proxy.original)
        _exchange_in_logging({id(proxy): proxy.original for proxy in proxies.values()})
        if follows_stdout:
            console.file = cast("TextIO", None)  # rich's own value for: look up sys.stdout at each write
        for proxy in proxies.values():
            proxy.retire()


def _shows(name: str, console: Console) -> bool:
    stream = getattr(sys, name)
    # A display that is live already, the user's or ours, has replaced it.
    if stream is None or isinstance(stream, StreamProxy) or hasattr(stream, "rich_proxied_file"):
        return False
    return stream is console.file or (_is_terminal(console.file) and _is_terminal(stream))


def _is_terminal(file: Any) -> bool:
    try:
        return bool(file.isatty())
    except (AttributeError, ValueError):  # not every writable object has the method, and a closed file refuses
        return False


def _exchange_in_logging(streams: dict[int, Any]) -> None:
    """Exchange the streams of logging handlers, which keep the one that was there when they were made."""
    for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
        for handler in getattr(logger, "handlers", ()):  # a PlaceHolder has none
            # The handler of last resort has no stream of its own, it looks at sys.stderr.
            if isinstance(handler, logging.StreamHandler) and id(vars(handler).get("stream")) in streams:
                handler.setStream(streams[id(handler.stream)])
