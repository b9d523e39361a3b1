"""The processes of a run, and what connects them.

A Trainer finds them by itself when a fit starts: those of `torch.distributed`, if that is initialised, else those of
MPI, if mpi4py is imported, else this process alone.
"""

from typing import TYPE_CHECKING

from lucid_train.lazy import lazy_names

if TYPE_CHECKING:
    from lucid_train.group.protocol import Group as Group
    from lucid_train.group.protocol import Solo as Solo
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__)
