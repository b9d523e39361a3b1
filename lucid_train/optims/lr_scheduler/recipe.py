"""Recipe: a schedule described before there is an optimizer, with warm-up and one schedule after another."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from attrs import define, field

from lucid_train.optims.lr_scheduler.compose import SequentialLR
from lucid_train.optims.lr_scheduler.warmup import LinearLR
from lucid_train.validation import whole_number

# Where in memory something stands, which no two processes agree on.
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
_SHARE = re.compile(r"(\d+(?:\.\d+)?) ?%")

# The setting that is the length of a whole schedule: left out in a recipe, it is as long as its phase.
_LENGTHS = {
    "ConstantLR": "total_iters",
    "CosineAnnealingLR": "T_max",
    "LinearLR": "total_iters",
    "OneCycleLR": "total_steps",
    "PolynomialLR": "total_iters",
}


@define(frozen=True, repr=False)
class Phase:
    """One schedule of a recipe: its class, its settings, and the epoch at which the next one takes over."""

    schedule: Callable[..., Any]
    settings: Mapping[str, Any]
    until: int | str | None = None

    @property
    def name(self) -> str:
        """The schedule's name."""
        return getattr(self.schedule, "__name__", None) or _ADDRESS.sub("", repr(self.schedule))

    def arguments(self, shown: Callable[[Any], str]) -> str:
        """Return the schedule and its settings as one would write them."""
        return ", ".join([self.name, *(f"{name}={shown(value)}" for name, value in self.settings.items())])

    def built(self, optimizer: Any, length: int | None, start: int, end: int | None) -> Any:
        """Return the schedule on `optimizer`; it lasts from `start` to `end`, or for good."""
        settings = {name: _number(value, length, name) for name, value in self.settings.items()}
        implied = _LENGTHS.get(self.name)
        if implied is not None and implied not in settings and not settings.keys() & {"epochs", "steps_per_epoch"}:
            last = _known(length, implied) if end is None else end
            if last <= start:
                raise ValueError(f"{implied!r} of {self.name} must be given: the run ends at {last}, before it begins")
            settings[implied] = last - start
        return self.schedule(optimizer, **settings)


