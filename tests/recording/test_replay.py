import json
import math
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from lucid_train import (
    Callback,
    EpochEnd,
    EpochStart,
    Event,
    FitEnd,
    FitError,
    FitStart,
    StepEnd,
    StepResult,
    StepStart,
    Trainer,
    replay,
)
from lucid_train.callback import Scheduled
from lucid_train.callbacks import EarlyStopping, ExponentialLRCallback
from lucid_train.callbacks.event_log import EventLog
from lucid_train.description import object_name
from lucid_train.monitor import Monitor
from lucid_train.nn import Linear
from lucid_train.recording.lines import RecordedError
from tests.support.callbacks import At
from tests.support.optimizers import Bare


@define
class Marked(Event):
    """An event of a user's own."""

    label: Any = None
    value: Any = None


@define(eq=False)
class Journal(Callback):
    """Notes every event, and what the run looked like then."""

    seen: list[str] = field(factory=list, init=False, repr=False)

    def hooks(self, event: type[Event]) -> list[Any]:
        return [self.note]

    def note(self, event: Event) -> None:
        run = event.run
        place = (run.epochs, run.epoch, run.step, run.epoch_step, run.steps_per_epoch, run.last_lr, len(run.history))
        shown: Any = "" if isinstance(event, FitEnd | FitError) else event
        if isinstance(event, StepStart):
            shown = (event.epoch, event.step)  # a batch is not recorded
        if isinstance(event, FitEnd):
            shown = (event.status, event.reason, repr(list(event.history)))
        self.seen.append(f"{type(event).__name__} {shown} {place} {run.status} {run.reason}")


def recorded(path: Path, **settings: Any) -> tuple[Journal, Trainer]:
    recorder = Journal()
    callbacks = [*settings.pop("callbacks", ()), EventLog(path, step_every=1, heartbeat=None), recorder]
    return recorder, Trainer(callbacks=callbacks, **settings)


def replayed(path: Path) -> list[str]:
    recorder = Journal()
    replay(path, [recorder])
    return recorder.seen


outputs = st.one_of(
    st.none(),
    st.floats(),
    st.dictionaries(st.text(max_size=3), st.floats(), max_size=2),
    st.builds(StepResult, st.floats(), st.floats(0, 9), st.booleans()),
    st.just(StepResult(updated=False)),
)


@settings(max_examples=40, deadline=None)
@given(
    epochs=st.lists(st.lists(outputs, min_size=1, max_size=3), min_size=1, max_size=3),
    rates=st.lists(st.floats(1e-300, 1e3), max_size=2),
    every=st.integers(1, 2),
    stop_at=st.none() | st.integers(1, 5),
    label=st.none() | st.text(max_size=3) | st.floats() | st.tuples(st.integers()),
)
def test_a_callback_receives_what_it_received_live(
    tmp_path_factory: pytest.TempPathFactory,
    epochs: list[list[Any]],
    rates: list[float],
    every: int,
    stop_at: int | None,
    label: Any,
) -> None:
    path = tmp_path_factory.mktemp("replay") / "run.jsonl"

    class Data:
        passes = iter(epochs)

        def __iter__(self) -> Any:
            return iter(next(self.passes))

    recorder, trainer = recorded(
        path,
        step=lambda batch: batch,
        data=Data(),
        epochs=len(epochs),
        evaluate=lambda: {"accuracy": math.inf},
        evaluate_every=every,
        optimizer=Bare(*rates) if rates else None,
        callbacks=[ExponentialLRCallback(gamma=0.5)] if rates else [],
    )
    if stop_at is not None:
        trainer.on(StepEnd, at=stop_at)(lambda event: event.run.stop(f"stopped at {stop_at}"))
    trainer.on(EpochStart)(lambda event: event.run.emit(Marked(event.run, label, [label])))
    trainer.fit()
    assert replayed(path) == recorder.seen


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(), min_size=1, max_size=4))
def test_a_replay_that_is_recorded_is_the_same_log(
    tmp_path_factory: pytest.TempPathFactory, losses: list[float]
) -> None:
    path, copy = (tmp_path_factory.mktemp("replay") / name for name in ("run.jsonl", "copy.jsonl"))
    _, trainer = recorded(path, step=lambda batch: batch, data=losses, epochs=2, optimizer=Bare(0.1))
    trainer.fit()
    replay(path, [EventLog(copy, step_every=1, heartbeat=None)])

    def entries(log: Path) -> list[Any]:
        packed = [json.loads(line) for line in log.read_text().splitlines()]
        return [{name: value for name, value in entry.items() if name != "time"} for entry in packed]

    # A run knows from the start what its log says later: how long an epoch is.
    assert entries(copy)[1:] == entries(path)[1:]


def test_a_run_of_several_fits_is_replayed_as_such(tmp_path: Path) -> None:
    recorder, trainer = recorded(tmp_path / "run.jsonl", step=lambda batch: batch, data=[0.5, 1.5], epochs=1)
    trainer.fit()
    trainer.fit(3)
    assert replayed(tmp_path / "run.jsonl") == recorder.seen
    assert [line.split()[0] for line in recorder.seen].count("FitEnd") == 2


