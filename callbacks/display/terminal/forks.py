"""The lock of the drawing, which no fork finds taken: the child would wait for it forever."""

from __future__ import annotations

import os
import threading
from functools import cache


@cache
def drawing_lock() -> threading.RLock:
    """Return the lock that a thread holds while it draws on any terminal.

    It is held whenever this process forks, as the workers of a DataLoader make it do.
    """
    lock = threading.RLock()
    if hasattr(os, "register_at_fork"):  # what is registered cannot be removed again
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
