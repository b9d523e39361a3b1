"""What differs in the set-up of the optimizers is named, counts once it is accepted, and is nothing else."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import define

from lucid_train import Callback, EpochEnd, StepEnd, Trainer, nn, optims
from lucid_train.callbacks import Checkpoint, CosineAnnealingLRCallback, ExponentialLRCallback, LRSchedulerCallback
from lucid_train.optims.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CyclicLR,
    ExponentialLR,
    OneCycleLR,
    ParamScheduler,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from lucid_train.optims.param_groups import write_value
from lucid_train.schedules import Cosine, Exponential, Linear, OneCycle
from lucid_train.testing import diff_states
from tests.support.optimizers import Bare, LucidLike, Scalar


def sgd(lr: Any = 0.1, **options: Any) -> optims.SGD:
    return optims.SGD(nn.Linear(2, 1, rng=0).parameters(), lr=lr, **{"momentum": 0.9, **options})


def adam(lr: Any = 0.1, **options: Any) -> optims.AdamW:
    return optims.AdamW(nn.Linear(2, 1, rng=0).parameters(), lr=lr, **options)


def grouped(*rates: float) -> optims.SGD:
    groups = [{"params": [nn.Parameter([1.0])], "lr": rate} for rate in rates]
    return optims.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.01)


@define(eq=False)
class Weights:
    """The parameters of an optimizer, as an extra."""

    optimizer: Any

    def parameters(self) -> list[Any]:
        return [each for group in self.optimizer.param_groups for each in group.get("params", ())]

    def state_dict(self) -> dict[str, Any]:
        return {"arrays": [each.data for each in self.parameters()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for parameter, array in zip(self.parameters(), state["arrays"], strict=False):
            parameter.data[...] = array


def trainer(optimizer: Any, /, *callbacks: Callback, epochs: int = 4, **settings: Any) -> Trainer:
    """Return one with four epochs of three steps, whose gradients are the batch."""

    def step(batch: float) -> float:
        for group in optimizer.param_groups:
            for parameter in group.get("params", ()):
                parameter.grad = np.ones_like(parameter.data) * batch
        if hasattr(optimizer, "step"):
            optimizer.step()
        return batch

    settings = {"optimizer": optimizer, "extras": {"weights": Weights(optimizer)}, **settings}
    return Trainer(step, [1.0, 2.0, 3.0], epochs=epochs, callbacks=callbacks, **settings)


def state_at(made: Trainer, step: int) -> Any:
    """Return the state of a run that is stopped after a step."""
    made.on(StepEnd, at=step)(lambda event: event.run.stop())
    made.fit()
    return copy.deepcopy(made.state_dict())


def difference(first: Any, second: Any, *callbacks: Callback) -> str:
    """Return what a run with the second optimizer says to the state of one with the first."""
    state = state_at(trainer(first, *callbacks), 2)
    with pytest.raises(ValueError, match="the checkpoint is of another set-up") as caught:
        trainer(second, *copy.deepcopy(callbacks)).load_state_dict(state)
    return str(caught.value).removeprefix("the checkpoint is of another set-up: ")


# What is named.


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (lambda: sgd(), lambda: sgd(0.01), "lr is 0.01 here and 0.1 in the checkpoint"),
        (lambda: sgd(), lambda: sgd(np.array(0.25)), "lr is 0.25 here and 0.1 in the checkpoint"),
        (lambda: sgd(), lambda: sgd(momentum=0.5), "momentum is 0.5 here and 0.9 in the checkpoint"),
        (lambda: sgd(), lambda: sgd(nesterov=True), "nesterov is True here and False in the checkpoint"),
        (lambda: sgd(), lambda: sgd(weight_decay=0.5), "weight_decay is 0.5 here and 0.0 in the checkpoint"),
        (lambda: adam(), lambda: adam(betas=(0.5, 0.9)), "betas is [0.5, 0.9] here and [0.9, 0.999] in the checkpoint"),
        (lambda: grouped(1, 0.2), lambda: grouped(1, 0.3), "lr is [1.0, 0.3] here and [1.0, 0.2] in the checkpoint"),
        (lambda: grouped(0.1, 0.1), lambda: grouped(0.3, 0.3), "lr is 0.3 here and 0.1 in the checkpoint"),
        (lambda: grouped(0.1), lambda: grouped(0.1, 0.1), "groups is 2 here and 1 in the checkpoint"),
        (lambda: Bare(0.1, decay=0.5), lambda: Bare(0.1, decay=0.25), "decay is 0.25 here and 0.5 in the checkpoint"),
        (lambda: Bare(0.1, clip=1.0), lambda: Bare(0.1), "clip is None here and 1.0 in the checkpoint"),
        (lambda: Bare(0.1), lambda: Bare(0.1, name="head"), "name is 'head' here and None in the checkpoint"),
        (lambda: Bare(1, f=any), lambda: Bare(1, f=id), "f is 'builtins.id' here and 'builtins.any' in the checkpoint"),
        (lambda: LucidLike(0.1), lambda: LucidLike(0.2), "lr is 0.2 here and 0.1 in the checkpoint"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("scheduled", [False, True])
def test_an_option_that_differs_is_named(
    first: Callable[[], Any], second: Callable[[], Any], message: str, scheduled: bool
) -> None:
    callbacks = [ExponentialLRCallback(0.5, interval="step")] if scheduled else []
    name = message.partition(" ")[0]
    expected = f"optimizer.{message}; to go on with the set-up here, pass accept=['optimizer.{name}']"
    assert difference(first(), second(), *callbacks) == expected


def test_how_many_parameters_a_group_has_is_named() -> None:
    other = optims.SGD(nn.Linear(2, 1, bias=False, rng=0).parameters(), lr=0.1, momentum=0.9)
    assert difference(sgd(), other).startswith("optimizer.params is 1 here and 2 in the checkpoint; ")


def test_another_class_is_named_and_what_comes_of_it_is_not() -> None:
    expected = "optimizer is 'AdamW' here and 'SGD' in the checkpoint; to go on with the set-up here, pass accept=["
    assert difference(sgd(), adam()) == f"{expected}'optimizer']"


def test_optimizers_among_the_extras_are_compared_too() -> None:
    def made(lr: float) -> Trainer:
        return trainer(sgd(), extras={"critic": sgd(lr)})

    state = state_at(made(0.1), 2)
    message = re.escape(
        "extras.critic.lr is 0.2 here and 0.1 in the checkpoint; "
        "to go on with the set-up here, pass accept=['extras.critic.lr']"
    )
    with pytest.raises(ValueError, match=message):
        made(0.2).load_state_dict(state)
    accepting = made(0.2)
    accepting.load_state_dict(state, accept="extras.critic.lr")
    assert accepting.extras["critic"].param_groups[0]["lr"] == 0.2


def test_optimizers_among_the_extras_are_saved_once_and_their_schedules_follow_what_is_accepted() -> None:
    def made(lr: float) -> Trainer:
        one, other = sgd(0.1), sgd(lr)
        callbacks = [ExponentialLRCallback(0.5, optimizer=each) for each in (one, other)]

        def step(batch: float) -> None:
            one.step()
            other.step()

        return Trainer(step, [1.0], epochs=4, extras={"one": one, "other": other}, callbacks=callbacks)

    straight = made(0.1)
    straight.fit()
    state = state_at(made(0.1), 2)
    assert state["optimizer"] is None
    resumed, changed = made(0.1), made(0.2)
    resumed.load_state_dict(state)
    resumed.fit()
    assert diff_states(resumed.state_dict(), straight.state_dict()) == []
    with pytest.raises(ValueError, match=r"accept=\['extras\.other\.lr'\]"):
        changed.load_state_dict(state)
    changed.load_state_dict(state, accept="extras.other.lr")
    changed.fit()
    assert [each.param_groups[0]["lr"] for each in changed.extras.values()] == [0.1 / 16, 0.2 / 16]


def test_an_optimizer_that_a_callback_brings_is_compared_before_anything_is_loaded() -> None:
    def made(lr: float) -> Trainer:
        optimizer = sgd(lr)
        return trainer(optimizer, ExponentialLRCallback(0.5, optimizer=optimizer), optimizer=None)

    state = state_at(made(0.1), 5)
    other = made(0.2)
    with pytest.raises(ValueError, match=r"optimizer\.lr is 0\.2 here and 0\.1 in the checkpoint"):
        other.load_state_dict(state)
    other.load_state_dict(state, accept="optimizer.lr")
    assert [record.lr for record in other.fit()] == [(0.1,), (0.1,), (0.05,), (0.025,)]


@define(eq=False)
class Brings(Callback):
    """Sets the rate of an optimizer of which it says nothing before the fit starts."""

    optimizer: Any

    def settings(self) -> dict[str, Any]:
        return {}

    def on_fit_start(self, event: Any) -> None:
        event.run.claim(self.optimizer, self)


def test_an_optimizer_that_is_known_only_when_the_fit_has_started_is_loaded_and_compared_then() -> None:
    def made(lr: float) -> tuple[optims.SGD, Trainer]:
        optimizer = sgd(lr)
        return optimizer, trainer(optimizer, Brings(optimizer), optimizer=None)

    straight, whole = made(0.1)
    whole.fit()
    state = state_at(made(0.1)[1], 5)
    optimizer, resumed = made(0.1)
    resumed.load_state_dict(state)
    resumed.fit()
    assert diff_states(optimizer.state_dict(), straight.state_dict()) == []
    _, other = made(0.2)
    other.load_state_dict(state, accept="all")
    with pytest.raises(ValueError, match=r"optimizer\.lr is 0\.2 here and 0\.1 in the checkpoint; pass Trainer\(opt"):
        other.fit()


def test_an_optimizer_that_is_not_there_any_more_is_missed_when_the_fit_starts() -> None:
    state = state_at(trainer(sgd()), 2)
    forgetful = trainer(sgd(), optimizer=None)
    forgetful.load_state_dict(state)
    with pytest.raises(
        ValueError, match=r"^optimizer is None here and 'SGD' in the checkpoint; pass Trainer\(optimizer="
    ):
        forgetful.fit()
    meant = trainer(sgd(), optimizer=None)
    meant.load_state_dict(state, accept="optimizer")
    assert len(meant.fit()) == 4


# What is accepted counts.


@pytest.mark.parametrize(
    "make", [sgd, adam, lambda **options: Bare(options.pop("lr", 0.1), **{"weight_decay": 0.0, **options})]
)
def test_options_that_are_accepted_are_those_here_in_every_later_step(make: Callable[..., Any], tmp_path: Path) -> None:
    def made(**options: Any) -> Trainer:
        return trainer(make(**options), Checkpoint(tmp_path, weights=False))

    state_at(made(), 2)
    changed = made(lr=0.25, weight_decay=0.5)
    changed.fit(resume="auto", accept=["optimizer.lr", "optimizer.weight_decay"])
    (group,) = changed.optimizer.param_groups
    assert (group["lr"], group["weight_decay"], "initial_lr" in group) == (0.25, 0.5, False)
    with pytest.warns(UserWarning, match="nothing left to train"):  # and it needs no accepting a second time
        made(lr=0.25, weight_decay=0.5).fit(resume="auto")


BASES: dict[str, Callable[[Any], Any]] = {
    "a value": lambda o: Cosine(8).warmup(2),
    "StepLR": lambda o: StepLR(o, 2, 0.5),
    "ours, in a sequence": lambda o: SequentialLR(o, [ConstantLR(o, 0.5, 2), ExponentialLR(o, 0.5)], [2]),
    "ours, in a chain": lambda o: ChainedScheduler([ConstantLR(o, 0.5, 3), ExponentialLR(o, 0.5)]),
    "several keys": lambda o: ParamScheduler(o, lr=Exponential(0.5), weight_decay=Exponential(0.5)),
}


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize(
    "make",
    [
        lambda lr: sgd(lr, weight_decay=0.01),
        lambda lr: adam(lr, weight_decay=0.01),
        lambda lr: sgd(np.array(lr), weight_decay=0.01),
        lambda lr: Bare(lr, weight_decay=0.5),
        lambda lr: Bare(np.array(lr), weight_decay=0.5),
    ],
)
def test_a_schedule_starts_from_the_base_that_was_accepted(make: Callable[[float], Any], name: str) -> None:
    def made(lr: float) -> Trainer:
        optimizer = make(lr)
        return trainer(optimizer, LRSchedulerCallback(BASES[name](optimizer)))

    expected = [record.lr for record in made(0.25).fit()]
    changed = made(0.25)
    changed.load_state_dict(state_at(made(0.1), 5), accept="optimizer.lr")
    assert [record.lr for record in changed.fit()] == [made(0.1).fit()[0].lr, *expected[1:]]
    with pytest.raises(ValueError, match=r"optimizer\.lr is 0\.1 here and 0\.25 in the checkpoint"):
        made(0.1).load_state_dict(changed.state_dict())


def test_a_rate_that_is_accepted_under_a_plateau_is_the_one_here() -> None:
    def made(lr: float) -> Trainer:
        optimizer = sgd(lr)
        scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        return trainer(optimizer, LRSchedulerCallback(scheduler, monitor="loss"))

    changed = made(0.25)
    changed.load_state_dict(state_at(made(0.1), 8), accept="optimizer.lr")
    assert [record.lr for record in changed.fit()] == [(0.1,), (0.1,), (0.25,), (0.125,)]


def test_a_scheduler_among_the_extras_with_bases_of_its_own_cannot_follow_and_says_so() -> None:
    def made(lr: float) -> Trainer:
        optimizer = sgd(lr)
        return trainer(optimizer, extras={"schedule": StepLR(optimizer, 2, 0.5)})

    state = state_at(made(0.1), 2)
    changed = made(0.25)
    before = copy.deepcopy(changed.state_dict())
    message = (
        r"optimizer\.lr cannot be accepted, as extras\['schedule'\] has base values of its own.*LRSchedulerCallback"
    )
    with pytest.raises(ValueError, match=message):
        changed.load_state_dict(state, accept="optimizer.lr")
    assert diff_states(changed.state_dict(), before) == []


# What is no difference.


@define(eq=False)
class Anneals(Callback):
    """A user's own: changes an option of the optimizer after each epoch."""

    option: str

    def on_epoch_end(self, event: EpochEnd) -> None:
        for group in event.run.optimizer.param_groups:
            write_value(group, self.option, float(group[self.option]) / 2 + 0.125)


