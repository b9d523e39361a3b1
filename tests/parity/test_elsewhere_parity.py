"""The frameworks are slow to import and set up loggers, signals and warnings: their tests have their own processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("cases", "environment"),
    [("framework_cases.py", {"KERAS_BACKEND": "torch"}), ("keras_cases.py", {"KERAS_BACKEND": "jax"})],
    ids=["frameworks of torch", "keras on jax"],
)
def test_our_schedules_and_schedulers_do_in_other_frameworks_what_the_page_says(
    cases: str, environment: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    # What the frameworks use that is deprecated is theirs; all other warnings are errors.
    command += ["-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning"]
    command += [str(Path(__file__).with_name(cases))]
    # Hubs are not asked, nor is anything written to the home of the user.
    environment = os.environ | environment | {"HF_HUB_OFFLINE": "1", "KERAS_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
