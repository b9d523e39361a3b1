import copy
import pickle
from collections.abc import Callable
from threading import Lock
from typing import Any

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
    StepStart,
    Trainer,
    on,
)
from lucid_train.events import EpochEvent


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
    def __init__(self, extra: int) -> None:
        super().__init__(every=3)
        self.extra = extra


class Plain(Callback):
    def __init__(self, name: str) -> None:
        self.name = name
        self.me = self

    def on_epoch_end(self, event: EpochEnd) -> None:
        self.name += "!"


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


def test_so_is_one_in_a_class_made_by_attrs() -> None:
    with pytest.raises(TypeError, match=r"Wrong.on_fit_begin is not a hook; did you mean on_fit_end\?"):

        @define(eq=False)
        class Wrong(Callback):
            def on_fit_begin(self, event: FitStart) -> None: ...


@pytest.mark.parametrize(
    "function", [lambda self: None, lambda self, epoch, logs: None, lambda self, *, event: None], ids=["0", "2", "key"]
)
def test_a_hook_that_does_not_take_one_argument_is_refused(function: Callable[..., None]) -> None:
    with pytest.raises(TypeError, match="Wrong.on_epoch_end must take one argument, the event"):
        type("Wrong", (Callback,), {"on_epoch_end": function})
    with pytest.raises(TypeError, match="Wrong.listen must take one argument, the event"):
        type("Wrong", (Callback,), {"listen": on(StepEnd)(function)})


def test_further_arguments_with_defaults_and_a_hook_that_is_none_are_fine() -> None:
    class Fine(Counter):
        on_epoch_end = None  # type: ignore[assignment]  # switches off what the base does

        def on_step_end(self, event: StepEnd, logs: Any = None, *more: Any) -> None:
            self.epochs += 100

    fine = Fine()
    Trainer(epochs=2, callbacks=[fine]).fit()
    assert fine.epochs == 200


# `on`


def heard(event: type[Event], epochs: int = 3, steps: int = 2, **conditions: Any) -> list[Any]:
    """Return the counts of the events that a function on a Trainer and a marked method hear, which are the same."""
    by_function: list[Any] = []
    by_method: list[Any] = []

    class Marked(Callback):
        @on(event, **conditions)
        def listen(self, event: Event) -> None:
            by_method.append(event.count)

    trainer = Trainer(step=lambda batch: 0.5, data=range(steps), epochs=epochs, callbacks=[Marked()])
    trainer.on(event, **conditions)(lambda event: by_function.append(event.count))
    trainer.fit()
    assert by_function == by_method
    return by_method


@pytest.mark.parametrize(
    ("event", "conditions", "counts"),
    [
        (StepEnd, {}, [1, 2, 3, 4, 5, 6]),
        (StepStart, {"every": 2}, [2, 4, 6]),
        (EpochEnd, {"every": 2}, [2]),
        (EpochEnd, {"every": 4}, []),
        (StepEnd, {"at": {1, 5}}, [1, 5]),
        (StepEnd, {"at": 3}, [3]),
        (StepEnd, {"at": (4, 4)}, [4]),
        (StepEnd, {"at": ()}, []),
        (StepEnd, {"once": True}, [1]),
        (StepEnd, {"every": 2, "at": range(3, 7), "once": True}, [4]),
        (StepEnd, {"when": lambda event: event.epoch == 2}, [3, 4]),
        (StepEnd, {"when": lambda event: event.epoch == 2, "once": True}, [3]),
        (FitStart, {}, [None]),
        (FitStart, {"every": 2}, []),
    ],
)
def test_conditions(event: type[Event], conditions: dict[str, Any], counts: list[Any]) -> None:
    assert heard(event, **conditions) == counts


@define(kw_only=True)
class Found(Event):
    number: int = 0


def test_events_of_ones_own_are_counted_as_they_are_emitted_anew_in_each_fit() -> None:
    numbers: list[int] = []

    class Source(Callback):
        def on_step_end(self, event: StepEnd) -> None:
            event.run.emit(Found(event.run, number=event.step))

        @on(Found, every=2)
        def note(self, event: Found) -> None:
            numbers.append(event.number)

    trainer = Trainer(step=lambda batch: None, data=range(3), epochs=1, callbacks=[Source()])
    trainer.fit()
    trainer.fit(2)
    assert numbers == [2, 5]


def test_once_means_once_in_each_fit_also_when_the_hooks_are_measured_midway() -> None:
    steps: list[int] = []

    class Midway(Callback):
        def on_epoch_end(self, event: EpochEnd) -> None:
            event.run.measure_hooks()

    trainer = Trainer(step=lambda batch: None, data=range(2), epochs=3, callbacks=[Midway()])
    trainer.on(StepEnd, once=True)(lambda event: steps.append(event.step))
    trainer.fit()
    trainer.fit(4)
    assert steps == [1, 7]


