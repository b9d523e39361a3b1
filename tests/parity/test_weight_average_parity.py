"""WeightAverage on PyTorch's models, against PyTorch's own averages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

from lucid_train import Trainer, load_weights
from lucid_train.callbacks import Checkpoint, WeightAverage
from lucid_train.testing import diff_states

torch.set_num_threads(1)
ROWS = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    """Has what a state may have: a batch norm, two names of one weight, layouts of its own, and a note."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.norm = nn.Linear(3, 3), nn.Linear(3, 3, bias=False), nn.BatchNorm1d(3)
        self.other.weight = self.one.weight
        self.scale = nn.Parameter(torch.ones(3, dtype=torch.float64))
        self.columns = nn.Parameter(torch.arange(9.0).view(3, 3).t())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.norm(self.other(self.one(x))) @ self.columns) * self.scale

    def get_extra_state(self) -> Any:
        return {"version": 3}

    def set_extra_state(self, state: Any) -> None:
        assert state == {"version": 3}


def trainer(model: nn.Module, *callbacks: Any, then: Any = lambda: None, dtype: Any = torch.float32) -> Trainer:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

    def step(rows: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = (model(rows) ** 2).mean()
        loss.backward()
        optimizer.step()
        then()
        return loss

    def evaluate() -> torch.Tensor:
        with torch.no_grad():
            return (model(ROWS.to(dtype)) ** 2).mean()

    data = list(ROWS.to(dtype).split(6))
    return Trainer(step, data, epochs=2, model=model, optimizer=optimizer, evaluate=evaluate, callbacks=callbacks)


@pytest.mark.parametrize(
    ("average", "theirs"),
    [
        (WeightAverage(0.9, warmup=False), get_ema_multi_avg_fn(0.9)),
        (WeightAverage(None), get_swa_multi_avg_fn()),
    ],
)
def test_the_average_is_that_of_pytorch_bit_for_bit(average: WeightAverage, theirs: Any) -> None:
    torch.manual_seed(0)
    model = Network()
    other = AveragedModel(model, multi_avg_fn=theirs, use_buffers=False)
    trainer(model, average, then=lambda: other.update_parameters(model)).fit()
    expected = dict(other.module.named_parameters(remove_duplicate=False))
    found = {name: average.weights[name] for name in expected}
    wanted = {name: each.detach() for name, each in expected.items()}
    assert torch.allclose(found["scale"], wanted["scale"], rtol=1e-7)  # theirs takes a mean with weights of float32
    assert diff_states({**found, "scale": None}, {**wanted, "scale": None}) == []


def test_buffers_of_floats_are_averaged_and_counts_copied() -> None:
    torch.manual_seed(0)
    model, seen = Network(), []
    average = WeightAverage(0.5, warmup=False)
    trainer(model, average, then=lambda: seen.append(model.norm.running_mean.clone())).fit()
    expected = seen[0]
    for each in seen[1:]:
        expected = expected.lerp(each, 0.5)
    assert torch.equal(average.weights["norm.running_mean"], expected)
    assert average.weights["norm.num_batches_tracked"] == 8
    assert average.weights["_extra_state"] == {"version": 3}
    assert list(average.weights) == list(model.state_dict())
    assert average.weights._metadata == model.state_dict()._metadata


def test_the_evaluation_is_that_of_the_average_and_the_parameters_stay_the_same_objects(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, average = Network(), WeightAverage(0.9)
    parameters = [(each, each.data_ptr(), each.stride()) for each in model.parameters()]
    history = trainer(model, average, Checkpoint(tmp_path)).fit()
    assert all(
        each is one and each.data_ptr() == place and each.stride() == stride
        for each, (one, place, stride) in zip(model.parameters(), parameters, strict=True)
    )
    assert all(each.requires_grad for each in model.parameters())
    other = Network()
    other.load_state_dict(load_weights(tmp_path, "last", name="WeightAverage"))
    with torch.no_grad():
        assert float((other.eval()(ROWS) ** 2).mean()) == history.metric("val_loss")[-1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_decay_near_1_does_not_vanish_in_few_bits(dtype: torch.dtype) -> None:
    model, value = nn.Linear(1, 1, bias=False).to(dtype), 0.0
    average = WeightAverage(0.999, warmup=False)

    def step(batch: int) -> None:
        with torch.no_grad():
            model.weight.fill_(0.0 if batch == 0 else 1.0)

    Trainer(step, range(101), model=model, evaluate=lambda: model.weight.item(), callbacks=[average]).fit()
    for _ in range(100):
        value += 0.001 * (1 - value)
    assert average.weights["weight"].dtype == torch.float32
    assert float(average.weights["weight"]) == pytest.approx(value, rel=1e-5)
    assert model.weight.dtype == dtype
    assert model.weight.item() == 1.0


def test_no_step_asks_for_a_value() -> None:
    class Asked(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            assert function is not torch.ops.aten._local_scalar_dense.default
            return function(*args, **(kwargs or {}))

    model = Network()
    average = WeightAverage(0.9)

    def step(rows: torch.Tensor) -> None:
        with torch.no_grad():
            model.scale.add_(1.0)

    run = Trainer(step, list(ROWS.split(6)), model=model, callbacks=[average])
    with Asked():
        run.fit()
    assert average.averaged == 4


def test_no_graph_is_kept() -> None:
    model, average = Network(), WeightAverage(0.9)
    trainer(model, average).fit()
    assert not any(each.requires_grad for each in average.weights.values() if isinstance(each, torch.Tensor))
    assert all(each.grad_fn is None for each in average.weights.values() if isinstance(each, torch.Tensor))


def test_tensors_stay_on_their_device_and_saved_ones_go_there() -> None:
    # A tensor on the meta device has no values: to take one from it, or to another device, would fail.
    model, average = Network().to("meta"), WeightAverage(0.9)
    run = Trainer(lambda batch: None, [1, 2, 3], epochs=1, model=model, callbacks=[average])
    run.fit()
    devices = {each.device.type for each in average.weights.values() if isinstance(each, torch.Tensor)}
    assert (average.averaged, devices) == (3, {"meta"})
    average.load_state_dict({**average.state_dict(), "weights": Network().state_dict()})
    run.fit(2)
    devices = {each.device.type for each in average.weights.values() if isinstance(each, torch.Tensor)}
    assert (average.averaged, devices) == (6, {"meta"})


class Merging(nn.Linear):
    """Merges weights in eval mode, as a layer of LoRA does."""

    def train(self, mode: bool = True) -> Any:
        if mode is not self.training:
            with torch.no_grad():
                self.weight += -1.0 if mode else 1.0
        return super().train(mode)


def test_a_layer_whose_weights_change_with_its_mode_gets_its_own_back() -> None:
    model, seen = Merging(1, 1, bias=False), []

    def step(value: float) -> None:
        with torch.no_grad():
            model.weight.fill_(value)

    def evaluate() -> float:
        seen.append(model.weight.item())
        return 0.5

    Trainer(step, [1.0, 3.0], model=model, evaluate=evaluate, callbacks=[WeightAverage(None)]).fit()
    assert (seen, model.weight.item(), model.training) == ([3.0], 3.0, True)


class Assigning(nn.Linear):
    """Replaces its parameters, which the optimizer goes on changing."""

    def load_state_dict(self, state: Any, strict: bool = True, assign: bool = True) -> Any:
        return super().load_state_dict(state, strict, assign)


def test_a_model_that_replaces_its_parameters_is_refused_at_the_first_evaluation() -> None:
    with pytest.raises(ValueError, match=r"load_state_dict\(\) must copy into its parameters, .*: Assigning"):
        trainer(Assigning(3, 1), WeightAverage(0.9)).fit()
