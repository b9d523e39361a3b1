"""The plan of a fit: right about order and rates, and nothing is changed by looking."""

import copy
import io
import itertools
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from rich.console import Console

from lucid_train import (
    Callback,
    EpochEnd,
    EpochReport,
    EvaluateEnd,
    Event,
    FitEnd,
    FitStart,
    History,
    StepEnd,
    StepResult,
    Trainer,
    on,
    replay,
)
from lucid_train.callbacks import (
    CosineAnnealingLRCallback,
    EarlyStopping,
    EventLog,
    LRSchedulerCallback,
    RichLogger,
    StepLRCallback,
)
from lucid_train.optims.lr_scheduler import (
    ExponentialLR,
    LinearLR,
    OneCycleLR,
    ParamScheduler,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from lucid_train.schedules import Cosine, Cyclic, Exponential, Linear, OneCycle, Step
from lucid_train.training.plan import Plan, PlannedEpoch
from tests.support.data import Unsized
from tests.support.optimizers import Bare, RateWitness


@define(eq=False)
class Talk(Callback):
    def on_fit_start(self, event: FitStart) -> None:
        raise AssertionError("a plan calls nobody")

    @on(StepEnd, every=100)
    def beat(self, event: StepEnd) -> None: ...

    def on_epoch_report(self, event: EpochReport) -> None: ...

    def on_fit_end(self, event: FitEnd) -> None: ...


@define(eq=False)
class Quiet(Callback):
    def on_fit_end(self, event: FitEnd) -> None: ...


def test_it_names_who_receives_what_in_which_order() -> None:
    trainer = Trainer(optimizer=RateWitness(1.0), callbacks=[Talk(), StepLRCallback(2), Quiet()])

    @trainer.on(EpochEnd)
    def show(event: EpochEnd) -> None: ...

    assert trainer.plan().listeners == {
        "FitStart": ("Talk.on_fit_start", "StepLRCallback.on_fit_start"),
        "StepEnd": ("Talk.beat",),
        "EpochEnd": ("StepLRCallback.on_epoch_end", "show"),
        "EpochReport": ("Talk.on_epoch_report",),
        "FitEnd": ("Quiet.on_fit_end", "Talk.on_fit_end"),
    }


def test_events_of_ones_own_are_in_it() -> None:
    class BatchLost(Event):
        pass

    trainer = Trainer()
    trainer.on(BatchLost)(lambda event: None)
    assert list(trainer.plan().listeners) == ["BatchLost"]


def test_evaluations_are_in_it_where_there_is_something_to_evaluate_with() -> None:
    trainer = Trainer(evaluate=lambda: 0.5)

    @trainer.on(EvaluateEnd)
    def show(event: EvaluateEnd) -> None: ...

    assert trainer.plan().listeners == {"EvaluateEnd": ("show",)}
    trainer.evaluate = None
    assert trainer.plan().listeners == {}


SCHEDULES: dict[str, Any] = {
    "named": lambda opt: CosineAnnealingLRCallback(5, interval="step"),
    "named on its own optimizer": lambda opt: StepLRCallback(2, optimizer=opt),
    "built": lambda opt: LRSchedulerCallback(ExponentialLR(opt, 0.9)),
    "built on its own optimizer, joined": lambda opt: LRSchedulerCallback(
        SequentialLR(opt, [LinearLR(opt), OneCycleLR(opt, 1.0, 9, cycle_momentum=False)], [2]), interval="step"
    ),
    "a value": lambda opt: LRSchedulerCallback(Cosine().warmup("20%"), interval="step"),
    "a value per group": lambda opt: LRSchedulerCallback([Step("50%", 0.5), OneCycle(1.0)], interval="step"),
    "a value with a length of its own": lambda opt: LRSchedulerCallback(Cosine(), length=9),
    "a value on its own optimizer": lambda opt: LRSchedulerCallback(Cosine(), optimizer=opt),
}


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("already", [0, 2])
@pytest.mark.filterwarnings("ignore:.*was measured in an earlier fit:UserWarning")  # the plan shows what comes of it
def test_the_rates_come_true(make: Any, already: int) -> None:
    optimizer = RateWitness(1.0, 0.5)
    trainer = Trainer(lambda batch: 0.5, range(7), optimizer=optimizer, epochs=6, callbacks=[make(optimizer)])
    trainer.fit(already)
    planned = trainer.plan()
    history = trainer.fit()
    assert [(epoch.epoch, epoch.last) for epoch in planned.epochs] == [(r.epoch, r.lr) for r in history[already:]]


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
def test_nothing_changes(make: Any) -> None:
    optimizer = RateWitness(1.0, 0.5)
    StepLR(optimizer, 1).step()  # a rate that is decayed already: the schedule to come starts from the base
    callback = make(optimizer)
    trainer = Trainer(lambda batch: 0.5, range(7), optimizer=optimizer, epochs=6, callbacks=[callback])
    before = copy.deepcopy((optimizer.param_groups, callback.state_dict()))
    first = trainer.plan()
    assert (optimizer.param_groups, callback.state_dict()) == before
    assert trainer.plan() == first
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the rate is a decayed one is not the point here
        assert [epoch.last for epoch in first.epochs] == [record.lr for record in trainer.fit()]


def test_a_resumed_run_is_planned_from_where_it_stands() -> None:
    def made() -> Trainer:
        return Trainer(optimizer=Bare(0.5), epochs=6, callbacks=[LRSchedulerCallback(Cosine())])

    first, second = made(), made()
    straight = [record.lr for record in made().fit()]
    first.on(StepEnd, at=2)(lambda event: event.run.stop())
    first.fit()
    second.load_state_dict(first.state_dict())
    assert [(epoch.epoch, epoch.last) for epoch in second.plan().epochs] == list(enumerate(straight, 1))[2:]


def test_what_schedules_another_key_sets_no_rates() -> None:
    optimizer = Bare(0.5, weight_decay=0.25)
    decay = LRSchedulerCallback(ParamScheduler(optimizer, weight_decay=Exponential(0.5)))
    plan = Trainer(optimizer=optimizer, epochs=2, callbacks=[decay]).plan()
    assert (plan.schedule, plan.epochs[1]) == ("no schedule", PlannedEpoch(2, (0.5,), (0.5,)))
    both = Trainer(optimizer=optimizer, epochs=2, callbacks=[decay, StepLRCallback(1, 0.5)]).plan()
    assert (both.schedule, both.epochs[1]) == (
        "times 0.5 every epoch",
        PlannedEpoch(2, (0.25,), (0.25,)),
    )


def test_a_schedule_of_another_optimizer_sets_none_of_the_runs_rates() -> None:
    callbacks = [StepLRCallback(1, 0.5, optimizer=Bare(8.0))]
    plan = Trainer(optimizer=Bare(0.5), epochs=2, callbacks=callbacks).plan()
    assert (plan.schedule, plan.epochs[1]) == ("no schedule", PlannedEpoch(2, (0.5,), (0.5,)))


def test_the_number_of_steps_that_the_first_epoch_had_is_known_from_then_on() -> None:
    callbacks = [LRSchedulerCallback(Step(6, 0.5), interval="step")]
    trainer = Trainer(lambda batch: 1.0, Unsized(), optimizer=RateWitness(1.0), callbacks=callbacks)
    trainer.fit()
    planned = trainer.plan(4)
    assert [epoch.last for epoch in planned.epochs] == [record.lr for record in trainer.fit(4)[1:]]
    assert [epoch.last for epoch in planned.epochs] == [(0.5,), (0.5,), (0.25,)]


def test_a_rate_that_is_none_is_refused_when_it_is_planned() -> None:
    optimizer = Bare(1.0)
    callback = LRSchedulerCallback(Exponential(1e200), optimizer=optimizer)
    with pytest.raises(OverflowError, match=r"the rates of Exponential\(1e\+200\) exceed the largest float in epoch 2"):
        Trainer(epochs=3, callbacks=[callback]).plan()
    assert optimizer.param_groups == [{"lr": 1.0}]


def test_without_a_schedule_the_rates_stay() -> None:
    assert Trainer(optimizer=RateWitness(0.5)).plan().epochs == (PlannedEpoch(1, (0.5,), (0.5,)),)
    assert Trainer(epochs=1).plan().epochs == (PlannedEpoch(1, None, None),)


@pytest.mark.parametrize(
    "callback",
    [
        LRSchedulerCallback(ReduceLROnPlateau(RateWitness(1.0)), monitor="loss"),
        LRSchedulerCallback(Step(1), interval="step"),
        LRSchedulerCallback(type("Foreign", (), {"step": lambda self: None})()),
    ],
    ids=["a metric", "an unknown number of steps", "a scheduler that cannot tell"],
)
def test_what_cannot_be_known_is_said_to_be_unknown(callback: Any) -> None:
    optimizer = getattr(callback.scheduler, "optimizer", None) or RateWitness(1.0)
    plan = Trainer(lambda batch: 1.0, Unsized(), optimizer=optimizer, epochs=2, callbacks=[callback]).plan()
    assert plan.epochs == (PlannedEpoch(1, None, None), PlannedEpoch(2, None, None))
    assert "epochs 1 to 2: not known beforehand" in str(plan)


def test_a_share_of_an_unknown_run_is_an_error_here_too() -> None:
    callback = LRSchedulerCallback(Cosine(), interval="step")
    with pytest.raises(ValueError, match="the length of the run must be known"):
        Trainer(lambda batch: 1.0, Unsized(), optimizer=RateWitness(1.0), callbacks=[callback]).plan()


def test_it_reads_well_and_literally() -> None:
    callbacks = [StepLRCallback(2, 0.5), EarlyStopping("loss")]
    plan = Trainer(optimizer=RateWitness(1.0), epochs=5, callbacks=callbacks).plan()
    assert str(plan) == (
        "FitStart  StepLRCallback.on_fit_start, EarlyStopping.on_fit_start\n"
        "EpochEnd  StepLRCallback.on_epoch_end, EarlyStopping.on_epoch_end\n"
        "FitEnd    EarlyStopping.on_fit_end\n"
        "\n"
        "rates: times 0.5 every 2 epochs\n"
        "  epochs 1 to 2: 1\n"
        "  epochs 3 to 4: 0.5\n"
        "  epoch 5: 0.25"
    )
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(plan)
    assert console.file.getvalue() == f"{plan}\n"  # type: ignore[attr-defined]  # it is a StringIO
    assert str(Trainer(epochs=0).plan()) == "no listeners\n\nrates: there is no optimizer"


def test_a_goal_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="'epochs' must be >= 0: -1"):
        Trainer().plan(-1)


