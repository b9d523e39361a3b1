"""Waiting for what another thread or process does."""

import sys
import time
from collections.abc import Callable

import pytest

# Python issue 113964: in 3.12.0 and 3.12.1 no thread can be started once the main thread has ended.
outliving = pytest.mark.skipif((3, 12) <= sys.version_info < (3, 12, 2), reason="this Python starts no thread then")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 100  # a machine may be slow, or stand still for a while
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
