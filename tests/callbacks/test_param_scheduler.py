"""ParamSchedulerCallback: schedules of keys of the groups and of attributes, beside those of the rates."""

import csv
import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import define
from rich.console import Console

from lucid_train import EpochRecord, FitStart, History, StepResult, Trainer, nn, optims, replay
from lucid_train.callbacks import CSVLogger, EventLog, LRSchedulerCallback, ParamSchedulerCallback, RichLogger
from lucid_train.optims.lr_scheduler import ExponentialLR, LRScheduler, OneCycleLR, ParamScheduler
from lucid_train.schedules import Constant, Cosine, Exponential, Linear, OneCycle, Step
from tests.support.optimizers import Bare, RateWitness
from tests.support.schedules import Line

HALVED = Exponential(0.5)


@define(eq=False)
class VAE:
    """What has a weight of its loss."""

    kl_weight: Any = 0.8


class Coder(nn.Linear):
    """A model that has a weight of its loss."""

    kl_weight = 0.8


def seen(read: Any, *callbacks: Any, optimizer: Any = None, epochs: int = 2, **more: Any) -> list[Any]:
    """Return what a step reads, in epochs of two steps."""
    found: list[Any] = []
    settings = {"optimizer": optimizer, "epochs": epochs, "callbacks": callbacks, **more}
    Trainer(lambda batch: found.append(read()), [1, 2], **settings).fit()
    return found


def test_keys_of_the_groups_go_on_beside_the_rates() -> None:
    optimizer = Bare(1.0, weight_decay=0.5, momentum=0.8)
    (group,) = optimizer.param_groups
    callbacks = [
        ParamSchedulerCallback(weight_decay=HALVED, interval="step"),
        ParamSchedulerCallback(momentum=Linear(0.5, 1.0, 2)),
        LRSchedulerCallback(Step(1, 0.25)),
    ]
    read = seen(lambda: (group["weight_decay"], group["momentum"], group["lr"]), *callbacks, optimizer=optimizer)
    assert read == [
        (0.5, 0.4, 1.0),
        (0.25, 0.4, 1.0),
        (0.125, 0.6000000000000001, 0.25),
        (0.0625, 0.6000000000000001, 0.25),
    ]


def test_several_numbers_of_one_callback_count_together_and_are_sized_by_the_run() -> None:
    optimizer = Bare(1.0, weight_decay=0.5, momentum=0.8)
    (group,) = optimizer.param_groups
    callback = ParamSchedulerCallback(weight_decay=Cosine(), momentum=Linear(0.0, 1.0, "50%"), interval="step")
    read = seen(lambda: (group["weight_decay"], group["momentum"]), callback, optimizer=optimizer)
    assert read == [(Cosine(4)(t, 0.5), Linear(0.0, 1.0, 2)(t, 0.8)) for t in range(4)]
    assert repr(callback.scheduler).startswith("ParamScheduler(weight_decay=Cosine(), momentum=Linear(")


def test_the_momentum_is_the_first_of_the_betas() -> None:
    optimizer = Bare(1.0, betas=(0.8, 0.99))
    read = seen(
        lambda: optimizer.param_groups[0]["betas"], ParamSchedulerCallback(momentum=HALVED), optimizer=optimizer
    )
    assert read == [(0.8, 0.99)] * 2 + [(0.4, 0.99)] * 2


@pytest.mark.parametrize(("interval", "times"), [("epoch", [0, 0, 1, 1]), ("step", [0, 1, 2, 3])])
def test_an_attribute_starts_from_the_value_that_it_has_and_gets_no_other(interval: Any, times: list[int]) -> None:
    vae = VAE()
    read = seen(lambda: vae.kl_weight, ParamSchedulerCallback(kl_weight=HALVED, on=vae, interval=interval))
    assert read == [0.8 * 0.5**t for t in times]
    layer = nn.Linear(1, 1, rng=0)
    layer.kl_weight = 0.5  # type: ignore[attr-defined]  # as a program adds one
    before = set(vars(layer))
    seen(lambda: None, ParamSchedulerCallback(kl_weight=HALVED, on=layer, interval=interval))
    assert set(vars(layer)) == before