@pytest.mark.parametrize(
    ("schedule", "settings", "text"),
    [
        (Cosine(T_max=9), {}, "cosine to 0 over 9 epochs"),
        (Cosine(T_max=8), {}, "cosine to 0 over 8 epochs, which begins again at epoch 10"),
        (Cosine(T_max=2), {}, "cosine to 0 over 2 epochs, which begins again at epoch 4 and 2 more times"),
        (Cosine(T_max=2, after="hold"), {}, "cosine to 0 over 2 epochs, held there"),
        (Cosine(T_max=2, after="mirror"), {}, "cosine to 0 over 2 epochs and back"),
        (Cosine(), {"interval": "step"}, "cosine to 0, per step"),
        (Cosine(), {"interval": "step", "length": 10}, "cosine to 0, per step"),
        (Cosine(T_max="50%"), {"interval": "step"}, "cosine to 0 over 50 %, per step, which begins again at step 12"),
        (
            Cosine(T_max=2).until(5).then(Cosine(T_max=3)),
            {},
            "cosine to 0 over 2 epochs until epoch 5, then cosine to 0 over 3 epochs, which begins again at epoch 4 "
            "and 1 more time",
        ),
        (
            Cosine(T_max=6).warmup(2) * Exponential(0.9),
            {},
            "warm-up over 2 epochs, then cosine to 0 over 6 epochs, together with times 0.9 every epoch, which begins "
            "again at epoch 10",
        ),
        (
            [Step(2), Cosine(T_max=8)],
            {},
            "a: times 0.1 every 2 epochs; b: cosine to 0 over 8 epochs, which begins again at epoch 10",
        ),
        (
            {"a": Cosine(T_max=7), "b": Step(2)},
            {},
            "a: cosine to 0 over 7 epochs; b: times 0.1 every 2 epochs, which begins again at epoch 9",
        ),
    ],
)
def test_plan_header_and_replay_say_when_a_cosine_begins_again(
    schedule: Any, settings: dict[str, Any], text: str, tmp_path: Path
) -> None:
    optimizer = Bare(0.1, 0.2)
    for group, name in zip(optimizer.param_groups, "ab", strict=True):
        group["name"] = name
    screens = [io.StringIO(), io.StringIO()]
    loggers = [RichLogger(console=Console(file=screen, width=200)) for screen in screens]
    callback = LRSchedulerCallback(schedule, **settings)
    callbacks = [EventLog(tmp_path / "log"), callback, loggers[0]]
    trainer = Trainer(optimizer=optimizer, epochs=10, steps_per_epoch=2, callbacks=callbacks)
    assert trainer.plan().schedule == text
    trainer.fit()
    replay(tmp_path / "log", [loggers[1]])
    for screen in screens:
        assert text in " ".join(screen.getvalue().split())


