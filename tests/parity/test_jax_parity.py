"""JAX starts threads when it is imported and forbids forks, which other tests need: its own tests have a process."""

import subprocess
import sys
from pathlib import Path


def test_what_is_of_jax_comes_back_as_it_was_and_is_scheduled_and_not_waited_for() -> None:
    cases = [str(Path(__file__).with_name(name)) for name in ("jax_cases.py", "jax_schedule_cases.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *cases]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
