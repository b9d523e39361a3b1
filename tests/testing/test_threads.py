"""Threads in place of processes: rounds that are complete, logged and counted, and peers that leave."""

from __future__ import annotations

from threading import Event

import pytest

from lucid_train.group.protocol import Group
from lucid_train.testing.threads import ThreadGroup, run_in_threads, thread_groups


def test_a_thread_group_is_a_group() -> None:
    group = thread_groups(2)[1]
    assert isinstance(group, Group)
    assert (group.name, group.rank, group.world_size) == ("threads", 1, 2)


@pytest.mark.parametrize("world_size", [1, 2, 64])
def test_all_get_the_contents_in_rank_order_and_the_largest_numbers(world_size: int) -> None:
    def exchange(group: ThreadGroup) -> list[object]:
        first = group.post([group.rank, -group.rank])
        contents = group.gather(b"x" * group.rank)
        second = group.post([10 + group.rank])
        return [contents, group.gather(b""), first(), second()]

    expected = [[b"x" * rank for rank in range(world_size)], [b""] * world_size, [world_size - 1, 0], [9 + world_size]]
    assert run_in_threads(world_size, exchange) == [expected] * world_size


def test_the_log_holds_what_was_given_in_order() -> None:
    def exchange(group: ThreadGroup) -> ThreadGroup:
        group.post([1.0, group.rank])
        group.gather(bytes([group.rank]))
        return group

    assert [group.log for group in run_in_threads(2, exchange)] == [
        [("post", (1.0, 0.0)), ("gather", b"\0")],
        [("post", (1.0, 1.0)), ("gather", b"\1")],
    ]


def test_rounds_that_all_have_read_are_not_kept() -> None:
    def exchange(group: ThreadGroup) -> ThreadGroup:
        for number in range(100):
            group.post([number])()
            group.gather(b"content")
        return group

    for group in run_in_threads(3, exchange):
        assert group._rounds.given == group._rounds.read == {}


def test_who_waits_in_vain_gets_a_timeout_and_the_late_one_a_lost_connection() -> None:
    first, second = thread_groups(2)
    with pytest.raises(TimeoutError, match=r"^no gather of rank 1 within 0\.01 s$"):
        first.gather(b"", within=0.01)
    with pytest.raises(ConnectionError, match="the group of rank 0 is closed"):
        first.gather(b"")
    assert second.gather(b"late") == [b"", b"late"]  # that round had what rank 0 gave
    with pytest.raises(ConnectionError, match="the group of rank 0 is closed"):
        second.gather(b"")


def test_a_closed_group_gives_nothing_more_and_closing_twice_is_harmless() -> None:
    first, second = thread_groups(2)
    read = second.post([1.0])
    first.close()
    first.close()
    for exchange in (lambda: first.gather(b""), lambda: first.post([1.0]), read, lambda: second.gather(b"")):
        with pytest.raises(ConnectionError, match="the group of rank 0 is closed"):
            exchange()


def test_what_was_given_before_the_end_is_still_read() -> None:
    first, second = thread_groups(2)
    first.post([2.0])
    read = second.post([1.0])
    first.close()
    assert read() == [2.0]
    assert read() == [2.0]


def test_another_number_of_numbers_is_refused() -> None:
    first, second = thread_groups(2)
    first.post([1.0])
    read = second.post([1.0, 2.0])
    with pytest.raises(ValueError, match=r"^'numbers' must be equally many on all ranks: \[1, 2\]$"):
        read()


def test_the_first_exception_is_raised_and_waiting_peers_end() -> None:
    ended = []

    def fail_on_two(group: ThreadGroup) -> None:
        if group.rank == 2:
            raise KeyError("of rank 2")
        try:
            group.gather(b"")
        except ConnectionError as error:
            ended.append(str(error))
            raise

    with pytest.raises(KeyError, match="of rank 2") as caught:
        run_in_threads(4, fail_on_two)
    assert caught.value.__notes__ == ["raised in the thread of rank 2"]
    assert ended == ["the group of rank 2 is closed"] * 3


def test_a_deadlock_names_where_each_thread_stands() -> None:
    never = Event()

    def lock(group: ThreadGroup) -> None:
        if group.rank == 0:
            never.wait()
        group.gather(b"")

    with pytest.raises(TimeoutError, match=r"^2 of 2 threads have not ended within 0\.5 s: ") as caught:
        run_in_threads(2, lock, within=0.5)
    never.set()
    first, second = str(caught.value).split("; ")
    assert "rank 0 in wait" in first
    assert "< lock (" in first
    assert second.startswith("rank 1 in wait ")
    assert "< gather (" in second


def test_a_world_has_a_process_and_a_limit_is_positive() -> None:
    with pytest.raises(ValueError, match="'world_size' must be >= 1: 0"):
        thread_groups(0)
    with pytest.raises(ValueError, match="'within' must be > 0: 0"):
        run_in_threads(1, lambda group: None, within=0)
