"""The schedules of transformers, optax, timm, Keras and torchtitan are expressions of ours; the page of them is true.

JAX forbids forks, which other tests need, and Keras reads its settings when it is imported: the cases have a process of
their own.
"""

import os
import subprocess
import sys
from pathlib import Path


def test_every_row_of_the_page_and_any_arguments_have_the_same_numbers(tmp_path: Path) -> None:
    cases = Path(__file__).with_name("schedules_of_others_cases.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(cases)]
    settings = {"KERAS_BACKEND": "torch", "KERAS_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=110, check=False, env={**os.environ, **settings}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
