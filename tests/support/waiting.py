"""Waiting for what another thread or process does."""

import time
from collections.abc import Callable


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 100  # a machine may be slow, or stand still for a while
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
