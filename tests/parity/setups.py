"""Set-ups of runs with PyTorch, each with what is promised of it when it is killed and resumed."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from attrs import define, field
from torch import nn
from torch.optim import lr_scheduler as theirs
from torch.utils import data as torch_data
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from lucid_train import StepResult, Trainer, schedules
from lucid_train.callbacks import (
    Checkpoint,
    CosineAnnealingLRCallback,
    CSVLogger,
    EarlyStopping,
    LRSchedulerCallback,
    TerminateOnNaN,
    WeightAverage,
)
from lucid_train.data import GlobalBatchSampler, batches, grouped, seeded, weighted
from lucid_train.optims.lr_scheduler import OneCycleLR, ReduceLROnPlateau
from tests.support.setups import SecondOfTwo, SetUp, Tally

torch.set_num_threads(1)  # as in all tests of parity: with more of them sums are rounded otherwise

ROWS = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
TARGETS = ROWS.sum(dim=1, keepdim=True)
IMAGES = torch.randn(8, 2, 5, 5, generator=torch.Generator().manual_seed(1))
EXAMPLES = TensorDataset(ROWS, TARGETS)


# Data.


class Drawing(Dataset[Any]):
    """Each example is augmented with random numbers, from all the generators that there are."""

    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, index: int) -> Any:
        noise = torch.randn(3) + float(np.random.rand()) + random.random()
        return ROWS[index] + 0.1 * noise, TARGETS[index]


class Named(Dataset[Any]):
    """Each example is a dict of a tensor, a nested tuple and a string."""

    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, index: int) -> Any:
        return {"x": ROWS[index], "rest": (TARGETS[index], {"number": index}), "name": f"row {index}"}


class Stream(IterableDataset[Any]):
    """Examples one after the other, a share of them in each worker."""

    def __iter__(self) -> Iterator[Any]:
        worker = torch_data.get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return iter([(ROWS[index], TARGETS[index]) for index in range(first, len(ROWS), step)])


class Buffered(IterableDataset[Any]):
    """A shuffle buffer on a global generator, from which each example is drawn when it is asked for."""

    def __iter__(self) -> Iterator[Any]:
        waiting = [(factor * x, y) for factor in (1, 2, 3) for x, y in zip(ROWS, TARGETS, strict=True)]
        while waiting:
            yield waiting.pop(int(torch.randint(len(waiting), ())))


def loader(dataset: Any = EXAMPLES, **settings: Any) -> Callable[[], Any]:
    """Return what makes a DataLoader of three batches, shuffled unless the settings have an order of their own."""
    ordered = isinstance(dataset, IterableDataset) or {"sampler", "batch_sampler"} & settings.keys()
    given = {"shuffle": not ordered, **settings}
    if "batch_sampler" in settings:
        del given["shuffle"]
    else:
        given = {"batch_size": 3, **given}
    return lambda: DataLoader(dataset, **{name: made() if callable(made) else made for name, made in given.items()})


def own_generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def stateful(**settings: Any) -> Callable[[], Any]:
    """Return what makes a DataLoader of torchdata's, which says itself where a pass stands."""

    def make() -> Any:
        from torchdata.stateful_dataloader import StatefulDataLoader

        return StatefulDataLoader(EXAMPLES, batch_size=3, shuffle=True, **settings)

    return make


def half(
    dataset: Any = EXAMPLES, last: Literal["drop", "pad"] = "drop", *, saves: bool = False, **settings: Any
) -> Callable[[], Any]:
    """Return what makes a loader of batches of which this process takes half: PyTorch's, or torchdata's."""

    def make() -> Any:
        samples = weighted(dataset) if last == "pad" else dataset
        sampler = GlobalBatchSampler(samples, 2 if last == "drop" else 6, seed=5, last=last, group=SecondOfTwo())
        if saves:
            from torchdata.stateful_dataloader import StatefulDataLoader

            return StatefulDataLoader(samples, batch_sampler=sampler, **settings)
        return DataLoader(samples, batch_sampler=sampler, **settings)

    return make


def of_fabric(data: Callable[[], Any] | None = None) -> Any:
    from lightning_fabric import Fabric

    return Fabric(accelerator="cpu", devices=1).setup_dataloaders((data or loader())())


