"""Progress: all that a run has come to, as one value; and how such a value becomes plain JSON and is read back."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from attrs import define, field, fields, has, resolve_types

from lucid_train.history import EpochRecord, History
from lucid_train.metrics import Means
from lucid_train.validation import check_entries, one_of

T = TypeVar("T")
# Floats are made of counts, and sums of counts; up to here they are exact.
_MOST = 2**53
# And up to here they are floats at all.
_LARGEST = 2**1000
Phase = Literal["between", "start", "steps", "evaluation", "asked", "end"]


@define
class DrawnBatch:
    """What is known of a batch after its step.

    Args:
        fingerprint: Its digest, or None if it had no content to take one of.
        random: The random generators that drawing it changed, as they were before.
    """

    fingerprint: str | None
    random: dict[str, Any] = field(factory=dict)


@define(eq=False)
class DataPass:
    """A pass over the data: what it began with, and what it gave.

    Args:
        epoch: The epoch that it began with.
        first_step: Steps done when it began.
        random: The random generators before it; None where the data does not depend on them.
        data: The data's own state before it, or None if it has none.
        left: Whether the pass before had been left before its end.
        batches: Its batches number 1, 2, 4, 8, ...
    """

    epoch: int
    first_step: int
    random: dict[str, Any] | None = None
    data: Any = None
    left: bool = False
    batches: list[DrawnBatch] = field(factory=list)


@define(eq=False)
class Progress:
    """All that a run has come to, and that must survive a save and a resume.

    Args:
        epoch: The number of the current epoch, or of the last one, from 1; 0 before the first.
        step: Steps done, counted through the whole run.
        updates: Those of them that performed an update.
        phase: What comes next: "between" two epochs one is opened; at its "start" the pass over the data begins; then
            come more "steps", an "evaluation" that is due after a number of steps, or one that somebody has "asked"
            for; at its "end" all steps are done, and it is evaluated, if that is due, and closed.
        first_step: Steps done when the current epoch began.
        means: The metrics of the open epoch's steps.
        seconds: How long it has taken.
        seconds_in_steps: How long of that its steps have taken, with the waits for their batches.
        seconds_waiting: How long of that they have waited for batches, where it is measured for every step.
        rates: The rates that its last update used, one per group. While training, a tensor's rate is a copy, not a
            float, so that no device waits.
        scheduled: What schedules set besides the rates, as its last update used it: by name, likewise.
        latest_pass: The pass over the data that began last; also after its end, as a resume compares it. None before
            the first.
        pass_left: Whether the data's last pass was left before its end.
        batch_taken: Whether a batch has been taken whose step has failed: it is the first one to be tried again.
        steps_per_epoch: Steps in an epoch, or None while that is unknown.
        finished_reason: Why a callback has ended the run for good, or None.
        history: The finished epochs.

    Raises:
        ValueError: If the numbers contradict one another.
    """

    epoch: int = 0
    step: int = 0
    updates: int = 0
    phase: Phase = "between"
    first_step: int = 0
    means: Means = field(factory=Means)
    seconds: float = 0.0
    seconds_in_steps: float = 0.0
    seconds_waiting: float = 0.0
    rates: list[float] | None = None
    scheduled: dict[str, list[float]] = field(factory=dict)
    latest_pass: DataPass | None = None
    pass_left: bool = False
    batch_taken: bool = False
    steps_per_epoch: int | None = None
    finished_reason: str | None = None
    history: History = field(factory=History)

    def __attrs_post_init__(self) -> None:
        for each in (self.epoch, self.step, self.steps_per_epoch or 0):
            if each > _MOST:
                raise ValueError(f"'epoch', 'step' and 'steps_per_epoch' must be <= {_MOST}: {each}")
        if not 0 <= self.first_step <= self.step:
            raise ValueError(f"'first_step' must be from 0 to the {self.step} steps done: {self.first_step}")
        if not 0 <= self.updates <= self.step:
            raise ValueError(f"'updates' must be from 0 to the {self.step} steps done: {self.updates}")
        if self.steps_per_epoch is not None and self.steps_per_epoch < 0:
            raise ValueError(f"'steps_per_epoch' must be >= 0: {self.steps_per_epoch}")
        latest = self.latest_pass
        if latest is not None and not 0 <= latest.first_step <= self.step:
            raise ValueError(
                f"'latest_pass.first_step' must be from 0 to the {self.step} steps done: {latest.first_step}"
            )
        if latest is not None and not 1 <= latest.epoch <= self.epoch:
            raise ValueError(f"'latest_pass.epoch' must be from 1 to {self.epoch}: {latest.epoch}")
        if self.epoch != len(self.history) + (self.phase != "between"):
            raise ValueError(f"'epoch' must come after the {len(self.history)} epochs in the history: {self.epoch}")

    @property
    def epoch_step(self) -> int:
        """Steps done in the open epoch."""
        return 0 if self.phase == "between" else self.step - self.first_step

    @property
    def is_inside(self) -> bool:
        """Whether the pass of the open epoch has begun and not ended."""
        return self.phase in ("steps", "evaluation", "asked")

    @property
    def steps_are_done(self) -> bool:
        """Whether the open epoch has all its steps, as far as their number is known."""
        return self.phase == "end" or (self.phase != "between" and self.epoch_step == self.steps_per_epoch)

    def open_epoch(self) -> None:
        """Open the next epoch, before the pass over its data begins."""
        self.epoch, self.first_step, self.phase = len(self.history) + 1, self.step, "start"

    def close_epoch(self, record: EpochRecord) -> None:
        """Close the open epoch, and forget what belongs to it alone."""
        self.history.append(record)
        self.phase = "between"
        self.means, self.rates, self.scheduled = Means(), None, {}
        self.seconds = self.seconds_in_steps = self.seconds_waiting = 0.0


def unstructure(value: Any) -> Any:
    """Return an attrs value as dicts, lists, strings and numbers; what a field's type says to be Any is left as it is.

    >>> from lucid_train.metrics import Sum
    >>> unstructure(Sum([1.5]))
    {'parts': [1.5], 'scaled': False, 'tensor': None}
    """
    if hasattr(value, "state_dict"):
        return value.state_dict()
    if has(type(value)):
        held = [(name, kind, getattr(value, name)) for name, kind in _types(type(value)).items()]
        return {name: each if _holds_anything(kind) else unstructure(each) for name, kind, each in held}
    if isinstance(value, dict):
        return {name: unstructure(each) for name, each in value.items()}
    if isinstance(value, list):
        return [unstructure(each) for each in value]
    # A tensor that stands for a number is read here and not before, as its device is waited for.
    if value is None or isinstance(value, (bool, str)):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def structure(cls: type[T], state: Any, name: str) -> T:
    """Return the attrs value that `unstructure` made a state of.

    Args:
        cls: The attrs class.
        state: What `unstructure` returned.
        name: The state's name, for errors.

    Raises:
        ValueError: If an entry is missing, unknown or not of its field's type, naming it.

    >>> from lucid_train.metrics import Sum
    >>> structure(Sum, {"parts": [], "scaled": 1, "tensor": None}, "sum")
    Traceback (most recent call last):
    ...
    ValueError: 'sum.scaled' must be bool: 1
    """
    types = _types(cls)
    check_entries(f"{name!r}", state, types)
    return cls(**{entry: _structured(kind, state[entry], f"{name}.{entry}") for entry, kind in types.items()})


def _types(cls: Any) -> dict[str, Any]:
    return {each.name: each.type for each in fields(resolve_types(cls))}


def _holds_anything(kind: Any) -> bool:
    return kind is Any or any(map(_holds_anything, get_args(kind)))


def _structured(kind: Any, value: Any, name: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or type(value) is kind:
        return value
    if origin is Literal:
        return one_of(name, value, arguments)
    if origin is UnionType:
        return value if type(value) in arguments else _structured(arguments[0], value, name)
    if origin is list and isinstance(value, list):
        return [_structured(arguments[0], each, f"{name}[{index}]") for index, each in enumerate(value)]
    if origin is dict and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _structured(arguments[1], each, f"{name}.{key}") for key, each in value.items()}
    if hasattr(kind, "load_state_dict"):
        held = kind()
        held.load_state_dict(value)
        return held
    if has(kind):
        return structure(kind, value, name)
    raise ValueError(f"{name!r} must be {kind.__name__ if origin is None else kind}: {value!r:.80}")


def is_of_kind(kind: Any, value: Any) -> bool:
    """Return whether a value may be one of a declared type.

    A number may be of any library, and what a type does not say, or says of a class that cannot be asked, is not known
    to be wrong.

    >>> is_of_kind(list[float] | None, [1, 0.5]), is_of_kind(dict[str, int], {"a": "b"})
    (True, False)
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return any(type(each) is type(value) and each == value for each in arguments)
    if origin in (Union, UnionType):
        return any(is_of_kind(each, value) for each in arguments)
    if kind in (int, float, bool):
        return is_number(value) and (kind is not float or not isinstance(value, int) or abs(value) < _LARGEST)
    cls = kind if origin is None else origin
    try:
        if isinstance(cls, type) and not isinstance(value, cls):
            return False
    except TypeError:  # a protocol
        return True
    if isinstance(value, Mapping) and len(arguments) == 2:
        return all(is_of_kind(arguments[0], key) and is_of_kind(arguments[1], each) for key, each in value.items())
    if origin is tuple and arguments[-1:] != (...,):
        return len(value) == len(arguments) and all(map(is_of_kind, arguments, value))
    if isinstance(value, (list, tuple, set, frozenset)) and arguments:
        return all(is_of_kind(arguments[0], each) for each in value)
    return True


