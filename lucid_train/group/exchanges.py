"""Exchanges: how the processes of a run come to the same decisions, and fail together."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any

from attrs import define, field

from lucid_train.description import error_text
from lucid_train.group.protocol import Group, Solo

# Seconds that a process which has failed waits for the others to learn of it: they may be inside a step that waits for
# this one, and would never come.
GRACE = 20.0
# How many seconds apart votes are to be.
_PERIOD = 1.0
# Every vote has so many numbers: whether the process has left its steps, its seconds per step, and the wishes.
_SIZE, _HEAD = 32, 2
MOST_WISHES = _SIZE - _HEAD


class RankError(RuntimeError):
    """What leaves `fit` on the other processes when one has failed; it names the rank and the exception."""


@define(eq=False)
class Exchanges:
    """What the processes of a run exchange: values that all of them wait for, and votes that are read later.

    An exchange carries a value, or the news that a process has failed. Then all of them raise, and nothing more is
    exchanged. All votes that have been posted are read before an exchange returns: every process has posted as many
    then, since those that have fewer fill up.

    It is a context manager, which is entered when a fit begins. An exception that leaves it takes part in the next
    exchange of the others, unless it comes out of a step, in which they may be waiting for this process.

    Args:
        group: The processes.
        owned: Whether the group is closed when the fit ends.

    Attributes:
        over: Whether nothing more is exchanged: the fit has ended, or a process has failed.
        in_step: Whether a step of the user's program has failed.
        due: The step after which the next vote is due.
    """

    group: Group
    owned: bool = True
    over: bool = field(default=False, init=False)
    in_step: bool = field(default=False, init=False)
    due: int = field(default=0, init=False)
    # How many votes were posted, and what reads the latest, unless it has been read.
    _posted: int = field(default=0, init=False)
    _read: Callable[[], list[float]] | None = field(default=None, init=False)
    # How many steps two votes are apart, and since when they are timed.
    _period: int = field(default=1, init=False)
    _since: tuple[int, float] = field(default=(0, 0.0), init=False)

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return self.group.rank

    @property
    def world_size(self) -> int:
        """How many processes there are."""
        return self.group.world_size

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files and shows what happens."""
        return self.group.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is nobody to exchange anything with."""
        return self.group.world_size == 1

    def __enter__(self) -> Exchanges:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.fail(error)
        self.over = True
        if self.owned:
            with suppress(Exception):  # of an engine that has lost a process: what has ended the fit counts
                self.group.close()

    def exchange(self, place: str, value: Any) -> list[Any]:
        """Give a value to all processes, and return what each of them gives, in the order of their ranks.

        Args:
            place: Where in the run this is: all must be at the same place.
            value: Plain JSON; floats are exact.

        Raises:
            RankError: If a process has failed or is lost, or is at another place.
            TypeError: If the value is no plain JSON.
        """
        if self.is_alone:
            return [value]
        return self._exchanged({"place": place, "value": value})

    def settle(self) -> None:
        """Exchange nothing more: the fit is about to end in good order, on all processes."""
        self.over = True

    def fail(self, error: BaseException) -> None:
        """Let the others know that this process has failed; do nothing if they know, or cannot be waited for."""
        if self.over or self.is_alone:
            return
        if self.in_step:
            self.over = True
            return
        code = 130 if isinstance(error, KeyboardInterrupt) else error.code if isinstance(error, SystemExit) else None
        with suppress(Exception):  # RankError, or that nobody has come
            # Who waits for a vote of this process learns that there will be none after it.
            self._post([1.0])
            self._exchanged({"place": "", "failed": error_text(error), "code": code}, GRACE)
        self.over = True

    def _exchanged(self, content: dict[str, Any], within: float | None = None) -> list[Any]:
        if self.over:
            raise RankError("nothing can be exchanged any more: the fit has ended, or a process has failed")
        try:
            own = json.dumps({"posted": self._posted, **content}).encode()
        except (TypeError, ValueError) as error:
            raise TypeError(f"'value' must be plain JSON: {content.get('value')!r:.200}") from error
        try:
            gathered = self.group.gather(own, within)
        except Exception as error:
            raise self._lost(error) from error
        except BaseException:
            self.over = True
            raise
        found = [json.loads(each) for each in gathered]
        self._fill(max(each["posted"] for each in found))
        failed = [(rank, each) for rank, each in enumerate(found) if "failed" in each]
        if failed:
            self.over = True
            if "failed" not in content:
                raise _error(*failed[0])
        places = [each["place"] for each in found]
        if "failed" not in content and len(set(places)) > 1:
            self.over = True
            listed = ", ".join(f"rank {rank} is {place}" for rank, place in enumerate(places[:8]))
            raise RankError(f"the processes of a run must come to the same places in the same order: {listed}")
        return [each.get("value") for each in found]

    # Votes.

    def begin(self, step: int) -> None:
        """Begin to vote after the next step; `step` of them are done."""
        self._period, self.due, self._since = 1, step + 1, (step, monotonic())

    def read(self) -> list[float]:
        """Return the largest of each process's wishes in the vote before; [] if there was none since an exchange.

        Votes are 1, 2, 4, 8, ... steps apart, until they are about a second apart.

        Raises:
            RankError: If a process has left its steps, as it has failed.
        """
        found = self._latest()
        if found and found[0]:
            self.exchange("within its steps", None)  # who has left its steps says why
        if found:
            self._period = max(1, min(2 * self._period, int(_PERIOD / max(found[1], 1e-9))))
        return found[_HEAD:]

    def post(self, step: int, wishes: Sequence[float]) -> None:
        """Post the vote that is due after a step; nothing is waited for."""
        (begun, at), now = self._since, monotonic()
        self._since, self.due = (step, now), step + self._period
        self._post([0.0, (now - at) / max(step - begun, 1), *wishes])

    def _post(self, numbers: Sequence[float]) -> None:
        before, read = self._read, self.group.post([*numbers, *[0.0] * (_SIZE - len(numbers))])
        self._posted += 1
        self._read = read if before is None else lambda: (before(), read())[1]

    def _latest(self) -> list[float]:
        read, self._read = self._read, None
        try:
            return [] if read is None else read()
        except Exception as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> RankError:
        self.over = True
        return RankError(f"another process is lost, or has failed in its step: {error_text(error)}")

    def _fill(self, posted: int) -> None:
        """Post as many votes as another process has, and wait for all."""
        while self._posted < posted:
            self._post([1.0])
        self._latest()


def alone() -> Exchanges:
    """Return the exchanges of a run of one process, which have no partner."""
    return Exchanges(Solo(), owned=False)


def _error(rank: int, content: dict[str, Any]) -> BaseException:
    """Return what is raised here because another process has failed."""
    code = content.get("code")
    if code == 130:
        return KeyboardInterrupt(f"rank {rank} was interrupted")
    if isinstance(code, int):
        return SystemExit(code)
    return RankError(f"rank {rank} failed: {content['failed']}")
