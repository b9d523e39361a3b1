"""What every callback of the catalogue has to stand."""

import copy
import io
import json
import pickle
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field, fields
from rich.console import Console

import lucid_train.callbacks
from lucid_train import Callback, EpochEnd, Event, StepEnd, Trainer, nn, optims, schedules
from lucid_train.callback import Hook
from lucid_train.callbacks import (
    Checkpoint,
    CosineAnnealingLRCallback,
    CSVLogger,
    EarlyStopping,
    EventLog,
    ExponentialLRCallback,
    GradientMonitor,
    LRSchedulerCallback,
    MLflowLogger,
    ParamSchedulerCallback,
    RichLogger,
    SpikeGuard,
    StepLRCallback,
    TensorBoardLogger,
    TerminateOnNaN,
    ThroughputMonitor,
    TimeLimit,
    TrackioLogger,
    WandbLogger,
    WeightAverage,
)
from lucid_train.optims.lr_scheduler import StepLR
from tests.support.tracking import mlflow_database


@define
class Floats:
    """A model whose state is plain JSON."""

    weights: list[float] = field(factory=lambda: [1.0, 2.0])

    def state_dict(self) -> dict[str, list[float]]:
        return {"weights": self.weights}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        self.weights = state["weights"]


# How to build each on an optimizer, arguments that are refused, and the name that the error gives.
CATALOGUE: dict[str, tuple[Callable[[Any], Callback], Callable[[], object], str]] = {
    "CSVLogger": (lambda optimizer: CSVLogger("run.csv"), lambda: CSVLogger(3), "path"),  # type: ignore[arg-type]
    "Checkpoint": (
        lambda optimizer: Checkpoint("checkpoints", weights=False),
        lambda: Checkpoint("checkpoints", keep=0),
        "keep",
    ),
    "CosineAnnealingLRCallback": (
        lambda optimizer: CosineAnnealingLRCallback(T_max=4),
        lambda: CosineAnnealingLRCallback(T_max=0),
        "T_max",
    ),
    "EarlyStopping": (lambda optimizer: EarlyStopping("loss"), lambda: EarlyStopping(patience=0), "patience"),
    "EventLog": (lambda optimizer: EventLog("run.jsonl"), lambda: EventLog("run.jsonl", heartbeat=0), "heartbeat"),
    "ExponentialLRCallback": (
        lambda optimizer: ExponentialLRCallback(gamma=0.9),
        lambda: ExponentialLRCallback(gamma=-1),
        "gamma",
    ),
    "GradientMonitor": (lambda optimizer: GradientMonitor(), lambda: GradientMonitor(0), "max_norm"),
    "LRSchedulerCallback": (
        lambda optimizer: LRSchedulerCallback(StepLR(optimizer, 2)),
        lambda: LRSchedulerCallback(3),
        "schedule",
    ),
    "MLflowLogger": (
        lambda optimizer: MLflowLogger("digits", tracking_uri=mlflow_database(Path()), timeout=60),
        lambda: MLflowLogger(""),
        "experiment",
    ),
    "ParamSchedulerCallback": (
        lambda optimizer: ParamSchedulerCallback(momentum=schedules.Exponential(0.5), interval="step"),
        lambda: ParamSchedulerCallback(momentum=0.5),  # type: ignore[arg-type]  # that it is refused is the claim
        "momentum",
    ),
    "RichLogger": (
        lambda optimizer: RichLogger(Console(file=io.StringIO(), width=80)),
        lambda: RichLogger(3),  # type: ignore[arg-type]  # that it is refused is the claim
        "console",
    ),
    "SpikeGuard": (lambda optimizer: SpikeGuard(), lambda: SpikeGuard(warmup=0), "warmup"),
    "StepLRCallback": (
        lambda optimizer: StepLRCallback(step_size=2),
        lambda: StepLRCallback(step_size=0),
        "step_size",
    ),
    "TensorBoardLogger": (
        lambda optimizer: TensorBoardLogger("curves", step_every=1, timeout=60),
        lambda: TensorBoardLogger("curves", timeout=0),
        "timeout",
    ),
    "TerminateOnNaN": (
        lambda optimizer: TerminateOnNaN(),
        lambda: TerminateOnNaN(action="x"),  # type: ignore[arg-type]  # that it is refused is the claim
        "action",
    ),
    "ThroughputMonitor": (lambda optimizer: ThroughputMonitor(8), lambda: ThroughputMonitor(0), "samples"),
    "TimeLimit": (lambda optimizer: TimeLimit(3600), lambda: TimeLimit(0), "seconds"),
    "TrackioLogger": (
        lambda optimizer: TrackioLogger("digits", step_every=1, timeout=60),
        lambda: TrackioLogger(""),
        "project",
    ),
    "WandbLogger": (
        lambda optimizer: WandbLogger("digits", mode="offline", step_every=1, timeout=60),
        lambda: WandbLogger("digits", mode="on"),
        "mode",
    ),
    "WeightAverage": (lambda optimizer: WeightAverage(0.5, model=Floats()), lambda: WeightAverage(1.0), "decay"),
}
COPIES: dict[str, Callable[[Any], Any]] = {
    "deep copy": copy.deepcopy,
    "pickle": lambda callback: pickle.loads(pickle.dumps(callback)),
}

