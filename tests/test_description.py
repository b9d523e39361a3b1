import enum
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucid_train import EpochEnd, Trainer, nn
from lucid_train.callbacks import EarlyStopping, TerminateOnNaN
from lucid_train.description import (
    class_labels,
    hook_name,
    object_name,
    parameter_count,
    plain_settings,
    text_without_addresses,
)


def save(event: object) -> None: ...


def logged(method: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(method)
    def wrapper(*arguments: object) -> None:
        method(*arguments)

    return wrapper


class Listener:
    @logged
    def listen(self, event: object) -> None: ...

    @classmethod
    def shared(cls, event: object) -> None: ...

    def __call__(self, event: object) -> None: ...


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class OnADevice:
    """As a tensor with one number in it."""

    ndim = 0

    def item(self) -> float:
        return 0.5


@pytest.mark.parametrize(
    ("hook", "name"),
    [
        (save, "save"),
        (logged(save), "save"),
        (lambda event: None, "<lambda>"),
        (EarlyStopping().on_epoch_end, "EarlyStopping.on_epoch_end"),
        (Listener().listen, "Listener.listen"),
        (Listener.shared, "Listener.shared"),
        ([].append, "list.append"),
        (print, "print"),
        (math.sqrt, "sqrt"),
        (functools.partial(Listener().listen, 3), "Listener.listen"),
        (Listener(), "Listener"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_listener_is_named_by_its_object_and_its_method(hook: Any, name: str) -> None:
    assert hook_name(hook) == name


def test_the_filter_of_a_condition_is_not_what_a_listener_is_called() -> None:
    trainer = Trainer(epochs=2)
    trainer.on(EpochEnd, every=2)(save)
    assert list(map(hook_name, trainer._listeners[0].hooks(EpochEnd))) == ["save"]


def test_objects_of_one_class_are_numbered_from_the_second_on() -> None:
    objects = [TerminateOnNaN(), EarlyStopping(), TerminateOnNaN(), save, save, TerminateOnNaN()]
    names = ["TerminateOnNaN", "EarlyStopping", "TerminateOnNaN#2", "save", "save#2", "TerminateOnNaN#3"]
    assert class_labels(objects) == names
    assert class_labels([]) == []


def test_the_name_of_an_object() -> None:
    assert [object_name(value) for value in (save, Listener, Listener())] == ["save", "Listener", "Listener"]


def test_places_in_memory_are_left_out_of_a_text() -> None:
    assert text_without_addresses(repr(object())) == "<object>"
    assert text_without_addresses(f"[{save!r}, {object()!r}]") == "[<function save>, <object>]"
    assert text_without_addresses("lr=0x1p-3") == "lr=0x1p-3"


class Sized:
    """A model with parameters such as PyTorch's, one of them with a single number."""

    def parameters(self) -> list[Any]:
        return [np.zeros((2, 3)), np.zeros(())]


class Broken:
    def parameters(self) -> list[Any]:
        raise OSError("no parameters")


@pytest.mark.parametrize(
    ("model", "count"), [(nn.Linear(3, 2), 8), (Sized(), 7), (Broken(), None), (None, None), (save, None)]
)
def test_the_numbers_of_a_model_are_counted_or_unknown(model: Any, count: int | None) -> None:
    assert parameter_count(model) == count


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (0.5, 0.5),
        ("loss", "loss"),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array(0.5), 0.5),
        (OnADevice(), 0.5),
        (np.zeros(2), "numpy.ndarray"),
        (1j, "builtins.complex"),
        (Color.RED, "red"),
        (Level.HIGH, 3),
        ((1, [2, "a"]), [1, [2, "a"]]),
        ({2, 1}, [1, 2]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ({1: (2,)}, {"1": [2]}),
        (Path("runs"), f"{type(Path()).__module__}.{type(Path()).__qualname__}"),
        (math.sqrt, "math.sqrt"),
        (functools.partial(math.sqrt, 4), "functools.partial"),
        (Sized, f"{__name__}.Sized"),
        (Sized(), f"{__name__}.Sized"),
        (Sized.parameters, f"{__name__}.Sized.parameters"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_setting_as_plain_json(value: Any, plain: Any) -> None:
    found = plain_settings(value)
    assert (found, type(found)) == (plain, type(plain))
