"""Copies, and the ways to make one."""

import copy
import pickle
from typing import Any

import pytest


def pickled(thing: Any, protocol: int = pickle.DEFAULT_PROTOCOL) -> Any:
    return pickle.loads(pickle.dumps(thing, protocol))


every_copy = pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled], ids=["deep", "pickled"])
