"""Keeps the process from forking while the display is drawn: the child would wait forever for the drawing's lock."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_locks: list[Any] = []
_acquired: list[Any] = []


@contextmanager
def held_while_forking(lock: Any) -> Iterator[None]:
    """Hold `lock` whenever this process forks, as the workers of a DataLoader make it do.

    Args:
        lock: A reentrant lock, which a thread holds while it draws.
    """
    _register()
    _locks.append(lock)
    try:
        yield
    finally:
        _locks.remove(lock)


@cache
def _register() -> None:
    """Register the hooks, once: they cannot be removed again."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_acquire, after_in_parent=_release, after_in_child=_release)


def _acquire() -> None:
    for lock in tuple(_locks):
        lock.acquire()
        _acquired.append(lock)


def _release() -> None:
    while _acquired:
        _acquired.pop().release()
