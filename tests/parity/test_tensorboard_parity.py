"""TensorBoardLogger, read back by TensorBoard, after fits that end well, are killed and are resumed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lucid_train import StepEnd, Trainer
from lucid_train.callbacks import TensorBoardLogger
from tests.support.disks import small_disk
from tests.support.tracking import expected_curves


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the curves that TensorBoard shows, but for how long the epochs took."""
    accumulator = EventAccumulator(str(folder)).Reload()
    names = set(accumulator.Tags()["scalars"]) - {"seconds"}
    return {name: [(each.step, each.value) for each in accumulator.Scalars(name)] for name in sorted(names)}


def texts(folder: Path, name: str) -> list[tuple[int, str]]:
    found = EventAccumulator(str(folder)).Reload().Tensors(f"{name}/text_summary")
    return [(each.step, each.tensor_proto.string_val[0].decode().strip()) for each in found]


def trainer(folder: Path, epochs: int = 2, **settings: Any) -> Trainer:
    logger = TensorBoardLogger(folder, step_every=1, **{"timeout": 60, **settings})
    return Trainer(lambda batch: batch / 4, [1.0, 3.0], evaluate=lambda: 0.25, epochs=epochs, callbacks=[logger])


def test_tensorboard_shows_the_curves_the_parameters_and_the_end(tmp_path: Path) -> None:
    trainer(tmp_path, config={"seed": 3}).fit()
    assert read(tmp_path) == expected_curves(2)
    [(step, parameters)] = texts(tmp_path, "parameters")
    assert (step, json.loads(parameters)) == (0, {"epochs": 2, "evaluate_every": 1, "config.seed": 3})
    assert texts(tmp_path, "status") == [(4, "completed")]


def test_a_second_fit_goes_on_in_the_same_curves(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit()
    run.fit(3)
    assert read(tmp_path) == expected_curves(3)
    assert texts(tmp_path, "status") == [(4, "completed"), (6, "completed")]


def test_a_new_run_in_the_same_folder_hides_the_old_one_and_keeps_its_files(tmp_path: Path) -> None:
    trainer(tmp_path, 3).fit()
    trainer(tmp_path, 1).fit()
    assert read(tmp_path) == expected_curves(1)
    assert len(list(tmp_path.iterdir())) == 2


def test_an_epoch_is_in_the_file_when_the_next_one_begins(tmp_path: Path) -> None:
    run, seen = trainer(tmp_path, 3), []
    run.on(StepEnd, at={3, 5})(lambda event: seen.append(read(tmp_path)["loss"]))
    run.fit()
    assert seen == [[(2, 0.5)], [(2, 0.5), (4, 0.5)]]


def test_a_disk_that_is_full_is_a_warning_and_an_error_if_strict(tmp_path: Path) -> None:
    warning = r"^TensorBoardLogger has \d+ steps and records fewer: .*File too large"
    run = trainer(tmp_path / "full", 30)
    [logger] = run.callbacks
    run.on(StepEnd, at=60)(lambda event: setattr(logger, "timeout", 0.1))  # which the end is waited for
    with small_disk(1000), pytest.warns(RuntimeWarning, match=warning):
        run.fit()
    with small_disk(1000), pytest.raises(RuntimeError, match=r"could not be sent to: .*File too large"):
        trainer(tmp_path / "strict", 30, strict=True).fit()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^'folder' must be a folder: '.*' is a file$"):
        TensorBoardLogger(tmp_path / "file")


PROGRAM = """
import os, signal, sys
from lucid_train import StepEnd, Trainer
from lucid_train.callbacks import Checkpoint, TensorBoardLogger

curves, checkpoints, *kills = sys.argv[1:]
kills = {int(step) for step in kills}
checkpoint = Checkpoint(checkpoints, weights=False, every=3, interval="step")
trainer = Trainer(lambda batch: batch / 4, [1.0, 3.0], evaluate=lambda: 0.25, epochs=6,
                  callbacks=[TensorBoardLogger(curves, step_every=1, timeout=60), checkpoint])
trainer.on(StepEnd, at=kills)(lambda event: os.kill(os.getpid(), signal.SIGKILL))
trainer.fit(resume="auto")
"""


def test_a_run_that_is_killed_and_resumed_has_each_step_once(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", PROGRAM, str(tmp_path / "curves"), str(tmp_path / "checkpoints")]
    for kill in (2, 5, 10):  # before the first checkpoint, and two and one steps after one
        assert subprocess.run([*arguments, str(kill)], capture_output=True, timeout=100).returncode == -9
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert read(tmp_path / "curves") == expected_curves(6)
    assert texts(tmp_path / "curves", "status") == [(12, "completed")]
