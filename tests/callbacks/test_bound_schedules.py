"""LRSchedulerCallback with a schedule: bound when the fit starts, by epoch or by step, in shares of the run."""

import pickle
from typing import Any

import pytest

from lucid_train import NoUpdate, Trainer, nn, optims
from lucid_train.callbacks import LRSchedulerCallback, StepLRCallback
from lucid_train.optims.lr_scheduler import ReduceLROnPlateau, StepLR
from lucid_train.schedules import (
    Chain,
    Constant,
    Cosine,
    Exponential,
    Function,
    Linear,
    Noam,
    OneCycle,
    Schedule,
    Step,
)
from tests.support.data import Unsized
from tests.support.optimizers import RateWitness

HALVED = Step(1, gamma=0.5)


def used(optimizer: RateWitness) -> list[float]:
    return [rate for (rate,) in optimizer.used]


def run(callback: LRSchedulerCallback, epochs: int = 3, data: Any = range(4), **options: Any) -> list[float]:
    optimizer = RateWitness(1.0, momentum=0.9)
    Trainer(lambda batch: optimizer.step(), data, optimizer=optimizer, epochs=epochs, callbacks=[callback]).fit()
    return used(optimizer)


def test_a_schedule_is_bound_to_the_runs_optimizer() -> None:
    callback = LRSchedulerCallback(HALVED)
    assert callback.scheduler is None
    assert run(callback) == [1.0] * 4 + [0.5] * 4 + [0.25] * 4
    assert repr(callback.scheduler) == "LRScheduler(lr=Step(1, gamma=0.5), last_epoch=3)"


