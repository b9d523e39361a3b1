"""The processes of a run, and what connects them.

A Trainer finds them by itself when a fit starts: those of `torch.distributed`, if that is initialised, else those of
MPI, if mpi4py is imported, else this process alone.
"""

from typing import TYPE_CHECKING

from lucid_train.lazy import lazy_names

if TYPE_CHECKING:
    from lucid_train.group.discovery import open_group as open_group
    from lucid_train.group.discovery import place as place
    from lucid_train.group.mpi_group import MPIGroup as MPIGroup
    from lucid_train.group.protocol import Group as Group
    from lucid_train.group.protocol import Solo as Solo
    from lucid_train.group.torch_group import TorchGroup as TorchGroup
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__)
