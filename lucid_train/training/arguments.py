"""What a Trainer is given is refused here if it will not do: validators and a converter for its fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lucid_train.callback import Callback, check_state_is_known
from lucid_train.optims.param_groups import param_groups
from lucid_train.saving.random_state import is_generator


def callable_or_none(instance: object, attribute: Any, value: object) -> None:
    """Refuse what is no function."""
    if value is not None and not callable(value):
        raise TypeError(f"{attribute.name!r} must be a function: {value!r}")


def iterable_or_none(instance: object, attribute: Any, value: object) -> None:
    """Refuse data that cannot be iterated over."""
    if value is not None and not isinstance(value, Iterable) and not hasattr(value, "__getitem__"):
        raise TypeError(f"{attribute.name!r} must be iterable, one pass is one epoch: {value!r}")


def optimizer_or_none(instance: object, attribute: Any, value: object) -> None:
    """Refuse an optimizer without groups."""
    if value is not None:
        param_groups(value)


def listed(instance: object, attribute: Any, value: tuple[object, ...]) -> None:
    """Refuse what is no callback, and one that comes twice."""
    for index, callback in enumerate(value):
        if not isinstance(callback, Callback):
            cure = "pass an instance" if isinstance(callback, type) else "derive it from lucid_train.Callback"
            raise TypeError(f"'callbacks[{index}]' must be a Callback, {cure}: {callback!r}")
        if any(callback is other for other in value[:index]):
            raise ValueError(f"'callbacks[{index}]' must not be in the list twice: {callback!r}")
        check_state_is_known(callback)


def as_tuple(callbacks: Iterable[Callback]) -> tuple[Callback, ...]:
    """Return the callbacks as a tuple, which nobody edits in the middle of a fit."""
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"'callbacks' must be a list of callbacks: {callbacks!r}")
    return tuple(callbacks)


def savable(instance: object, attribute: Any, value: object) -> None:
    """Refuse what cannot be saved."""
    if not isinstance(value, Mapping):
        raise TypeError(f"'extras' must be a mapping of names to what is to be saved: {value!r}")
    for name, each in value.items():
        if not (isinstance(name, str) and (is_generator(each) or hasattr(each, "load_state_dict"))):
            rule = "a random generator or an object with state_dict() and load_state_dict(), under a name"
            raise TypeError(f"'extras[{name!r}]' must be {rule}: {each!r}")
