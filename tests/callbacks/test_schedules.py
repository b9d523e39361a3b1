"""LRSchedulerCallback with a schedule: bound when the fit starts, by epoch or by step, in shares of the run."""

import copy
import json
import pickle
import re
from typing import Any

import pytest

from lucid_train import EpochEnd, StepEnd, StepResult, Trainer, nn, optims
from lucid_train.callback import Scheduled
from lucid_train.callbacks import LRSchedulerCallback, ParamSchedulerCallback, StepLRCallback
from lucid_train.optims.lr_scheduler import (
    ExponentialLR,
    LRScheduler,
    OneCycleLR,
    ParamScheduler,
    ReduceLROnPlateau,
    StepLR,
)
from lucid_train.schedules import Constant, Cosine, Exponential, Function, Linear, Noam, OneCycle, Schedule, Step
from tests.support.callbacks import At
from tests.support.data import Unsized
from tests.support.optimizers import Bare, RateWitness, sgd
from tests.support.schedules import Line

HALVED = Step(1, 0.5)


def used(optimizer: RateWitness) -> list[float]:
    return [rate for (rate,) in optimizer.used]


def run(callback: LRSchedulerCallback, epochs: int = 3, data: Any = range(4)) -> list[float]:
    optimizer = RateWitness(1.0, momentum=0.9)
    Trainer(lambda batch: optimizer.step(), data, optimizer=optimizer, epochs=epochs, callbacks=[callback]).fit()
    return used(optimizer)


def test_a_schedule_is_bound_to_the_runs_optimizer() -> None:
    callback = LRSchedulerCallback(HALVED)
    assert callback.scheduler is None
    assert run(callback) == [1.0] * 4 + [0.5] * 4 + [0.25] * 4
    assert repr(callback.scheduler) == "LRScheduler(lr=Step(1, gamma=0.5), last_epoch=3)"


SCHEDULES: dict[str, Schedule] = {
    "constant": Constant(0.5, total_iters=2),
    "cosine": Cosine(),
    "noam": Noam(d_model=16, warmup_steps=2),
    "one cycle": OneCycle(max_lr=1.0),
    "joined": Linear(0.5).until(2).then(Exponential(0.5)),
    "shares": Exponential(0.5).until("34%").then(Cosine(eta_min=0.01)).warmup("10%"),
    "a user's own": Line(0.1),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize(("interval", "length"), [("epoch", 3), ("step", 12)])
def test_every_unit_serves_every_schedule(schedule: Schedule, interval: Any, length: int) -> None:
    sized = schedule.sized(length)
    expected = [sized(step if interval == "step" else step // 4) for step in range(12)]
    assert run(LRSchedulerCallback(schedule, interval=interval)) == expected


def test_shares_are_those_of_the_steps_when_steps_are_counted() -> None:
    callback = LRSchedulerCallback(Cosine().warmup("25%"), interval="step")
    run(callback)
    assert callback.scheduler.state_dict()["milestones"] == [3]
    assert callback.scheduler.state_dict()["parts"][1]["T_max"] == 9


def test_an_unknown_length_is_a_clear_error_when_the_fit_starts() -> None:
    callback = LRSchedulerCallback(Cosine().warmup("25%"), interval="step")
    message = "the length of the run must be known for Linear(0.1, total_iters='25%').then(Cosine()); "
    with pytest.raises(ValueError, match=re.escape(f"{message}pass LRSchedulerCallback(..., length=...)")):
        run(callback, data=Unsized())
    assert run(LRSchedulerCallback(callback.schedule, interval="step", length=12), data=Unsized()) == run(
        LRSchedulerCallback(callback.schedule, interval="step")
    )


def test_a_schedule_whose_lengths_are_counts_needs_no_length_of_the_run() -> None:
    assert run(LRSchedulerCallback(Exponential(0.5), interval="step"), 1, Unsized()) == [1.0, 0.5, 0.25, 0.125]


def test_epochs_are_always_known() -> None:
    assert len(run(LRSchedulerCallback(Cosine().warmup("25%")), data=Unsized())) == 12


def test_a_run_that_is_too_short_for_a_part_is_refused_before_the_first_step() -> None:
    optimizer = RateWitness(1.0)
    schedule = Linear(0.1, total_iters=9).then(Cosine())
    with pytest.raises(
        ValueError, match=re.escape("'T_max' of Cosine() must be given: its part begins at 9, ends at 3")
    ):
        Trainer(optimizer=optimizer, epochs=3, callbacks=[LRSchedulerCallback(schedule)]).fit()
    assert optimizer.used == []


def test_a_step_without_an_update_does_not_advance_the_schedule() -> None:
    optimizer = RateWitness(1.0)

    def accumulate(batch: int) -> StepResult | None:
        if batch % 2 == 0:
            return StepResult(updated=False)
        optimizer.step()
        return None

    callback = LRSchedulerCallback(HALVED, interval="step")
    Trainer(accumulate, range(8), optimizer=optimizer, callbacks=[callback]).fit()
    assert used(optimizer) == [1.0, 0.5, 0.25, 0.125]


def test_a_plateau_follows_its_metric() -> None:
    optimizer = RateWitness(1.0)
    callback = LRSchedulerCallback(ReduceLROnPlateau(optimizer, patience=0, factor=0.5), monitor="loss")
    history = Trainer(lambda batch: 1.0, [0], optimizer=optimizer, epochs=4, callbacks=[callback]).fit()
    assert [record.lr for record in history] == [(1.0,), (1.0,), (0.5,), (0.25,)]


def test_a_plateau_that_is_given_no_metric_says_so_at_once() -> None:
    with pytest.raises(TypeError, match=r"cannot be stepped, .* if it follows a metric, name it: monitor='val_loss'"):
        LRSchedulerCallback(ReduceLROnPlateau(RateWitness(1.0)))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda opt: StepLRCallback(1), lambda opt: LRSchedulerCallback(HALVED)),
        (lambda opt: LRSchedulerCallback(StepLR(opt, 1)), lambda opt: LRSchedulerCallback(HALVED)),
        (
            lambda opt: LRSchedulerCallback(ParamScheduler(opt, momentum=HALVED, lr=HALVED)),
            lambda opt: LRSchedulerCallback(HALVED),
        ),
    ],
)
def test_two_schedules_of_one_optimizer_are_refused_with_how_to_join_them(first: Any, second: Any) -> None:
    optimizer = RateWitness(1.0, momentum=0.9)
    message = r"set the same rates of one optimizer; keep one, or join them: first.until\(5\).then\(second\)"
    with pytest.raises(ValueError, match=f"'callbacks' must have one schedule per number: .* {message}"):
        Trainer(optimizer=optimizer, callbacks=[first(optimizer), second(optimizer)]).fit()


