"""Settings for all tests, and which of them need an extra."""

import gc
from importlib.util import find_spec

from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine takes long now and then
settings.load_profile("untimed")

collect_ignore = [] if find_spec("matplotlib") else ["test_plot.py"]


def pytest_collection_finish() -> None:
    gc.freeze()  # the tests themselves stay; walking through them at every gc.collect() takes a fifth of a second