SETUPS: dict[str, Callable[[Any], list[Callback]]] = {
    "no schedule": lambda o: [],
    **{name: lambda o, made=made: [LRSchedulerCallback(made(o))] for name, made in BASES.items()},
    "step, by its callback": lambda o: [ExponentialLRCallback(0.5, interval="step")],
    "cosine": lambda o: [CosineAnnealingLRCallback(T_max=3)],
    "one cycle, a value": lambda o: [LRSchedulerCallback(OneCycle(0.5), interval="step")],
    "one cycle": lambda o: [LRSchedulerCallback(OneCycleLR(o, 0.5, 12), interval="step")],
    "cyclic": lambda o: [LRSchedulerCallback(CyclicLR(o, 0.1, 0.5, 3))],
    "weight decay": lambda o: [LRSchedulerCallback(ParamScheduler(o, weight_decay=Exponential(0.5)))],
    "shares of the run": lambda o: [LRSchedulerCallback(Cosine().warmup("25%"), interval="step")],
    "plateau": lambda o: [LRSchedulerCallback(ReduceLROnPlateau(o, factor=0.5, patience=0), monitor="loss")],
    "a given base": lambda o: [LRSchedulerCallback(ScheduleOf(o))],
    "a user's rate": lambda o: [Anneals("lr")],
    "a user's weight decay": lambda o: [Anneals("weight_decay")],
    "a user's and a schedule": lambda o: [Anneals("weight_decay"), ExponentialLRCallback(0.5)],
}
OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "sgd": lambda: sgd(weight_decay=0.01),
    "adam": lambda: adam(weight_decay=0.01),
    "two groups": lambda: grouped(0.1, 0.05),
    "a rate that is an array": lambda: sgd(np.array(0.1), weight_decay=0.01),
    "nothing but groups": lambda: Bare(0.1, 0.2, momentum=0.9, weight_decay=0.5, name="all", f=len),
    "groups with arrays": lambda: Bare(np.array(0.1), momentum=np.array(0.9), weight_decay=0.5),
    "numpy's numbers": lambda: Bare(
        np.float32(0.5), momentum=np.float64(0.9), weight_decay=np.float32(0.3), k=np.int64(3)
    ),
    "a rate that is an array of its own kind": lambda: Bare(Immutable(0.1), momentum=0.9, weight_decay=0.5),
    "a rate like a tensor": lambda: Bare(Scalar(0.1), momentum=0.9, weight_decay=0.5),
}


