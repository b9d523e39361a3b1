"""Runs in processes of their own that die at random moments, are started again, and what they come to.

A process is forked from one that has imported everything, so that a death costs what the run costs and no import.
"""

from __future__ import annotations

import csv
import faulthandler
import importlib
import os
import random
import re
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from rich.console import Console

from lucid_train import StepEnd, read_checkpoint, write_checkpoint
from lucid_train.callbacks import Checkpoint, CSVLogger, EventLog, RichLogger
from lucid_train.saving.checkpoint.directory import Directory
from lucid_train.testing import diff_states
from tests.support.event_logs import events
from tests.support.setups import SetUp

ROOT = Path(__file__).parent.parent.parent
# Seconds after which a process hangs.
PATIENCE = 60.0

# How often checkpoints are written, and how: after every step in all but the last, which is the way of programs.
CHECKPOINTS: tuple[dict[str, Any], ...] = (
    {"every": 1, "interval": "step", "keep": 1},
    {"every": 1, "interval": "step", "keep": 3},
    {"every": 1, "interval": "step", "keep": 1, "background": True},
    {"every": 1, "interval": "step", "keep": None},
    {"every": 2, "interval": "step", "keep": 2},
    {"every": 1, "keep": 1},
)


@frozen
class Death:
    """How a process dies.

    Args:
        number: The signal.
        group: Whether all processes of its group get it, as from a terminal or a batch system.
    """

    number: int = signal.SIGKILL
    group: bool = False


@define
class Process:
    """A function in a process of its own, forked from this one.

    Args:
        function: The function; a SystemExit or KeyboardInterrupt that leaves it ends the process as it ends a program.
        errors: A file for the traceback of any other exception, and of all threads if it hangs.
        patience: Seconds after which it hangs, for one that is to die: it then leads a group of its own. None for one
            that forks others: after a fork, no other watch can be set.
    """

    function: Callable[[], object]
    errors: Path
    patience: float | None = PATIENCE
    _pid: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        sys.stdout.flush()
        self._pid = os.fork()
        if self._pid:
            return
        code = 1
        try:
            if self.patience is not None:
                os.setsid()
            with self.errors.open("w") as file, open(os.devnull, "w") as nothing:
                os.dup2(file.fileno(), 2)
                os.dup2(nothing.fileno(), 1)
                if self.patience is not None:
                    faulthandler.dump_traceback_later(self.patience, exit=True, file=file)
                try:
                    self.function()
                    code = 0
                except SystemExit as error:
                    code = int(error.code or 0)
                except KeyboardInterrupt:
                    code = 130
                except BaseException:
                    traceback.print_exc(file=file)
        except KeyboardInterrupt:  # before the function began, or after it ended
            code = 130
        finally:
            os._exit(code)

    def wait(self) -> int:
        """Return the exit code, below 0 for a signal."""
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def die(self, death: Death) -> None:
        """Send the signal, if it is running."""
        with suppress(ProcessLookupError):  # it has not made its group yet, or it has ended
            os.killpg(self._pid, death.number) if death.group else os.kill(self._pid, death.number)


class Dead(BaseException):
    """Ends a run as if its process had died."""


def train(
    setup: SetUp, folder: Path, checkpoint: dict[str, Any] = CHECKPOINTS[0], *, dies_in: int | None = None
) -> None:
    """Build a run that writes all there is to write to a folder, go on with it, and write what it came to.

    Args:
        setup: The set-up.
        folder: The folder.
        checkpoint: How checkpoints are written, unless the set-up has a Checkpoint of its own.
        dies_in: A step in which the run dies.
    """
    trainer = setup.build()
    callbacks = [each for each in trainer.callbacks if not isinstance(each, (EventLog, CSVLogger, RichLogger))]
    for own in callbacks:
        if isinstance(own, Checkpoint):
            own.directory = folder / "checkpoints"
    if not any(isinstance(each, Checkpoint) for each in callbacks):
        callbacks.append(Checkpoint(folder / "checkpoints", weights=False, **checkpoint))
    log = EventLog(folder / "log", step_every=1, heartbeat=0.005)
    logger = RichLogger(Console(file=StringIO(), force_terminal=True, width=80))
    trainer.callbacks = (logger, *callbacks, log, CSVLogger(folder / "table"))

    def die(event: StepEnd) -> None:
        raise Dead

    if dies_in is not None:
        trainer.on(StepEnd, at=dies_in)(die)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "nothing left to train", UserWarning)  # it died after its last epoch
        trainer.fit(resume="auto")
    write_checkpoint(folder / "result", trainer.state_dict())


def slow_down_disks() -> None:
    """Let a file take long to reach the disk, so that a process dies while it does."""
    for name in ("fsync", "replace", "rename"):
        function = getattr(os, name)

        def slowly(*arguments: Any, _function: Callable[..., Any] = function, **options: Any) -> Any:
            time.sleep(0.004)
            result = _function(*arguments, **options)
            time.sleep(0.002)
            return result

        setattr(os, name, slowly)


