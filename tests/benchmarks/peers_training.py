"""One real training in every framework that is installed: `python tests/benchmarks/peers_training.py`.

A small convolutional network learns the handwritten digits: 6 epochs of 38 steps with AdamW, a warm-up and a cosine per
step, the mean loss and the accuracy of the steps, an evaluation per epoch, early stopping that does not act, and the
display, as a user of each framework writes it. All get the same weights, batches and rates, and the program checks that
they come to the same loss. Seconds are of the clock, so that the machine must be quiet. `--page` puts the table into
docs/performance.md; a number is that of the repeats, and names are the frameworks to train in.
"""

from __future__ import annotations

import inspect
import logging
import math
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from attrs import define
from measure import into_page
from peers import piped
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lucid_train.data import digits

EPOCHS, BATCH, LR, WARMUP, DECAY, PATIENCE = 6, 32, 1e-2, 12, 0.01, 10


def factor(t: int) -> float:
    """Return what the rate of step `t`, from 0, is multiplied by: from a tenth up, then down a cosine."""
    if t < WARMUP:
        return 0.1 + 0.9 * t / WARMUP
    return 0.5 + 0.5 * math.cos(math.pi * (t - WARMUP) / (STEPS - WARMUP))


def network() -> nn.Sequential:
    """Return the network, with the same weights each time."""
    torch.manual_seed(0)
    first = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(64, 10))


def batches(images: Any, labels: Any) -> list[Any]:
    """Return the batches of an epoch, which are the same in each."""
    images = torch.from_numpy(images).float().reshape(-1, 1, 8, 8)
    return [*zip(images.split(BATCH), torch.from_numpy(labels).split(BATCH), strict=True)]


_images, _labels, _test_images, _test_labels = digits()
# The batches are ready: what making them costs has nothing to do with the framework.
TRAIN, TEST = (
    DataLoader(batches(*each), batch_size=None) for each in ((_images, _labels), (_test_images, _test_labels))
)
STEPS = EPOCHS * len(TRAIN)

# What a framework has set up: called once, it trains, and returns the logits of images by what it has trained.
Run = Callable[[], Callable[[Any], Any]]


def by_hand() -> Run:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    def evaluate() -> tuple[float, float]:
        model.eval()
        loss, right, count = torch.zeros(()), torch.zeros(()), 0
        with torch.no_grad():
            for x, y in TEST:
                logits = model(x)
                loss += cross_entropy(logits, y, reduction="sum")
                right += (logits.argmax(1) == y).sum()
                count += len(y)
        model.train()
        return float(loss) / count, float(right) / count

    def run() -> Callable[[Any], Any]:
        best, epochs_without_improvement = math.inf, 0
        for epoch in range(1, EPOCHS + 1):
            total, right, count = torch.zeros(()), torch.zeros(()), 0
            for x, y in TRAIN:
                optimizer.zero_grad()
                logits = model(x)
                loss = cross_entropy(logits, y)
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.detach() * len(y)
                right += (logits.argmax(1) == y).sum()
                count += len(y)
            val_loss, val_accuracy = evaluate()
            print(
                f"epoch {epoch}/{EPOCHS} loss {float(total) / count:.4f} accuracy {float(right) / count:.4f} "
                f"val_loss {val_loss:.4f} val_accuracy {val_accuracy:.4f}"
            )
            epochs_without_improvement = 0 if val_loss < best else epochs_without_improvement + 1
            best = min(best, val_loss)
            if epochs_without_improvement > PATIENCE:
                break
        return model

    return run


def lucid_train() -> Run:
    from lucid_train import StepResult, Trainer, schedules
    from lucid_train.callbacks import EarlyStopping, LRSchedulerCallback, RichLogger

    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=DECAY)

    def step(batch: Any) -> StepResult:
        x, y = batch
        optimizer.zero_grad()
        logits = model(x)
        loss = cross_entropy(logits, y)
        loss.backward()
        optimizer.step()
        return StepResult({"loss": loss, "accuracy": (logits.argmax(1) == y).float().mean()}, weight=len(y))

    def evaluate() -> dict[str, Any]:
        loss, right, count = torch.zeros(()), torch.zeros(()), 0
        with torch.no_grad():
            for x, y in TEST:
                logits = model(x)
                loss += cross_entropy(logits, y, reduction="sum")
                right += (logits.argmax(1) == y).sum()
                count += len(y)
        return {"loss": loss / count, "accuracy": right / count}

    trainer = Trainer(
        step=step,
        data=TRAIN,
        model=model,
        optimizer=optimizer,
        evaluate=evaluate,
        epochs=EPOCHS,
        callbacks=[
            LRSchedulerCallback(schedules.Cosine().warmup(WARMUP, start=0.1), interval="step"),
            EarlyStopping("val_loss", patience=PATIENCE),
            RichLogger(),
        ],
    )

    def run() -> Callable[[Any], Any]:
        trainer.fit()
        return model

    return run


