"""Set-ups of runs on numpy arrays, each with what is promised of it when it is killed and resumed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import count, cycle
from typing import Any, Literal

import numpy as np
import pytest
from attrs import define, field, frozen

from lucid_train import Callback, EpochEnd, EpochStart, EvaluateEnd, StepEnd, StepResult, Trainer, nn, optims, schedules
from lucid_train.callbacks import (
    Checkpoint,
    CosineAnnealingLRCallback,
    CSVLogger,
    EarlyStopping,
    ExponentialLRCallback,
    LRSchedulerCallback,
    ParamSchedulerCallback,
    RichLogger,
    StepLRCallback,
    TerminateOnNaN,
    TimeLimit,
    WeightAverage,
)
from lucid_train.data import batches, grouped
from lucid_train.optims.lr_scheduler import OneCycleLR, ParamScheduler, ReduceLROnPlateau
from lucid_train.testing import assert_resumes_exactly

ROWS = np.random.default_rng(0).normal(size=(6, 2))
EPOCHS = 3


@frozen
class SetUp:
    """A set-up and what is promised of it.

    Args:
        build: Returns a new Trainer, the same each time.
        refused: What the resume is refused with where it cannot be exact; None if it always is.
        cuts: Where the run is cut, as `assert_resumes_exactly` takes it.
        quick: Fewer steps after which it is cut in tests that are to be quick; None if all cuts are quick.
    """

    build: Callable[[], Trainer]
    refused: str | None = None
    cuts: Iterable[int] | Literal["all"] = "all"
    quick: Iterable[int] | None = None


def each_of(setups: dict[str, SetUp]) -> Any:
    """Return the parameters of a test of every set-up."""
    return pytest.mark.parametrize("setup", [pytest.param(setup, id=name) for name, setup in setups.items()])


def assert_kept(setup: SetUp, *, quick: bool = False) -> None:
    """Kill and resume a run at every cut, or at a few: it is exact, or refused as promised."""
    if setup.refused is None:
        assert_resumes_exactly(setup.build, cuts=setup.quick if quick and setup.quick is not None else setup.cuts)
        return
    assert setup.cuts != "all"
    refusals = [refusal for cut in setup.cuts if (refusal := refusal_at(setup, int(cut))) is not None]
    assert refusals
    assert [refusal for refusal in refusals if not re.search(setup.refused, refusal)] == []


def refusal_at(setup: SetUp, cut: int) -> str | None:
    """Return what the resume is refused with after a step, or None if it goes on exactly."""
    try:
        assert_resumes_exactly(setup.build, cuts=[cut])
    except (TypeError, ValueError) as error:
        return str(error)
    return None


class Reshuffled:
    """Data that does not say where a pass stands, and draws its order from numpy's own generator when it begins."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows[np.random.permutation(len(self.rows)).reshape(-1, 2)])


class OwnGenerator(Reshuffled):
    """The same with a generator of its own, in an attribute."""

    def __init__(self, rows: Any) -> None:
        super().__init__(rows)
        self.rng = np.random.default_rng(7)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows[self.rng.permutation(len(self.rows)).reshape(-1, 2)])


class ByEpoch(Reshuffled):
    """The same, seeded by the number of the epoch, which it is given."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        order = np.random.default_rng(self.epoch).permutation(len(self.rows))
        return iter(self.rows[order.reshape(-1, 2)])


class Buffered(Reshuffled):
    """A shuffle buffer: each batch is drawn from the global generator when it is asked for."""

    def __iter__(self) -> Iterator[Any]:
        waiting = [factor * self.rows[:2] for factor in range(1, 10)]
        while waiting:
            yield waiting.pop(random.randrange(len(waiting)))


DATA: dict[str, Callable[[Any], Any]] = {
    "batches": lambda rows: batches(rows, batch_size=2, seed=3),
    "reshuffled": Reshuffled,
    "own generator": OwnGenerator,
    "by epoch": ByEpoch,
    "list": lambda rows: list(rows.reshape(-1, 2, 2)),
}


@frozen
class SecondOfTwo:
    """The process of rank 1 of two."""

    rank: int = 1
    world_size: int = 2


class Bare:
    """An optimizer with nothing but groups."""

    def __init__(self, parameters: Any, lr: float = 0.1) -> None:
        self.param_groups = [{"params": list(parameters), "lr": lr}]

    def zero_grad(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None

    def step(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            parameter.data -= self.param_groups[0]["lr"] * parameter.grad


@define(eq=False)
class Tally(Callback):
    """A callback of the user's, with numbers, a list, a dict and an array as its state."""

    losses: float = field(default=0.0, init=False)
    begun: list[float] = field(factory=list, init=False)
    evaluated: dict[str, float] = field(factory=dict, init=False)
    rates: Any = field(factory=lambda: np.zeros(1), init=False)

    def on_epoch_start(self, event: EpochStart) -> None:
        self.begun.append(event.epoch + np.random.rand())

    def on_step_end(self, event: StepEnd) -> None:
        self.losses = 0.9 * self.losses + event.loss

    def on_evaluate_end(self, event: EvaluateEnd) -> None:
        self.evaluated[str(event.epoch)] = self.evaluated.get(str(event.epoch), 0.0) + event.metrics["val_loss"]

    def on_epoch_end(self, event: EpochEnd) -> None:
        self.rates = np.append(self.rates, event.lr)


