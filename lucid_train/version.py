"""The version, which stands in pyproject.toml alone: read from what is installed."""

from importlib.metadata import version

__version__: str = version("lucid-train")