def ignite() -> Run:
    from ignite.engine import Engine, Events
    from ignite.handlers import EarlyStopping, LRScheduler, ProgressBar
    from ignite.metrics import Accuracy, Loss

    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=DECAY)

    def step(engine: Any, batch: Any) -> dict[str, Any]:
        model.train()
        x, y = batch
        optimizer.zero_grad()
        logits = model(x)
        loss = cross_entropy(logits, y)
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach(), "logits": logits.detach(), "y": y}

    def look(engine: Any, batch: Any) -> Any:
        model.eval()
        with torch.no_grad():
            return model(batch[0]), batch[1]

    trainer, evaluator = Engine(step), Engine(look)
    Loss(cross_entropy, output_transform=lambda out: (out["logits"], out["y"])).attach(trainer, "loss")
    Accuracy(output_transform=lambda out: (out["logits"], out["y"])).attach(trainer, "accuracy")
    Loss(cross_entropy).attach(evaluator, "val_loss")
    Accuracy().attach(evaluator, "val_accuracy")
    trainer.add_event_handler(
        Events.ITERATION_STARTED, LRScheduler(torch.optim.lr_scheduler.LambdaLR(optimizer, factor))
    )
    bar = ProgressBar()
    bar.attach(trainer, output_transform=lambda out: {"batch loss": float(out["loss"])})

    @trainer.on(Events.EPOCH_COMPLETED)
    def evaluate(engine: Any) -> None:
        evaluator.run(TEST)
        bar.log_message(f"epoch {engine.state.epoch} {engine.state.metrics} {evaluator.state.metrics}")

    stopping = EarlyStopping(PATIENCE, lambda engine: -engine.state.metrics["val_loss"], trainer)
    evaluator.add_event_handler(Events.COMPLETED, stopping)

    def run() -> Callable[[Any], Any]:
        trainer.run(TRAIN, max_epochs=EPOCHS)
        return model

    return run


def pytorch_lightning() -> Run:
    import pytorch_lightning as lightning
    from pytorch_lightning.callbacks import EarlyStopping

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = network()

        def measure(self, batch: Any, prefix: str) -> Any:
            x, y = batch
            logits = self.model(x)
            loss = cross_entropy(logits, y)
            accuracy = (logits.argmax(1) == y).float().mean()
            found = {f"{prefix}loss": loss, f"{prefix}accuracy": accuracy}
            self.log_dict(found, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(y))
            return loss

        def training_step(self, batch: Any, index: int) -> Any:
            return self.measure(batch, "")

        def validation_step(self, batch: Any, index: int) -> None:
            self.measure(batch, "val_")

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), lr=LR, weight_decay=DECAY)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    module = Module()
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        callbacks=[EarlyStopping("val_loss", patience=PATIENCE)],
    )

    def run() -> Callable[[Any], Any]:
        trainer.fit(module, TRAIN, TEST)
        return module.model

    return run


