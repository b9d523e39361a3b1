"""Metric objects: gathered over the steps or the evaluation, recorded, and saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import define, field

from lucid_train import StepEnd, Trainer, nn
from lucid_train.callbacks import Checkpoint, EarlyStopping
from lucid_train.testing import diff_states


@define
class Mean:
    """The mean of all numbers, as a metric object."""

    total: Any = 0.0
    count: int = 0

    def update(self, *numbers: float) -> None:
        self.total = self.total + sum(numbers)
        self.count += len(numbers)

    def compute(self) -> Any:
        return self.total / self.count

    def reset(self) -> None:
        self.total, self.count = 0.0, 0


@define
class Stated(Mean):
    """The same with a state of its own."""

    def state_dict(self) -> dict[str, float]:
        return {"sum": self.total, "number": self.count}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.total, self.count = state["sum"], int(state["number"])


class Slotted:
    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def update(self, number: float) -> None:
        self.seen.append(np.array([number]))

    def compute(self) -> Any:
        return np.concatenate(self.seen).mean()

    def reset(self) -> None:
        self.seen = []


def trainer(metric: Any, *callbacks: Any, epochs: int = 2, fails_at: int | None = None, **settings: Any) -> Trainer:
    done = 0

    def step(batch: float) -> float:
        nonlocal done
        done += 1
        if done == fails_at:
            raise OSError("power cut")
        metric.update(batch)
        return 0.5

    return Trainer(step, [1.0, 2.0, 6.0], epochs=epochs, metrics={"mean": metric}, callbacks=callbacks, **settings)


def test_they_are_reset_before_each_epoch_and_computed_at_its_end() -> None:
    metric = Mean()
    metric.update(100.0)
    history = trainer(metric).fit()
    assert [record.metrics for record in history] == [{"loss": 0.5, "mean": 3.0}] * 2
    assert metric == Mean(9.0, 3)  # for whoever asks it for more


@pytest.mark.parametrize(("every", "evaluations"), [(1, 0), ("2 steps", 3)])
def test_those_of_the_evaluation_are_gathered_within_it(every: int | str, evaluations: int) -> None:
    metric, own = Mean(), Mean()

    def evaluate() -> dict[str, float]:
        own.update(own.count + 1.0)
        own.update(3.0)
        return {"loss": 0.25}

    run = trainer(metric, evaluate=evaluate, evaluate_every=every)
    run.metrics = {"mean": metric, "val_own": own}
    history = run.fit()
    found = {"val_loss": 0.25, "val_own": 2.0}
    assert [each.metrics for each in history.evaluations] == [found] * evaluations
    ends = {} if evaluations else found
    assert [record.metrics for record in history] == [{"loss": 0.5, "mean": 3.0, **ends}] * 2


@pytest.mark.parametrize("prefix", ["val_", ""])
def test_a_mapping_is_recorded_under_a_name_for_each_number(prefix: str) -> None:
    steps, own = Several(), Several()

    def evaluate() -> dict[str, float]:
        own.update(4.0)
        return {}

    run = trainer(steps, EarlyStopping("val_a", mode="min"), evaluate=evaluate, evaluate_prefix=prefix)
    run.metrics = {"mean": steps, "val": own}
    history = run.fit()
    # Without a prefix nothing says that it is one of the evaluation: it is reset before the epoch all the same.
    assert [record.metrics for record in history] == [
        {"loss": 0.5, "mean_a": 9.0, "mean_b": 2.0, "val_a": 4.0 if prefix else 0.0, "val_mean_b": 2.0}
    ] * 2


def test_callbacks_follow_them() -> None:
    stopping = EarlyStopping("mean", mode="min", patience=1)
    history = trainer(Mean(), stopping, epochs=9).fit()
    assert (len(history), stopping.best) == (2, 3.0)


@pytest.mark.parametrize("make", [Mean, Stated, Slotted, lambda: Mean(np.zeros(()))])
def test_what_they_have_gathered_survives_a_kill_within_an_epoch(make: Any, tmp_path: Path) -> None:
    def saved() -> Checkpoint:
        return Checkpoint(tmp_path, every=1, interval="step", weights=False)

    with pytest.raises(OSError, match="power cut"):
        trainer(make(), saved(), fails_at=6).fit()
    again = make()
    history = trainer(again, saved()).fit(resume="auto")
    assert history.metric("mean") == [3.0, 3.0]
    assert (history[-1].epoch, history[-1].steps) == (2, 3)


def test_a_state_that_was_taken_does_not_change_with_them() -> None:
    metric, states = Slotted(), []
    run = trainer(metric, epochs=1)
    run.on(StepEnd)(lambda event: event.run.at_safe_point(lambda: states.append(run.state_dict()["metrics"])))
    run.fit()
    assert [len(state["mean"]["state"]["seen"]) for state in states] == [1, 2, 3]


def test_they_are_named_in_the_repr() -> None:
    assert "  metrics    mean" in repr(trainer(Mean())).splitlines()


class Constant(Mean):
    def compute(self) -> Any:
        return 1.0


class Vector(Mean):
    def compute(self) -> Any:
        return np.ones(3)


class Several(Mean):
    def compute(self) -> Any:
        return {"a": self.total, "mean_b": np.float32(2.0)}


class Named(Mean):
    def compute(self) -> Any:
        return ["a"]


class Keeping(Mean):
    """Says that it has no state."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


