"""The contract of all trackers, with one that writes lines of JSON, and ones that fail or do not answer."""

import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import define, field

from lucid_train import (
    TRANSIENT,
    EpochEnd,
    EpochStart,
    FitError,
    StepEnd,
    StepResult,
    StepStart,
    Trainer,
    nn,
    optims,
    schedules,
)
from lucid_train.callbacks import Checkpoint, EarlyStopping, LRSchedulerCallback
from lucid_train.callbacks.trackers.tracker import Opening, Point, Tracker, _Worker
from lucid_train.data import batches
from lucid_train.events import Status
from lucid_train.testing import assert_resumes_exactly, pairs_that_do_not_commute
from tests.support.optimizers import Bare
from tests.support.waiting import until


@define(eq=False)
class Lines(Tracker):
    """Keeps what it is sent; calls `fault` before it takes anything."""

    fault: Any = field(default=lambda call: None, repr=False)
    seen: list[Any] = field(factory=list, init=False, repr=False, metadata=TRANSIENT)
    openings: list[Opening] = field(factory=list, init=False, repr=False, metadata=TRANSIENT)
    threads: set[str] = field(factory=set, init=False, repr=False, metadata=TRANSIENT)

    def open(self, opening: Opening) -> None:
        self.fault("open")
        self.openings.append(opening)

    def send(self, points: Sequence[Point]) -> None:
        self.fault("send")
        self.threads.add(threading.current_thread().name)
        self.seen += [(each.name, each.step, each.value) for each in points if each.name != "seconds"]

    def close(self, status: Status) -> None:
        self.fault("close")
        self.seen.append(status)


def trainer(*callbacks: Any, **settings: Any) -> Trainer:
    return Trainer(
        **{"step": lambda batch: batch / 4, "data": [1.0, 3.0], "epochs": 2, **settings}, callbacks=callbacks
    )


def limited(tracker: Tracker, seconds: float = 0.1, **settings: Any) -> Trainer:
    """Return a training that is patient until the tracker is open, and from its first step on waits for so long.

    What is to succeed has time on a machine that stands still for a while; what is to take too long does so anyway.
    """
    tracker.timeout = 60
    run = trainer(tracker, **settings)
    run.on(StepStart, at=1)(lambda event: setattr(tracker, "timeout", seconds))
    return run


@contextmanager
def until_it_has_failed() -> Iterator[None]:
    """Let the wait for the end begin when a call has failed, so that the limit does not pass before."""
    wait = _Worker.wait

    def late(worker: _Worker, seconds: float) -> bool:
        until(lambda: worker.failure is not None)
        return wait(worker, seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Worker, "wait", late)
        yield


EPOCHS = [("epoch", 2, 1.0), ("loss", 2, 0.5), ("epoch", 4, 2.0), ("loss", 4, 0.5)]


def test_epochs_and_the_end_are_sent_in_a_thread_of_the_tracker() -> None:
    tracker = Lines()
    trainer(tracker).fit()
    assert tracker.seen == [*EPOCHS, "completed"]
    assert tracker.threads == {"lucid_train.Lines"}
    assert "lucid_train.Lines" not in {thread.name for thread in threading.enumerate() if thread.is_alive()}


def test_the_thread_of_a_fit_has_ended_when_the_fit_has(monkeypatch: pytest.MonkeyPatch) -> None:
    work = _Worker._work

    def slowly(worker: _Worker, *arguments: Any) -> None:
        work(worker, *arguments)
        time.sleep(0.05)  # as on a machine that has other things to do

    monkeypatch.setattr(_Worker, "_work", slowly)
    trainer(Lines()).fit()
    assert "lucid_train.Lines" not in {thread.name for thread in threading.enumerate() if thread.is_alive()}