def test_two_schedules_of_another_key_are_refused_by_its_name() -> None:
    optimizer = RateWitness(1.0, momentum=0.9)
    callbacks = [
        LRSchedulerCallback(OneCycleLR(optimizer, 1.0, 9)),
        LRSchedulerCallback(ParamScheduler(optimizer, momentum=HALVED)),
    ]
    with pytest.raises(
        ValueError, match=r"'callbacks' must have one schedule per number: .* set the same momentum of one optimizer; "
    ):
        Trainer(optimizer=optimizer, callbacks=callbacks).fit()


def test_each_key_may_have_a_callback_of_its_own() -> None:
    optimizer = RateWitness(1.0, weight_decay=0.5)
    decays: list[float] = []

    def step(batch: int) -> None:
        optimizer.step()
        decays.append(optimizer.param_groups[0]["weight_decay"])

    decay = ParamScheduler(optimizer, weight_decay=Exponential(0.5))
    callbacks = [LRSchedulerCallback(decay), LRSchedulerCallback(Cosine(eta_min=0.1), interval="step")]
    Trainer(step, range(2), optimizer=optimizer, epochs=3, callbacks=callbacks).fit()
    assert decays == [0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    assert used(optimizer) == [Cosine(6, 0.1)(t) for t in range(6)]


def test_an_optimizer_of_its_own_is_scheduled() -> None:
    own = RateWitness(1.0)
    Trainer(epochs=2, callbacks=[LRSchedulerCallback(HALVED, optimizer=own)]).fit()
    assert own.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize(
    "schedule", [[HALVED, Constant()], (HALVED, Constant()), {"head": Constant(), "body": HALVED}], ids=repr
)
def test_each_group_may_have_a_schedule(schedule: Any) -> None:
    optimizer = RateWitness(1.0, 1.0)
    for group, name in zip(optimizer.param_groups, ("body", "head"), strict=True):
        group["name"] = name
    Trainer(epochs=3, optimizer=optimizer, callbacks=[LRSchedulerCallback(schedule)]).fit()
    assert optimizer.used == [(1.0, 1.0), (0.5, 1.0), (0.25, 1.0)]


def test_schedules_of_groups_have_the_length_of_the_run() -> None:
    optimizer = RateWitness(1.0, 1.0)
    callback = LRSchedulerCallback([Cosine(), Linear(1.0, 0.0, "50%")])
    Trainer(epochs=4, optimizer=optimizer, callbacks=[callback]).fit()
    assert optimizer.used == [(Cosine(4)(t), Linear(1.0, 0.0, 2)(t)) for t in range(4)]


def test_schedules_that_do_not_fit_the_groups_are_refused_before_the_first_step() -> None:
    optimizer = RateWitness(1.0, 1.0)
    with pytest.raises(ValueError, match="'schedule' must be one schedule or one per group, 2: 1"):
        Trainer(optimizer=optimizer, callbacks=[LRSchedulerCallback([HALVED])]).fit()
    assert optimizer.used == []


def test_a_later_fit_goes_on_and_a_restart_begins_again() -> None:
    optimizer = RateWitness(1.0)
    trainer = Trainer(optimizer=optimizer, epochs=2, callbacks=[LRSchedulerCallback(HALVED)])
    trainer.fit()
    trainer.fit(4)
    assert used(optimizer) == [1.0, 0.5, 0.25, 0.125]
    for _ in range(2):
        optimizer.used.clear()
        trainer.fit(2, restart=True)  # a warning would be an error
        assert used(optimizer) == [1.0, 0.5]


@pytest.mark.parametrize(
    ("interval", "lengths", "length"),
    [("epoch", "2 epochs, and this one makes it 4 epochs", 4), ("step", "4 steps, and this one makes it 8 steps", 8)],
)
def test_a_longer_fit_says_that_a_schedule_keeps_the_length_of_an_earlier_one(
    interval: Any, lengths: str, length: int
) -> None:
    def built(epochs: int, **settings: Any) -> tuple[RateWitness, Trainer]:
        optimizer = RateWitness(1.0, momentum=0.5, weight_decay=0.5)
        callbacks = [
            LRSchedulerCallback(Cosine(), interval=interval, **settings),
            ParamSchedulerCallback(momentum=Linear(0.5), weight_decay=Step(1), interval=interval, **settings),
        ]
        data = [optimizer] * 2
        return optimizer, Trainer(RateWitness.step, data, optimizer=optimizer, epochs=epochs, callbacks=callbacks)

    optimizer, trainer = built(2)
    trainer.fit()
    with pytest.warns(UserWarning, match="was measured in an earlier fit") as warned:
        trainer.fit(4)
    assert [str(each.message) for each in warned] == [
        f"{what} was measured in an earlier fit, for a run of {lengths}; pass {name}(..., length={length}) before the "
        "first fit, or begin again with fit(4, restart=True)"
        for what, name in (
            ("Cosine() of LRSchedulerCallback", "LRSchedulerCallback"),
            ("momentum=Linear(0.5) of ParamSchedulerCallback", "ParamSchedulerCallback"),
        )
    ]
    straight, other = built(4)
    other.fit()
    optimizer.used.clear()
    trainer.fit(4, restart=True)  # a warning would be an error
    assert used(optimizer) == used(straight)
    parts, other = built(2, length=length)
    other.fit()
    other.fit(4)
    assert used(parts) == used(straight)


def test_a_restart_before_the_next_fit_has_begun_remembers_the_base_rates_all_the_same() -> None:
    optimizer = RateWitness(1.0)
    callback = LRSchedulerCallback(HALVED)
    Trainer(optimizer=optimizer, epochs=2, callbacks=[callback]).fit()
    del optimizer.param_groups[0]["initial_lr"]
    callback.reset()
    callback.reset()
    Trainer(optimizer=optimizer, epochs=2, callbacks=[callback]).fit()
    assert used(optimizer) == [1.0, 0.5, 1.0, 0.5]


def test_a_fit_of_no_epochs_binds_nothing() -> None:
    optimizer = RateWitness(1.0)
    callback = LRSchedulerCallback(Cosine())
    trainer = Trainer(optimizer=optimizer, epochs=0, callbacks=[callback])
    trainer.fit()
    assert (callback.scheduler, optimizer.param_groups) == (None, [{"lr": 1.0, "params": []}])
    trainer.fit(2)
    assert used(optimizer) == [1.0, Cosine(2)(1)]


# Its state is a count and the base rates.


def test_a_state_waits_for_the_schedule_to_be_bound() -> None:
    first, second = LRSchedulerCallback(HALVED), LRSchedulerCallback(HALVED)
    assert first.state_dict() == {"last_epoch": None, "base_lrs": []}
    run(first, epochs=2)
    state = json.loads(json.dumps(first.state_dict(), allow_nan=False))
    assert state == {"last_epoch": 2, "base_lrs": [1.0]}
    second.load_state_dict(state)
    assert second.state_dict() == state
    state["base_lrs"].append(3.0)
    assert run(second, epochs=2) == [0.25] * 4 + [0.125] * 4


@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("cut", range(1, 12))
def test_every_cut_point_resumes_in_silence(interval: Any, cut: int) -> None:
    def made(optimizer: Any, seen: list[Any]) -> Trainer:
        def step(batch: int) -> None:
            optimizer.step()
            seen.append(optimizer.param_groups[0]["lr"])

        callbacks = [LRSchedulerCallback(Cosine(eta_min=0.01).warmup("20%"), interval=interval)]
        return Trainer(step, range(4), optimizer=optimizer, epochs=3, callbacks=callbacks)

    straight: list[Any] = []
    made(sgd(1.0), straight).fit()
    seen: list[Any] = []
    first = made(sgd(1.0), seen)
    first.on(StepEnd, at=cut)(lambda event: event.run.stop())
    first.fit()
    second = made(sgd(1.0), seen)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    second.fit()  # a warning would be an error: that the schedule is stepped before the first update is one
    assert seen == straight


def test_a_state_that_does_not_fit_is_refused() -> None:
    for callback in (LRSchedulerCallback(HALVED), StepLRCallback(1)):
        with pytest.raises(
            ValueError, match=rf"the state of {type(callback).__name__} does not fit: 'last_epoch' is mis"
        ):
            callback.load_state_dict({"base_lrs": [1.0]})
        for entry, value, rule in (
            ("last_epoch", 1.5, "'last_epoch' must be an int: 1.5"),
            ("base_lrs", ["1"], r"'base_lrs\[0\]' must be a number: '1'"),
        ):
            with pytest.raises(
                ValueError, match=f"the state of {type(callback).__name__} does not fit: TypeError: {rule}"
            ):
                callback.load_state_dict({"last_epoch": 1, "base_lrs": [1.0], entry: value})
    bad: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"last_epoch": -1, "base_lrs": [1.0]}, ValueError, "'last_epoch' must be >= 0: -1"),
        (
            {"last_epoch": 1, "base_lrs": [1.0, 2.0]},
            ValueError,
            r"'base_lrs' must have one rate per group, 1: \[1.0, 2.0\]",
        ),
    ]

    def resumed(state: dict[str, Any]) -> None:
        callback = LRSchedulerCallback(HALVED)
        callback.load_state_dict(state)
        run(callback)

    for state, error, message in bad:
        with pytest.raises(error, match=message):
            resumed(state)


