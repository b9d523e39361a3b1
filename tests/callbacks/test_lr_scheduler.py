import json
from typing import Any

import pytest

from lucid_train import EpochEnd, StepEnd, StepResult, Trainer, nn, optims
from lucid_train.callbacks import (
    CosineAnnealingLRCallback,
    ExponentialLRCallback,
    LRSchedulerCallback,
    StepLRCallback,
)
from lucid_train.optims.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)
from lucid_train.schedules import Constant, Cosine, Exponential, Linear, Step
from tests.support.optimizers import Bare, RateWitness

BUILT: list[tuple[Any, Any]] = [
    (lambda **more: StepLRCallback(step_size=2, gamma=0.5, **more), lambda it: StepLR(it, 2, 0.5)),
    (lambda **more: ExponentialLRCallback(gamma=0.9, **more), lambda it: ExponentialLR(it, 0.9)),
    (
        lambda **more: CosineAnnealingLRCallback(T_max=3, eta_min=0.01, after="mirror", **more),
        lambda it: CosineAnnealingLR(it, 3, 0.01, after="mirror"),
    ),
]


class Follower:
    """Follows a metric, as ReduceLROnPlateau does."""

    def __init__(self) -> None:
        self.metrics: list[float] = []

    def step(self, metric: float) -> None:
        self.metrics.append(metric)


class Simple:
    """All that a scheduler needs."""

    def __init__(self) -> None:
        self.steps = 0

    def step(self) -> None:
        self.steps += 1


@pytest.mark.parametrize(("callback", "scheduler"), BUILT)
@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_each_schedule_sets_the_rates_that_its_scheduler_would(callback: Any, scheduler: Any, interval: str) -> None:
    mine, given, by_hand = RateWitness(0.1, 0.5), RateWitness(0.1, 0.5), RateWitness(0.1, 0.5)
    Trainer(epochs=5, steps_per_epoch=2, optimizer=mine, callbacks=[callback(interval=interval)]).fit()
    wrapped = LRSchedulerCallback(scheduler(given), interval=interval)  # type: ignore[arg-type]  # a str, for the ids
    Trainer(epochs=5, steps_per_epoch=2, optimizer=given, callbacks=[wrapped]).fit()
    schedule = scheduler(by_hand)
    for _ in range(5):
        for _ in range(2):
            by_hand.step()
            if interval == "step":
                schedule.step()
        if interval == "epoch":
            schedule.step()
    assert mine.used == given.used == by_hand.used
    assert mine.param_groups == by_hand.param_groups


def test_its_own_optimizer_comes_before_that_of_the_run() -> None:
    own, other = RateWitness(1.0), RateWitness(1.0)
    Trainer(epochs=2, optimizer=other, callbacks=[StepLRCallback(step_size=1, optimizer=own)]).fit()
    assert (own.param_groups[0]["lr"], other.param_groups[0]["lr"]) == (pytest.approx(0.01), 1.0)


@pytest.mark.parametrize(("callback", "scheduler"), BUILT)
def test_without_an_optimizer_the_error_says_what_to_pass(callback: Any, scheduler: Any) -> None:
    name = type(callback()).__name__
    with pytest.raises(ValueError, match=rf"^{name} needs an optimizer: pass Trainer\(optimizer=...\) or {name}\(...,"):
        Trainer(callbacks=[callback()]).fit()