def outcome(folder: Path) -> dict[str, Any]:
    """Return what a run came to: its state, its log, its table."""
    rows = list(csv.DictReader(StringIO((folder / "table").read_text())))
    for row in rows:
        del row["seconds"]
    # Which checkpoints were written, and under which number, depends on when the process died.
    log = [event for event in events(folder / "log") if event[0] != "Saved"]
    return {"state": read_checkpoint(folder / "result"), "log": log, "table": rows}


def differences(straight: dict[str, Any], other: dict[str, Any]) -> list[str]:
    # Data that says where it stands needs no generator of its own in a run that has ended: it may have drawn the order
    # of an open pass already, or draw it with the next batch.
    free = ("state.random.own.data.",) if straight["state"]["data"] is not None else ()
    found = diff_states(straight, other)
    return [name for name in found if not name.endswith("best_file") and not name.startswith(free)]


def assert_other_processes_go_on(table: str, names: Iterable[str], folder: Path) -> None:
    """Let runs die in this process and go on in one that has just begun: they come to the same.

    Args:
        table: The module of the set-ups.
        names: Which of them.
        folder: Where their files go.
    """
    setups = importlib.import_module(table).SETUPS
    for name in names:
        with suppress(Dead):
            train(setups[name], folder / name, dies_in=4)
        assert not (folder / name / "result").exists()
    program = f"""
import sys, warnings
from pathlib import Path
from {table} import SETUPS
from tests.support.survival import train
warnings.simplefilter("error")
for name in sys.argv[2:]:
    train(SETUPS[name], Path(sys.argv[1]) / "straight" / name)
    train(SETUPS[name], Path(sys.argv[1]) / name)
"""
    command = [sys.executable, "-c", program, str(folder), *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    for name in names:
        found = differences(outcome(folder / "straight" / name), outcome(folder / name))
        assert found == [], f"{name}: {found}"


def assert_survives_soaking(section: str, count: int, package: str) -> None:
    """Have `tests.soak` do a section, in a process that may fork."""
    command = [sys.executable, "-m", "tests.soak", section, "--count", str(count), "--packages", package]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert re.match(rf"{section}: {count} in ", done.stdout)


@define
class Survival:
    """A set-up whose processes die.

    Args:
        setup: The set-up.
        folder: Where its files go.
        chance: What is random.
        deaths: The ways to die.
    """

    setup: SetUp
    folder: Path
    chance: random.Random
    deaths: tuple[Death, ...]
    died: Counter[str] = field(factory=Counter, init=False)
    _straight: dict[str, Any] = field(init=False)
    _seconds: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        # In this process, so that the forked ones find everything imported.
        began = time.perf_counter()
        train(self.setup, self.folder / "straight")
        trained = time.perf_counter()
        self._straight = outcome(self.folder / "straight")
        forked = time.perf_counter()
        code = self._process(self.folder / "alone", CHECKPOINTS[0], slow=False).wait()
        # The shorter one: on a machine that stood still in the other, few would die before they end.
        self._seconds = min(trained - began, time.perf_counter() - forked)
        found = [f"exit code {code}"] if code else differences(self._straight, outcome(self.folder / "alone"))
        if found:
            raise AssertionError(f"a run that nobody kills differs from another one: {found}")

    def run(self, number: int, deaths: int) -> list[str]:
        """Let a run die so many times, if it does not end before; return what is wrong in the end, or [].

        Args:
            number: The number of the run, for its folder.
            deaths: How many times at most.
        """
        folder = self.folder / str(number)
        checkpoint, slow = self.chance.choice(CHECKPOINTS), self.chance.random() < 0.5
        longest = self._seconds * (3 if slow else 1.2)
        for left in range(deaths, -1, -1):
            process = self._process(folder, checkpoint, slow)
            if left:
                time.sleep(self.chance.uniform(0.0, longest))
                process.die(self.chance.choice(self.deaths))
            code = process.wait()
            if code == 0:
                break
            if code not in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, 143, 130):
                return [f"exit code {code}: {self._errors(folder)}"]
            self.died[str(code)] += 1
            if code in (143, 130) and (lost := self._lost(folder)) is not None:
                return [lost]
        found = differences(self._straight, outcome(folder))
        left_over = [path.name for path in (folder / "checkpoints").iterdir() if ".part" in path.name]
        return found + [f"{name} is left over" for name in left_over]

    def _process(self, folder: Path, checkpoint: dict[str, Any], slow: bool) -> Process:
        folder.mkdir(parents=True, exist_ok=True)

        def function() -> None:
            if slow:
                slow_down_disks()
            train(self.setup, folder, checkpoint)

        return Process(function, folder / "errors")

    def _errors(self, folder: Path) -> str:
        return (folder / "errors").read_text()

    def _lost(self, folder: Path) -> str | None:
        """Return what a process that ended in good order has done and not saved."""
        log = folder / "log"
        done = [fields["step"] for name, (fields, _) in events(log) if name == "StepEnd"] if log.exists() else []
        loaded = Directory(folder / "checkpoints").last()
        saved = 0 if loaded is None else loaded.state["progress"]["step"]
        return None if saved == max(done, default=0) else f"step {max(done)} is done, and saved up to {saved}"