PEAKS: dict[str, Any] = {
    "one cycle": OneCycle(0.5),
    "one cycle, linear": OneCycle(0.5, pct_start=0.45, anneal_strategy="linear"),
    "warm-up": Cosine().warmup("13%"),
    "restart": Cosine(T_max=37),
    "a dip": Cosine(T_max=33, after="mirror"),
    "up and down": Cyclic(0.1, 0.5, 11),
    "one per group": [OneCycle(0.5), Cosine().warmup(7)],
}


@pytest.mark.parametrize("schedule", PEAKS.values(), ids=PEAKS)
def test_the_highest_and_the_lowest_rate_within_an_epoch_come_true(schedule: Any) -> None:
    optimizer = RateWitness(1.0, 0.5)
    callback = LRSchedulerCallback(schedule, interval="step")
    trainer = Trainer(lambda batch: optimizer.step(), range(50), optimizer=optimizer, epochs=3, callbacks=[callback])
    planned = trainer.plan().epochs
    trainer.fit()
    used = [list(zip(*optimizer.used[start : start + 50], strict=True)) for start in (0, 50, 100)]
    assert [each.highest for each in planned] == [tuple(map(max, groups)) for groups in used]
    assert [each.lowest for each in planned] == [tuple(map(min, groups)) for groups in used]