@define
class Average:
    """A moving average of the weights, as programs keep one beside the model."""

    model: Any
    weights: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.weights = self.model.state_dict()

    def update(self) -> None:
        self.weights = {name: 0.9 * self.weights[name] + 0.1 * x for name, x in self.model.state_dict().items()}

    def state_dict(self) -> Any:
        return {"weights": self.weights}

    def load_state_dict(self, state: Any) -> None:
        self.weights = state["weights"]


@define
class Largest:
    """A metric object: the largest and the mean of the rows."""

    highest: float | None = None
    rows: int = 0
    total: Any = field(factory=lambda: np.zeros(()))
    means: list[float] = field(factory=list)

    def update(self, batch: Any) -> None:
        self.highest = float(max(batch.max(), -np.inf if self.highest is None else self.highest))
        self.rows += len(batch)
        self.total += batch.sum()
        self.means.append(float(batch.mean()))

    def compute(self) -> Any:
        assert self.highest is not None
        return self.highest + self.total / self.rows + sum(self.means)

    def reset(self) -> None:
        self.highest, self.rows, self.total, self.means = None, 0, np.zeros(()), []


@define
class Parts:
    """What a run is made of, for those who make the rest of it."""

    model: Any
    optimizer: Any
    noise: Any
    metrics: dict[str, Largest] = field(factory=dict, init=False)
    average: Average = field(init=False)
    loss: Any = field(factory=nn.MSELoss, init=False)

    def __attrs_post_init__(self) -> None:
        self.average = Average(self.model)

    def train(self, batch: Any, *, update: bool = True) -> float:
        noisy = batch + 0.1 * self.noise.normal(size=batch.shape) + 0.01 * np.random.rand() + 0.01 * random.random()
        value = float(self.loss(self.model(noisy), batch[:, :1]))
        self.model.backward(self.loss.backward())
        if update:
            self.optimizer.step()
            self.optimizer.zero_grad()
        return value

    def evaluate(self) -> float:
        for name, metric in self.metrics.items():
            if name.startswith("val_"):
                metric.update(ROWS + self.model(ROWS))
        return float(self.loss(self.model(ROWS), ROWS[:, :1]))


def momentum(parameters: Any) -> Any:
    return optims.SGD(parameters, lr=0.1, momentum=0.9)


def layer_wise(parameters: Any) -> Any:
    """Return an optimizer whose first group has a rate that is scaled, as timm's have, and a name."""
    *body, weight, bias = parameters
    groups = [{"params": body, "lr_scale": 0.5, "name": "body"}, {"params": [weight, bias], "name": "head"}]
    return optims.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.1)


def weighted(parts: Parts) -> Callable[[Any], Any]:
    """Weight the noise of the batch by an attribute of the model, as a loss may be."""

    def step(batch: Any) -> Any:
        loss = parts.train(batch + parts.model.kl_weight * parts.noise.normal(size=batch.shape))
        return {"loss": loss, "weighted": parts.model.kl_weight * loss}

    parts.model.kl_weight = 0.5
    return step


def plain(parts: Parts) -> Callable[[Any], Any]:
    return parts.train


def several_metrics(parts: Parts) -> Callable[[Any], Any]:
    return lambda batch: {"loss": parts.train(batch), "size": len(batch)}


