"""Processes of one machine, connected by TCP on the loopback: runs of many ranks without PyTorch and without MPI.

A program takes its group from the environment, `Trainer(group=SocketGroup.from_environment())`, and is started by
`launch([sys.executable, "train.py"], 2)`, or by `start_processes`, where single processes are killed.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import struct
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from threading import Thread
from time import monotonic, sleep
from typing import IO, Any, Self, final

from attrs import define, field, frozen

from lucid_train.group.protocol import Group
from lucid_train.validation import real_number, whole_number

MOST_BYTES = 1 << 24  # of one message: 16 MiB

_HUB = "LUCID_TRAIN_HUB"  # host:port:secret
_LOOPBACK = "127.0.0.1"
_HELLO = struct.Struct("!32sBI")  # the hub's secret, the channel and the rank
_LENGTH = struct.Struct("!I")
_GATHERS, _VOTES = 0, 1
_PATIENCE = 30.0  # seconds to connect, to say hello, and to take what the hub sends
_POLL = 0.01  # seconds


def _rank(value: Any) -> int:
    return whole_number("rank", value, least=0)


def _world_size(value: Any) -> int:
    return whole_number("world_size", value, least=1)


@define(eq=False)
class _Peer:
    """The hub's end of one connection."""

    connection: socket.socket
    received: bytearray = field(factory=bytearray)
    messages: deque[bytes] = field(factory=deque)

    def receive(self) -> bool:
        """Read what has come; return whether the connection goes on."""
        try:
            chunk = self.connection.recv(1 << 16)
        except OSError:  # a process that was killed resets its connections
            return False
        self.received += chunk
        while len(self.received) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self.received)[0]
            if end > _LENGTH.size + MOST_BYTES:
                return False
            if len(self.received) < end:
                break
            self.messages.append(bytes(self.received[_LENGTH.size : end]))
            del self.received[:end]
        return bool(chunk)


