"""Group: the processes of a run. For now a run has one, and what would need more says so."""

from __future__ import annotations

import os
import sys
from operator import itemgetter
from typing import Any

# Set by torchrun, by Open MPI's mpirun, and by the others' (MPICH, Intel MPI, Slurm's PMI-2).
_LAUNCHERS = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


def world_size() -> tuple[int, str]:
    """Return how many processes this program runs as, and who says so; nothing is imported to find out.

    `torch.distributed` says so once it is set up. Until then the variables of launchers do: processes that one started
    do not know of each other yet, and would still write to the same files. MPI may be set up for one process by an
    import alone, so its number counts only where it is the larger one.
    """
    distributed: Any = sys.modules.get("torch.distributed")
    mpi: Any = sys.modules.get("mpi4py.MPI")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        found = [(int(distributed.get_world_size()), "torch.distributed")]
    else:
        found = [(int(size), name) for name in _LAUNCHERS if (size := os.environ.get(name, "")).isdecimal()]
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        found.insert(0, (mpi.COMM_WORLD.Get_size(), "MPI"))
    return max(found, key=itemgetter(0), default=(1, "nobody"))


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