def is_number(value: Any) -> bool:
    """Return whether a value is a real number, or an array or a tensor that holds one."""
    return isinstance(value, Real) or getattr(value, "ndim", None) == 0


def check_like(name: str, value: Any, known: Any) -> None:
    """Check that a value of a state is of the kind of what it replaces, and so are its entries that both have.

    Raises:
        ValueError: If it is not, naming the place.
    """
    if known is None or (value is None and (isinstance(known, bool) or not is_number(known))):
        return
    if is_number(known):
        if not is_number(value) or (isinstance(value, int) and abs(value) >= _LARGEST):
            raise ValueError(f"{name!r} must be a number: {value!r:.80}")
    elif isinstance(known, Mapping) and isinstance(value, Mapping):
        kinds = {type(key) for key in known}
        for key, each in value.items():
            if kinds and type(key) not in kinds:
                raise ValueError(f"{name!r} must not have the entry {key!r:.80}")
            check_like(f"{name}.{key}", each, known.get(key))
    elif isinstance(known, (list, tuple)) and isinstance(value, (list, tuple)):
        for index, (each, other) in enumerate(zip(value, known, strict=False)):
            check_like(f"{name}[{index}]", each, other)
    elif not isinstance(value, type(known)) and not isinstance(known, type(value)):
        raise ValueError(f"{name!r} must be of {type(known).__name__}: {value!r:.80}")
