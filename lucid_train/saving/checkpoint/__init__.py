"""Checkpoint files: a tree of values and arrays, written whole or not at all, read without trusting it.

A file has the layout of safetensors: a JSON header with every array's type, shape and place, then the raw bytes. The
sizes are known, and compared with the file's, before any memory is taken; there is nothing compressed that could swell,
no directory of names, no pickle; bfloat16 and float8 have a place; and the weights open in any tool that reads
safetensors. What is no array is JSON, in a first entry of bytes. The last entry is the SHA-256 of all that precedes it.

>>> import tempfile, pathlib, numpy as np
>>> path = pathlib.Path(tempfile.mkdtemp()) / "state.safetensors"
>>> write_checkpoint(path, {"weight": np.zeros((2, 2)), "epoch": 3})
>>> read_checkpoint(path)["epoch"]
3
"""

from lucid_train.saving.checkpoint.directory import Directory
from lucid_train.saving.checkpoint.format import CheckpointError, read_checkpoint, write_checkpoint

__all__ = ["CheckpointError", "Directory", "read_checkpoint", "write_checkpoint"]
