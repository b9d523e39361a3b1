from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import pytest
from attrs import define, field

import lucid_train
from lucid_train import (
    Callback,
    EpochEnd,
    EpochRecord,
    EpochReport,
    EpochStart,
    EvaluateEnd,
    EvaluateStart,
    Event,
    FitStart,
    History,
    Run,
    Saved,
    StepEnd,
    StepResult,
    StepStart,
    Trainer,
)
from lucid_train.events import event_classes, find_event_class, hook_names

T = TypeVar("T")

LIBRARY = [
    value
    for name in lucid_train.__all__
    if isinstance(value := getattr(lucid_train, name), type) and issubclass(value, Event) and value is not Event
]


@define(kw_only=True)
class HTTPRetried(Event):
    times: int = 0


class Plain(Event):
    pass


def test_events_and_hooks_match_one_to_one() -> None:
    assert sorted(event.hook for event in LIBRARY) == [
        "on_command_answered",
        "on_epoch_end",
        "on_epoch_report",
        "on_epoch_start",
        "on_evaluate_end",
        "on_evaluate_start",
        "on_fit_end",
        "on_fit_error",
        "on_fit_start",
        "on_saved",
        "on_step_end",
        "on_step_start",
    ]
    assert {event.hook for event in LIBRARY} <= hook_names()


def test_bases_that_are_never_emitted_have_no_hook() -> None:
    assert not hook_names() & {"on_event", "on_epoch_event", "on_step_event"}


def test_the_hook_of_an_event_of_ones_own_follows_from_its_name() -> None:
    assert (HTTPRetried.hook, Plain.hook) == ("on_http_retried", "on_plain")
    assert {HTTPRetried.hook, Plain.hook} <= hook_names()


@pytest.mark.parametrize("name", ["StepEnd", "EpochEvent", "StepEvent", "Event"])
def test_the_name_of_an_event_of_the_library_is_taken(name: str) -> None:
    with pytest.raises(TypeError, match=f"^mine.{name} must not have the name of an event of the library$"):
        type(name, (Event,), {"__module__": "mine"})


def test_the_events_of_the_library_come_first_in_the_order_of_a_fit() -> None:
    assert [event.__name__ for event in event_classes()][:12] == [
        "FitStart",
        "EpochStart",
        "StepStart",
        "StepEnd",
        "EvaluateStart",
        "EvaluateEnd",
        "EpochEnd",
        "EpochReport",
        "Saved",
        "CommandAnswered",
        "FitError",
        "FitEnd",
    ]


def test_the_class_of_an_event_is_found_by_its_name_and_that_of_the_module_before_others() -> None:
    first, second = (type("Twice", (Event,), {"__module__": module}) for module in ("one", "two"))
    assert find_event_class("Twice", "one") is first
    assert find_event_class("Twice", "two") is second
    assert all(find_event_class("Twice", module) is second for module in ("three", None, []))
    assert find_event_class("HTTPRetried") is HTTPRetried
    assert find_event_class("StepEnd", "two") is StepEnd
    assert [find_event_class(name) for name in ("Never", "Event", "EpochEvent")] == [None, None, None]


def test_of_a_class_that_is_defined_again_the_latest_counts() -> None:
    older, newer = (type("Again", (Event,), {"__module__": "one"}) for _ in range(2))
    assert [cls for cls in event_classes() if cls.__name__ == "Again"] == [newer]
    assert find_event_class("Again", "one") is newer is not older
    elsewhere = type("Again", (Event,), {"__module__": "two"})
    assert find_event_class("Again") is elsewhere
    newest = type("Again", (Event,), {"__module__": "one"})
    assert find_event_class("Again") is newest


def test_an_event_may_be_generic() -> None:
    @define
    class Measured(Event, Generic[T]):
        value: T | None = None

    assert Measured[int](value=3).value == 3
    assert Measured.hook == "on_measured"


def test_events_are_values_and_the_run_takes_no_part() -> None:
    assert EpochStart(Run(), epoch=2) == EpochStart(Run(), epoch=2) != EpochStart(epoch=3)
    assert repr(StepStart(Run(), 1, 2, "b")) == "StepStart(epoch=1, step=2, batch='b')"