class Immutable(float):
    """A number as JAX's are: with dimensions, of which it has none, and not filled in place."""

    ndim = 0

    def item(self) -> float:
        return float(self)


def ScheduleOf(optimizer: Any) -> Any:  # noqa: N802  # it stands for a class
    from lucid_train.optims.lr_scheduler import LRScheduler

    return LRScheduler(optimizer, Exponential(0.5), base_lrs=[0.3] * len(optimizer.param_groups))


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_set_up_is_taken_for_another_one_however_often_it_is_resumed(name: str, setup: str) -> None:
    def made() -> Trainer:
        optimizer = OPTIMIZERS[name]()
        return trainer(optimizer, *SETUPS[setup](optimizer))

    straight = made()
    straight.fit()
    state = made().state_dict()
    for step in (2, 3, 7, 9, 12):
        part = made()
        part.load_state_dict(state)
        state = state_at(part, step)
    assert diff_states(state, straight.state_dict()) == []


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_has_trained_can_resume_in_the_same_process(name: str, setup: str) -> None:
    optimizer = OPTIMIZERS[name]()
    first = trainer(optimizer, *SETUPS[setup](optimizer))
    state = state_at(first, 7)
    first.fit(4)  # and so leaves the groups elsewhere
    first.load_state_dict(state)
    state = state_at(first, 8)
    again = trainer(optimizer, *SETUPS[setup](optimizer))
    again.load_state_dict(state)
    fresh = OPTIMIZERS[name]()
    trainer(fresh, *SETUPS[setup](fresh)).load_state_dict(state_at(again, 9))
    assert again.state_dict()["progress"]["step"] == 9


