"""Processes connected by sockets: what a launch returns, who is let in, and how the others of a dead one end."""

from __future__ import annotations

import signal
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from lucid_train.group.protocol import Group
from lucid_train.testing import processes
from lucid_train.testing.processes import Completed, Hub, SocketGroup, launch, start_processes

GATHERING = """
import sys
from lucid_train.testing.processes import SocketGroup
group = SocketGroup.from_environment()
print(group.gather(b"x" * group.rank), group.post([group.rank])(), flush=True)
{then}
"""


def program(then: str) -> list[str]:
    return [sys.executable, "-c", GATHERING.format(then=then)]


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub(2)
    yield hub
    hub.close()


@pytest.fixture
def pair(hub: Hub) -> Iterator[tuple[SocketGroup, SocketGroup]]:
    first, second = (SocketGroup(hub.address, rank, 2) for rank in range(2))
    yield first, second
    first.close()
    second.close()


def test_a_launch_returns_what_each_process_wrote_and_how_it_ended() -> None:
    written = "[b'', b'x', b'xx'] [2.0]\n"
    completed = launch(program("print(group.rank, file=sys.stderr); group.close()"), 3)
    assert completed == [Completed(rank, 0, written, f"{rank}\n") for rank in range(3)]


def test_variables_are_given_besides_those_of_this_process() -> None:
    command = [sys.executable, "-c", "import os; print(os.environ['MINE'], os.environ['WORLD_SIZE'])"]
    assert [each.stdout for each in launch(command, 2, env={"MINE": "yes"})] == ["yes 2\n"] * 2


def test_the_others_of_a_process_that_is_killed_end_with_a_lost_connection() -> None:
    completed = launch(
        program("import os\nif group.rank == 0: os.kill(os.getpid(), 9)\ngroup.gather(b'')"), 3, grace=30
    )
    assert [each.returncode for each in completed] == [-signal.SIGKILL, 1, 1]
    assert all("ConnectionError: a process of the group has ended" in each.stderr for each in completed[1:])


def test_the_others_of_a_process_that_never_connected_end_too() -> None:
    with start_processes(program("group.gather(b'')"), 3) as launched:
        launched.processes[0].send_signal(signal.SIGKILL)
        completed = launched.wait(60, grace=30)
    assert [each.returncode for each in completed] == [-signal.SIGKILL, 1, 1]
    assert all("Connection" in each.stderr for each in completed[1:])


def test_those_that_do_not_end_by_themselves_are_ended() -> None:
    stay = "import time, signal\nif group.rank == 2: signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    then = stay + "print(group.gather(b''), flush=True)\nif group.rank == 0: sys.exit(5)\ntime.sleep(100)"
    completed = launch(program(then), 3, grace=0.3)
    assert [each.returncode for each in completed] == [5, -signal.SIGTERM, -signal.SIGKILL]


def test_a_launch_that_takes_too_long_is_killed_and_says_what_was_written() -> None:
    with start_processes([sys.executable, "-c", "import time; time.sleep(100)"], 2) as launched:
        with pytest.raises(TimeoutError, match=r"^ranks \[0, 1\] have not ended within 0\.1 s\nrank 0: \nrank 1: $"):
            launched.wait(0.1)
        assert [process.returncode for process in launched.processes] == [-signal.SIGKILL] * 2


def test_a_command_that_is_not_there_leaves_nothing_behind() -> None:
    with pytest.raises(FileNotFoundError, match="no such program"):
        start_processes(["no such program"], 2)


def test_limits_are_positive() -> None:
    with start_processes([sys.executable, "-c", ""], 1) as launched:
        with pytest.raises(ValueError, match="'timeout' must be > 0: 0"):
            launched.wait(0)
        with pytest.raises(ValueError, match="'grace' must be > 0: 0"):
            launched.wait(10, grace=0)
    with pytest.raises(ValueError, match="'world_size' must be >= 1: 0"):
        Hub(0)


def test_a_group_of_sockets_is_a_group(pair: tuple[SocketGroup, SocketGroup]) -> None:
    assert isinstance(pair[1], Group)
    assert (pair[1].name, pair[1].rank, pair[1].world_size) == ("sockets", 1, 2)


