"""Runs on several processes that die at random moments, are started again, and what they come to.

They are those of DDP that gloo connects, or those that sockets connect, without PyTorch.

The processes are forked from one that has imported everything and connected nothing, so that a start costs no import.
"""

from __future__ import annotations

import csv
import math
import os
import random
import signal
import time
import warnings
from io import StringIO
from pathlib import Path
from typing import Any

from attrs import define, field

from lucid_train import read_checkpoint
from tests.support.event_logs import events
from tests.support.programs import sockets
from tests.support.survival import Death, Process, differences, slow_down_disks
from tests.support.waiting import until

# Exit codes of processes that were killed or have lost one that was; a process that hangs has 1 too, and says so.
_DIED = (-signal.SIGKILL, 1)
_KILL = Death()


def came_to(folder: Path, rank: int) -> dict[str, Any]:
    """Return the state, the log and the table of a run, as far as they are a process's."""
    found: dict[str, Any] = {"state": read_checkpoint(folder / f"result-{rank}")}
    if rank == 0 and (folder / "table").exists():
        rows = list(csv.DictReader(StringIO((folder / "table").read_text())))
        # Which checkpoints were written, and when, depends on when a process died.
        log = [event for event in events(folder / "log") if event[0] != "Saved"]
        found |= {"log": log, "table": [{**row, "seconds": ""} for row in rows]}
    return found


def differences_of_ranks(straight: Path, other: Path, size: int) -> list[str]:
    """Return what two runs have come to otherwise."""
    return [
        f"rank {rank}: {name}"
        for rank in range(size)
        for name in differences(came_to(straight, rank), came_to(other, rank))
    ]


@define
class KilledRanks:
    """A run on several processes that are killed.

    Args:
        size: How many processes.
        folder: Where its files go.
        chance: What is random.
        sockets: Whether sockets connect the processes, and not gloo.
        settings: Those of the program, if sockets do.
    """

    size: int
    folder: Path
    chance: random.Random
    sockets: bool = False
    settings: dict[str, Any] = field(factory=dict)
    died: int = field(default=0, init=False)
    _seconds: float = field(init=False)
    _starts: int = field(default=0, init=False)
    _hub: Process | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._seconds = math.inf
        for name in ("straight", "again"):
            began = time.perf_counter()
            codes = [process.wait() for process in self._start(self.folder / name, slow=False)]
            # The shorter one: on a machine that stood still in the other, few would be killed before they end.
            self._seconds = min(self._seconds, time.perf_counter() - began)
            if any(codes):
                raise AssertionError(f"exit codes {codes}: {self._errors(self.folder / name)}")
        if found := differences_of_ranks(self.folder / "straight", self.folder / "again", self.size):
            raise AssertionError(f"a run that nobody kills differs from another one: {found}")

    def run(self, number: int, deaths: int) -> list[str]:
        """Kill processes so many times, if the run does not end before; return what is wrong in the end, or []."""
        folder, slow = self.folder / str(number), self.chance.random() < 0.5
        for left in range(deaths, -1, -1):
            processes = self._start(folder, slow)
            if left:
                if not self.sockets:  # who waits for one that died before they met waits as long as gloo does
                    until(lambda: all(Path(f"{self._store}-met-{rank}").exists() for rank in range(self.size)))
                time.sleep(self.chance.uniform(0.0, self._seconds * (2 if slow else 1)))
                victims = self.chance.sample(processes, self.chance.randint(1, self.size))
                for victim in victims:
                    victim.die(_KILL)
            codes = [process.wait() for process in processes]
            if not any(codes):
                break
            if not left or not set(codes) <= {0, *_DIED} or "Timeout (" in (errors := self._errors(folder)):
                return [f"exit codes {codes}: {self._errors(folder)}"]
            if -signal.SIGKILL not in codes:
                return [f"exit codes {codes} of processes that nobody has killed: {errors}"]
            self.died += 1
        found = differences_of_ranks(self.folder / "straight", folder, self.size)
        left_over = [path.name for path in (folder / "checkpoints").iterdir() if ".part" in path.name]
        return found + [f"{name} is left over" for name in left_over]

    def _start(self, folder: Path, slow: bool) -> list[Process]:
        folder.mkdir(parents=True, exist_ok=True)
        self._starts += 1
        store = self._store
        self.end_hub()
        if self.sockets:  # in a process of its own: its connections are not inherited by those that are forked here
            self._hub = Process(lambda: sockets.serve(store, self.size), folder / "errors-of-hub", patience=None)

        def function(rank: int) -> None:
            if slow:
                slow_down_disks()
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "nothing left to train", UserWarning)  # it died after its last epoch
            if self.sockets:
                sockets.connected(store, rank, self.size, folder, **self.settings)
                return
            from tests.support.programs import distributed

            os.environ["RANK"] = str(rank)
            distributed.connected(store, rank, self.size, folder)

        return [
            Process(lambda rank=rank: function(rank), folder / f"errors-{rank}")  # type: ignore[misc]
            for rank in range(self.size)
        ]

    @property
    def _store(self) -> Path:
        """Where the processes of the latest start meet."""
        return self.folder / f"store-{self._starts}"

    def end_hub(self) -> None:
        """End what connects the processes of the latest start."""
        if self._hub is not None:
            self._hub.die(_KILL)
            self._hub.wait()
            self._hub = None

    def _errors(self, folder: Path) -> str:
        found = [(folder / f"errors-{rank}") for rank in range(self.size)]
        return "".join(f"\nrank {rank}: {file.read_text()[-3000:]}" for rank, file in enumerate(found) if file.exists())
