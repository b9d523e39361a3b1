"""Checks for runs of your own: do they resume exactly, does the order of the callbacks matter, do their ranks agree?"""

from typing import TYPE_CHECKING

from lucid_train.lazy import lazy_names

if TYPE_CHECKING:
    from lucid_train.testing.resuming import assert_resumes_exactly as assert_resumes_exactly
    from lucid_train.testing.resuming import diff_states as diff_states
    from lucid_train.testing.resuming import pairs_that_do_not_commute as pairs_that_do_not_commute
    from lucid_train.testing.threads import ThreadGroup as ThreadGroup
    from lucid_train.testing.threads import run_in_threads as run_in_threads
    from lucid_train.testing.threads import thread_groups as thread_groups
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__)
