import math
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from lucid_train import EpochRecord, History

RECORDS = [
    EpochRecord(epoch=1, metrics={"loss": 0.25}, lr=(0.1,)),
    EpochRecord(epoch=2, metrics={"loss": math.nan, "val_loss": 0.5}, lr=(0.05, 1e-05)),
]


def drawn(panel: Axes) -> dict[str, list[list[float]]]:
    return {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in panel.lines}


def test_metrics_are_drawn_above_the_rates() -> None:
    metrics, rates = History(RECORDS).plot().axes
    assert repr(drawn(metrics)) == repr(
        {"loss": [[1.0, 0.25], [2.0, math.nan]], "val_loss": [[1.0, math.nan], [2.0, 0.5]]}
    )
    assert repr(drawn(rates)) == repr(
        {"lr of group 0": [[1.0, 0.1], [2.0, 0.05]], "lr of group 1": [[1.0, math.nan], [2.0, 1e-05]]}
    )


def test_the_metrics_that_are_named_are_drawn(tmp_path: Path) -> None:
    figure = History(RECORDS).plot("val_loss")
    assert list(drawn(figure.axes[0])) == ["val_loss"]
    figure.savefig(tmp_path / "run.png")
    assert (tmp_path / "run.png").stat().st_size > 1000
    with pytest.raises(KeyError, match="'name' must be one of the metrics, loss, val_loss: 'accuracy'"):
        History(RECORDS).plot("accuracy")


def test_a_run_of_nothing_is_drawn_as_well() -> None:
    assert len(History().plot().axes) == 1
    assert len(History([EpochRecord(epoch=1)]).plot().axes) == 1


def test_no_backend_is_chosen() -> None:
    History(RECORDS).plot()
    assert "matplotlib.pyplot" not in sys.modules
