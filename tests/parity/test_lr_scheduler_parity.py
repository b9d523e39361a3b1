"""Our schedules against the installed PyTorch's, on PyTorch's own optimizers: 1e-12 relative."""

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as theirs

from lucid_train.optims import lr_scheduler as ours
from tests.support.pytorch import assert_same_rates, sgd, walk

EPOCHS = 40
base_rates = st.lists(st.floats(1e-4, 10), min_size=1, max_size=4)


@given(rates=base_rates, step_size=st.integers(1, 20), gamma=st.floats(0.1, 1.1))
def test_step(rates: list[float], step_size: int, gamma: float) -> None:
    assert_same_rates(lambda home, optimizer: home.StepLR(optimizer, step_size, gamma), rates, EPOCHS)


@given(rates=base_rates, gamma=st.floats(0.1, 1.1))
def test_exponential(rates: list[float], gamma: float) -> None:
    assert_same_rates(lambda home, optimizer: home.ExponentialLR(optimizer, gamma), rates, EPOCHS)


def cosine(home: Any, optimizer: Any, T_max: int, eta_min: float, after: str) -> Any:
    return home.CosineAnnealingLR(optimizer, T_max, eta_min, **({"after": after} if home is ours else {}))


@given(rates=base_rates, share=st.sampled_from([0.0, 0.01, 0.5, 1.0]), T_max=st.integers(1, 30))
def test_cosine_with_mirror_for_ten_times_its_length(rates: list[float], share: float, T_max: int) -> None:
    eta_min = min(rates) * share
    assert_same_rates(lambda home, optimizer: cosine(home, optimizer, T_max, eta_min, "mirror"), rates, 10 * T_max)


@pytest.mark.parametrize("after", ["restart", "hold", "mirror"])
@given(rates=base_rates, share=st.sampled_from([0.0, 0.01, 0.5, 1.0]), T_max=st.integers(1, 60))
def test_cosine_down_to_its_end(after: str, rates: list[float], share: float, T_max: int) -> None:
    eta_min = min(rates) * share
    assert_same_rates(lambda home, optimizer: cosine(home, optimizer, T_max, eta_min, after), rates, T_max + 1)


KINDS: dict[str, Callable[[Any, Any], Any]] = {
    "step": lambda home, optimizer: home.StepLR(optimizer, 3, 0.7),
    "exponential": lambda home, optimizer: home.ExponentialLR(optimizer, 0.93),
    "cosine": lambda home, optimizer: cosine(home, optimizer, 7, 0.001, "mirror"),
}
each_kind = pytest.mark.parametrize("build", [pytest.param(build, id=name) for name, build in KINDS.items()])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@each_kind
def test_a_tensor_rate_keeps_identity_and_dtype(build: Callable[[Any, Any], Any], dtype: torch.dtype) -> None:
    rate, their_rate = (torch.tensor(0.1, dtype=dtype) for _ in range(2))
    here, there = sgd(rate), sgd(their_rate)
    mine, pytorchs = build(ours, here), build(theirs, there)
    precision = 1e-12 if dtype is torch.float64 else EPOCHS * torch.finfo(dtype).eps
    for epoch in range(1, EPOCHS):
        for optimizer, scheduler in ((here, mine), (there, pytorchs)):
            optimizer.step()
            scheduler.step()
        held = here.param_groups[0]["lr"]
        assert held is rate
        assert (held.dtype, held.shape) == (dtype, torch.Size([]))
        assert torch.equal(held, torch.tensor(mine.lr_at(epoch)[0], dtype=dtype))
        if dtype is not torch.bfloat16:  # PyTorch's own recursion is lost in rounding there
            assert mine.last_lr == pytest.approx([float(their_rate)], rel=precision, abs=0)
    assert mine.base_lrs == [float(torch.tensor(0.1, dtype=dtype))]
    assert build(ours, here).last_lr == mine.base_lrs