@pytest.mark.parametrize("schedule", [OneCycle(0.5), Linear(0.1, 1.0, 1_234_567).then(Cosine())], ids=str)
def test_a_peak_in_a_long_epoch_is_found_to_the_step(schedule: Any) -> None:
    callback = LRSchedulerCallback(schedule, interval="step")
    trainer = Trainer(optimizer=Bare(0.5), steps_per_epoch=3_000_000, epochs=2, callbacks=[callback])
    assert trainer.plan().epochs[0].highest == (0.5,)


def test_a_peak_between_two_ends_is_shown() -> None:
    callbacks = [LRSchedulerCallback(OneCycle(0.5), interval="step")]
    trainer = Trainer(optimizer=Bare(0.1), steps_per_epoch=10, epochs=3, callbacks=callbacks)
    text = str(trainer.plan()).splitlines()[-4:]
    assert text == [
        "  if each of the 10 steps of an epoch performs an update",
        "  epoch 1: 0.02 to 0.497208, at most 0.5",
        "  epoch 2: 0.488893 to 0.231319",
        "  epoch 3: 0.194371 to 2e-06",
    ]
    callbacks = [LRSchedulerCallback(Cosine(T_max=4), interval="step")]
    trainer = Trainer(optimizer=Bare(0.5), steps_per_epoch=9, callbacks=callbacks)
    assert str(trainer.plan()).endswith("  epoch 1: 0.5 to 0.0732233, at least 0")


def accumulating(*, length: int | None = None, epochs: int = 5, every: int = 4) -> Trainer:
    """Ten steps per epoch, of which each `every`th, counted through the run, performs an update."""
    optimizer, steps = RateWitness(0.5), itertools.count(1)

    def step(batch: int) -> StepResult:
        updated = next(steps) % every == 0
        if updated:
            optimizer.step()
        return StepResult(1.0, updated=updated)

    callbacks = [LRSchedulerCallback(Cosine().warmup("10%"), interval="step", length=length)]
    return Trainer(step, range(10), optimizer=optimizer, epochs=epochs, callbacks=callbacks)


def rates_of(plan: Plan) -> list[Any]:
    return [(each.epoch, each.last) for each in plan.epochs]


def done(history: History, since: int = 0) -> list[Any]:
    return [(record.epoch, record.lr) for record in history[since:]]


@pytest.mark.parametrize(("every", "updates"), [(5, 2), (10, 1), (2, 5)])
def test_under_accumulation_the_rates_come_true_where_the_updates_are_given(every: int, updates: int) -> None:
    trainer = accumulating(every=every)
    planned = trainer.plan(updates_per_epoch=updates)
    assert planned.note == f"with {updates} updates in each epoch"
    assert planned.epochs[-1].last != accumulating().plan().epochs[-1].last
    with pytest.warns(UserWarning, match="never reaches its end"):
        assert rates_of(planned) == done(trainer.fit())


