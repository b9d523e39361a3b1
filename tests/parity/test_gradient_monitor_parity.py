"""GradientMonitor clips as PyTorch does, and reads no device."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucid_train import StepEnd, StepResult, Trainer, optims
from lucid_train import nn as own_nn
from lucid_train.callbacks import GradientMonitor, TerminateOnNaN
from lucid_train.testing import assert_resumes_exactly
from tests.support.launchers import completed, torchrun

torch = pytest.importorskip("torch")
PROGRAM = Path(__file__).parent.parent / "support" / "programs" / "instruments.py"


def network() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))


def trained(monitor: GradientMonitor | None, largest: float, dtype: Any) -> tuple[list[Any], list[float]]:
    """Return the weights and the norms, clipped by a monitor or by PyTorch."""
    model = network().to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = torch.randn(6, 5, 3, dtype=dtype)

    def step(batch: Any) -> dict[str, Any]:
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        if monitor is None:
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), largest)
            optimizer.step()
            return {"grad_norm": norm}
        monitor.clip()
        optimizer.step()
        return monitor.metrics()

    callbacks = [] if monitor is None else [monitor]
    history = Trainer(step, data, epochs=3, model=model, optimizer=optimizer, callbacks=callbacks).fit()
    return [each.detach() for each in model.parameters()], history.metric("grad_norm")


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("largest", [0.1, 0.5, 100.0])
def test_it_clips_as_pytorch_does_to_the_bit(largest: float, dtype: str) -> None:
    kind = getattr(torch, dtype)
    ours, theirs = trained(GradientMonitor(largest), largest, kind), trained(None, largest, kind)
    assert ours[1] == theirs[1]
    assert all(torch.equal(one, other) for one, other in zip(ours[0], theirs[0], strict=True))


@pytest.mark.parametrize("gradients", [[3.0, 4.0, 12.0], [0.0, 0.0, 0.0], [math.inf, 1.0, 2.0], [math.nan, 1.0, 2.0]])
def test_numpy_gradients_are_clipped_as_those_of_pytorch(gradients: list[float]) -> None:
    found = []
    for parameter, sgd in ((own_nn.Parameter, optims.SGD), (torch.nn.Parameter, torch.optim.SGD)):
        is_own = parameter is own_nn.Parameter
        weight = parameter(np.zeros(3) if is_own else torch.zeros(3, dtype=torch.float64))
        optimizer, monitor = sgd([weight], lr=1.0), GradientMonitor(2.0)

        def step(batch: Any, weight: Any = weight, monitor: Any = monitor, is_own: bool = is_own) -> StepResult:
            weight.grad = np.array(batch) if is_own else torch.tensor(batch, dtype=torch.float64)
            with np.errstate(invalid="ignore"):
                monitor.clip()
            return StepResult(monitor.metrics(), updated=False)

        [record] = Trainer(step, [gradients], optimizer=optimizer, callbacks=[monitor]).fit()
        found.append(([*record.metrics.values()], np.asarray(weight.grad)))
    (ours, clipped), (theirs, expected) = found
    assert ours == pytest.approx(theirs, rel=1e-15, nan_ok=True)
    assert math.isnan(ours[0]) is not math.isfinite(sum(gradients))
    np.testing.assert_allclose(clipped, expected, rtol=1e-15)


def built() -> Trainer:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    monitor = GradientMonitor(0.5, ratio=True, per_group=True)

    def step(batch: Any) -> dict[str, Any]:
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        monitor.clip()
        optimizer.step()
        return {"loss": loss, **monitor.metrics()}

    data = list(torch.ones(4, 2, 3))
    return Trainer(step, data, epochs=2, model=model, optimizer=optimizer, callbacks=[monitor])


def test_a_run_that_is_measured_is_resumed_exactly() -> None:
    assert_resumes_exactly(built, cuts=[1, 3, 5])


def test_what_is_measured_stays_a_tensor_without_a_graph() -> None:
    kept: list[Any] = []
    trainer = built()
    trainer.on(StepEnd, at=2)(lambda event: kept.append(event.output))
    trainer.fit()
    norms = [kept[0].pop(name) for name in ("grad_norm", "grad_norm_0")]
    values = [*kept[0].values(), *(each for norm in norms for each in (norm.total, norm.weight))]
    assert all(isinstance(value, torch.Tensor) and not value.requires_grad for value in values)
    assert list(kept[0]) == ["loss", "clipped", "update_ratio", "update_ratio_0"]


def test_no_step_reads_a_tensor() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class NoReads(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten._local_scalar_dense.default:  # what waits for a device
                raise RuntimeError("a tensor is read")
            return func(*args, **kwargs or {})

    with NoReads(), pytest.raises(RuntimeError, match="a tensor is read"):
        bool(torch.ones(()))
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    monitor = GradientMonitor(1.0, ratio=True, per_group=True)

    def step(batch: Any) -> dict[str, Any]:
        weight.grad = torch.ones(3)
        with NoReads():
            monitor.clip()
            optimizer.step()
            return monitor.metrics()

    [record] = Trainer(step, [1, 2], optimizer=optimizer, callbacks=[monitor]).fit()
    assert len(record.metrics) == 5


def scaled(monitor: GradientMonitor | None) -> tuple[list[Any], list[float]]:
    """Return the weights and the norms of steps under autocast whose gradients are scaled, one of them too far."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1000)
    norms: list[float] = []

    def step(batch: Any) -> Any:
        optimizer.zero_grad()
        metrics = {}
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(batch).square().mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if monitor is None:
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        else:
            monitor.clip()
            norm = metrics["grad_norm"] = monitor.metrics()["grad_norm"]
        norms.append(float(norm))
        before = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        return StepResult({"loss": loss, **metrics}, updated=scaler.get_scale() >= before)

    data = list(100 * torch.randn(6, 5, 3))
    callbacks = [] if monitor is None else [monitor, TerminateOnNaN()]
    [record] = Trainer(step, data, model=model, optimizer=optimizer, callbacks=callbacks).fit()
    finite = [norm for norm in norms if math.isfinite(norm)]
    assert 0 < len(finite) < len(norms) == 6
    if monitor is not None:
        assert record.metrics["grad_norm"] == pytest.approx(sum(finite) / len(finite), rel=1e-12)
    return [each.detach() for each in model.parameters()], finite


