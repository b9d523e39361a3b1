"""Checkpoint when the disk is full: the run ends or goes on, and the last good file stays."""

from __future__ import annotations

import errno
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lucid_train import EpochEnd, EpochStart, Trainer, nn, optims
from lucid_train.callbacks import Checkpoint
from lucid_train.saving.checkpoint import Directory, read_checkpoint
from tests.support.disks import small_disk


def trainer(directory: Path, **settings: Any) -> Trainer:
    model = nn.Linear(100, 100, rng=0)
    optimizer = optims.SGD(model.parameters(), lr=0.5)
    callbacks = [Checkpoint(directory, **settings)]
    return Trainer(epochs=4, model=model, optimizer=optimizer, callbacks=callbacks)


@pytest.mark.parametrize("background", [False, True])
def test_a_full_disk_ends_the_fit_naming_the_file(tmp_path: Path, background: bool) -> None:
    trainer(tmp_path).fit(epochs=2)
    good = Directory(tmp_path).files()
    with small_disk(10_000), pytest.raises(OSError, match=r"File too large.*checkpoint-000003") as caught:
        trainer(tmp_path, background=background).fit(resume="auto", accept="epochs")
    assert caught.value.errno == errno.EFBIG
    assert Directory(tmp_path).files() == good
    assert read_checkpoint(good[-1])["progress"]["epoch"] == 2
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("background", [False, True])
def test_training_goes_on_with_a_full_disk_if_asked_to(tmp_path: Path, background: bool) -> None:
    trainer(tmp_path).fit(epochs=2)
    good = Directory(tmp_path).files()
    resumed = trainer(tmp_path, failure="warn", background=background)
    with small_disk(10_000), pytest.warns(UserWarning, match=f"000003.*goes on, the newest.* is {good[-1]}"):
        history = resumed.fit(resume="auto", accept="epochs")
    assert [record.epoch for record in history] == [1, 2, 3, 4]
    assert Directory(tmp_path).files() == good
    assert read_checkpoint(tmp_path)["progress"]["epoch"] == 2


def test_once_there_is_room_again_the_next_checkpoint_is_written(tmp_path: Path) -> None:
    training = trainer(tmp_path, failure="warn")
    with small_disk(10_000), pytest.warns(UserWarning, match="goes on, there is no checkpoint yet"):
        training.fit(epochs=2)
    training.fit(epochs=3)
    assert read_checkpoint(tmp_path)["progress"]["epoch"] == 3


@pytest.mark.parametrize("background", [False, True])
def test_a_best_epoch_that_could_not_be_written_is_not_the_best(tmp_path: Path, background: bool) -> None:
    values = iter([5.0, 1.0, 3.0])
    checkpoint = Checkpoint(tmp_path, every=None, monitor="val_loss", failure="warn", background=background)
    model = nn.Linear(100, 100, rng=0)
    training = Trainer(model=model, epochs=3, evaluate=lambda: next(values), callbacks=[checkpoint])

    def wait(event: EpochStart) -> None:
        while any(thread.name.startswith("lucid-train") for thread in threading.enumerate()):
            time.sleep(0.001)

    with ExitStack() as full:
        training.on(EpochEnd, at=2)(lambda event: full.enter_context(small_disk(10_000)))
        training.on(EpochStart)(wait)
        training.on(EpochStart, at=3)(lambda event: full.close())
        with pytest.warns(
            UserWarning, match="File too large.*training goes on, the newest checkpoint is .*epoch-1-step-1"
        ):
            training.fit()
    assert (checkpoint.best, checkpoint.best_epoch) == (3.0, 3)
    assert checkpoint.best_file == Directory(tmp_path).files()[-1]
    saved = read_checkpoint(checkpoint.best_file)["callbacks"]["Checkpoint"]
    assert saved == {"best": 3.0, "best_epoch": 3, "best_file": checkpoint.best_file.name}


def test_a_directory_that_cannot_be_made_is_an_error_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    steps: list[object] = []
    with pytest.raises(FileExistsError, match="taken"):
        Trainer(steps.append, [1, 2], callbacks=[Checkpoint(tmp_path / "taken")]).fit()
    assert steps == []
