"""Progress: all that a run has come to, as one value; and how such a value becomes plain JSON and is read back."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

from attrs import define, field, fields, has, resolve_types

from lucid_train.history import EpochRecord, History
from lucid_train.metrics import Means
from lucid_train.validation import check_entries, one_of

T = TypeVar("T")
Phase = Literal["between", "start", "steps", "evaluation", "end"]


@define(eq=False)
class Progress:
    """All that a run has come to, and that must survive a save and a resume.

    Args:
        epoch: The number of the current epoch, or of the last one, from 1; 0 before the first.
        step: Steps done, counted through the whole run.
        phase: What comes next: "between" two epochs one is opened; at its "start" the pass over the data begins; then
            come more "steps", or an "evaluation" that is due after a number of steps; at its "end" all steps are done,
            and it is evaluated, if that is due, and closed.
        first_step: Steps done when the current epoch began.
        means: The metrics of the open epoch's steps.
        seconds: How long it has taken.
        rates: The rates that its last update used, one per group. While training, a tensor's rate is a copy, not a
            float, so that no device waits.
        random_before: The random generators before the pass over the data began; None where the data does not depend
            on them.
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
    phase: Phase = "between"
    first_step: int = 0
    means: Means = field(factory=Means)
    seconds: float = 0.0
    rates: list[float] | None = None
    random_before: dict[str, Any] | None = None
    pass_left: bool = False
    batch_taken: bool = False
    steps_per_epoch: int | None = None
    finished_reason: str | None = None
    history: History = field(factory=History)

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.first_step <= self.step:
            raise ValueError(f"'first_step' must be from 0 to the {self.step} steps done: {self.first_step}")
        if self.steps_per_epoch is not None and self.steps_per_epoch < 0:
            raise ValueError(f"'steps_per_epoch' must be >= 0: {self.steps_per_epoch}")
        if self.epoch != len(self.history) + (self.phase != "between"):
            raise ValueError(f"'epoch' must come after the {len(self.history)} epochs in the history: {self.epoch}")

    @property
    def epoch_step(self) -> int:
        """Steps done in the open epoch."""
        return 0 if self.phase == "between" else self.step - self.first_step

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
        self.means, self.seconds, self.rates, self.random_before = Means(), 0.0, None, None


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
