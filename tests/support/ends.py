"""Runs with DataLoader workers that are ended by SIGTERM, one after the other; each is resumed and compared."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import product
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import torch
from attrs import define
from torch.utils.data import DataLoader, Dataset

from lucid_train import Callback, EpochReport, EvaluateStart, Trainer, read_checkpoint
from lucid_train.callbacks import Checkpoint, RichLogger

MOMENTS = ("step", "fetch", "evaluation", "report")
ORDERS = ("group", "workers first", "main first")
# Seconds between the first signal and the others.
LATER = 0.3


def table(methods: Sequence[str], workers: Sequence[int], persistent: Sequence[bool]) -> list[dict[str, Any]]:
    """Return runs that are ended at each moment and in each order, with callbacks in this order or the other."""
    rows = product(methods, workers, persistent, MOMENTS, ORDERS)
    names = ("method", "workers", "persistent", "moment", "order")
    return [dict(zip(names, row, strict=True)) | {"reverse": bool(n % 2)} for n, row in enumerate(rows)]


def ended(rows: list[dict[str, Any]]) -> list[Any]:
    """End runs in a process of their own; return those that did not end in good order, saved, and go on exactly."""
    command = [sys.executable, "-m", "tests.support.ends", json.dumps(rows)]
    # In a group of its own, which is what the signals are sent to.
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True, timeout=600)
    found = [json.loads(line.removeprefix("RESULT ")) for line in done.stdout.splitlines() if "RESULT" in line]
    assert len(found) == len(rows), done.stderr
    return [result for result in found if result[1] != [143, True, 0, True]]


def kill(first: Iterable[Any], *others: Iterable[Any]) -> None:
    """Have SIGTERM sent by another process, to some a little later: a worker ignores one that comes from its parent."""
    commands = [f"kill -TERM {' '.join(map(str, processes))}" for processes in (first, *others) if processes]
    sender = subprocess.Popen(["sh", "-c", f"; sleep {LATER}; ".join(commands)], start_new_session=True)
    sender.wait()  # on a busy machine the run would be elsewhere, or over, before all is sent


@define(eq=False)
class Sender:
    """Sends SIGTERM to this process, the `main` one, and to its workers, once, when it is called for the moment."""

    moment: str
    order: str
    flag: Path
    main: int

    @property
    def begun(self) -> Path:
        """The file that the first step makes."""
        return self.flag.with_name("begun")

    def __call__(self, moment: str) -> None:
        if moment != self.moment or self.flag.exists():
            return
        self.flag.touch()
        while moment == "fetch" and not self.begun.exists():
            time.sleep(0.01)  # a run that ends before its first step has nothing to save
        here = os.getpid() == self.main
        main, workers = [self.main], [each.pid for each in active_children()] if here else [os.getpid()]
        if self.order == "group":
            kill([-os.getpgid(self.main)])
        elif self.order == "workers first":
            kill(workers, main)
        else:
            kill(main, workers)
        time.sleep(LATER)


@define(eq=False)
class Numbers(Dataset[Any]):
    count: int
    send: Sender | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        if self.send is not None and index == 7:
            self.send("fetch")
        if self.send is not None and self.send.moment == "fetch":
            time.sleep(0.05)
        return torch.tensor([index / 10])


@define(eq=False)
class Report(Callback):
    send: Sender

    def settings(self) -> dict[str, Any]:
        return {}

    def on_epoch_report(self, event: EpochReport) -> None:
        self.send("report")

    def on_evaluate_start(self, event: EvaluateStart) -> None:
        self.send("start of evaluation")


def trainer(row: dict[str, Any], directory: Path, send: Sender, done: list[int]) -> tuple[Trainer, torch.nn.Module]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    workers: dict[str, Any] = {"num_workers": row["workers"]}
    if row["workers"]:
        workers |= {"multiprocessing_context": row["method"], "persistent_workers": row["persistent"]}
    loader = DataLoader(Numbers(12, send), batch_size=2, shuffle=True, **workers)
    # With a generator of its own: PyTorch draws one number less for a later pass of persistent workers.
    validation = DataLoader(Numbers(4), batch_size=2, generator=torch.Generator(), **workers)

    def step(batch: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = ((model(batch) - 2 * batch) ** 2).mean()
        loss.backward()
        for index, parameter in enumerate(model.parameters()):  # an update in two halves
            parameter.data.mul_(0.99)
            if index == 1 and len(done) == 3:
                send("step")
        optimizer.step()
        done.append(1)
        send.begun.touch()
        return loss.detach()

    def evaluate() -> float:
        total = torch.rand(()).item()
        for batch in validation:
            send("evaluation")
            total += model(batch).sum().item()
        return total

    callbacks = [Checkpoint(directory), RichLogger(), Report(send)]
    if row.get("reverse"):
        callbacks.reverse()
    made = Trainer(step, loader, model=model, optimizer=optimizer, evaluate=evaluate, epochs=2, callbacks=callbacks)
    return made, model


def outcome(made: Trainer, model: torch.nn.Module, **arguments: Any) -> Any:
    history = made.fit(**arguments)
    records = [(record.epoch, record.steps, dict(record.metrics)) for record in history]
    return records, [parameter.tolist() for parameter in model.parameters()]


def result(row: dict[str, Any], expected: Any) -> Iterator[Any]:
    """Yield the exit code, how many updates are not in the checkpoint, and whether the resumed run is as expected."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        send = Sender(row["moment"], row["order"], folder / "flag", os.getpid())
        done: list[int] = []
        before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
        made, model = trainer(row, folder / "run", send, done)
        try:
            made.fit()
            yield "completed"
        except SystemExit as error:
            yield error.code
        except BaseException as error:
            yield f"{type(error).__name__}: {error}"[:60]
        yield [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before
        del made, model
        for _ in range(4):  # the process would have ended by now; here it goes on, and learns of the dead workers
            with suppress(RuntimeError):
                time.sleep(LATER / 2)
                signal.raise_signal(signal.SIGCHLD)
        yield len(done) - read_checkpoint(folder / "run")["progress"]["step"]
        gc.collect()
        made, model = trainer(row, folder / "run", send, [0] * 100)
        yield outcome(made, model, resume="auto") == expected


def main() -> None:
    torch.set_num_threads(1)
    rows = json.loads(sys.argv[1])
    if len(sys.argv) > 2:  # the first row alone, to its end
        folder = Path(sys.argv[2])
        send = Sender(rows[0]["moment"], rows[0]["order"], folder / "flag", os.getpid())
        trainer(rows[0], folder / "run", send, [])[0].fit()
    expected: dict[bool, Any] = {}
    for persistent in {row["persistent"] for row in rows}:  # PyTorch draws a seed less for a pass of persistent workers
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            row = {"workers": 1, "method": "fork", "persistent": persistent, "moment": "never"}
            never = Sender("never", "", folder / "flag", os.getpid())
            expected[persistent] = outcome(*trainer(row, folder / "run", never, [0] * 100))
    gc.collect()
    for row in rows:
        found = list(result(row, expected[row["persistent"]]))
        print("RESULT", json.dumps([row, found]), flush=True)


if __name__ == "__main__":
    main()
