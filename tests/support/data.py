"""Data of unknown length."""

from collections.abc import Iterator


class Unsized:
    """Four batches, without a length that could be asked for."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(4))