@define(frozen=True, init=False, repr=False)
class Recipe:
    """A schedule without an optimizer: what to build, later, on any optimizer.

    Call it with an optimizer for the scheduler. Join schedules with `until` and `then`, put a warm-up before with
    `warmup`; each returns a new recipe. A length, where a setting or a place takes a number of epochs or steps, may be
    a share of the run, such as "5%", rounded and at least 1; and the setting that is a schedule's whole length
    (`T_max`, `total_iters`, `total_steps`) may be left out: it is then as long as its part of the run.

    Args:
        schedule: A schedule's class, or a function that builds one on the optimizer that it is given first.
        **settings: Its arguments beside the optimizer.

    Raises:
        TypeError: If `schedule` cannot be called so.
        ValueError: If a share is none.

    >>> from lucid_train import nn, optims
    >>> from lucid_train.optims.lr_scheduler import CosineAnnealingLR
    >>> recipe = Recipe(CosineAnnealingLR).warmup("20%", start_factor=0.5)
    >>> scheduler = recipe(optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0), length=10)
    >>> [round(scheduler.lr_at(epoch)[0], 3) for epoch in range(10)]
    [0.5, 0.75, 1.0, 0.962, 0.854, 0.691, 0.5, 0.309, 0.146, 0.038]
    """

    phases: tuple[Phase, ...] = field()

    def __init__(self, schedule: Callable[..., Any], /, **settings: Any) -> None:
        self.__attrs_init__((_phase(schedule, settings),))

    def until(self, end: int | str) -> Recipe:
        """Return the recipe with an end: from there on comes what `then` says.

        Args:
            end: The first epoch, or step, that is no longer its own, counted from the beginning of the run; or a share
                of the run.

        Raises:
            TypeError: If it is neither.
            ValueError: If it is below 1, not after the end before it, or the recipe has an end already.
        """
        *before, last = self.phases
        if last.until is not None:
            raise ValueError(f"'end' must follow a schedule, as in .then(...).until({end!r}): {self!r}")
        if not isinstance(end, str):
            end = whole_number("end", end, least=1)
        _number(end, 1, "end", is_length=True)
        earlier = [phase.until for phase in before if isinstance(phase.until, int)]
        if isinstance(end, int) and earlier and end <= earlier[-1]:
            raise ValueError(f"'end' must be after the end before it, {earlier[-1]}: {end}")
        return _recipe(*before, attrs.evolve(last, until=end))

    def then(self, schedule: Callable[..., Any], /, **settings: Any) -> Recipe:
        """Return the recipe followed by another schedule, which starts from its beginning.

        Args:
            schedule: A schedule's class, or a function that builds one on the optimizer that it is given first.
            **settings: Its arguments beside the optimizer.

        Raises:
            TypeError: If `schedule` cannot be called so.
            ValueError: If the recipe has no end yet, or a share is none.
        """
        if self.phases[-1].until is None:
            raise ValueError(f"'then' must follow an end, as in .until('5%').then(...): {self!r}")
        return _recipe(*self.phases, _phase(schedule, settings))

    def warmup(self, length: int | str, *, start_factor: float = 0.1) -> Recipe:
        """Return the recipe after a warm-up: a LinearLR from `start_factor` to the whole base rate.

        What follows starts from its beginning when the warm-up is over; ends that are given stay where they are.

        Args:
            length: Epochs or steps, at least 1, or a share of the run.
            start_factor: The fraction of the base rate at the beginning. Above 0, at most 1.

        Raises:
            TypeError: If `length` is neither.
            ValueError: If an argument is out of its range.
        """
        return _recipe(*Recipe(LinearLR, start_factor=start_factor).until(length).phases, *self.phases)

    def __call__(self, optimizer: Any, length: int | None = None) -> Any:
        """Return the scheduler, built on `optimizer`.

        Args:
            optimizer: Anything with `param_groups`, a sequence of dicts with "lr".
            length: Epochs of the run, or its steps if the scheduler is stepped by those. Needed where the recipe speaks
                of shares, or leaves a length out.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If an argument is out of its range, or the length of the run is needed and not known.
        """
        if length is not None:
            length = whole_number("length", length, least=1)
        if self.phases[-1].until is not None:
            raise ValueError(f"a recipe must not end before the run; say what comes then: {self!r}.then(...)")
        ends = [_number(phase.until, length, "until", is_length=True) for phase in self.phases]
        starts = [0, *ends[:-1]]
        for start, end, phase in zip(starts, ends, self.phases, strict=True):
            if end is not None and end <= start:
                raise ValueError(f"{phase.name} must last an epoch at least: it would go from {start} to {end}")
        parts = [
            phase.built(optimizer, length, start, end)
            for phase, start, end in zip(self.phases, starts, ends, strict=True)
        ]
        return parts[0] if len(parts) == 1 else SequentialLR(optimizer, parts, ends[:-1])

    def described(self) -> str:
        """Return the recipe as `repr` shows it, but the same in every process: functions by their names."""
        return self._text(lambda value: getattr(value, "__qualname__", None) or _ADDRESS.sub("", repr(value)))

    def __repr__(self) -> str:
        return self._text(repr)

    def _text(self, shown: Callable[[Any], str]) -> str:
        text = ""
        for phase in self.phases:
            arguments = phase.arguments(shown)
            text += f".then({arguments})" if text else f"Recipe({arguments})"
            text += "" if phase.until is None else f".until({phase.until!r})"
        return text


def _recipe(*phases: Phase) -> Recipe:
    recipe = Recipe.__new__(Recipe)
    recipe.__attrs_init__(phases)
    return recipe


def _phase(schedule: Any, settings: Mapping[str, Any]) -> Phase:
    if not callable(schedule) or (hasattr(schedule, "step") and not isinstance(schedule, type)):
        raise TypeError(f"'schedule' must be a schedule's class or a function that builds one: {schedule!r}")
    signature = inspect.signature(schedule)
    try:
        signature.bind_partial(None, **settings)
    except TypeError as error:
        raise TypeError(
            f"{getattr(schedule, '__name__', schedule)} cannot be built, {error}: {dict(settings)!r}"
        ) from None
    for name, value in settings.items():
        _number(value, 1, name)
    return Phase(schedule, dict(settings))


def _number(value: Any, length: int | None, name: str, *, is_length: bool = False) -> Any:
    """Return a setting with the shares in it as numbers of epochs or steps; what is no share stays as it is."""
    if isinstance(value, (list, tuple)):
        return [_number(item, length, name) for item in value]
    if not isinstance(value, str) or not (is_length or "%" in value):
        return value
    match = _SHARE.fullmatch(value)
    if match is None or not 0 < float(match[1]) <= 100:
        raise ValueError(f"{name!r} must be a share of the run, above 0% and at most 100%, such as '5%': {value!r}")
    # Half up, as one rounds by hand; of a short run a share is one epoch at least.
    return max(1, int(_known(length, name, value) * float(match[1]) / 100 + 0.5))


def _known(length: int | None, name: str, value: str | None = None) -> int:
    if length is None:
        what = f"{name}={value!r}" if value else f"{name!r}, which is left out,"
        raise ValueError(
            f"the length of the run must be known for {what} to be a number; "
            "pass recipe(optimizer, length=...) or LRSchedulerCallback(..., length=...)"
        )
    return length
