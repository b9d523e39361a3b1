"""A fork must not come in the middle of a drawing: the child would wait for ever for the stream's lock."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_locks: list[Any] = []
_held: list[Any] = []
# The hooks of a process cannot be taken back, so they are registered once, when they are first needed.
_registered: list[bool] = []


@contextmanager
def held_while_forking(lock: Any) -> Iterator[None]:
    """Have `lock`, which a thread holds while it draws, in hand whenever this process forks, as DataLoaders make it do.

    Args:
        lock: A reentrant lock.
    """
    if not _registered and hasattr(os, "register_at_fork"):
        _registered.append(True)
        os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_let_go)
    _locks.append(lock)
    try:
        yield
    finally:
        _locks.remove(lock)


def _hold() -> None:
    for lock in tuple(_locks):
        lock.acquire()
        _held.append(lock)


def _let_go() -> None:
    while _held:
        _held.pop().release()
