"""Options of PyTorch's optimizers: a change is named and followed once it is accepted, and nothing else is one."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as theirs
from torch.optim.swa_utils import SWALR

from lucid_train import StepEnd, Trainer
from lucid_train.callbacks import LRSchedulerCallback
from lucid_train.optims import lr_scheduler as ours
from lucid_train.schedules import Cosine, Exponential, OneCycle
from lucid_train.testing import diff_states
from tests.parity.test_wrapped_optimizers_parity import accelerated, fabric

# All that can be stepped by a plain gradient; LBFGS asks for a closure, Muon for matrices, SparseAdam for sparse ones.
OPTIMIZERS = sorted(
    name
    for name, each in vars(torch.optim).items()
    if inspect.isclass(each) and issubclass(each, torch.optim.Optimizer) and name not in ("Optimizer", "LBFGS")
)
OPTIONS: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9, "weight_decay": 0.01},
    "RMSprop": {"momentum": 0.9, "centered": True},
}
SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda o: theirs.StepLR(o, 1, 0.5),
    "LinearLR": lambda o: theirs.LinearLR(o, total_iters=3),
    "cosine": lambda o: theirs.CosineAnnealingLR(o, 4),
    "WarmRestarts": lambda o: theirs.CosineAnnealingWarmRestarts(o, 2),
    "LambdaLR": lambda o: theirs.LambdaLR(o, lambda t: 0.5**t),
    "sequence": lambda o: theirs.SequentialLR(o, [theirs.ConstantLR(o, 0.5, 2), theirs.ExponentialLR(o, 0.5)], [2]),
    "chain": lambda o: theirs.ChainedScheduler([theirs.ConstantLR(o, 0.5, 2), theirs.ExponentialLR(o, 0.5)]),
    "ours": lambda o: ours.StepLR(o, 1, 0.5),
    "a value": lambda o: Cosine(5),
}
ABSOLUTE: dict[str, Callable[[Any], Any]] = {
    "OneCycleLR": lambda o: theirs.OneCycleLR(o, 0.5, total_steps=12),
    "CyclicLR": lambda o: theirs.CyclicLR(o, 0.1, 0.5, 3),
    "SWALR": lambda o: SWALR(o, 0.01, 5),
    "plateau": lambda o: theirs.ReduceLROnPlateau(o, factor=0.5, patience=0),
    "ours, OneCycleLR": lambda o: ours.OneCycleLR(o, 0.5, 12),
    "one cycle, a value": lambda o: OneCycle(0.5),
    "weight decay": lambda o: ours.ParamScheduler(o, weight_decay=Exponential(0.5), momentum=Exponential(0.9)),
}


def model() -> torch.nn.Linear:
    torch.manual_seed(3)
    return torch.nn.Linear(2, 2, bias=False)


def built(make: Callable[[Any], Any], schedule: Callable[[Any], Any] | None = None) -> Trainer:
    net = model()
    optimizer = make(net.parameters())

    def step(batch: float) -> float:
        for parameter in net.parameters():
            gradient = torch.full_like(parameter, batch)
            parameter.grad = gradient.to_sparse() if "Sparse" in type(optimizer).__name__ else gradient
        optimizer.step()
        return batch

    callbacks = []
    if schedule is not None:
        value = schedule(optimizer)
        follows = isinstance(value, theirs.ReduceLROnPlateau)
        callbacks = [LRSchedulerCallback(value, monitor="loss" if follows else None)]
    return Trainer(step, [1.0, 2.0], epochs=6, model=net, optimizer=optimizer, callbacks=callbacks)  # type: ignore[arg-type]


def state_at(trainer: Trainer, step: int) -> Any:
    trainer.on(StepEnd, at=step)(lambda event: event.run.stop())
    trainer.fit()
    return copy.deepcopy(trainer.state_dict())


def assert_no_difference(make: Callable[[Any], Any], schedule: Callable[[Any], Any] | None) -> None:
    straight = built(make, schedule)
    straight.fit()
    state = built(make, schedule).state_dict()
    for step in (1, 2, 5, 6, 12):
        part = built(make, schedule)
        part.load_state_dict(state)
        state = state_at(part, step)
    assert diff_states(state, straight.state_dict()) == []


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("schedule", [None, *SCHEDULES])
def test_no_optimizer_and_no_schedule_is_taken_for_another_one(name: str, schedule: str | None) -> None:
    make = lambda parameters: getattr(torch.optim, name)(parameters, lr=0.125, **OPTIONS.get(name, {}))  # noqa: E731
    assert_no_difference(make, None if schedule is None else SCHEDULES[schedule])


@pytest.mark.parametrize("schedule", ABSOLUTE)
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_nor_is_one_whose_schedule_drives_more_than_the_rate_or_knows_no_base(name: str, schedule: str) -> None:
    make = lambda parameters: getattr(torch.optim, name)(parameters, lr=0.125, **OPTIONS.get(name, {}))  # noqa: E731
    assert_no_difference(make, ABSOLUTE[schedule])


MAKERS: dict[str, Callable[..., Any]] = {
    "tensors": lambda p, lr=0.125, **more: torch.optim.AdamW(p, lr=torch.tensor(lr), foreach=False, **more),
    "fused": lambda p, lr=0.125, **more: torch.optim.AdamW(p, lr=lr, fused=True, **more),
    "accelerate": lambda p, lr=0.125, **more: accelerated(torch.optim.AdamW(p, lr=lr, **more)),
    "fabric": lambda p, lr=0.125, **more: fabric(torch.optim.AdamW(p, lr=lr, **more)),
    "adam": lambda p, lr=0.125, **more: torch.optim.AdamW(p, lr=lr, **more),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("schedule", [None, "StepLR", "a value", "ours"])
def test_wrappers_and_tensors_are_no_difference(name: str, schedule: str | None) -> None:
    assert_no_difference(MAKERS[name], None if schedule is None else SCHEDULES[schedule])


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.25}, r"optimizer\.lr is 0\.25 here and 0\.125 in the checkpoint"),
        ({"weight_decay": 0.5}, r"optimizer\.weight_decay is 0\.5 here and 0\.01 in the checkpoint"),
        ({"betas": (0.5, 0.75)}, r"optimizer\.betas is \[0\.5, 0\.75\] here and \[0\.9, 0\.999\] in the checkpoint"),
        ({"amsgrad": True}, r"optimizer\.amsgrad is True here and False in the checkpoint"),
    ],
)
@pytest.mark.parametrize("schedule", [None, "StepLR", "a value", "ours"])
def test_a_change_is_named_and_counts_when_it_is_accepted(
    name: str, options: dict[str, Any], message: str, schedule: str | None
) -> None:
    make, chosen = MAKERS[name], None if schedule is None else SCHEDULES[schedule]
    state = state_at(built(make, chosen), 3)
    changed = built(lambda parameters: make(parameters, **options), chosen)
    with pytest.raises(ValueError, match=message):
        changed.load_state_dict(state)
    (key,) = options
    changed.load_state_dict(state, accept=f"optimizer.{key}")
    (group,) = changed.optimizer.param_groups  # type: ignore[union-attr]  # it has one
    if key != "lr":
        assert group[key] == options[key]
    elif schedule is None:
        assert float(group["lr"]) == 0.25
    assert isinstance(group["lr"], torch.Tensor) == (name == "tensors")


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", MAKERS)
def test_a_schedule_follows_the_base_that_was_accepted(name: str, schedule: str) -> None:
    make, chosen = MAKERS[name], SCHEDULES[schedule]
    changed = built(lambda parameters: make(parameters, lr=0.25), chosen)
    expected = [record.lr for record in built(lambda parameters: make(parameters, lr=0.25), chosen).fit()]
    changed.load_state_dict(state_at(built(make, chosen), 3), accept="optimizer.lr")
    found = [record.lr for record in changed.fit()]
    assert found[1:] == [pytest.approx(lr, rel=1e-6 if name == "tensors" else 1e-12) for lr in expected[1:]]


def test_settings_that_pytorchs_one_cycle_keeps_in_the_groups_are_named() -> None:
    make = MAKERS["adam"]
    state = state_at(built(make, lambda o: theirs.OneCycleLR(o, 0.5, total_steps=12)), 3)
    with pytest.raises(ValueError, match=r"optimizer\.max_lr is 0\.25 here and 0\.5 in the checkpoint"):
        built(make, lambda o: theirs.OneCycleLR(o, 0.25, total_steps=12)).load_state_dict(state)


def test_a_rate_that_a_graph_may_hold_is_read_at_the_resume_alone_and_stays_the_object_that_it_is() -> None:
    make = MAKERS["tensors"]
    changed = built(lambda parameters: make(parameters, lr=0.25))
    held = changed.optimizer.param_groups[0]["lr"]  # type: ignore[union-attr]  # it has one
    changed.load_state_dict(state_at(built(make), 3), accept="optimizer.lr")
    assert changed.optimizer.param_groups[0]["lr"] is held  # type: ignore[union-attr]
    assert float(held) == 0.25
