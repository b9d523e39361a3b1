"""The state of a run: taken, written to a checkpoint, and restored."""