def of_accelerate(data: Callable[[], Any] | None = None) -> Any:
    from accelerate import Accelerator

    return Accelerator(cpu=True).prepare_data_loader((data or loader())())


def split() -> Any:
    parts: list[Subset[Any]] = torch_data.random_split(EXAMPLES, [6, 2])
    return DataLoader(parts[0], batch_size=2, shuffle=True)


# Models.


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4, 1))


def linear() -> nn.Module:
    return nn.Linear(3, 1)


def cnn() -> nn.Module:
    """Return one for images whose channels come last in memory."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 1))
    return model.to(memory_format=torch.channels_last)


def partly_frozen() -> nn.Module:
    """Return one whose batch norm stays in eval mode."""
    model = mlp()
    model[1].eval().requires_grad_(False)
    return model


class Recurrent(nn.Module):
    """Reads a row as a sequence of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.GRU(1, 3, num_layers=2, dropout=0.2, batch_first=True), nn.Linear(3, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.head(self.cells(rows.unsqueeze(-1))[0][:, -1])


class Embedded(nn.Module):
    """Looks a number up, with gradients that are sparse."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(8, 1, sparse=True)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.table((rows[:, 0] > 0).long())


# Optimizers.


def adam(parameters: Any) -> Any:
    return torch.optim.Adam(parameters, lr=0.05)


def of(cls: Any, **settings: Any) -> Callable[[Any], Any]:
    return lambda parameters: cls(parameters, **{"lr": 0.05, **settings})


def two_groups(parameters: Any) -> Any:
    every = list(parameters)
    return torch.optim.AdamW([{"params": every[:1], "lr": 0.1, "weight_decay": 0.0}, {"params": every[1:]}], lr=0.02)


class Bare:
    """An optimizer with nothing but groups."""

    def __init__(self, parameters: Any) -> None:
        self.param_groups = [{"params": list(parameters), "lr": 0.1}]

    def zero_grad(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            parameter -= self.param_groups[0]["lr"] * parameter.grad


def accelerated(parameters: Any) -> Any:
    from accelerate import Accelerator

    return Accelerator(cpu=True).prepare_optimizer(adam(parameters))


def of_tensor(parameters: Any) -> Any:
    return torch.optim.Adam(parameters, lr=torch.tensor(0.05), foreach=False)


# Steps.


@define
class Parts:
    """What a run is made of, for those who make the rest of it.

    Attributes:
        extras: What else belongs to its state.
        metrics: Metric objects, those of the evaluation by names that begin with "val_".
    """

    model: Any
    optimizer: Any
    extras: dict[str, Any] = field(factory=dict, init=False)
    metrics: dict[str, Any] = field(factory=dict, init=False)

    def loss(self, batch: Any) -> Any:
        x, y = batch
        return nn.functional.mse_loss(self.model(x), y)

    def update(self, loss: Any) -> Any:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def evaluate(self) -> Any:
        with torch.no_grad():
            x = IMAGES if isinstance(self.model[0] if hasattr(self.model, "__getitem__") else None, nn.Conv2d) else ROWS
            scores = self.model(x)
            for metric in (each for name, each in self.metrics.items() if name.startswith("val_")):
                metric.update(scores, TARGETS)
            return nn.functional.mse_loss(scores, TARGETS)


def plain(parts: Parts) -> Callable[[Any], Any]:
    return lambda batch: parts.update(parts.loss(batch))


def noisy(parts: Parts) -> Callable[[Any], Any]:
    """Draw from all the generators that there are."""

    def step(batch: Any) -> Any:
        x, y = batch
        return parts.update(parts.loss((x + 0.1 * torch.randn_like(x) + np.random.rand() + random.random(), y)))

    return step


def weighing(parts: Parts) -> Callable[[Any], Any]:
    """Weight the losses by what comes with the samples: 0 for padding."""

    def step(batch: Any) -> Any:
        (x, y), weights = batch
        noise = 0.1 * torch.randn_like(x) + np.random.rand() + random.random()
        losses = nn.functional.mse_loss(parts.model(x + noise), y, reduction="none")[:, 0]
        return StepResult(
            parts.update((losses * weights).sum() / weights.sum().clamp(min=1)).detach(), weight=weights.sum()
        )

    return step


def of_dicts(parts: Parts) -> Callable[[Any], Any]:
    return lambda batch: {"loss": parts.update(parts.loss((batch["x"], batch["rest"][0]))), "rows": len(batch["name"])}


def of_arrays(parts: Parts) -> Callable[[Any], Any]:
    return lambda batch: parts.update(parts.loss([torch.from_numpy(array) for array in batch]))


def of_images(parts: Parts) -> Callable[[Any], Any]:
    return lambda batch: parts.update(parts.loss((batch[0].contiguous(memory_format=torch.channels_last), batch[1])))


def closed(parts: Parts) -> Callable[[Any], Any]:
    """Hand the optimizer a closure, as LBFGS needs."""

    def step(batch: Any) -> Any:
        def closure() -> Any:
            parts.optimizer.zero_grad()
            loss = parts.loss(batch)
            loss.backward()
            return loss

        return parts.optimizer.step(closure)

    return step


def in_bfloat16(parts: Parts) -> Callable[[Any], Any]:
    def step(batch: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = parts.loss(batch)
        return parts.update(loss)

    return step


def scaled(parts: Parts) -> Callable[[Any], Any]:
    """Scale the losses; every fourth one is infinite, and its update is skipped."""
    scaler = parts.extras["scaler"] = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    counter = parts.extras["counter"] = Counted()

    def step(batch: Any) -> Any:
        counter.number += 1
        loss = parts.loss(batch)
        parts.optimizer.zero_grad()
        scaler.scale(loss * (float("inf") if counter.number % 4 == 0 else 1.0)).backward()
        before = scaler.get_scale()
        scaler.step(parts.optimizer)
        scaler.update()
        return loss if scaler.get_scale() >= before else StepResult(loss, updated=False)

    return step


@define
class Counted:
    number: int = 0

    def state_dict(self) -> Any:
        return {"number": self.number}

    def load_state_dict(self, state: Any) -> None:
        self.number = state["number"]


def accumulating(parts: Parts) -> Callable[[Any], Any]:
    """Update after every third step; what is accumulated in between is no part of the state."""
    number = 0

    def step(batch: Any) -> Any:
        nonlocal number
        number += 1
        loss = parts.loss(batch)
        loss.backward()
        if number % 3:
            return StepResult(loss, updated=False)
        parts.optimizer.step()
        parts.optimizer.zero_grad()
        return loss

    return step


def in_groups(parts: Parts) -> Callable[[Any], Any]:
    """Update once for the micro-batches of a list, each loss counting by its share of the samples."""

    def step(group: list[Any]) -> Any:
        samples, total = sum(len(x) for x, _ in group), torch.zeros(())
        parts.optimizer.zero_grad()
        for x, y in group:
            noise = 0.1 * torch.randn_like(x) + np.random.rand() + random.random()
            loss = parts.loss((x + noise, y)) * (len(x) / samples)
            loss.backward()
            total += loss.detach()
        parts.optimizer.step()
        return StepResult(total, weight=samples)

    return step


def in_twos(data: Callable[[], Any]) -> Callable[[], Any]:
    """Return what makes lists of two batches each; with three in a pass the last list is short."""
    return lambda: grouped(data(), 2)


def averaging(parts: Parts) -> Callable[[Any], Any]:
    average = parts.extras["average"] = torch.optim.swa_utils.AveragedModel(
        parts.model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    )

    def step(batch: Any) -> Any:
        loss = parts.update(parts.loss(batch))
        average.update_parameters(parts.model)
        return loss

    return step


def measuring(parts: Parts) -> Callable[[Any], Any]:
    """Let metrics of torchmetrics gather sums and lists of what the network returns."""
    from torchmetrics import MeanSquaredError, SpearmanCorrCoef

    parts.metrics |= {
        name: metric
        for prefix in ("", "val_")
        for name, metric in {f"{prefix}error": MeanSquaredError(), f"{prefix}ranks": SpearmanCorrCoef()}.items()
    }

    def step(batch: Any) -> Any:
        x, y = batch
        scores = parts.model(x)
        parts.metrics["error"].update(scores.detach(), y)
        parts.metrics["ranks"](scores.detach()[:, 0], y[:, 0])  # which updates it too
        return parts.update(nn.functional.mse_loss(scores, y))

    return step


def adversarial(parts: Parts) -> Callable[[Any], Any]:
    """Train a second model with a second optimizer, as GANs do."""
    critic = parts.extras["critic"] = nn.Linear(1, 1)
    of_critic = parts.extras["optimizer of the critic"] = torch.optim.RMSprop(critic.parameters(), lr=0.01)

    def step(batch: Any) -> Any:
        x, y = batch
        of_critic.zero_grad()
        critic_loss = (critic(parts.model(x).detach()) - critic(y)).mean() ** 2
        critic_loss.backward()
        of_critic.step()
        loss = parts.update(critic(parts.model(x)).mean() ** 2 + parts.loss(batch))
        return {"loss": loss, "critic": critic_loss}

    return step


def by_fabric(parts: Parts) -> Callable[[Any], Any]:
    """Have Lightning Fabric wrap model and optimizer."""
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    parts.model, parts.optimizer = fabric.setup(parts.model, parts.optimizer)

    def step(batch: Any) -> Any:
        parts.optimizer.zero_grad()
        loss = parts.loss(batch)
        fabric.backward(loss)
        parts.optimizer.step()
        return loss

    return step


# The table.


def setup(
    data: Callable[[], Any] | None = None,
    *callbacks: Callable[[Parts], Any],
    model: Callable[[], nn.Module] = linear,
    optimizer: Callable[[Any], Any] = adam,
    step: Callable[[Parts], Any] = plain,
    evaluate_every: int | str | None = None,
    epochs: int = 2,
    refused: str | None = None,
    cuts: Iterable[int] | Literal["all"] = "all",
    quick: Iterable[int] | None = None,
    **settings: Any,
) -> SetUp:
    """Return a set-up: a regression whose generators are seeded."""

    def build() -> Trainer:
        torch.manual_seed(0)
        np.random.seed(1)
        random.seed(2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what accelerate and Fabric say when they are set up
            made = model()
            parts = Parts(made, optimizer(made.parameters()))
            train, loaded = step(parts), (loader() if data is None else data)()
        return Trainer(
            train,
            loaded,
            epochs=epochs,
            model=parts.model,
            optimizer=parts.optimizer,
            evaluate=None if evaluate_every is None else parts.evaluate,
            evaluate_every=evaluate_every or 1,
            extras=parts.extras,
            metrics=parts.metrics,
            callbacks=[make(parts) for make in callbacks],
            **settings,
        )

    return SetUp(build, refused, cuts, quick)


def scheduled(schedule: Any, interval: Any = "step", **settings: Any) -> Callable[[Parts], Any]:
    """Return what makes a callback of a schedule, or of what builds a scheduler on an optimizer."""
    is_value = isinstance(schedule, schedules.Schedule)
    return lambda parts: LRSchedulerCallback(
        schedule if is_value else schedule(parts.optimizer), interval=interval, **settings
    )


OPTIMIZERS: dict[str, SetUp] = {
    "SGD with momentum": setup(optimizer=of(torch.optim.SGD, momentum=0.9, nesterov=True), model=mlp),
    "Adam, fused": setup(optimizer=of(torch.optim.Adam, fused=True), model=mlp),
    "AdamW, foreach": setup(optimizer=of(torch.optim.AdamW, foreach=True)),
    "AdamW, amsgrad, two groups": setup(optimizer=two_groups),
    "AdamW, fused, channels last": setup(
        loader(TensorDataset(IMAGES, TARGETS)),
        model=cnn,
        optimizer=of(torch.optim.AdamW, fused=True),
        step=of_images,
        evaluate_every=1,
    ),
    "SGD, fused, channels last": setup(
        loader(TensorDataset(IMAGES, TARGETS)),
        model=cnn,
        optimizer=of(torch.optim.SGD, fused=True, momentum=0.9),
        step=of_images,
    ),
    "Adam, amsgrad": setup(optimizer=of(torch.optim.Adam, amsgrad=True)),
    "Adam, a rate in a tensor": setup(loader(), scheduled(schedules.Cosine()), optimizer=of_tensor),
    "NAdam": setup(optimizer=of(torch.optim.NAdam)),
    "RAdam": setup(optimizer=of(torch.optim.RAdam)),
    "Adamax": setup(optimizer=of(torch.optim.Adamax)),
    "Adagrad": setup(optimizer=of(torch.optim.Adagrad)),
    "Adadelta": setup(optimizer=of(torch.optim.Adadelta)),
    "Adafactor": setup(optimizer=of(torch.optim.Adafactor), model=mlp),
    "RMSprop, centered": setup(optimizer=of(torch.optim.RMSprop, centered=True, momentum=0.5)),
    "Rprop": setup(optimizer=of(torch.optim.Rprop)),
    "ASGD": setup(optimizer=of(torch.optim.ASGD, t0=2)),
    "LBFGS": setup(optimizer=of(torch.optim.LBFGS, max_iter=3, line_search_fn="strong_wolfe"), step=closed),
    "SparseAdam": setup(model=Embedded, optimizer=of(torch.optim.SparseAdam)),
    "nothing but groups": setup(optimizer=Bare),
    "two models and two optimizers": setup(step=adversarial),
    "accelerate's wrapper": setup(optimizer=accelerated),
    "Fabric's wrapper": setup(step=by_fabric),
}

DATA: dict[str, SetUp] = {
    "shuffled, noise in the step, dropout": setup(step=noisy, model=mlp, evaluate_every="2 steps", epochs=3),
    "1 worker": setup(loader(num_workers=1), step=noisy, quick=[1, 3, 4]),
    "2 workers": setup(loader(num_workers=2), step=noisy, quick=[2, 3, 5]),
    "persistent workers": setup(
        loader(num_workers=2, persistent_workers=True), step=noisy, epochs=3, quick=[2, 3, 4, 6, 8]
    ),
    "1 persistent worker": setup(
        loader(num_workers=1, persistent_workers=True), step=noisy, epochs=3, quick=[2, 3, 4, 6, 8]
    ),
    "a generator of its own": setup(loader(generator=own_generator), step=noisy),
    "weighted": setup(
        loader(sampler=lambda: torch_data.WeightedRandomSampler([1.0, 2.0] * 4, 8, generator=own_generator())),
        step=noisy,
    ),
    "weighted, on the global generator": setup(
        loader(sampler=lambda: torch_data.WeightedRandomSampler([1.0, 2.0] * 4, 8)), step=noisy
    ),
    "distributed": setup(
        loader(sampler=lambda: torch_data.DistributedSampler(EXAMPLES, 2, 0), batch_size=2), step=noisy, epochs=3
    ),
    "batches drawn by a sampler": setup(
        loader(
            batch_sampler=lambda: torch_data.BatchSampler(
                torch_data.RandomSampler(EXAMPLES, generator=own_generator()), 3, False
            )
        ),
        step=noisy,
    ),
    "an iterable data set": setup(loader(Stream()), step=noisy),
    "an iterable data set in 2 workers": setup(loader(Stream(), num_workers=2), step=noisy, quick=[1, 3, 4]),
    "a shuffle buffer on the generator that the step draws from": setup(
        loader(Buffered()),
        step=noisy,
        refused="a shuffle buffer that draws from a generator which the steps use too",
        cuts=range(1, 15),
    ),
    "torchdata's stateful loader": setup(stateful(), step=noisy, epochs=3),
    "torchdata's stateful loader with 1 worker": setup(stateful(num_workers=1), step=noisy, quick=[1, 2, 3, 5]),
    "Fabric's loader": setup(of_fabric, step=noisy, epochs=3),
    "accelerate's loader": setup(of_accelerate, step=noisy, epochs=3),
    "dicts": setup(loader(Named()), step=of_dicts, epochs=3),
    "a data set that draws": setup(loader(Drawing())),
    "a data set that draws in 2 workers": setup(loader(Drawing(), num_workers=2), quick=[1, 3, 4]),
    "a data set that draws in persistent workers": setup(
        loader(Drawing(), num_workers=2, persistent_workers=True), epochs=3, refused="worker", cuts=[4, 5]
    ),
    "a data set that draws in persistent workers, seeded": setup(
        loader(seeded(Drawing(), seed=3), num_workers=2, persistent_workers=True), epochs=3, quick=[2, 3, 4, 6, 8]
    ),
    "a data set that draws, seeded, and a step that draws": setup(loader(seeded(Drawing(), seed=3)), step=noisy),
    "a random part of a data set": setup(split, step=noisy),
    "a list": setup(lambda: [(ROWS[:4], TARGETS[:4]), (ROWS[4:], TARGETS[4:])], step=noisy),
    "a generator": setup(lambda: ((x, y) for x, y in [(ROWS, TARGETS)] * 4), step=noisy, steps_per_epoch=2),
    "numpy batches": setup(lambda: batches(ROWS.numpy(), TARGETS.numpy(), batch_size=3), step=of_arrays),
    "a part of each pass": setup(loader(generator=own_generator), step=noisy, steps_per_epoch=2),
    "half of each batch": setup(half(), step=noisy, epochs=3, evaluate_every="3 steps", quick=[1, 3, 4, 8]),
    "half of each batch, padded": setup(half(last="pad"), step=weighing, epochs=3),
    "half of each batch, in 2 workers": setup(half(num_workers=2), step=noisy, quick=[3, 4]),
    "half of each batch, padded, in 2 workers": setup(half(last="pad", num_workers=2), step=weighing, quick=[1, 2]),
    "half of each batch, in persistent workers": setup(
        half(num_workers=2, persistent_workers=True), step=noisy, epochs=3, quick=[3, 4, 8]
    ),
    "half of each batch, of samples that draw, padded, in persistent workers": setup(
        half(seeded(Drawing(), seed=3), last="pad", num_workers=2, persistent_workers=True),
        step=weighing,
        epochs=3,
        quick=[1, 3, 4],
    ),
    "half of each batch, torchdata's stateful loader": setup(half(saves=True), step=noisy, epochs=3, quick=[1, 4, 8]),
    "half of each batch, padded, torchdata's stateful loader": setup(half(last="pad", saves=True), step=weighing),
    "half of each batch, torchdata's stateful loader with 2 workers": setup(
        half(saves=True, num_workers=2), step=noisy, quick=[3, 4]
    ),
    "half of each batch, torchdata's stateful loader with persistent workers": setup(
        half(saves=True, num_workers=2, persistent_workers=True), step=noisy, epochs=3, quick=[3, 4, 9]
    ),
    "half of each batch, Fabric's loader": setup(lambda: of_fabric(half()), step=noisy, epochs=3, quick=[1, 4, 8]),
    "half of each batch, accelerate's loader": setup(
        lambda: of_accelerate(half()), step=noisy, epochs=3, quick=[1, 4, 8]
    ),
    "a part of each pass of half of each batch": setup(half(), step=noisy, epochs=3, steps_per_epoch=3),
}

GROUPS: dict[str, SetUp] = {
    f"{name}, in groups": setup(in_twos(data), step=in_groups, model=linear, **settings)
    for name, (data, settings) in {
        "shuffled": (loader(), {"evaluate_every": "2 steps"}),
        "distributed": (
            loader(sampler=lambda: torch_data.DistributedSampler(EXAMPLES, 2, 0), batch_size=1),
            {"evaluate_every": 1},
        ),
        "2 workers": (loader(num_workers=2), {"quick": [1, 2]}),
        "persistent workers, seeded": (
            loader(seeded(Drawing(), seed=3), num_workers=2, persistent_workers=True),
            {"epochs": 3, "quick": [3, 5]},
        ),
        "an iterable data set": (loader(Stream()), {}),
        "torchdata's stateful loader": (stateful(), {}),
        "torchdata's stateful loader with 1 worker": (stateful(num_workers=1), {"quick": [1, 2]}),
        "Fabric's loader": (of_fabric, {}),
        "accelerate's loader": (of_accelerate, {}),
        "a part of each pass": (loader(batch_size=1, generator=own_generator), {"steps_per_epoch": 3}),
    }.items()
}

REST: dict[str, SetUp] = {
    "autocast to bfloat16": setup(step=in_bfloat16, model=mlp),
    "a GradScaler that skips": setup(loader(), scheduled(schedules.Exponential(0.9)), step=scaled, epochs=3),
    "accumulated gradients": setup(
        loader(), scheduled(schedules.Exponential(0.9)), step=accumulating, epochs=3, cuts=[3, 6]
    ),
    "an average of the weights": setup(step=averaging, model=mlp),
    "metrics of torchmetrics": setup(
        loader(),
        lambda parts: EarlyStopping("val_ranks", mode="max", patience=20),
        step=measuring,
        evaluate_every="2 steps",
    ),
    "a moving average, evaluated within epochs": setup(
        loader(), lambda parts: WeightAverage(0.9), step=scaled, model=mlp, evaluate_every="2 steps", epochs=3
    ),
    "the mean of the last epochs, saved in the background": setup(
        loader(),
        lambda parts: WeightAverage(None, interval="epoch", start=2),
        lambda parts: Checkpoint("checkpoints", monitor="val_loss", background=True),
        model=mlp,
        evaluate_every=1,
        epochs=4,
    ),
    "a moving average of a network in bfloat16, channels last": setup(
        loader(TensorDataset(IMAGES.bfloat16(), TARGETS.bfloat16())),
        lambda parts: WeightAverage(schedules.Linear(0.5, 0.99)),
        model=lambda: cnn().bfloat16(),
        step=of_images,
    ),
    "a recurrent network": setup(model=Recurrent, step=noisy),
    "a frozen batch norm, evaluated within epochs": setup(model=partly_frozen, step=noisy, evaluate_every="2 steps"),
    "a frozen batch norm, evaluated after epochs": setup(model=partly_frozen, step=noisy, evaluate_every=1),
    "PyTorch's plateau": setup(
        loader(),
        scheduled(lambda optimizer: theirs.ReduceLROnPlateau(optimizer, patience=0), "epoch", monitor="val_loss"),
        evaluate_every=1,
        epochs=3,
    ),
    "a plateau": setup(
        loader(),
        scheduled(lambda optimizer: ReduceLROnPlateau(optimizer, patience=0), "epoch", monitor="val_loss"),
        evaluate_every="2 steps",
        epochs=3,
    ),
    "a plateau that lowers a schedule": setup(
        loader(),
        scheduled(
            # No loss improves by so much.
            lambda optimizer: ReduceLROnPlateau(
                optimizer, patience=0, threshold=1e6, threshold_mode="abs", schedule=schedules.Constant().warmup(2)
            ),
            "epoch",
            monitor="val_loss",
        ),
        evaluate_every="2 steps",
        epochs=3,
    ),
    "PyTorch's one cycle": setup(
        loader(),
        scheduled(lambda optimizer: theirs.OneCycleLR(optimizer, 0.1, total_steps=6)),
        optimizer=of(torch.optim.SGD, momentum=0.9),
    ),
    "one cycle": setup(loader(), scheduled(lambda optimizer: OneCycleLR(optimizer, 0.1, total_steps=6))),
    "a cosine after a warm-up": setup(loader(), scheduled(schedules.Cosine().warmup("20%", start=0.0)), epochs=3),
    "PyTorch's sequence": setup(
        loader(),
        scheduled(
            lambda optimizer: theirs.SequentialLR(
                optimizer,
                [theirs.LinearLR(optimizer, 0.1, total_iters=2), theirs.CosineAnnealingLR(optimizer, 4)],
                [2],
            )
        ),
    ),
    "callbacks of one family each": setup(
        loader(),
        lambda parts: CosineAnnealingLRCallback(5, 0.001, interval="step"),
        lambda parts: EarlyStopping("val_loss", mode="min", patience=20, restore_best=True),
        lambda parts: Tally(),
        lambda parts: TerminateOnNaN(),
        lambda parts: CSVLogger("table.csv"),
        lambda parts: Checkpoint("checkpoints", monitor="val_loss", mode="min", every=2, interval="step", keep=2),
        model=mlp,
        evaluate_every=1,
        epochs=3,
    ),
    "a stop for want of improvement": setup(
        loader(), lambda parts: EarlyStopping("val_loss", mode="max", patience=3), evaluate_every="1 step", epochs=3
    ),
    "saved in the background": setup(
        loader(),
        lambda parts: Checkpoint("checkpoints", every=1, interval="step", keep=1, background=True),
        model=mlp,
    ),
}

SETUPS: dict[str, SetUp] = {**OPTIMIZERS, **DATA, **GROUPS, **REST}