def test_what_is_filled_in_place_keeps_identity() -> None:
    vae = VAE(np.array(0.8))
    held = vae.kl_weight
    assert seen(lambda: float(vae.kl_weight), ParamSchedulerCallback(kl_weight=HALVED, on=vae)) == [0.8] * 2 + [0.4] * 2
    assert vae.kl_weight is held


def test_an_update_that_was_not_performed_is_passed_over() -> None:
    vae, found = VAE(1.0), []

    def step(batch: int) -> StepResult:
        found.append(vae.kl_weight)
        return StepResult(0.5, updated=batch != 2)

    callback = ParamSchedulerCallback(kl_weight=HALVED, on=vae, interval="step")
    Trainer(step, [1, 2, 3], callbacks=[callback]).fit()
    assert found == [1.0, 0.5, 0.5]
    assert callback.state_dict() == {"last_epoch": 2, "base_kl_weight": [1.0]}


def test_a_state_is_a_count_and_the_bases_and_a_restart_goes_back_to_them() -> None:
    vae = VAE()
    trainer = Trainer(
        lambda batch: vae.kl_weight, [1], epochs=3, callbacks=[ParamSchedulerCallback(kl_weight=HALVED, on=vae)]
    )
    first = trainer.fit().metric("loss")
    assert (first, vae.kl_weight) == ([0.8, 0.4, 0.2], 0.1)
    assert trainer.fit(restart=True).metric("loss") == first
    again = ParamSchedulerCallback(kl_weight=HALVED, on=VAE())
    again.load_state_dict({"last_epoch": 2, "base_kl_weight": [0.8]})
    assert seen(lambda: again.on.kl_weight, again) == [0.2, 0.2, 0.1, 0.1]


def test_a_schedule_is_sized_in_a_step_by_the_steps_of_the_run() -> None:
    beta, found = Linear(0.0, 1.0, "50%"), []

    def step(batch: int) -> None:
        found.append(beta.sized(run.total_steps)(run.step))

    trainer = Trainer(step, [1, 2], epochs=4)

    @trainer.on(FitStart)
    def begin(event: FitStart) -> None:
        nonlocal run
        run = event.run

    run: Any = None
    trainer.fit()
    assert found == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0]
    assert (run.total_steps, type(run)(epochs=4).total_steps) == (8, None)


SHARED = VAE()
TWICE: dict[str, tuple[Any, str]] = {
    "a key by two callbacks": (
        lambda optimizer: [ParamSchedulerCallback(weight_decay=HALVED), ParamSchedulerCallback(weight_decay=HALVED)],
        "set the same weight_decay of one optimizer",
    ),
    "the rates": (
        lambda optimizer: [LRSchedulerCallback(HALVED), ParamSchedulerCallback(lr=HALVED)],
        "set the same rates of one optimizer",
    ),
    "an attribute": (
        lambda optimizer: [ParamSchedulerCallback(kl_weight=HALVED, on=SHARED) for _ in range(2)],
        "set the same kl_weight of the VAE",
    ),
    "the momentum of one cycle": (
        lambda optimizer: [LRSchedulerCallback(OneCycleLR(optimizer, 1.0, 9)), ParamSchedulerCallback(momentum=HALVED)],
        "set the same momentum of one optimizer",
    ),
}


@pytest.mark.parametrize(("make", "message"), TWICE.values(), ids=TWICE)
def test_two_writers_of_one_number_are_refused_by_name(make: Any, message: str) -> None:
    optimizer = RateWitness(1.0, weight_decay=0.5, momentum=0.9)
    with pytest.raises(ValueError, match=rf"'callbacks' must have one schedule per number: .* {message}; keep one"):
        Trainer(optimizer=optimizer, callbacks=make(optimizer)).fit()


