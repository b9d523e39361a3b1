"""A program that uses the library as people do. It runs, and type checkers find nothing in it."""

from __future__ import annotations

import random
import sys

import numpy as np
import torch
from attrs import define, field, frozen
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lucid_train import (
    Callback,
    EpochEnd,
    EpochReport,
    EpochStart,
    EvaluateEnd,
    EvaluateStart,
    Event,
    FitEnd,
    FitError,
    FitStart,
    Run,
    Saved,
    StepEnd,
    StepResult,
    StepStart,
    Trainer,
    on,
    track,
)
from lucid_train.callbacks import (
    Checkpoint,
    EarlyStopping,
    LRSchedulerCallback,
    RichLogger,
    TerminateOnNaN,
    WeightAverage,
)
from lucid_train.callbacks.display.columns import Column, DataWait, ItemsPerSecond
from lucid_train.callbacks.display.throughput import Throughput
from lucid_train.optims.lr_scheduler import LRScheduler, StepLR
from lucid_train.schedules import Cosine, Function, Linear, Schedule

Batch = list[Tensor]


@frozen
class Sawtooth(Schedule):
    """A schedule of one's own."""

    period: int = 4

    def affine(self, t: int) -> tuple[float, float]:
        return 1.0 - 0.5 * (t % self.period) / self.period, 0.0


@define(kw_only=True)
class LossSpike(Event):
    """An event of one's own."""

    step: int
    factor: float


@define(eq=False)
class Witness(Callback):
    """A callback with every hook."""

    limit: float = 1e9
    seen: list[str] = field(factory=list, init=False)
    _best: float | None = field(default=None, init=False)

    def on_fit_start(self, event: FitStart) -> None:
        run: Run = event.run
        self.note(f"fit of {run.epochs} epochs, {run.steps_per_epoch or 0} steps each")
        run.at_safe_point(lambda: self.note("saved now, it would go on exactly"))

    def on_epoch_start(self, event: EpochStart) -> None:
        self.note(f"epoch {event.epoch}")

    def on_step_start(self, event: StepStart) -> None:
        self.note(f"step {event.step} of epoch {event.epoch}")

    def on_step_end(self, event: StepEnd) -> None:
        if event.updated and event.loss > self.limit:
            event.run.emit(LossSpike(run=event.run, step=event.step, factor=event.loss / self.limit))

    def on_evaluate_start(self, event: EvaluateStart) -> None:
        self.note("within an epoch" if event.within_epoch else "at its end")

    def on_evaluate_end(self, event: EvaluateEnd) -> None:
        self.note(", ".join(f"{name} {value:.3f}" for name, value in event.metrics.items()))

    def on_epoch_end(self, event: EpochEnd) -> None:
        super().on_epoch_end(event)
        loss = event.metrics["val_loss"]
        self._best = loss if self._best is None else min(self._best, loss)
        self.note(f"lr {event.lr[0]:g}, next {event.run.last_lr[0]:g}")

    def on_epoch_report(self, event: EpochReport) -> None:
        self.note(f"{event.record.steps} steps in {event.record.seconds:.1f} s")

    def on_saved(self, event: Saved) -> None:
        self.note(event.file.name)

    def on_fit_error(self, event: FitError) -> None:
        self.note(type(event.error).__name__)

    def on_fit_end(self, event: FitEnd) -> None:
        self.note(f"{event.status}: {event.reason or 'as planned'}, {len(event.history)} epochs")

    def on_loss_spike(self, event: LossSpike) -> None:
        event.run.stop(f"step {event.step} has {event.factor:.1f} times the limit")

    @on(StepEnd, every=10, when=lambda event: event.loss > 0)
    @on(EpochEnd)
    def beat(self, event: StepEnd | EpochEnd) -> None:
        self.note(f"beat in epoch {event.epoch}")

    def note(self, text: str) -> None:
        self.seen.append(text)


class Elapsed(Column):
    """A column of one's own."""

    def render(self, now: Throughput) -> str:
        return f"epoch {now.run.epoch}"


torch.manual_seed(0)
x = torch.randn(64, 4)
y = (x.sum(dim=1) > 0).long()
loader: DataLoader[tuple[Tensor, ...]] = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
criterion = nn.CrossEntropyLoss()


def train_step(batch: Batch) -> StepResult:
    inputs, targets = batch
    optimizer.zero_grad()
    loss = criterion(model(inputs), targets)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return StepResult({"loss": loss, "norm": norm}, weight=len(targets))


@torch.no_grad()
def evaluate() -> dict[str, float | Tensor]:
    right = 0
    for inputs, targets in track(loader):
        right += int((model(inputs).argmax(dim=1) == targets).sum())
    return {"loss": criterion(model(x), y), "accuracy": right / len(y)}


witness = Witness(limit=1e6)
trainer = Trainer(
    step=train_step,
    data=loader,
    model=model,
    optimizer=optimizer,
    evaluate=evaluate,
    evaluate_every=1,
    epochs=3,
    extras={"dropout": torch.Generator(), "order": np.random.default_rng(0), "noise": random.Random(0), "head": model},
    callbacks=[
        LRSchedulerCallback(Cosine().warmup("5%"), interval="step"),
        EarlyStopping("val_loss", patience=3),
        TerminateOnNaN(),
        WeightAverage(Linear(0.9, 0.999), start="10%"),
        Checkpoint(sys.argv[1], every=1, monitor="val_accuracy"),
        witness,
        RichLogger(
            bars=False,
            monitor="val_accuracy",
            metrics=["loss", "val_accuracy"],
            columns=[DataWait(), ItemsPerSecond("sample"), Elapsed()],
        ),
    ],
)


@trainer.on(StepEnd, every=10, when=lambda event: event.loss < 10)
def look(event: StepEnd) -> None:
    print(f"step {event.step}: {event.metrics}")


@trainer.on(LossSpike)
def spiked(event: LossSpike) -> None:
    print(event.factor)


@trainer.on(EpochStart)
@trainer.on(EpochEnd)
def both(event: EpochStart | EpochEnd) -> None:
    print(event.epoch)


print(trainer.plan())
history = trainer.fit(resume="auto")
best = history.best("val_accuracy")
print(best.epoch, best.metrics["val_accuracy"], history[-1].last_lr, witness.seen[-1])

# Schedulers alone: of a torch optimizer, of groups, of a schedule of one's own.
again = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "name": "body"}], lr=0.1)
scheduler = StepLR(again, step_size=2, gamma=0.5)
again.step()
scheduler.step()
rates: list[float] = scheduler.last_lr
later: list[float] = scheduler.lr_at(100)
by_group = LRScheduler(again, {"body": Sawtooth(3) * Function(lambda t: 0.9**t)}, base_lrs=[0.1])
theirs = LRSchedulerCallback(torch.optim.lr_scheduler.StepLR(again, step_size=2))
plateau = LRSchedulerCallback(torch.optim.lr_scheduler.ReduceLROnPlateau(again), monitor="val_loss")
joined: Schedule = Linear(0.1, 1.0, 5).then(Sawtooth()) * Function(lambda t: 0.9**t)
number: float = joined(3, base=0.1)
table = joined(np.arange(4), base=0.1)
print(rates, later, by_group.last_lr, number, table.shape, theirs.interval, plateau.monitor)
