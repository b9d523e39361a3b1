"""The pages of docs/coming_from. Each framework is imported once, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.coming_from import ours, unknown

PAGES = ("pytorch", "lightning", "ignite", "transformers", "keras")


@pytest.mark.parametrize(
    "code",
    [
        "Trainr(step)",
        "Trainer(step, epoch=3)",
        "Trainer(step).train()",
        "run.halt()",
        "history.best('loss').rate",
        "schedules.Cosine().warm_up(5)",
        "schedules.Linear(0.1).then(schedules.Cosinus())",
        "on_batch_end",
        "trainer.on(BatchEnd)",
        "np.mean",
        "for batch in loader",
    ],
)
def test_code_that_names_what_is_not_there_is_found(code: str) -> None:
    [found] = unknown([f"words and `{code}`, and `Trainer(step, epochs=3).fit()`"], ours())
    assert found.startswith(f"{code}: ")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_programs_of_a_page_train_alike_and_it_says_what_is_so(page: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    # What the frameworks use that is deprecated is theirs; all other warnings are errors.
    command += ["-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning"]
    command += [str(Path(__file__).with_name(f"coming_from_{page}_cases.py"))]
    # Hubs are not asked, nor is anything written to the home of the user.
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "KERAS_BACKEND": "torch", "KERAS_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
