"""The comparison of the README and docs/compared.md: `python tests/benchmarks/peers.py`, with the peers installed.

Three questions to each: what a step costs when there is nothing to do, what leaves the loop and who is still called
when a callback raises, and what three epochs of fifty steps write into a pipe.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from time import perf_counter
from typing import Any

STEPS = 3_000


def lucid_train_run(steps: int, epochs: int, error: BaseException | None, show: bool, ended: list[str]) -> None:
    """Run our Trainer."""
    from lucid_train import FitEnd, StepEnd, Trainer
    from lucid_train.callbacks import RichLogger

    trainer = Trainer(
        step=lambda batch: 0.5, data=range(steps), epochs=epochs, callbacks=[RichLogger()] if show else []
    )
    if error is not None:
        trainer.on(StepEnd, at=3)(raiser(error))
        trainer.on(FitEnd)(lambda event: ended.append("FitEnd"))
    trainer.fit()


def ignite_run(steps: int, epochs: int, error: BaseException | None, show: bool, ended: list[str]) -> None:
    """Run Ignite's Engine."""
    from ignite.engine import Engine, Events
    from ignite.handlers import ProgressBar

    engine = Engine(lambda engine, batch: 0.5)
    if show:
        ProgressBar().attach(engine)
    if error is not None:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), raiser(error))
        engine.add_event_handler(Events.COMPLETED, lambda engine: ended.append("COMPLETED"))
    engine.run(range(steps), max_epochs=epochs)


def lightning_run(steps: int, epochs: int, error: BaseException | None, show: bool, ended: list[str]) -> None:
    """Run Lightning's Trainer on a module that does nothing."""
    import lightning
    import torch

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch: object, index: int) -> None:
            return None

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    class Watch(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
            if error is not None and index == 2:
                raise error

        def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
            ended.append("on_exception")

        def on_train_end(self, trainer: Any, module: Any) -> None:
            ended.append("on_train_end")

    lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=show,
        callbacks=[] if error is None else [Watch()],
    ).fit(Module(), torch.utils.data.DataLoader(range(steps), batch_size=None))


def keras_run(steps: int, epochs: int, error: BaseException | None, show: bool, ended: list[str]) -> None:
    """Run Keras on a model of one weight."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras
    import numpy as np

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if error is not None and batch == 2:
                raise error

        def on_train_end(self, logs: Any = None) -> None:
            ended.append("on_train_end")

    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    callbacks = [] if error is None else [Watch()]
    data = np.zeros((steps, 1))
    model.fit(data, data, batch_size=1, epochs=epochs, verbose=1 if show else 0, callbacks=callbacks)


RUNS: dict[str, Callable[[int, int, BaseException | None, bool, list[str]], None]] = {
    "lucid_train": lucid_train_run,
    "ignite": ignite_run,
    "lightning": lightning_run,
    "keras": keras_run,
}
PACKAGES = {"lucid_train": "lucid-train", "ignite": "pytorch-ignite"}


def raiser(error: BaseException) -> Callable[..., None]:
    """Return a handler that raises `error`."""

    def handler(*_: object) -> None:
        raise error

    return handler


def cost(name: str) -> str:
    """Return the microseconds per step of a run with nothing to do."""
    RUNS[name](STEPS, 1, None, False, [])
    began = perf_counter()
    RUNS[name](STEPS, 1, None, False, [])
    return f"{(perf_counter() - began) / STEPS * 1e6:.2f} µs per step"


def leaving(name: str, error: BaseException) -> str:
    """Return what becomes of an exception that a callback raises in step 3, and which end hooks run."""
    ended: list[str] = []
    try:
        RUNS[name](5, 2, error, False, ended)
        fate = "returns normally"
    except BaseException as left:
        fate = "leaves unchanged" if left is error else f"becomes {left!r}"
    return f"{type(error).__name__} {fate}, then {', '.join(ended) or 'no end hook'}"


def piped(program: str, name: str) -> tuple[int, int, int]:
    """Return how many bytes, lines and control characters a program writes into a pipe when it shows a peer."""
    command = [sys.executable, program, "--show", name]
    output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True).stdout
    control = sum(output.count(byte) for byte in (b"\r", b"\b", b"\x1b"))
    return len(output), output.count(b"\n"), control


def main() -> None:
    """Ask every peer that is installed."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    if sys.argv[1:2] == ["--show"]:
        RUNS[sys.argv[2]](50, 3, None, True, [])
        return
    for name in RUNS:
        if find_spec(name):
            print(f"{name} {version(PACKAGES.get(name, name))}")
            size, lines, control = piped(__file__, name)
            print(f"  {cost(name)}, {size} bytes in {lines} lines with {control} control characters")
            for error in (RuntimeError("lost"), KeyboardInterrupt(), StopIteration(), SystemExit(3)):
                print(f"  {leaving(name, error)}")


if __name__ == "__main__":
    main()
