"""The history as a table of pandas."""

import pandas as pd

from lucid_train import EpochRecord, EvaluationRecord, History


def test_the_records_are_a_data_frame_with_a_row_each() -> None:
    history = History([EpochRecord(epoch=1, steps=4, seconds=0.5, metrics={"loss": 0.25}, lr=(0.1,))])
    history.evaluations.append(EvaluationRecord(epoch=1, step=2, seconds=0.5, metrics={"val_loss": 1.0}))
    expected = {
        "epoch": [1, 1],
        "step": [2, 4],
        "seconds": [0.5, 0.5],
        "val_loss": [1.0, None],
        "steps": [None, 4.0],
        "lr": [None, 0.1],
        "loss": [None, 0.25],
    }
    pd.testing.assert_frame_equal(pd.DataFrame(history.records()), pd.DataFrame(expected))
