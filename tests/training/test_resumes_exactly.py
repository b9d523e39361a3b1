"""Every set-up of the table, killed and resumed at every moment at which it can be saved."""

from __future__ import annotations

from tests.support.setups import SETUPS, SetUp, assert_kept, each_of


@each_of(SETUPS)
def test_a_run_that_is_resumed_goes_on_exactly_or_is_refused(setup: SetUp) -> None:
    assert_kept(setup, quick=True)