def test_a_wrapper_and_what_is_inside_it_are_one_optimizer() -> None:
    inner = Bare(1.0, weight_decay=0.5)
    outer = Bare(1.0)
    outer.param_groups = inner.param_groups
    callbacks = [ParamSchedulerCallback(weight_decay=HALVED, optimizer=each) for each in (inner, outer)]
    with pytest.raises(ValueError, match="set the same weight_decay of one optimizer"):
        Trainer(optimizer=inner, callbacks=callbacks).fit()


def test_one_name_on_two_objects_is_no_conflict_and_stands_together() -> None:
    one, two = VAE(1.0), VAE(0.5)
    callbacks = [ParamSchedulerCallback(kl_weight=HALVED, on=each) for each in (one, two)]
    trainer = Trainer(lambda batch: 0.5, [1], epochs=2, callbacks=callbacks)
    assert [(each.first, each.last) for each in trainer.plan().scheduled["kl_weight"].epochs] == [
        ((1.0, 0.5), (1.0, 0.5)),
        ((0.5, 0.25), (0.5, 0.25)),
    ]
    history = trainer.fit()
    assert [record.scheduled for record in history] == [{"kl_weight": (1.0, 0.5)}, {"kl_weight": (0.5, 0.25)}]
    assert history.row(1) | {"seconds": 0} == {
        "epoch": 2, "steps": 1, "seconds": 0, "kl_weight": 0.5, "kl_weight_1": 0.25, "loss": 0.5,
    }  # fmt: skip


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: ParamSchedulerCallback(), ValueError, "'schedules' must name at least one key of the groups"),
    (lambda: ParamSchedulerCallback(betas=HALVED), ValueError, "'schedules' must not have 'betas', write momentum=..."),
    (lambda: ParamSchedulerCallback(kl=0.5), TypeError, "'kl' must be a Schedule: 0.5"),
    (lambda: ParamSchedulerCallback(steps=HALVED), ValueError, "'steps' must not be scheduled, the record of an epoch"),
    (lambda: ParamSchedulerCallback(lr=HALVED, on=VAE()), ValueError, "'lr' must not be scheduled, the record"),
    (lambda: ParamSchedulerCallback(kl=HALVED, interval="x"), ValueError, "'interval' must be one of 'epoch', 'step'"),
    (lambda: ParamSchedulerCallback(kl=HALVED, length=0), ValueError, "'length' must be >= 1: 0"),
    (
        lambda: ParamSchedulerCallback(kl=HALVED, on=VAE(), optimizer=Bare(1.0)),
        ValueError,
        "'optimizer' must be None with on=..., whose attributes are set: ",
    ),
    (
        lambda: ParamSchedulerCallback(kl=HALVED, on=Bare(1.0)),
        ValueError,
        "'on' must be no optimizer, which is",
    ),
    (
        lambda: seen(lambda: None, ParamSchedulerCallback(kl=HALVED, on=VAE())),
        TypeError,
        "'VAE' must have 'kl' to be scheduled: VAE(kl_weight=0.8)",
    ),
    (
        lambda: seen(lambda: None, ParamSchedulerCallback(kl_weight=HALVED, on=VAE(None))),
        TypeError,
        "'VAE.kl_weight' must be a number: None",
    ),
    (
        lambda: seen(lambda: None, ParamSchedulerCallback(weight_decay=HALVED), optimizer=Bare(1.0)),
        TypeError,
        "'optimizer.param_groups[0]' must have 'weight_decay' to be scheduled: ['lr']",
    ),
    (
        lambda: seen(lambda: None, ParamSchedulerCallback(kl_weight=HALVED), optimizer=Bare(1.0), model=Coder(1, 1)),
        TypeError,
        "'optimizer.param_groups' must have 'kl_weight' to be scheduled, which is an attribute of the Coder; pass "
        "ParamSchedulerCallback(kl_weight=..., on=model)",
    ),
    (
        lambda: seen(lambda: None, ParamSchedulerCallback(weight_decay=HALVED)),
        ValueError,
        "ParamSchedulerCallback needs an optimizer: pass Trainer(optimizer=...) or ParamSchedulerCallback(..., opt",
    ),
    (
        lambda: ParamScheduler(Bare(1.0, kl=0.5), kl=HALVED, bases={"other": [1.0]}),
        ValueError,
        "'bases' must be of the keys that have a schedule, kl: 'other'",
    ),
    (
        lambda: ParamScheduler(Bare(1.0, kl=0.5), kl=HALVED, bases={"kl": [1.0, 2.0]}),
        ValueError,
        "'base_kl' must have one value per group, 1: [1.0, 2.0]",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), REFUSED)
