"""Every engine keeps the contract of a Group: threads, sockets, torch.distributed under torchrun, MPI under mpirun."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lucid_train.group.torch_group import TorchGroup
from lucid_train.testing.processes import launch
from lucid_train.testing.threads import run_in_threads
from tests.support import group_contract

pytest.importorskip("torch")
pytest.importorskip("mpi4py")

PROGRAM = group_contract.__file__
MPIRUN = ["mpirun", "--oversubscribe", "-n", "2", sys.executable]
Launch = Callable[[Path, list[str]], str]


def environment(folder: Path) -> dict[str, str]:
    """Return the variables of a launch; containers run as root, which Open MPI wants to be said twice."""
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    # A long TMPDIR would not fit the name of Open MPI's socket.
    return {"OMP_NUM_THREADS": "1", "CONTRACT_FOLDER": str(folder), **allowed, "TMPDIR": "/tmp"}


def ended(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment(folder)}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=110)


def output(folder: Path, command: list[str]) -> str:
    completed = ended(folder, command)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def by_threads(folder: Path, parts: list[str]) -> str:
    for part in parts:
        run_in_threads(3, lambda group, part=part: getattr(group_contract, part)(lambda: group))  # type: ignore[misc]
    return "threads keeps the contract\n" * 3


def by_sockets(folder: Path, parts: list[str]) -> str:
    completed = launch([sys.executable, PROGRAM, "sockets", *parts], 3, env=environment(folder))
    assert [each.returncode for each in completed] == [0, 0, 0], completed
    return "".join(each.stdout for each in completed)


def by_torchrun(folder: Path, parts: list[str]) -> str:
    # The script torchrun may belong to another environment than this interpreter.
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return output(folder, [*torchrun, PROGRAM, "torch", *parts])


def by_a_part_of_torch(folder: Path, parts: list[str]) -> str:
    completed = launch([sys.executable, PROGRAM, "torch-part", *parts], 2, env=environment(folder))
    assert [each.returncode for each in completed] == [0, 0], completed
    return "".join(each.stdout for each in completed)


def by_mpirun(folder: Path, parts: list[str]) -> str:
    return output(folder, [*MPIRUN, "-m", "mpi4py", PROGRAM, "mpi", *parts])


ENGINES: dict[str, tuple[Launch, str, int]] = {
    "threads": (by_threads, "threads", 3),
    "sockets": (by_sockets, "sockets", 3),
    "torchrun": (by_torchrun, "torch.distributed", 2),
    "a part of torch's processes": (by_a_part_of_torch, "torch.distributed", 2),
    "mpirun": (by_mpirun, "MPI", 2),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine", [pytest.param(name, marks=pytest.mark.mpi if name == "mpirun" else ()) for name in ENGINES]
)
def test_every_engine_keeps_the_contract(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launched, name, size = ENGINES[engine]
    monkeypatch.setenv("CONTRACT_FOLDER", str(tmp_path))
    # A group is closed and opened again, as in two fits of one program.
    parts = ["exchanges", "timeout"] if engine == "threads" else ["exchanges", "exchanges", "timeout"]
    assert launched(tmp_path, parts) == f"{name} keeps the contract\n" * size


@pytest.mark.slow
@pytest.mark.mpi
def test_mpi_that_has_ended_connects_nothing(tmp_path: Path) -> None:
    assert by_mpirun(tmp_path, ["exchanges"]) == "MPI keeps the contract\n" * 2


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sockets", "torch"])
def test_a_process_that_dies_is_a_lost_connection_to_all_others(engine: str, tmp_path: Path) -> None:
    completed = launch([sys.executable, PROGRAM, engine, "dead_peer"], 3, env=environment(tmp_path), grace=30)
    lost = "vote lost\ngather lost\n"
    assert [(each.returncode, each.stdout) for each in completed] == [(3, lost), (3, lost), (-9, "")], completed


@pytest.mark.slow
@pytest.mark.mpi
def test_mpirun_ends_the_others_of_a_process_that_dies(tmp_path: Path) -> None:
    completed = ended(tmp_path, [*MPIRUN, "-m", "mpi4py", PROGRAM, "mpi", "dead_peer"])
    assert completed.returncode != 0
    assert "keeps the contract" not in completed.stdout


ONE_FAILS = """
from mpi4py import MPI
from lucid_train.group.discovery import open_group
group = open_group()
print("opened", flush=True)
if group.rank == 1 and {fails}:
    raise KeyError("of rank 1")
group.gather(b"")
group.close()
"""
WARNED = r"UserWarning: an exception in one process of MPI .*; start the program by `mpirun -n 2 python -m mpi4py train"


@pytest.mark.slow
@pytest.mark.mpi
@pytest.mark.parametrize("with_module", [True, False])
def test_the_first_rank_of_mpi_warns_where_an_exception_would_hang_the_job(with_module: bool, tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(ONE_FAILS.format(fails=with_module))
    completed = ended(tmp_path, [*MPIRUN, *(["-m", "mpi4py"] if with_module else []), str(program)])
    assert completed.stdout.count("opened") == 2, completed.stderr
    assert len(re.findall(WARNED, completed.stderr)) == (0 if with_module else 1)
    assert ("KeyError: 'of rank 1'" in completed.stderr, completed.returncode != 0) == (with_module, with_module)


def test_torch_that_is_not_initialised_connects_nothing() -> None:
    with pytest.raises(RuntimeError, match=r"^torch.distributed must be initialised .*; call torch.distributed.init_"):
        TorchGroup()
