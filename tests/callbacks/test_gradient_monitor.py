from typing import Any

import pytest

from lucid_train import Trainer, nn, optims
from lucid_train.callbacks import GradientMonitor


def trained(monitor: GradientMonitor, gradients: list[list[float]], **options: Any) -> list[dict[str, float]]:
    """Return the metrics of each epoch, which has one step; the weights are (1, 0) and (0,), in two groups."""
    one, other = nn.Parameter([1.0, 0.0]), nn.Parameter([2.0])
    optimizer = optims.SGD([{"params": [one]}, {"params": [other]}], lr=1.0)
    left = iter(gradients)

    def step(batch: int) -> dict[str, Any]:
        *first, second = next(left)
        one.grad, other.grad = first, [second]  # type: ignore[assignment]  # a list becomes an array
        monitor.clip()
        optimizer.step()
        return {"loss": float(abs(one.grad).sum()), **monitor.metrics()}

    return [
        dict(record.metrics)
        for record in Trainer(
            step, [1], epochs=len(gradients), optimizer=optimizer, callbacks=[monitor], **options
        ).fit()
    ]


def test_the_norm_is_that_before_clipping_and_the_gradients_are_clipped() -> None:
    assert trained(GradientMonitor(5), [[6.0, 0.0, 8.0], [3.0, 0.0, 4.0]]) == [
        {"loss": pytest.approx(3, rel=1e-6), "grad_norm": 10.0, "clipped": 1.0},
        {"loss": pytest.approx(3, rel=1e-6), "grad_norm": 5.0, "clipped": 0.0},
    ]


def test_without_a_norm_nothing_is_clipped() -> None:
    assert trained(GradientMonitor(), [[6.0, 0.0, 8.0]]) == [{"loss": 6.0, "grad_norm": 10.0}]


def test_each_group_and_the_update_are_measured_on_request() -> None:
    [found] = trained(GradientMonitor(ratio=True, per_group=True), [[3.0, 4.0, 12.0]])
    assert found == {
        "loss": 7.0,
        "grad_norm": 13.0,
        "grad_norm_0": 5.0,
        "grad_norm_1": 12.0,
        "update_ratio": pytest.approx(13 / 5**0.5, rel=1e-12),
        "update_ratio_0": 5.0,
        "update_ratio_1": 6.0,
    }


def test_weights_of_zero_have_a_ratio_too() -> None:
    weight = nn.Parameter([0.0])
    optimizer, monitor = optims.SGD([weight], lr=1.0), GradientMonitor(ratio=True)

    def step(gradient: float) -> dict[str, Any]:
        weight.grad = [gradient]  # type: ignore[assignment]  # a list becomes an array
        monitor.clip()
        optimizer.step()
        return monitor.metrics()

    assert Trainer(step, [0.0], optimizer=optimizer, callbacks=[monitor]).fit()[0].metrics["update_ratio"] == 0.0


def test_what_is_misused_is_refused() -> None:
    with pytest.raises(ValueError, match=r"GradientMonitor needs an optimizer: pass Trainer\(optimizer=...\)"):
        Trainer(callbacks=[GradientMonitor()]).fit()
    with pytest.raises(RuntimeError, match=r"GradientMonitor.clip\(\) must be called by the step of a Trainer"):
        GradientMonitor().clip()
    with pytest.raises(RuntimeError, match=r"GradientMonitor.metrics\(\) must be called after clip\(\), once"):
        GradientMonitor().metrics()
    with pytest.raises(ValueError, match="'max_norm' must be > 0: 0"):
        GradientMonitor(0)