def test_gradients_that_a_scaler_has_unscaled_are_clipped_and_its_skipped_updates_stay_skipped() -> None:
    ours, theirs = scaled(GradientMonitor(0.1)), scaled(None)
    assert ours[1] == theirs[1]
    assert all(torch.equal(one, other) for one, other in zip(ours[0], theirs[0], strict=True))


def test_several_optimizers_have_a_monitor_each() -> None:
    weights = [torch.nn.Parameter(torch.tensor([value])) for value in (1.0, 2.0)]
    one, other = (torch.optim.SGD([weight], lr=0.5) for weight in weights)
    first = GradientMonitor(prefix="one_", ratio=True)
    second = GradientMonitor(optimizer=other, prefix="other_", ratio=True)

    def step(batch: float) -> dict[str, Any]:
        for weight, monitor, optimizer in zip(weights, (first, second), (one, other), strict=True):
            weight.grad = torch.tensor([batch])
            monitor.clip()
            optimizer.step()
        return {**first.metrics(), **second.metrics()}

    trainer = Trainer(step, [4.0], optimizer=one, extras={"other": other}, callbacks=[first, second])
    assert trainer.fit()[0].metrics == {
        "one_grad_norm": 4.0,
        "one_update_ratio": 2.0,
        "other_grad_norm": 4.0,
        "other_update_ratio": 1.0,
    }


def test_accumulated_gradients_are_measured_where_they_are_used() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer, monitor = torch.optim.SGD([weight], lr=0.1), GradientMonitor(1.0)
    count = iter(range(1, 5))

    def step(batch: Any) -> StepResult:
        loss = (weight * batch).sum()
        loss.backward()
        if next(count) % 2:
            return StepResult({"loss": loss}, updated=False)
        monitor.clip()
        optimizer.step()
        optimizer.zero_grad()
        return StepResult({"loss": loss, **monitor.metrics()})

    data = list(torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]))
    [record] = Trainer(step, data, optimizer=optimizer, callbacks=[monitor]).fit()
    assert record.metrics["grad_norm"] == (10 + 0.5) / 2
    assert record.metrics["clipped"] == 0.5


def test_parameters_without_a_gradient_are_left_out() -> None:
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [each]} for each in weights], lr=0.1)
    monitor = GradientMonitor(1.0, per_group=True, ratio=True)
    gradients = iter([torch.tensor([3.0, 4.0]), None])

    def step(batch: Any) -> dict[str, Any]:
        weights[0].grad = next(gradients)
        monitor.clip()
        optimizer.step()
        return monitor.metrics()

    records = Trainer(step, [1], epochs=2, optimizer=optimizer, callbacks=[monitor]).fit()
    assert [record.metrics["grad_norm"] for record in records] == [5.0, 0.0]
    assert [record.metrics["grad_norm_1"] for record in records] == [0.0, 0.0]
    assert [record.metrics["clipped"] for record in records] == [1.0, 0.0]


def test_gradients_that_are_spread_over_processes_have_one_norm() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_tensor

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        weight = torch.nn.Parameter(distribute_tensor(torch.tensor([3.0, 4.0]), init_device_mesh("cpu", (1,))))
        optimizer, monitor = torch.optim.SGD([weight], lr=0.5), GradientMonitor(1.0, ratio=True, per_group=True)

        def step(batch: Any) -> dict[str, Any]:
            weight.grad = weight.detach().clone()
            monitor.clip()
            optimizer.step()
            return monitor.metrics()

        [record] = Trainer(step, [1], optimizer=optimizer, callbacks=[monitor]).fit()
        assert json.loads(json.dumps(record.metrics)) == {
            "grad_norm": 5.0,
            "grad_norm_0": 5.0,
            "clipped": 1.0,
            "update_ratio": pytest.approx(0.1, rel=1e-6),
            "update_ratio_0": pytest.approx(0.1, rel=1e-6),
        }
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_clip_as_with_pytorch_and_skip_the_same_update(kind: str) -> None:
    output = completed(torchrun(PROGRAM, kind)).stdout
    ends = sorted(line for line in output.splitlines() if line.startswith("end "))
    assert len(ends) == 4, output
    assert ends[0] == ends[1]  # of rank 0, clipped by the monitor and by PyTorch
    assert ends[2] == ends[3]
    [found] = {end.partition("[")[2] for end in ends}  # the norms and the number of spikes, the same on both
    assert int(found.partition("] ")[2]) > 0
