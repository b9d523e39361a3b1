from __future__ import annotations

import copy
import io
import json
import pickle
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from attrs import define, evolve
from rich.console import Console

from lucid_train import (
    Callback,
    EpochEnd,
    EpochStart,
    Event,
    FitStart,
    Ranks,
    StepEnd,
    Trainer,
    nn,
    optims,
)
from lucid_train.callbacks import (
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    EventLog,
    ExponentialLRCallback,
    LRSchedulerCallback,
    RichLogger,
    TerminateOnNaN,
)
from lucid_train.data import batches
from lucid_train.optims.lr_scheduler import StepLR
from lucid_train.schedules import Cosine, Step
from lucid_train.testing import diff_states
from tests.support.callbacks import Asker, At
from tests.support.optimizers import Bare


def test_the_state_of_a_trainer_without_arrays_is_plain_json() -> None:
    trainer = Trainer(lambda batch: 0.5, [1, 2], epochs=2, callbacks=[EarlyStopping("loss"), TerminateOnNaN()])
    trainer.fit()
    state = trainer.state_dict()
    assert json.loads(json.dumps(state)) == state


def test_a_run_that_a_callback_ended_is_over_when_it_is_resumed_unless_asked_otherwise(tmp_path: Path) -> None:
    def made() -> Trainer:
        callbacks = [EarlyStopping("loss", patience=2), Checkpoint(tmp_path, weights=False)]
        return Trainer(lambda batch: 1.0, [1], epochs=9, callbacks=callbacks)

    first = made().fit(resume="auto")
    with pytest.warns(UserWarning, match="nothing left to train: loss has not improved .*accept='stopped'"):
        again = made().fit(resume="auto")
    assert (
        (len(first), first.status, first.reason)
        == (len(again), again.status, again.reason)
        == (3, "stopped", first.reason)
    )
    assert len(made().fit(resume="auto", accept="stopped")) == 5


def test_two_callbacks_of_one_class_keep_separate_states() -> None:
    def two() -> Trainer:
        return Trainer(
            lambda batch: 1 / batch, [1, 2], callbacks=[EarlyStopping("loss"), EarlyStopping("loss", mode="max")]
        )

    first, second = two(), two()
    first.fit()
    state = first.state_dict()
    assert list(state["callbacks"]) == ["EarlyStopping", "EarlyStopping#2"]
    state["callbacks"]["EarlyStopping"]["best"] = 5.0
    second.load_state_dict(state)
    assert [callback.best for callback in second.callbacks] == [5.0, 0.75]  # type: ignore[attr-defined]  # EarlyStopping


def test_a_model_without_state_dict_cannot_be_saved() -> None:
    with pytest.raises(TypeError, match="'model' must have state_dict"):
        Trainer(model=object()).state_dict()


def test_an_optimizer_that_has_only_groups_keeps_its_rates() -> None:
    def build() -> Trainer:
        return Trainer(optimizer=Bare(0.5, np.array(0.25)), epochs=2, callbacks=[ExponentialLRCallback(0.5)])

    first, second = build(), build()
    first.fit()
    second.load_state_dict(first.state_dict())
    assert [float(group["lr"]) for group in second.optimizer.param_groups] == [0.125, 0.0625]


def test_an_optimizer_that_a_callback_brought_is_resumed() -> None:
    def brought() -> Trainer:
        optimizer = optims.Adam(nn.Linear(1, 1, rng=0).parameters(), lr=0.5)
        return Trainer(
            lambda batch: optimizer.step(),
            [1, 2],
            epochs=2,
            callbacks=[ExponentialLRCallback(0.5, optimizer=optimizer)],
        )

    straight, first, second = brought(), brought(), brought()
    straight.fit(epochs=3)
    first.fit()
    second.load_state_dict(first.state_dict())
    second.fit(epochs=3)
    assert diff_states(straight.state_dict(), second.state_dict()) == []