def test_an_error_is_replayed_and_not_raised(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorder, trainer = recorded(path, step=lambda batch: 1 / batch, data=[1, 0])
    with pytest.raises(ZeroDivisionError):
        trainer.fit()
    errors: list[FitError] = []
    history = replay(path, [At(FitError, errors.append)])
    assert (history.status, history.reason) == ("failed", "ZeroDivisionError: division by zero")
    assert [repr(event.error) for event in errors] == ["RecordedError('ZeroDivisionError: division by zero')"]
    assert isinstance(errors[0].error, RecordedError)
    # The step that failed has begun and not ended: nothing of it is recorded.
    assert replayed(path) == [line for line in recorder.seen if "StepStart (1, 2)" not in line]


def test_an_epoch_that_a_failing_callback_ended_is_in_the_history(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorder, trainer = recorded(path, step=lambda batch: batch, data=[0.5], epochs=2)
    trainer.on(EpochEnd)(lambda event: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.fit()
    assert replay(path).metric("loss") == [0.5]
    assert replayed(path) == recorder.seen


def test_early_stopping_decides_again_as_it_did_live(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    losses = iter([5.0, 4.0, 3.0, 3.5, 3.25, 3.1, 2.0])
    live = EarlyStopping("loss", patience=3)
    recorder, trainer = recorded(path, step=lambda batch: next(losses), data=[1], epochs=20, callbacks=[live])
    trainer.fit()
    again, seen = EarlyStopping("loss", patience=3), Journal()
    history = replay(path, [again, seen])
    assert seen.seen == recorder.seen
    assert again.state_dict() == live.state_dict()
    assert (len(history), history.status) == (6, "stopped")


def test_a_callback_that_stops_earlier_ends_the_replay_there(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    losses = [5.0, 4.0, 4.5, 4.0, 4.5, 4.0, 3.0]
    _, trainer = recorded(path, step=lambda batch: batch, data=losses, epochs=1)
    trainer.fit(3)
    stopper = EarlyStopping("loss", patience=1)
    recorder = Journal()
    history = replay(path, [stopper, recorder])
    assert (len(history), history.status) == (2, "stopped")
    assert history.reason == "loss has not improved for 1 epoch (best 4.14286 in epoch 1)"
    assert [line.split()[0] for line in recorder.seen[-3:]] == ["EpochEnd", "EpochReport", "FitEnd"]


def test_a_stop_in_mid_epoch_ends_the_replay_after_the_step(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    _, trainer = recorded(path, step=lambda batch: batch, data=[1.0, 2.0, 3.0], epochs=2)
    trainer.fit()
    recorder = Journal()
    history = replay(path, [At(StepEnd, lambda event: event.run.stop("here")), recorder])
    assert (len(history), history.status, history.reason) == (0, "stopped", "here")
    assert [line.split()[0] for line in recorder.seen] == ["FitStart", "EpochStart", "StepStart", "StepEnd", "FitEnd"]


def test_a_stop_with_the_last_epoch_has_stopped_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorded(path, step=lambda batch: batch, data=[1.0], epochs=2)[1].fit()
    history = replay(path, [At(EpochEnd, lambda event: event.epoch == 2 and event.run.stop("late"))])
    assert (len(history), history.status) == (2, "completed")


@define(eq=False)
class Marker(Callback):
    """Emits an event of its own, live as well as in a replay."""

    def on_epoch_end(self, event: EpochEnd) -> None:
        event.run.emit(Marked(event.run, "epoch", event.epoch))


@pytest.mark.parametrize("order", ["before", "after"])
def test_what_a_callback_emits_itself_is_not_received_twice(tmp_path: Path, order: str) -> None:
    path, live, again = tmp_path / "run.jsonl", [], []
    log = EventLog(path)
    callbacks = [Marker(), log] if order == "before" else [log, Marker()]
    Trainer(epochs=3, callbacks=[*callbacks, At(Marked, lambda event: live.append(event))]).fit()
    replay(path, [Marker(), At(Marked, lambda event: again.append(event))])
    assert again == live == [Marked(None, "epoch", epoch) for epoch in (1, 2, 3)]  # type: ignore[arg-type]  # run is left out of eq
    without: list[Event] = []
    replay(path, [At(Marked, without.append)])
    assert without == live


def test_an_event_whose_class_is_not_defined_here_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    _, trainer = recorded(path)
    trainer.on(EpochEnd)(lambda event: event.run.emit(Marked(event.run)))
    trainer.fit()
    path.write_text(path.read_text().replace('"Marked"', '"Vanished"'))
    assert not [line for line in replayed(path) if line.startswith(("Marked", "Vanished"))]


def test_an_event_is_found_by_its_module_first(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    received: list[Event] = []
    _, trainer = recorded(path)
    trainer.on(EpochEnd)(lambda event: event.run.emit(Marked(event.run, "x")))
    trainer.fit()
    other = type("Marked", (Event,), {"__module__": "elsewhere"})
    replay(path, [At(Marked, received.append), At(other, received.append)])
    assert received == [Marked(None, "x")]  # type: ignore[arg-type]  # run is left out of eq


def test_an_event_whose_class_has_changed_says_so(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    _, trainer = recorded(path)
    trainer.on(EpochEnd)(lambda event: event.run.emit(Marked(event.run, "x")))
    trainer.fit()
    path.write_text(path.read_text().replace('"label"', '"title"'))
    with pytest.raises(ValueError, match=r"in line \d+, Marked is not what it was when it was recorded, .*title"):
        replay(path)


def test_a_failing_callback_ends_the_replay_and_every_callback_gets_its_end(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorded(path, step=lambda batch: batch, data=[1.0], epochs=3)[1].fit()
    failing = At(EpochEnd, lambda event: 1 / 0)
    recorder = Journal()
    with pytest.raises(ZeroDivisionError) as caught:
        replay(path, [failing, recorder])
    assert caught.value.__notes__ == ["raised by <lambda> on EpochEnd in epoch 1, step 1"]
    assert [line.split()[0] for line in recorder.seen[-2:]] == ["FitError", "FitEnd"]
    assert "failed ZeroDivisionError: division by zero" in recorder.seen[-1]


def test_a_callback_that_fails_at_the_end_fails_when_all_have_ended(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorded(path)[1].fit()
    recorder = Journal()
    with pytest.raises(ZeroDivisionError):
        replay(path, [recorder, At(FitEnd, lambda event: 1 / 0)])
    assert recorder.seen[-1].startswith("FitEnd")


def test_a_log_that_just_ends_is_of_a_run_that_failed(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorded(path, step=lambda batch: batch, data=[1.0, 2.0], epochs=2)[1].fit()
    whole = path.read_bytes().splitlines(keepends=True)
    for length in range(1, len(whole)):
        path.write_bytes(b"".join(whole[:length]))
        recorder = Journal()
        history = replay(path, [recorder])
        assert [line.split()[0] for line in recorder.seen].count("FitEnd") == 1
        assert history.status == "failed"
        assert history.reason == "its log ends"


def test_a_run_is_replayed_at_its_pace(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorded(path, epochs=2)[1].fit()
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    for index, entry in enumerate(entries):
        entry["time"] = 1000.0 + index
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    began = monotonic()
    replay(path, speed=len(entries) * 10)
    assert monotonic() - began >= (len(entries) - 1) / (len(entries) * 10)
    clock: list[float] = []
    replay(path, [At(event, lambda event: clock.append(event.run.clock())) for event in (FitStart, FitEnd)])
    assert clock == [1000.0, 1000.0 + len(entries) - 1]


@pytest.mark.parametrize("speed", [0, -1, math.nan, math.inf])
def test_a_speed_is_above_zero(tmp_path: Path, speed: float) -> None:
    with pytest.raises(ValueError, match="'speed' must be > 0"):
        replay(tmp_path / "run.jsonl", speed=speed)


def test_fit_start_says_what_a_display_asks_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    _, trainer = recorded(
        path,
        step=lambda batch: batch,
        data=[1.0],
        model=Linear(3, 2),
        optimizer=Bare(0.5),
        callbacks=[EarlyStopping("loss", mode="max"), ExponentialLRCallback(gamma=0.5)],
    )
    trainer.on(FitStart)(print)
    trainer.fit()
    runs: list[Any] = []
    replay(path, [At(FitStart, lambda event: runs.append((event.run, event.run.callbacks)))])
    [(run, callbacks)] = runs
    names = ["EarlyStopping", "ExponentialLRCallback", "EventLog", "Journal", "print"]
    assert list(map(object_name, callbacks)) == names
    assert run.monitored == Monitor("loss", "max")
    assert [bool(each.schedules()) for each in callbacks] == [False, True, False, False, False]
    assert callbacks[1].schedules() == (Scheduled(text="times 0.5 every epoch"),)
    assert [each.describe() for each in callbacks] == [
        {"stopping": "after 5 epochs without a higher loss"},
        {},
        {"recording": str(path)},
        {},
        {},
    ]
    assert repr(callbacks[1]) == "ExponentialLRCallback(interval='epoch', gamma=0.5)"
    assert (object_name(run.model), object_name(run.optimizer)) == ("Linear", "Bare")
    assert [array.shape for array in run.model.parameters()] == [(8,)]
    assert run.last_lr == [0.25]


def test_a_fit_that_begins_between_epochs_leaves_no_epoch_open(tmp_path: Path) -> None:
    _, trainer = recorded(tmp_path / "log", step=lambda batch: 0.5, data=[1, 2], epochs=2)
    trainer.on(StepEnd, at=3)(lambda event: event.run.stop())
    trainer.fit()
    lines = (tmp_path / "log").read_text().splitlines()
    again = {**json.loads(lines[0]), "run": {"epoch": 1, "step": 4}}
    (tmp_path / "died").write_text("\n".join([*lines[:-1], json.dumps(again), ""]))
    steps: list[tuple[int, int]] = []
    replay(tmp_path / "died", [At(FitStart, lambda event: steps.append((event.run.step, event.run.epoch_step)))])
    assert steps == [(0, 0), (4, 0)]