def measuring(parts: Parts) -> Callable[[Any], Any]:
    """Let a metric object gather what it needs, and another one in the evaluation."""
    parts.metrics |= {"highest": Largest(), "val_largest": Largest()}

    def step(batch: Any) -> float:
        parts.metrics["highest"].update(batch)
        return parts.train(batch)

    return step


def averaging(parts: Parts) -> Callable[[Any], Any]:
    def step(batch: Any) -> float:
        loss = parts.train(batch)
        parts.average.update()
        return loss

    return step


def accumulating(parts: Parts) -> Callable[[Any], Any]:
    """Update after every third step; what is accumulated in between is no part of the state."""
    number = count(1)

    def step(batch: Any) -> Any:
        if next(number) % 3 == 0:
            return parts.train(batch)
        return StepResult(parts.train(batch, update=False), updated=False)

    return step


def weighing(parts: Parts) -> Callable[[Any], Any]:
    """Weight the losses by what comes with the batch: 0 for padding."""

    def step(batch: Any) -> Any:
        rows, weights = batch
        return StepResult(parts.train(rows * weights[:, None]), weight=weights.sum())

    return step


def in_groups(parts: Parts) -> Callable[[Any], Any]:
    """Update once for the micro-batches of a list."""

    def step(group: list[Any]) -> Any:
        losses = [parts.train(batch, update=number == len(group)) for number, batch in enumerate(group, 1)]
        return StepResult(sum(losses) / len(losses), weight=sum(map(len, group)))

    return step