def test_what_differs_is_named_and_refused() -> None:
    def made(gamma: float, *more: Callback, epochs: int = 4, data: Any = (1, 2)) -> Trainer:
        optimizer = optims.SGD(nn.Linear(1, 1, rng=0).parameters(), lr=0.5)
        return Trainer(
            lambda batch: optimizer.step(),
            list(data),
            epochs=epochs,
            optimizer=optimizer,
            callbacks=[ExponentialLRCallback(gamma), *more],
        )

    first = made(0.5, TerminateOnNaN())
    first.fit(epochs=2)
    state = first.state_dict()
    with pytest.raises(ValueError, match=r"epochs is 1 here and 2 in the checkpoint; .*accept=\['epochs'\]") as caught:
        made(0.5, TerminateOnNaN(), epochs=1).load_state_dict(state)
    assert "gamma" not in str(caught.value)
    with pytest.raises(ValueError, match=r"ExponentialLRCallback.gamma is 0.25 here and 0.5 in the checkpoint"):
        made(0.25, TerminateOnNaN()).load_state_dict(state)
    with pytest.raises(ValueError, match="TerminateOnNaN is in the checkpoint and not here"):
        made(0.5).load_state_dict(state)
    with pytest.raises(ValueError, match="EarlyStopping is here and not in the checkpoint"):
        made(0.5, TerminateOnNaN(), EarlyStopping()).load_state_dict(state)
    with pytest.raises(ValueError, match="steps_per_epoch is 3 here and 2 in the checkpoint"):
        made(0.5, TerminateOnNaN(), data=(1, 2, 3)).load_state_dict(state)
    turned = made(0.5, TerminateOnNaN())
    turned.callbacks = tuple(reversed(turned.callbacks))
    with pytest.raises(ValueError, match=r"callbacks\.order is TerminateOnNaN, ExponentialLRCallback here and Exp"):
        turned.load_state_dict(state)
    turned.load_state_dict(state, accept="callbacks.order")


