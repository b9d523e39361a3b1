from __future__ import annotations

import gc
import os
import threading
import time
import warnings
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import define

from lucid_train import (
    Callback,
    CheckpointError,
    EpochEnd,
    EpochReport,
    FitEnd,
    StepStart,
    Trainer,
    nn,
    optims,
    read_checkpoint,
)
from lucid_train.callbacks import Checkpoint, EarlyStopping
from lucid_train.saving.checkpoint import Directory

LOSSES = [5.0, 3.0, 4.0, 2.0, 6.0, 7.0]


def names(directory: Path) -> list[str]:
    return [file.name for file in Directory(directory).files()]


def trainer(*callbacks: Callback, epochs: int = 6, steps: int = 2) -> Trainer:
    seen: list[int] = []

    def evaluate() -> dict[str, float]:
        seen.append(1)
        return {"val_loss": LOSSES[(len(seen) - 1) % len(LOSSES)]}

    model = nn.Linear(1, 1, rng=0)
    return Trainer(lambda batch: 0.5, range(steps), epochs=epochs, model=model, evaluate=evaluate, callbacks=callbacks)


def test_every_epoch_is_saved_and_the_last_three_are_kept(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "deep" / "run")
    trainer(checkpoint).fit()
    assert names(tmp_path / "deep" / "run") == [
        "checkpoint-000004-epoch-4-step-8.safetensors",
        "checkpoint-000005-epoch-5-step-10.safetensors",
        "checkpoint-000006-epoch-6-step-12.safetensors",
    ]
    assert checkpoint.last_file == tmp_path / "deep" / "run" / "checkpoint-000006-epoch-6-step-12.safetensors"


def test_every_other_epoch_and_the_end(tmp_path: Path) -> None:
    trainer(Checkpoint(tmp_path, every=2, keep=None), epochs=5).fit()
    assert [name[18:25] for name in names(tmp_path)] == ["epoch-2", "epoch-4", "epoch-5"]


def test_every_fifth_step_and_the_end(tmp_path: Path) -> None:
    trainer(Checkpoint(tmp_path, every=5, interval="step", keep=None)).fit()
    assert [name.split("-step-")[1][:-12] for name in names(tmp_path)] == ["5", "10", "12"]


def test_every_so_many_seconds(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, every=0.1, interval="second", weights=False)
    began = time.monotonic()
    Trainer(lambda batch: time.sleep(0.02), range(20), callbacks=[checkpoint]).fit()
    most = (time.monotonic() - began) / 0.1 + 1  # and the end
    assert 2 <= int(names(tmp_path)[-1].split("-")[1]) <= most


def test_only_the_end_is_saved_without_every(tmp_path: Path) -> None:
    trainer(Checkpoint(tmp_path, every=None)).fit()
    assert names(tmp_path) == ["checkpoint-000001-epoch-6-step-12.safetensors"]


@pytest.mark.parametrize(("mode", "best"), [("min", 4), ("max", 6)])
def test_the_best_is_kept_besides_the_last(tmp_path: Path, mode: Any, best: int) -> None:
    checkpoint = Checkpoint(tmp_path, every=None, keep=1, monitor="val_loss", mode=mode)
    run = trainer(checkpoint, epochs=7)
    run.fit()
    assert (checkpoint.best, checkpoint.best_epoch) == (LOSSES[best - 1], best)
    assert checkpoint.best_file is not None
    assert checkpoint.best_file.exists()
    state = read_checkpoint(checkpoint.best_file)
    assert state["progress"]["epoch"] == best
    assert state["callbacks"]["Checkpoint"]["best_file"] == checkpoint.best_file.name
    assert len(names(tmp_path)) == 2


def test_the_best_is_still_kept_by_the_run_that_goes_on(tmp_path: Path) -> None:
    trainer(Checkpoint(tmp_path, keep=1, monitor="val_loss"), epochs=5).fit()
    checkpoint = Checkpoint(tmp_path, keep=1, monitor="val_loss")
    resumed = trainer(checkpoint)
    resumed.fit(epochs=8, resume="auto", accept="epochs")
    assert checkpoint.best_epoch == 4
    assert [name[18:25] for name in names(tmp_path)] == ["epoch-4", "epoch-8"]


