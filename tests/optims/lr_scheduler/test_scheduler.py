"""What the schedulers do on an optimizer that is nothing but groups; its neighbours test the rest, by noun."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_train.optims.lr_scheduler import CosineAnnealingLR, ExponentialLR, LRScheduler, StepLR
from lucid_train.schedules import Constant, Cosine
from tests.support.optimizers import Bare
from tests.support.schedules import inverse_lr, line_lr, walk

SCHEDULES: list[Callable[[Any], LRScheduler]] = [
    pytest.param(lambda optimizer: StepLR(optimizer, 2, 0.5), id="step"),  # type: ignore[list-item]  # a named case
    pytest.param(lambda optimizer: ExponentialLR(optimizer, 0.5), id="exponential"),  # type: ignore[list-item]  # same
    pytest.param(lambda optimizer: CosineAnnealingLR(optimizer, 4, 0.01), id="cosine"),  # type: ignore[list-item]  # same
    pytest.param(inverse_lr, id="a user's own"),  # type: ignore[list-item]  # same
    pytest.param(line_lr, id="a user's own with a shift"),  # type: ignore[list-item]  # same
]
rates = st.floats(1e-6, 10)

TABLES = [
    pytest.param(
        lambda optimizer: StepLR(optimizer, 2, 0.5), [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125], id="step: halved every 2"
    ),
    pytest.param(lambda optimizer: StepLR(optimizer, 3), [1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.01], id="step: gamma is 0.1"),
    pytest.param(lambda optimizer: ExponentialLR(optimizer, 0.9), [1.0, 0.9, 0.81, 0.729], id="exponential"),
    pytest.param(lambda optimizer: ExponentialLR(optimizer, 2), [1.0, 2.0, 4.0, 8.0], id="exponential: growing"),
    pytest.param(
        lambda optimizer: CosineAnnealingLR(optimizer, 3, 0.2),
        [1.0, 0.8, 0.4, 0.2, 1.0, 0.8, 0.4, 0.2, 1.0],
        id="cosine: restarts after T_max + 1 epochs",
    ),
    pytest.param(
        lambda optimizer: CosineAnnealingLR(optimizer, 3, 0.2, after="hold"),
        [1.0, 0.8, 0.4, 0.2, 0.2, 0.2, 0.2],
        id="cosine: holds",
    ),
    pytest.param(
        lambda optimizer: CosineAnnealingLR(optimizer, 3, 0.2, after="mirror"),
        [1.0, 0.8, 0.4, 0.2, 0.4, 0.8, 1.0, 0.8, 0.4, 0.2],
        id="cosine: climbs back, 2 T_max epochs in all",
    ),
    pytest.param(lambda optimizer: CosineAnnealingLR(optimizer, 1), [1.0, 0.0, 1.0, 0.0], id="cosine: one epoch"),
    pytest.param(inverse_lr, [1.0, 1 / 2, 1 / 3, 1 / 4], id="a user's own"),
    pytest.param(lambda optimizer: line_lr(optimizer, 0.5), [1.0, 1.0, 1 / 3 + 1.0], id="a user's own with a shift"),
]


@pytest.mark.parametrize(("build", "expected"), TABLES)
def test_steps_follow_the_table(build: Callable[[Any], LRScheduler], expected: list[float]) -> None:
    scheduler = build(Bare(1.0, 0.5))
    first, _ = zip(*walk(scheduler, len(expected)), strict=True)
    assert list(first) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("build", SCHEDULES)
def test_the_numbering_is_pytorchs(build: Callable[[Any], LRScheduler]) -> None:
    optimizer = Bare(0.1, 0.05)
    scheduler = build(optimizer)
    assert (scheduler.last_epoch, scheduler.last_lr, optimizer.param_groups) == (
        0,
        [0.1, 0.05],
        [{"lr": 0.1, "initial_lr": 0.1}, {"lr": 0.05, "initial_lr": 0.05}],
    )
    for steps in range(1, 8):
        scheduler.step()
        assert (scheduler.last_epoch, [group["lr"] for group in optimizer.param_groups]) == (
            steps,
            scheduler.lr_at(steps),
        )


@pytest.mark.parametrize("build", SCHEDULES)
def test_a_step_writes_what_lr_at_says(build: Callable[[Any], LRScheduler]) -> None:
    scheduler = build(Bare(0.3, 0.02))
    assert walk(scheduler, 30) == [scheduler.lr_at(t) for t in range(30)]


def test_last_lr_is_a_fresh_list_of_floats() -> None:
    scheduler = StepLR(Bare(1, 0.5), 2)
    before = scheduler.last_lr
    before.append(3.0)
    assert (scheduler.last_lr, [type(rate) for rate in scheduler.last_lr]) == ([1.0, 0.5], [float, float])
    scheduler.step()
    scheduler.step()
    assert before == [1.0, 0.5, 3.0]


def test_last_lr_is_what_the_optimizer_has_even_if_somebody_else_set_it() -> None:
    optimizer = Bare(0.1)
    scheduler = StepLR(optimizer, 2)
    optimizer.param_groups[0]["lr"] = 9.0
    assert (scheduler.last_lr, scheduler.get_last_lr()) == ([9.0], [9.0])


def test_a_rate_set_by_hand_lasts_until_the_next_step() -> None:
    optimizer = Bare(0.1)
    scheduler = ExponentialLR(optimizer, 0.5)
    optimizer.param_groups[0]["lr"] = 9.0
    with pytest.warns(UserWarning, match="the 'lr' of group 0 was 0.1 and is 9.0 now, other code has written it"):
        scheduler.step()
    assert scheduler.last_lr == [0.05]


@given(base_lr=rates, gamma=st.floats(0.01, 2), t=st.integers(0, 200))
def test_a_step_of_one_epoch_is_the_exponential(base_lr: float, gamma: float, t: int) -> None:
    assert StepLR(Bare(base_lr), 1, gamma).lr_at(t) == ExponentialLR(Bare(base_lr), gamma).lr_at(t)


@given(
    base_lr=rates,
    share=st.floats(0, 1),
    T_max=st.integers(1, 10**9),
    after=st.sampled_from(["restart", "hold", "mirror"]),
    cycle=st.integers(1, 5),
)
def test_the_cosine_meets_both_ends_exactly(base_lr: float, share: float, T_max: int, after: Any, cycle: int) -> None:
    eta_min = base_lr * share
    scheduler = CosineAnnealingLR(Bare(base_lr), T_max, eta_min, after=after)
    period = {"restart": T_max + 1, "hold": None, "mirror": 2 * T_max}[after]
    assert (scheduler.lr_at(0), scheduler.lr_at(T_max)) == ([base_lr], [eta_min])
    if period is None:
        assert scheduler.lr_at(T_max + cycle) == [eta_min]
    else:
        assert (scheduler.lr_at(cycle * period), scheduler.lr_at(cycle * period + T_max)) == ([base_lr], [eta_min])


@given(base_lr=rates, share=st.floats(0, 1), T_max=st.integers(1, 1000), t=st.integers(0, 1000))
def test_the_cosine_never_rises_on_its_way_down(base_lr: float, share: float, T_max: int, t: int) -> None:
    scheduler = CosineAnnealingLR(Bare(base_lr), T_max, base_lr * share, after="hold")
    [now], [then] = scheduler.lr_at(t), scheduler.lr_at(t + 1)
    assert now >= then * (1 - 4e-16)


@given(T_max=st.integers(1, 1000), t=st.integers(0, 2000))
def test_the_cosine_climbs_back_the_way_it_came(T_max: int, t: int) -> None:
    scheduler = CosineAnnealingLR(Bare(0.1), T_max, 0.01, after="mirror")
    assert scheduler.lr_at(T_max + t) == scheduler.lr_at(abs(T_max - t % (2 * T_max)))


@given(base_lr=rates, step_size=st.integers(1, 100), gamma=st.floats(1e-3, 10))
def test_epoch_0_is_exactly_the_base_rate(base_lr: float, step_size: int, gamma: float) -> None:
    for scheduler in (StepLR(Bare(base_lr), step_size, gamma), ExponentialLR(Bare(base_lr), gamma)):
        assert (scheduler.lr_at(0), scheduler.last_lr) == ([base_lr], [base_lr])


@pytest.mark.parametrize("build", SCHEDULES)
def test_the_order_in_which_epochs_are_asked_for_does_not_matter(build: Callable[[Any], LRScheduler]) -> None:
    scheduler = build(Bare(0.1))
    late = scheduler.lr_at(40)
    scheduler.step()
    assert (scheduler.lr_at(40), scheduler.last_epoch, scheduler.last_lr) == (late, 1, scheduler.lr_at(1))


BAD_ARGUMENTS = [
    (lambda: StepLR(Bare(0.1), 0), ValueError, "'step_size' must be >= 1: 0"),
    (lambda: StepLR(Bare(0.1), -1), ValueError, "'step_size' must be >= 1: -1"),
    (lambda: StepLR(Bare(0.1), 2.0), TypeError, "'step_size' must be an int: 2.0"),  # type: ignore[arg-type]  # meant
    (lambda: StepLR(Bare(0.1), True), TypeError, "'step_size' must be an int: True"),
    (lambda: StepLR(Bare(0.1), "2"), TypeError, "'step_size' must be an int: '2'"),  # type: ignore[arg-type]  # meant
    (lambda: StepLR(Bare(0.1), 2, 0), ValueError, "'gamma' must be > 0: 0.0"),
    (lambda: StepLR(Bare(0.1), 2, -0.1), ValueError, "'gamma' must be > 0: -0.1"),
    (lambda: StepLR(Bare(0.1), 2, last_epoch=-2), ValueError, "'last_epoch' must be >= -1: -2"),
    (lambda: StepLR(Bare(0.1), 2, last_epoch=0.5), TypeError, "'last_epoch' must be an int: 0.5"),  # type: ignore[arg-type]  # meant
    (lambda: ExponentialLR(Bare(0.1), float("nan")), ValueError, "'gamma' must be > 0 and finite: nan"),
    (lambda: ExponentialLR(Bare(0.1), float("inf")), ValueError, "'gamma' must be > 0 and finite: inf"),
    (lambda: ExponentialLR(Bare(0.1), True), TypeError, "'gamma' must be a number: True"),
    (lambda: ExponentialLR(Bare(0.1), None), TypeError, "'gamma' must be a number: None"),  # type: ignore[arg-type]  # meant
    (lambda: CosineAnnealingLR(Bare(0.1), 0), ValueError, "'T_max' must be >= 1: 0"),
    (lambda: CosineAnnealingLR(Bare(0.1), -1), ValueError, "'T_max' must be >= 1: -1"),
    (lambda: CosineAnnealingLR(Bare(0.1), 2.5), TypeError, "'T_max' must be an int: 2.5"),  # type: ignore[arg-type]  # meant
    (lambda: CosineAnnealingLR(Bare(0.1), 2, -0.1), ValueError, "'eta_min' must be >= 0: -0.1"),
    (lambda: CosineAnnealingLR(Bare(0.1), 2, float("nan")), ValueError, "'eta_min' must be >= 0 and finite: nan"),
    (
        lambda: CosineAnnealingLR(Bare(0.1), 2, after="stop"),  # type: ignore[arg-type]  # meant
        ValueError,
        "'after' must be one of 'restart', 'hold', 'mirror': 'stop'",
    ),
    (lambda: StepLR(Bare(0.1), 2, base_lrs=[]), ValueError, "'base_lrs' must have one rate per group, 1: []"),
    (lambda: StepLR(Bare(0.1), 2, base_lrs=0.1), TypeError, "'base_lrs' must be a list with one rate per group: 0.1"),  # type: ignore[arg-type]  # meant
    (lambda: StepLR(Bare(0.1), 2, base_lrs=[-0.1]), ValueError, "'base_lrs[0]' must be >= 0: -0.1"),
    (lambda: StepLR(None, 2), TypeError, "'optimizer' must have param_groups, a sequence of dicts with 'lr': None"),
    (lambda: StepLR([0.1], 2), TypeError, "'optimizer' must have param_groups, a sequence of dicts with 'lr': [0.1]"),
    (lambda: LRScheduler(Bare(0.1), 0.1), TypeError, "'schedule' must be a Schedule: 0.1"),  # type: ignore[arg-type]  # meant
    (lambda: LRScheduler(Bare(0.1), Cosine), TypeError, f"'schedule' must be a Schedule: {Cosine!r}"),  # type: ignore[arg-type]  # meant
    (
        lambda: LRScheduler(Bare(0.1), Constant().until(5)),  # type: ignore[arg-type]  # meant
        TypeError,
        "'schedule' must be a Schedule: Constant().until(5); say with .then(...) what follows",
    ),
    (
        lambda: LRScheduler(Bare(0.1), Cosine()),
        ValueError,
        "'T_max' of Cosine() needs the length of the run: call .sized(n) first",
    ),
]


@pytest.mark.parametrize(("build", "error", "message"), BAD_ARGUMENTS, ids=[case[2] for case in BAD_ARGUMENTS])
def test_a_bad_argument_is_refused_when_the_schedule_is_built(
    build: Callable[[], LRScheduler], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        build()


def test_a_refused_schedule_leaves_the_optimizer_alone() -> None:
    optimizer = Bare(0.1)
    with pytest.raises(ValueError, match="T_max"):
        CosineAnnealingLR(optimizer, 0, 0.5, base_lrs=[0.2])
    assert optimizer.param_groups == [{"lr": 0.1}]


def test_a_growing_rate_overflows_into_an_error_and_the_rates_stay() -> None:
    scheduler = ExponentialLR(Bare(1.0), 2.0**500)
    scheduler.step()
    scheduler.step()
    for _ in range(2):
        with pytest.raises(
            OverflowError, match=r"the rates of ExponentialLR\(.*\) exceed the largest float in epoch 3$"
        ):
            scheduler.step()
        assert (scheduler.last_epoch, scheduler.last_lr) == (2, [2.0**1000])
    with pytest.raises(OverflowError, match=r"in epoch 3$"):
        scheduler.lr_at(3)


def test_a_rate_overflows_where_the_power_does_not() -> None:
    scheduler = ExponentialLR(Bare(1e10), 1e150)
    scheduler.step()
    with pytest.raises(OverflowError, match=r"in epoch 2$"):
        scheduler.step()
    assert scheduler.last_epoch == 1


def test_a_decaying_rate_ends_at_zero() -> None:
    assert ExponentialLR(Bare(1.0), 0.5).lr_at(2000) == [0.0]


@pytest.mark.parametrize(
    ("build", "shown"),
    [
        (lambda opt: StepLR(opt, 2, 0.5), "StepLR(step_size=2, gamma=0.5, last_epoch=0)"),
        (lambda opt: ExponentialLR(opt, 0.5), "ExponentialLR(gamma=0.5, last_epoch=0)"),
        (inverse_lr, "LRScheduler(lr=Inverse(), last_epoch=0)"),
        (line_lr, "LRScheduler(lr=Line(drop=0.01), last_epoch=0)"),
        (lambda opt: LRScheduler(opt, Cosine().warmup("50%").sized(4)), "LRScheduler(lr=%s, last_epoch=0)"),
        (lambda opt: LRScheduler(opt, [Cosine(4)]), "LRScheduler(lr=[Cosine(4)], last_epoch=0)"),
    ],
)
def test_the_repr_shows_class_settings_and_epoch(build: Callable[[Any], LRScheduler], shown: str) -> None:
    assert repr(build(Bare(0.1))) == shown.replace("%s", repr(Cosine().warmup("50%")))


def test_the_repr_in_full() -> None:
    scheduler = CosineAnnealingLR(Bare(0.1), 10, after="mirror")
    scheduler.step()
    assert repr(scheduler) == "CosineAnnealingLR(T_max=10, eta_min=0.0, after='mirror', last_epoch=1)"


def test_the_settings_are_attributes_that_cannot_be_set() -> None:
    scheduler = CosineAnnealingLR(Bare(0.1), 10, 0.01, after="mirror")
    assert (scheduler.T_max, scheduler.eta_min, scheduler.after) == (10, 0.01, "mirror")
    assert scheduler.schedule == Cosine(10, 0.01, "mirror")
    assert scheduler.schedules == {"lr": scheduler.schedule}
    with pytest.raises(AttributeError):
        scheduler.T_max = 20
    with pytest.raises(AttributeError, match="'CosineAnnealingLR' object has no attribute 'gamma'"):
        scheduler.gamma  # noqa: B018  # that there is none is the claim


def test_last_epoch_starts_in_the_middle() -> None:
    optimizer = Bare(0.1)
    scheduler = StepLR(optimizer, 2, 0.5, last_epoch=3, base_lrs=[0.4])
    assert (scheduler.last_epoch, scheduler.last_lr, scheduler.base_lrs) == (4, [0.1], [0.4])
    assert optimizer.param_groups == [{"lr": 0.1, "initial_lr": 0.4}]


@pytest.mark.parametrize("done", [0, 1, 3])
def test_last_epoch_without_known_base_rates_is_refused(done: int) -> None:
    with pytest.raises(ValueError, match=f"'base_lrs' must be given with last_epoch={done}: the rate 0.1 of group 0"):
        StepLR(Bare(0.1), 2, last_epoch=done)


def test_an_epoch_is_not_given_to_step_and_the_error_says_what_to_do() -> None:
    scheduler = StepLR(Bare(0.1), 2)
    message = (
        "'epoch' must not be given, lr_at(epoch) is the rate of any epoch, the constructor's last_epoch= stands at"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)} one: 3$"):
        scheduler.step(3)
    assert (scheduler.last_epoch, scheduler.last_lr) == (0, [0.1])