def test_steps_are_sent_at_the_chosen_interval() -> None:
    tracker = Lines(step_every=2)
    trainer(tracker, step=lambda batch: StepResult({"loss": batch, "norm": 1}, weight=2)).fit()
    steps = [each for each in tracker.seen if each[0].startswith("step/")]
    assert steps == [("step/loss", 2, 3.0), ("step/norm", 2, 1.0), ("step/loss", 4, 3.0), ("step/norm", 4, 1.0)]


def test_a_step_that_is_not_asked_for_costs_nothing() -> None:
    assert Lines().hooks(StepEnd) == []


def test_an_array_that_the_program_fills_again_is_sent_as_it_was() -> None:
    tracker, loss = Lines(step_every=1), np.zeros(())

    def step(batch: float) -> Any:
        loss[...] = batch
        return loss

    trainer(tracker, step=step).fit()
    assert [value for name, _, value in tracker.seen[:-1] if name == "step/loss"] == [1.0, 3.0, 1.0, 3.0]


def test_evaluations_within_an_epoch_are_sent_once() -> None:
    tracker = Lines()
    trainer(tracker, evaluate=lambda: {"loss": 0.25}, evaluate_every="1 steps").fit()
    values = [each for each in tracker.seen if each[0] == "val_loss"]
    assert values == [("val_loss", step, 0.25) for step in (1, 2, 3, 4)]


def test_numbers_that_are_not_finite_are_sent_as_they_are() -> None:
    tracker, losses = Lines(), iter([math.nan, math.inf])
    trainer(tracker, step=lambda batch: next(losses), data=[1]).fit()
    assert str([each for each in tracker.seen if each[0] == "loss"]) == "[('loss', 1, nan), ('loss', 2, inf)]"


def test_the_parameters_are_the_settings_of_the_run_and_of_the_program(tmp_path: Path) -> None:
    tracker = Lines(config={"seed": 3, "layers": [8, 4], "nested": {"flag": True}})
    trainer(
        LRSchedulerCallback(schedules.Cosine()), Checkpoint(tmp_path, weights=False), tracker, optimizer=Bare(0.5, 0.25)
    ).fit()
    parameters = tracker.openings[0].parameters
    assert parameters == {
        "epochs": 2,
        "optimizer": "Bare",
        "optimizer.lr": 0.5,
        "optimizer.lr_1": 0.25,
        **{key: value for key, value in parameters.items() if key.startswith("LRSchedulerCallback.")},
        "config.seed": 3,
        "config.layers": "8, 4",
        "config.nested.flag": True,
    }
    assert parameters["LRSchedulerCallback.schedule"] == "cosine to 0"


@pytest.mark.parametrize(("end", "status"), [(None, "completed"), ("stop", "stopped"), ("raise", "failed")])
def test_the_status_is_that_of_the_fit(end: str | None, status: str) -> None:
    tracker = Lines()
    run = trainer(tracker)

    @run.on(StepEnd, at=3)
    def act(event: StepEnd) -> None:
        if end == "stop":
            event.run.stop("enough")
        if end == "raise":
            raise OSError("disk full")

    if end == "raise":
        with pytest.raises(OSError, match="disk full"):
            run.fit()
    else:
        run.fit()
    assert tracker.seen[-1] == status


def test_an_interrupted_fit_is_interrupted_at_the_tracker() -> None:
    tracker = Lines()
    run = trainer(tracker)
    run.on(StepEnd, at=3)(lambda event: event.run.interrupt(KeyboardInterrupt(), "Ctrl-C"))
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    assert tracker.seen[-1] == "interrupted"


def test_a_second_fit_goes_on_with_the_run_and_a_restart_begins_another() -> None:
    tracker = Lines()
    run = trainer(tracker)
    run.fit()
    run.fit(3)
    assert tracker.seen == [*EPOCHS, "completed", ("epoch", 6, 3.0), ("loss", 6, 0.5), "completed"]
    run.fit(restart=True)
    first, second, third = [(each.run_id, each.begun, each.step) for each in tracker.openings]
    assert (first[1:], second, third[1:]) == ((False, 0), (first[0], True, 4), (False, 0))
    assert third[0] != first[0]