# Packages that some need; where one is missing, the tests of its callback are left out.
PACKAGES = {
    "MLflowLogger": "mlflow",
    "TensorBoardLogger": "tensorboardX",
    "TrackioLogger": "trackio",
    "WandbLogger": "wandb",
}
every = pytest.mark.parametrize("name", sorted(name for name in CATALOGUE if find_spec(PACKAGES.get(name, "attrs"))))


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@define(eq=False)
class Doing(Callback):
    """Calls a function at the events of a class in epoch 2."""

    event: type[Event]
    function: Callable[[], object]

    def hooks(self, event: type[Event]) -> list[Hook]:
        return [lambda received: self.function() if received.epoch == 2 else None] if event is self.event else []


def optimizer() -> Any:
    return optims.SGD(nn.Linear(1, 1, rng=0).parameters(), lr=0.1, momentum=0.5)


def fit(callback: Callback, on: Any, *others: Callback, epochs: int = 3) -> list[tuple[float, ...]]:
    """Train for a while and return the rates that were used."""
    shutil.rmtree("checkpoints", ignore_errors=True)  # a new run keeps them apart from an old one's

    def step(batch: int) -> float:
        on.step()
        return 1 / batch

    trainer = Trainer(step, [1, 2], epochs=epochs, optimizer=on, callbacks=[callback, *others])
    return [record.lr for record in trainer.fit()]


def shown(callback: Callback) -> dict[str, Any]:
    """Return the settings, as far as they are shown."""
    own = {f.name: getattr(callback, f.name) for f in fields(type(callback)) if f.init and f.repr}
    # Whose numbers are arguments themselves.
    return {**getattr(callback, "numbers", {}), **own}


def test_the_catalogue_is_all_here() -> None:
    # RayReport needs a cluster, and has tests of its own.
    assert sorted([*CATALOGUE, "RayReport"]) == sorted(lucid_train.callbacks.__all__) == dir(lucid_train.callbacks)
    for name in CATALOGUE:
        assert issubclass(getattr(lucid_train.callbacks, name), Callback)
    with pytest.raises(AttributeError, match=r"module 'lucid_train.callbacks' has no attribute 'Early'"):
        lucid_train.callbacks.Early  # noqa: B018  # that it is refused is the claim


@every
def test_the_repr_shows_the_settings_and_nothing_else(name: str) -> None:
    on = optimizer()
    callback = CATALOGUE[name][0](on)
    before = repr(callback)
    settings = ", ".join(f"{key}={value!r}" for key, value in shown(callback).items())
    assert before == f"{name}({settings})"
    public = {f.name for f in fields(type(callback)) if f.init}
    numbers = set(getattr(callback, "numbers", ()))
    assert public - {"optimizer", "model", "on", "numbers"} | numbers == set(shown(callback))
    assert all(not f.repr for f in fields(type(callback)) if not f.init)
    fit(callback, on)
    if name != "LRSchedulerCallback":  # whose setting is the scheduler, which says where it stands
        assert repr(callback) == before


@every
def test_a_bad_argument_is_refused_by_name(name: str) -> None:
    _, wrong, argument = CATALOGUE[name]
    with pytest.raises((TypeError, ValueError), match=f"^'{argument}' must be "):
        wrong()