def test_a_longer_run_takes_the_schedules_new_length_where_that_is_accepted() -> None:
    def built(epochs: int) -> Trainer:
        optimizer = optims.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
        return Trainer(optimizer=optimizer, epochs=epochs, callbacks=[LRSchedulerCallback(Cosine())])

    short, longer = built(4), built(8)
    short.fit()
    longer.load_state_dict(short.state_dict(), accept=["epochs", "LRSchedulerCallback"])
    expected = [record.lr for record in built(8).fit()][4:]
    assert [record.lr for record in longer.fit()][4:] == expected


def test_another_schedule_is_refused_by_name_when_a_run_is_resumed_unless_it_is_accepted() -> None:
    def built(schedule: Any) -> Trainer:
        return Trainer(optimizer=Bare(0.5), epochs=4, callbacks=[LRSchedulerCallback(schedule)])

    first = built(Cosine().warmup("25%"))
    first.on(StepEnd, at=2)(lambda event: event.run.stop())
    first.fit()
    message = (
        "LRSchedulerCallback.schedule is \"Linear(0.1, total_iters='50%').then(Cosine())\" here "
        "and \"Linear(0.1, total_iters='25%').then(Cosine())\" in the checkpoint"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        built(Cosine().warmup("50%")).load_state_dict(first.state_dict())
    other = built(Cosine().warmup("50%"))
    other.load_state_dict(first.state_dict(), accept="LRSchedulerCallback")
    expected = Cosine().warmup("50%").sized(4).table(4, 0.5)
    assert [record.lr for record in other.fit()][2:] == [(rate,) for rate in expected[2:]]


# The trap: a rate that is neither the base rate nor the schedule's first.


def test_a_rate_set_by_hand_is_named_in_a_first_fit_and_not_in_a_resumed_or_restarted_one() -> None:
    optimizer = RateWitness(1.0)
    ExponentialLR(optimizer, 0.5).step()
    trainer = Trainer(optimizer=optimizer, epochs=2, callbacks=[LRSchedulerCallback(HALVED)])
    with pytest.warns(
        UserWarning, match="the 'lr' of group 0 was 0.5, but its 'initial_lr', .*, is 1.0; to start from"
    ):
        trainer.fit()
    state = trainer.state_dict()
    trainer.fit(restart=True)
    optimizer.param_groups[0]["lr"] = 3.0
    resumed = Trainer(optimizer=optimizer, epochs=4, callbacks=[LRSchedulerCallback(HALVED)])
    resumed.load_state_dict(state, accept="epochs")
    resumed.fit()
    assert used(optimizer) == [1.0, 0.5, 1.0, 0.5, 0.25, 0.125]


def test_a_value_that_another_callback_has_written_is_named_once() -> None:
    optimizer = RateWitness(1.0)
    overwrite = At(EpochEnd, lambda event: event.epoch == 1 and optimizer.param_groups[0].update(lr=9.0))
    trainer = Trainer(optimizer=optimizer, epochs=3, callbacks=[LRSchedulerCallback(HALVED), overwrite])
    with pytest.warns(UserWarning, match="the 'lr' of group 0 was 0.5 and is 9.0 now, other code has") as caught:
        trainer.fit()
    assert (len(caught), used(optimizer)) == (1, [1.0, 9.0, 0.25])


# What it shows.


def test_the_repr_shows_the_schedule_before_and_after() -> None:
    callback = LRSchedulerCallback(HALVED, interval="step", length=9)
    shown = "LRSchedulerCallback(schedule=Step(1, gamma=0.5), interval='step', monitor=None, length=9)"
    assert repr(callback) == shown
    run(callback)
    assert repr(callback) == shown
    built = LRSchedulerCallback(StepLR(RateWitness(1.0), 1), length=2)
    assert repr(built).startswith(
        "LRSchedulerCallback(schedule=StepLR(step_size=1, gamma=0.1, last_epoch=0), interval="
    )


def test_it_says_what_it_schedules() -> None:
    optimizer, own = RateWitness(1.0), RateWitness(0.5)
    value = LRSchedulerCallback(HALVED, interval="step", optimizer=own, length=9)
    assert value.schedules() == (Scheduled(HALVED, own, "step", length=9),)
    value.load_state_dict({"last_epoch": 3, "base_lrs": [0.25]})
    assert value.schedules() == (Scheduled(HALVED, own, "step", length=9, at=3, bases=(0.25,)),)
    given = LRSchedulerCallback(StepLR(optimizer, 1, 0.5))
    assert given.schedules() == (Scheduled(HALVED, optimizer, at=0, bases=(1.0,)),)
    Trainer(epochs=2, callbacks=[given]).fit()
    assert given.schedules() == (Scheduled(HALVED, optimizer, at=2, bases=(1.0,)),)
    plateau = LRSchedulerCallback(ReduceLROnPlateau(optimizer), monitor="loss")
    assert plateau.schedules() == (
        Scheduled(None, optimizer, text="times 0.1 when loss has not improved for more than 10 epochs"),
    )
    other = Bare(0.5, weight_decay=0.1)
    decay = Scheduled(HALVED, other, bases=(0.1,), key="weight_decay")
    assert LRSchedulerCallback(ParamScheduler(other, weight_decay=HALVED)).schedules() == (decay,)
    assert StepLRCallback(1, 0.5).schedules() == (Scheduled(HALVED),)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["copy", "pickle"])
def test_it_can_be_copied_before_and_after(clone: Any) -> None:
    callback = LRSchedulerCallback(HALVED)
    assert run(clone(callback)) == run(callback)
    twin = clone(callback)
    assert isinstance(twin.scheduler, LRScheduler)
    assert twin.scheduler.last_lr == callback.scheduler.last_lr == [0.125]


class Decay:
    """A function that is an object, as it is in memory."""

    def __call__(self, t: int) -> float:
        return 0.5**t


def test_the_settings_of_a_schedule_with_functions_are_the_same_in_every_process() -> None:
    def built() -> LRSchedulerCallback:
        def half(t: int) -> float:
            return 0.5**t

        return LRSchedulerCallback(Function(half).until(2).then(Function(Decay())))

    one, other = built(), built()
    assert one.settings() == other.settings()
    assert "0x" not in str(one.settings())
    assert one.settings()["schedule"] != LRSchedulerCallback(Function(Decay())).settings()["schedule"]