def test_a_group_that_the_run_has_added_is_none_where_the_program_adds_it_before_it_resumes() -> None:
    def made(*, resumed: bool, epochs: int = 4) -> Trainer:
        optimizer = grouped(0.1)
        added = {"params": [nn.Parameter([2.0])], "lr": 0.5}
        if resumed:
            optimizer.add_param_group(added)
        adds = trainer(optimizer, epochs=epochs)
        adds.on(EpochEnd, at=1)(lambda event: optimizer.add_param_group(added))
        return adds

    straight = made(resumed=False)
    straight.fit()
    resumed = made(resumed=True)
    resumed.load_state_dict(state_at(made(resumed=False), 8))
    resumed.fit()
    assert diff_states(resumed.state_dict()["optimizer"], straight.state_dict()["optimizer"]) == []


# A longer run.


def test_more_epochs_need_no_accepting_and_fewer_do(tmp_path: Path) -> None:
    def made(epochs: int) -> Trainer:
        return trainer(sgd(), Checkpoint(tmp_path, weights=False), ExponentialLRCallback(0.5), epochs=epochs)

    made(2).fit()
    assert len(made(3).fit(resume="auto")) == 3
    assert len(made(3).fit(4, resume="auto")) == 4
    with pytest.raises(ValueError, match="epochs is 3 here and 4 in the checkpoint"):
        made(3).fit(resume="auto")


