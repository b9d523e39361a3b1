"""Runs on a CUDA device where there is one, else on the CPU: a resumed one ends in the same bits, no step waits."""

import os

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic

import io
import random
import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import define, field
from rich.console import Console
from torch.utils.data import DataLoader, TensorDataset

from lucid_train import (
    Callback,
    EpochEnd,
    EpochStart,
    History,
    StepEnd,
    StepResult,
    StepStart,
    Trainer,
    read_checkpoint,
    schedules,
)
from lucid_train.callbacks import Checkpoint, EarlyStopping, EventLog, LRSchedulerCallback, RichLogger, TerminateOnNaN
from lucid_train.saving.fingerprint import fingerprint
from lucid_train.training import feed

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EPOCHS, STEPS = 2, 5


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def network() -> torch.nn.Sequential:
    layers = (
        torch.nn.Linear(8, 16),
        torch.nn.BatchNorm1d(16),
        torch.nn.ReLU(),
        torch.nn.Dropout(),
        torch.nn.Linear(16, 2),
    )
    return torch.nn.Sequential(*layers).to(DEVICE)


def loader() -> DataLoader[Any]:
    rows = torch.randn(6 * STEPS, 8, generator=torch.Generator().manual_seed(1))
    return DataLoader(
        TensorDataset(rows, (rows.sum(1) > 0).long()), batch_size=6, shuffle=True, pin_memory=DEVICE == "cuda"
    )


