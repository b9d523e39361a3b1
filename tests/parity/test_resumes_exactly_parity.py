"""Every set-up of the table with PyTorch, killed and resumed at every moment at which it can be saved."""

from __future__ import annotations

import pytest

from tests.parity.setups import SETUPS
from tests.support.setups import SetUp, assert_kept, each_of


@each_of(SETUPS)
def test_a_run_that_is_resumed_goes_on_exactly_or_is_refused(setup: SetUp) -> None:
    assert_kept(setup, quick=True)


@pytest.mark.slow
@each_of({name: setup for name, setup in SETUPS.items() if setup.quick is not None})
def test_it_does_so_at_every_moment(setup: SetUp) -> None:
    assert_kept(setup)
