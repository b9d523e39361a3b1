"""Processes that die at any moment, one or several at once, go on exactly; signals and failures end all alike.

Sockets connect them, so that nothing of this needs PyTorch.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucid_train.testing.threads import ThreadGroup, run_in_threads, thread_groups
from tests.support.programs import sockets
from tests.support.ranks import KilledRanks, differences_of_ranks
from tests.support.survival import Death, Process

pytestmark = pytest.mark.slow
CALLS = ("open", "write", "ftruncate", "fsync", "close", "replace", "unlink", "symlink", "link", "mkdir")


@pytest.mark.parametrize(("size", "kills"), [(2, 34), (3, 16)])
def test_processes_that_are_killed_at_random_moments_go_on_exactly(tmp_path: Path, size: int, kills: int) -> None:
    killed, number = KilledRanks(size, tmp_path, random.Random(size), sockets=True), 0
    try:
        while killed.died < kills:
            number += 1
            assert killed.run(number, min(8, kills - killed.died)) == []
    finally:
        killed.end_hub()


def test_saves_behind_the_training_survive_kills_too(tmp_path: Path) -> None:
    settings = {"background": True, "seconds": 0.002}
    killed = KilledRanks(2, tmp_path, random.Random(7), sockets=True, settings=settings)
    try:
        for number in range(3):
            assert killed.run(number, 4) == []
    finally:
        killed.end_hub()
    assert killed.died > 0


# Every call of a save to the file system, on either rank: the machine dies there.


def trained(folder: Path, **checkpoint: Any) -> None:
    """Train on two threads."""
    averages = thread_groups(2)
    folder.mkdir(exist_ok=True)
    random.seed(0)  # which nobody draws from, and whose state is saved all the same
    np.random.seed(0)

    def run(group: ThreadGroup) -> None:
        sockets.trained(
            sockets.build(group, averages[group.rank], folder, threads=True, **checkpoint), group.rank, folder
        )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_in_threads(2, run)


def die_at(count: int, *, after: bool) -> None:
    """Kill this process at a call to the file system of any thread, before it is done or after; write half of what."""
    left = [count]

    def wrapped(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] > 0:
                return function(*arguments, **options)
            if name == "write" and not after:
                function(arguments[0], arguments[1][: len(arguments[1]) // 2])
            elif after:
                function(*arguments, **options)
            os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in CALLS:
        setattr(os, name, wrapped(name, getattr(os, name)))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("background", [False, True], ids=["at once", "behind"])
def test_a_machine_that_dies_at_any_call_of_a_save_leaves_what_all_ranks_go_on_from(
    tmp_path: Path, after: bool, background: bool
) -> None:
    settings = {"epochs": 1, "every": 5, "keep": 1, "background": background}
    process = Process(lambda: trained(tmp_path / "straight", **settings), tmp_path / "errors")
    assert process.wait() == 0, (tmp_path / "errors").read_text()
    died, count = 0, 1
    while True:
        folder = tmp_path / str(count)

        def dies(folder: Path = folder, count: int = count) -> None:
            die_at(count, after=after)
            trained(folder, **settings)

        code = Process(dies, tmp_path / "errors").wait()
        if code == 0:
            break
        assert code == -signal.SIGKILL, (tmp_path / "errors").read_text()
        died += 1
        code = Process(lambda folder=folder: trained(folder, **settings), tmp_path / "errors").wait()  # type: ignore[misc]
        assert code == 0, (count, (tmp_path / "errors").read_text())
        assert differences_of_ranks(tmp_path / "straight", folder, 2) == [], count
        count += 2  # the four cases meet all of them
    assert died > 20


# Signals.


class Pair:
    """Two slow processes."""

    def __init__(self, folder: Path, size: int = 2) -> None:
        self.folder, self.size, self.starts = folder, size, 0

    def start(self, **settings: Any) -> list[Process]:
        self.starts += 1
        self.folder.mkdir(exist_ok=True)
        store = self.folder / f"store-{self.starts}"
        self.hub = Process(lambda: sockets.serve(store, self.size), self.folder / "errors-of-hub", patience=None)

        def connected(rank: int) -> None:
            warnings.simplefilter("ignore")
            sockets.connected(store, rank, self.size, self.folder, **settings)

        return [
            Process(lambda rank=rank: connected(rank), self.folder / f"errors-{rank}")  # type: ignore[misc]
            for rank in range(self.size)
        ]

    def ended(self) -> list[dict[str, Any]]:
        self.hub.die(Death())
        self.hub.wait()
        return [json.loads((self.folder / f"ended-{rank}.json").read_text()) for rank in range(self.size)]

    def errors(self) -> str:
        return "".join((self.folder / f"errors-{rank}").read_text() for rank in range(self.size))

    def wait_for_checkpoint(self) -> None:
        end = time.monotonic() + 60
        while not (self.folder / "checkpoints" / "last.safetensors").exists():
            assert time.monotonic() < end, self.errors()
            time.sleep(0.005)


@pytest.mark.parametrize(
    ("victims", "number", "code"),
    [
        ((0,), signal.SIGTERM, 143),
        ((1,), signal.SIGTERM, 143),
        ((0, 1), signal.SIGTERM, 143),
        ((0, 1), signal.SIGINT, 130),
        ((1,), signal.SIGINT, 130),
    ],
    ids=["SIGTERM to the first", "SIGTERM to the second", "SIGTERM to both", "Ctrl-C", "SIGINT to the second"],
)
def test_a_signal_to_any_ends_all_after_the_same_step_and_the_run_goes_on_exactly(
    tmp_path: Path, victims: tuple[int, ...], number: int, code: int
) -> None:
    straight, pair = Pair(tmp_path / "straight"), Pair(tmp_path / "cut")
    assert [each.wait() for each in straight.start()] == [0, 0], straight.errors()
    straight.ended()
    processes = pair.start(seconds=0.02, held=tmp_path / "sent")
    pair.wait_for_checkpoint()
    for victim in victims:
        processes[victim].die(Death(number))
    (tmp_path / "sent").touch()
    assert [each.wait() for each in processes] == [code, code], pair.errors()
    first, second = pair.ended()
    assert first == second
    assert first["status"] == "interrupted"
    assert 0 < first["step"] < sockets.EPOCHS * sockets.STEPS
    assert [each.wait() for each in pair.start()] == [0, 0], pair.errors()
    pair.ended()
    assert differences_of_ranks(tmp_path / "straight", tmp_path / "cut", 2) == []


def test_a_process_that_is_stopped_for_a_while_changes_nothing(tmp_path: Path) -> None:
    straight, pair = Pair(tmp_path / "straight"), Pair(tmp_path / "held")
    assert [each.wait() for each in straight.start()] == [0, 0], straight.errors()
    straight.ended()
    processes = pair.start(seconds=0.01, held=tmp_path / "sent")
    pair.wait_for_checkpoint()
    processes[1].die(Death(signal.SIGSTOP))
    (tmp_path / "sent").touch()
    time.sleep(0.5)
    processes[1].die(Death(signal.SIGCONT))
    assert [each.wait() for each in processes] == [0, 0], pair.errors()
    assert [each["status"] for each in pair.ended()] == ["completed"] * 2
    assert differences_of_ranks(tmp_path / "straight", tmp_path / "held", 2) == []


def test_a_part_that_cannot_be_written_ends_all_processes_with_its_rank(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".checkpoint-000001-epoch-1-step-1.rank-1.safetensors.part").mkdir()
    assert [each.wait() for each in pair.start()] == [1, 1]
    assert [each["status"] for each in pair.ended()] == ["failed"] * 2
    assert "rank 1 could not save: " in (tmp_path / "errors-0").read_text()
    assert "rank-1" in (tmp_path / "errors-1").read_text()
