"""What importing a part of the package loads, and that every public name can be had."""

import importlib

import pytest

from tests.support.processes import loaded_by

PACKAGES = [
    "lucid_train",
    "lucid_train.optims",
    "lucid_train.callbacks",
    "lucid_train.schedules",
    "lucid_train.optims.lr_scheduler",
]
HEAVY = {"pkgutil", "numpy", "rich", "lucid_train.training.trainer", "lucid_train.callback", "lucid_train.nn"}

STEPPING = """
from lucid_train.optims.lr_scheduler import CosineAnnealingLR, ExponentialLR, StepLR

class Optimizer:
    def __init__(self):
        self.param_groups = [{"lr": 0.1}, {"lr": 0.2}]

for scheduler in (StepLR(Optimizer(), 2), ExponentialLR(Optimizer(), 0.9), CosineAnnealingLR(Optimizer(), 5)):
    for _ in range(12):
        scheduler.step()
    scheduler.load_state_dict(scheduler.state_dict())
    assert scheduler.last_lr == scheduler.get_last_lr() == scheduler.lr_at(12), repr(scheduler)
"""


@pytest.mark.parametrize(
    "program",
    [
        "import lucid_train",
        "import lucid_train.optims",
        "import lucid_train.optims as optim",
        "import lucid_train.optims.lr_scheduler",
        "from lucid_train.optims.lr_scheduler import StepLR, ExponentialLR",
        "from lucid_train.optims import lr_scheduler",
        "import lucid_train; lucid_train.optims.lr_scheduler.StepLR",
        "import lucid_train; dir(lucid_train); dir(lucid_train.optims)",
        STEPPING,
    ],
)
def test_the_schedules_load_nothing_heavy(program: str) -> None:
    assert loaded_by(program) & HEAVY == set()


def test_an_array_loads_numpy() -> None:
    assert loaded_by(f"{STEPPING}\nscheduler.lr_at(range(3))") & HEAVY == {"numpy"}


def test_the_callbacks_of_the_schedules_load_no_rich() -> None:
    assert "rich" not in loaded_by("from lucid_train.callbacks import StepLRCallback, EarlyStopping")


def test_replaying_a_run_loads_nothing_of_the_catalogue() -> None:
    names = loaded_by("import lucid_train.recording.replay")
    assert [name for name in names if name.startswith("lucid_train.callbacks")] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_can_be_had_and_is_listed(package: str) -> None:
    module = importlib.import_module(package)
    assert len(module.__all__) == len(set(module.__all__))
    assert [name for name in module.__all__ if getattr(module, name) is None] == []
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_star_import_gives_the_public_names(package: str) -> None:
    names: dict[str, object] = {}
    exec(f"from {package} import *", names)
    assert set(names) - {"__builtins__"} == set(importlib.import_module(package).__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_an_unknown_name_is_an_attribute_error_that_says_where(package: str) -> None:
    module = importlib.import_module(package)
    with pytest.raises(AttributeError, match=f"^module '{package}' has no attribute 'StepLRr'"):
        _ = module.StepLRr


def test_a_name_that_is_not_there_cannot_be_imported() -> None:
    with pytest.raises(ImportError, match="cannot import name 'Traner' from 'lucid_train'"):
        exec("from lucid_train import Traner")


@pytest.mark.parametrize("package", PACKAGES)
def test_a_lazy_name_is_the_same_object_each_time(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is getattr(module, name)
