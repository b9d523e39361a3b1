"""Progress within an evaluation, for a display."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from operator import length_hint
from typing import TypeVar

from attrs import define, field

from lucid_train.validation import whole_number

T = TypeVar("T")


@define(eq=False)
class Tracked:
    """How far the evaluation of a fit has come.

    Attributes:
        done: How many of its items are done, or None while nothing is tracked.
        total: How many there are, or None if that is unknown.
    """

    done: int | None = field(default=None, init=False)
    total: int | None = field(default=None, init=False)


# The place in the evaluation of the fit that is running here, or None if none is.
current: ContextVar[Tracked | None] = ContextVar("lucid_train.track", default=None)


def track(iterable: Iterable[T], total: int | None = None) -> Iterator[T]:
    """Iterate over what an evaluation consists of, and let the display show how far it is.

    Outside a fit, and within another `track`, it only iterates.

    Args:
        iterable: Batches, for example.
        total: How many there are; by default what `len` says, if it says anything. At least 0.

    >>> sum(track([1, 2, 3]))
    6
    """
    if total is not None:
        whole_number("total", total, least=0)
    place = current.get()
    return iter(iterable) if place is None or place.done is not None else _counted(iterable, total, place)


def _counted(iterable: Iterable[T], total: int | None, place: Tracked) -> Iterator[T]:
    length = length_hint(iterable, -1) if total is None else total
    place.done, place.total = 0, None if length < 0 else length
    try:
        for place.done, item in enumerate(iterable):  # the number of those that are done
            yield item
    finally:
        place.done = None