@define
class Scored(Mean):
    score: Any = field(default=lambda x: x)


def returned(metric: Any, **result: float) -> None:
    Trainer(lambda batch: result, [1.0], metrics={"mean": metric}).fit()


def of_evaluation(metric: Any, name: str, **settings: Any) -> None:
    Trainer(lambda batch: 0.5, [1.0], metrics={name: metric}, **settings).fit()


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "no mapping": (
        lambda: Trainer(metrics=[Mean()]),  # type: ignore[arg-type]
        TypeError,
        r"'metrics' must be a mapping of names to objects with update\(\), compute\(\) and reset\(\): \[Mean",
    ),
    "a class": (
        lambda: Trainer(metrics={"mean": Mean}),  # type: ignore[dict-item]
        TypeError,
        r"'metrics\['mean'\]' must have update\(\), compute\(\) and reset\(\), pass an instance: <class",
    ),
    "a number": (
        lambda: Trainer(metrics={"mean": 0.5}),  # type: ignore[dict-item]
        TypeError,
        r"'metrics\['mean'\]' must have update\(\), compute\(\) and reset\(\): 0\.5",
    ),
    "no name": (lambda: Trainer(metrics={"": Mean()}), TypeError, "'metrics' must be the name of a metric: ''"),
    "an empty state": (
        lambda: trainer(Keeping()),
        TypeError,
        r"'metrics\['mean'\]' must save what it gathers, but its state_dict\(\) is empty, let it return",
    ),
    "an empty state among the extras": (
        lambda: Trainer(extras={"mean": Keeping()}),
        TypeError,
        r"'extras\['mean'\]' must not be a metric whose state_dict\(\) is empty, pass Trainer\(metrics=",
    ),
    "one of an evaluation without one": (
        lambda: of_evaluation(Mean(), "val_mean"),
        ValueError,
        r"'evaluate' must be given with a metric of it, metrics\['val_mean'\]: None",
    ),
    "an array": (
        lambda: trainer(Vector()).fit(),
        TypeError,
        r"'metrics\['mean'\]\.compute\(\)' must return single numbers: 'mean' has the shape \(3,\)",
    ),
    "neither a number nor a mapping": (
        lambda: trainer(Named()).fit(),
        TypeError,
        r"'metrics\['mean'\]\.compute\(\)' must return a real number or a mapping of them: \['a'\]",
    ),
    "a name that the step returns, in a mapping": (
        lambda: returned(Several(), mean_a=1.0),
        ValueError,
        "'metrics' must not have a name that is returned too, by a step or 'evaluate': 'mean_a'",
    ),
    "one name of two objects": (
        lambda: Trainer(lambda batch: 0.5, [1.0], metrics={"mean": Several(), "mean_a": Constant()}).fit(),
        ValueError,
        r"'metrics' must not come to one name twice: 'mean_a', by metrics\['mean_a'\] too",
    ),
    "a name that the step returns": (
        lambda: returned(Constant(), mean=1.0),
        ValueError,
        "'metrics' must not have a name that is returned too, by a step or 'evaluate': 'mean'",
    ),
    "a name that the evaluation returns": (
        lambda: of_evaluation(Constant(), "val_mean", evaluate=lambda: {"mean": 1.0}),
        ValueError,
        "'metrics' must not have a name that is returned too, by a step or 'evaluate': 'val_mean'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_refused(name: str) -> None:
    act, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        act()


def test_an_attribute_that_cannot_be_saved_is_refused_by_name_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"metrics.*mean.*score"):
        trainer(Scored(), Checkpoint(tmp_path, weights=False)).fit()


def test_a_resume_names_a_metric_that_is_only_on_one_side(tmp_path: Path) -> None:
    model = nn.Linear(1, 1, rng=0)
    trainer(Mean(), Checkpoint(tmp_path), model=model).fit()
    run = trainer(Mean(), Checkpoint(tmp_path), model=model, epochs=3)
    run.metrics = {"average": Mean()}
    with pytest.raises(
        ValueError, match="the state of the metrics does not fit: 'average' is missing, 'mean' is unknown"
    ):
        run.fit(resume="auto")


def test_an_exception_names_the_metric() -> None:
    class Broken(Mean):
        def compute(self) -> Any:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        trainer(Broken()).fit()
    assert "raised by metrics['mean'].compute" in caught.value.__notes__


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, r"the state of metrics\.mean does not fit: 'state' is missing, 'updates' is missing"),
        ({"updates": None, "state": {"total": 1.0}}, "does not fit: 'count' is missing"),
        ({"updates": None, "state": {"total": 1.0, "count": "x"}}, r"'metrics\.mean\.count' must be a number: 'x'"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(state: Any, message: str) -> None:
    run = trainer(Mean())
    whole = run.state_dict()
    assert diff_states(whole["metrics"], {"mean": {"updates": None, "state": {"total": 0.0, "count": 0}}}) == []
    with pytest.raises(ValueError, match=message):
        run.load_state_dict({**whole, "metrics": {"mean": state}})