def test_what_cannot_be_scheduled_is_refused_by_name(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make()


CURE = "; set it to the value that the schedule scales, or use a schedule with values of its own, as OneCycle"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: (ParamSchedulerCallback(weight_decay=HALVED), Bare(1.0, 0.5, weight_decay=0.0)),
            "the 'weight_decay' of the optimizer is 0 and stays 0, as Exponential(0.5) is a multiple of it",
        ),
        (
            lambda: (ParamSchedulerCallback(kl_weight=Linear(0.0, 1.0, "50%"), on=VAE(0.0)), None),
            "the 'kl_weight' of the VAE is 0 and stays 0, as Linear(0.0, total_iters='50%') is a multiple of it",
        ),
        (
            lambda: (LRSchedulerCallback([HALVED, Step(1)]), Bare(0.0, 0.0)),
            "the 'lr' of the optimizer is 0 and stays 0, as Exponential(0.5) is a multiple of it",
        ),
        (
            lambda: (LRSchedulerCallback(ExponentialLR(optimizer := Bare(0.0), 0.5)), optimizer),
            "the 'lr' of the optimizer is 0 and stays 0, as Exponential(0.5) is a multiple of it",
        ),
    ],
)
def test_a_number_that_a_schedule_leaves_at_0_is_named_once(make: Any, message: str) -> None:
    callback, optimizer = make()
    trainer = Trainer(lambda batch: None, [1, 2], optimizer=optimizer, epochs=2, callbacks=[callback])
    with pytest.warns(UserWarning, match="stays 0") as warned:
        trainer.fit()
    assert [str(each.message) for each in warned] == [message + CURE]
    trainer.fit(restart=True)  # a warning would be an error