def test_an_epoch_that_is_not_evaluated_is_passed_over_and_nan_is_never_best(tmp_path: Path) -> None:
    values = iter([float("nan"), 1.0])
    checkpoint = Checkpoint(tmp_path, monitor="val_loss", weights=False)
    Trainer(
        lambda batch: 1.0, [1], epochs=4, evaluate=lambda: next(values), evaluate_every=2, callbacks=[checkpoint]
    ).fit()
    assert (checkpoint.best, checkpoint.best_epoch) == (1.0, 4)


def test_a_metric_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'monitor' must be one of the metrics, loss, val_loss: 'accuracy'"):
        trainer(Checkpoint(tmp_path, monitor="accuracy")).fit()


def test_a_checkpoint_is_written_when_it_is_asked_for(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, every=None, keep=None)
    asking = trainer(checkpoint, epochs=2)
    asking.on(StepStart, at=3)(lambda event: checkpoint.save())
    asking.on(EpochEnd, at=1)(lambda event: checkpoint.save())
    asking.on(FitEnd)(lambda event: checkpoint.save())
    asking.fit()
    steps = [name.removesuffix(".safetensors").split("-step-")[1] for name in names(tmp_path)]
    assert steps == ["2", "3", "4", "4"]
    with pytest.raises(RuntimeError, match="no fit is running that could be saved"):
        checkpoint.save()


def test_what_is_asked_for_after_a_save_comes_after_it(tmp_path: Path) -> None:
    checkpoint, found = Checkpoint(tmp_path, every=None), list[list[str]]()
    asking = trainer(checkpoint)

    @asking.on(StepStart, at=3)
    def save(event: StepStart) -> None:
        checkpoint.save()
        event.run.at_safe_point(lambda: found.append(names(tmp_path)))

    asking.fit()
    assert found == [["checkpoint-000001-epoch-2-step-3.safetensors"]]


@pytest.mark.parametrize("background", [False, True])
def test_what_is_asked_for_by_the_end_is_there_when_fit_returns(tmp_path: Path, background: bool) -> None:
    checkpoint = Checkpoint(tmp_path, every=None, background=background)
    asking = trainer(checkpoint, epochs=1)
    asking.on(FitEnd)(lambda event: checkpoint.save())
    asking.fit()
    assert len(names(tmp_path)) == 2


def test_the_last_checkpoint_precedes_what_callbacks_do_at_the_end(tmp_path: Path) -> None:
    model = nn.Linear(1, 1, rng=0)

    def step(batch: object) -> float:
        model.load_state_dict({name: array + 1 for name, array in model.state_dict().items()})
        return float(model.state_dict()["bias"][0])

    stopping = EarlyStopping("loss", patience=3, restore_best=True)
    Trainer(step, [1], epochs=9, model=model, callbacks=[stopping, Checkpoint(tmp_path)]).fit()
    assert read_checkpoint(tmp_path)["model"]["bias"] == model.state_dict()["bias"] + 3