def test_a_method_may_be_marked_twice_and_is_called_for_each() -> None:
    heard: list[Event] = []

    class Two(Callback):
        @on(EpochStart)
        @on(EpochEnd, at=2)
        def both(self, event: Event) -> None:
            heard.append(event)

    Trainer(epochs=2, callbacks=[Two()]).fit()
    assert heard == [EpochStart(epoch=1), EpochStart(epoch=2), EpochEnd(epoch=2)]


def test_the_name_of_a_marked_method_means_nothing() -> None:
    heard: list[tuple[str, int]] = []

    class Named(Callback):
        @on(EpochEnd, every=2)
        def on_epoch_end(self, event: EpochEnd) -> None:
            heard.append(("second", event.epoch))

        @on(StepEnd, every=3)
        def on_every_third(self, event: StepEnd) -> None:
            heard.append(("third", event.step))

    Trainer(epochs=4, callbacks=[Named()]).fit()
    assert heard == [("second", 2), ("third", 3), ("second", 4)]


def test_marked_methods_are_inherited_and_may_be_overridden() -> None:
    class Base(Callback):
        @on(EpochEnd)
        def one(self, event: EpochEnd) -> None:
            heard.append("base")

        @on(EpochEnd)
        def two(self, event: EpochEnd) -> None:
            heard.append("two")

    @define(eq=False)
    class Sub(Base):
        @on(EpochEnd)
        def one(self, event: EpochEnd) -> None:
            heard.append("sub")

        def two(self, event: EpochEnd) -> None:
            heard.append("unmarked")

    heard: list[str] = []
    Trainer(callbacks=[Sub()]).fit()
    assert heard == ["sub"]


@pytest.mark.parametrize(
    ("event", "conditions", "error", "message"),
    [
        ("StepEnd", {}, TypeError, "'event' must be the class of an event that is emitted, such as StepEnd: 'StepEnd'"),
        (int, {}, TypeError, "'event' must be the class of an event"),
        (StepEnd(), {}, TypeError, "'event' must be the class of an event"),
        (Event, {}, TypeError, "'event' must be the class of an event that is emitted"),
        (EpochEvent, {}, TypeError, "'event' must be the class of an event that is emitted"),
        (StepEnd, {"every": 0}, ValueError, "'every' must be >= 1: 0"),
        (StepEnd, {"every": 2.5}, TypeError, "'every' must be an int: 2.5"),
        (StepEnd, {"every": True}, TypeError, "'every' must be an int: True"),
        (StepEnd, {"at": 0}, ValueError, "'at' must be >= 1: 0"),
        (StepEnd, {"at": [1, "2"]}, TypeError, "'at' must be an int: '2'"),
        (StepEnd, {"at": "12"}, TypeError, "'at' must be a set of counts: '12'"),
        (StepEnd, {"at": 1.5}, TypeError, "'at' must be a set of counts: 1.5"),
        (StepEnd, {"once": 1}, TypeError, "'once' must be True or False: 1"),
        (StepEnd, {"when": "loss > 1"}, TypeError, "'when' must be a function of the event: 'loss > 1'"),
        (StepEnd, {"evry": 2}, TypeError, "unexpected keyword argument 'evry'"),
    ],
)
def test_bad_conditions_are_refused_where_they_are_given(
    event: Any, conditions: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        on(event, **conditions)
    with pytest.raises(error, match=message):
        Trainer().on(event, **conditions)


@pytest.mark.parametrize("function", [lambda: None, lambda a, b: None])
def test_a_function_that_does_not_take_the_event_is_refused_at_once(function: Any) -> None:
    with pytest.raises(TypeError, match="<lambda> must take one argument, the event"):
        Trainer().on(StepEnd)(function)


def test_what_is_no_function_is_refused_at_once_and_one_that_cannot_tell_is_taken() -> None:
    with pytest.raises(TypeError, match="a listener must be a function of the event: 3"):
        Trainer().on(StepEnd)(3)  # type: ignore[type-var]  # that it is refused is the claim
    trainer = Trainer()
    assert trainer.on(EpochEnd)(dict) is dict  # whose signature inspect does not find
    trainer.on(StepEnd)([].append)
    with pytest.raises(TypeError, match="not iterable"):
        trainer.fit()


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
    "copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["deepcopy", "pickle"]
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
    assert getattr(twin, "extra", 7) == 7
    assert twin.lock is not callback.lock
    assert not twin.lock.locked()
    assert twin._seen is not callback._seen


def test_a_callback_that_attrs_has_not_seen_works_and_is_copied_whole() -> None:
    plain = Plain("p")
    Trainer(callbacks=[plain]).fit()
    twin = copy.deepcopy(plain)
    assert (twin.name, twin.me) == ("p!", twin)
    assert pickle.loads(pickle.dumps(plain)).name == "p!"
    assert plain.state_dict() == {}


def test_a_state_without_a_first_value_is_refused_by_name_but_copied() -> None:
    later = Later()
    for ask in (later.state_dict, later.reset):
        with pytest.raises(TypeError, match="Later.unset must have a default, as a field with init=False"):
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