def test_the_id_is_in_the_checkpoint(tmp_path: Path) -> None:
    first, second = Lines(), Lines()
    trainer(first, Checkpoint(tmp_path, weights=False)).fit()
    trainer(second, Checkpoint(tmp_path, weights=False), epochs=3).fit(resume="auto")
    assert [(each.run_id, each.begun, each.step) for each in second.openings] == [(first.openings[0].run_id, True, 4)]
    assert second.seen == [("epoch", 6, 3.0), ("loss", 6, 0.5), "completed"]


def test_a_tracker_that_joins_late_has_the_epochs_before() -> None:
    run, tracker = trainer(), Lines()
    run.fit()
    run.callbacks = (tracker,)
    run.fit(3)
    assert tracker.seen == [*EPOCHS, ("epoch", 6, 3.0), ("loss", 6, 0.5), "completed"]


def test_what_the_tracker_has_is_not_sent_again_and_what_it_lacks_is() -> None:
    @define(eq=False)
    class Behind(Lines):
        def sent(self) -> dict[str, int]:
            return {"epoch": 2, "loss": 5}

    tracker = Behind(step_every=1)
    run = trainer(tracker)
    run.fit()
    tracker.seen.clear()
    run.fit(3)
    expected = [("epoch", 4, 2.0), ("step/loss", 5, 0.25), ("step/loss", 6, 0.75), ("epoch", 6, 3.0), ("loss", 6, 0.5)]
    assert tracker.seen == [*expected, "completed"]


def unreachable(call: str) -> None:
    raise ConnectionError("no route to host")


def test_a_tracker_that_cannot_be_opened_is_one_warning() -> None:
    tracker = Lines(fault=unreachable)
    with pytest.warns(RuntimeWarning) as warned:
        history = trainer(tracker).fit()
    assert [str(each.message) for each in warned] == [
        "Lines could not be opened, and is sent nothing in this fit: no route to host"
    ]
    assert (history.status, tracker.seen, tracker.state_dict()) == ("completed", [], {"tracker_run_id": None})


def test_a_strict_tracker_that_cannot_be_opened_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"^Lines could not be opened, .*: no route to host\n"):
        trainer(Lines(fault=unreachable, strict=True)).fit()


def test_a_tracker_that_does_not_answer_is_waited_for_no_longer_than_the_limit() -> None:
    answer = threading.Event()
    tracker = Lines(fault=lambda call: answer.wait(60) and None, timeout=0.1)
    with pytest.warns(RuntimeWarning) as warned:
        history = trainer(tracker).fit()
    assert [str(each.message) for each in warned] == [
        "Lines could not be opened, and is sent nothing in this fit: no answer within 0.1 s"
    ]
    answer.set()
    assert history.status == "completed"


def test_a_run_that_is_opened_after_the_limit_is_ended_as_failed() -> None:
    answer = threading.Event()
    tracker = Lines(fault=lambda call: call == "open" and answer.wait(60), timeout=0.1)
    with pytest.warns(RuntimeWarning, match=r"^Lines could not be opened, .*: no answer within 0.1 s$"):
        trainer(tracker).fit()
    assert tracker.seen == []
    answer.set()
    until(lambda: bool(tracker.seen))
    assert tracker.seen == ["failed"]


def test_a_run_whose_last_steps_cannot_be_read_is_ended_as_failed() -> None:
    @define(eq=False)
    class Unreadable(Lines):
        def sent(self) -> dict[str, int]:
            raise ConnectionError("no route to host")

    tracker = Unreadable()
    run = trainer(tracker)
    run.fit()
    with pytest.warns(RuntimeWarning, match="^Unreadable could not be opened, .*: no route to host$"):
        run.fit(3)
    until(lambda: tracker.seen[-1] == "failed")
    assert tracker.seen == [*EPOCHS, "completed", "failed"]