@pytest.mark.parametrize("every", [2, 4, 5, 10])
def test_so_they_do_where_the_schedule_has_their_number_as_its_length(every: int) -> None:
    trainer = accumulating(every=every, length=50 // every)
    planned = trainer.plan()
    text = f"with {50 // every} updates in 5 epochs, which is the length of the schedule"
    assert planned.note == text
    assert f"\n  {text}\n  epoch 1: " in str(planned)
    assert rates_of(planned) == done(trainer.fit())


@pytest.mark.parametrize("already", [10, 20, 13, 27])
def test_and_where_the_steps_done_have_shown_how_many_update(already: int) -> None:
    trainer = accumulating(every=5)
    trainer.on(StepEnd, at=already)(lambda event: event.run.stop())
    trainer.fit()
    planned = trainer.plan()
    assert planned.note == f"as {already // 5} of the {already} steps done performed an update"
    if already % 5 == 0:
        with pytest.warns(UserWarning, match="never reaches its end"):
            assert rates_of(planned) == done(trainer.fit(), already // 10)


@pytest.mark.parametrize("already", [3, 10, 13])
def test_what_is_left_of_an_open_epoch_is_planned(already: int) -> None:
    optimizer = RateWitness(1.0)
    callbacks = [LRSchedulerCallback(Cosine(), interval="step")]
    trainer = Trainer(lambda batch: 1.0, range(10), optimizer=optimizer, epochs=4, callbacks=callbacks)
    trainer.on(StepEnd, at=already)(lambda event: event.run.stop())
    trainer.fit()
    planned = trainer.plan()
    assert (planned.note, rates_of(planned)) == ("", done(trainer.fit(), already // 10))


def test_after_a_fit_there_is_nothing_left_and_more_can_be_planned() -> None:
    trainer = Trainer(optimizer=Bare(0.5), epochs=4, callbacks=[StepLRCallback(2, 0.5)])
    trainer.fit()
    text = "nothing left to train: 4 epochs are done; ask for the plan of more, plan(epochs)"
    assert str(trainer.plan()).endswith(f"every 2 epochs\n  {text}")
    planned = trainer.plan(6)
    assert (planned.note, rates_of(planned)) == ("", done(trainer.fit(6), 4))


def test_a_number_of_updates_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="'updates_per_epoch' must be <= the 10 steps of an epoch: 11"):
        accumulating().plan(updates_per_epoch=11)
    with pytest.raises(ValueError, match="'updates_per_epoch' must be >= 1: 0"):
        accumulating().plan(updates_per_epoch=0)
    callback = LRSchedulerCallback(Step(3, 0.5), interval="step")
    trainer = Trainer(lambda batch: 1.0, Unsized(), optimizer=Bare(1.0), epochs=2, callbacks=[callback])
    assert [each.last for each in trainer.plan(updates_per_epoch=3).epochs] == [(1.0,), (0.5,)]


def test_a_notebook_shows_it_as_tables_with_the_curve() -> None:
    optimizer = RateWitness(1.0)
    callbacks = [LRSchedulerCallback(Step(2, 0.5).warmup(1), interval="step"), Talk()]
    page = Trainer(lambda batch: 0.5, range(3), optimizer=optimizer, epochs=2, callbacks=callbacks).plan()._repr_html_()
    cells = [re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall("<tr>(.*?)</tr>", page)]
    assert cells == [
        ["event", "listeners"],
        ["FitStart", "LRSchedulerCallback.on_fit_start, Talk.on_fit_start"],
        ["StepEnd", "LRSchedulerCallback.on_step_end, Talk.beat"],
        ["EpochReport", "Talk.on_epoch_report"],
        ["FitEnd", "Talk.on_fit_end, LRSchedulerCallback.on_fit_end"],
        ["rates", "warm-up over 1 step, then times 0.5 every 2 steps"],
        ["epoch 1", "0.1 to 1"],
        ["epoch 2", "0.5 to 0.25"],
    ]
    assert "if each of the 3 steps of an epoch performs an update" in page
    assert re.findall('<path d="M([^"]+)" stroke="#', page) == ["60.0,128.0 207.0,8.0 207.0,74.7 354.0,108.0"]
    assert "no listeners" in Trainer().plan()._repr_html_()
