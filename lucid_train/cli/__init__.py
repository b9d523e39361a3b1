"""The `lucid-train` command."""