@define
class Setup:
    """What a set-up trains, how a step is done, and what else belongs to its state."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    extras: dict[str, Any] = field(factory=dict)
    autocast: torch.dtype | None = None
    scaler: Any = None
    noise: torch.Generator | None = None

    def step(self, batch: Any) -> Any:
        inputs, targets = (each.to(DEVICE, non_blocking=True) for each in batch)
        if self.noise is not None:
            inputs = inputs + 0.1 * torch.randn(inputs.shape, device=DEVICE, generator=self.noise)
        self.optimizer.zero_grad()
        with torch.autocast(DEVICE, self.autocast, enabled=self.autocast is not None):
            loss = torch.nn.functional.cross_entropy(self.model(inputs), targets)
        if self.scaler is None:
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            self.optimizer.step()
            return {"loss": loss, "double": 2 * loss}
        self.scaler.scale(loss).backward()
        before = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return StepResult(loss, updated=False) if self.scaler.get_scale() < before else loss

    def evaluate(self) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            return {"val_loss": self.model(torch.ones(4, 8, device=DEVICE)).square().mean()}


def plain() -> Setup:
    model = network()
    return Setup(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


def groups_with_tensor_rates() -> Setup:
    model = network()
    rate = torch.tensor(0.01, device=DEVICE)
    parts = [{"params": model[0].parameters(), "lr": rate}, {"params": model[4].parameters(), "lr": rate.clone() / 10}]
    return Setup(model, torch.optim.Adam(parts, lr=rate.clone(), capturable=DEVICE == "cuda"))


def fused() -> Setup:
    model = network()
    return Setup(model, torch.optim.AdamW(model.parameters(), lr=0.01, fused=True))


def bfloat16() -> Setup:
    setup = plain()
    return Setup(setup.model, setup.optimizer, autocast=torch.bfloat16)


def gradient_scaler() -> Setup:
    setup = plain()
    # So large that the first steps are skipped, and growing often: the scale is part of the state.
    scaler = torch.amp.GradScaler(DEVICE, init_scale=2.0**24, growth_interval=2)
    return Setup(setup.model, setup.optimizer, {"scaler": scaler}, torch.float16, scaler)


def own_generator() -> Setup:
    setup, noise = plain(), torch.Generator(DEVICE).manual_seed(7)
    return Setup(setup.model, setup.optimizer, {"noise": noise}, noise=noise)


SETUPS = [plain, groups_with_tensor_rates, fused, bfloat16, gradient_scaler, own_generator]


def seeded(build: Callable[[], Setup], seed: int) -> Setup:
    random.seed(seed)
    torch.manual_seed(seed)  # of all devices
    return build()


def trainer(setup: Setup, *callbacks: Callback, epochs: int = EPOCHS) -> Trainer:
    return Trainer(
        setup.step,
        loader(),
        epochs=epochs,
        model=setup.model,
        optimizer=setup.optimizer,
        evaluate=setup.evaluate,
        extras=setup.extras,
        callbacks=[LRSchedulerCallback(schedules.Cosine().warmup(2), interval="step"), *callbacks],
    )


def bits(setup: Setup, history: History) -> dict[str, Any]:
    """Everything that the training changes, as numbers that compare to the last bit."""
    model = {name: tensor.cpu().tolist() for name, tensor in setup.model.state_dict().items()}
    slots = [
        {name: value.cpu().tolist() if isinstance(value, torch.Tensor) else value for name, value in slot.items()}
        for slot in setup.optimizer.state_dict()["state"].values()
    ]
    rates = [float(group["lr"]) for group in setup.optimizer.param_groups]
    extras = [each.state_dict() for each in setup.extras.values() if hasattr(each, "state_dict")]
    drawn = [torch.rand(3, device=DEVICE, generator=setup.noise).tolist(), torch.rand(3).tolist(), random.random()]
    records = [(record.metrics, record.lr, record.last_lr) for record in history]
    return {"records": records, "rates": rates, "drawn": drawn, "extras": extras, "model": model, "slots": slots}


class CutOff(Exception):
    """Ends a run at a step, without a last checkpoint."""


def die(event: StepEnd) -> None:
    raise CutOff


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:LRSchedulerCallback.*never reaches its end:UserWarning")  # with a GradScaler
@pytest.mark.parametrize("build", SETUPS, ids=lambda build: build.__name__)
def test_a_run_that_is_resumed_after_any_step_ends_in_the_same_bits(build: Callable[[], Setup], tmp_path: Path) -> None:
    setup = seeded(build, 3)
    history = trainer(setup).fit()
    expected = bits(setup, history)
    for cut in range(1, EPOCHS * STEPS):
        setup, checkpoint = seeded(build, 3), Checkpoint(tmp_path / str(cut), every=None)
        run = trainer(setup, checkpoint)
        run.on(StepEnd, at=cut)(lambda event, checkpoint=checkpoint: checkpoint.save())
        run.on(StepEnd, at=cut + 1)(die)
        with pytest.raises(CutOff):
            run.fit()
        setup = seeded(build, 99)
        history = trainer(setup, Checkpoint(tmp_path / str(cut))).fit(resume="auto")
        assert bits(setup, history) == expected, f"resumed after step {cut}"


def test_a_checkpoint_of_tensors_on_a_device_is_read_without_it(tmp_path: Path) -> None:
    setup = seeded(fused, 3)
    checkpoint = Checkpoint(tmp_path)
    trainer(setup, checkpoint, epochs=1).fit()
    assert checkpoint.last_file is not None
    weights = read_checkpoint(checkpoint.last_file)["model"]
    for name, tensor in setup.model.state_dict().items():
        assert torch.equal(torch.as_tensor(weights[name]).cpu(), tensor.cpu()), name


@define(eq=False)
class NothingWaits(Callback):
    """Refuses, from an epoch's first event to its last step, what reads a tensor or, on CUDA, waits for the device.

    What the step function itself does is not looked at, but on CUDA; nor are the fingerprints of batches 1, 2, 4, ...
    """

    steps: int = field(default=0, init=False)
    watching: bool = field(default=False, init=False)

    def watch(self, watching: bool) -> None:
        self.watching = watching
        if DEVICE == "cuda":
            torch.cuda.set_sync_debug_mode("error" if watching else "default")

    def on_epoch_start(self, event: EpochStart) -> None:
        self.watch(event.epoch > 1)  # the first one loads kernels

    def on_step_start(self, event: StepStart) -> None:
        self.watching = False

    def on_step_end(self, event: StepEnd) -> None:
        self.steps += 1
        if self.steps % STEPS == 0:
            self.watch(False)

    def refuse_reads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("__float__", "__bool__", "__int__", "item", "tolist", "numpy"):
            method = getattr(torch.Tensor, name)

            def read(*args: Any, method: Any = method, **options: Any) -> Any:
                # The display's thread reads copies that have arrived.
                arrived = args[0].device.type == "cpu" and threading.current_thread() is not threading.main_thread()
                assert not self.watching or arrived, f"{method.__name__} in step {self.steps}"
                return method(*args, **options)

            monkeypatch.setattr(torch.Tensor, name, read)
        monkeypatch.setattr(feed, "fingerprint", self.fingerprint)

    def fingerprint(self, batch: Any) -> str | None:
        watching = self.watching
        self.watch(False)
        try:
            return fingerprint(batch)
        finally:
            self.watch(watching)

    def around(self, step: Callable[[Any], Any], batch: Any) -> Any:
        """Do a step, after which reading is refused again."""
        output = step(batch)
        self.watching = self.steps >= STEPS
        return output


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize(
    "build", [plain, groups_with_tensor_rates, fused, bfloat16, own_generator], ids=lambda b: b.__name__
)
def test_no_step_waits_for_the_device(
    build: Callable[[], Setup], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, watch = seeded(build, 3), NothingWaits()
    batches = [[each.to(DEVICE) for each in batch] for batch in loader()]
    run = trainer(
        setup, EarlyStopping("val_loss", patience=9), TerminateOnNaN(interval="epoch"), EventLog(tmp_path / "log.jsonl")
    )
    screen = io.StringIO()
    display = RichLogger(Console(file=screen, force_terminal=True, width=100))
    run.data, run.callbacks = batches, (*run.callbacks, display, watch)
    run.step = partial(watch.around, setup.step)

    @run.on(StepEnd)
    def draw(event: StepEnd) -> None:
        """Draw as the display's thread does, in a thread and after every step."""
        drawing = threading.Thread(target=lambda: Console(file=screen, width=100).print(display.moving))
        drawing.start()
        drawing.join()

    watch.refuse_reads(monkeypatch)
    try:
        run.fit(3)
    finally:
        watch.watch(False)
    assert watch.steps == 3 * STEPS
    assert re.search(rf"epoch 3/3 .* [1-{STEPS}]/{STEPS}  loss \d", screen.getvalue())


def test_an_epoch_reads_a_metric_from_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = seeded(plain, 3)
    reads: list[str] = []
    real = torch.Tensor.__float__

    def read(self: torch.Tensor) -> float:
        reads.append(self.device.type)
        return real(self)

    monkeypatch.setattr(torch.Tensor, "__float__", read)
    run = trainer(setup, epochs=1)
    run.on(EpochEnd)(lambda event: reads.append("end"))
    run.fit()
    assert reads == [DEVICE] * 3 + ["end"]