@pytest.mark.parametrize(
    "schedule",
    [
        Cosine(eta_min=0.1),
        Linear(0.0, total_iters=2).then(Cosine(eta_min=0.1)),
        OneCycle(0.1),
        Line(0.1),
        [Step(1), Cosine(eta_min=0.1)],
    ],
    ids=repr,
)
def test_one_that_a_schedule_moves_from_0_is_not(schedule: Any) -> None:
    optimizer = Bare(0.0, 0.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'eta_min' is above", UserWarning)
        trainer = Trainer(lambda batch: None, [1], optimizer=optimizer, callbacks=[LRSchedulerCallback(schedule)])
        assert trainer.fit(3).status == "completed"
    assert optimizer.param_groups[-1]["lr"] > 0.0


def test_nor_is_one_that_is_0_in_some_groups() -> None:
    optimizer = Bare(1.0, 0.0)
    seen(lambda: None, LRSchedulerCallback(HALVED), optimizer=optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.0]


def test_a_run_of_unknown_length_is_refused_with_the_line_to_write() -> None:
    callback = ParamSchedulerCallback(kl_weight=Cosine(), on=VAE(), interval="step")
    with pytest.raises(ValueError, match=r"known for Cosine\(\); pass ParamSchedulerCallback\(..., length=...\)"):
        Trainer(lambda batch: 0.5, iter([1]), callbacks=[callback]).fit()


def shown(tmp_path: Path) -> tuple[History, str, Any]:
    """Return the history of a run, what its display has shown, and its plan."""
    optimizer, vae, console = Bare(1.0, weight_decay=0.5), VAE(1.0), io.StringIO()
    callbacks = [
        LRSchedulerCallback(HALVED),
        ParamSchedulerCallback(kl_weight=Linear(0.5, 1.0, "50%"), on=vae, interval="step"),
        ParamSchedulerCallback(weight_decay=Step(2, 0.5)),
        CSVLogger(tmp_path / "run.csv"),
        EventLog(tmp_path / "run.jsonl", heartbeat=None),
        RichLogger(Console(file=console, width=110, color_system=None)),
    ]
    trainer = Trainer(
        lambda batch: {"loss": 0.5, "kl_weight": 2.0}, [1, 2], epochs=3, optimizer=optimizer, callbacks=callbacks
    )
    plan = trainer.plan()
    return trainer.fit(), console.getvalue(), plan


def test_the_plan_the_record_the_table_the_log_and_the_display_have_them(tmp_path: Path) -> None:
    history, text, plan = shown(tmp_path)
    weights = [Linear(0.5, 1.0, 3)(t) for t in (1, 3, 5)]
    used = [
        {"kl_weight": (weight,), "weight_decay": (decay,)}
        for weight, decay in zip(weights, (0.5, 0.5, 0.25), strict=True)
    ]
    assert [record.scheduled for record in history] == used
    assert {name: [each.last for each in number.epochs] for name, number in plan.scheduled.items()} == {
        name: [each[name] for each in used] for name in used[0]
    }
    assert "\nweight_decay: times 0.5 every 2 epochs\n  epochs 1 to 2: 0.5\n  epoch 3: 0.25" in str(plan)
    assert "kl_weight" in plan._repr_html_()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "run.csv").read_text())))
    assert [*rows[0]] == ["epoch", "steps", "seconds", "lr", "kl_weight", "weight_decay", "loss", "metric_kl_weight"]
    assert [float(row["kl_weight"]) for row in rows] == weights
    assert history.arrays()["weight_decay"].tolist() == [0.5, 0.5, 0.25]
    assert re.search(r"epoch 3/3 .* lr 0\.2500 -> 0\.1250 +kl_weight 1\.0000 +weight_decay 0\.2500", text)
    assert "weight_decay times 0.5 every 2 epochs" in text
    again = History()
    again.load_state_dict(history.state_dict())
    assert again == history

    console = io.StringIO()
    replay(tmp_path / "run.jsonl", [RichLogger(Console(file=console, width=110, color_system=None))])
    rows_of = re.compile(r"epoch \d/3.*?(?=  [\d.]+m?s)")
    assert rows_of.findall(console.getvalue()) == rows_of.findall(text)
    assert rows_of.findall(text)


def test_the_record_has_what_the_last_update_used_and_the_run_what_comes_next() -> None:
    vae, found = VAE(1.0), []
    callback = ParamSchedulerCallback(kl_weight=HALVED, on=vae, interval="step")
    trainer = Trainer(lambda batch: 0.5, [1, 2], epochs=2, callbacks=[callback])
    trainer.on(FitStart)(lambda event: found.append(event.run))
    assert [record.scheduled for record in trainer.fit()] == [{"kl_weight": (0.5,)}, {"kl_weight": (0.125,)}]
    assert vae.kl_weight == 0.0625


def test_a_metric_of_that_name_gets_a_prefix_and_no_other() -> None:
    record = EpochRecord(epoch=1, metrics={"kl": 1.0, "kl_1": 2.0, "kl_x": 3.0}, scheduled={"kl": (0.5,)})
    assert History([record]).columns() == ["epoch", "steps", "seconds", "kl", "metric_kl", "metric_kl_1", "kl_x"]


