import copy
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Final, Generic, TypeVar, get_type_hints

import attr
import pytest
from attrs import NOTHING, define, field, fields

from lucid_train import (
    TRANSIENT,
    Callback,
    EpochEnd,
    EpochStart,
    Event,
    FitStart,
    StepEnd,
    Trainer,
    on,
)
from lucid_train.callbacks import Checkpoint
from lucid_train.events import event_classes, hook_names
from tests.support.copies import pickled


@define(eq=False)
class Counter(Callback):
    every: int = 1
    epochs: int = field(default=0, init=False)
    _seen: list[int] = field(factory=list, init=False, repr=False)
    _twice: int = field(init=False, repr=False)
    lock: Any = field(factory=Lock, init=False, repr=False, metadata=TRANSIENT)

    @_twice.default  # type: ignore[attr-defined, unused-ignore]  # the decorator of attrs
    def _(self) -> int:
        return 2 * self.every

    def on_epoch_end(self, event: EpochEnd) -> None:
        self.epochs += 1
        self._seen.append(event.epoch)


@define(eq=False, slots=False)
class Dictful(Counter):
    more: int = field(default=0, init=False)


class Undecorated(Counter):
    """Keeps a value that attrs does not know, and saves it itself."""

    def __init__(self, extra: int) -> None:
        super().__init__(every=3)
        self.extra = extra
        self.me = self

    def state_dict(self) -> dict[str, Any]:
        return {"extra": self.extra, "epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.extra, self.epochs = state["extra"], state["epochs"]


@define(eq=False)
class Later(Callback):
    unset: int = field(init=False)


# Misspelt and ill-signed hooks.


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("on_epoc_end", "did you mean on_epoch_end?"),
        ("on_step_stop", "did you mean on_step_start?"),
        ("on_zzz", "the hooks are .*on_epoch_end, "),
        ("on_event", "did you mean"),
        ("on_epoch_event", "did you mean"),
    ],
)
def test_a_misspelt_hook_is_refused_when_the_class_is_defined(name: str, hint: str) -> None:
    with pytest.raises(TypeError, match=f"Misspelt.{name} is not a hook; {hint}"):
        type("Misspelt", (Callback,), {name: lambda self, event: None})


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        # Keras
        ("on_train_begin", "on_fit_start"),
        ("on_train_end", "on_fit_end"),
        ("on_epoch_begin", "on_epoch_start"),
        ("on_train_batch_begin", "on_step_start"),
        ("on_train_batch_end", "on_step_end"),
        ("on_test_begin", "on_evaluate_start"),
        ("on_test_end", "on_evaluate_end"),
        # Lightning
        ("on_train_start", "on_fit_start"),
        ("on_train_epoch_start", "on_epoch_start"),
        ("on_train_epoch_end", "on_epoch_end"),
        ("on_train_batch_start", "on_step_start"),
        ("on_validation_start", "on_evaluate_start"),
        ("on_validation_end", "on_evaluate_end"),
        ("on_validation_epoch_end", "on_evaluate_end"),
        ("on_exception", "on_fit_error"),
        ("on_save_checkpoint", "on_saved"),
        # transformers
        ("on_step_begin", "on_step_start"),
        ("on_substep_end", "on_step_end"),
        ("on_evaluate", "on_evaluate_end"),
        ("on_log", "on_epoch_report"),
        ("on_save", "on_saved"),
        # skorch
        ("on_batch_begin", "on_step_start"),
        ("on_batch_end", "on_step_end"),
        # Ignite's names of events
        ("on_iteration_completed", "on_step_end"),
        ("on_epoch_completed", "on_epoch_end"),
    ],
)
def test_the_hook_of_another_library_leads_to_ours(theirs: str, ours: str) -> None:
    assert ours in hook_names()
    with pytest.raises(TypeError, match=rf"^Theirs\.{theirs} is not a hook; write {ours}\(self, event\)$"):
        type("Theirs", (Callback,), {theirs: lambda self, trainer, module: None})