def keras() -> Run:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras
    import numpy as np
    from keras import layers

    class Rate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc, unused-ignore]
        def __call__(self, step: Any) -> Any:
            return LR * factor(int(step))

    def convolution(channels: int) -> Any:
        return layers.Conv2D(channels, 3, padding="same", activation="relu", data_format="channels_first")

    def pooling() -> Any:
        return layers.MaxPooling2D(2, data_format="channels_first")

    model = keras.Sequential(
        [layers.Input((1, 8, 8)), convolution(8), pooling(), convolution(16), pooling(), layers.Flatten()]
    )
    model.add(layers.Dense(10))
    weights = [each.detach().numpy() for each in network().parameters()]
    model.set_weights([each.transpose(2, 3, 1, 0) if each.ndim == 4 else each.T for each in weights])
    model.compile(
        optimizer=keras.optimizers.AdamW(Rate(), weight_decay=DECAY, epsilon=1e-8),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

    stopping = keras.callbacks.EarlyStopping("val_loss", patience=PATIENCE)

    def run() -> Callable[[Any], Any]:
        # Its documentation recommends verbose=2 where nobody looks, as in a pipe: a line per epoch.
        model.fit(TRAIN, validation_data=TEST, epochs=EPOCHS, verbose=2, callbacks=[stopping])
        return lambda images: torch.from_numpy(np.asarray(model.predict_on_batch(images.numpy())))

    return run


def skorch() -> Run:
    from skorch import NeuralNetClassifier
    from skorch.callbacks import EarlyStopping, EpochScoring, LRScheduler
    from skorch.helper import predefined_split

    train, test = (TensorDataset(*map(torch.cat, zip(*each, strict=True))) for each in (TRAIN, TEST))
    net = NeuralNetClassifier(
        network,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=DECAY,
        lr=LR,
        max_epochs=EPOCHS,
        classes=list(range(10)),
        train_split=predefined_split(test),
        iterator_train=lambda dataset, **_: TRAIN,
        iterator_valid=lambda dataset, **_: TEST,
        callbacks=[
            LRScheduler(torch.optim.lr_scheduler.LambdaLR, lr_lambda=factor, step_every="batch"),
            EpochScoring("accuracy", name="train_acc", on_train=True, lower_is_better=False),
            EarlyStopping(patience=PATIENCE),
        ],
    )

    def run() -> Callable[[Any], Any]:
        net.fit(train, None)
        return net.module_  # type: ignore[no-any-return, unused-ignore]

    return run


def transformers() -> Run:
    from transformers import EarlyStoppingCallback, Trainer, TrainingArguments

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = network()

        def forward(self, x: Any, labels: Any) -> dict[str, Any]:
            logits = self.model(x)
            return {"loss": cross_entropy(logits, labels), "logits": logits}

    class Ready(Trainer):  # type: ignore[misc, unused-ignore]
        def get_train_dataloader(self) -> Any:
            return DataLoader(self.train_dataset, batch_size=None)

        def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
            return DataLoader(eval_dataset or self.eval_dataset, batch_size=None)

    train, test = ([{"x": x, "labels": y} for x, y in each] for each in (TRAIN, TEST))
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=DECAY)
    trainer = Ready(
        model,
        TrainingArguments(
            tempfile.mkdtemp(),
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=BATCH,
            max_grad_norm=0.0,
            eval_strategy="epoch",
            logging_strategy="epoch",
            save_strategy="no",
            metric_for_best_model="eval_loss",
            report_to="none",
            use_cpu=True,
        ),
        train_dataset=train,
        eval_dataset=test,
        compute_metrics=lambda each: {"accuracy": float((each.predictions.argmax(1) == each.label_ids).mean())},
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)),
        callbacks=[EarlyStoppingCallback(PATIENCE)],
    )

    def run() -> Callable[[Any], Any]:
        trainer.train()
        return model.model

    return run


BUILD: dict[str, Callable[[], Run]] = {
    "by_hand": by_hand,
    "lucid_train": lucid_train,
    "ignite": ignite,
    "pytorch_lightning": pytorch_lightning,
    "keras": keras,
    "skorch": skorch,
    "transformers": transformers,
}
# What a pip installs, and the name in the table.
PACKAGES = {"lucid_train": "lucid-train", "ignite": "pytorch-ignite", "pytorch_lightning": "pytorch-lightning"}
TITLES = {
    "by_hand": "the loop by hand",
    "lucid_train": "lucid_train",
    "ignite": "Ignite {}",
    "pytorch_lightning": "Lightning {}",
    "keras": "Keras {} on PyTorch",
    "skorch": "skorch {}",
    "transformers": "transformers' Trainer {}",
}
IMPORTS = {
    "lucid_train": "from lucid_train.callbacks import EarlyStopping, LRSchedulerCallback, RichLogger; "
    "from lucid_train import Trainer, schedules",
    "ignite": "from ignite import engine, handlers, metrics",
    "pytorch_lightning": "import pytorch_lightning",
    "keras": "import keras",
    "skorch": "import skorch",
    "transformers": "from transformers import Trainer",
}
# Its AdamW adds epsilon before the bias of the second moment is corrected, and computes its rates in float32.
OTHER_ARITHMETIC = {"keras"}