def untyped(kind: Any) -> Any:
    """Return a class to be given what its types forbid."""
    return kind


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: untyped(StepLRCallback)(step_size=0), ValueError, "'step_size' must be >= 1: 0"),
        (lambda: untyped(StepLRCallback)(step_size=1.5), TypeError, "'step_size' must be an int: 1.5"),
        (lambda: untyped(StepLRCallback)(step_size=1, gamma=0), ValueError, "'gamma' must be > 0: 0.0"),
        (
            lambda: untyped(StepLRCallback)(step_size=1, interval="batch"),
            ValueError,
            "'interval' must be one of 'epoch', 'step'",
        ),
        (lambda: untyped(StepLRCallback)(step_size=1, optimizer=3), TypeError, "'optimizer' must have param_groups"),
        (lambda: untyped(ExponentialLRCallback)(gamma="0.9"), TypeError, "'gamma' must be a number: '0.9'"),
        (lambda: untyped(ExponentialLRCallback)(gamma=float("nan")), ValueError, "'gamma' must be > 0 and finite: nan"),
        (lambda: untyped(CosineAnnealingLRCallback)(T_max=-1), ValueError, "'T_max' must be >= 1: -1"),
        (lambda: untyped(CosineAnnealingLRCallback)(T_max=1, eta_min=-0.1), ValueError, "'eta_min' must be >= 0: -0.1"),
        (
            lambda: untyped(CosineAnnealingLRCallback)(T_max=1, after="stop"),
            ValueError,
            "'after' must be one of 'restart', 'h",
        ),
        (
            lambda: untyped(LRSchedulerCallback)(None),
            TypeError,
            "'schedule' must be a Schedule: None",
        ),
        (
            lambda: untyped(LRSchedulerCallback)(StepLR),
            TypeError,
            r"'schedule' must be a schedule or a scheduler, pass an instance, a schedule such as Cosine\(\) or a sched",
        ),
        (
            lambda: untyped(LRSchedulerCallback)(Cosine),
            TypeError,
            "'schedule' must be a schedule or a scheduler, pass an",
        ),
        (lambda: untyped(LRSchedulerCallback)(3), TypeError, "'schedule' must be a Schedule: 3"),
        (lambda: untyped(LRSchedulerCallback)([Cosine(), 3]), TypeError, "'schedule' must be a Schedule: 3"),
        (lambda: untyped(LRSchedulerCallback)({"head": None}), TypeError, "'schedule' must be a Schedule: None"),
        (
            lambda: untyped(LRSchedulerCallback)(Cosine().until(5)),
            TypeError,
            r"'schedule' must be a Schedule: Cosine\(\).until\(5\); say with .then\(...\) what follows",
        ),
        (
            lambda: untyped(LRSchedulerCallback)(Simple(), interval="batch"),
            ValueError,
            "'interval' must be one of 'epoch', 'step'",
        ),
        (
            lambda: untyped(LRSchedulerCallback)(Simple(), monitor=3),
            TypeError,
            "'monitor' must be the name of a metric: 3",
        ),
        (lambda: untyped(LRSchedulerCallback)(Simple(), monitor="loss"), TypeError, "'schedule' cannot be stepped"),
        (
            lambda: LRSchedulerCallback(ReduceLROnPlateau(Bare(0.1)), monitor="val_accuracy"),
            ValueError,
            r"'monitor' contradicts ReduceLROnPlateau\(mode='min'\), pass mode='max': 'val_accuracy'",
        ),
        (
            lambda: LRSchedulerCallback(ReduceLROnPlateau(Bare(0.1), "max"), monitor="loss"),
            ValueError,
            r"'monitor' contradicts ReduceLROnPlateau\(mode='max'\), pass mode='min': 'loss'",
        ),
        (
            lambda: untyped(LRSchedulerCallback)(Follower()),
            TypeError,
            "cannot be stepped.*if it follows a metric, name it: mon",
        ),
        (
            lambda: untyped(LRSchedulerCallback)(Follower(), interval="step", monitor="loss"),
            ValueError,
            "'monitor' must be None with interval='step': 'loss'",
        ),
        (
            lambda: untyped(LRSchedulerCallback)(Cosine(), monitor="loss"),
            ValueError,
            "'monitor' must be None with a schedule, which follows no metric: 'loss'",
        ),
        (lambda: untyped(LRSchedulerCallback)(Cosine(), length=0), ValueError, "'length' must be >= 1: 0"),
        (lambda: untyped(LRSchedulerCallback)(Cosine(), optimizer=3), TypeError, "'optimizer' must have param_groups"),
        (
            lambda: untyped(LRSchedulerCallback)(StepLR(RateWitness(1.0), 1), optimizer=RateWitness(1.0)),
            ValueError,
            "'optimizer' must be None with a scheduler, which has its own",
        ),
    ],
)
def test_bad_arguments_are_refused_by_name(build: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


def test_eta_min_above_the_rate_warns_once_before_the_first_step() -> None:
    optimizer = RateWitness(0.1)
    callback = CosineAnnealingLRCallback(T_max=2, eta_min=0.3)
    with pytest.warns(UserWarning, match="'eta_min' is above the base rate, .* in group 0, 0.3 > 0.1$") as warned:
        Trainer(optimizer=optimizer, epochs=3, callbacks=[callback]).fit()
    assert len(warned) == 1
    assert optimizer.used == [(0.1,), (pytest.approx(0.2),), (0.3,)]


def test_a_scheduler_that_follows_a_metric_gets_it_in_the_epochs_that_have_it() -> None:
    scheduler, found = Follower(), iter([3.0, 2.0])
    callback = LRSchedulerCallback(scheduler, monitor="val_loss")
    Trainer(epochs=5, evaluate=lambda: next(found), evaluate_every=2, callbacks=[callback]).fit()
    assert scheduler.metrics == [3.0, 2.0]


def test_a_metric_that_does_not_exist_is_refused_with_those_that_do() -> None:
    callback = LRSchedulerCallback(Follower(), monitor="val_los")
    with pytest.raises(ValueError, match="'monitor' must be one of the metrics, loss, val_loss: 'val_los'"):
        Trainer(lambda batch: 0.5, [1], evaluate=lambda: 1.0, callbacks=[callback]).fit()


def test_steps_without_an_update_do_not_advance_a_schedule_of_steps() -> None:
    optimizer = RateWitness(1.0)
    callback = ExponentialLRCallback(gamma=0.5, interval="step")
    Trainer(
        lambda n: StepResult(updated=False) if n % 3 else optimizer.step(),
        range(9),
        optimizer=optimizer,
        callbacks=[callback],
    ).fit()
    assert optimizer.used == [(1.0,), (0.5,), (0.25,)]
    assert optimizer.param_groups[0]["lr"] == 0.125


def test_the_event_of_the_other_interval_is_not_listened_to() -> None:
    for interval, unheard in (("epoch", StepEnd), ("step", EpochEnd)):
        assert LRSchedulerCallback(Simple(), interval=interval).hooks(unheard) == []  # type: ignore[arg-type]  # a str here


def test_two_callbacks_for_one_scheduler_are_refused() -> None:
    scheduler = StepLR(RateWitness(1.0), 1)
    with pytest.raises(ValueError, match="must have one schedule per number"):
        Trainer(callbacks=[LRSchedulerCallback(scheduler), LRSchedulerCallback(scheduler)]).fit()


def test_a_schedule_for_each_of_two_optimizers_is_fine() -> None:
    one, two = RateWitness(1.0), RateWitness(1.0)
    callbacks = [
        StepLRCallback(step_size=1, gamma=0.5, optimizer=one),
        ExponentialLRCallback(gamma=0.25, optimizer=two),
    ]
    Trainer(epochs=2, optimizer=one, callbacks=callbacks).fit()
    assert (one.param_groups[0]["lr"], two.param_groups[0]["lr"]) == (0.25, 0.0625)


@pytest.mark.parametrize(("callback", "scheduler"), BUILT)
def test_a_state_resumes_a_schedule_elsewhere(callback: Any, scheduler: Any) -> None:
    whole, first, second = RateWitness(1.0), RateWitness(1.0), RateWitness(1.0)
    Trainer(epochs=5, optimizer=whole, callbacks=[callback()]).fit()
    saved = callback()
    assert saved.state_dict() == {"last_epoch": None, "base_lrs": []}
    Trainer(epochs=2, optimizer=first, callbacks=[saved]).fit()
    assert saved.state_dict() == {"last_epoch": 2, "base_lrs": [1.0]}
    resumed = callback()
    resumed.load_state_dict(json.loads(json.dumps(saved.state_dict())))
    assert resumed.state_dict() == saved.state_dict()
    Trainer(epochs=3, optimizer=second, callbacks=[resumed]).fit()
    assert first.used + second.used == whole.used
    saved.load_state_dict(saved.state_dict())
    with pytest.raises(
        ValueError,
        match=r"the state of .* does not fit: 'base_lrs' is missing, 'last_epoch' is missing, 'x' is unknown",
    ):
        saved.load_state_dict({"x": 1})


def test_a_scheduler_that_is_only_stepped_works() -> None:
    scheduler = Simple()
    Trainer(epochs=3, callbacks=[LRSchedulerCallback(scheduler)]).fit()
    assert scheduler.steps == 3


@pytest.mark.parametrize(("callback", "scheduler"), BUILT)
def test_no_setting_can_be_changed_as_the_schedule_would_not_follow(callback: Any, scheduler: Any) -> None:
    named = callback()
    for name in ("step_size", "gamma", "T_max", "interval", "optimizer"):
        with pytest.raises(AttributeError):
            setattr(named, name, getattr(named, name, 3))
    given = LRSchedulerCallback(scheduler(RateWitness(1.0)))
    with pytest.raises(AttributeError):
        given.schedule = Cosine()


def test_a_plateau_follows_the_evaluations_within_epochs() -> None:
    optimizer = RateWitness(1.0)
    plateau = ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    callback = LRSchedulerCallback(plateau, monitor="val_loss")
    trainer = Trainer(
        lambda batch: optimizer.step(),
        range(4),
        epochs=2,
        optimizer=optimizer,
        evaluate=lambda: 1.0,
        evaluate_every="2 steps",
        callbacks=[callback],
    )
    history = trainer.fit()
    assert [rate for (rate,) in optimizer.used] == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    assert plateau.last_epoch == len(history.evaluations) == 4


def test_a_plateau_that_has_lowered_a_schedule_goes_on_from_there_and_from_a_rate_that_was_accepted() -> None:
    def trained(rate: float, state: dict[str, Any] | None = None, **settings: Any) -> tuple[Trainer, list[float]]:
        model = nn.Linear(1, 1, rng=0)
        optimizer = optims.SGD(model.parameters(), lr=rate)
        plateau = ReduceLROnPlateau(optimizer, patience=0, factor=0.5, schedule=Constant().warmup(2))
        trainer = Trainer(
            lambda batch: optimizer.step(),
            range(2),
            model=model,
            optimizer=optimizer,
            epochs=5,
            evaluate=lambda: 1.0,
            callbacks=[LRSchedulerCallback(plateau, monitor="val_loss")],
        )
        if state is not None:
            trainer.load_state_dict(state, **settings)
        return trainer, [lr for record in trainer.fit(3 if state is None else 5) for lr in record.lr]

    first, rates = trained(0.8)
    assert rates == pytest.approx([0.08, 0.44, 0.4])
    state = first.state_dict()
    assert trained(0.8, state)[1] == pytest.approx([*rates, 0.2, 0.1])
    assert trained(0.4, state, accept="optimizer")[1] == pytest.approx([*rates, 0.1, 0.05])


def test_a_group_added_after_the_last_step_is_in_the_state() -> None:
    optimizer = RateWitness(0.5)
    callback = LRSchedulerCallback(Cosine())
    Trainer(step=lambda batch: 0.0, data=[0], optimizer=optimizer, epochs=2, callbacks=[callback]).fit()
    optimizer.param_groups.append({"params": [], "lr": 0.25})
    assert callback.state_dict() == {"last_epoch": 2, "base_lrs": [0.5, 0.25]}


def test_a_scheduler_that_the_step_steps_too_is_named_once() -> None:
    optimizer = RateWitness(1.0)
    scheduler = StepLR(optimizer, 1, 0.5)

    def step(batch: int) -> None:
        optimizer.step()
        scheduler.step()

    callback = LRSchedulerCallback(scheduler)
    with pytest.warns(UserWarning, match="the StepLR of LRSchedulerCallback is stepped by other code too") as caught:
        Trainer(step, range(2), epochs=3, callbacks=[callback]).fit()
    assert [str(each.message) for each in caught] == [
        "the StepLR of LRSchedulerCallback is stepped by other code too: it has gone from epoch 0 to 2 since the "
        "callback's last step; leave it to one of them"
    ]


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_so_is_one_that_the_callback_has_bound(interval: Any) -> None:
    optimizer = RateWitness(1.0)
    callback = ExponentialLRCallback(0.5, interval=interval)
    trainer = Trainer(lambda batch: optimizer.step(), range(2), optimizer=optimizer, epochs=3, callbacks=[callback])
    trainer.on(EpochEnd)(lambda event: callback.scheduler.step())
    with pytest.warns(
        UserWarning, match="the LRScheduler of ExponentialLRCallback is stepped by other code too"
    ) as caught:
        trainer.fit()
    assert len(caught) == 1


def test_between_two_fits_a_scheduler_may_be_stepped() -> None:
    optimizer = RateWitness(1.0)
    scheduler = StepLR(optimizer, 1, 0.5)
    trainer = Trainer(lambda batch: optimizer.step(), [1], callbacks=[LRSchedulerCallback(scheduler)])
    trainer.fit()
    optimizer.step()
    scheduler.step()
    trainer.fit(2)
    assert optimizer.used == [(1.0,), (0.5,), (0.25,)]


NEVER_ENDING: dict[str, Any] = {
    "as long as the run": lambda opt: LRSchedulerCallback(Cosine(), interval="step"),
    "joined": lambda opt: LRSchedulerCallback(Cosine().warmup("10%"), interval="step"),
    "one of two groups": lambda opt: LRSchedulerCallback([Cosine(), Exponential(0.9)], interval="step"),
    "multiplied": lambda opt: LRSchedulerCallback(Linear(1.0, 0.0) * Exponential(0.9), interval="step"),
    "built": lambda opt: LRSchedulerCallback(OneCycleLR(opt, 1.0, 8, cycle_momentum=False), interval="step"),
    "a count": lambda opt: CosineAnnealingLRCallback(8, interval="step"),
}


@pytest.mark.parametrize("make", NEVER_ENDING.values(), ids=NEVER_ENDING)
def test_a_schedule_that_does_not_come_to_its_end_for_want_of_updates_is_named_once(make: Any) -> None:
    optimizer = RateWitness(1.0, 1.0)
    callback = make(optimizer)
    skipped = StepResult(updated=False)
    trainer = Trainer(
        lambda batch: skipped if batch else optimizer.step(),
        range(4),
        optimizer=optimizer,
        epochs=2,
        callbacks=[callback],
    )
    with pytest.warns(
        UserWarning, match="never reaches its end: 8 updates were planned and 2 were performed"
    ) as caught:
        trainer.fit()
    assert [str(each.message).startswith(repr(callback)) for each in caught] == [True]


def test_so_it_is_where_the_data_ends_early() -> None:
    class Short(list[int]):
        def __len__(self) -> int:
            return 5

    callback = LRSchedulerCallback(Cosine(), interval="step")
    trainer = Trainer(lambda batch: None, Short([1, 2, 3]), optimizer=Bare(1.0), epochs=2, callbacks=[callback])
    with pytest.warns(UserWarning, match="never reaches its end: 10 updates were planned and 6 were performed"):
        trainer.fit()


@pytest.mark.parametrize(
    "schedule",
    [
        Cosine(),
        Cosine(T_max=3),
        Cosine(T_max=9),
        Constant(),
        Step("50%", 0.5),
        Linear(1.0, 0.0, 2).then(Exponential(0.5)),
    ],
    ids=str,
)
def test_a_schedule_that_ends_in_time_or_was_made_longer_than_the_run_is_not(schedule: Any) -> None:
    callback = LRSchedulerCallback(schedule, interval="step")
    Trainer(lambda batch: None, range(4), optimizer=Bare(1.0), epochs=2, callbacks=[callback]).fit()
    assert callback.scheduler.last_epoch == 8  # without a warning, which would be an error


def test_nor_is_that_of_a_fit_which_does_not_complete() -> None:
    trainer = Trainer(
        optimizer=Bare(1.0), steps_per_epoch=4, callbacks=[LRSchedulerCallback(Cosine(), interval="step")]
    )
    trainer.on(StepEnd, at=2)(lambda event: event.run.stop())
    assert trainer.fit().status == "stopped"
    assert trainer.fit().status == "completed"