@pytest.mark.parametrize(
    ("event", "count"),
    [
        (FitStart(), None),
        (EpochEnd(epoch=3), 3),
        (StepEnd(epoch=1, step=7), 7),
        (StepStart(epoch=1, step=7), 7),
        (EvaluateStart(epoch=3, step=7), 3),
        (EvaluateEnd(epoch=3, step=7), 3),
        (EvaluateStart(epoch=3, step=7, within_epoch=True), 7),
        (EvaluateEnd(epoch=3, step=7, within_epoch=True), 7),
        (EpochReport(record=EpochRecord(epoch=4)), 4),
        (Saved(epoch=1, step=7, file=Path("a")), 7),
        (HTTPRetried(times=9), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_every_and_at_look_at(event: Event, count: int | None) -> None:
    assert event.count == count


def test_a_report_knows_its_epoch() -> None:
    assert EpochReport(record=EpochRecord(epoch=4)).epoch == 4


class Unread:
    """A number that must not be read, as reading a tensor on a device waits for it."""

    def __float__(self) -> float:
        raise AssertionError("read")


def test_the_output_of_a_step_becomes_floats_only_when_asked() -> None:
    event = StepEnd(epoch=1, step=1, output=Unread())
    with pytest.raises(AssertionError, match="read"):
        _ = event.metrics


@pytest.mark.parametrize(
    ("output", "metrics", "updated"),
    [
        (None, {}, True),
        (1, {"loss": 1.0}, True),
        ({"a": 0.5, "b": True}, {"a": 0.5, "b": 1.0}, True),
        (StepResult(0.5, updated=False), {"loss": 0.5}, False),
        (StepResult({"a": 2}, updated=False), {"a": 2.0}, False),
        (StepResult(updated=False), {}, False),
    ],
)
def test_metrics_of_a_step(output: Any, metrics: dict[str, float], updated: bool) -> None:
    event = StepEnd(epoch=1, step=1, output=output)
    assert (event.metrics, event.updated) == (metrics, updated)


def test_the_loss_of_a_step() -> None:
    assert StepEnd(output={"loss": 2, "accuracy": 1}).loss == 2.0
    with pytest.raises(KeyError, match="loss"):
        _ = StepEnd(output={"accuracy": 1}).loss


def test_an_event_of_ones_own_is_emitted_by_a_callback_or_the_step_function_and_received_at_once() -> None:
    class Retries(Callback):
        def on_step_end(self, event: StepEnd) -> None:
            event.run.emit(HTTPRetried(event.run, times=event.step))

    @define(eq=False)
    class Listener(Callback):
        received: list[Event] = field(factory=list, init=False)

        def on_http_retried(self, event: HTTPRetried) -> None:
            self.received.append(event)

        def on_plain(self, event: Plain) -> None:
            self.received.append(event)

    class Keep(Callback):
        run: ClassVar[Run]

        def on_fit_start(self, event: FitStart) -> None:
            Keep.run = event.run

    listener = Listener()
    trainer = Trainer(
        step=lambda batch: Keep.run.emit(Plain(Keep.run)), data=[1, 2], callbacks=[Keep(), Retries(), listener]
    )
    trainer.fit()
    assert listener.received == [Plain(), HTTPRetried(times=1), Plain(), HTTPRetried(times=2)]


def test_what_is_no_event_is_not_emitted() -> None:
    class Wrong(Callback):
        def on_fit_start(self, event: FitStart) -> None:
            event.run.emit(EpochEnd)  # type: ignore[arg-type]  # the class, as somebody will write

    with pytest.raises(TypeError, match="'event' must be an event, an instance of a class derived from Event"):
        Trainer(callbacks=[Wrong()]).fit()


def test_without_a_fit_no_event_is_emitted() -> None:
    with pytest.raises(RuntimeError, match=r"no fit is running that could receive Plain\(\)"):
        Run().emit(Plain())


def test_history_of_an_end_compares_by_value() -> None:
    assert lucid_train.FitEnd(history=History()) == lucid_train.FitEnd(history=History())


def test_a_step_without_a_loss_says_what_it_returned() -> None:
    with pytest.raises(KeyError, match="step 3 returned no 'loss' but accuracy"):
        StepEnd(step=3, output={"accuracy": 0.5}).loss  # noqa: B018  # that it is refused is the claim