@pytest.mark.parametrize("rate", [0.1, torch.tensor(0.1, dtype=torch.float64)], ids=["float", "tensor"])
@pytest.mark.parametrize("restored", [True, False], ids=["optimizer restored", "fresh optimizer"])
@each_kind
def test_a_pytorch_state_is_gone_on_from_exactly(build: Callable[[Any, Any], Any], restored: bool, rate: Any) -> None:
    whole = walk(*with_schedule(build, ours, rate), EPOCHS)
    for cut in range(EPOCHS):
        there, pytorchs = with_schedule(build, theirs, rate)
        walk(there, pytorchs, cut)
        here, mine = with_schedule(build, ours, rate)
        if restored:
            here.load_state_dict(copy.deepcopy(there.state_dict()))
        mine.load_state_dict(copy.deepcopy(pytorchs.state_dict()))
        assert walk(here, mine, EPOCHS - cut) == whole[cut:]


def with_schedule(build: Callable[[Any, Any], Any], home: Any, rate: Any) -> tuple[Any, Any]:
    optimizer = sgd(copy.deepcopy(rate), 0.02)
    return optimizer, build(home, optimizer)


@pytest.mark.parametrize("after", ["restart", "hold", "mirror"])
def test_a_pytorch_cosine_on_its_way_down_suits_every_after(after: Any) -> None:
    there = sgd(0.1)
    pytorchs = theirs.CosineAnnealingLR(there, 7)
    walk(there, pytorchs, 7)
    mine = ours.CosineAnnealingLR(sgd(0.1), 7, after=after)
    mine.load_state_dict(pytorchs.state_dict())
    assert (mine.last_lr, mine.after) == ([0.0], after)


def test_a_pytorch_cosine_on_its_way_up_suits_only_mirror() -> None:
    there = sgd(0.1)
    pytorchs = theirs.CosineAnnealingLR(there, 7)
    walk(there, pytorchs, 8)
    mine = ours.CosineAnnealingLR(sgd(0.1), 7)
    with pytest.raises(ValueError, match="'after' is 'restart' here and 'mirror' there; pass prefer= to say"):
        mine.load_state_dict(pytorchs.state_dict())
    assert (mine.last_epoch, mine.last_lr) == (0, [0.1])
    mine.load_state_dict(pytorchs.state_dict(), prefer="state")
    assert mine.last_lr == pytest.approx(pytorchs.get_last_lr(), rel=1e-12)


def test_a_pytorch_state_of_another_class_or_setting_is_refused() -> None:
    mine = ours.ExponentialLR(sgd(0.1), 0.9)
    with pytest.raises(ValueError, match="the state of the ExponentialLR does not fit: 'step_size' is unknown"):
        mine.load_state_dict(theirs.StepLR(sgd(0.1), 3).state_dict())
    with pytest.raises(ValueError, match=r"'gamma' is 0.9 here and 0.8 there"):
        mine.load_state_dict(theirs.ExponentialLR(sgd(0.1), 0.8).state_dict())


ORDERS = [
    ["load optimizer", "build scheduler", "load scheduler"],
    ["build scheduler", "load optimizer", "load scheduler"],
    ["build scheduler", "load scheduler", "load optimizer"],
    ["build scheduler", "load scheduler"],
]


@pytest.mark.parametrize("order", ORDERS, ids=", ".join)
@pytest.mark.parametrize("saved_by", [ours, theirs], ids=["ours", "pytorchs"])
@pytest.mark.parametrize("cut", [1, 6, 7, 8, 20])
@each_kind
def test_the_order_of_building_and_loading_does_not_matter(
    build: Callable[[Any, Any], Any], cut: int, saved_by: Any, order: list[str]
) -> None:
    whole = walk(*with_schedule(build, ours, 0.1), EPOCHS)
    saved, its = with_schedule(build, saved_by, 0.1)
    walk(saved, its, cut)
    optimizer_state, scheduler_state = copy.deepcopy(saved.state_dict()), copy.deepcopy(its.state_dict())
    optimizer = sgd(0.1, 0.02)
    scheduler: Any = None
    for action in order:
        match action:
            case "load optimizer":
                optimizer.load_state_dict(optimizer_state)
            case "build scheduler":
                scheduler = build(ours, optimizer)
            case "load scheduler":
                scheduler.load_state_dict(scheduler_state)
    assert scheduler.base_lrs == [0.1, 0.02]
    if saved_by is ours or order[-1] == "load scheduler":
        assert walk(optimizer, scheduler, EPOCHS - cut) == whole[cut:]
    else:  # the optimizer's state has the rate that PyTorch's schedule had set, and that is used first
        first, *rest = walk(optimizer, scheduler, EPOCHS - cut)
        assert first == pytest.approx(whole[cut], rel=1e-12)
        assert rest == whole[cut + 1 :]


