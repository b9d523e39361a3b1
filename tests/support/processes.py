"""Programs in processes of their own: the command line, and runs that are killed at random moments."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lucid_train import read_checkpoint
from lucid_train.testing import diff_states


def command(*arguments: Any) -> list[str]:
    """Return the command line of `lucid-train` with these arguments."""
    return [sys.executable, "-m", "lucid_train", *map(str, arguments)]


def run(*arguments: Any, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=100, **settings)


def loaded_by(program: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after a program that prints nothing."""
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.split())


def completes(arguments: list[str], delay: float | None) -> bool:
    """Run a program, kill it `delay` seconds after it says that it is ready, and return whether it came to its end."""
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    if delay is not None:
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=100)
    assert process.returncode in (0, -signal.SIGKILL), errors
    return process.returncode == 0


def assert_survives(program: str, folder: Path, *, kills: int, longest: float) -> None:
    """Run a program once through, and again killed at random moments; compare what they came to.

    The program gets the directory of its checkpoints and the file for its result, and prints a line before it trains.

    Args:
        kills: How many runs are killed in all.
        longest: The most seconds after which a run is killed.
    """
    file = folder / "program.py"
    file.write_text(program)
    assert completes([sys.executable, str(file), str(folder / "straight"), str(folder / "expected")], None)
    expected = read_checkpoint(folder / "expected")
    chance = random.Random(kills)
    done = 0
    for attempt in range(kills + 1):
        result = folder / f"result-{attempt}"
        arguments = [sys.executable, str(file), str(folder / f"killed-{attempt}"), str(result)]
        while not completes(arguments, None if done == kills else chance.uniform(0.0, longest)):
            done += 1
        assert diff_states(expected, read_checkpoint(result)) == []
        if done == kills:
            return
    raise AssertionError(f"only {done} of {kills} runs were killed")
