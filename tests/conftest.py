"""Settings of hypothesis for all tests, and which tests need an extra."""

from importlib.util import find_spec

from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine takes long now and then
settings.load_profile("untimed")

collect_ignore = [] if find_spec("matplotlib") else ["test_plot.py"]