@pytest.mark.parametrize(
    "name",
    [
        "on_before_backward",
        "on_after_backward",
        "on_before_optimizer_step",
        "on_pre_optimizer_step",
        "on_before_zero_grad",
        "on_grad_computed",
        "on_validation_batch_end",
        "on_test_batch_begin",
        "on_prediction_step",
        "on_predict_start",
        "on_load_checkpoint",
    ],
)
def test_a_hook_within_what_is_the_programs_own_says_whose_it_is(name: str) -> None:
    hint = "what it would do belongs in your own step function or evaluate"
    with pytest.raises(TypeError, match=f"^Theirs.{name} is not a hook; {hint}$"):
        type("Theirs", (Callback,), {name: lambda self, trainer: None})


def test_hooks_with_the_arguments_of_keras_lightning_and_transformers_are_refused() -> None:
    rule = r"must take one argument, the event: on_epoch_end\(self, .*\); write on_epoch_end\(self, event\)"
    with pytest.raises(TypeError, match=rf"Keras.on_epoch_end {rule}: the run is event\.run"):

        class Keras(Callback):
            def on_epoch_end(self, epoch, logs=None): ...  # type: ignore[no-untyped-def]

    with pytest.raises(TypeError, match=f"Lightning.on_epoch_end {rule}"):

        class Lightning(Callback):
            def on_epoch_end(self, trainer, pl_module): ...  # type: ignore[no-untyped-def]

    with pytest.raises(TypeError, match=f"Transformers.on_epoch_end {rule}"):

        class Transformers(Callback):
            def on_epoch_end(self, args, state, control, **kwargs): ...  # type: ignore[no-untyped-def]


def test_so_is_one_in_a_class_made_by_attrs() -> None:
    with pytest.raises(TypeError, match=r"Wrong.on_fit_begin is not a hook; did you mean on_fit_end\?"):

        @define(eq=False)
        class Wrong(Callback):
            def on_fit_begin(self, event: FitStart) -> None: ...


@pytest.mark.parametrize(
    "function", [lambda self: None, lambda self, epoch, logs: None, lambda self, *, event: None], ids=["0", "2", "key"]
)
def test_a_hook_that_does_not_take_one_argument_is_refused(function: Callable[..., None]) -> None:
    with pytest.raises(TypeError, match=r"Wrong.on_epoch_end must take one argument, the event"):
        type("Wrong", (Callback,), {"on_epoch_end": function})
    with pytest.raises(TypeError, match=r"Wrong.listen must take one argument, the event"):
        type("Wrong", (Callback,), {"listen": on(StepEnd)(function)})


async def waits(*arguments: object) -> None: ...


def yields(*arguments: object) -> Iterator[None]:
    yield


async def does_both(*arguments: object) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize("function", [waits, yields, does_both])
def test_a_hook_whose_body_a_call_would_not_run_is_refused(function: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match=r"Wrong.on_epoch_end must be a plain function, neither async nor with yield"):
        type("Wrong", (Callback,), {"on_epoch_end": function})
    with pytest.raises(TypeError, match=f"{function.__name__} must be a plain function"):
        Trainer().on(EpochEnd)(function)


def test_further_arguments_with_defaults_and_a_hook_that_is_none_are_fine() -> None:
    class Fine(Counter):
        on_epoch_end = None  # type: ignore[assignment]  # switches off what the base does

        def on_step_end(self, event: StepEnd, extra: Any = None, *more: Any) -> None:
            self.epochs += 100

    fine = Fine()
    Trainer(epochs=2, callbacks=[fine]).fit()
    assert fine.epochs == 200


# Which hooks are called.


def test_events_and_declared_hooks_match_one_to_one() -> None:
    library = [event for event in event_classes() if event.__module__ == "lucid_train.events"]
    declared = {name: get_type_hints(hook)["event"] for name, hook in vars(Callback).items() if name.startswith("on_")}
    assert declared == {event.hook: event for event in library}
    assert list(declared) == [event.hook for event in library]
    assert all(vars(Callback)[name].__doc__ for name in declared)


def test_only_overridden_hooks_are_listeners() -> None:
    class Sub(Counter):
        pass

    for callback in (Counter(), Sub()):
        found = {event: callback.hooks(event) for event in event_classes()}
        assert found.pop(EpochEnd) == [callback.on_epoch_end]
        assert not any(found.values())