@every
def test_callbacks_have_identity(name: str) -> None:
    on = optimizer()
    one, other = CATALOGUE[name][0](on), CATALOGUE[name][0](optimizer())
    assert one != other
    assert one == one  # identity is the claim
    assert len({one, other}) == 2


@every
def test_a_misspelt_attribute_is_refused(name: str) -> None:
    callback = CATALOGUE[name][0](optimizer())
    with pytest.raises(AttributeError):
        callback.misspelt = 3  # type: ignore[attr-defined]  # that it is refused is the claim


@every
@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("when", ["before", "in a step", "at an epoch's end", "after"])
def test_a_copy_made_at_any_time_has_the_settings_and_the_state_and_trains(name: str, how: str, when: str) -> None:
    on = optimizer()
    callback = CATALOGUE[name][0](on)
    taken: list[tuple[Callback, dict[str, Any]]] = []

    def take() -> None:
        taken.append((COPIES[how](callback), callback.state_dict()))

    if when == "before":
        take()
    others = {"in a step": [Doing(StepEnd, take)], "at an epoch's end": [Doing(EpochEnd, take)]}.get(when, [])
    used = fit(callback, on, *others)
    if when == "after":
        take()
    twin, state = taken[0]
    assert type(twin) is type(callback)
    assert twin is not callback
    assert twin.state_dict() == state
    plain = {key: value for key, value in shown(callback).items() if key not in ("console", "schedule", "theme", "log")}
    assert {key: shown(twin)[key] for key in plain} == plain
    if name == "LRSchedulerCallback":  # the copy of a scheduler has a copy of the optimizer, and goes on from there
        on = twin.scheduler.optimizer  # type: ignore[attr-defined]
        begun = 0 if when == "before" else twin.scheduler.last_epoch  # type: ignore[attr-defined]
        assert fit(twin, on) == [(0.1 * 0.1 ** (epoch // 2),) for epoch in range(begun, begun + 3)]
    else:
        assert fit(twin, optimizer()) == used  # on another optimizer, a schedule starts again


@every
def test_a_state_goes_through_json_and_into_another(name: str) -> None:
    on, elsewhere = optimizer(), optimizer()
    callback, other = CATALOGUE[name][0](on), CATALOGUE[name][0](elsewhere)
    fit(callback, on)
    state = callback.state_dict()
    written = json.loads(json.dumps(state))
    assert written == state
    other.load_state_dict(written)
    assert other.state_dict() == state
    rates = fit(callback, on, epochs=2)
    if "LR" in name:
        assert fit(other, elsewhere, epochs=2) == rates


@every
def test_a_state_that_does_not_fit_is_refused(name: str) -> None:
    callback = CATALOGUE[name][0](optimizer())
    with pytest.raises(ValueError, match=f"the state of {name} does not fit: .*'alien' is unknown"):
        callback.load_state_dict({"alien": 1})


@every
def test_two_fits_of_one_trainer_and_a_restart(name: str) -> None:
    on = optimizer()
    callback = CATALOGUE[name][0](on)
    trainer = Trainer(lambda batch: on.step() or 1 / batch, [1, 2], epochs=2, optimizer=on, callbacks=[callback])
    trainer.fit()
    whole = [record.lr for record in trainer.fit(4)]
    state = callback.state_dict()
    assert [record.lr for record in trainer.fit(4, restart=True)] == whole
    # The time that was spent, and the id of the run at a tracker.
    assert name in ("TimeLimit", *PACKAGES) or callback.state_dict() == state


@every
def test_reset_brings_the_first_state_back(name: str) -> None:
    on = optimizer()
    callback = CATALOGUE[name][0](on)
    first, settings = callback.state_dict(), shown(callback)
    callback.reset()
    assert callback.state_dict() == first
    fit(callback, on)
    callback.reset()
    assert callback.state_dict() == first
    assert shown(callback) == settings


@every
def test_it_stands_a_fit_that_fails_and_one_after_it(name: str) -> None:
    on = optimizer()
    callback = CATALOGUE[name][0](on)

    def fail() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fit(callback, on, Doing(StepEnd, fail))
    assert len(fit(callback, on)) == 3