def in_twos(data: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda rows: grouped(data(rows), 2)


def skipping(parts: Parts) -> Callable[[Any], Any]:
    """Skip updates at random, as a step whose gradients are not finite does."""
    return lambda batch: StepResult(parts.evaluate(), updated=False) if random.random() < 0.3 else parts.train(batch)


def setup(
    data: Callable[[Any], Any] = DATA["batches"],
    *callbacks: Callable[[Parts], Callback],
    optimizer: Callable[[Any], Any] = momentum,
    step: Callable[[Parts], Any] = plain,
    evaluate_every: int | str | None = None,
    extras: Callable[[Parts], dict[str, Any]] = lambda parts: {},
    refused: str | None = None,
    cuts: Iterable[int] | Literal["all"] = "all",
    **settings: Any,
) -> SetUp:
    """Return a set-up: a regression with noise, from Python's and numpy's generators and one of the program's own."""

    def build() -> Trainer:
        np.random.seed(1)
        random.seed(2)
        model = nn.Sequential(nn.Linear(2, 3, rng=1), nn.Tanh(), nn.Linear(3, 1, rng=2))
        parts = Parts(model, optimizer(model.parameters()), np.random.default_rng(5))
        return Trainer(
            step(parts),
            data(ROWS),
            metrics=parts.metrics,
            model=model,
            optimizer=parts.optimizer,
            evaluate=None if evaluate_every is None else parts.evaluate,
            evaluate_every=evaluate_every or 1,
            extras={"noise": parts.noise, **extras(parts)},
            callbacks=[make(parts) for make in callbacks],
            **{"epochs": EPOCHS, **settings},
        )

    return SetUp(build, refused, cuts)


def scheduled(schedule: Any, interval: Any = "step", **settings: Any) -> Callable[[Parts], Callback]:
    """Return what makes a callback of a schedule, or of what builds a scheduler on an optimizer."""
    return lambda parts: LRSchedulerCallback(
        schedule(parts.optimizer) if callable(schedule) and not isinstance(schedule, schedules.Schedule) else schedule,
        interval=interval,
        **settings,
    )


def rehearsal() -> Trainer:
    """Neither a step nor data: the optimizer is stepped."""
    np.random.seed(1)
    random.seed(2)  # which a fork would seed again
    optimizer = optims.SGD(nn.Linear(2, 1, rng=0).parameters(), lr=0.1)
    callbacks = [ExponentialLRCallback(0.5), TerminateOnNaN()]
    return Trainer(optimizer=optimizer, epochs=4, steps_per_epoch=2, callbacks=callbacks)


def batches_of(rows: Any) -> Any:
    return rows.reshape(-1, 2, 2)


def in_noise(rows: Any) -> Iterator[Any]:
    """A generator that draws each batch, for ever."""
    own = np.random.default_rng(9)
    while True:
        yield rows[own.integers(len(rows), size=2)]


SETUPS: dict[str, SetUp] = {
    **{f"{name} as data": setup(data) for name, data in DATA.items()},
    **{
        f"{name} as data, evaluated within epochs": setup(data, lambda parts: Tally(), evaluate_every="2 steps")
        for name, data in DATA.items()
    },
    "a shuffle buffer on the generator that the step draws from": setup(
        Buffered,
        epochs=2,
        refused="a shuffle buffer that draws from a generator which the steps use too",
        cuts=range(1, 17),
    ),
    "an endless iterator": setup(lambda rows: cycle(batches_of(rows)), steps_per_epoch=2),
    "an endless generator with a generator of its own": setup(in_noise, steps_per_epoch=3),
    "a generator for one epoch": setup(lambda rows: (batch for batch in batches_of(rows)), epochs=1),
    "a part of each pass": setup(OwnGenerator, steps_per_epoch=2),
    "a part of each pass of batches": setup(steps_per_epoch=2),
    "a dict of arrays": setup(
        lambda rows: [{"x": rows[:3], "y": [rows[:1]]}, {"x": rows[3:], "y": [rows[1:]]}],
        step=lambda parts: lambda batch: parts.train(batch["x"]),
    ),
    "Adam": setup(optimizer=lambda parameters: optims.Adam(parameters, lr=0.05)),
    "AdamW, several metrics": setup(
        optimizer=lambda parameters: optims.AdamW(parameters, lr=0.05, weight_decay=0.1), step=several_metrics
    ),
    "an optimizer with nothing but groups": setup(DATA["list"], scheduled(schedules.Cosine()), optimizer=Bare),
    "a rate in an array": setup(
        DATA["list"],
        scheduled(schedules.Exponential(0.9)),
        optimizer=lambda parameters: optims.SGD(parameters, lr=np.array(0.1)),
    ),
    "an average of the weights": setup(step=averaging, extras=lambda parts: {"average": parts.average}),
    "a moving average, evaluated within epochs": setup(
        DATA["reshuffled"], lambda parts: WeightAverage(0.9), step=skipping, evaluate_every="2 steps"
    ),
    "a moving average of accumulated gradients": setup(
        DATA["batches"], lambda parts: WeightAverage(0.9, every=2), step=accumulating, cuts=[3, 6], evaluate_every=1
    ),
    "the mean of the last epochs": setup(
        DATA["batches"],
        lambda parts: WeightAverage(None, interval="epoch", start="50%"),
        lambda parts: EarlyStopping("val_loss", patience=20, restore_best=True),
        lambda parts: Checkpoint("checkpoints", monitor="val_loss", every=None),
        evaluate_every=1,
        epochs=4,
    ),
    "a moving average whose decay is scheduled": setup(
        DATA["batches"],
        scheduled(schedules.Cosine()),
        lambda parts: WeightAverage(schedules.Linear(0.5, 0.99), start="30%"),
        evaluate_every=2,
    ),
    "metric objects": setup(DATA["reshuffled"], lambda parts: CSVLogger("t.csv"), step=measuring, evaluate_every=1),
    "metric objects, evaluated within epochs": setup(
        DATA["batches"],
        lambda parts: EarlyStopping("val_largest", mode="min", patience=20),
        lambda parts: LRSchedulerCallback(
            ReduceLROnPlateau(parts.optimizer, mode="max", patience=0), monitor="highest"
        ),
        step=measuring,
        evaluate_every="2 steps",
    ),
    "batches of which this process takes half": setup(
        lambda rows: batches(rows, batch_size=2, seed=3, last="drop", group=SecondOfTwo()), evaluate_every="2 steps"
    ),
    "batches of which this process takes half, the last one padded, in a part of each pass": setup(
        lambda rows: batches(rows, batch_size=4, seed=3, last="pad", group=SecondOfTwo()),
        step=weighing,
        steps_per_epoch=1,
    ),
    "batches of which this process takes half, the last one padded": setup(
        lambda rows: batches(rows, batch_size=4, seed=3, last="pad", group=SecondOfTwo()), step=weighing
    ),
    "accumulated gradients": setup(step=accumulating, cuts=[3, 6]),
    **{f"{name} in groups": setup(in_twos(data), step=in_groups, evaluate_every=1) for name, data in DATA.items()},
    "batches in groups, evaluated within epochs": setup(
        in_twos(DATA["batches"]),
        scheduled(schedules.Cosine().warmup("20%")),
        lambda parts: Tally(),
        step=in_groups,
        evaluate_every="2 steps",
    ),
    "a part of each pass of batches in groups": setup(in_twos(DATA["batches"]), step=in_groups, steps_per_epoch=1),
    "batches in groups of groups": setup(
        lambda rows: grouped(grouped(batches(rows, batch_size=1, seed=3), 2), 2),
        step=lambda parts: lambda groups: [in_groups(parts)(group) for group in groups][-1],
    ),
    "one group per pass": setup(lambda rows: grouped(batches(rows, batch_size=2, seed=3), 5), step=in_groups),
    "an endless iterator in groups": setup(
        in_twos(lambda rows: cycle(batches_of(rows))), step=in_groups, steps_per_epoch=2
    ),
    "updates skipped at random": setup(
        DATA["reshuffled"], scheduled(schedules.Exponential(0.9)), step=skipping, evaluate_every="2 steps"
    ),
    "a cosine after a warm-up": setup(DATA["list"], scheduled(schedules.Cosine().warmup("20%", start=0.0))),
    "one cycle": setup(DATA["own generator"], scheduled(lambda optimizer: OneCycleLR(optimizer, 0.2, total_steps=9))),
    "a plateau": setup(
        DATA["reshuffled"],
        scheduled(lambda optimizer: ReduceLROnPlateau(optimizer, patience=0), "epoch", monitor="val_loss"),
        evaluate_every=1,
    ),
    "a schedule of the momentum": setup(
        DATA["list"],
        scheduled(
            lambda optimizer: ParamScheduler(
                optimizer, lr=schedules.Linear(1.0, 0.1, 9), momentum=schedules.Exponential(0.9)
            )
        ),
    ),
    "an attribute, the weight decay and the rate, each by a callback": setup(
        DATA["batches"],
        lambda parts: ParamSchedulerCallback(
            kl_weight=schedules.Linear(0.0, 1.0, "50%"), on=parts.model, interval="step"
        ),
        lambda parts: ParamSchedulerCallback(weight_decay=schedules.Cosine(), momentum=schedules.Exponential(0.9)),
        scheduled(schedules.Cosine().warmup("20%")),
        lambda parts: CSVLogger("t.csv"),
        optimizer=layer_wise,
        step=weighted,
        evaluate_every="2 steps",
    ),
    "schedules by the groups' names, one frozen at first, of rates that are scaled": setup(
        DATA["batches"],
        lambda parts: ParamSchedulerCallback(
            lr={"body": schedules.Constant(0.0).until(2).then(schedules.Cosine()), "head": schedules.Cosine()},
            weight_decay=[schedules.Constant(), schedules.Exponential(0.8)],
            interval="step",
        ),
        optimizer=layer_wise,
        cuts=[1, 2, 3, 5, 8],
    ),
    "two schedules in a sequence": setup(
        DATA["batches"], scheduled(schedules.Linear(0.1, 1.0, 4).then(schedules.Exponential(0.8)))
    ),
    "callbacks of one family each": setup(
        DATA["batches"],
        lambda parts: CosineAnnealingLRCallback(5, 0.001, interval="step"),
        lambda parts: EarlyStopping("val_loss", mode="min", patience=20, min_delta=0.01, restore_best=True),
        lambda parts: Tally(),
        lambda parts: TerminateOnNaN(),
        lambda parts: TimeLimit(3600.0),
        lambda parts: CSVLogger("table.csv"),
        lambda parts: RichLogger(),
        lambda parts: Checkpoint("checkpoints", monitor="val_loss", mode="min", every=2, interval="step", keep=2),
        evaluate_every=1,
    ),
    "a stop for want of improvement": setup(
        DATA["batches"],
        lambda parts: EarlyStopping("val_loss", mode="max", patience=3),
        lambda parts: StepLRCallback(1, 0.5),
        evaluate_every="1 step",
    ),
    "saved in the background": setup(
        DATA["own generator"],
        lambda parts: Checkpoint("checkpoints", every=1, interval="step", keep=1, background=True),
    ),
    "a rehearsal": SetUp(rehearsal),
}