def test_what_only_shows_or_records_a_run_may_come_and_go_and_change(tmp_path: Path) -> None:
    @define(eq=False)
    class Notes(Callback):
        ranks: ClassVar[Ranks] = "first"
        prefix: str = ""

    def made(name: str, *more: Callback) -> Trainer:
        optimizer = optims.SGD(nn.Linear(1, 1, rng=0).parameters(), lr=1.0)
        callbacks = [ExponentialLRCallback(0.5), *more, Checkpoint(tmp_path / name, weights=False)]
        return Trainer(lambda batch: optimizer.step(), [1, 2], epochs=3, optimizer=optimizer, callbacks=callbacks)

    def shown(name: str) -> list[Callback]:
        quiet = Console(file=io.StringIO())
        return [
            RichLogger(quiet),
            EventLog(tmp_path / f"{name}.jsonl"),
            CSVLogger(tmp_path / f"{name}.csv"),
            Notes("a"),
        ]

    def outcome(trainer: Trainer, **arguments: Any) -> Any:
        return [evolve(record, seconds=0.0) for record in trainer.fit(**arguments)]

    straight = outcome(made("straight"))
    for name, before, after in (
        ("come", [], shown("come")),
        ("go", shown("go"), []),
        ("change", shown("change"), [Notes("b"), *reversed(shown("change")[:2])]),
    ):
        made(name, *before).fit(epochs=1)
        assert outcome(made(name, *after), resume="auto") == straight
    lines = [json.loads(line) for line in (tmp_path / "come.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["event"] == "EpochStart"] == [2, 3]
    assert len((tmp_path / "come.csv").read_text().splitlines()) == 1 + 3


def test_of_settings_that_are_accepted_those_here_count() -> None:
    def made(gamma: float) -> Trainer:
        optimizer = optims.SGD(nn.Linear(1, 1, rng=0).parameters(), lr=1.0)
        return Trainer(optimizer=optimizer, epochs=2, callbacks=[ExponentialLRCallback(gamma)])

    first, second = made(0.5), made(0.25)
    first.fit()
    second.load_state_dict(first.state_dict(), accept="ExponentialLRCallback")
    second.fit(epochs=3)
    assert second.optimizer.param_groups[0]["lr"] == 0.25**3


@pytest.mark.parametrize("accept", [(), "all"])
def test_the_settings_of_a_scheduler_are_compared(accept: Any) -> None:
    def made(gamma: float) -> Trainer:
        optimizer = optims.SGD(nn.Linear(1, 1, rng=0).parameters(), lr=1.0)
        return Trainer(optimizer=optimizer, epochs=2, callbacks=[LRSchedulerCallback(StepLR(optimizer, 1, gamma))])

    first, second = made(0.5), made(0.25)
    first.fit()
    if not accept:
        with pytest.raises(ValueError, match=r"LRSchedulerCallback.schedule is .*'gamma': 0.25"):
            second.load_state_dict(first.state_dict())
    else:
        second.load_state_dict(first.state_dict(), accept=accept)
        second.fit(epochs=3)
        assert second.optimizer.param_groups[0]["lr"] == 0.25**3


def test_entries_that_are_missing_or_unknown_are_named() -> None:
    state = Trainer().state_dict()
    with pytest.raises(ValueError, match="'model' is missing, 'weights' is unknown"):
        Trainer().load_state_dict({**{name: state[name] for name in state if name != "model"}, "weights": 1})
    with pytest.raises(ValueError, match="'state' must be a dict: "):
        Trainer().load_state_dict([])  # type: ignore[arg-type]  # what a file may hold


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"epoch": "x"}, "'state.progress.epoch' must be int: 'x'"),
        ({"history": {}}, "the state of a History does not fit: 'epoch' is missing"),
        ({"means": {"totals": {}}}, "'state.progress.means' does not fit: 'metrics' is missing, 'totals' is unknown"),
        (
            {"phase": "asleep"},
            "'state.progress.phase' must be one of 'between', 'start', 'steps', 'evaluation', 'asked', 'end': 'asleep'",
        ),
        ({"first_step": 7, "epoch": 1, "phase": "steps"}, "'first_step' must be from 0 to the 0 steps done: 7"),
        ({"epoch": 3}, "'epoch' must come after the 0 epochs in the history: 3"),
    ],
)
def test_a_progress_that_cannot_be_is_refused_before_anything_is_loaded(entries: Any, message: str) -> None:
    def made() -> Trainer:
        return Trainer(lambda batch: 0.5, [1], model=nn.Linear(1, 1, rng=0), callbacks=[EarlyStopping("loss")])

    first, second = made(), made()
    first.fit()
    before = copy.deepcopy(second.state_dict())
    with pytest.raises(ValueError, match=re.escape(message)):
        second.load_state_dict({**first.state_dict(), "progress": {**before["progress"], **entries}})
    assert diff_states(second.state_dict(), before) == []


def test_a_model_that_was_not_saved_is_refused() -> None:
    state = Trainer().state_dict()
    with pytest.raises(ValueError, match="model is 'Linear' here and None in the checkpoint"):
        Trainer(model=nn.Linear(1, 1)).load_state_dict(state)
    with pytest.raises(ValueError, match="'model' must be None as in the checkpoint"):
        Trainer(model=nn.Linear(1, 1)).load_state_dict(state, accept="all")


def test_extras_must_be_the_same_and_savable() -> None:
    state = Trainer(extras={"rng": np.random.default_rng(0)}).state_dict()
    trainer = Trainer()
    trainer.load_state_dict(state)
    with pytest.raises(ValueError, match="random state of the run's own generators does not fit: 'rng' is unknown"):
        trainer.fit()
    with pytest.raises(ValueError, match="the extras does not fit: 'net' is missing"):
        Trainer(extras={"net": nn.Linear(1, 1)}).load_state_dict(state)
    with pytest.raises(TypeError, match=r"'extras\['x'\]' must be a random generator"):
        Trainer(extras={"x": 1})
    with pytest.raises(TypeError, match="'extras' must be a mapping"):
        Trainer(extras=[1])  # type: ignore[arg-type]  # on purpose


