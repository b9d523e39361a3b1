"""Checks for runs of your own: do they resume exactly, does the order of callbacks matter, where do two runs part?"""

from typing import TYPE_CHECKING

from lucid_train.lazy import lazy_names

if TYPE_CHECKING:
    from lucid_train.testing.lockstep import Divergence as Divergence
    from lucid_train.testing.lockstep import first_divergence as first_divergence
    from lucid_train.testing.processes import Completed as Completed
    from lucid_train.testing.processes import Hub as Hub
    from lucid_train.testing.processes import Launched as Launched
    from lucid_train.testing.processes import SocketGroup as SocketGroup
    from lucid_train.testing.processes import launch as launch
    from lucid_train.testing.processes import start_processes as start_processes
    from lucid_train.testing.resuming import assert_resumes_exactly as assert_resumes_exactly
    from lucid_train.testing.resuming import diff_states as diff_states
    from lucid_train.testing.resuming import pairs_that_do_not_commute as pairs_that_do_not_commute
    from lucid_train.testing.threads import ThreadGroup as ThreadGroup
    from lucid_train.testing.threads import run_in_threads as run_in_threads
    from lucid_train.testing.threads import thread_groups as thread_groups
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__)
