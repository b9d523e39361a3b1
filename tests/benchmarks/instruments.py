"""What it costs to measure gradients, to ask for spikes and to measure the throughput."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from measure import Row, best_of

from lucid_train import Trainer
from lucid_train.callbacks import GradientMonitor, SpikeGuard, ThroughputMonitor

# Of a network in 16 layers of which each has a weight and a bias.
LAYERS, WIDTH = 16, 256
STEPS = 20_000


def of_gradients() -> list[Row]:
    """Compare with PyTorch's own clipping."""
    import torch

    model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for each in model.parameters():
        each.grad = torch.ones_like(each)

    def clipped() -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)

    def measured(monitor: GradientMonitor) -> Callable[[], object]:
        monitor._of = optimizer  # as in a fit

        def step() -> None:
            monitor.clip()
            monitor.metrics()

        return step

    monitors = GradientMonitor(1.0), GradientMonitor(1.0, ratio=True), GradientMonitor(1.0, per_group=True)
    theirs, plain, ratio, groups = best_of(clipped, *map(measured, monitors), repeats=200)
    what, against = f"clip() and metrics(), {2 * LAYERS} tensors of 1.05 M weights", "PyTorch's clip_grad_norm_"
    return [
        Row(what, plain, theirs, against, budget=1.25),
        Row(f"{what}, ratio=True", ratio, theirs, against),
        Row(f"{what}, per_group=True", groups, theirs, against),
    ]


def fit(step: Callable[[Any], float], *callbacks: Any) -> Callable[[], object]:
    """Return a fit of one epoch."""
    data = [1.0 + 0.01 * (number % 7) for number in range(STEPS)]
    return lambda: Trainer(step, data, callbacks=callbacks).fit()


def rows() -> list[Row]:
    """Measure everything."""
    guard = SpikeGuard()

    def guarded(loss: float) -> float:
        guard.spiked(loss)
        return loss

    def plain(loss: float) -> float:
        return loss

    ways = [
        fit(plain),
        fit(guarded, guard),
        fit(plain, ThroughputMonitor(64)),
        fit(plain, ThroughputMonitor(lambda batch: 64)),
    ]
    bare, asking, monitored, counting = (seconds / STEPS for seconds in best_of(*ways, repeats=15))
    without = "the same without it"
    return [
        *(of_gradients() if find_spec("torch") else []),
        Row("a step that asks a SpikeGuard", asking, bare, without, extra=20e-6),
        Row("a step, ThroughputMonitor", monitored, bare, without, extra=300e-9),
        Row("a step, ThroughputMonitor, samples counted", counting, bare, without, extra=1.5e-6),
    ]