def test_a_fit_does_not_call_a_tracker_in_which_the_thread_of_another_still_is() -> None:
    answer, calls = threading.Event(), []

    def fault(call: str) -> None:
        calls.append((call, threading.current_thread()))
        if call == "send":
            answer.wait(60)

    tracker = Lines(fault=fault)
    run = limited(tracker)
    with pytest.warns(RuntimeWarning, match=r"^Lines has 2 steps and records fewer: no answer within 0.1 s$"):
        run.fit()
    with pytest.warns(RuntimeWarning, match=r"^Lines could not be opened, .*: no answer within 0.1 s$"):
        run.fit(3)
    assert [call for call, _ in calls] == ["open", "send"]
    answer.set()
    tracker.timeout = 60
    run.fit(4)
    assert [call for call, _ in calls] == ["open", "send", "open", "send", "close"]
    assert len({thread for _, thread in calls}) == 2
    assert tracker.openings[-1].step == 6
    assert tracker.seen[-1] == "completed"


def test_a_tracker_that_hangs_is_waited_for_at_one_epoch_until_it_has_taken_something() -> None:
    @define(eq=False)
    class Patient(Lines):
        def waits(self) -> bool:
            return True

    answer = threading.Event()
    tracker = Patient(fault=lambda call: call == "send" and answer.wait(60))
    run = limited(tracker, 0.3, epochs=50)

    @run.on(EpochEnd, at=20)
    def let_go(event: EpochEnd) -> None:
        tracker.timeout = 60
        answer.set()

    run.on(EpochStart, at=22)(lambda event: until(lambda: ("epoch", 42, 21.0) in tracker.seen))
    waited: list[int] = []
    epochs: list[int] = []
    run.on(EpochStart)(lambda event: epochs.append(event.epoch))
    wait = _Worker.wait

    def counted(worker: _Worker, seconds: float) -> bool:
        waited.append(len(epochs))
        return wait(worker, seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Worker, "wait", counted)
        run.fit()
    assert (waited[:2], [epoch for epoch in waited if epoch > 21]) == ([0, 1], [*range(22, 51), 50])
    assert not set(waited) & set(range(2, 20))
    assert tracker.seen[-1] == "completed"


def test_a_strict_tracker_that_hangs_is_an_error_at_the_first_epoch() -> None:
    answer = threading.Event()
    tracker = Lines(fault=lambda call: call == "send" and answer.wait(60), strict=True)
    run, epochs = limited(tracker), []
    run.on(EpochStart)(lambda event: epochs.append(event.epoch))
    with pytest.raises(RuntimeError, match=r"^Lines could not be sent to: no answer within 0.1 s\n"):
        run.fit()
    answer.set()
    assert epochs == [1]


def test_what_cannot_be_sent_for_a_while_is_sent_later_and_once() -> None:
    failures = iter([True])

    def fault(call: str) -> None:
        if call == "send" and next(failures, False):
            raise ConnectionError("no route to host")

    tracker = Lines(fault=fault, step_every=1)
    trainer(tracker).fit()
    assert tracker.seen.count("completed") == 1
    assert [each for each in tracker.seen if each[0] in ("epoch", "loss")] == EPOCHS
    assert [step for name, step, _ in tracker.seen[:-1] if name == "step/loss"] == [1, 2, 3, 4]


def test_what_stayed_unsent_is_one_warning() -> None:
    def fault(call: str) -> None:
        if call == "send":
            raise ConnectionError("no route to host")

    with until_it_has_failed(), pytest.warns(RuntimeWarning) as warned:
        limited(Lines(fault=fault)).fit()
    assert [str(each.message) for each in warned] == ["Lines has 2 steps and records fewer: no route to host"]
    strict = Lines(fault=fault, timeout=60, strict=True)
    run = trainer(strict)
    run.on(FitError)(lambda event: setattr(strict, "timeout", 0.1))  # which the end is waited for as well
    with pytest.raises(RuntimeError, match=r"^Lines could not be sent to: no route to host\n"):
        run.fit()