@final
@define(eq=False)
class Hub:
    """What the processes connect to: it sends each round, once all have given something, to all of them.

    When one connection ends, those of all end, as no further round can come about. The processes may connect again,
    all of them, as they do for each fit. It listens on the loopback, and lets in who knows its address.

    Args:
        world_size: How many processes. At least 1.

    Attributes:
        address: Host, port and a secret: what `LUCID_TRAIN_HUB` holds.
    """

    world_size: int = field(converter=_world_size)
    address: str = field(init=False, repr=False)
    _listener: socket.socket = field(init=False, repr=False)
    _secret: bytes = field(factory=lambda: secrets.token_hex(16).encode(), init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._listener = socket.create_server((_LOOPBACK, 0), backlog=2 * self.world_size)
        self.address = f"{_LOOPBACK}:{self._listener.getsockname()[1]}:{self._secret.decode()}"
        Thread(target=self._accept, name="hub", daemon=True).start()

    def close(self) -> None:
        """Take no more connections; those there are end when a process ends one."""
        with suppress(OSError):  # it was closed before
            self._listener.shutdown(socket.SHUT_RDWR)  # ends the accept under way
        self._listener.close()

    def _accept(self) -> None:
        waiting: dict[tuple[int, int], deque[_Peer]] = {
            (channel, rank): deque() for channel in (_GATHERS, _VOTES) for rank in range(self.world_size)
        }
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                break
            connection.settimeout(_PATIENCE)
            try:
                secret, *place = _HELLO.unpack(_read(connection, _HELLO.size))
            except OSError:
                connection.close()
                continue
            queue = waiting.get((place[0], place[1]))
            if queue is None or not secrets.compare_digest(secret, self._secret):
                connection.close()
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            queue.append(_Peer(connection))
            if all(waiting.values()):
                peers = {key: each.popleft() for key, each in waiting.items()}
                Thread(target=self._serve, args=(peers,), name="rounds", daemon=True).start()
        for queue in waiting.values():
            for peer in queue:
                peer.connection.close()

    def _serve(self, peers: dict[tuple[int, int], _Peer]) -> None:
        with selectors.DefaultSelector() as selector:
            for (channel, _), peer in peers.items():
                selector.register(peer.connection, selectors.EVENT_READ, (channel, peer))
            goes_on = True
            while goes_on:
                for key, _ in selector.select():
                    channel, peer = key.data
                    goes_on = peer.receive() and goes_on
                    goes_on = self._send_rounds([peers[channel, rank] for rank in range(self.world_size)]) and goes_on
            # Closing a connection with unread bytes would reset it, and what was sent last would be lost with it. So
            # say that no more comes, and read on until the other side closes.
            for peer in peers.values():
                _shut_down(peer.connection)
            while selector.get_map():
                for key, _ in selector.select():
                    if not key.data[1].receive():
                        selector.unregister(key.fileobj)
                        key.data[1].connection.close()

    def _send_rounds(self, peers: list[_Peer]) -> bool:
        while all(peer.messages for peer in peers):
            given = [peer.messages.popleft() for peer in peers]
            content = b"".join(_LENGTH.pack(len(each)) + each for each in given)
            try:
                for peer in peers:
                    peer.connection.sendall(content)
            except OSError:
                return False
        return True


@final
@define(eq=False)
class SocketGroup:
    """A group of processes of one machine that are connected to one hub, two connections each.

    Args:
        address: The hub's.
        rank: Of this process.
        world_size: How many processes the hub waits for.

    Raises:
        ConnectionError: If there is no hub at the address.
    """

    address: str = field(repr=False)
    rank: int = field(converter=_rank)
    world_size: int = field(converter=_world_size)
    name: str = field(default="sockets", init=False)
    _connections: list[socket.socket] = field(factory=list, init=False, repr=False)
    _posted: int = field(default=0, init=False)
    _rounds: list[list[float]] = field(factory=list, init=False, repr=False)  # of numbers that have been received

    def __attrs_post_init__(self) -> None:
        if self.rank >= self.world_size:
            raise ValueError(f"'rank' must be < {self.world_size}, the number of processes: {self.rank}")
        host, _, rest = self.address.partition(":")
        port, _, secret = rest.partition(":")
        if host != _LOOPBACK or not port.isdecimal() or not secret:
            raise ValueError(f"'address' must be {_LOOPBACK}:PORT:SECRET, as a Hub says it: {self.address!r}")
        with ExitStack() as closing:
            for channel in (_GATHERS, _VOTES):
                connection = socket.create_connection((host, int(port)), timeout=_PATIENCE)
                closing.callback(connection.close)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.settimeout(None)
                connection.sendall(_HELLO.pack(secret.encode(), channel, self.rank))
                self._connections.append(connection)
            closing.pop_all()

    @classmethod
    def from_environment(cls) -> Self:
        """Return the group of the processes that `launch` has started, of which this is one.

        Raises:
            RuntimeError: If `LUCID_TRAIN_HUB`, `RANK` or `WORLD_SIZE` is not set.
        """
        values = [os.environ.get(name) for name in (_HUB, "RANK", "WORLD_SIZE")]
        if None in values:
            raise RuntimeError(
                f"{_HUB}, RANK and WORLD_SIZE must be set, as lucid_train.testing.launch does: {values[1:]}"
            )
        return cls(str(values[0]), int(str(values[1])), int(str(values[2])))

    def gather(self, content: bytes, within: float | None = None) -> list[bytes]:
        """Return what all processes give.

        Raises:
            TimeoutError: If they have not within that time; the group is closed then.
            ConnectionError: If the group is closed, or a process has ended or closed its own.
            ValueError: If the content is longer than 16 MiB.
        """
        self._send(_GATHERS, content)
        return self._receive(_GATHERS, within)

    def post(self, numbers: Sequence[float]) -> Callable[[], list[float]]:
        """Return what waits for all and returns the largest of each number.

        Raises:
            ConnectionError: As in `gather`, here or where it is read.
            ValueError: Where it is read, if others gave more or fewer numbers.
        """
        self._send(_VOTES, struct.pack(f"!{len(numbers)}d", *numbers))
        place, self._posted = self._posted, self._posted + 1

        def read() -> list[float]:
            while len(self._rounds) <= place:  # they come in order, also where they are not read in order
                given = [struct.unpack(f"!{len(each) // 8}d", each) for each in self._receive(_VOTES, None)]
                if len({len(each) for each in given}) > 1:
                    raise ValueError(f"'numbers' must be equally many on all ranks: {[len(each) for each in given]}")
                self._rounds.append([max(each) for each in zip(*given, strict=True)])
            return self._rounds[place]

        return read

    def close(self) -> None:
        """End the connections, and with them those of the others."""
        connections, self._connections = self._connections, []
        for connection in connections:
            _shut_down(connection)
            connection.close()

    def _send(self, channel: int, content: bytes) -> None:
        self._check_open()
        if len(content) > MOST_BYTES:
            raise ValueError(f"'content' must be at most {MOST_BYTES} bytes: {len(content)}")
        self._connections[channel].sendall(_LENGTH.pack(len(content)) + content)

    def _receive(self, channel: int, within: float | None) -> list[bytes]:
        self._check_open()
        end = None if within is None else monotonic() + within
        try:
            return [self._message(self._connections[channel], end) for _ in range(self.world_size)]
        except TimeoutError:
            self.close()
            raise TimeoutError(f"not all {self.world_size} processes came within {within:g} s") from None
        except BaseException:  # a signal's as well: part of a message may have been read
            self.close()
            raise

    def _message(self, connection: socket.socket, end: float | None) -> bytes:
        (length,) = _LENGTH.unpack(_read(connection, _LENGTH.size, end))
        if length > MOST_BYTES:
            raise ConnectionError(f"the hub sends {length} bytes, more than it may")
        return _read(connection, length, end)

    def _check_open(self) -> None:
        if not self._connections:
            raise ConnectionError(f"the group of rank {self.rank} is closed")


def _read(connection: socket.socket, length: int, end: float | None = None) -> bytes:
    """Return exactly so many bytes, until a time of monotonic() at the latest."""
    content = bytearray()
    while len(content) < length:
        if end is not None:
            connection.settimeout(max(0.001, end - monotonic()))
        try:
            chunk = connection.recv(min(length - len(content), 1 << 20))
        finally:
            if end is not None:
                connection.settimeout(None)
        if not chunk:
            raise ConnectionError("a process of the group has ended, or closed it")
        content += chunk
    return bytes(content)


def _shut_down(connection: socket.socket) -> None:
    """Say that no more comes."""
    with suppress(OSError):  # the other side has ended
        connection.shutdown(socket.SHUT_WR)


@final
@frozen
class Completed:
    """How one process has ended.

    Attributes:
        rank: Its rank.
        returncode: What it returned, or less than zero: the signal that ended it.
        stdout: What it wrote there.
        stderr: What it wrote there.
    """

    rank: int
    returncode: int
    stdout: str
    stderr: str


@final
@define(eq=False)
class Launched:
    """Processes that `start_processes` has started; used in a `with`, it leaves none behind.

    Attributes:
        processes: In the order of their ranks.
        hub: What connects them.
    """

    processes: list[subprocess.Popen[bytes]]
    hub: Hub
    _written: list[tuple[IO[bytes], IO[bytes]]] = field(repr=False)  # stdout and stderr
    _closing: ExitStack = field(repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._closing.close()

    def kill(self) -> None:
        """End all that have not ended, by SIGKILL."""
        for process in self.processes:
            process.kill()  # nothing, where it has ended
        for process in self.processes:
            process.wait()

    def wait(self, timeout: float, *, grace: float = 5.0) -> list[Completed]:
        """Wait for all to end, as a launcher does: when one has failed, the others are ended too.

        Args:
            timeout: Seconds until all must have ended. Positive.
            grace: Seconds that the others have to end by themselves when one has failed; then they get SIGTERM, and
                after as many seconds SIGKILL. Positive.

        Raises:
            TimeoutError: If they have not ended by then. They are killed.
        """
        now = monotonic()
        end = now + real_number("timeout", timeout, above=0)
        grace = real_number("grace", grace, above=0)
        failed, signals = None, [subprocess.Popen.terminate, subprocess.Popen.kill]
        while running := [rank for rank, process in enumerate(self.processes) if process.poll() is None]:
            now = monotonic()
            if failed is None and any(process.returncode for process in self.processes):
                failed = now
                self.hub.close()  # those that wait for it to connect would wait for ever
            if now > end:
                for rank in running:
                    self.processes[rank].kill()
                outputs = "".join(f"\nrank {each.rank}: {each.stderr[-2000:]}" for each in self._completed(running))
                raise TimeoutError(f"ranks {running} have not ended within {timeout:g} s{outputs}")
            if failed is not None and signals and now > failed + grace:
                failed, signal = now, signals.pop(0)
                for rank in running:
                    signal(self.processes[rank])
            sleep(_POLL)
        return self._completed(range(len(self.processes)))

    def _completed(self, ranks: Sequence[int]) -> list[Completed]:
        completed = []
        for rank in ranks:
            code = self.processes[rank].wait()
            texts = []
            for file in self._written[rank]:
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
            completed.append(Completed(rank, code, *texts))
        return completed


def start_processes(command: Sequence[str], world_size: int, *, env: Mapping[str, str] | None = None) -> Launched:
    """Start a command as so many processes, with `LUCID_TRAIN_HUB`, `RANK` and `WORLD_SIZE` set.

    Args:
        command: The program and its arguments.
        world_size: How many processes. At least 1.
        env: Variables to set besides those of this process.
    """
    with ExitStack() as closing:
        hub = Hub(world_size)
        closing.callback(hub.close)
        launched = Launched([], hub, [], closing)
        closing.callback(launched.kill)
        for rank in range(hub.world_size):
            # Files, as a pipe that nobody reads would stop who writes to it.
            output, errors = (closing.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            launched._written.append((output, errors))
            places = {_HUB: hub.address, "RANK": str(rank), "WORLD_SIZE": str(hub.world_size)}
            launched.processes.append(
                subprocess.Popen(
                    list(command),
                    env={**os.environ, **(env or {}), **places},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                )
            )
        launched._closing = closing.pop_all()
    return launched


def launch(
    command: Sequence[str],
    world_size: int,
    *,
    env: Mapping[str, str] | None = None,
    timeout: float = 60.0,
    grace: float = 5.0,
) -> list[Completed]:
    """Run a command as so many processes and wait for them; return how each has ended, in the order of the ranks.

    Args:
        command: The program and its arguments.
        world_size: How many processes. At least 1.
        env: Variables to set besides those of this process.
        timeout: Seconds until all must have ended. Positive.
        grace: As of `Launched.wait`.

    Raises:
        TimeoutError: If they have not ended by then. They are killed.
    """
    with start_processes(command, world_size, env=env) as launched:
        return launched.wait(timeout, grace=grace)


_: type[Group] = SocketGroup  # type checkers compare it with the protocol
