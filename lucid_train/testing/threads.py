"""Groups that connect threads of one process, so that a test runs many ranks without starting processes.

>>> def largest(group):
...     read = group.post([group.rank])
...     return group.gather(b"x" * group.rank), read()
>>> run_in_threads(2, largest)
[([b'', b'x'], [1.0]), ([b'', b'x'], [1.0])]
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from threading import Condition, Thread
from time import monotonic
from typing import Any, Literal, TypeAlias, TypeVar, final

from attrs import define, field

from lucid_train.group.protocol import Group
from lucid_train.validation import real_number, whole_number

T = TypeVar("T")
Kind: TypeAlias = Literal["gather", "post"]

_FRAMES = 6  # of a thread that hangs: enough to see which exchange, and who asked for it


@define(eq=False)
class _Rounds:
    """What the threads share: per kind and number of a round, what each rank has given."""

    world_size: int
    given: dict[tuple[Kind, int], dict[int, Any]] = field(factory=dict)
    read: dict[tuple[Kind, int], int] = field(factory=dict)
    closed: set[int] = field(factory=set)
    changed: Condition = field(factory=Condition)


@final
@define(eq=False)
class ThreadGroup:
    """A group whose processes are threads. Made by `thread_groups`.

    A round that lacks what a closed group would have given never comes about, so who waits for it gets a
    ConnectionError, as if a process had died.

    Attributes:
        log: What this rank gave, in order: `("gather", content)` or `("post", numbers)`.
    """

    rank: int
    world_size: int
    log: list[tuple[Kind, Any]] = field(factory=list, init=False)
    name: str = field(default="threads", init=False)
    _rounds: _Rounds
    _count: dict[Kind, int] = field(factory=lambda: {"gather": 0, "post": 0}, init=False)

    def gather(self, content: bytes, within: float | None = None) -> list[bytes]:
        """Return what all threads give.

        Raises:
            TimeoutError: If they have not within that time; the group is closed then.
            ConnectionError: If this group is closed, or another one that has not given yet.
        """
        contents: list[bytes] = self._wait(self._give("gather", bytes(content)), within)
        return contents

    def post(self, numbers: Sequence[float]) -> Callable[[], list[float]]:
        """Return what waits for all and returns the largest of each number.

        Raises:
            ConnectionError: If this group is closed; where it is read, if another one is that has not given.
            ValueError: Where it is read, if others gave more or fewer numbers.
        """
        number = self._give("post", tuple(map(float, numbers)))

        @cache  # a round is forgotten once all have read it
        def largest() -> tuple[float, ...]:
            given: list[tuple[float, ...]] = self._wait(number, None)
            if len({len(each) for each in given}) > 1:
                raise ValueError(f"'numbers' must be equally many on all ranks: {[len(each) for each in given]}")
            return tuple(max(each) for each in zip(*given, strict=True))

        return lambda: list(largest())

    def close(self) -> None:
        """Leave the others, who get a ConnectionError where they wait for this one."""
        with self._rounds.changed:
            self._rounds.closed.add(self.rank)
            self._rounds.changed.notify_all()

    def _give(self, kind: Kind, what: Any) -> tuple[Kind, int]:
        number = (kind, self._count[kind])
        with self._rounds.changed:
            if self.rank in self._rounds.closed:
                raise ConnectionError(f"the group of rank {self.rank} is closed")
            self._count[kind] += 1
            self.log.append((kind, what))
            self._rounds.given.setdefault(number, {})[self.rank] = what
            self._rounds.changed.notify_all()
        return number

    def _wait(self, number: tuple[Kind, int], within: float | None) -> list[Any]:
        rounds = self._rounds
        with rounds.changed:
            given = rounds.given[number]
            # Whether a round comes about depends only on who gives, not on which thread runs first.
            lost: Callable[[], set[int]] = lambda: rounds.closed - given.keys()  # noqa: E731  # read twice below
            done = rounds.changed.wait_for(
                lambda: len(given) == self.world_size or lost() or self.rank in rounds.closed, timeout=within
            )
            if len(given) < self.world_size:
                absent = ", ".join(str(rank) for rank in range(self.world_size) if rank not in given)
                if not done:
                    self.close()
                    raise TimeoutError(f"no {number[0]} of rank {absent} within {within:g} s")
                gone = ", ".join(map(str, sorted(lost() or {self.rank})))
                raise ConnectionError(f"the group of rank {gone} is closed")
            rounds.read[number] = rounds.read.get(number, 0) + 1
            if rounds.read[number] == self.world_size:  # nobody reads it again
                del rounds.given[number], rounds.read[number]
            return [given[rank] for rank in range(self.world_size)]


def thread_groups(world_size: int) -> list[ThreadGroup]:
    """Return the groups of so many threads, one for each, in the order of their ranks.

    Args:
        world_size: How many. At least 1.
    """
    rounds = _Rounds(whole_number("world_size", world_size, least=1))
    return [ThreadGroup(rank, rounds.world_size, rounds) for rank in range(rounds.world_size)]


def run_in_threads(world_size: int, function: Callable[[ThreadGroup], T], *, within: float = 60.0) -> list[T]:
    """Run a function in so many threads, each with a group of them all; return the results in the order of the ranks.

    A thread that raises leaves the group, as a process that dies does. The first exception is raised, with a note
    that names the rank: those that follow are mostly of peers that waited.

    Args:
        world_size: How many threads. At least 1.
        function: What each runs; it takes its group. The group is closed after it.
        within: Seconds until all must have ended. Positive.

    Raises:
        TimeoutError: If a thread has not ended by then; the message says where each of these stands.
    """
    groups = thread_groups(world_size)
    limit = real_number("within", within, above=0)
    results: dict[int, T] = {}
    errors: list[tuple[int, BaseException]] = []

    def run(group: ThreadGroup) -> None:
        try:
            results[group.rank] = function(group)
        except BaseException as error:
            errors.append((group.rank, error))
        finally:
            group.close()

    # Daemons, so that one that hangs does not keep the interpreter from ending.
    threads = [Thread(target=run, args=(group,), name=f"rank {group.rank}", daemon=True) for group in groups]
    end = monotonic() + limit
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - monotonic()))
    stuck = [thread for thread in threads if thread.is_alive()]
    where = "; ".join(f"{thread.name} in {_place(thread)}" for thread in stuck)
    for group in groups:
        group.close()  # who waits in an exchange ends, and is not left behind in later tests
    if errors:
        rank, error = errors[0]
        error.add_note(f"raised in the thread of rank {rank}")
        raise error
    if stuck:
        raise TimeoutError(f"{len(stuck)} of {len(threads)} threads have not ended within {limit:g} s: {where}")
    return [results[rank] for rank in range(len(groups))]


def _place(thread: Thread) -> str:
    """Return where a thread stands, innermost call first."""
    frame = sys._current_frames().get(thread.ident or 0)
    stack = traceback.extract_stack(frame)[::-1] if frame else []
    return " < ".join(f"{each.name} ({each.filename}:{each.lineno})" for each in stack[:_FRAMES])


_: type[Group] = ThreadGroup  # type checkers compare it with the protocol
