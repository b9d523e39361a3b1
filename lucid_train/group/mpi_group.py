"""MPIGroup: the processes of MPI."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from time import monotonic, sleep
from typing import Any, final

import numpy as np
from attrs import define, field

from lucid_train.group.protocol import Group

# MPI's own wait keeps a core busy and runs no signal handler. A test costs less than a microsecond: often at first, for
# peers that are nearly there, then rarely, as they may be minutes away.
_SHORTEST, _LONGEST = 1e-5, 1e-3  # seconds between two tests
_UNREAD = 1.0  # seconds that a vote nobody has read may still take when the group is closed


@final
@define(eq=False)
class MPIGroup:
    """The processes of a communicator of mpi4py, by default `MPI.COMM_WORLD`, on two duplicates of it.

    A vote goes on while MPI is called: by the program's own collectives, or where it is read. Where a process is lost,
    MPI's launcher mostly ends the others; an exception in one of them ends the job only under `python -m mpi4py`.
    Every process of it makes one at the same time.

    Args:
        communicator: An intracommunicator of mpi4py, or None for `MPI.COMM_WORLD`.

    Raises:
        RuntimeError: If MPI is not initialised, or finalized.
    """

    name: str = field(default="MPI", init=False)
    rank: int = field(default=0, init=False)
    world_size: int = field(default=1, init=False)
    _communicator: Any = None
    _mpi: Any = field(init=False, repr=False)
    _gathers: Any = field(default=None, init=False, repr=False)
    _votes: Any = field(default=None, init=False, repr=False)
    # Requests that are not complete, each with the buffers that MPI may still use: mpi4py does not keep them.
    _unread: dict[int, tuple[Any, ...]] = field(factory=dict, init=False, repr=False)
    _abandoned: tuple[Any, ...] = field(default=(), init=False, repr=False)
    _posted: int = field(default=0, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._mpi = import_module("mpi4py.MPI")
        if not self._mpi.Is_initialized() or self._mpi.Is_finalized():
            raise RuntimeError("MPI must be initialised and not finalized when an MPIGroup is made")
        whole = self._mpi.COMM_WORLD if self._communicator is None else self._communicator
        self._gathers, self._votes = whole.Dup(), whole.Dup()
        self.rank, self.world_size = whole.Get_rank(), whole.Get_size()

    def gather(self, content: bytes, within: float | None = None) -> list[bytes]:
        """Return what all processes give; None waits for ever, as MPI does.

        Raises:
            TimeoutError: If they have not within that time; the group is closed then.
            ConnectionError: If the group is closed, or MPI has lost a process and says so.
        """
        self._check_open()
        end = math.inf if within is None else monotonic() + within
        own, lengths = np.array([len(content)], dtype=np.int64), np.empty(self.world_size, dtype=np.int64)
        with _lost_process(self._mpi):
            self._wait((self._gathers.Iallgather(own, lengths), own, lengths), end, within)
            received = bytearray(int(lengths.sum()))
            places = np.cumsum(lengths) - lengths
            into = [received, lengths.tolist(), places.tolist(), self._mpi.BYTE]
            request = self._gathers.Iallgatherv([content, self._mpi.BYTE], into)
            self._wait((request, content, into), end, within)
        return [bytes(received[start : start + length]) for start, length in zip(places, lengths, strict=True)]

    def post(self, numbers: Sequence[float]) -> Callable[[], list[float]]:
        """Return what waits for all and returns the largest of each number.

        Raises:
            ConnectionError: As in `gather`, here or where it is read.
        """
        self._check_open()
        own = np.array(list(numbers), dtype=np.float64)
        largest = np.empty_like(own)
        with _lost_process(self._mpi):
            request = self._votes.Iallreduce(own, largest, op=self._mpi.MAX)
        place, self._posted = self._posted, self._posted + 1
        self._unread[place] = (request, own, largest)

        def read() -> list[float]:
            if place in self._unread:
                self._check_open()
                with _lost_process(self._mpi):
                    self._wait(self._unread[place], math.inf, None)
                del self._unread[place]
            numbers: list[float] = largest.tolist()
            return numbers

        return read

    def close(self) -> None:
        """Free the two duplicates, not the communicator."""
        communicators, self._gathers, self._votes = (self._gathers, self._votes), None, None
        if communicators[0] is None or self._mpi.Is_finalized():
            return
        end = monotonic() + _UNREAD
        with _lost_process(self._mpi):
            while pending := [request for request, *_ in self._unread.values() if not request.Test()]:
                if monotonic() > end:
                    break
                sleep(_LONGEST)
            # Freeing waits for what is under way, for ever where a peer does not come.
            if not pending and not self._abandoned:
                for communicator in communicators:
                    communicator.Free()

    def _check_open(self) -> None:
        if self._gathers is None:
            raise ConnectionError(f"the group of rank {self.rank} is closed")

    def _wait(self, started: tuple[Any, ...], end: float, within: float | None) -> None:
        """Wait for a request, which comes first, with the buffers that it uses."""
        pause = _SHORTEST
        try:
            while not started[0].Test():
                if monotonic() >= end:
                    raise TimeoutError(f"not all {self.world_size} processes came within {within:g} s")
                sleep(pause)
                pause = min(1.2 * pause, _LONGEST)
        except BaseException:  # a signal's as well: the others are a round ahead from here on
            self._abandoned = started
            self.close()
            raise


@contextmanager
def _lost_process(mpi: Any) -> Iterator[None]:
    try:
        yield
    except mpi.Exception as error:
        raise ConnectionError(f"MPI has lost a process: {error}") from error


_: type[Group] = MPIGroup  # type checkers compare it with the protocol
