"""GradientMonitor clips as PyTorch does, and reads no device."""

from __future__ import annotations

from typing import Any

import pytest

from lucid_train import StepEnd, Trainer
from lucid_train.callbacks import GradientMonitor
from lucid_train.testing import assert_resumes_exactly

torch = pytest.importorskip("torch")


def trained(monitor: GradientMonitor | None, largest: float) -> tuple[list[Any], list[float]]:
    """Return the weights and the norms, clipped by a monitor or by PyTorch."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = torch.randn(6, 5, 3)

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
    return [each.detach().numpy() for each in model.parameters()], history.metric("grad_norm")


@pytest.mark.parametrize("largest", [0.1, 0.5, 100.0])
def test_it_clips_as_pytorch_does(largest: float) -> None:
    ours, theirs = trained(GradientMonitor(largest), largest), trained(None, largest)
    assert ours[1] == pytest.approx(theirs[1], rel=1e-6)
    for one, other in zip(ours[0], theirs[0], strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-7)


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


def test_what_is_measured_stays_a_tensor() -> None:
    kept: list[Any] = []
    trainer = built()
    trainer.on(StepEnd, at=2)(lambda event: kept.append(event.output))
    trainer.fit()
    assert all(isinstance(value, torch.Tensor) for value in kept[0].values())
    assert set(kept[0]) == {
        "loss", "grad_norm", "grad_norm_0", "clipped", "update_ratio", "update_ratio_0"
    }  # fmt: skip


def test_a_dtensor_is_refused() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_tensor

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        weight = torch.nn.Parameter(distribute_tensor(torch.ones(2), init_device_mesh("cpu", (1,))))
        optimizer, monitor = torch.optim.SGD([weight], lr=0.1), GradientMonitor()

        def step(batch: Any) -> None:
            weight.grad = weight.detach().clone()
            monitor.clip()

        with pytest.raises(TypeError, match="GradientMonitor must be given whole gradients, no DTensor; use"):
            Trainer(step, [1], optimizer=optimizer, callbacks=[monitor]).fit()
    finally:
        torch.distributed.destroy_process_group()
