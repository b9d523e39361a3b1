"""Objects described: for people in a name, or in the note of an error, for JSON in plain values."""

from __future__ import annotations

import inspect
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

_LONGEST_TEXT = 1000


def object_name(value: Any) -> str:
    """Return the name of a function or class, and the class's name of any other object."""
    return str(getattr(value, "__name__", type(value).__name__))


def class_labels(objects: Iterable[object]) -> list[str]:
    """Return a distinct name for each object: its `object_name`, numbered from the second of that name on.

    >>> class_labels([0.5, 2, 1.5])
    ['float', 'int', 'float#2']
    """
    places: Counter[str] = Counter()
    labels = []
    for name in map(object_name, objects):
        places[name] += 1
        labels.append(name if places[name] == 1 else f"{name}#{places[name]}")
    return labels


def hook_name(hook: Any, owner: str | None = None) -> str:
    """Return the name of a listener: "EarlyStopping.on_epoch_end" of a method, its own of a function.

    Args:
        hook: Anything that can be called with an event.
        owner: What to write before the dot; by default the class whose method it is, if it is one.
    """
    # A decorated method has __wrapped__ too, but it wraps a function that is bound to no object.
    while isinstance(hook, partial) or (hasattr(hook, "__wrapped__") and not hasattr(hook, "__self__")):
        hook = hook.func if isinstance(hook, partial) else hook.__wrapped__
    name = object_name(hook)
    itself = getattr(hook, "__self__", None)
    if owner is None and itself is not None and not inspect.ismodule(itself):  # as it is of a function written in C
        owner = (itself if isinstance(itself, type) else type(itself)).__name__
    return name if owner is None else f"{owner}.{name}"


def short_text(value: Any, text_of: Callable[[Any], str] = repr) -> str:
    """Return the repr of a value, or its str, cut to a limit; a value whose repr raises is described by its class."""
    try:
        text = text_of(value)
    except Exception as error:
        text = f"<{type(value).__name__}, whose {text_of.__name__} raises {type(error).__name__}>"
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."


def error_text(error: BaseException) -> str:
    """Return an exception as the last line of its traceback has it.

    >>> error_text(ValueError("no such metric")), error_text(ZeroDivisionError())
    ('ValueError: no such metric', 'ZeroDivisionError')
    """
    return f"{type(error).__name__}: {short_text(error, str)}".rstrip(": ")


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception that can be changed; others, such as a frozen dataclass, stay as they are."""
    with suppress(Exception):
        error.add_note(note)


def attributed(what: str, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Call a function of the user's; an exception in it leaves as it is, with a note that says whose it was."""
    try:
        return function(*arguments, **options)
    except BaseException as error:
        add_note(error, f"raised by {what}")
        raise


def text_without_addresses(text: str) -> str:
    """Return a repr without the places in memory, which no two processes agree on.

    >>> text_without_addresses("<Linear object at 0x7f00ba5eba11>")
    '<Linear>'
    """
    return re.sub(r"( object)? at 0x[0-9A-Fa-f]+", "", text)


def parameter_count(model: Any) -> int | None:
    """Return how many numbers a model trains, or None if it cannot say."""
    try:
        # A tensor has a shape, a parameter of lucid_train.nn has data that has one.
        arrays = [each if hasattr(each, "shape") else each.data for each in model.parameters()]
        return sum(math.prod(map(int, array.shape)) for array in arrays)
    except Exception:  # any object may be a model, and describing it must not end its training
        return None


def plain_settings(value: Any) -> Any:
    """Return a setting as plain JSON; what JSON lacks by the name of its class, a function or class by its own."""
    if isinstance(value, Enum):
        value = value.value
    if getattr(value, "ndim", None) == 0:  # a number of numpy or PyTorch
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (list, tuple)):
        return [plain_settings(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain_settings(item) for item in value), key=repr)
    if isinstance(value, Mapping):
        return {str(name): plain_settings(item) for name, item in value.items()}
    named = value if callable(value) and hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"
