"""The lengths of schedules: a count, a share of the run, or as long as the schedule's part of the run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from attrs import frozen

from lucid_train.validation import whole_number

if TYPE_CHECKING:
    from fractions import Fraction

# A place in a run: exact, so that the rounding of one part does not move the next.
Place: TypeAlias = "int | Fraction"
Length: TypeAlias = int | str | None

_SHARE = re.compile(r"(\d+(?:\.\d+)?) ?%")


def count_or_share(name: str, value: Any, *, least: int = 1) -> int | str:
    """Return `value` as a count or, unchanged, as a share of the run such as "5%", or refuse it.

    Raises:
        TypeError: If it is neither an int nor a string.
        ValueError: If it is a count below `least`, or no share above 0% and at most 100%.
    """
    if isinstance(value, float) and 0 < value < 1:
        raise TypeError(f"{name!r} must be an int, or a share of the run as a string, '{100 * value:g}%': {value}")
    if not isinstance(value, str):
        return whole_number(name, value, least=least)
    match = _SHARE.fullmatch(value)
    if match is None or not 0 < float(match[1]) <= 100:
        raise ValueError(f"{name!r} must be a share of the run, above 0% and at most 100%, such as '5%': {value!r}")
    return value


def check_rising(name: str, places: Sequence[Length]) -> None:
    """Refuse counts that do not rise, and shares that do not; a count and a share compare only in a run that is known.

    Raises:
        ValueError: If one is not above the one before of its kind.
    """
    counts: list[Place] = [each for each in places if isinstance(each, int)]
    shares: list[Place] = [share(each) for each in places if isinstance(each, str)]
    if any(one >= other for each in (counts, shares) for one, other in pairwise(each)):
        raise ValueError(f"{name!r} must rise: {list(places)}")


def share(text: str) -> Fraction:
    """Return a share such as "5%" as an exact fraction."""
    from fractions import Fraction  # loads decimal, which most schedules do without

    return Fraction(text.rstrip("% ")) / 100


def counted(length: float | str, unit: str) -> str:
    """Return a length in words.

    >>> counted(1, "epoch"), counted(1500, "step"), counted("5%", "epoch")
    ('1 epoch', '1,500 steps', '5 %')
    """
    if isinstance(length, str):
        return f"{length.rstrip('% ')} %"
    return f"{length:,} {unit}{'s' * (length != 1)}"


def every(length: float | str, unit: str) -> str:
    """Return how often in words.

    >>> every(1, "epoch"), every(30, "epoch"), every("10%", "step")
    ('every epoch', 'every 30 epochs', 'every 10 %')
    """
    return f"every {unit}" if length == 1 else f"every {counted(length, unit)}"


def rounded(place: Place) -> int:
    """Return the nearest whole place, the later one of two."""
    return int((2 * place + 1) // 2)


def later(before: Place, after: Place) -> Place:
    """Return `after`, or the next whole place where both are rounded to the same: a part lasts at least 1."""
    return after if rounded(after) > rounded(before) else rounded(before) + 1


@frozen
class Span:
    """The part of a run that a schedule covers, as far as it is known.

    Args:
        run: Length of the whole run, in epochs or steps; None if it is not known.
        start: Where in the run the part begins.
        end: Where the next part begins, or the run ends; None if it is not known.
    """

    run: int | None = None
    start: Place = 0
    end: int | None = None

    def extent(self, length: int | str) -> Place | None:
        """Return a length in epochs or steps, exactly; None for a share of a run whose length is not known."""
        if not isinstance(length, str):
            return length
        return None if self.run is None else share(length) * self.run


class Missing:
    """A placeholder for a count that `sized` fills in: any computation with it raises, so `affine` need not check."""

    def __init__(self, what: str, schedule: object) -> None:
        self.reason: str = f"{what} of {schedule!r} needs the length of the run: call .sized(n) first"

    def refuse(self, *_: object) -> NoReturn:
        """Raise the error that names what is missing."""
        raise ValueError(self.reason)


for _operation in (
    *("lt", "le", "gt", "ge", "add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv"),
    *("rfloordiv", "mod", "rmod", "rdivmod", "pow", "rpow", "len", "iter", "getitem", "float", "index"),
):
    setattr(Missing, f"__{_operation}__", Missing.refuse)
