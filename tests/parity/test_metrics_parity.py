"""Metrics that are PyTorch's tensors: added up where they are, read when the epoch ends, and resumed exactly."""

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lucid_train import StepEnd, StepResult, Trainer
from lucid_train.metrics import Means, Snapshot
from lucid_train.progress import structure, unstructure

WIDE = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool]


class Reads(TorchDispatchMode):
    """Counts how often a tensor is read as a number, for which a device would be waited for."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def mean_of(outputs: list[Any]) -> dict[str, float]:
    return dict(Trainer(lambda batch: batch, outputs).fit()[0].metrics)


@pytest.mark.parametrize("weight", [3, 0.5, torch.tensor(3), torch.tensor(3.0)])
def test_no_step_reads_a_tensor_and_the_epochs_end_reads_each_sum_once(weight: Any) -> None:
    reads, during = Reads(), list[int]()

    def step(batch: int) -> StepResult:
        loss = torch.tensor(float(batch), requires_grad=True) * 2
        return StepResult({"loss": loss, "acc": torch.tensor(0.25)}, weight=weight)

    trainer = Trainer(step, range(4), epochs=2)
    trainer.on(StepEnd)(lambda event: during.append(reads.count))
    with reads:
        history = trainer.fit()
    assert [record.metrics for record in history] == [{"loss": 3.0, "acc": 0.25}] * 2
    sums = 4 if isinstance(weight, torch.Tensor) else 2  # the weights of two metrics are sums as well
    assert (during, reads.count) == ([0] * 4 + [sums] * 4, 2 * sums)


def test_a_snapshot_is_of_its_moment_and_reads_no_tensor() -> None:
    means, reads = Means(), Reads()
    outputs = [StepResult({"loss": torch.tensor(1.0), "acc": 0.25}, weight=torch.tensor(2)), {"loss": 4.0, "acc": 0.5}]
    snapshots = [means.snapshot()]
    with reads:
        for output in outputs:
            means.add(output)
            snapshots.append(means.snapshot())
        assert reads.count == 0
    assert [(each.is_complete, each.means.read(), each.weight()) for each in snapshots] == [
        (True, {}, 0.0),
        (True, {"loss": 1.0, "acc": 0.25}, 2.0),
        (True, {"loss": 2.0, "acc": pytest.approx(1 / 3)}, 3.0),
    ]
    assert means.read() == {"loss": 2.0, "acc": pytest.approx(1 / 3)}


def test_what_is_on_a_device_comes_in_one_copy_that_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[Any] = []

    class Device:
        type = "far"

    far = Device()

    class Event:
        recorded = arrived = False

        def record(self) -> None:
            assert len(copies) == 1, "after the copy"
            self.recorded = True

        def query(self) -> bool:
            return self.recorded and self.arrived

    class Far(torch.Tensor):
        """A tensor that says that it is on another device; what is copied from there is not there at once."""

        @property
        def device(self) -> Any:  # type: ignore[override]
            return far

        def to(self, *place: Any, **how: Any) -> torch.Tensor:  # type: ignore[override]
            copies.append((tuple(self.shape), place, how))
            return self.as_subclass(torch.Tensor)  # type: ignore[no-any-return, unused-ignore]

    monkeypatch.setattr(torch, "far", SimpleNamespace(Event=Event), raising=False)
    means, reads = Means(), Reads()
    with reads:
        for loss in (0.5, 1.5):
            values = {name: torch.tensor(loss).as_subclass(Far) for name in ("loss", "double")}
            means.add(StepResult(values, weight=torch.tensor(3.0).as_subclass(Far)))
        snapshot: Snapshot = means.snapshot()
        assert (copies, reads.count) == ([((4,), ("cpu",), {"non_blocking": True})], 0)
        assert not snapshot.is_complete
        [check] = snapshot.checks
        check.__self__.arrived = True  # type: ignore[attr-defined]  # it is a method of the event
        assert snapshot.is_complete
    assert snapshot.means.read() == {"loss": 1.0, "double": 1.0}


@pytest.mark.parametrize("dtype", WIDE)
def test_a_sum_is_in_double_precision(dtype: torch.dtype) -> None:
    value = torch.tensor(1, dtype=dtype)
    assert mean_of([value] * 5000) == {"loss": 1.0}
    assert mean_of([StepResult(value, weight=0.5), StepResult(value, weight=torch.tensor(2, dtype=dtype))]) == {
        "loss": 1
    }


def test_tensors_and_floats_of_one_name_are_one_mean() -> None:
    assert mean_of([1.0, torch.tensor(2.0), 3.0, {"loss": torch.tensor(6.0)}]) == {"loss": 3.0}
    results = [
        StepResult(torch.tensor(1.0), weight=256),
        StepResult(1.0, weight=torch.tensor(256)),
        StepResult(9.0, 10),
    ]
    assert mean_of(results) == {"loss": 602 / 522}


@pytest.mark.parametrize(
    ("values", "mean"),
    [([1e308, 1e308], 1e308), ([-0.0, -0.0], -0.0), ([math.inf, 1.0], math.inf), ([math.inf, -math.inf], math.nan)],
)
def test_extremes_are_what_they_are_as_floats(values: list[float], mean: float) -> None:
    tensors = [torch.tensor(value, dtype=torch.float64) for value in values]
    assert str(mean_of(tensors)["loss"]) == str(mean)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.tensor(1j), "a real number.* 'acc' is "),
        (torch.ones((), device="meta"), "which a tensor on the meta device lacks: 'acc' is "),
        (torch.ones(1), r"single numbers: 'acc' has the shape \(1,\); return its mean"),
    ],
)
def test_what_is_no_number_is_refused_by_name(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        mean_of([{"acc": value}])
    with pytest.raises(TypeError, match=message):
        Trainer(evaluate=lambda: {"acc": value}).fit()


@pytest.mark.parametrize("weight", [torch.ones(2), torch.tensor(1j), torch.ones((), device="meta")])
def test_a_weight_that_is_no_number_is_refused(weight: Any) -> None:
    with pytest.raises(TypeError, match="'weight' must be a number >= 0 and finite, or a tensor that holds one: "):
        StepResult(0.5, weight=weight)


def test_the_graph_of_a_loss_or_a_weight_is_not_kept() -> None:
    means = Means()
    for _ in range(2):
        leaf = torch.ones((), requires_grad=True)
        means.add(StepResult(leaf * 2, weight=leaf * 3))
    mean: Any = means.metrics["loss"]
    assert not mean.total.tensor.requires_grad
    assert not mean.weight.tensor.requires_grad


def test_a_sum_that_is_saved_goes_on_to_the_same_mean() -> None:
    torch.manual_seed(0)
    values = torch.randn(50, dtype=torch.float64) * 10.0 ** torch.randint(-9, 9, (50,))
    for at in (0, 1, 25, 49):
        straight, cut = Means(), Means()
        for index, value in enumerate(values):
            if index == at:
                cut = structure(Means, json.loads(json.dumps(unstructure(cut))), "means")
            for means in (straight, cut):
                means.add(StepResult({"loss": value, "acc": 0.1}, weight=value.abs() if index % 3 else 7))
        assert cut.read() == straight.read()
