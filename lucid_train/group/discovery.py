"""Which processes a run has: found from what the program has initialised."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from lucid_train.group.mpi_group import MPIGroup
from lucid_train.group.protocol import Group, Solo
from lucid_train.group.torch_group import TorchGroup
from lucid_train.validation import whole_number

_CONNECT_TORCH = 'call torch.distributed.init_process_group("gloo")'
# What launchers set, and what connects the processes: torchrun, Open MPI's mpirun, the others' (MPICH, Intel MPI,
# Slurm's PMI-2). WORLD_SIZE is too common a name to mean something without RANK.
_LAUNCHERS = {
    "WORLD_SIZE": _CONNECT_TORCH,
    "OMPI_COMM_WORLD_SIZE": f"write `from mpi4py import MPI`, or {_CONNECT_TORCH}",
    "PMI_SIZE": f"write `from mpi4py import MPI`, or {_CONNECT_TORCH}",
}


def open_group() -> Group:
    """Connect this process with the others of the run, all of which do so at the same time; import nothing for it.

    The processes are those of `torch.distributed` if it is initialised, else those of MPI if `mpi4py.MPI` is imported,
    else this one alone. It warns of a launcher whose processes nothing connects, and of MPI without
    `python -m mpi4py`: there an exception on one rank makes the others wait for ever.
    """
    found = _initialized()
    if found is None:
        launched = _launched()
        if launched is not None:
            name, size = launched
            warnings.warn(
                f"{name} says {size} processes, and nothing connects them, so each is a run of its own; "
                f"{_LAUNCHERS[name]} before fit, or pass Trainer(group=Solo()) if that is meant",
                stacklevel=3,  # where fit is called
            )
        return Solo()
    source, rank, size = found
    if size == 1:
        return Solo()
    if source == "torch.distributed":
        return TorchGroup()
    if rank == 0 and "mpi4py.run" not in sys.modules:
        warnings.warn(
            "an exception in one process of MPI would leave the others waiting for ever; "
            f"start the program by `mpirun -n {size} python -m mpi4py train.py`, which ends them all",
            stacklevel=3,  # where fit is called
        )
    return MPIGroup()


def place() -> tuple[int, int]:
    """Return the rank of this process and how many there are, as `open_group` would find them; connect nothing."""
    found = _initialized()
    return (0, 1) if found is None else found[1:]


def check_group(name: str, value: Any) -> Group:
    """Check a group that is given and return it.

    Args:
        name: The argument's name, for the error.
        value: What has the members of `Group`, and a rank below its number of processes.

    Raises:
        TypeError: If a member is missing or a number is not an int.
        ValueError: If a number is out of range.
    """
    if isinstance(value, type):
        raise TypeError(f"{name!r} must be a Group, not a class: {value.__name__}; make one, {value.__name__}(...)")
    if not isinstance(value, Group):
        missing = ", ".join(each for each in vars(Group) if not each.startswith("_") and not hasattr(value, each))
        raise TypeError(f"{name!r} must be a Group: {value!r} has no {missing}")
    size = whole_number(f"{name}.world_size", value.world_size, least=1)
    rank = whole_number(f"{name}.rank", value.rank, least=0)
    if rank >= size:
        raise ValueError(f"'{name}.rank' must be < {size}, the number of processes: {rank}")
    return value


def _initialized() -> tuple[str, int, int] | None:
    """Return what has been initialised, this process's rank and the number of processes."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        found = ("torch.distributed", int(distributed.get_rank()), int(distributed.get_world_size()))
    else:
        found = None
    mpi: Any = sys.modules.get("mpi4py.MPI")
    # An import alone initialises MPI, so that one process of MPI says nothing, nor overrules torch.distributed.
    if (found is None or found[2] == 1) and mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        size = int(mpi.COMM_WORLD.Get_size())
        if size > 1:
            return "MPI", int(mpi.COMM_WORLD.Get_rank()), size
    return found


def _launched() -> tuple[str, int] | None:
    """Return the variable of a launcher that says of more than one process, and its number."""
    for name in _LAUNCHERS:
        size = os.environ.get(name, "")
        if size.isdecimal() and int(size) > 1 and (name != "WORLD_SIZE" or "RANK" in os.environ):
            return name, int(size)
    return None
