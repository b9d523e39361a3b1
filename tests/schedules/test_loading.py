"""What importing a schedule loads."""

import pytest

from tests.support.processes import loaded_by

HEAVY = {"numpy", "rich", "decimal", "lucid_train.optims", "lucid_train.training.trainer", "lucid_train.callback"}


@pytest.mark.parametrize(
    ("program", "loaded"),
    [
        ("import lucid_train.schedules", set()),
        ("from lucid_train import schedules; dir(schedules)", set()),
        ("from lucid_train.schedules import Step; Step(5)(3)", {"length", "schedule", "shape", "decay"}),
        ("from lucid_train.schedules import Cosine; Cosine(5).table(9)", {"length", "schedule", "shape", "cosine"}),
        ("from lucid_train.schedules import OneCycle; OneCycle(1.0, 9)(3)", {"length", "schedule", "shape", "cycle"}),
        (
            "from lucid_train.schedules import Cosine; Cosine().warmup(3).sized(9)",
            {"length", "schedule", "shape", "cosine"},
        ),
    ],
)
def test_a_schedule_loads_what_it_is_made_of_and_no_more(program: str, loaded: set[str]) -> None:
    names = loaded_by(program)
    ours = {name.removeprefix("lucid_train.schedules.") for name in names if name.startswith("lucid_train.schedules.")}
    assert (ours, names & HEAVY) == (loaded, set())
