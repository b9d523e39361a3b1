"""What holds for all tests."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a machine that is busy proves nothing
settings.load_profile("untimed")
