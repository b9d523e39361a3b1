"""Metrics of torchmetrics: recorded as they compute, saved though their `state_dict` is empty, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchmetrics import (
    AUROC,
    Accuracy,
    MeanMetric,
    MeanSquaredError,
    MetricCollection,
    MinMaxMetric,
    R2Score,
    SpearmanCorrCoef,
)
from torchmetrics.wrappers import Running

from lucid_train import Trainer
from lucid_train.callbacks import Checkpoint

torch.set_num_threads(1)
SCORES = torch.rand(24, generator=torch.Generator().manual_seed(0))
TARGETS = (SCORES + torch.rand(24, generator=torch.Generator().manual_seed(1)) > 1).long()
PAIRS = [*zip(SCORES.split(4), TARGETS.split(4), strict=True)]

# Sums, lists of tensors, and counts.
METRICS: dict[str, Any] = {
    "accuracy": lambda: Accuracy(task="binary"),
    "area": lambda: AUROC(task="binary"),
    "area, binned": lambda: AUROC(task="binary", thresholds=5),
    "ranks": SpearmanCorrCoef,
    "explained": R2Score,
    "mean": MeanMetric,
}


def trainer(metric: Any, directory: Path, fails_at: int | None = None) -> Trainer:
    done = 0

    def step(pair: Any) -> None:
        nonlocal done
        done += 1
        if done == fails_at:
            raise OSError("power cut")
        scores, targets = pair
        metric.update(scores) if isinstance(metric, MeanMetric) else metric.update(scores, targets.to(_kind(metric)))

    saved = Checkpoint(directory, every=1, interval="step", weights=False)
    return Trainer(step, PAIRS, epochs=2, metrics={"metric": metric}, callbacks=[saved])


def _kind(metric: Any) -> torch.dtype:
    return torch.float32 if isinstance(metric, (SpearmanCorrCoef, R2Score)) else torch.long


@pytest.mark.filterwarnings("ignore:.*will save all targets:UserWarning")
@pytest.mark.parametrize("name", METRICS)
def test_a_run_that_is_killed_within_an_epoch_comes_to_the_same(name: str, tmp_path: Path) -> None:
    make = METRICS[name]
    expected = make()
    for scores, targets in PAIRS:
        expected.update(scores) if name == "mean" else expected.update(scores, targets.to(_kind(expected)))
    with pytest.raises(OSError, match="power cut"):
        trainer(make(), tmp_path, fails_at=10).fit()
    metric = make()
    history = trainer(metric, tmp_path).fit(resume="auto")
    assert history.metric("metric") == [float(expected.compute())] * 2
    assert metric.update_count == len(PAIRS)


def test_what_was_computed_before_a_state_was_loaded_is_forgotten(tmp_path: Path) -> None:
    metric = MeanMetric()
    run = trainer(metric, tmp_path)
    metric.update(1.0)
    state = run.state_dict()
    kept = {
        **state,
        "metrics": {"metric": {"updates": 1, "state": {k: v.clone() for k, v in metric.metric_state.items()}}},
    }
    metric.update(3.0)
    assert metric.compute() == 2.0
    run.load_state_dict(kept)
    assert metric.compute() == 1.0
    metric.update(5.0)
    assert metric.compute() == 3.0
    run.load_state_dict(kept)  # which later updates have not changed
    assert metric.compute() == 1.0


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (MetricCollection([MeanMetric()]), "MetricCollection"),
        (MinMaxMetric(MeanMetric()), "MinMaxMetric"),
        (Running(MeanMetric()), "Running"),
        (MeanMetric() + MeanMetric(), "CompositionalMetric"),
    ],
)
def test_metrics_that_hold_others_are_refused_by_name(metric: Any, name: str) -> None:
    message = rf"'metrics\['mean'\]' must be one metric, not a {name} of several, pass each of them by its name"
    with pytest.raises(TypeError, match=message):
        Trainer(metrics={"mean": metric})


def test_one_among_the_extras_is_refused_as_it_would_not_be_saved() -> None:
    with pytest.raises(TypeError, match=r"'extras\['mean'\]' must not be a metric whose state_dict\(\) is empty"):
        Trainer(extras={"mean": MeanMetric()})


def test_no_step_asks_for_a_value() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    asked: list[int] = []

    class Asked(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.ops.aten._local_scalar_dense.default:
                asked.append(run._run.step)
            return function(*args, **(kwargs or {}))

    metric = MeanSquaredError()
    run = Trainer(lambda scores: metric.update(scores, TARGETS), [SCORES, SCORES], metrics={"mean": metric})
    with Asked():
        run.fit()
    assert asked == [2]  # at the end of the epoch
