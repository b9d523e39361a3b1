import copy
import csv
import math
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from lucid_train import EpochEnd, EpochReport, Trainer
from lucid_train.callbacks.csv_logger import CSVLogger
from tests.support.optimizers import Bare


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def trained(path: Path, epochs: int, scale: float = 1.0) -> Trainer:
    trainer = Trainer(step=lambda batch: batch * scale, data=[0.5, 1.0], epochs=epochs, callbacks=[CSVLogger(path)])
    trainer.fit()
    return trainer


def test_an_epoch_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    Trainer(
        step=lambda batch: {"loss": 0.1, "accuracy": 1 / 3},
        data=[1, 2],
        epochs=2,
        optimizer=Bare(0.1, 0.02),
        callbacks=[CSVLogger(path)],
    ).fit()
    assert rows(path) == [
        {"epoch": epoch, "steps": "2", "lr": "0.1", "lr_1": "0.02", "loss": "0.1", "accuracy": "0.3333333333333333"}
        for epoch in ("1", "2")
    ]


def test_the_file_is_what_the_history_writes(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    losses = iter([0.5, math.nan, math.inf, -math.inf, 1e-300])
    history = Trainer(step=lambda batch: next(losses), data=[1], epochs=5, callbacks=[CSVLogger(path)]).fit()
    history.to_csv(tmp_path / "history.csv")
    assert path.read_bytes() == (tmp_path / "history.csv").read_bytes()
    assert [row["loss"] for row in rows(path)] == ["0.5", "nan", "inf", "-inf", "1e-300"]


def test_a_row_is_in_the_file_when_the_next_callback_runs(tmp_path: Path) -> None:
    path, seen = tmp_path / "run.csv", []
    trainer = Trainer(epochs=3, callbacks=[CSVLogger(path)])
    trainer.on(EpochReport)(lambda event: seen.append(len(rows(path))))
    trainer.fit()
    assert seen == [1, 2, 3]


def test_a_metric_that_comes_later_widens_the_table(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    Trainer(
        step=lambda batch: 1.0,
        data=[1],
        epochs=4,
        evaluate=lambda: {"accuracy, top [1]": 0.5},
        evaluate_every=3,
        callbacks=[CSVLogger(path)],
    ).fit()
    assert [row["val_accuracy, top [1]"] for row in rows(path)] == ["", "", "0.5", ""]
    assert [file.name for file in tmp_path.iterdir()] == ["run.csv"]


def test_a_metric_that_has_the_name_of_a_column_keeps_a_column_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    metrics = {"epoch": 7.0, "lr": 8.0, "lr_1": 9.0, "metric_lr": 10.0}
    trainer = Trainer(step=lambda batch: metrics, data=[1], optimizer=Bare(0.1), callbacks=[CSVLogger(path)])
    trainer.fit()
    expected = {"metric_epoch": "7.0", "metric_lr": "8.0", "metric_lr_1": "9.0", "metric_metric_lr": "10.0"}
    assert rows(path) == [{"epoch": "1", "steps": "1", "lr": "0.1", **expected}]


def test_a_second_fit_goes_on_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    trained(path, 2).fit(4)
    assert [row["epoch"] for row in rows(path)] == ["1", "2", "3", "4"]
    assert [file.name for file in tmp_path.iterdir()] == ["run.csv"]


@pytest.mark.parametrize("kept", [0, 1, 3, 5])
def test_a_run_that_is_resumed_earlier_leaves_the_table_of_an_uninterrupted_one(tmp_path: Path, kept: int) -> None:
    straight, path = tmp_path / "straight.csv", tmp_path / "run.csv"
    trained(straight, 6)
    trained(path, 5)
    trainer = Trainer(step=lambda batch: batch, data=[0.5, 1.0], epochs=kept)
    trainer.fit()  # stands for a checkpoint: a run with `kept` epochs behind it
    trainer.callbacks = (CSVLogger(path),)
    trainer.fit(6)
    assert rows(path) == rows(straight)
    assert (tmp_path / "run.csv.1").exists() == (kept == 0)


def test_a_torn_last_row_is_mended_wherever_it_is_torn(tmp_path: Path) -> None:
    straight, path = tmp_path / "straight.csv", tmp_path / "run.csv"
    trained(straight, 3)
    trained(path, 2)
    whole = path.read_bytes()
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        trainer = Trainer(step=lambda batch: batch, data=[0.5, 1.0], epochs=2)
        trainer.fit()
        trainer.callbacks = (CSVLogger(path),)
        trainer.fit(3)
        assert rows(path) == rows(straight)
        assert not (tmp_path / "run.csv.1").exists()


def test_a_killed_process_leaves_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    program = f"""
        import os, signal
        from lucid_train import EpochStart, Trainer
        from lucid_train.callbacks.csv_logger import CSVLogger
        trainer = Trainer(step=lambda batch: 0.5, data=[1], epochs=9, callbacks=[CSVLogger({str(path)!r})])
        trainer.on(EpochStart, at=4)(lambda event: os.kill(os.getpid(), signal.SIGKILL))
        trainer.fit()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], timeout=100)
    assert done.returncode == -signal.SIGKILL
    assert [row["epoch"] for row in rows(path)] == ["1", "2", "3"]


@pytest.mark.parametrize("text", ["notes", "epoch,loss\n1,0.5\n", '"', "\xff"])
def test_a_file_of_something_else_is_renamed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.csv"
    path.write_bytes(text.encode("latin-1"))
    trained(path, 1)
    assert (tmp_path / "run.csv.1").read_bytes() == text.encode("latin-1")
    assert len(rows(path)) == 1


def test_another_runs_numbers_are_renamed(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    trained(path, 2)
    before = path.read_bytes()
    trainer = Trainer(step=lambda batch: batch * 2, data=[0.5, 1.0], epochs=1)
    trainer.fit()
    trainer.callbacks = (CSVLogger(path),)
    trainer.fit(2)
    assert (tmp_path / "run.csv.1").read_bytes() == before
    assert [row["loss"] for row in rows(path)] == ["1.5", "1.5"]


@pytest.mark.parametrize("value", [None, 3, "", b"run.csv"])
def test_a_path_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="'path' must be the path of a file"):
        CSVLogger(value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path, Path(os.devnull)):
        with pytest.raises(ValueError, match="'path' must be a file, not a folder or a device"):
            CSVLogger(place)


def test_it_can_be_copied_and_pickled_before_during_and_after_a_fit(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path / "run.csv")
    copies = [copy.deepcopy(logger)]
    trainer = Trainer(callbacks=[logger])
    trainer.on(EpochEnd)(lambda event: copies.append(pickle.loads(pickle.dumps(logger))))
    trainer.fit()
    copies.append(copy.deepcopy(logger))
    assert {repr(each) for each in copies} == {repr(logger)}
    assert logger.state_dict() == {}
