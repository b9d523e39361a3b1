"""Group: the processes of a run. For now a run has one, and what would need more says so."""

from __future__ import annotations

import os
import sys
from typing import Any

# Set by torchrun, by Open MPI's mpirun, and by the others' (MPICH, Intel MPI, Slurm's PMI-2).
_LAUNCHERS = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


def world_size() -> tuple[int, str]:
    """Return how many processes this program runs as, and who says so; nothing is imported to find out.

    `torch.distributed` and MPI say so once they are set up. Until then the variable of a launcher does: processes that
    it started do not know of each other yet, and would still write to the same files.
    """
    distributed: Any = sys.modules.get("torch.distributed")
    mpi: Any = sys.modules.get("mpi4py.MPI")
    found: list[tuple[int, str]] = []
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        found.append((distributed.get_world_size(), "torch.distributed"))
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        found.append((mpi.COMM_WORLD.Get_size(), "MPI"))
    if not found:
        found = [(int(size), name) for name in _LAUNCHERS if (size := os.environ.get(name, "")).isdecimal()]
    return max(found, default=(1, "nobody"))


def check_alone(what: str) -> None:
    """Refuse what cannot be used in a run of several processes, whose files would be written by all of them.

    Args:
        what: Its name.

    Raises:
        RuntimeError: If this process is one of several.
    """
    size, source = world_size()
    if size > 1:
        alone = f", or unset {source} if each process is a run of its own" if source in _LAUNCHERS else ""
        raise RuntimeError(
            f"{what} must be used in a run of one process, as several would overwrite each other's files, and "
            f"{source} says {size}; leave it out{alone}"
        )