@define
class Found:
    """What is measured of one framework: the seconds of each set-up and run, and what the last has trained."""

    set_up: list[float]
    seconds: list[float]
    loss: float = math.nan
    accuracy: float = math.nan

    def measure(self, build: Callable[[], Run]) -> None:
        """Set up and train once more."""
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            began = perf_counter()
            run = build()
            ready = perf_counter()
            trained = run()
            ended = perf_counter()
        self.set_up.append(ready - began)
        self.seconds.append(ended - ready)
        self.loss, self.accuracy = judged(trained)


def judged(trained: Callable[[Any], Any]) -> tuple[float, float]:
    """Return the loss of what was trained over the training set, and its accuracy over the test set."""
    with torch.no_grad():
        losses = [cross_entropy(trained(x), y, reduction="sum") for x, y in TRAIN]
        right = [(trained(x).argmax(1) == y).sum() for x, y in TEST]
    return (
        float(sum(losses)) / sum(len(y) for _, y in TRAIN),
        float(sum(right)) / sum(len(y) for _, y in TEST),
    )


def importing(name: str) -> float:
    """Return the seconds that the framework's import takes after PyTorch's."""
    code = f"import torch; from time import perf_counter as now; began = now(); {IMPORTS[name]}; print(now() - began)"
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return float(printed.stdout.split()[-1])


def lines_of(build: Callable[[], Run]) -> int:
    """Return how many lines the training in a framework takes, imports included."""
    return sum(bool(line.strip()) for line in inspect.getsource(build).splitlines())


def check_losses(found: dict[str, Found]) -> None:
    """Refuse a table whose rows have not trained the same."""
    expected = found["by_hand"].loss
    for name, each in found.items():
        if name not in OTHER_ARITHMETIC and abs(each.loss - expected) > 1e-4:
            raise ValueError(f"{name} has trained to a loss of {each.loss:.6f}, the loop by hand to {expected:.6f}")


TABLE = (
    "a step, min",
    "median",
    "beyond the loop by hand",
    "import",
    "set-up",
    "into a pipe",
    "control characters",
    "loss",
    "accuracy",
    "lines of code",
)


def row(name: str, each: Found, hand: Found) -> str:
    """Return a line of the table."""
    package = PACKAGES.get(name, name)
    title = TITLES[name].format("" if name == "by_hand" else version(package))
    beyond = (min(each.seconds) - min(hand.seconds)) / STEPS
    size, lines, control = piped(__file__, name)
    cells = [
        title,
        f"{1e6 * min(each.seconds) / STEPS:.0f} µs",
        f"{1e6 * median(each.seconds) / STEPS:.0f} µs",
        "-" if each is hand else f"{1e6 * beyond:+.0f} µs, {min(each.seconds) / min(hand.seconds):.2f}x",
        "-" if each is hand else f"{importing(name):.2g} s",
        f"{1e3 * min(each.set_up):.2g} ms",
        f"{size:,} bytes in {lines} lines",
        str(control),
        f"{each.loss:.5f}",
        f"{each.accuracy:.4f}",
        str(lines_of(BUILD[name])),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Train in all that are installed, in turns."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--show"]:
        BUILD[sys.argv[2]]()()
        return
    logging.disable(logging.ERROR)
    given = [each for each in sys.argv[1:] if each != "--page"]
    repeats = int(given.pop(0)) if given and given[0].isdecimal() else 10
    chosen = given or [name for name in BUILD if find_spec(name)]
    names = ["by_hand", *(name for name in chosen if name != "by_hand")]
    found = {name: Found([], []) for name in names}
    for name in names:
        deepcopy(found[name]).measure(BUILD[name])  # the first run imports, and fills caches
    for _ in range(repeats):
        for name in names:
            found[name].measure(BUILD[name])
    check_losses(found)
    lines = [f"| | {' | '.join(TABLE)} |", "|---" * (1 + len(TABLE)) + "|"]
    table = "\n".join(lines + [row(name, each, found["by_hand"]) for name, each in found.items()])
    print(table)
    if "--page" in sys.argv:
        into_page("python tests/benchmarks/peers_training.py --page", table)


if __name__ == "__main__":
    main()
