"""Metrics of torchmetrics: recorded as they compute, saved though their `state_dict` is empty, or refused."""

from __future__ import annotations

import copy
import warnings
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
from torchmetrics.classification import BinaryF1Score, BinaryPrecision
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
        (MinMaxMetric(MeanMetric()), "MinMaxMetric"),
        (Running(MeanMetric()), "Running"),
        (MeanMetric() + MeanMetric(), "CompositionalMetric"),
    ],
)
def test_metrics_that_hold_others_are_refused_by_name(metric: Any, name: str) -> None:
    message = rf"'metrics\['mean'\]' must be one metric, not a {name} of several, pass each of them by its name"
    with pytest.raises(TypeError, match=message):
        Trainer(metrics={"mean": metric})


def test_a_wrapper_in_a_collection_is_refused_by_name() -> None:
    collection = MetricCollection({"a": MeanMetric(), "b": MinMaxMetric(MeanMetric())})
    with pytest.raises(TypeError, match=r"'metrics\['all'\]\['b'\]' must be one metric, not a MinMaxMetric of several"):
        Trainer(metrics={"all": collection})


# Those that share a state, as F1 and precision do, are found after their first update; or it is said; or none do.
COLLECTIONS: dict[str, Any] = {
    "shared": {},
    "said": {"compute_groups": [["f1", "precision"], ["area"]]},
    "apart": {"compute_groups": False},
    "named": {"prefix": "val_", "postfix": "_x"},
}


@pytest.mark.filterwarnings("ignore:.*will save all targets:UserWarning")
@pytest.mark.parametrize("looks", [True, False])
@pytest.mark.parametrize("name", COLLECTIONS)
def test_a_collection_comes_to_the_same_after_a_kill_and_has_a_name_for_each(
    name: str, looks: bool, tmp_path: Path
) -> None:
    def make() -> Any:
        members = {"f1": BinaryF1Score(), "precision": BinaryPrecision(), "area": AUROC(task="binary")}
        return MetricCollection(members, **COLLECTIONS[name])  # type: ignore[arg-type]

    def build(fails_at: int | None = None) -> Trainer:
        collection, done = make(), 0

        def step(pair: Any) -> None:
            nonlocal done
            done += 1
            if done == fails_at:
                raise OSError("power cut")
            collection.update(*pair)
            if looks:  # which makes copies of what is shared
                collection.compute()
                next(iter(collection.values()))

        saved = Checkpoint(tmp_path, every=1, interval="step", weights=False)
        return Trainer(step, PAIRS, epochs=2, metrics={"all": collection}, callbacks=[saved])

    expected = make()
    for pair in PAIRS:
        expected.update(*pair)
    with pytest.raises(OSError, match="power cut"):
        build(fails_at=10).fit()
    history = build().fit(resume="auto")
    wanted = {f"all_{key}": float(value) for key, value in expected.compute().items()}
    assert [record.metrics for record in history] == [wanted] * 2
    assert len(wanted) == 3


def test_a_state_of_a_collection_that_was_taken_does_not_go_on_with_it(tmp_path: Path) -> None:
    collection = MetricCollection({"f1": BinaryF1Score(), "precision": BinaryPrecision()})
    run = Trainer(lambda pair: collection.update(*pair), PAIRS, metrics={"all": collection})
    run.fit()
    first = {name: float(each) for name, each in collection.compute().items()}
    kept = copy.deepcopy(run.state_dict())
    collection.update(*PAIRS[0])
    run.load_state_dict(kept)
    assert {name: float(each) for name, each in collection.compute().items()} == first
    with pytest.raises(ValueError, match=r"the state of metrics\.all does not fit: 'f1' is missing"):
        run.load_state_dict({**kept, "metrics": {"all": {"updates": None, "state": {}}}})


class Measured(torch.nn.Linear):
    """A model that holds its metrics."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.seen, self.all = MeanMetric(), MetricCollection({"one": MeanMetric(), "two": MeanSquaredError()})


@pytest.mark.parametrize(
    ("passed", "lost"),
    [
        (lambda model: {}, "model.seen, model.all.one, model.all.two"),
        (lambda model: {"seen": model.seen}, "model.all.one, model.all.two"),
        (lambda model: {"seen": model.seen, "all": model.all}, None),
        (lambda model: model.all.persistent() or model.seen.persistent(True) or {}, None),
    ],
)
def test_metrics_in_a_model_that_would_be_lost_are_named_before_the_first_step(
    passed: Any, lost: str | None, tmp_path: Path
) -> None:
    model = Measured()

    def step(value: float) -> None:
        model.seen.update(value)
        model.all.update(preds=torch.ones(1), target=torch.ones(1), value=1.0)
        raise OSError("power cut")

    def fit(*callbacks: Any) -> list[str]:
        trainer = Trainer(step, [1.0], model=model, metrics=passed(model), callbacks=callbacks)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            with pytest.raises(OSError, match="power cut"):
                trainer.fit()
        return [str(each.message).partition(" gathered would be lost")[0] for each in found]

    assert fit(Checkpoint(tmp_path)) == ([] if lost is None else [f"what {lost}"])
    assert fit() == []  # nothing is saved


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