def test_a_group_may_be_frozen_until_an_epoch() -> None:
    body, head = nn.Linear(1, 1, rng=0), nn.Linear(1, 1, rng=1)
    groups = [{"params": body.parameters(), "name": "body"}, {"params": head.parameters(), "name": "head"}]
    optimizer = optims.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.1)
    frozen = Constant(0.0).until(2).then(Cosine(4))
    weights: list[float] = []

    def step(batch: int) -> None:
        for parameter in (*body.parameters(), *head.parameters()):
            parameter.grad = np.ones_like(parameter.data)
        optimizer.step()
        weights.append(float(next(iter(body.parameters())).data[0, 0]))

    first = float(next(iter(body.parameters())).data[0, 0])
    callback = LRSchedulerCallback({"body": frozen, "head": Cosine(6)})
    history = Trainer(step, [1], epochs=4, optimizer=optimizer, callbacks=[callback]).fit()
    assert weights[:2] == [first, first]
    assert first != weights[2] != weights[3]
    assert [record.lr[0] for record in history] == [0.0, 0.0, 0.1, Cosine(4)(1, 0.1)]


@pytest.mark.parametrize("schedule", [HALVED, Linear(0.5, 1.0, 3), Cosine(4, eta_min=0.01)], ids=repr)
def test_the_rate_of_a_group_is_scaled_as_timm_does(schedule: Any) -> None:
    optimizer = Bare(0.1, 0.2, 0.4)
    for group, scale in zip(optimizer.param_groups[:2], (0.5, 0.25), strict=True):
        group["lr_scale"] = scale
    scheduler = LRScheduler(optimizer, schedule)
    for t in range(5):
        expected = [schedule(t, 0.1) * 0.5, schedule(t, 0.2) * 0.25, schedule(t, 0.4)]
        assert scheduler.last_lr == scheduler.lr_at(t) == expected
        scheduler.step()
    assert (scheduler.base_lrs, [group["initial_lr"] for group in optimizer.param_groups]) == ([0.1, 0.2, 0.4],) * 2
    fresh = Bare(0.1, 0.2, 0.4)
    for group, old in zip(fresh.param_groups, optimizer.param_groups, strict=True):
        group |= old
    again = LRScheduler(fresh, schedule)
    again.load_state_dict(scheduler.state_dict())
    assert again.last_lr == scheduler.last_lr


def test_other_keys_are_not_scaled_and_a_scale_is_checked() -> None:
    optimizer = Bare(0.1, weight_decay=0.5, lr_scale=0.5)
    ParamScheduler(optimizer, weight_decay=HALVED)
    assert optimizer.param_groups[0]["weight_decay"] == 0.5
    with pytest.raises(ValueError, match=r"optimizer.param_groups\[0\]\['lr_scale'\]. must be >= 0: -1"):
        LRScheduler(Bare(0.1, lr_scale=-1), HALVED)


def named(lr: float, name: str) -> dict[str, Any]:
    return {"lr": lr, "weight_decay": lr, "name": name}


def test_a_group_that_comes_later_has_the_schedule_of_its_name() -> None:
    optimizer = Bare(1.0)
    optimizer.param_groups = [named(1.0, "body")]
    by_name = {"body": HALVED, "head": Constant(0.5)}
    callbacks = [LRSchedulerCallback(by_name), ParamSchedulerCallback(weight_decay=by_name)]

    def step(batch: int) -> None:
        if batch == 2:
            optimizer.param_groups.append(named(0.8, "head"))

    history = Trainer(step, [1, 2], epochs=1, optimizer=optimizer, callbacks=callbacks).fit(1)
    read = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert read == [(0.5, 0.5), (0.4, 0.4)]
    assert history[0].scheduled == {"weight_decay": (1.0, 0.8)}
    optimizer.param_groups.append(named(0.8, "tail"))
    names = re.escape("must name the groups, ['body', 'head', 'tail']: ['body', 'head']")
    with pytest.raises(ValueError, match=names):
        callbacks[0].scheduler.step()
