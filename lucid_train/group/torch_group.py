"""TorchGroup: the processes of `torch.distributed`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from importlib import import_module
from time import monotonic
from typing import Any, final

from attrs import define, field

from lucid_train.group.protocol import Group
from lucid_train.validation import whole_number

# An engine's wait runs no Python, hence no signal handler: it is waited for in slices.
_SLICE = 0.2  # seconds
# What a vote that nobody has read may still take when the group is closed: destroying a group in use can abort.
_UNREAD = 1.0  # seconds

_LOST = "torch.distributed has lost a process"


@contextmanager
def _lost_process() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError(f"{_LOST}: {error}") from error


@final
@define(eq=False)
class TorchGroup:
    """The processes of `torch.distributed`, or a part of them, connected by two gloo groups of its own.

    So it works beside NCCL, whose collectives it neither waits for nor delays, and a vote that is under way does not
    stand before a gather. It holds no model. Every process of it makes one at the same time.

    Args:
        ranks: The ranks of a part of the processes, this one among them, or None for all. The gloo groups of a part
            are given back by `torch.distributed.destroy_process_group()` only: PyTorch names them by their ranks,
            and a second group of a name finds the addresses of the first.

    Raises:
        RuntimeError: If `torch.distributed` is not initialised.
        ValueError: If this process is not in `ranks`.
    """

    name: str = field(default="torch.distributed", init=False)
    rank: int = field(default=0, init=False)
    world_size: int = field(default=1, init=False)
    _ranks: Iterable[int] | None = None
    _torch: Any = field(init=False, repr=False)
    _dist: Any = field(init=False, repr=False)
    _gathers: Any = field(default=None, init=False, repr=False)
    _votes: Any = field(default=None, init=False, repr=False)
    _unread: list[Any] = field(factory=list, init=False, repr=False)
    _abandoned: list[Any] = field(factory=list, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._torch = import_module("torch")
        self._dist = import_module("torch.distributed")
        if not (self._dist.is_available() and self._dist.is_initialized()):
            raise RuntimeError(
                "torch.distributed must be initialised before a TorchGroup is made; "
                'call torch.distributed.init_process_group("gloo")'
            )
        ranks, place = None, self._dist.get_rank()
        if self._ranks is not None:
            ranks = sorted({whole_number("ranks", rank, least=0) for rank in self._ranks})
            if place not in ranks:
                raise ValueError(f"'ranks' must contain the rank of this process, {place}: {ranks}")
        # The others of the world need not take part in making a group of a part.
        self._gathers, self._votes = (
            self._dist.new_group(ranks, backend="gloo", use_local_synchronization=ranks is not None) for _ in range(2)
        )
        self.rank, self.world_size = self._dist.get_rank(self._gathers), self._dist.get_world_size(self._gathers)

    def gather(self, content: bytes, within: float | None = None) -> list[bytes]:
        """Return what all processes give; None waits for as long as gloo does, which is 30 minutes.

        Raises:
            TimeoutError: If they have not within that time; the group is closed then.
            ConnectionError: If the group is closed or a process is lost; the engine's error is its cause.
        """
        self._check_open()
        torch, end = self._torch, math.inf if within is None else monotonic() + within
        sizes = torch.empty(self.world_size, dtype=torch.int64, device="cpu")
        self._all_gather(sizes.split(1), torch.tensor([len(content)], dtype=torch.int64, device="cpu"), end, within)
        lengths = sizes.tolist()
        width = max(1, *lengths)  # no collective takes an empty tensor
        padded = torch.frombuffer(bytearray(content.ljust(width, b"\0")), dtype=torch.uint8)
        contents = torch.empty((self.world_size, width), dtype=torch.uint8, device="cpu")
        self._all_gather(contents.unbind(), padded, end, within)
        return [bytes(row[:length].numpy()) for row, length in zip(contents, lengths, strict=True)]

    def post(self, numbers: Sequence[float]) -> Callable[[], list[float]]:
        """Return what waits for all and returns the largest of each number.

        Raises:
            ConnectionError: As in `gather`, here or where it is read.
        """
        self._check_open()
        votes = self._torch.tensor(list(numbers), dtype=self._torch.float64, device="cpu")
        with _lost_process():
            work = self._dist.all_reduce(votes, op=self._dist.ReduceOp.MAX, group=self._votes, async_op=True)
        self._unread.append(work)

        def read() -> list[float]:
            if work in self._unread:
                self._check_open()
                self._wait(work, math.inf, None)
                self._unread.remove(work)
            largest: list[float] = votes.tolist()
            return largest

        return read

    def close(self) -> None:
        """Destroy the two gloo groups, not what the program has initialised."""
        groups, self._gathers, self._votes = (self._gathers, self._votes), None, None
        if groups[0] is None or not self._dist.is_initialized():
            return
        end = monotonic() + _UNREAD
        for work in self._unread:
            with suppress(RuntimeError):  # a process is lost, or has not posted: there is nobody to say it to
                work.wait(timedelta(seconds=max(0.001, end - monotonic())))
        # Destroying waits for what is under way, up to 30 minutes where a process does not come.
        if self._ranks is None and all(work.is_completed() for work in [*self._unread, *self._abandoned]):
            for group in groups:
                self._dist.destroy_process_group(group)

    def _check_open(self) -> None:
        if self._gathers is None:
            raise ConnectionError(f"the group of rank {self.rank} is closed")

    def _all_gather(self, out: Sequence[Any], own: Any, end: float, within: float | None) -> None:
        with _lost_process():
            work = self._dist.all_gather(list(out), own, group=self._gathers, async_op=True)
        self._wait(work, end, within)

    def _wait(self, work: Any, end: float, within: float | None) -> None:
        try:
            while not self._arrived(work, min(end - monotonic(), _SLICE)):
                if monotonic() >= end:
                    raise TimeoutError(f"not all {self.world_size} processes came within {within:g} s")
        except BaseException:  # a signal's as well: the others are a round ahead from here on
            self._abandoned.append(work)
            self.close()
            raise

    @staticmethod
    def _arrived(work: Any, seconds: float) -> bool:
        try:
            work.wait(timedelta(seconds=max(0.001, seconds)))
        except RuntimeError:
            # Time that has passed and a lost process are both RuntimeErrors; only the latter ends the work.
            if not work.is_completed():
                return False
            # It may also have come to its end since its time had passed: this returns at once, and says.
            with _lost_process():
                work.wait()
        return True


_: type[Group] = TorchGroup  # type checkers compare it with the protocol