def test_data_with_fewer_batches_than_were_done_is_refused() -> None:
    asker = Asker(event=StepEnd, count=4, stop=True)
    Trainer(lambda batch: None, [1] * 5, callbacks=[asker]).fit()
    short = Trainer(lambda batch: None, [1] * 3, callbacks=[Asker(event=FitStart)])
    short.load_state_dict(asker.found[0], accept="all")
    with pytest.raises(ValueError, match="must have the 4 batches that were taken before: 3"):
        short.fit()


def test_data_that_said_where_it_stood_must_do_so_again() -> None:
    asker = Asker(event=StepEnd, count=2, stop=True)
    Trainer(lambda batch: None, batches([1, 2, 3], batch_size=1), callbacks=[asker]).fit()
    other = Trainer(lambda batch: None, [1, 2, 3], callbacks=[Asker(event=FitStart)])
    other.load_state_dict(asker.found[0])
    with pytest.raises(ValueError, match="'data' is one without state_dict here"):
        other.fit()


def test_a_one_shot_iterator_is_passed_over_up_to_its_place() -> None:
    seen: list[int] = []

    def made(asker: Asker) -> Trainer:
        return Trainer(seen.append, iter(range(100)), epochs=3, steps_per_epoch=4, callbacks=[asker])

    asker = Asker(event=StepEnd, count=6, stop=True)
    made(asker).fit()
    resumed = made(Asker(event=FitStart, count=-1))
    resumed.load_state_dict(asker.found[0])
    resumed.fit()
    assert seen == list(range(12))


def test_resume_finds_a_directory_a_file_or_nothing(tmp_path: Path) -> None:
    def made() -> Trainer:
        return Trainer(epochs=2, callbacks=[Checkpoint(tmp_path / "run")])

    with pytest.raises(FileNotFoundError, match="'resume' must hold a checkpoint; pass 'auto' to start"):
        made().fit(resume=tmp_path)
    assert len(made().fit(resume="auto")) == 2
    assert len(made().fit(epochs=3, resume=tmp_path / "run")) == 3
    file = next((tmp_path / "run").glob("*-epoch-2-*"))
    assert len(made().fit(epochs=4, resume=str(file))) == 4
    with pytest.raises(ValueError, match="'resume' must not be given with restart=True"):
        made().fit(resume="auto", restart=True)
    with pytest.raises(
        ValueError, match="'resume' may be 'auto' with exactly one Checkpoint among the callbacks: 0; add Checkpoint"
    ):
        Trainer().fit(resume="auto")
    with pytest.raises(TypeError, match="'resume' must be a directory, a file or 'auto': 3"):
        Trainer().fit(resume=3)  # type: ignore[arg-type]  # on purpose


def test_a_state_is_not_loaded_within_a_fit() -> None:
    trainer = Trainer()
    state = trainer.state_dict()
    trainer.on(FitStart)(lambda event: trainer.load_state_dict(state))
    with pytest.raises(RuntimeError, match="must not be loaded within fit"):
        trainer.fit()


def test_a_run_gives_its_state_within_a_fit_only() -> None:
    runs: list[Any] = []
    trainer = Trainer()
    trainer.on(FitStart)(lambda event: runs.append(event.run))
    trainer.fit()
    with pytest.raises(RuntimeError, match=r"ask the Trainer for its state_dict\(\)"):
        runs[0].state_dict()


def test_a_request_is_not_served_when_the_fit_fails() -> None:
    asker = Asker(event=EpochEnd)

    @define(eq=False)
    class Failing(Callback):
        def on_epoch_end(self, event: EpochEnd) -> None:
            raise ArithmeticError("half of the callbacks have received")

    with pytest.raises(ArithmeticError):
        Trainer(callbacks=[asker, Failing()]).fit()
    assert asker.found == []