def test_a_fit_that_fails_while_the_thread_is_awake_does_not_wait_for_the_limit(
    request: pytest.FixtureRequest,
) -> None:
    def fail(event: StepEnd) -> None:
        raise OSError("disk full")

    interval = sys.getswitchinterval()
    request.addfinalizer(lambda: sys.setswitchinterval(interval))
    sys.setswitchinterval(1e-6)
    for _ in range(1000):  # the moment at which the thread notices the end is a matter of chance
        run = trainer(Lines(timeout=60))
        run.on(StepEnd, at=3)(fail)
        with pytest.raises(OSError, match="disk full") as caught:
            run.fit()
        assert "Lines may show the run as going on" not in "".join(caught.value.__notes__)


def test_an_end_that_is_not_taken_is_one_warning() -> None:
    def fault(call: str) -> None:
        if call == "close":
            raise ConnectionError("no route to host")

    with until_it_has_failed(), pytest.warns(RuntimeWarning) as warned:
        limited(Lines(fault=fault)).fit()
    assert [str(each.message) for each in warned] == ["Lines may show the run as going on: no route to host"]


def test_a_step_does_not_wait_for_a_tracker_and_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lucid_train.callbacks.trackers.tracker._MOST_WAITING", 10)
    answer = threading.Event()
    tracker = Lines(fault=lambda call: call == "send" and answer.wait(60), step_every=1)
    with pytest.warns(RuntimeWarning, match="^Lines has 21 steps and records fewer: no answer within 0.2 s$"):
        limited(tracker, 0.2, data=[1.0] * 20, epochs=1).fit()
    answer.set()


PROGRAM = """
import sys, threading
from attrs import define
from lucid_train import StepStart, Trainer
from lucid_train.callbacks.trackers.tracker import Tracker

@define(eq=False)
class Silent(Tracker):
    def open(self, opening):
        pass

    def send(self, points):
        threading.Event().wait()

    def close(self, status):
        pass

silent = Silent(timeout=60)
trainer = Trainer(step=lambda batch: batch, data=[1.0], callbacks=[silent])
trainer.on(StepStart)(lambda event: setattr(silent, "timeout", 0.1))
trainer.fit()
print("trained")
"""


def test_the_interpreter_exits_without_waiting_for_a_tracker() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert "RuntimeWarning: Silent has 1 steps and records fewer: no answer within 0.1 s" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step_every": 0}, "'step_every' must be"),
        ({"timeout": 0}, "'timeout' must be"),
        ({"strict": 1}, "'strict' must be True or False: 1"),
        ({"config": 3}, "'config' must be a mapping of your program's own settings: 3"),
    ],
)
def test_a_bad_argument_is_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        Lines(**arguments)


def test_the_order_of_a_tracker_and_others_does_not_matter(tmp_path: Path) -> None:
    folders = count()

    def build() -> Trainer:
        checkpoint = Checkpoint(tmp_path / str(next(folders)), weights=False)
        return trainer(Lines(step_every=1), EarlyStopping("loss", patience=1), checkpoint, epochs=4)

    assert pairs_that_do_not_commute(build) == []


def test_a_run_with_a_tracker_resumes_exactly_and_the_tracker_is_sent_nothing_of_the_test() -> None:
    trackers = []

    def build() -> Trainer:
        trackers.append(Lines(step_every=1))
        weights = nn.Linear(1, 1, rng=0)
        optimizer = optims.SGD(weights.parameters(), lr=0.1)
        settings: dict[str, Any] = {"data": batches([[1.0], [2.0]], batch_size=1), "model": weights}
        return trainer(trackers[-1], step=lambda batch: optimizer.step() or 0.5, optimizer=optimizer, **settings)

    assert_resumes_exactly(build)
    assert [each.seen for each in trackers] == [[]] * len(trackers)