@each_kind
def test_the_optimizer_is_as_it_was_but_for_its_base_rates_and_the_hook_is_gone(
    build: Callable[[Any, Any], Any],
) -> None:
    optimizer = sgd(0.1, 0.05)
    attributes, keys = set(vars(optimizer)), [list(group) for group in optimizer.param_groups]
    step = optimizer.step
    scheduler = build(ours, optimizer)
    assert set(vars(optimizer)) == attributes
    walk(optimizer, scheduler, 3)
    assert set(vars(optimizer)) == attributes
    assert [list(group) for group in optimizer.param_groups] == [[*own, "initial_lr"] for own in keys]
    assert (len(optimizer._optimizer_step_post_hooks), optimizer.step) == (0, step)


def test_the_hook_goes_with_a_loaded_and_with_a_dropped_schedule() -> None:
    optimizer = sgd(0.1)
    scheduler = ours.StepLR(optimizer, 3)
    scheduler.load_state_dict(scheduler.state_dict())
    assert len(optimizer._optimizer_step_post_hooks) == 0
    for _ in range(3):
        assert ours.StepLR(optimizer, 3).lr_at(3) == pytest.approx([0.01])
    assert len(optimizer._optimizer_step_post_hooks) == 0


def test_a_schedule_stepped_before_the_first_update_warns_once() -> None:
    optimizer = sgd(0.1)
    scheduler = ours.StepLR(optimizer, 3)
    with pytest.warns(UserWarning, match=r"scheduler.step\(\) was called before optimizer.step\(\)") as caught:
        scheduler.step()
    optimizer.step()
    scheduler.step()
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("steps", [0, 3])
@each_kind
def test_copies_go_on_by_themselves(build: Callable[[Any, Any], Any], steps: int) -> None:
    optimizer, scheduler = with_schedule(build, ours, torch.tensor(0.1, dtype=torch.float64))
    walk(optimizer, scheduler, steps)
    for twin in (copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):
        assert twin.optimizer is not optimizer
        assert walk(twin.optimizer, twin, 9) == [scheduler.lr_at(t) for t in range(steps, steps + 9)]
        assert (scheduler.last_epoch, scheduler.last_lr) == (steps, scheduler.lr_at(steps))


@pytest.mark.parametrize("steps", [0, 2])
@each_kind
def test_dropping_schedule_and_optimizer_frees_both_at_once(build: Callable[[Any, Any], Any], steps: int) -> None:
    gc.collect()
    gc.disable()
    try:
        optimizer, scheduler = with_schedule(build, ours, 0.1)
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
        references = [weakref.ref(scheduler), weakref.ref(optimizer)]
        del scheduler, optimizer
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()


def test_a_group_added_later_is_scheduled_from_its_own_rate() -> None:
    optimizer = sgd(0.1)
    scheduler = ours.CosineAnnealingLR(optimizer, 4, after="mirror")
    walk(optimizer, scheduler, 2)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.4})
    for epoch in range(3, 20):
        optimizer.step()
        scheduler.step()
        first, second = scheduler.lr_at(epoch)
        assert scheduler.last_lr == [first, second]
        assert second == pytest.approx(4 * first, rel=1e-12)