def test_a_hook_may_come_from_a_class_that_is_no_callback_and_call_the_one_of_its_base() -> None:
    class Mixin:
        def on_fit_start(self, event: FitStart) -> None:
            super().on_fit_start(event)  # type: ignore[misc]  # which Callback has
            started.append(event)

    class Mixed(Mixin, Callback):
        pass

    started: list[FitStart] = []
    Trainer(callbacks=[Mixed()]).fit()
    assert started == [FitStart()]


def test_a_hook_may_be_a_function_of_the_event_alone() -> None:
    class Received(Event):
        pass

    def listen(event: Event) -> None: ...

    class Static(Callback):
        on_received = staticmethod(listen)
        on_epoch_start = staticmethod(listen)

    assert Static().hooks(Received) == Static().hooks(EpochStart) == [listen]


def test_a_hook_that_one_of_callback_would_hide_is_refused() -> None:
    class Mixin:
        def on_fit_start(self, event: FitStart) -> None: ...

    with pytest.raises(TypeError, match=r"Hidden must have Mixin before Callback in its bases: on_fit_start"):
        type("Hidden", (Callback, Mixin), {})
    overridden = type("Fine", (Callback, Mixin), {"on_fit_start": lambda self, event: None})
    assert len(overridden().hooks(FitStart)) == 1


# Values that attrs does not know, which a resumed run would lose.


class Annotated(Callback):
    epochs: int = 0

    def on_epoch_end(self, event: EpochEnd) -> None:
        self.epochs += 1


class Quoted(Counter):
    more: "int"


@dataclass(eq=False)
class FromDataclass(Callback):
    epochs: int = 0


@define(eq=False)
class HalfAnnotated(Callback):
    every = field(default=1)  # type: ignore[var-annotated]  # that it lacks an annotation is the case
    epochs: int = 0


class Assigned(Callback):
    def __init__(self, name: str = "a") -> None:
        self.name = name


class Slotted(Callback):
    __slots__ = "epochs"


@define(eq=False, slots=False)
class WithDict(Callback):
    def on_epoch_end(self, event: EpochEnd) -> None:
        self.late = event.epoch


class LateUndecorated(Callback):
    epochs = 0

    def on_epoch_end(self, event: EpochEnd) -> None:
        self.epochs += 1


class Unhelpful:
    more: int


@define(eq=False)
class WithUndecoratedBase(Unhelpful, Counter):
    pass


DECLARE = r"declare it in a class decorated with @define\(eq=False\), with init=False if it is state"
UNKNOWN: dict[str, tuple[type[Callback], str, str]] = {
    "annotated": (Annotated, "epochs", r"decorate Annotated with @define\(eq=False\)$"),
    "annotated in a string": (Quoted, "more", r"decorate Quoted with @define\(eq=False\)$"),
    "annotated in a base": (WithUndecoratedBase, "more", r"decorate Unhelpful with @define\(eq=False\)$"),
    "a dataclass": (FromDataclass, "epochs", r"decorate FromDataclass with @define\(eq=False\) instead of @dataclass$"),
    "beside a field without an annotation": (HalfAnnotated, "epochs", "annotate every field of HalfAnnotated$"),
    "made in __init__": (Assigned, "name", DECLARE),
    "slots by hand": (Slotted, "epochs", r"decorate Slotted with @define\(eq=False\)$"),
}
STATE_METHODS: list[dict[str, Any]] = [
    {"state_dict": lambda self: {}},
    {"load_state_dict": lambda self, state: None},
    {"state_dict": lambda self: {}, "load_state_dict": lambda self, state: None},
]
LATE: dict[str, tuple[type[Callback], str]] = {
    "with a __dict__": (WithDict, "late"),
    "over a class attribute": (LateUndecorated, "epochs"),
}


@pytest.mark.parametrize(("cls", "name", "cure"), UNKNOWN.values(), ids=UNKNOWN)
def test_a_callback_with_a_value_that_attrs_does_not_know_is_refused_with_the_cure(
    cls: type[Callback], name: str, cure: str
) -> None:
    callback = cls()
    message = f"{cls.__name__}.{name} is no attrs field, so a resumed run would lose it: {cure}"
    with pytest.raises(TypeError, match=message):
        Trainer(callbacks=[Counter(), callback])
    for ask in (callback.state_dict, callback.reset):
        with pytest.raises(TypeError, match=message):
            ask()


