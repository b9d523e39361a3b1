import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lucid_train import EpochRecord, EvaluationRecord, History
from tests.support.notebook import execute

RECORDS = [
    EpochRecord(epoch=1, metrics={"loss": 0.25}, lr=(0.1,)),
    EpochRecord(epoch=2, metrics={"loss": math.nan, "val_loss": 0.5}, lr=(0.05, 1e-05)),
]


def drawn(panel: Axes) -> dict[str, list[list[float]]]:
    return {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in panel.lines}


def test_metrics_are_drawn_above_the_rates() -> None:
    metrics, rates = History(RECORDS).plot().axes
    assert repr(drawn(metrics)) == repr({"loss": [[1.0, 0.25], [2.0, math.nan]], "val_loss": [[2.0, 0.5]]})
    assert drawn(rates) == {"lr of group 0": [[1.0, 0.1], [2.0, 0.05]], "lr of group 1": [[2.0, 1e-05]]}


def test_a_metric_and_that_of_the_evaluation_share_a_panel_and_others_have_their_own() -> None:
    metrics = {"loss": 0.5, "accuracy": 0.75, "val_loss": 0.25, "val_accuracy": 0.5}
    panels = History([EpochRecord(epoch=1, metrics=metrics)]).plot().axes
    assert [list(drawn(panel)) for panel in panels] == [["loss", "val_loss"], ["accuracy", "val_accuracy"]]


def test_an_evaluation_within_an_epoch_stands_where_it_was_and_epochs_without_a_metric_leave_no_gap() -> None:
    history = History([EpochRecord(epoch=epoch, steps=4, metrics={"loss": 1 / epoch}) for epoch in (1, 2)])
    found = [(1, 2, 0.5), (2, 6, 0.25), (2, 8, 0.125), (3, 10, 1.0)]
    history.evaluations += [EvaluationRecord(epoch=e, step=s, metrics={"val_loss": v}) for e, s, v in found]
    (panel,) = history.plot().axes
    points = [[0.5, 0.5], [1.5, 0.25], [2.0, 0.125], [2.5, 1.0]]
    assert drawn(panel) == {"loss": [[1.0, 1.0], [2.0, 0.5]], "val_loss": points}


def test_a_figure_of_pyplots_own_can_be_drawn_in(tmp_path: Path) -> None:
    figure = Figure()
    assert History(RECORDS).plot(figure=figure) is figure
    assert list(drawn(figure.axes[0])) == ["loss", "val_loss"]


def test_a_notebook_shows_the_figure_once_whether_pyplot_is_imported_or_not() -> None:
    setup = (
        "from lucid_train import EpochRecord, History\nhistory = History([EpochRecord(epoch=1, metrics={'loss': 1.0})])"
    )
    shown, again, pyplots = execute(
        f"{setup}\nhistory.plot()",
        "import sys; assert 'matplotlib.pyplot' not in sys.modules\n"
        "import matplotlib.pyplot as plt; history.plot('loss')",
        "history.plot(figure=plt.figure()); None",
    )
    assert [[sorted(output.data) for output in outputs] for outputs in (shown, again)] == [
        [["image/png", "text/plain"]]
    ] * 2
    assert [sorted(output.data) for output in pyplots] == [["image/png", "text/plain"]]


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
    # In a process of its own, as torchmetrics loads pyplot when it is imported.
    program = (
        "import sys; from lucid_train import EpochRecord, History; "
        "History([EpochRecord(epoch=1, metrics={'loss': 0.5})]).plot(); print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "False\n"