def test_what_was_sent_before_a_group_closed_is_received(pair: tuple[SocketGroup, SocketGroup]) -> None:
    first, second = pair
    read = second.post([1.0])
    assert first.post([2.0])() == [2.0]
    first.close()
    assert read() == [2.0]
    with pytest.raises(ConnectionError, match="a process of the group has ended, or closed it"):
        second.gather(b"")
    with pytest.raises(ConnectionError, match="the group of rank 1 is closed"):
        second.gather(b"")


def test_a_process_that_does_not_come_is_waited_for_so_long(pair: tuple[SocketGroup, SocketGroup]) -> None:
    with pytest.raises(TimeoutError, match=r"^not all 2 processes came within 0\.01 s$"):
        pair[0].gather(b"", within=0.01)
    with pytest.raises(ConnectionError, match="the group of rank 0 is closed"):
        pair[0].post([1.0])


def test_another_number_of_numbers_is_refused(pair: tuple[SocketGroup, SocketGroup]) -> None:
    pair[0].post([1.0])
    read = pair[1].post([1.0, 2.0])
    with pytest.raises(ValueError, match=r"^'numbers' must be equally many on all ranks: \[1, 2\]$"):
        read()


def test_a_message_is_bounded_on_both_sides(pair: tuple[SocketGroup, SocketGroup]) -> None:
    with pytest.raises(ValueError, match=r"^'content' must be at most 16777216 bytes: 16777217$"):
        pair[0].gather(b"\0" * (processes.MOST_BYTES + 1))
    pair[0]._connections[0].sendall(struct.pack("!I", processes.MOST_BYTES + 1))
    with pytest.raises(ConnectionError, match="a process of the group has ended"):  # by the hub
        pair[1].gather(b"")


def test_a_hub_that_sends_too_much_is_not_believed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        group = SocketGroup(f"127.0.0.1:{listener.getsockname()[1]}:secret", 0, 1)
        with listener.accept()[0] as connection:
            connection.sendall(struct.pack("!I", processes.MOST_BYTES + 1))
            with pytest.raises(ConnectionError, match="the hub sends 16777217 bytes, more than it may"):
                group.gather(b"")


@pytest.mark.parametrize("hello", [b"", b"GET / HTTP/1.1\r\n\r\n" * 10, struct.pack("!32sBI", b"guessed", 0, 0)])
def test_who_does_not_know_the_secret_is_not_let_in(hello: bytes, hub: Hub) -> None:
    port = int(hub.address.split(":")[1])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as stranger:
        received = b""
        with suppress(OSError):  # a connection that is closed with bytes unread is reset
            stranger.sendall(hello)
            stranger.shutdown(socket.SHUT_WR)
            received = stranger.recv(1)
        assert received == b""
    first, second = (SocketGroup(hub.address, rank, 2) for rank in range(2))
    first.post([1.0])
    assert second.post([2.0])() == [2.0]
    first.close()
    second.close()


def test_a_hub_that_is_closed_takes_no_connections(hub: Hub) -> None:
    hub.close()
    hub.close()
    with pytest.raises(ConnectionError, match="refused"):
        SocketGroup(hub.address, 0, 2)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "example.org:80:secret", "127.0.0.1:x:secret", ""])
def test_an_address_elsewhere_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"^'address' must be 127\.0\.0\.1:PORT:SECRET, as a Hub says it: "):
        SocketGroup(address, 0, 2)


def test_a_rank_beyond_the_world_is_refused(hub: Hub) -> None:
    with pytest.raises(ValueError, match="'rank' must be < 2, the number of processes: 2"):
        SocketGroup(hub.address, 2, 2)


def test_a_process_that_was_not_launched_has_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LUCID_TRAIN_HUB", raising=False)
    with pytest.raises(
        RuntimeError, match=r"^LUCID_TRAIN_HUB, RANK and WORLD_SIZE must be set, as lucid_train.testing"
    ):
        SocketGroup.from_environment()