SHARES = {
    "a schedule": lambda **more: LRSchedulerCallback(Cosine(), **more),
    "steps": lambda **more: LRSchedulerCallback(Cosine().warmup("25%"), interval="step", **more),
    "one per group": lambda **more: LRSchedulerCallback([Exponential(0.5).until("50%").then(Linear(0.5))], **more),
}


@pytest.mark.parametrize("name", SHARES)
def test_a_schedule_that_is_measured_in_the_run_is_never_stretched_in_silence(name: str, tmp_path: Path) -> None:
    share, unit = SHARES[name], 3 if name == "steps" else 1

    def made(epochs: int, **more: Any) -> Trainer:
        return trainer(sgd(), share(**more), Checkpoint(tmp_path, weights=False), epochs=epochs)

    state_at(made(4), 5)
    message = re.escape(
        f"LRSchedulerCallback.length is {8 * unit} here and {4 * unit} in the checkpoint (its schedule is measured in "
        f"it: length={4 * unit} keeps the curve); to go on with the set-up here, "
        f"pass accept=['LRSchedulerCallback.length']"
    )
    for long in (lambda: made(8).fit(resume="auto"), lambda: made(4).fit(8, resume="auto")):
        with pytest.raises(ValueError, match=message):
            long()
    kept = trainer(sgd(), share(length=4 * unit), epochs=8).fit()
    stretched = trainer(sgd(), share(), epochs=8).fit()
    first = trainer(sgd(), share(), epochs=4).fit()[0].lr
    shutil.copytree(tmp_path, tmp_path / "copy")
    rates = [record.lr for record in made(8, length=4 * unit).fit(resume="auto")]
    assert rates == [record.lr for record in kept]
    changed = trainer(sgd(), share(), epochs=8)
    rates = [
        record.lr for record in changed.fit(resume=tmp_path / "copy", accept=["LRSchedulerCallback", "Checkpoint"])
    ]
    assert rates == [first, *(record.lr for record in stretched[1:])]


@pytest.mark.filterwarnings("ignore:.*was measured in an earlier fit:UserWarning")  # the longer fit says so too
def test_a_schedule_that_was_bound_by_a_shorter_fit_says_so_when_the_longer_one_is_resumed() -> None:
    def made(**more: Any) -> Trainer:
        return trainer(sgd(), LRSchedulerCallback(Cosine(), **more), epochs=6)

    straight = made()
    straight.fit(3)
    straight.fit()
    first = made()
    first.fit(3)
    state = state_at(first, 14)
    with pytest.raises(ValueError, match=r"LRSchedulerCallback\.length is 6 here and 3 in the checkpoint"):
        made().load_state_dict(state)
    resumed = made(length=3)
    resumed.load_state_dict(state)
    assert [record.lr for record in resumed.fit()] == [record.lr for record in straight._run.history]