@pytest.mark.parametrize(("cls", "name"), LATE.values(), ids=LATE)
def test_one_that_makes_such_a_value_in_a_hook_is_refused_when_its_state_is_taken(
    cls: type[Callback], name: str
) -> None:
    callback = cls()
    trainer = Trainer(callbacks=[callback])
    assert callback.state_dict() == {}
    trainer.fit()
    message = f"{cls.__name__}.{name} is no attrs field, so a resumed run would lose it: {DECLARE}"
    with pytest.raises(TypeError, match=message):
        trainer.state_dict()
    with pytest.raises(TypeError, match=message):
        trainer.fit(restart=True)


def test_two_values_that_would_have_one_name_in_the_state_are_refused() -> None:
    @define(eq=False)
    class Twice(Callback):
        best: float = field(default=0.0, init=False)
        _best: float = field(default=1.0, init=False)

    with pytest.raises(TypeError, match=r"Twice\.best and Twice\._best must not both be state, under one name"):
        Trainer(callbacks=[Twice()])


@pytest.mark.parametrize("methods", STATE_METHODS, ids=" and ".join)
def test_a_class_that_writes_both_state_methods_is_trusted(methods: dict[str, Any]) -> None:
    callback = type("Own", (Annotated,), methods)()
    if len(methods) == 2:
        Trainer(callbacks=[callback]).fit(restart=True)
        return
    with pytest.raises(TypeError, match=r"Own.epochs is no attrs field, so a resumed run would lose it"):
        Trainer(callbacks=[callback])


class Constants(Counter):
    LIMIT: ClassVar[int] = 3
    QUOTED: "ClassVar[int]" = 3
    FIXED: Final = 3
    plain = 3

    @property
    def made(self) -> int:
        return 3


Constants.__annotations__["plain"] = "'ClassVar[int]'"  # quoted where annotations are strings anyway


class Described:
    made: int  # as a property of the callback


class WithProperty(Described, Constants):
    pass


class CachedUndecorated(Counter):
    @cached_property
    def costly(self) -> int:
        return 3


@define(eq=False)
class CachedSlotted(Counter):
    @cached_property
    def costly(self) -> int:
        return 3


@define(eq=False, slots=False)
class CachedDict(Counter):
    @cached_property
    def costly(self) -> int:
        return 3


T = TypeVar("T")


@define(eq=False)
class GenericSlotted(Callback, Generic[T]):
    value: T | None = field(default=None, init=False)


class GenericUndecorated(Counter, Generic[T]):
    pass


@attr.s(eq=False)
class Classic(Callback):
    epochs = attr.ib(default=0, init=False)


@pytest.mark.parametrize(
    "make",
    [
        Callback,
        Counter,
        Dictful,
        Constants,
        WithProperty,
        CachedUndecorated,
        CachedSlotted,
        CachedDict,
        GenericSlotted[int],
        GenericUndecorated[int],
        Classic,
        lambda: Undecorated(3),
    ],
)
def test_what_attrs_knows_and_what_is_not_state_is_fine(make: Callable[[], Callback]) -> None:
    callback = make()
    assert getattr(callback, "costly", 3) == 3
    trainer = Trainer(callbacks=[callback])
    trainer.fit()
    callback.load_state_dict(trainer.state_dict()["callbacks"][type(callback).__name__])
    assert getattr(copy.deepcopy(callback), "costly", 3) == 3


# State, copies, identity.