def test_callbacks_can_be_pickled_and_copied_before_during_and_after(tmp_path: Path) -> None:
    callbacks = [Checkpoint(tmp_path, background=True, weights=False), EarlyStopping("loss")]
    trainer = Trainer(lambda batch: 0.5, [1], epochs=3, callbacks=callbacks)
    copies: list[Any] = []

    def both(event: Any = None) -> None:
        for callback in callbacks:
            copies.append(copy.deepcopy(callback))
            copies.append(pickle.loads(pickle.dumps(callback)))

    both()
    trainer.on(StepEnd)(both)
    trainer.fit()
    both()
    assert {repr(each) for each in copies} == {repr(each) for each in callbacks}
    assert copies[-1].state_dict() == callbacks[-1].state_dict()


@pytest.mark.parametrize("value", [Cosine().warmup(3), Step(2, gamma=0.5), [Step(2, gamma=0.5)]], ids=str)
@pytest.mark.parametrize("cut", [1, 4, 5, 6])
def test_a_bound_schedule_is_resumed_from_its_count(value: Any, cut: int) -> None:
    def made() -> Trainer:
        optimizer = optims.SGD(nn.Linear(1, 1, rng=0).parameters(), lr=1.0)
        schedule = LRSchedulerCallback(value, interval="step")
        return Trainer(lambda batch: optimizer.step(), range(5), epochs=3, optimizer=optimizer, callbacks=[schedule])

    straight, first, second = made(), made(), made()
    straight.fit()
    first.on(StepEnd, at=cut)(lambda event: event.run.stop())
    first.fit()
    second.load_state_dict(first.state_dict())
    second.fit()
    assert diff_states(straight.state_dict(), second.state_dict()) == []


def test_a_generator_that_the_data_holds_under_two_names_is_saved_once() -> None:
    class Shuffled:
        def __init__(self) -> None:
            self.rng = self.same = np.random.default_rng(3)
            self.other = np.random.default_rng(3)

        def __iter__(self) -> Iterator[int]:
            return iter(self.rng.permutation(4).tolist())

    assert set(Trainer(lambda batch: None, Shuffled()).state_dict()["random"]["own"]) == {"data.rng", "data.other"}


class DrawsLate:
    """The order is drawn with the first batch."""

    def __iter__(self) -> Iterator[int]:
        yield from random.sample(range(6), 6)


@pytest.mark.parametrize(
    ("event", "begun"),
    [(StepEnd, 2), (StepEnd, 0), (EpochStart, 0)],
    ids=["in mid-epoch", "at its last step", "before the first batch"],
)
def test_numbers_that_a_callback_draws_as_an_epoch_begins_are_part_of_its_pass(event: type[Event], begun: int) -> None:
    states: list[Any] = []

    def save(event: Any) -> None:
        if event.run.step == 6 + begun and not states:
            states.append(copy.deepcopy(event.run.state_dict()))

    def run(seen: list[int], seed: int) -> Trainer:
        random.seed(seed)
        draws = At(EpochStart, lambda event: random.random())
        return Trainer(seen.append, DrawsLate(), epochs=3, callbacks=[draws, At(event, save)])

    straight: list[int] = []
    run(straight, 5).fit()
    resumed: list[int] = []
    trainer = run(resumed, 6)
    trainer.load_state_dict(states[0])
    trainer.fit()
    assert resumed == straight[6 + begun :]


def test_numbers_drawn_between_a_stop_at_the_start_of_an_epoch_and_its_first_batch_are_part_of_its_pass() -> None:
    straight: list[int] = []
    states: list[Any] = []
    random.seed(5)
    trainer = Trainer(straight.append, DrawsLate(), epochs=3)
    trainer.on(EpochStart, at=2)(lambda event: event.run.stop())
    trainer.on(StepEnd, at=8)(lambda event: states.append(copy.deepcopy(event.run.state_dict())))
    trainer.fit()
    assert len(straight) == 6
    random.seed(7)
    trainer.fit()

    resumed: list[int] = []
    random.seed(6)
    trainer = Trainer(resumed.append, DrawsLate(), epochs=3)
    trainer.load_state_dict(states[0])
    trainer.fit()
    assert resumed == straight[8:]
