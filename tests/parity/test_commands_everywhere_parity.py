"""Commands to every set-up of the table with PyTorch."""

from pathlib import Path

import pytest

from tests.parity.setups import SETUPS
from tests.support.commands import assert_goes_on_with_its_rate, assert_only_looks
from tests.support.setups import SetUp, each_of

EXACT = {name: setup for name, setup in SETUPS.items() if setup.refused is None}
# One of its callbacks counts the evaluations.
COUNTING = {"callbacks of one family each"}


@pytest.mark.slow
@each_of(EXACT)
def test_a_run_whose_rate_was_set_is_resumed_exactly(setup: SetUp) -> None:
    assert_goes_on_with_its_rate(setup)


@pytest.mark.slow
@each_of({name: setup for name, setup in EXACT.items() if name not in COUNTING})
def test_an_evaluation_that_is_asked_for_changes_nothing(setup: SetUp, tmp_path: Path) -> None:
    assert_only_looks(setup, tmp_path)