def test_a_run_that_fails_keeps_its_last_checkpoint(tmp_path: Path) -> None:
    failing = trainer(Checkpoint(tmp_path))
    failing.on(EpochReport, at=3)(lambda event: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing.fit()
    assert names(tmp_path)[-1] == "checkpoint-000002-epoch-2-step-4.safetensors"


def test_a_fit_with_nothing_to_do_writes_nothing(tmp_path: Path) -> None:
    trainer(Checkpoint(tmp_path), epochs=2).fit()
    before = names(tmp_path)
    with pytest.warns(UserWarning, match="nothing left to train"):
        trainer(Checkpoint(tmp_path), epochs=2).fit(resume="auto")
    assert names(tmp_path) == before


def test_the_newest_good_one_is_taken_and_the_damaged_one_is_named(tmp_path: Path) -> None:
    trainer(Checkpoint(tmp_path), epochs=3).fit()
    newest = Directory(tmp_path).files()[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    resumed = trainer(Checkpoint(tmp_path), epochs=3)
    with pytest.warns(
        UserWarning, match=f"{newest.name} is not a usable checkpoint: .*; resuming from .*000002-epoch-2"
    ):
        history = resumed.fit(resume="auto")
    assert len(history) == 3
    assert names(tmp_path)[-1] == "checkpoint-000004-epoch-3-step-6.safetensors"


def test_if_all_are_damaged_the_run_does_not_start_over_in_silence(tmp_path: Path) -> None:
    trainer(Checkpoint(tmp_path), epochs=2).fit()
    for file in Directory(tmp_path).files():
        os.truncate(file, 10)
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is whole"):
        trainer(Checkpoint(tmp_path), epochs=2).fit(resume="auto")


def test_a_directory_with_another_runs_checkpoints_is_refused(tmp_path: Path) -> None:
    trainer(Checkpoint(tmp_path)).fit()
    before = names(tmp_path)
    with pytest.raises(FileExistsError, match=r"call fit\(resume='auto'\), else pass another directory"):
        trainer(Checkpoint(tmp_path)).fit()
    assert names(tmp_path) == before


def test_a_callback_that_has_saved_one_run_is_refused_for_another(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    trainer(checkpoint).fit()
    with pytest.raises(FileExistsError, match="'directory' must hold no checkpoints of another run"):
        trainer(checkpoint).fit()
    trainer(checkpoint).fit(restart=True)


def test_a_run_that_was_saved_before_its_first_step_goes_on_in_its_directory(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    training = trainer(checkpoint)
    training.fit(0)
    assert len(training.fit(1)) == 1
    with pytest.raises(FileExistsError, match="'directory' must hold no checkpoints of another run"):
        trainer(checkpoint).fit(0)
    another = trainer(checkpoint)
    for _ in range(2):  # it is refused again, though the callback has seen this run by then
        with pytest.raises(FileExistsError, match="'directory' must hold no checkpoints of another run"):
            another.fit(1)


def test_a_run_that_went_back_and_came_to_the_same_step_is_saved_again(tmp_path: Path) -> None:
    training = trainer(Checkpoint(tmp_path, every=None))
    training.fit(1)
    state = training.state_dict()
    training.fit(2)
    training.load_state_dict(state, accept="epochs")
    training.fit(2)
    assert [name[17:] for name in names(tmp_path)] == [
        "-epoch-1-step-2.safetensors",
        "-epoch-2-step-4.safetensors",
        "-epoch-2-step-4.safetensors",
    ]


@define(eq=False)
class Unsaveable(Callback):
    """From its first epoch on it has no state."""

    broken: bool = False

    def on_epoch_end(self, event: EpochEnd) -> None:
        self.broken = True

    def state_dict(self) -> dict[str, Any]:
        if self.broken:
            raise ArithmeticError("no state")
        return {}


def test_an_epoch_whose_state_could_not_be_taken_is_not_the_best(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, every=None, monitor="val_loss")
    with pytest.raises(ArithmeticError, match="no state"):
        trainer(checkpoint, Unsaveable()).fit()
    assert (checkpoint.best, checkpoint.best_epoch, checkpoint.best_file) == (None, None, None)


def test_two_checkpoints_need_two_directories(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must keep checkpoints in directories of their own"):
        trainer(Checkpoint(tmp_path), Checkpoint(tmp_path / "x" / "..")).fit()
    trainer(Checkpoint(tmp_path / "a"), Checkpoint(tmp_path / "b", every=2)).fit()
    assert len(names(tmp_path / "a")) == len(names(tmp_path / "b")) == 3


def test_rubbish_of_a_process_that_was_killed_is_swept_and_nothing_else(tmp_path: Path) -> None:
    rubbish = tmp_path / ".checkpoint-000003-epoch-1-step-2.safetensors.part"
    rubbish.write_bytes(b"half")
    for name in ("notes.txt", ".hidden.part", "checkpoint-x.safetensors"):
        (tmp_path / name).write_text("mine")
    trainer(Checkpoint(tmp_path, keep=1), epochs=2).fit()
    assert not rubbish.exists()
    assert {"notes.txt", ".hidden.part", "checkpoint-x.safetensors"} < set(os.listdir(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"directory": 3}, TypeError, "'directory' must be a path: 3"),
        ({"directory": ""}, TypeError, "'directory' must be a path: ''"),
        ({"every": 0}, ValueError, "'every' must be >= 1: 0"),
        ({"every": 0.5}, TypeError, "'every' must be an int: 0.5"),
        ({"every": 0, "interval": "second"}, ValueError, "'every' must be > 0"),
        ({"interval": "minute"}, ValueError, "'interval' must be one of 'epoch', 'step', 'second': 'minute'"),
        ({"keep": 0}, ValueError, "'keep' must be >= 1: 0"),
        ({"monitor": ""}, TypeError, "'monitor' must be the name of a metric: ''"),
        ({"monitor": "f1"}, ValueError, "'mode' must be given, as 'f1' does not end in loss or accuracy"),
        ({"mode": "max"}, ValueError, "'mode' must be None without a monitor: 'max'"),
        ({"mode": "best"}, ValueError, "'mode' must be one of 'min', 'max': 'best'"),
        ({"background": 1}, TypeError, "'background' must be True or False: 1"),
        ({"weights": None}, TypeError, "'weights' must be True or False: None"),
        ({"failure": "ignore"}, ValueError, "'failure' must be one of 'raise', 'warn': 'ignore'"),
        ({"signals": "SIGINT"}, TypeError, "'signals' must be a list of names: 'SIGINT'"),
        ({"signals": ["SIGKILL"]}, ValueError, "must name signals that can be caught here.*'SIGKILL'"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Checkpoint(**{"directory": "x", **arguments})


def test_a_state_that_cannot_be_saved_is_named_before_the_first_step(tmp_path: Path) -> None:
    @define(eq=False)
    class Holder(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"files": range(2)}

    steps: list[object] = []
    with pytest.raises(TypeError, match=r"'callbacks\.Holder\.files' cannot be saved.*: range") as caught:
        Trainer(steps.append, [1], callbacks=[Checkpoint(tmp_path, weights=False), Holder()]).fit()
    assert steps == []
    assert not hasattr(caught.value, "__notes__")  # there is no epoch in which it was raised


def test_in_the_background_training_goes_on_and_the_file_is_of_the_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write, steps = threading.Event(), []
    real = os.fsync

    def slow(descriptor: int) -> None:
        assert may_write.wait(30)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    model = nn.Linear(1, 1, rng=0)
    first = model.state_dict()["bias"] + 1

    def step(batch: object) -> None:
        model.load_state_dict({name: array + 1 for name, array in model.state_dict().items()})
        steps.append(batch)

    checkpoint = Checkpoint(tmp_path, background=True, keep=None)
    training = Trainer(step, [1], epochs=4, model=model, callbacks=[checkpoint])

    @training.on(EpochReport, at=3)
    def let_go(event: EpochReport) -> None:
        assert names(tmp_path) == []  # the first one is still being written, and those that fell due were put off
        may_write.set()

    training.fit()
    assert len(steps) == 4
    assert read_checkpoint(Directory(tmp_path).files()[0])["model"]["bias"] == first
    assert read_checkpoint(Directory(tmp_path).files()[-1])["model"]["bias"] == first + 3
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("lucid-train")] == []


def test_no_thread_is_left_when_a_run_in_the_background_fails(tmp_path: Path) -> None:
    failing = trainer(Checkpoint(tmp_path, background=True))
    failing.on(EpochReport, at=2)(lambda event: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing.fit()
    assert threading.active_count() == 1
    assert len(names(tmp_path)) >= 1


def test_a_trainer_that_was_saved_is_freed_at_once(tmp_path: Path) -> None:
    model = nn.Linear(2, 2, rng=0)
    saved = Trainer(model=model, optimizer=optims.SGD(model.parameters(), lr=0.1), callbacks=[Checkpoint(tmp_path)])
    saved.fit()
    held = weakref.ref(saved.callbacks[0])
    gc.disable()
    try:
        del saved
        assert held() is None
    finally:
        gc.enable()


def test_a_correct_run_warns_of_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(Checkpoint(tmp_path, background=True, monitor="val_loss")).fit()
    assert caught == []


def test_arrays_in_the_file_are_those_of_the_model(tmp_path: Path) -> None:
    model = nn.Linear(3, 2, rng=0)
    Trainer(model=model, callbacks=[Checkpoint(tmp_path)]).fit()
    saved = read_checkpoint(tmp_path)["model"]
    assert all(np.array_equal(saved[name], array) for name, array in model.state_dict().items())