def test_state_is_the_fields_without_init_and_a_copy() -> None:
    counter = Counter(every=5)
    state = counter.state_dict()
    assert state == {"epochs": 0, "seen": [], "twice": 10}
    Trainer(epochs=2, callbacks=[counter]).fit()
    assert state == {"epochs": 0, "seen": [], "twice": 10}
    later = counter.state_dict()
    assert later == {"epochs": 2, "seen": [1, 2], "twice": 10}
    other = Counter(every=7)
    other.load_state_dict(later)
    later["seen"].append(3)
    assert (other.every, other.state_dict()) == (7, {"epochs": 2, "seen": [1, 2], "twice": 10})


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"epochs": 3, "seen": []}, "the state of Counter does not fit: 'twice' is missing"),
        ({"epochs": 3, "seen": [], "twice": 1, "lock": 0, "z": 0}, "'lock' is unknown, 'z' is unknown"),
        ({"every": 3}, "'epochs' is missing, 'seen' is missing, 'twice' is missing, 'every' is unknown"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(state: dict[str, Any], message: str) -> None:
    counter = Counter()
    with pytest.raises(ValueError, match=message):
        counter.load_state_dict(state)
    assert counter.epochs == 0


def test_reset_is_back_to_the_first_state_with_fresh_lists_and_the_settings_stay() -> None:
    counter = Counter(every=4)
    Trainer(epochs=2, callbacks=[counter]).fit()
    lock = counter.lock
    counter.reset()
    assert (counter.every, counter.state_dict()) == (4, {"epochs": 0, "seen": [], "twice": 8})
    assert counter.lock is lock
    Trainer(callbacks=[counter]).fit()
    assert Counter(every=4).state_dict()["seen"] == []


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, *(partial(pickled, protocol=number) for number in range(pickle.HIGHEST_PROTOCOL + 1))],
    ids=["deepcopy", *(f"pickle {number}" for number in range(pickle.HIGHEST_PROTOCOL + 1))],
)
@pytest.mark.parametrize(
    "callback", [Counter(every=3), Dictful(every=3), Undecorated(extra=7)], ids=lambda it: type(it).__name__
)
def test_a_copy_has_settings_and_state_and_a_transient_field_of_its_own(callback: Any, copied: Any) -> None:
    Trainer(callbacks=[callback]).fit()
    assert callback.lock.acquire(blocking=False)
    twin = copied(callback)
    callback.lock.release()
    assert type(twin) is type(callback)
    assert (twin.every, twin.state_dict()) == (3, callback.state_dict())
    assert getattr(twin, "me", twin) is twin
    assert twin.lock is not callback.lock
    assert not twin.lock.locked()
    assert twin._seen is not callback._seen


def test_a_state_without_a_first_value_is_refused_by_name_but_copied() -> None:
    later = Later()
    for ask in (later.state_dict, later.reset):
        with pytest.raises(TypeError, match=r"Later.unset must have a default, as a field with init=False"):
            ask()
    assert not hasattr(copy.deepcopy(later), "unset")
    later.unset = 3
    assert later.state_dict() == {"unset": 3}
    assert pickle.loads(pickle.dumps(later)).unset == 3


def test_a_transient_field_without_a_default_is_left_out_of_a_copy() -> None:
    @define(eq=False)
    class Holder(Callback):
        held: Any = field(init=False, metadata=TRANSIENT)

    holder = Holder()
    holder.held = Lock()
    assert not hasattr(copy.deepcopy(holder), "held")
    assert fields(Holder).held.default is NOTHING


def test_callbacks_are_equal_to_themselves_only_and_hashable() -> None:
    one, other = Counter(), Counter()
    assert one != other
    assert len({one, other, one}) == 2


def test_a_callback_that_attrs_compares_by_value_may_stand_beside_its_equal() -> None:
    @define
    class ByValue(Callback):
        epochs: int = field(default=0, init=False)

        def on_epoch_end(self, event: EpochEnd) -> None:
            self.epochs += 1

    pair = [ByValue(), ByValue()]
    assert pair[0] == pair[1]
    Trainer(callbacks=pair).fit()
    assert [callback.epochs for callback in pair] == [1, 1]


def test_a_hook_that_is_no_method_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Wrong\.on_epoch_end must be a method, it is a hook: 5"):
        type("Wrong", (Callback,), {"on_epoch_end": 5})


def test_a_state_that_is_no_dict_is_refused() -> None:
    with pytest.raises(ValueError, match="the state of Callback must be a dict: None"):
        Callback().load_state_dict(None)  # type: ignore[arg-type]  # that it is refused is the claim


def test_a_state_that_cannot_be_copied_is_named(tmp_path: Path) -> None:
    @define(eq=False)
    class Holder(Callback):
        lock: Any = field(factory=Lock, init=False)

    for use in (
        lambda: Holder().state_dict(),
        lambda: Trainer(callbacks=[Holder()]).state_dict(),
        lambda: Trainer(callbacks=[Holder(), Checkpoint(tmp_path, weights=False)]).fit(),
    ):
        with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object") as caught:
            use()
        note = "raised by copying Holder.lock; a field that is no state has metadata=lucid_train.TRANSIENT"
        assert note in caught.value.__notes__