SCHEDULES: dict[str, Schedule] = {
    "constant": Constant(0.5, 2),
    "cosine": Cosine(),
    "noam": Noam(16, warmup_steps=2),
    "one cycle": OneCycle(1.0),
    "joined": Linear(0.5).until(2).then(Exponential(0.5)),
    "chained": Chain([Constant(0.5, 2), Exponential(0.5)]),
    "product": Exponential(0.5) * Constant(0.5, 2),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize(("interval", "length"), [("epoch", 3), ("step", 12)])
def test_every_unit_serves_every_schedule(schedule: Schedule, interval: Any, length: int) -> None:
    pure = schedule.sized(length)
    expected = [pure(step if interval == "step" else step // 4) for step in range(12)]
    assert run(LRSchedulerCallback(schedule, interval)) == expected


def test_groups_may_have_schedules_of_their_own() -> None:
    optimizer = RateWitness(1.0, 1.0)
    for group, name in zip(optimizer.param_groups, ("body", "head"), strict=True):
        group["name"] = name
    for schedules in ([HALVED, Constant()], {"head": Constant(), "body": HALVED}):
        callback = LRSchedulerCallback(schedules)
        history = Trainer(optimizer=optimizer, epochs=3, callbacks=[callback]).fit()
        assert [record.lr for record in history] == [(1.0, 1.0), (0.5, 1.0), (0.25, 1.0)]
        for group in optimizer.param_groups:
            group["lr"] = 1.0


def test_shares_are_those_of_the_steps_when_steps_are_counted() -> None:
    callback = LRSchedulerCallback(Cosine().warmup("25%"), "step")
    run(callback)
    assert callback.scheduler.settings() == Linear(0.1, total_iters=3).then(Cosine(9)).settings(resolved=True) | {
        "milestones": [3]
    }


def test_an_unknown_length_is_a_clear_error_when_the_fit_starts() -> None:
    schedule = Cosine().warmup("25%")
    with pytest.raises(ValueError, match=r"the length of the run must be known for Linear\(.*'25%'\)") as caught:
        run(LRSchedulerCallback(schedule, "step"), data=Unsized())
    assert "LRSchedulerCallback(..., length=...)" in str(caught.value)
    assert run(LRSchedulerCallback(schedule, "step", length=12), data=Unsized()) == run(
        LRSchedulerCallback(schedule, "step")
    )


def test_epochs_are_always_known() -> None:
    assert len(run(LRSchedulerCallback(Cosine().warmup("25%")), data=Unsized())) == 12


def test_a_step_without_an_update_does_not_advance_the_schedule() -> None:
    optimizer = RateWitness(1.0)

    def accumulate(batch: int) -> NoUpdate | None:
        if batch % 2 == 0:
            return NoUpdate()
        optimizer.step()
        return None

    callback = LRSchedulerCallback(HALVED, "step")
    Trainer(accumulate, range(8), optimizer=optimizer, callbacks=[callback]).fit()
    assert used(optimizer) == [1.0, 0.5, 0.25, 0.125]


def test_a_plateau_follows_its_metric() -> None:
    optimizer = RateWitness(1.0)
    callback = LRSchedulerCallback(ReduceLROnPlateau(optimizer, patience=0, factor=0.5), monitor="loss")
    history = Trainer(lambda batch: 1.0, [0], optimizer=optimizer, epochs=4, callbacks=[callback]).fit()
    assert [record.lr for record in history] == [(1.0,), (1.0,), (0.5,), (0.25,)]


def test_a_scheduler_that_needs_a_metric_says_so() -> None:
    with pytest.raises(TypeError, match=r"cannot be stepped, .* if it follows a metric, name it: monitor='val_loss'"):
        LRSchedulerCallback(ReduceLROnPlateau(RateWitness(1.0)))


def test_two_schedules_on_one_optimizer_are_refused_and_told_how_to_be_joined() -> None:
    callbacks = [StepLRCallback(1), LRSchedulerCallback(HALVED)]
    with pytest.raises(ValueError, match=r"set the same rates; join them in one: first.until\(5\).then\(second\)"):
        Trainer(optimizer=RateWitness(1.0), callbacks=callbacks).fit()


def test_an_optimizer_of_its_own_is_scheduled() -> None:
    own = RateWitness(1.0)
    Trainer(epochs=2, callbacks=[LRSchedulerCallback(HALVED, optimizer=own)]).fit()
    assert own.param_groups[0]["lr"] == 0.25


def test_a_later_fit_continues_and_a_restart_starts_over() -> None:
    optimizer = RateWitness(1.0)
    trainer = Trainer(optimizer=optimizer, epochs=2, callbacks=[LRSchedulerCallback(HALVED)])
    trainer.fit()
    trainer.fit(4)
    assert used(optimizer) == [1.0, 0.5, 0.25, 0.125]
    trainer.fit(2, restart=True)
    assert used(optimizer)[4:] == [1.0, 0.5]


def test_a_state_waits_for_the_scheduler_to_be_built() -> None:
    first, second = LRSchedulerCallback(HALVED), LRSchedulerCallback(HALVED)
    run(first, epochs=2)
    second.load_state_dict(first.state_dict())
    assert run(second, epochs=2) == [0.25] * 4 + [0.125] * 4


@pytest.mark.parametrize(
    ("attempt", "error", "message"),
    [
        (
            lambda: LRSchedulerCallback(StepLR),
            TypeError,
            "must be a schedule or a scheduler, pass an instance",
        ),
        (lambda: LRSchedulerCallback(3), TypeError, "'schedule' must be a Schedule: 3"),
        (lambda: LRSchedulerCallback([HALVED, 3]), TypeError, "'schedule' must be a Schedule: 3"),
        (lambda: LRSchedulerCallback(HALVED, monitor="loss"), ValueError, "'monitor' must be None with a schedule"),
        (lambda: LRSchedulerCallback(HALVED.until(3)), TypeError, r"'schedule' must be a Schedule: .*\.then"),
        (lambda: LRSchedulerCallback(HALVED, length=0), ValueError, "'length' must be >= 1: 0"),
        (lambda: LRSchedulerCallback(HALVED, optimizer=3), TypeError, "'optimizer' must have param_groups"),
        (
            lambda: LRSchedulerCallback(StepLR(RateWitness(1.0), 1), optimizer=RateWitness(1.0)),
            ValueError,
            "'optimizer' must be None with a scheduler that is built",
        ),
        (
            lambda: Trainer(callbacks=[LRSchedulerCallback(HALVED)]).fit(),
            ValueError,
            "LRSchedulerCallback needs an optim",
        ),
    ],
)
def test_wrong_settings_are_refused(attempt: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        attempt()


def test_the_repr_shows_the_schedule_before_and_after() -> None:
    callback = LRSchedulerCallback(HALVED, "step", length=9)
    shown = "LRSchedulerCallback(schedule=Step(1, gamma=0.5), interval='step', length=9)"
    assert repr(callback) == shown
    run(callback)
    assert repr(callback) == shown
    built = LRSchedulerCallback(StepLR(RateWitness(1.0), 1), length=2)
    assert repr(built) == (
        "LRSchedulerCallback(schedule=StepLR(step_size=1, gamma=0.1, last_epoch=0), interval='epoch', length=2)"
    )


def test_it_can_be_pickled_before_and_after() -> None:
    callback = LRSchedulerCallback(HALVED)
    assert run(pickle.loads(pickle.dumps(callback))) == run(callback)
    twin = pickle.loads(pickle.dumps(callback))
    assert twin.scheduler.last_lr == callback.scheduler.last_lr == [0.125]


def test_the_settings_of_a_schedule_with_functions_are_the_same_in_every_process() -> None:
    def built() -> LRSchedulerCallback:
        def half(t: int) -> float:
            return 0.5**t

        return LRSchedulerCallback(Function(half).until(2).then(Function(half)))

    one, other = built(), built()
    assert one.settings() == other.settings()
    assert "0x" not in str(one.settings())


def test_a_longer_run_takes_the_new_length_where_that_is_accepted() -> None:
    def built(epochs: int) -> Trainer:
        optimizer = optims.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
        return Trainer(optimizer=optimizer, epochs=epochs, callbacks=[LRSchedulerCallback(Cosine())])

    short, longer = built(4), built(8)
    short.fit()
    longer.load_state_dict(short.state_dict(), accept=["epochs", "LRSchedulerCallback"])
    expected = [record.lr for record in built(8).fit()][4:]
    assert [record.lr for record in longer.fit()][4:] == expected
