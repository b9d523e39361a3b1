"""What importing a schedule loads."""

import subprocess
import sys

import pytest


def loaded_by(program: str) -> set[str]:
    """Return which modules of the schedules, and which heavy ones, a fresh interpreter has loaded after a program."""
    script = f"{program}\nimport sys\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    names = set(result.stdout.split())
    ours = {name.removeprefix("lucid_train.schedules.") for name in names if name.startswith("lucid_train.schedules.")}
    heavy = {"numpy", "rich", "decimal", "lucid_train.optims", "lucid_train.trainer", "lucid_train.callback"}
    return ours | names & heavy


@pytest.mark.parametrize(
    ("program", "loaded"),
    [
        ("import lucid_train.schedules", set()),
        ("from lucid_train import schedules; dir(schedules)", set()),
        ("from lucid_train.schedules import Step; Step(5)(3)", {"length", "schedule", "decay"}),
        ("from lucid_train.schedules import Cosine; Cosine(5).table(9)", {"length", "schedule", "cosine"}),
        ("from lucid_train.schedules import OneCycle; OneCycle(1.0, 9)(3)", {"length", "schedule", "cycle"}),
        (
            "from lucid_train.schedules import Cosine; Cosine().warmup(3).sized(9)",
            {"length", "schedule", "cosine"},
        ),
    ],
)
def test_a_schedule_loads_what_it_is_made_of_and_no_more(program: str, loaded: set[str]) -> None:
    assert loaded_by(program) == loaded
