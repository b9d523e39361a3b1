"""The folder beside a log through which other processes give its run commands, one file each."""

from __future__ import annotations

import getpass
import json
import os
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from secrets import token_hex
from typing import Any

from attrs import asdict, evolve, field, frozen

from lucid_train.command import Command
from lucid_train.saving.bounded_json import parse

MOST_BYTES = 4096
_MOST_AT_ONCE = 100
_SUFFIX = ".json"
_PARSED = 1 << 20


@frozen
class Mailbox:
    """The commands that await a log's run.

    The folder, the log's name with ".control" added, belongs to the run's user and is open to nobody else, as are the
    files in it. Each is one command in JSON, addressed to the process that writes the log, so that what is left of an
    earlier one is not carried out. It is there as a whole or not at all. Whoever removes it owns it: the run that takes
    it, or the sender that takes it back. Links are not followed.

    Args:
        log: The log.
    """

    log: Path
    folder: Path = field(init=False)

    @folder.default
    def _beside_the_log(self) -> Path:
        log = Path(os.path.realpath(self.log))  # a link to it may have another name, and the run may go elsewhere
        return log.with_name(f"{log.name}.control")

    def post(self, command: Command, writer: Mapping[str, Any]) -> Path:
        """Leave a command for a process, and return its file.

        Raises:
            OSError: If it cannot be written.
            PermissionError: If the folder or the log belongs to somebody else, or others may write to the folder.
        """
        if os.stat(self.log).st_uid != os.geteuid():
            raise PermissionError(None, "the log belongs to another user, who alone can control its run", str(self.log))
        with suppress(FileExistsError):
            os.mkdir(self.folder, 0o700)
        content = json.dumps({**_fields(command), "writer": dict(writer)}, allow_nan=False).encode("ascii")
        name = f"{time.time_ns():020}-{token_hex(4)}{_SUFFIX}"
        with self._opened() as folder:
            part = f".{name}.part"
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
            with open(descriptor, "wb") as file:
                file.write(content)
            os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
        return self.folder / name

    @staticmethod
    def withdraw(file: Path) -> bool:
        """Take back a command that was posted; return False if the run has it already."""
        with suppress(OSError):
            file.unlink()
            return True
        return False

    def take(self, writer: Mapping[str, Any]) -> list[Command]:
        """Take the commands out of the folder, in the order of their sending; one that is refused says why.

        Args:
            writer: This process, as `this_process` gives it.
        """
        try:
            with self._opened() as folder:
                names = sorted(each for each in os.listdir(folder) if each.endswith(_SUFFIX))
                taken = (_taken(name, folder, writer) for name in names)
                return list(islice((command for command in taken if command is not None), _MOST_AT_ONCE))
        except OSError:  # there is none, or it is not this user's alone
            return []

    def close(self) -> None:
        """Remove the folder, if it is there and empty, but for what a sender that was killed has left half written."""
        with suppress(OSError):
            for part in self.folder.glob(f".*{_SUFFIX}.part"):
                part.unlink()
            os.rmdir(self.folder)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the folder; refuse one that others can write to."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            found = os.fstat(descriptor)
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
                raise PermissionError(None, "the folder must be this user's, with mode 0700", str(self.folder))
            yield descriptor
        finally:
            os.close(descriptor)


def can_control() -> bool:
    """Return whether this system has what a Mailbox needs: folders of one user, and no links followed."""
    return os.name == "posix" and os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")


def sender() -> str:
    """Return who this process belongs to, and on which machine it is, in words."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user that has no name
        user = str(os.geteuid())
    return f"{user} on {socket.gethostname()}"


def _fields(command: Command) -> dict[str, Any]:
    return {name: value for name, value in asdict(command).items() if name != "refusal"}


def _taken(name: str, folder: int, writer: Mapping[str, Any]) -> Command | None:
    """Take one file out of the folder; return None if it has been withdrawn, or cannot be removed."""
    try:
        content: bytes | None = _content(name, folder)
        why = ""
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        content, why = None, str(error)
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        return None
    # What cannot be read is answered by the name of its file.
    unknown = Command("save", id=name.removesuffix(_SUFFIX)[:80])
    if content is None:
        return evolve(unknown, refusal=f"not a command: {why}")
    try:
        found = parse(content, size=_PARSED, depth=4)
        if not isinstance(found, dict) or found.keys() != {*_fields(unknown), "writer"}:
            raise ValueError("it must have the entries of a command and no others")
        addressed = found.pop("writer")
        if not isinstance(found["value"], (int, float)) or any(
            not isinstance(found[key], str) for key in found.keys() - {"value"}
        ):
            raise ValueError("its entries must be strings, and the value a number")
        command = Command(**found)
    except (ValueError, OverflowError) as error:
        return evolve(unknown, refusal=f"not a command: {error}")
    if addressed != writer:
        return evolve(command, refusal="stale: it is addressed to a process that wrote this log before")
    return command


def _content(name: str, folder: int) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
            raise ValueError("it must be a file of this user with one name")
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise ValueError("it must be open to nobody else, with mode 0600")
        content = b""
        while len(content) <= MOST_BYTES and (more := os.read(descriptor, MOST_BYTES + 1 - len(content))):
            content += more
    finally:
        os.close(descriptor)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it must have at most {MOST_BYTES} bytes")
    return content
