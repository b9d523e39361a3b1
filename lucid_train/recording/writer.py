"""The process that writes a log: which it is, and whether it still exists."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """Return what identifies this process, for a log to hold."""
    return {"pid": os.getpid(), **_place(), "started": _state_and_start(os.getpid())[1]}


def is_gone(writer: Any) -> bool:
    """Return whether a process that wrote a log is known to have ended: it ran on this machine, and no longer does."""
    if os.name != "posix":  # os.kill would end the process on Windows
        return False
    if not isinstance(writer, dict) or not _place().items() <= writer.items():
        return False
    pid, started = writer.get("pid"), writer.get("started")
    if type(pid) is not int or not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's process
        pass
    state, here = _state_and_start(pid)
    zombie = state in ("Z", "X")  # it has ended, and its parent has not asked for its exit code yet
    return zombie or (None not in (started, here) and started != here)  # another process of the same number


def _state_and_start(pid: int) -> tuple[str | None, int | None]:
    """Return the state of a process and when it started, in clock ticks since boot; None where there is no /proc."""
    try:
        # The name before it, in parentheses, may hold spaces and parentheses itself.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[19])
    except (OSError, IndexError, ValueError):
        return None, None


def _place() -> dict[str, str | None]:
    """Return where a process runs, as its number is one of this place only."""
    try:
        # Containers may share the machine's name, and each numbers its processes for itself.
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = None
    return {"host": socket.gethostname(), "namespace": namespace}
