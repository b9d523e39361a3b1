import io
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_train import EpochRecord, EvaluationRecord, History

RECORDS = [
    EpochRecord(epoch=1, steps=4, seconds=0.5, metrics={"loss": 0.25}, lr=(0.1,), last_lr=(0.05,)),
    EpochRecord(epoch=2, steps=4, seconds=0.25, metrics={"loss": math.nan, "val_loss": 0.5}, lr=(0.05, 1e-05)),
]


def test_columns_are_the_clock_the_rates_and_the_metrics() -> None:
    assert History(RECORDS).columns() == ["epoch", "steps", "seconds", "lr", "lr_1", "loss", "val_loss"]
    assert History().columns() == ["epoch", "steps", "seconds"]


def test_arrays_have_one_entry_per_epoch_and_nan_where_there_is_none() -> None:
    arrays = History(RECORDS).arrays()
    expected = {
        "epoch": [1, 2],
        "steps": [4, 4],
        "seconds": [0.5, 0.25],
        "lr": [0.1, 0.05],
        "lr_1": [math.nan, 1e-05],
        "loss": [0.25, math.nan],
        "val_loss": [math.nan, 0.5],
    }
    assert list(arrays) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(arrays[name], values)
    assert {name: array.dtype.kind for name, array in arrays.items() if array.dtype.kind != "f"} == {
        "epoch": "i",
        "steps": "i",
    }


def test_arrays_of_no_epochs_are_empty() -> None:
    assert {name: array.shape for name, array in History().arrays().items()} == {
        "epoch": (0,),
        "steps": (0,),
        "seconds": (0,),
    }


def test_records_are_flat_and_evaluations_within_an_epoch_stand_before_its_end() -> None:
    history = History(RECORDS)
    history.evaluations += [
        EvaluationRecord(epoch=1, step=2, seconds=0.5, metrics={"val_loss": 1.0, "step": 3.0}),
        EvaluationRecord(epoch=2, step=8, seconds=0.5, metrics={"val_loss": 0.5}),
        EvaluationRecord(epoch=3, step=10, seconds=0.5, metrics={"val_loss": 0.25}),
    ]
    assert repr(history.records()) == repr(
        [
            {"epoch": 1, "step": 2, "seconds": 0.5, "val_loss": 1.0, "metric_step": 3.0},
            {"epoch": 1, "step": 4, "steps": 4, "seconds": 0.5, "lr": 0.1, "loss": 0.25},
            {"epoch": 2, "step": 8, "seconds": 0.5, "val_loss": 0.5},
            {
                "epoch": 2,
                "step": 8,
                "steps": 4,
                "seconds": 0.25,
                "lr": 0.05,
                "lr_1": 1e-05,
                "loss": math.nan,
                "val_loss": 0.5,
            },
            {"epoch": 3, "step": 10, "seconds": 0.5, "val_loss": 0.25},
        ]
    )
    assert History().records() == []


def test_a_csv_file_goes_to_a_path_or_an_open_file(tmp_path: Path) -> None:
    text = "epoch,steps,seconds,lr,lr_1,loss,val_loss\n1,4,0.5,0.1,,0.25,\n2,4,0.25,0.05,1e-05,nan,0.5\n"
    buffer = io.StringIO()
    History(RECORDS).to_csv(buffer)
    History(RECORDS).to_csv(tmp_path / "run.csv")
    History(RECORDS).to_csv(str(tmp_path / "again.csv"))
    assert buffer.getvalue() == text
    assert (tmp_path / "run.csv").read_bytes() == (tmp_path / "again.csv").read_bytes() == text.encode()


def test_a_csv_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text("of another run, and longer than what comes\n" * 10)
    with path.open() as file:
        History(RECORDS).to_csv(path)
        assert file.readline() == "of another run, and longer than what comes\n"
    assert path.read_text().startswith("epoch,")
    assert list(tmp_path.iterdir()) == [path]


def test_a_csv_file_is_not_written_over_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'file' must be a file, not a folder or a device: "):
        History(RECORDS).to_csv(tmp_path)


@given(st.lists(st.floats(), max_size=5))
def test_floats_are_written_in_full(values: list[float]) -> None:
    buffer = io.StringIO()
    History([EpochRecord(epoch=epoch, metrics={"x": value}) for epoch, value in enumerate(values, 1)]).to_csv(buffer)
    read = [float(line.rpartition(",")[2]) for line in buffer.getvalue().splitlines()[1:]]
    assert repr(read) == repr(values)


def test_numpy_numbers_are_written_as_numbers() -> None:
    buffer = io.StringIO()
    History([EpochRecord(epoch=1, metrics={"x": np.float64(0.5)})]).to_csv(buffer)
    assert buffer.getvalue().endswith(",0.5\n")


def test_a_plot_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"plotting needs matplotlib: pip install 'lucid-train\[plot\]'"):
        History(RECORDS).plot()
