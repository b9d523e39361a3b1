"""Settings of hypothesis for all tests."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine takes long now and then
settings.load_profile("untimed")
