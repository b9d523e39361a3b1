"""find_lr: what it finds, that it leaves no trace, and what it refuses."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucid_train import LRCurve, StepResult, Trainer, find_lr, nn, optims
from lucid_train.data import batches
from lucid_train.events import StepEnd
from lucid_train.optims.lr_scheduler import LRScheduler
from lucid_train.schedules import Constant
from lucid_train.testing import diff_states
from tests.support.rehearsals import PLACES, Place, assert_unnoticed, timeless, trained
from tests.support.setups import SETUPS, SetUp

AN_ITERATOR = "which an iterator cannot"
SHARED = "must not draw from a random generator that the steps draw from too"
# A pass that is left in an open epoch is refused where a resume refuses it, an iterator always.
REFUSED = {
    ("a shuffle buffer on the generator that the step draws from", PLACES[2]): SHARED,
    **{
        (name, place): AN_ITERATOR for name in SETUPS for place in PLACES if "iterator" in name or "generator f" in name
    },
    **{("an endless generator with a generator of its own", place): AN_ITERATOR for place in PLACES},
}
# What these accumulate is counted in a variable of the step function.
COUNTS = ("accumulated gradients", "a moving average of accumulated gradients")
CASES = [
    pytest.param(setup, place, REFUSED.get((name, place)), id=f"{name}, {place}")
    for name, setup in SETUPS.items()
    for place in PLACES
    if name != "a rehearsal" and not (name in COUNTS and place == PLACES[2])
    if not (name == "a generator for one epoch" and place != PLACES[0])
]


def regression(rate: Any = 0.1, *, step: Callable[[Any], Any] | None = None, **settings: Any) -> Trainer:
    """Return a Trainer that fits a line."""
    rows = np.random.default_rng(0).normal(size=(12, 2))
    model, criterion = nn.Linear(2, 1, rng=0), nn.MSELoss()
    optimizer = optims.SGD(model.parameters(), lr=rate, momentum=0.5)

    def update(batch: Any) -> Any:
        optimizer.zero_grad()
        loss = criterion(model(batch), batch[:, :1])
        model.backward(criterion.backward())
        optimizer.step()
        return loss

    data = batches(rows, batch_size=3, seed=2)
    return Trainer(
        update if step is None else step, **{"data": data, "model": model, "optimizer": optimizer, **settings}
    )


@pytest.mark.parametrize(("setup", "place", "refused"), CASES)
def test_training_after_it_is_training_without_it(
    setup: SetUp, place: Place, refused: str | None, tmp_path: Path
) -> None:
    assert_unnoticed(setup.build, place, tmp_path, refused=refused)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_step_that_fails_or_is_interrupted_leaves_no_trace(
    place: Place, error: type[BaseException], tmp_path: Path
) -> None:
    fails = False

    def build() -> Trainer:
        trainer = SETUPS["metric objects"].build()
        inner, done = trainer.step, 0
        assert inner is not None

        def step(batch: Any) -> Any:
            nonlocal done
            output = inner(batch)
            done += fails
            if fails and done == 2:
                raise error
            return output

        trainer.step = step
        return trainer

    def search(trainer: Trainer) -> None:
        nonlocal fails
        fails = True
        with pytest.raises(error):
            find_lr(trainer)
        fails = False

    straight = trained(build, place, tmp_path / "straight", lambda trainer: None)
    assert diff_states(straight, trained(build, place, tmp_path / "searched", search)) == []


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_curve_and_leaves_no_trace(loss: float, tmp_path: Path) -> None:
    trainer, done = regression(), 0
    inner = trainer.step
    assert inner is not None

    def step(batch: Any) -> Any:
        nonlocal done
        done += 1
        output = inner(batch)
        return loss if done == 20 else output

    before = timeless(trainer.state_dict())
    trainer.step = step
    curve = find_lr(trainer, 1e-3, 1.0, 40)
    assert (len(curve.rates), curve.end) == (19, f"the loss is {loss} at {curve.rates[-1] * 1000 ** (1 / 39):.3g}")
    assert diff_states(before, timeless(trainer.state_dict())) == []


def test_a_state_that_was_loaded_is_still_there_after_it() -> None:
    def resumed(*, searched: bool) -> Any:
        first = regression(epochs=1)
        first.fit()
        second = regression(epochs=3)
        second.load_state_dict(first.state_dict(), accept="epochs")
        if searched:
            find_lr(second)
        second.fit()
        return timeless(second.state_dict())

    assert diff_states(resumed(searched=False), resumed(searched=True)) == []


def test_it_leaves_neither_threads_nor_gradients_nor_modes() -> None:
    trainer, threads = regression(), threading.enumerate()
    find_lr(trainer)
    assert threading.enumerate() == threads
    assert trainer.model is not None
    assert [each.grad for each in trainer.model.parameters()] == [None, None]  # type: ignore[attr-defined]


def test_parameters_that_no_model_has_are_put_back() -> None:
    trainer = regression()
    lonely = nn.Linear(1, 1, rng=3)
    before = lonely.state_dict()
    inner = trainer.step
    assert inner is not None
    optimizer: Any = trainer.optimizer
    optimizer.param_groups[0]["params"] += [*lonely.parameters()]

    def step(batch: Any) -> Any:
        for parameter in lonely.parameters():
            parameter.grad = np.ones_like(parameter.data)
        output = inner(batch)
        for parameter in lonely.parameters():
            parameter.data += 1
        return output

    trainer.step = step
    find_lr(trainer)
    assert diff_states(before, lonely.state_dict()) == []


def test_the_rates_rise_by_one_factor_from_update_to_update() -> None:
    trainer, seen = regression(), []
    inner, optimizer = trainer.step, trainer.optimizer
    assert inner is not None
    assert optimizer is not None
    trainer.step = lambda batch: (seen.append(optimizer.param_groups[0]["lr"]), inner(batch))[1]
    curve = find_lr(trainer, 1e-4, 1e-2, 21)
    assert tuple(seen) == curve.rates
    assert curve.rates == pytest.approx(np.geomspace(1e-4, 1e-2, 21), rel=1e-12)
    assert (curve.rates[0], curve.rates[-1], optimizer.param_groups[0]["lr"]) == (1e-4, 1e-2, 0.1)


def test_groups_keep_their_ratio_to_the_one_with_the_highest_base_rate() -> None:
    layers = [nn.Linear(2, 1, rng=number) for number in range(3)]
    groups: Any = [
        {"params": [*layer.parameters()], "lr": lr} for layer, lr in zip(layers, (0.2, 0.1, 0.0), strict=True)
    ]
    optimizer, seen = optims.SGD(groups, lr=1.0), []
    groups = optimizer.param_groups
    groups[0] |= {"initial_lr": 0.4}
    trainer = regression(step=lambda batch: seen.append([each["lr"] for each in groups]) or 1.0, optimizer=optimizer)
    find_lr(trainer, 1.0, 4.0, 10)
    assert [seen[0], seen[-1]] == [[1.0, 0.25, 0.0], [4.0, 1.0, 0.0]]
    assert [each["lr"] for each in groups] == [0.2, 0.1, 0.0]


def test_the_scale_of_a_group_scales_its_rate_as_a_schedule_does() -> None:
    layers, seen = [nn.Linear(2, 1, rng=number) for number in range(2)], []
    groups: Any = [{"params": [*layers[0].parameters()], "lr_scale": 0.25}, {"params": [*layers[1].parameters()]}]
    optimizer = optims.SGD(groups, lr=0.1)
    rates = optimizer.param_groups
    trainer = regression(step=lambda batch: seen.append([each["lr"] for each in rates]) or 1.0, optimizer=optimizer)
    curve = find_lr(trainer, 1.0, 4.0, 10)
    assert (curve.rates[0], seen[0], seen[-1]) == (1.0, [0.25, 1.0], [1.0, 4.0])
    LRScheduler(optimizer, Constant(), base_lrs=[4.0, 4.0])
    assert [each["lr"] for each in rates] == seen[-1]


def test_while_gradients_are_accumulated_the_rate_stands_still() -> None:
    trainer, seen = regression(), []
    optimizer: Any = trainer.optimizer

    def step(batch: Any) -> Any:
        seen.append(optimizer.param_groups[0]["lr"])
        return StepResult(float(len(seen) % 3), updated=len(seen) % 3 == 0)

    trainer.step = step
    curve = find_lr(trainer, 1.0, 2.0, 12)
    assert len(curve.rates) == 12
    assert tuple(seen) == tuple(rate for rate in curve.rates for _ in range(3))
    assert curve.losses == (1.0,) * 12


def test_the_mean_keeps_98_percent_and_has_no_bias() -> None:
    losses = iter([3.0, 1.0, *[2.0] * 20])
    curve = find_lr(regression(step=lambda batch: next(losses)), steps=12)
    weights = [[0.98 ** (last - index) for index in range(last + 1)] for last in range(12)]
    expected = [np.average(curve.losses[: len(each)], weights=each) for each in weights]
    assert curve.smoothed == pytest.approx(expected, rel=1e-12)


def test_it_ends_where_the_mean_is_4_times_its_lowest() -> None:
    losses = iter([1.0] * 15 + [1000.0] * 20)
    curve = find_lr(regression(step=lambda batch: next(losses)), steps=30)
    assert (len(curve.losses), curve.losses[-1]) == (16, 1000.0)
    assert curve.end == "the loss grew beyond 4 times its lowest"


def test_a_loss_below_zero_ends_it_by_how_far_it_had_fallen() -> None:
    losses = iter([-float(index) for index in range(20)] + [1e6] * 20)
    assert len(find_lr(regression(step=lambda batch: next(losses)), steps=40).losses) == 21


def test_a_metric_is_chosen_by_its_name() -> None:
    trainer = regression(step=lambda batch: {"nll": 2.0, "accuracy": 0.5})
    assert find_lr(trainer, steps=10, metric="nll").losses == (2.0,) * 10
    with pytest.raises(
        ValueError, match=r"'metric' must be one of the metrics that the step returns, 'nll', 'acc.*'loss'"
    ):
        find_lr(trainer)


def curve_of(losses: list[float], end: str | None = None) -> LRCurve:
    return LRCurve([10.0 ** (index / 10) for index in range(len(losses))], losses, losses, end=end)


def test_the_suggestion_is_where_half_of_the_fall_is_done() -> None:
    falling = [2.0] * 20 + [1.8, 1.6, 1.4, 1.2, 1.0, 0.8, 1.5]
    assert curve_of(falling).suggestion == 10.0**2.2
    assert curve_of(falling).reason == "the loss has done half of its fall there"


@pytest.mark.parametrize(
    ("losses", "end", "reason"),
    [
        (
            [1.0] * 8,
            "the loss is nan at 3",
            "the curve has 8 rates only, as the loss is nan at 3; begin with a lower one",
        ),
        ([1.0 + index for index in range(20)], None, "the loss is lowest at the first rates"),
        ([2.0, 2.3, 1.8, 2.1, 1.9] * 4 + [1.7, 2.2], None, "the loss falls by less than its noise"),
        ([2.0] * 20 + [1.5, 1.0, 0.5], None, "the loss still falls at the highest rate; go on to a higher one"),
    ],
)
def test_there_is_no_suggestion_where_the_curve_says_nothing(losses: list[float], end: str | None, reason: str) -> None:
    curve = curve_of(losses, end)
    assert curve.suggestion is None
    assert curve.reason.startswith(reason)
    assert str(curve).endswith(f"no suggestion, {curve.reason}")


def test_its_suggestion_trains_the_line() -> None:
    trainer = regression(epochs=10)
    found = find_lr(trainer, 1e-5, 10).suggestion
    assert found is not None
    history = regression(found, epochs=10).fit()
    assert history[-1].metrics["loss"] < 0.05 * history[0].metrics["loss"]


class Hidden:
    """Data with a generator that nobody can know."""

    def __iter__(self) -> Iterator[Any]:
        yield os.urandom(8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Hidden(), "the same batches again: 'data' must give the batches that it gave before.*usual causes"),
        (iter([1]), "an iterator cannot; pass a list, or an object whose __iter__ begins a new pass"),
        ((each for each in [1]), "an iterator cannot"),
    ],
)
def test_data_that_cannot_be_repeated_is_refused_before_the_first_step(data: Any, message: str) -> None:
    seen: list[Any] = []
    with pytest.raises(RuntimeError, match=message):
        find_lr(regression(step=seen.append, data=data, steps_per_epoch=1))
    assert seen == []


def test_it_is_refused_within_fit() -> None:
    trainer, refusals = regression(), []

    @trainer.on(StepEnd, at=1)
    def search(event: StepEnd) -> None:
        with pytest.raises(RuntimeError, match=r"training: call find_lr before fit\(\), or between two fits") as found:
            find_lr(trainer)
        refusals.append(found)

    trainer.fit()
    assert len(refusals) == 1


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"low": 0.0}, ValueError, "'low' must be > 0 and finite: 0.0|'low' must be > 0: 0.0"),
        ({"low": 1.0, "high": 1.0}, ValueError, "'high' must be > 1: 1.0"),
        ({"high": math.inf}, ValueError, "'high' must be > 1e-07 and finite: inf"),
        ({"steps": 9}, ValueError, "'steps' must be >= 10: 9"),
        ({"steps": 20.0}, TypeError, "'steps' must be an int: 20.0"),
        ({"metric": ""}, TypeError, "'metric' must be the name of a metric: ''"),
        ({"trainer": None}, TypeError, "'trainer' must be a Trainer: None"),
        ({"trainer": Trainer(epochs=1)}, ValueError, r"'trainer' must have a step.*: None; pass Trainer\(step="),
        (
            {"trainer": Trainer(lambda batch: 1.0, [1])},
            ValueError,
            r"must have an optimizer, .*pass Trainer\(optimizer=",
        ),
        ({"trainer": regression(model=None)}, ValueError, r"must have a model, .*: None; pass Trainer\(model="),
    ],
)
def test_what_cannot_be_right_is_refused(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        find_lr(**{"trainer": regression(), **settings})


def test_it_draws_itself_in_a_terminal_and_in_a_notebook() -> None:
    curve = curve_of([2.0] * 20 + [1.5, 1.0, 3.0])
    lines = str(curve).splitlines()
    assert (len(lines), lines[0][:12], lines[9][:12]) == (12, "      2.5 | ", "        1 | ")
    assert lines[10].split() == ["lr", "1", "^", "158"]
    assert lines[11] == "suggestion: 100, the loss has done half of its fall there"
    assert repr(curve) == "LRCurve(23 rates, suggestion 100: the loss has done half of its fall there)"
    assert curve._repr_html_().count("\n") == 11
