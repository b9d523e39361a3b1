"""What an average of the weights costs per update and per evaluation, against PyTorch's own."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import numpy as np
from measure import Row, best_of

from lucid_train import EvaluateStart, Run, StepEnd, Trainer, nn
from lucid_train.callbacks import WeightAverage

# Of a network in 50 layers of which each has a weight and a bias.
LAYERS, WIDTH = 50, 128
METRIC_STEPS = 20_000


class Sum:
    """A metric object."""

    total = 0.0

    def update(self, value: float) -> None:
        self.total += value

    def compute(self) -> float:
        return self.total

    def reset(self) -> None:
        self.total = 0.0


def keep_memory() -> None:
    """Let glibc keep what is freed: whether it is given back, and zeroed again, is chance, and half of the cost."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def begun(model: Any) -> tuple[WeightAverage, Run]:
    """Return an average of a model that has taken weights once, and its run."""
    average = WeightAverage(0.999)
    trainer = Trainer(lambda batch: 0.5, [1], model=model, callbacks=[average])
    history = trainer.fit()
    assert len(history) == 1
    return average, trainer._run


def of_numpy() -> list[Row]:
    """Compare with the formula on arrays."""
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, rng=0) for _ in range(LAYERS)))
    average, run = begun(model)
    held = model.state_dict()

    def by_hand() -> None:
        for name, now in model.state_dict().items():
            held[name] += 0.001 * (now - held[name])

    update = StepEnd(run, 1, 1)
    ours, hand = best_of(lambda: average.on_step_end(update), by_hand, repeats=50)
    return [Row("an update of an average, numpy, 100 arrays", ours, hand, "the formula by hand", budget=1.2)]


def of_torch() -> list[Row]:
    """Compare with PyTorch's averages, and with a copy of the weights there and back."""
    import torch
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    keep_memory()
    model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
    average, run = begun(model)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999), use_buffers=True)
    theirs.update_parameters(model)
    start, update = EvaluateStart(run, 1, 1), StepEnd(run, 1, 1)

    held = {name: each.clone() for name, each in model.state_dict().items()}

    def evaluated() -> None:
        with average.during_evaluation(start):
            pass

    def copied() -> None:
        own = {name: each.clone() for name, each in model.state_dict().items()}
        model.load_state_dict(held)
        model.load_state_dict(own)

    ours, torchs = best_of(lambda: average.on_step_end(update), lambda: theirs.update_parameters(model), repeats=50)
    swapped, by_hand = best_of(evaluated, copied, repeats=50)
    return [
        Row("an update of an average, PyTorch, 100 tensors", ours, torchs, "PyTorch's AveragedModel", budget=1.2),
        Row("its weights in the model, and back", swapped, by_hand, "a copy, both states loaded", budget=1.25),
    ]


def rows() -> list[Row]:
    """Measure everything."""
    metric, data = Sum(), np.ones(METRIC_STEPS).tolist()

    def step(value: float) -> float:
        metric.update(value)
        return value

    with_metric, without = (
        seconds / METRIC_STEPS
        for seconds in best_of(
            lambda: Trainer(step, data, metrics={"sum": metric}).fit(), lambda: Trainer(step, data).fit(), repeats=20
        )
    )
    own = Row("a step whose metric object is recorded", with_metric, without, "the same without it", budget=1.05)
    return [*of_numpy(), *(of_torch() if find_spec("torch") else []), own]
