"""In a run of several processes, what would overwrite the others' files is refused when the fit starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from lucid_train import Callback, Trainer
from lucid_train.callbacks import Checkpoint, CSVLogger, EventLog, RichLogger
from lucid_train.group.discovery import check_alone, world_size

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
    for module in ("torch.distributed", "mpi4py.MPI"):  # which another test may have imported
        monkeypatch.delitem(sys.modules, module, raising=False)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_processes_of_a_launcher_are_refused_before_they_know_of_each_other(
    name: str, launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(launcher, "2")
    with pytest.raises(RuntimeError, match=f"^{name} must be used in a run of one process, .*unset {launcher} if each"):
        Trainer(callbacks=[WRITERS[name]()]).fit()
    assert os.listdir() == []


@pytest.mark.parametrize("size", ["1", "0", "", "-2", "many", "²"])
def test_one_process_of_a_launcher_and_nonsense_are_no_reason_to_refuse(
    size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for launcher in LAUNCHERS:
        monkeypatch.setenv(launcher, size)
    assert world_size()[0] <= 1
    callbacks = [made() for made in WRITERS.values()]
    assert Trainer(callbacks=[*callbacks]).fit().status == "completed"


def test_what_writes_no_files_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert Trainer(callbacks=[RichLogger()]).fit().status == "completed"


class COMM_WORLD:  # noqa: N801  # MPI's name
    """What mpi4py calls so, of two processes."""

    Get_size = staticmethod(lambda: 2)


@pytest.mark.parametrize(("state", "source"), [((True, False), "MPI"), ((False, False), None), ((True, True), None)])
def test_mpi_says_how_many_there_are_from_its_start_to_its_end(
    state: tuple[bool, bool], source: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    initialized, finalized = state
    mpi = SimpleNamespace(Is_initialized=lambda: initialized, Is_finalized=lambda: finalized, COMM_WORLD=COMM_WORLD)
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", mpi)  # type: ignore[arg-type]  # as far as it is asked
    assert world_size() == ((2, source) if source else (1, "nobody"))
    monkeypatch.setenv("PMI_SIZE", "3")  # processes that do not know of each other are several all the same
    assert world_size() == (3, "PMI_SIZE")


def test_a_group_of_one_process_counts_more_than_its_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = SimpleNamespace(is_available=lambda: True, is_initialized=lambda: True, get_world_size=lambda: 1)
    monkeypatch.setitem(sys.modules, "torch.distributed", distributed)  # type: ignore[arg-type]  # as far as it is asked
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_alone("Checkpoint")
    assert world_size() == (1, "torch.distributed")
