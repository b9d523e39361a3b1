"""The display steps aside when somebody is asked something: by a debugger, or by input()."""

from __future__ import annotations

import builtins
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class _BreakpointHook:
    """Steps aside, then calls the hook that was there, without a frame between it and the caller.

    A debugger stops in the frame that called its hook. `__call__` is a property: looking it up steps aside, and what
    is called then is the hook itself.
    """

    def __init__(self, hook: Any, step_aside: Callable[[], None]) -> None:
        self._hook, self._step_aside = hook, step_aside

    @property
    def __call__(self) -> Any:
        self._step_aside()
        return self._hook


@contextmanager
def stepping_aside(
    breaks: Callable[[], None], asks: Callable[[], None], answered: Callable[[], None]
) -> Iterator[None]:
    """Call `breaks` before a breakpoint, `asks` before and `answered` after each input(), a debugger's included."""
    hook, read = sys.breakpointhook, builtins.input
    ours = _BreakpointHook(hook, breaks)

    def asking(prompt: object = "", /) -> str:
        asks()
        try:
            return read(prompt)
        finally:
            answered()

    sys.breakpointhook, builtins.input = ours, asking
    try:
        yield
    finally:
        if sys.breakpointhook is ours:
            sys.breakpointhook = hook
        if builtins.input is asking:
            builtins.input = read


@contextmanager
def tidy_at_sigterm(tidy: Callable[[], None]) -> Iterator[None]:
    """Call `tidy` before SIGTERM ends the process; only where nobody else handles the signal."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    process = os.getpid()

    def end(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            if os.getpid() == process:  # a forked child has no display
                tidy()
        finally:
            signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