@pytest.mark.parametrize("added", [False, True], ids=["as it was", "with another group"])
def test_a_loaded_schedule_is_silent_when_it_is_stepped_before_the_first_update(added: bool) -> None:
    optimizer = sgd(0.1)
    scheduler = ours.StepLR(optimizer, 2, 0.5)
    scheduler.load_state_dict({**scheduler.state_dict(), "last_epoch": 3})
    if added:
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.4})
    scheduler.step()  # a warning would be an error
    assert scheduler.last_lr == [0.025, 0.1][: 1 + added]
    assert len(optimizer._optimizer_step_post_hooks) == 0


@each_kind
def test_the_base_rates_are_saved_with_the_optimizer_and_found_in_what_was_loaded(
    build: Callable[[Any, Any], Any],
) -> None:
    first, scheduler = with_schedule(build, ours, 0.1)
    walk(first, scheduler, 5)
    optimizer = sgd(9.0, 9.0)
    optimizer.load_state_dict(copy.deepcopy(first.state_dict()))
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.1, 0.02]
    assert build(ours, optimizer).base_lrs == [0.1, 0.02]


@pytest.mark.parametrize("rate", [0.1, torch.tensor(0.1, dtype=torch.float64)], ids=["float", "tensor"])
@each_kind
def test_a_base_rate_that_a_loaded_state_lacks_is_written_again(build: Callable[[Any, Any], Any], rate: Any) -> None:
    without = copy.deepcopy(sgd(copy.deepcopy(rate), 0.02).state_dict())
    assert "initial_lr" not in without["param_groups"][0]
    optimizer, scheduler = with_schedule(build, ours, rate)
    optimizer.load_state_dict(without)
    walk(optimizer, scheduler, 3)  # a warning would be an error
    assert [float(group["initial_lr"]) for group in optimizer.param_groups] == [0.1, 0.02]
    assert build(ours, optimizer).base_lrs == [0.1, 0.02]


@pytest.mark.parametrize("make", [float, torch.tensor], ids=["float", "tensor"])
def test_the_trap_is_named_with_both_values_at_the_first_step(make: Callable[[float], Any]) -> None:
    optimizer = sgd(make(0.1))
    walk(optimizer, ours.StepLR(optimizer, 1, 0.5), 3)
    optimizer.param_groups[0]["lr"] = make(0.03)
    scheduler = ours.StepLR(optimizer, 2)
    optimizer.step()
    with pytest.warns(
        UserWarning, match=r"'lr' of group 0 was 0.0\d+, but its 'initial_lr', .*, is 0.1\d*; to start from"
    ):
        scheduler.step()
    optimizer.step()
    scheduler.step()
    assert scheduler.last_lr == pytest.approx([0.01])


def test_pytorchs_own_schedule_leaves_a_base_rate_that_ours_starts_from_and_the_other_way_round() -> None:
    for one, other in ((theirs, ours), (ours, theirs)):
        optimizer = sgd(0.1)
        walk(optimizer, one.ExponentialLR(optimizer, 0.5), 3)
        optimizer.param_groups[0]["lr"] = 0.1
        assert walk(optimizer, other.StepLR(optimizer, 2, 0.5), 4) == [[0.1], [0.1], [0.05], [0.05]]


def test_the_usual_warm_up_runs_where_warnings_are_errors() -> None:
    optimizer = sgd(0.1)
    parts = [ours.LinearLR(optimizer), ours.CosineAnnealingLR(optimizer, 10)]
    scheduler = ours.SequentialLR(optimizer, parts, [5])
    used = walk(optimizer, scheduler, 12)
    there = sgd(0.1)
    parts = [theirs.LinearLR(there), theirs.CosineAnnealingLR(there, 10)]
    expected = walk(there, theirs.SequentialLR(there, parts, [5]), 12)
    assert [rate for [rate] in used] == pytest.approx([rate for [rate] in expected], rel=1e-12)


def test_a_tensor_that_somebody_else_has_filled_is_not_read_back() -> None:
    rate = torch.tensor(0.1)
    optimizer = sgd(rate)
    scheduler = ours.StepLR(optimizer, 1, 0.5)
    walk(optimizer, scheduler, 1)
    rate.fill_(9.0)
    walk(optimizer, scheduler, 1)  # a warning would be an error
    assert scheduler.last_lr == [0.025000000372529030]
