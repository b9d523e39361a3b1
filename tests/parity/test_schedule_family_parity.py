"""The other schedules against the installed PyTorch's: 1e-12 relative, momenta too; and where PyTorch is at fault."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as theirs

from lucid_train.optims import lr_scheduler as ours
from tests.support.pytorch import assert_same_rates, rates_and_momenta, sgd, walk_with_momenta
from tests.support.schedules import inverse_lr

EPOCHS = 60
rates = st.lists(st.floats(1e-4, 10), min_size=1, max_size=3)
factors = st.floats(0.05, 1)
spans = st.integers(1, 25)

Build = Callable[[Any, Any], Any]


def adam(*rates: float) -> torch.optim.Adam:
    return torch.optim.Adam([{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates], lr=0.1)


@given(rates=rates, milestones=st.lists(st.integers(0, 50), max_size=6), gamma=factors)
def test_multi_step(rates: list[float], milestones: list[int], gamma: float) -> None:
    assert_same_rates(lambda home, opt: home.MultiStepLR(opt, milestones, gamma), rates, EPOCHS)


@given(rates=rates, factor=factors, total=spans)
def test_constant(rates: list[float], factor: float, total: int) -> None:
    assert_same_rates(lambda home, opt: home.ConstantLR(opt, factor, total), rates, EPOCHS)


@given(rates=rates, start=factors, end=st.floats(0.01, 1), total=spans)
def test_linear(rates: list[float], start: float, end: float, total: int) -> None:
    assert_same_rates(lambda home, opt: home.LinearLR(opt, start, end, total), rates, EPOCHS)


@given(rates=rates, total=spans, power=st.floats(0.3, 4))
def test_polynomial(rates: list[float], total: int, power: float) -> None:
    assert_same_rates(lambda home, opt: home.PolynomialLR(opt, total, power), rates, EPOCHS)


@given(rates=rates, gamma=factors)
def test_functions(rates: list[float], gamma: float) -> None:
    assert_same_rates(lambda home, opt: home.LambdaLR(opt, lambda t: gamma**t), rates, EPOCHS)
    assert_same_rates(
        lambda home, opt: home.LambdaLR(opt, [lambda t, n=n: 1 / (t + n) for n in range(1, 1 + len(rates))]),
        rates,
        EPOCHS,
    )
    assert_same_rates(lambda home, opt: home.MultiplicativeLR(opt, lambda t: gamma if t % 3 else 1.1), rates, EPOCHS)


@given(rates=rates, first=spans, mult=st.integers(1, 4), share=st.floats(0, 1))
def test_warm_restarts(rates: list[float], first: int, mult: int, share: float) -> None:
    assert_same_rates(
        lambda home, opt: home.CosineAnnealingWarmRestarts(opt, first, mult, share * min(rates)), rates, EPOCHS
    )


def test_a_rate_below_the_lowest_one_rises_as_pytorchs() -> None:
    for build in (
        lambda home, opt: home.CosineAnnealingLR(opt, 70, 0.05),
        lambda home, opt: home.CosineAnnealingWarmRestarts(opt, 7, 2, 0.05),
    ):
        with pytest.warns(UserWarning, match="'eta_min' is above the base rate, .* in group 1, 0.05 > 0.01$") as warned:
            assert_same_rates(build, [0.1, 0.01], EPOCHS)
        assert len(warned) == 1


@given(
    rates=rates,
    first=spans,
    mult=st.integers(1, 4),
    # Quarters between two epochs: PyTorch finds the cycle by a logarithm, which errs where one begins.
    epochs=st.lists(st.none() | st.integers(0, 60).map(lambda epoch: epoch + 0.25), max_size=20),
)
def test_warm_restarts_between_two_epochs(rates: list[float], first: int, mult: int, epochs: list[Any]) -> None:
    here, there = sgd(*rates), sgd(*rates)
    mine = ours.CosineAnnealingWarmRestarts(here, first, mult, 1e-5)
    pytorchs = theirs.CosineAnnealingWarmRestarts(there, first, mult, 1e-5)
    for epoch in epochs:
        for optimizer, scheduler in ((here, mine), (there, pytorchs)):
            optimizer.step()
            scheduler.step(epoch)
        assert mine.last_epoch == pytorchs.last_epoch
        assert mine.last_lr == pytest.approx(pytorchs.get_last_lr(), rel=1e-11, abs=0)
    here = sgd(*rates)
    resumed = ours.CosineAnnealingWarmRestarts(here, first, mult, 1e-5)
    resumed.load_state_dict(json.loads(json.dumps(pytorchs.state_dict())))
    for _ in range(5):
        for optimizer, scheduler in ((here, resumed), (there, pytorchs)):
            optimizer.step()
            scheduler.step()
        assert resumed.last_lr == pytest.approx(pytorchs.get_last_lr(), rel=1e-11, abs=0)


@given(
    lows=rates,
    times=st.floats(1, 100),
    up=spans,
    down=st.none() | spans,
    mode=st.sampled_from(["triangular", "triangular2", "exp_range"]),
    gamma=st.floats(0.9, 1),
    make=st.sampled_from([sgd, adam]),
)
def test_cyclic(lows: list[float], times: float, up: int, down: Any, mode: Any, gamma: float, make: Any) -> None:
    highs = [low * times for low in lows]
    assert_same_rates(lambda home, opt: home.CyclicLR(opt, lows, highs, up, down, mode, gamma), lows, EPOCHS, make)
    assert_same_rates(
        lambda home, opt: home.CyclicLR(opt, lows[0], highs[0], up, down, scale_fn=lambda x: 1 / x, base_momentum=0.5),
        lows,
        EPOCHS,
        make,
    )
    assert_same_rates(
        lambda home, opt: home.CyclicLR(opt, lows[0], highs[0], up, cycle_momentum=False), lows, EPOCHS, make
    )


@given(
    highs=rates,
    share=st.floats(0.05, 0.45),
    three=st.booleans(),
    strategy=st.sampled_from(["cos", "linear"]),
    make=st.sampled_from([sgd, adam]),
)
def test_one_cycle(highs: list[float], share: float, three: bool, strategy: Any, make: Any) -> None:
    # PyTorch's line loses digits where it is lowest: with a floor of 1 / 2500 of the top it is left 1e-12.
    options: dict[str, Any] = {"pct_start": share, "anneal_strategy": strategy, "three_phase": three}
    assert_same_rates(
        lambda home, opt: home.OneCycleLR(opt, highs, 60, **options, final_div_factor=100.0), highs, EPOCHS, make
    )
    assert_same_rates(
        lambda home, opt: home.OneCycleLR(opt, highs[0], epochs=6, steps_per_epoch=10), highs, EPOCHS, make
    )


@given(
    losses=st.lists(st.floats(-10, 10) | st.just(float("nan")), max_size=40),
    mode=st.sampled_from(["min", "max"]),
    factor=st.floats(0.1, 0.9),
    patience=st.integers(0, 4),
    threshold_mode=st.sampled_from(["rel", "abs"]),
    cooldown=st.integers(0, 4),
    lowest=st.floats(0, 0.1),
    rates=rates,
)
def test_plateau(losses: list[float], rates: list[float], lowest: float, **settings: Any) -> None:
    here, there = sgd(*rates), sgd(*rates)
    lowests = [lowest * rate for rate in rates]
    mine = ours.ReduceLROnPlateau(here, threshold=0.01, min_lr=lowests, **settings)
    pytorchs = theirs.ReduceLROnPlateau(there, threshold=0.01, min_lr=lowests, **settings)
    for index, loss in enumerate(losses):
        here.step()
        mine.step(loss)
        pytorchs.step(loss)
        assert mine.last_lr == [group["lr"] for group in there.param_groups]
        if index == len(losses) // 2:  # PyTorch's state is taken over in the middle
            here = sgd(*rates)
            mine = ours.ReduceLROnPlateau(here, threshold=0.01, min_lr=lowests, **settings)
            mine.load_state_dict(json.loads(json.dumps(pytorchs.state_dict())))
            assert mine.last_lr == [group["lr"] for group in there.param_groups]


PARTS: list[Build] = [
    lambda home, opt: home.LinearLR(opt, 0.1, 1.0, 5),
    lambda home, opt: home.StepLR(opt, 4, 0.5),
    lambda home, opt: home.CosineAnnealingLR(opt, 70, 0.0001),
    lambda home, opt: home.ExponentialLR(opt, 0.9),
    lambda home, opt: home.MultiStepLR(opt, [2, 3], 0.5),
    lambda home, opt: home.PolynomialLR(opt, 30),
    lambda home, opt: home.ConstantLR(opt, 0.5, 4),
    lambda home, opt: home.CosineAnnealingWarmRestarts(opt, 4),
    lambda home, opt: home.LambdaLR(opt, lambda t: 1 / (1 + t)),
]


@given(rates=rates, chosen=st.lists(st.integers(0, 8), min_size=1, max_size=4, unique=True), gaps=st.data())
def test_sequential(rates: list[float], chosen: list[int], gaps: Any) -> None:
    lengths = gaps.draw(st.lists(st.integers(1, 20), min_size=len(chosen) - 1, max_size=len(chosen) - 1))
    milestones = [sum(lengths[: index + 1]) for index in range(len(lengths))]

    def build(home: Any, opt: Any) -> Any:
        return home.SequentialLR(opt, [PARTS[index](home, opt) for index in chosen], milestones)

    assert_same_rates(build, rates, EPOCHS)


@given(rates=rates, chosen=st.lists(st.sampled_from([0, 1, 3, 4, 5, 6]), min_size=1, max_size=4, unique=True))
def test_chained_multiples(rates: list[float], chosen: list[int]) -> None:
    # PyTorch is asked for multiples only: what it makes of the others depends on the way.
    assert_same_rates(lambda home, opt: home.ChainedScheduler([PARTS[index](home, opt) for index in chosen]), rates, 29)


STATES: dict[str, Build] = {
    "multi-step": lambda home, opt: home.MultiStepLR(opt, [3, 3, 8], 0.5),
    "constant": lambda home, opt: home.ConstantLR(opt, 0.5, 7),
    "linear": lambda home, opt: home.LinearLR(opt, 0.1, 0.9, 9),
    "polynomial": lambda home, opt: home.PolynomialLR(opt, 20, 2.0),
    "function": lambda home, opt: home.LambdaLR(opt, lambda t: 0.9**t),
    "product": lambda home, opt: home.MultiplicativeLR(opt, lambda t: 0.9),
    "restarts": lambda home, opt: home.CosineAnnealingWarmRestarts(opt, 3, 2, 0.001),
    "cyclic": lambda home, opt: home.CyclicLR(opt, 0.1, 1.0, 4, 3, "exp_range", 0.9),
    "cyclic per group": lambda home, opt: home.CyclicLR(opt, [0.1, 0.2], [1.0, 2.0], 4, cycle_momentum=False),
    "one cycle": lambda home, opt: home.OneCycleLR(opt, 1.0, 30, pct_start=0.4, final_div_factor=10.0),
    "one cycle in three": lambda home, opt: home.OneCycleLR(opt, [1.0, 0.5], 30, three_phase=True),
    "sequential": lambda home, opt: home.SequentialLR(
        opt, [home.LinearLR(opt, 0.1, 1.0, 5), home.CosineAnnealingLR(opt, 30), home.ExponentialLR(opt, 0.9)], [5, 15]
    ),
    "chained": lambda home, opt: home.ChainedScheduler([home.ConstantLR(opt, 0.1, 5), home.ExponentialLR(opt, 0.9)]),
    "chained on one cycle": lambda home, opt: home.ChainedScheduler(
        [home.OneCycleLR(opt, 1.0, 30), home.ConstantLR(opt, 1.0, 5)]
    ),
}


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("cut", [0, 1, 7, 15])
def test_a_state_of_pytorchs_goes_on(name: str, cut: int) -> None:
    build = STATES[name]
    there = sgd(0.1, 0.2)
    pytorchs = build(theirs, there)
    walk_with_momenta(there, pytorchs, cut)
    here = sgd(0.1, 0.2)
    mine = build(ours, here)
    mine.load_state_dict(json.loads(json.dumps(pytorchs.state_dict())))
    for used, expected in zip(
        walk_with_momenta(here, mine, 29 - cut), walk_with_momenta(there, pytorchs, 29 - cut), strict=True
    ):
        assert used == pytest.approx(expected, rel=1e-10, abs=0)


def test_a_callable_object_of_pytorchs_state_must_be_the_same() -> None:
    class Decay:
        def __init__(self, gamma: float) -> None:
            self.gamma = gamma

        def __call__(self, t: int) -> float:
            return self.gamma**t

    state = theirs.LambdaLR(sgd(0.1), Decay(0.5)).state_dict()
    ours.LambdaLR(sgd(0.1), Decay(0.5)).load_state_dict(state)
    with pytest.raises(ValueError, match=r"'lr_lambda\[0\]' must be the object of the state"):
        ours.LambdaLR(sgd(0.1), Decay(0.9)).load_state_dict(state)


def test_a_scale_of_pytorchs_state_must_be_the_same() -> None:
    class Scale:
        def __init__(self, power: int) -> None:
            self.power = power

        def __call__(self, cycle: float) -> float:
            return float(cycle**-self.power)

    state = theirs.CyclicLR(sgd(0.1), 0.1, 1.0, scale_fn=Scale(2)).state_dict()
    ours.CyclicLR(sgd(0.1), 0.1, 1.0, scale_fn=Scale(2)).load_state_dict(dict(state))
    with pytest.raises(ValueError, match="'scale_fn' must be the object of the state"):
        ours.CyclicLR(sgd(0.1), 0.1, 1.0, scale_fn=Scale(1)).load_state_dict(dict(state))


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("one cycle", lambda opt: ours.OneCycleLR(opt, 2.0, 30, pct_start=0.4)),
        ("cyclic", lambda opt: ours.CyclicLR(opt, 0.1, 1.0, 5, 3, "exp_range", 0.9)),
        ("sequential", lambda opt: ours.SequentialLR(opt, [part(ours, opt) for part in PARTS[:3]], [5, 15])),
    ],
)
def test_a_state_of_pytorchs_that_contradicts_is_refused(name: str, other: Any) -> None:
    state = STATES[name](theirs, sgd(0.1, 0.2)).state_dict()
    with pytest.raises(ValueError, match="the state"):
        other(sgd(0.1, 0.2)).load_state_dict(state)


def test_a_composition_of_pytorchs_is_no_state_of_a_schedule_without_settings() -> None:
    there = sgd(0.1)
    state = theirs.ChainedScheduler([theirs.ConstantLR(there), theirs.ExponentialLR(there, 0.5)]).state_dict()
    with pytest.raises(ValueError, match=r"the state of the LRScheduler does not fit: '_schedulers\[0\]\."):
        inverse_lr(sgd(0.1)).load_state_dict(state)


# Where PyTorch's own values are at fault: the table in docs/compared.md stands on these.


def test_pytorch_starts_a_product_from_the_wrong_rate_in_a_sequence() -> None:
    def build(home: Any, opt: Any) -> Any:
        first, second = home.ExponentialLR(opt, 0.5), home.MultiplicativeLR(opt, lambda t: 0.9)
        return home.SequentialLR(opt, [first, second], [4])

    here, there = sgd(1.0), sgd(1.0)
    mine, pytorchs = (
        walk_with_momenta(here, build(ours, here), 6),
        walk_with_momenta(there, build(theirs, there), 6),
    )
    assert [rate for rate, _ in mine[3:]] == pytest.approx([0.125, 1.0, 0.9])
    assert [rate for rate, _ in pytorchs[3:]] == pytest.approx([0.125, 0.1125, 0.10125])


def test_pytorch_lets_one_cycle_overwrite_the_start_of_a_sequence() -> None:
    def build(home: Any, opt: Any) -> Any:
        return home.SequentialLR(opt, [home.LinearLR(opt, 0.5), home.OneCycleLR(opt, 1.0, 50)], [5])

    here, there = sgd(0.1), sgd(0.1)
    build(ours, here), build(theirs, there)
    assert (rates_and_momenta(here)[0], rates_and_momenta(there)[0]) == (0.05, 0.02)


def test_pytorch_begins_again_when_a_sequence_is_rebuilt_with_last_epoch() -> None:
    def build(home: Any, opt: Any, last: int) -> Any:
        for group in opt.param_groups:
            group["initial_lr"] = 1.0
        linear, decay = home.LinearLR(opt, 0.1, 1.0, 4, last), home.ExponentialLR(opt, 0.5, last)
        return home.SequentialLR(opt, [linear, decay], [4], last)

    here, there = sgd(1.0), sgd(1.0)
    build(ours, here, 5), build(theirs, there, 5)
    assert rates_and_momenta(here)[0] == 0.25  # epoch 6, the third one of the decay
    assert rates_and_momenta(there)[0] != 0.25


def test_pytorch_miscounts_warm_restarts_rebuilt_with_last_epoch() -> None:
    here, there = sgd(1.0), sgd(1.0)
    for optimizer in (here, there):
        optimizer.param_groups[0]["initial_lr"] = 1.0
    mine = ours.CosineAnnealingWarmRestarts(here, 4, 2, last_epoch=12)
    pytorchs = theirs.CosineAnnealingWarmRestarts(there, 4, 2, last_epoch=12)
    straight = sgd(1.0)
    exact = walk_with_momenta(straight, theirs.CosineAnnealingWarmRestarts(straight, 4, 2), 20)[13:]
    assert walk_with_momenta(here, mine, 7) == [pytest.approx(values, rel=1e-12) for values in exact]
    assert walk_with_momenta(there, pytorchs, 7)[2] != pytest.approx(exact[2], rel=0.01)


def test_pytorchs_one_cycle_loses_digits_on_its_line() -> None:
    here, there = sgd(0.5), sgd(0.5)
    mine, pytorchs = (
        home.OneCycleLR(opt, 0.5, 40, anneal_strategy="linear") for home, opt in ((ours, here), (theirs, there))
    )
    [*_, last], [*_, theirs_last] = (
        walk_with_momenta(here, mine, 40),
        walk_with_momenta(there, pytorchs, 40),
    )
    assert last[0] == 0.5 / 25 / 1e4
    assert theirs_last[0] != last[0]
    assert theirs_last[0] == pytest.approx(last[0], rel=1e-9)
