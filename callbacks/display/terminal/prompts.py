"""Hides the display while the user is asked for input, by a debugger or by input()."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any


class _BreakpointHook:
    """Hides the display, then calls the original hook, without a frame between that and the caller.

    A debugger stops in the frame that called its hook. `__call__` is a property: looking it up hides the display, and
    what is then called is the original hook.
    """

    def __init__(self, hook: Any, hide: Callable[[], None]) -> None:
        self._hook, self._hide = hook, hide

    @property
    def __call__(self) -> Any:
        self._hide()
        return self._hook


@contextmanager
def watching_prompts(
    at_breakpoint: Callable[[], None], around_input: Callable[[], AbstractContextManager[None]]
) -> Iterator[None]:
    """Call one function before a breakpoint, and enter what the other returns for each input(), a debugger's too."""
    hook, read = sys.breakpointhook, builtins.input
    our_hook = _BreakpointHook(hook, at_breakpoint)

    def our_input(prompt: object = "", /) -> str:
        with around_input():
            return read(prompt)

    sys.breakpointhook, builtins.input = our_hook, our_input
    try:
        yield
    finally:
        if sys.breakpointhook is our_hook:
            sys.breakpointhook = hook
        if builtins.input is our_input:
            builtins.input = read
