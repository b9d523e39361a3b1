"""Optimizers that wrap one of PyTorch's: schedulers drive what is inside, and know no more than they can."""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist

from lucid_train.optims.lr_scheduler import ExponentialLR, LRScheduler, OneCycleLR, ParamScheduler, StepLR
from lucid_train.schedules import Exponential, Linear
from tests.support.pytorch import rates_and_momenta, sgd


class Averager:
    """Averages the parameters of one process: they stay as they are."""

    def average_parameters(self, params: Any) -> None:
        assert len(list(params)) == 2


class Wrapper(torch.optim.Optimizer):
    """As most wrappers are: an Optimizer for isinstance, whose base's constructor was never called."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    @property
    def param_groups(self) -> Any:
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: Any) -> None:
        self.optimizer.param_groups = groups

    def step(self, closure: Any = None) -> Any:
        return self.optimizer.step(closure)


def wrapper(optimizer: torch.optim.Optimizer) -> Any:
    return Wrapper(optimizer)


def accelerated(optimizer: torch.optim.Optimizer) -> Any:
    accelerate = pytest.importorskip("accelerate")
    return accelerate.Accelerator(cpu=True).prepare_optimizer(optimizer)


def distributed(name: str) -> Any:
    """Return an optimizer's class; what its module warns of when it is imported is PyTorch's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(importlib.import_module("torch.distributed.optim"), name)


def post_local(optimizer: torch.optim.Optimizer) -> Any:
    return distributed("PostLocalSGDOptimizer")(optimizer, Averager())


def lookahead(optimizer: torch.optim.Optimizer) -> Any:
    return pytest.importorskip("torch_optimizer").Lookahead(optimizer)


def fabric(optimizer: torch.optim.Optimizer) -> Any:
    fabrics = pytest.importorskip("lightning_fabric").Fabric(accelerator="cpu", devices=1)
    model = torch.nn.Linear(1, 1)
    _, wrapped = fabrics.setup(model, optimizer)
    return wrapped


WRAPPERS: list[Callable[[Any], Any]] = [wrapper, accelerated, post_local, lookahead, fabric]
each_wrapper = pytest.mark.parametrize("wrap", WRAPPERS)
SCHEDULERS: dict[str, Callable[[Any], LRScheduler]] = {
    "step": lambda opt: StepLR(opt, 2, 0.5),
    "one cycle": lambda opt: OneCycleLR(opt, 0.5, 12),
    "joined": lambda opt: LRScheduler(opt, Linear(0.1, total_iters=3).then(Exponential(0.9))),
    "several keys": lambda opt: ParamScheduler(opt, lr=Exponential(0.9), momentum=Exponential(0.99)),
}
each_scheduler = pytest.mark.parametrize("build", SCHEDULERS.values(), ids=SCHEDULERS)


def walk(optimizer: Any, inner: torch.optim.Optimizer, scheduler: Any, epochs: int) -> list[Any]:
    """Train for as many epochs; return what was read within the step of the optimizer inside."""
    used: list[Any] = []
    handle = inner.register_step_pre_hook(lambda *_: used.append(rates_and_momenta(inner)))
    for _ in range(epochs):
        for group in inner.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        scheduler.step()
    handle.remove()
    return used


@each_wrapper
@each_scheduler
def test_the_optimizer_inside_trains_at_the_scheduled_values(
    build: Callable[[Any], LRScheduler], wrap: Callable[[Any], Any]
) -> None:
    bare = sgd(0.1, 0.05)
    expected = walk(bare, bare, build(bare), 15)
    inner = sgd(0.1, 0.05)
    optimizer = wrap(inner)
    assert walk(optimizer, inner, build(optimizer), 15) == expected


@each_wrapper
@each_scheduler
def test_a_state_goes_on_from_one_to_the_other(build: Callable[[Any], LRScheduler], wrap: Callable[[Any], Any]) -> None:
    bare = sgd(0.1, 0.05)
    whole = walk(bare, bare, build(bare), 15)
    first = sgd(0.1, 0.05)
    scheduler = build(first)
    before = walk(first, first, scheduler, 6)
    inner = sgd(0.3, 0.3)
    optimizer = wrap(inner)
    resumed = build(optimizer)
    resumed.load_state_dict(scheduler.state_dict())
    assert before + walk(optimizer, inner, resumed, 9) == whole


@each_wrapper
def test_a_scheduler_built_again_starts_from_the_base_rates(wrap: Callable[[Any], Any]) -> None:
    inner = sgd(0.1, 0.05)
    optimizer = wrap(inner)
    walk(optimizer, inner, ExponentialLR(optimizer, 0.5), 5)
    again = ExponentialLR(optimizer, 0.5)
    assert (again.base_lrs, again.last_lr) == ([0.1, 0.05], [0.1, 0.05])
    assert [group["initial_lr"] for group in inner.param_groups] == [0.1, 0.05]


@each_wrapper
def test_nothing_is_left_behind(wrap: Callable[[Any], Any]) -> None:
    inner = sgd(0.1, 0.05)
    optimizer = wrap(inner)
    hooks = len(inner._optimizer_step_post_hooks)
    scheduler = StepLR(optimizer, 2)
    walk(optimizer, inner, scheduler, 1)
    assert len(inner._optimizer_step_post_hooks) == hooks
    StepLR(optimizer, 2)
    assert len(inner._optimizer_step_post_hooks) == hooks


@pytest.fixture
def group(tmp_path: Any) -> Iterator[None]:
    """One process that is a group by itself."""
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
@each_scheduler
def test_a_sharded_optimizer_is_driven_too(build: Callable[[Any], LRScheduler]) -> None:
    sharded = distributed("ZeroRedundancyOptimizer")
    bare = sgd(0.1, 0.05)
    expected = walk(bare, bare, build(bare), 8)
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in (0.1, 0.05)]
    optimizer = sharded(groups, torch.optim.SGD, lr=0.1, momentum=0.9)
    scheduler = build(optimizer)
    used = []
    for each in groups:
        each["params"][0].grad = torch.ones(1)
    for _ in range(8):
        optimizer.step()
        used.append(rates_and_momenta(optimizer.optim))
        scheduler.step()
    assert used == expected


@pytest.mark.parametrize("scheduled_first", [True, False])
def test_a_step_that_the_instance_has_of_its_own_is_no_reason_to_warn(scheduled_first: bool) -> None:
    optimizer = sgd(0.1)
    scheduler = StepLR(optimizer, 1, 0.5) if scheduled_first else None
    optimizer.step = lambda closure=None: None  # type: ignore[method-assign, assignment]  # as profilers do
    scheduler = scheduler or StepLR(optimizer, 1, 0.5)
    for _ in range(2):
        optimizer.step()
        scheduler.step()  # a warning would be an error
    assert scheduler.last_lr == [0.025]
    assert len(optimizer._optimizer_step_post_hooks) == 0


@pytest.mark.parametrize("k", [0, 1, 2, 5])
def test_pytorchs_idiom_of_resuming_goes_on(k: int) -> None:
    straight = sgd(0.1, 0.05)
    expected = walk(straight, straight, StepLR(straight, 2, 0.5), 12)
    first = sgd(0.1, 0.05)
    before = walk(first, first, StepLR(first, 2, 0.5), k + 1)
    saved = copy.deepcopy(first.state_dict())
    optimizer = sgd(0.1, 0.05)
    optimizer.load_state_dict(saved)
    scheduler = StepLR(optimizer, 2, 0.5, last_epoch=k)
    assert before + walk(optimizer, optimizer, scheduler, 12 - k - 1) == expected
