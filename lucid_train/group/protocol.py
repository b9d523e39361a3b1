"""Group: the processes of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, final, runtime_checkable

from attrs import frozen


@runtime_checkable
class Group(Protocol):
    """The processes of a run, which are numbered from 0: each has a rank.

    Every process calls `gather` and `post` equally often and, of each, in the same order; between the two the order is
    free. What does not keep to that is for `Exchanges` to find out.

    A field or a plain attribute serves for `name`, `rank` and `world_size`.
    """

    @property
    def name(self) -> str:
        """What connects them, such as "torch.distributed", for messages."""
        ...

    @property
    def rank(self) -> int:
        """The number of this process."""
        ...

    @property
    def world_size(self) -> int:
        """How many there are."""
        ...

    def gather(self, content: bytes, within: float | None = None) -> list[bytes]:
        """Give something to all; return what each process gives, in the order of their ranks. This waits for all.

        Args:
            content: What this process gives, of any length.
            within: Seconds to wait for the others; None waits as long as the engine does.

        Raises:
            TimeoutError: If they have not come within that time. Nothing more can be exchanged after it.
        """
        ...

    def post(self, numbers: Sequence[float]) -> Callable[[], list[float]]:
        """Give numbers to all, as many as every other process gives, and return at once.

        Returns:
            A function that waits for all and returns the largest of each number.
        """
        ...

    def close(self) -> None:
        """Give back what the group holds. Nothing may be exchanged after it."""
        ...


@final
@frozen
class Solo:
    """A group of one process. `Trainer(group=Solo())` says that each process is a run of its own.

    >>> Solo().gather(b"alone")
    [b'alone']
    """

    name: str = "one process"
    rank: int = 0
    world_size: int = 1

    def gather(self, content: bytes, within: float | None = None) -> list[bytes]:
        """Return what is given."""
        return [content]

    def post(self, numbers: Sequence[float]) -> Callable[[], list[float]]:
        """Return what returns the numbers."""
        return lambda: list(numbers)

    def close(self) -> None:
        """Do nothing."""
