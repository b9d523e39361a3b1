"""Checkpoint files: a tree of values and arrays, written whole or not at all, read without trusting it.

A file has the layout of safetensors: a JSON header with the type, shape and place of every array, then the raw bytes.
All sizes are checked against the file's before any memory is allocated. Nothing in it is compressed, and it holds no
file names and no pickle. bfloat16 and float8 are supported, and any tool that reads safetensors can open the weights.
Everything but the arrays is JSON, in a first entry of bytes. The last entry is the SHA-256 of all that precedes it.
The history, which grows, is in a file beside the checkpoints of a run, and each of them names its part of it.

>>> import tempfile, pathlib, numpy as np
>>> path = pathlib.Path(tempfile.mkdtemp()) / "state.safetensors"
>>> write_checkpoint(path, {"weight": np.zeros((2, 2)), "epoch": 3})
>>> read_checkpoint(path)["epoch"]
3
"""

from lucid_train.saving.checkpoint.directory import Directory, read_checkpoint
from lucid_train.saving.checkpoint.format import CheckpointError, write_checkpoint

__all__ = ["CheckpointError", "Directory", "read_checkpoint", "write_checkpoint"]
