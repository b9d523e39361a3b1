"""The example with two networks and two optimizers is killed, and goes on to the same numbers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lucid_train import load_weights, read_checkpoint
from lucid_train.testing import diff_states

EXAMPLE = Path(__file__).parents[2] / "examples" / "gan.py"

# Runs a program that is killed as soon as it has written a line that begins with a text.
KILLED = """
import os, runpy, signal, sys
program, begin = sys.argv[1], sys.argv.pop()
write = sys.stdout.write

def watched(text):
    count = write(text)
    if any(line.startswith(begin) for line in text.splitlines()):
        os.kill(os.getpid(), signal.SIGKILL)
    return count

sys.stdout.write = watched
del sys.argv[0]
runpy.run_path(program, run_name="__main__")
"""


def run(directory: Path, kill_at: str | None = None) -> str:
    """Run the example and return its last line, or kill it once a line begins with that text."""
    arguments = [str(EXAMPLE), str(directory)]
    done = subprocess.run(
        [sys.executable, *(arguments if kill_at is None else ["-c", KILLED, *arguments, kill_at])],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == (0 if kill_at is None else -signal.SIGKILL), done.stderr
    return done.stdout.splitlines()[-1] if kill_at is None else ""


def test_a_gan_that_is_killed_twice_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    expected = run(tmp_path / "straight")
    run(tmp_path / "killed", "epoch 3/8")
    run(tmp_path / "killed", "epoch 6/8")
    assert run(tmp_path / "killed") == expected
    one, other = (read_checkpoint(tmp_path / name) for name in ("straight", "killed"))
    for each in (one, other):
        del each["progress"]["latest_pass"]["random"]  # the program does not seed Python's and numpy's generators
    assert diff_states([one["extras"], one["progress"]], [other["extras"], other["progress"]]) == []
    assert list(one["extras"]) == ["generator", "critic", "generator_optimizer", "critic_optimizer"]
    assert diff_states(load_weights(tmp_path / "killed", "last", name="critic"), one["extras"]["critic"]) == []
    with pytest.raises(ValueError, match=r"one of the run's extras, \['critic', .*\], as it has no model: None"):
        load_weights(tmp_path / "killed", "last")
