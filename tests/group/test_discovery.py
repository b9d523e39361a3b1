"""The processes of a run are found from what is initialised; what nothing connects is warned of."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lucid_train import Callback, Trainer
from lucid_train.callbacks import Checkpoint, CSVLogger, EventLog, RichLogger
from lucid_train.group.discovery import check_group, open_group, place
from lucid_train.group.protocol import Solo

WRITERS: dict[str, Callable[[], Callback]] = {
    "Checkpoint": lambda: Checkpoint("run"),
    "EventLog": lambda: EventLog("run.jsonl"),
    "CSVLogger": lambda: CSVLogger("run.csv"),
}
LAUNCHERS = ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for launcher in LAUNCHERS:
        monkeypatch.delenv(launcher, raising=False)
    monkeypatch.setenv("RANK", "1")
    for module in ("torch.distributed", "mpi4py.MPI"):  # which another test may have imported
        monkeypatch.delitem(sys.modules, module, raising=False)


@pytest.mark.parametrize("size", ["1", "0", "", "-2", "many", "²"])
def test_one_process_of_a_launcher_and_nonsense_are_no_reason_to_refuse(
    size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for launcher in LAUNCHERS:
        monkeypatch.setenv(launcher, size)
    assert open_group() == Solo()
    callbacks = [made() for made in WRITERS.values()]
    assert Trainer(callbacks=[*callbacks]).fit().status == "completed"


def test_who_says_that_each_process_is_a_run_of_its_own_is_not_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.warns(UserWarning, match="WORLD_SIZE says 2 processes, and nothing connects them"):
        Trainer().fit()
    callbacks = [made() for made in WRITERS.values()]
    assert Trainer(group=Solo(), callbacks=[*callbacks, RichLogger()]).fit().status == "completed"


class COMM_WORLD:  # noqa: N801  # MPI's name
    """What mpi4py calls so, of the second of two processes."""

    Get_size = staticmethod(lambda: 2)
    Get_rank = staticmethod(lambda: 1)


def mpi(initialized: bool = True, finalized: bool = False) -> Any:
    return SimpleNamespace(Is_initialized=lambda: initialized, Is_finalized=lambda: finalized, COMM_WORLD=COMM_WORLD)


def distributed(rank: int, size: int) -> Any:
    return SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: True, get_rank=lambda: rank, get_world_size=lambda: size
    )


@pytest.mark.parametrize(
    ("state", "found"), [((True, False), (1, 2)), ((False, False), (0, 1)), ((True, True), (0, 1))]
)
def test_mpi_has_a_place_from_its_start_to_its_end(
    state: tuple[bool, bool], found: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", mpi(*state))
    assert place() == found


def test_torch_comes_before_mpi_unless_it_has_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", mpi())
    monkeypatch.setitem(sys.modules, "torch.distributed", distributed(2, 4))
    assert place() == (2, 4)
    monkeypatch.setitem(sys.modules, "torch.distributed", distributed(0, 1))
    assert place() == (1, 2)


def test_a_group_of_one_process_counts_more_than_its_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.distributed", distributed(0, 1))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert place() == (0, 1)
    assert open_group() == Solo()


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_processes_that_nothing_connects_are_warned_of(launcher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(launcher, "2")
    cure = "call torch" if launcher == "WORLD_SIZE" else "write `from mpi4py import MPI`, or call torch"
    message = rf'^{launcher} says 2 processes, .*; {cure}.distributed.init_process_group\("gloo"\) before fit, or pass'
    with pytest.warns(UserWarning, match=message):
        assert open_group() == Solo()
    assert place() == (0, 1)


def test_a_program_alone_is_a_group_of_one_process_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_group() == Solo()
    monkeypatch.delenv("RANK")
    monkeypatch.setenv("WORLD_SIZE", "2")  # nobody's, without RANK
    assert open_group() == Solo()


class Ring:
    """A group of one's own."""

    name = "ring"
    rank: object = 1
    world_size: object = 2

    def gather(self, content: bytes, within: float | None = None) -> list[bytes]:
        return [content]

    def post(self, numbers: Sequence[float]) -> Callable[[], list[float]]:
        return lambda: list(numbers)

    def close(self) -> None:
        pass


def test_a_group_of_ones_own_is_taken() -> None:
    ring = Ring()
    assert check_group("group", ring) is ring
    assert check_group("group", Solo()) == Solo()


@pytest.mark.parametrize(
    ("rank", "world_size", "error", "message"),
    [
        (2, 2, ValueError, r"^'group\.rank' must be < 2, the number of processes: 2$"),
        (-1, 2, ValueError, r"^'group\.rank' must be >= 0: -1$"),
        (0, 0, ValueError, r"^'group\.world_size' must be >= 1: 0$"),
        (0.0, 2, TypeError, r"^'group\.rank' must be an int: 0\.0$"),
        (0, "2", TypeError, r"^'group\.world_size' must be an int: '2'$"),
    ],
)
def test_numbers_that_cannot_be_are_refused(
    rank: object, world_size: object, error: type[Exception], message: str
) -> None:
    ring = Ring()
    ring.rank, ring.world_size = rank, world_size
    with pytest.raises(error, match=message):
        check_group("group", ring)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Solo, r"^'group' must be a Group, not a class: Solo; make one, Solo\(\.\.\.\)$"),
        (None, r"^'group' must be a Group: None has no name, rank, world_size, gather, post, close$"),
        (SimpleNamespace(name="x", rank=0, world_size=1), r"must be a Group: .* has no gather, post, close$"),
    ],
)
def test_what_is_no_group_is_refused(value: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        check_group("group", value)
