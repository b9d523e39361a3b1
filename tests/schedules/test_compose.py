"""Schedules made of schedules: joined, warmed up, chained, multiplied; and lengths as shares of the run."""

import math
import pickle
import re
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lucid_train.schedules import (
    WSD,
    Chain,
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    Function,
    InverseSqrt,
    InverseTime,
    Linear,
    Multiplicative,
    MultiStep,
    Noam,
    OneCycle,
    Piecewise,
    Polynomial,
    Product,
    Ramp,
    Rex,
    Schedule,
    Sequence,
    Step,
    WarmRestarts,
)
from lucid_train.schedules.schedule import Until

endless = st.one_of(
    st.builds(Exponential, st.floats(0.5, 1)),
    st.builds(Step, st.integers(1, 9), st.floats(0.5, 1)),
    st.builds(Constant, st.floats(0.1, 1)),
    st.builds(WarmRestarts, st.integers(1, 9), st.integers(1, 3)),
    st.builds(Cyclic, st.floats(0, 1), st.floats(0, 1), st.integers(1, 9)),
)
lengths = st.integers(1, 30)
shares = st.integers(1, 400).map(lambda tenths: f"{tenths / 10}%")
runs = st.integers(50, 5000)
times = st.integers(0, 200)


def half_up(place: Fraction) -> int:
    return math.floor(place + Fraction(1, 2))


def fraction(share: str) -> Fraction:
    return Fraction(share.rstrip("%")) / 100


class Shifted(Schedule):
    def affine(self, t: int) -> tuple[float, float]:
        return 1.0, 0.5 if t == 3 else 0.0


# Laws


@given(gamma=st.floats(0.5, 1), t=st.integers(0, 10**4))
def test_step_with_a_step_of_1_is_exponential(gamma: float, t: int) -> None:
    assert Step(1, gamma)(t) == Exponential(gamma)(t)


@given(milestones=st.lists(st.integers(0, 50), max_size=5), gamma=st.floats(0.1, 1), t=times)
def test_multi_step_is_a_product_of_constants(milestones: list[int], gamma: float, t: int) -> None:
    assert MultiStep(milestones, gamma)(t) == gamma ** sum(milestone <= t for milestone in milestones)


@given(T_max=lengths, t=times)
def test_a_cosine_that_restarts_is_a_sequence_of_cosines(T_max: int, t: int) -> None:
    once = Cosine(T_max, 0.1).until(T_max + 1)
    schedule: Schedule = Cosine(T_max, 0.1)
    for _ in range(t // (T_max + 1)):
        schedule = once.then(schedule)
    assert schedule(t) == Cosine(T_max, 0.1)(t)


@given(first=endless, end=lengths, second=endless, t=times)
def test_then_starts_the_second_from_its_beginning(first: Schedule, end: int, second: Schedule, t: int) -> None:
    assert first.until(end).then(second)(t, 0.3) == (first(t, 0.3) if t < end else second(t - end, 0.3))


@given(schedule=endless, length=lengths, start=st.floats(0, 1), t=times)
def test_a_warm_up_is_a_line_before_the_schedule(schedule: Schedule, length: int, start: float, t: int) -> None:
    warmed = schedule.warmup(length, start)
    assert warmed == Linear(start, 1.0, length).then(schedule)
    assert warmed(t) == (Linear(start, 1.0, length)(t) if t < length else schedule(t - length))


@given(schedule=endless)
def test_a_warm_up_of_length_0_is_none(schedule: Schedule) -> None:
    assert schedule.warmup(0) is schedule


@given(places=st.tuples(*[st.one_of(shares, lengths)] * 3), run=st.integers(3, 300))
def test_it_does_not_matter_how_parts_that_end_by_themselves_are_grouped(places: Any, run: int) -> None:
    a, b, c, d = Linear(0.1, 0.9, places[0]), Polynomial(places[1]), Constant(0.3, places[2]), Exponential(0.5)
    expected = a.then(b).then(c).then(d).sized(run).table(run)
    for grouped in (a.then(b.then(c).then(d)), a.then(b.then(c)).then(d), a.then(b.then(c.then(d)))):
        assert grouped.sized(run).table(run) == expected


@given(parts=st.lists(shares, min_size=1, max_size=6), run=runs)
def test_joints_are_rounded_as_places_so_that_the_parts_add_up_to_the_run(parts: list[str], run: int) -> None:
    places = [sum(map(fraction, parts[: index + 1]), Fraction(0)) * run for index in range(len(parts))]
    joints = [half_up(place) for place in places]
    assume(all(one < other for one, other in zip([0, *joints], joints, strict=False)) and joints[-1] < run)
    schedule: Schedule = Linear(0.0, 1.0, parts[0])
    for part in parts[1:]:
        schedule = schedule.then(Linear(0.0, 1.0, part))
    sized = schedule.then(Polynomial()).sized(run)
    starts = [0, *joints]
    for start, end in zip(starts, joints, strict=False):
        assert [sized(t) for t in (start, end - 1)] == [0.0, Linear(0.0, 1.0, end - start)(end - start - 1)]
    assert [sized(joints[-1]), sized(run - 1), sized(run)] == [1.0, 1 / (run - joints[-1]), 0.0]


@given(first=shares, second=shares, run=st.integers(3, 60))
def test_a_share_is_at_least_1_however_short_the_run(first: str, second: str, run: int) -> None:
    sized = Constant(0.5).until(first).then(Constant(0.25, second)).then(Exponential(0.5)).sized(run)
    place = fraction(first) * run if fraction(first) * run >= 0.5 else Fraction(1)
    start = half_up(place)
    end = max(start + 1, half_up(place + fraction(second) * run))
    values = [0.5] * start + [0.25] * (end - start) + [1.0, 0.5]
    assert sized.table(end + 2) == values


@given(first=endless, second=st.builds(Exponential, st.floats(0.5, 1)), base=st.floats(0.1, 10), t=times)
def test_a_chain_is_the_composition_and_a_product_the_product(
    first: Schedule, second: Schedule, base: float, t: int
) -> None:
    assert Chain([first, second])(t, base) == pytest.approx(second(t, first(t, base)), rel=1e-15)
    assert (first * second)(t, base) == Chain([first, second])(t, base)


@given(schedule=endless, n=st.integers(0, 30), more=st.integers(0, 30), t=times)
def test_what_is_skipped_is_left_out(schedule: Schedule, n: int, more: int, t: int) -> None:
    assert schedule.skip(n)(t, 0.3) == schedule(t + n, 0.3)
    assert schedule.skip(n).skip(more)(t) == schedule(t + n + more)


@given(length=st.integers(2, 300), warm=st.one_of(shares, st.integers(1, 50)), start=st.floats(0, 1))
def test_a_part_that_is_skipped_into_has_the_lengths_of_the_run(length: int, warm: Any, start: float) -> None:
    linear = Linear(start, 1.0, warm).sized(length)
    joint = linear.ends_at
    assert joint is not None
    assume(joint < length)
    for part in (Cosine(), Polynomial(), MultiStep(["30%", "60%"]), Rex(), WSD(0, "20%")):
        joined, whole = Linear(start, 1.0, warm).then(part.skip(warm)).sized(length), part.sized(length)
        assert joined.table(length + 1) == linear.table(joint) + whole.table(length + 1)[joint:]


def test_a_part_that_is_skipped_into_ends_and_restarts_so_much_earlier() -> None:
    schedule = Cosine(4).skip(3)
    assert (schedule.ends_at, schedule.restarts(10), Cosine(4).restarts(13)) == (1, (2, 7), (5, 10))
    assert Linear(0.0, 1.0, 4).skip(3).then(Exponential(0.5)).table(3) == [0.75, 1.0, 0.5]
    assert (Cosine().skip(2).ends_at, Cosine(4).skip(9).ends_at) == (None, 0)
    restarts = WarmRestarts(5), WarmRestarts(5, cycles=2), WarmRestarts(cycles=3), WarmRestarts(cycles=3).sized(20)
    assert [each.ends_at for each in restarts] == [None, 10, None, 20]
    with pytest.raises(ValueError, match=r"Linear\(.*\).skip\(4\) must end after it begins, at 0: 0"):
        Linear(0.0, 1.0, 4).skip(4).then(Exponential(0.5))
    with pytest.raises(ValueError, match=r"'n' of Step\(2\).skip\('5%'\) needs the length of the run"):
        Step(2).skip("5%")(0)


@given(schedule=endless, length=lengths, start=st.floats(0.01, 1), shape=st.sampled_from(["cosine", "1-sqrt"]), t=times)
def test_a_warm_up_with_a_shape_is_a_ramp(schedule: Schedule, length: int, start: float, shape: Any, t: int) -> None:
    assert schedule.warmup(length, start, shape) == Ramp(start, 1.0, length, shape).then(schedule)
    assert schedule.warmup(length, start, "exponential")(t) == (
        Ramp(start, 1.0, length, "exponential")(t) if t < length else schedule(t - length)
    )


@given(gamma=st.floats(0.1, 1), n=st.integers(1, 50), drops=st.integers(0, 20))
def test_exponential_over_a_length_meets_the_step_of_that_length(gamma: float, n: int, drops: int) -> None:
    assert Exponential(gamma, every=n)(n * drops) == Step(n, gamma)(n * drops)


@given(warm=st.integers(0, 30), stable=st.integers(1, 30), decay=st.integers(1, 30), start=st.floats(0, 1))
def test_wsd_is_a_warm_up_a_constant_and_a_decay(warm: int, stable: int, decay: int, start: float) -> None:
    length = warm + stable + decay
    for shape, last in (("linear", Linear(1.0, 0.2, decay)), ("1-sqrt", Ramp(1.0, 0.2, decay, "1-sqrt"))):
        parts = Constant().until(stable).then(last).warmup(warm, start)
        for whole in (
            WSD(warm, decay, shape, min_ratio=0.2, start=start).sized(length),  # type: ignore[arg-type]  # one
            WSD(warm, decay, shape, min_ratio=0.2, start=start, stable=stable),
        ):  # type: ignore[arg-type]
            assert whole.table(length + 5) == pytest.approx(parts.table(length + 5), rel=1e-14)
            assert whole.ends_at == length


def test_wsd_in_shares_adds_up_to_the_run_and_follows_a_part() -> None:
    for length in (10, 33, 90, 1001):
        left, given = WSD("5%", "20%").sized(length), WSD("5%", "20%", stable="75%").sized(length)
        assert (left.ends_at, given.ends_at, left(length), given(length)) == (length, length, 0.0, 0.0)
    after = Constant(0.5).until(10).then(WSD(2, 4, "linear", start=0)).sized(20)
    assert after.table(21)[10:] == WSD(2, 4, "linear", start=0).sized(10).table(11)
    assert WSD(1, 2, "linear", start=0, stable=1).then(Constant(0.5)).table(6) == [0.0, 1.0, 1.0, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (
            lambda: WSD(60, 50).sized(100),
            "'warmup', 'decay' of WSD(60, decay=50) must fit into its part of the run, 100: 60 + 50",
        ),
        (
            lambda: WSD(10, 20, stable=50).sized(100),
            "'warmup', 'stable', 'decay' of WSD(10, decay=20, stable=50) must add up to its part of the run, 100: "
            "10 + 50 + 20",
        ),
        (lambda: WSD(10, 20, stable=90).sized(100), "must add up to its part of the run, 100: 10 + 90 + 20"),
        (
            lambda: WSD(10, 20, stable=90).until(50).then(Step(2)),
            "must add up to its part of the run, 50: 10 + 90 + 20",
        ),
        (lambda: WSD(10, 20)(3), "'stable' of WSD(10, decay=20) needs the length of the run: call .sized(n) first"),
        (lambda: WSD(10, 20).then(Step(2)), "'then' must follow an end"),
        (
            lambda: Piecewise([5, "10%"], [1, 2, 3]).sized(20),
            "'milestones' must rise in the run: [5, 2], from [5, '10%']",
        ),
    ],
)
def test_counts_that_do_not_add_up_or_rise_are_refused(attempt: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        attempt()


# Sequences


def test_an_end_counts_from_the_beginning_of_what_it_ends() -> None:
    schedule = Constant(0.5).until(2).then(Exponential(0.5)).until(4).then(Step(1))
    assert schedule.table(6) == pytest.approx([0.5, 0.5, 1.0, 0.5, 1.0, 0.1])


def test_a_warm_up_shifts_all_that_follows() -> None:
    schedule = Polynomial().until(4).then(Constant(0.5)).warmup(2, start=0.5)
    assert schedule.table(8) == [0.5, 0.75, 1.0, 0.75, 0.5, 0.25, 0.5, 0.5]
    shifted = Constant(0.5).until("50%").then(Polynomial()).warmup("10%", start=0.0).sized(10)
    assert shifted.table(11) == [0.0, *[0.5] * 5, 1.0, 0.75, 0.5, 0.25, 0.0]


def test_a_schedule_that_ends_by_itself_needs_no_until() -> None:
    ends = [Linear(0.5, 1.0, 2), Constant(0.5, 2), Polynomial(2), Cosine(2), OneCycle(1.0, 2)]
    ends.append(OneCycle(1.0, 2).momentum())
    for part in ends:
        assert part.then(Exponential(0.5)).table(4)[2:] == [1.0, 0.5]
        assert part.then(part).then(Exponential(0.5)).table(6)[4:] == [1.0, 0.5]
        assert part.warmup(3).then(Exponential(0.5)).table(7)[5:] == [1.0, 0.5]


@pytest.mark.parametrize(
    "schedule",
    [
        Step(2),
        MultiStep([3]),
        Exponential(0.5),
        Constant(0.5),
        WarmRestarts(2),
        Noam(8),
        Cyclic(0, 1),
        Function(math.sqrt),
        Multiplicative(math.sqrt),
        Linear(0.1),
        Polynomial(),
        Cosine(),
        OneCycle(1.0),
        OneCycle(1.0).momentum(),
        Linear(0.1, 1.0, 5).then(Cosine()),
        Linear(0.1, 1.0, "5%").then(Exponential(0.5)),
        Sequence([Step(2), None], [5]),
        WSD(),
        Rex(),
        Ramp(0.1),
        InverseSqrt(5),
        InverseTime(5),
        Piecewise([5], [1, 2]),
        Step(2).skip(3),
        Chain([Cosine(5)]),
        Cosine(5) * Step(2),
    ],
    ids=repr,
)
def test_one_that_does_not_end_by_itself_needs_until(schedule: Schedule) -> None:
    with pytest.raises(ValueError, match=r"'then' must follow an end, as in .until\('5%'\).then\(...\): "):
        schedule.then(Step(2))
    with pytest.raises(ValueError, match=r"'milestones\[0\]' must be given, as this part does not end by itself: "):
        Sequence([schedule, Step(2)], [None])


def test_an_end_without_what_follows_is_no_schedule() -> None:
    left = Constant(0.5).until(2)
    assert isinstance(left, Until)
    with pytest.raises(ValueError, match=r"a schedule must not end before the run; .*: Constant\(0.5\).until\(2\)"):
        left(0)
    with pytest.raises(
        TypeError, match=r"'parts\[1\]' must be a Schedule: Step\(2\).until\(3\); say with .then\(...\)"
    ):
        left.then(Step(2).until(3))  # type: ignore[arg-type]  # refused


def test_a_length_is_known_where_the_end_is_given() -> None:
    schedule = Linear(0.5).until(2).then(Exponential(0.5))
    assert schedule.is_sized
    assert schedule.table(4) == [0.5, 0.75, 1.0, 0.5]
    nested = Exponential(0.5).until(1).then(Polynomial().until(2).then(Constant(0.5))).until(4).then(Constant(0.25))
    assert nested.table(5) == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_the_parts_that_do_not_need_the_run_are_known_without_it() -> None:
    schedule = Linear(0.5).until(2).then(Cosine())
    assert schedule(1) == 0.75
    with pytest.raises(ValueError, match=r"'T_max' of Cosine\(\) needs the length of the run"):
        schedule(2)
    with pytest.raises(ValueError, match=r"'total_iters' of Linear\(0.1, total_iters='5%'\) needs"):
        Cosine().warmup("5%")(0)
    with pytest.raises(ValueError, match=r"'milestones\[0\]' of Step\(2\).until\('5%'\).then\(Step\(3\)\) needs"):
        Step(2).until("5%").then(Step(3))(0)


def test_the_length_of_a_part_is_that_of_its_part_of_the_run() -> None:
    for schedule in (Cosine(), Polynomial(), Linear(1.0, 0.0)):
        assert schedule.sized(20)(20) == 0.0
        warmed = schedule.warmup("25%").sized(20)
        assert (warmed(5), warmed(20)) == (1.0, 0.0)
        assert warmed(19) > 0.0
    assert OneCycle(1.0).sized(20).table(20) == OneCycle(1.0, 20).table(20)
    assert OneCycle(1.0).momentum().sized(20).table(20) == OneCycle(1.0, 20).momentum().table(20)
    assert OneCycle(1.0).warmup(5).sized(20).table(20)[5:] == OneCycle(1.0, 15).table(15)
    chained = Chain([Cosine(), Polynomial()]).warmup(5).sized(20)
    assert chained(12) == Cosine(15)(7) * Polynomial(15)(7)


@pytest.mark.parametrize(
    ("share", "run", "expected"),
    [("5%", 100, 5), ("5 %", 10, 1), ("2.5%", 1000, 25), ("33%", 10, 3), ("25%", 10, 3), ("1%", 10, 1), ("100%", 7, 7)],
)
def test_a_share_is_rounded_half_up_and_at_least_1(share: str, run: int, expected: int) -> None:
    assert Step(share, 0.5).sized(run).table(expected + 1) == [*[1.0] * expected, 0.5]
    assert Polynomial(share).sized(run)(expected) == 0.0 != Polynomial(share).sized(run)(expected - 1)
    assert MultiStep([share], 0.5).sized(run).table(expected + 1) == [*[1.0] * expected, 0.5]
    assert WarmRestarts(share).sized(run).table(2 * run) == WarmRestarts(expected).table(2 * run)
    assert Noam(8, share).sized(run).table(20) == Noam(8, expected).table(20)
    assert Cyclic(0, 1, share).sized(run).table(20) == Cyclic(0, 1, expected).table(20)
    assert Cyclic(0, 1, 3, share).sized(run).table(20) == Cyclic(0, 1, 3, expected).table(20)
    assert OneCycle(1, share).sized(run).table(20) == OneCycle(1, expected).table(20)


def test_places_are_rounded_in_the_run_and_other_shares_by_themselves() -> None:
    # In a run of 90, the warm-up ends at 4.5, rounded to 5; 10% later is 13.5, rounded to 14.
    assert MultiStep(["10%"], 0.5).warmup("5%").sized(90)(13) == 1.0
    assert MultiStep(["10%"], 0.5).warmup("5%").sized(90)(14) == 0.5
    assert Step("10%", 0.5).warmup("5%").sized(90)(13) == 1.0
    assert [Step("5%", 0.5).warmup("5%").sized(90)(t) for t in (9, 10)] == [1.0, 0.5]
    assert [Polynomial("5%").warmup("5%").sized(90)(t) for t in (8, 9)] == [0.25, 0.0]


def test_a_part_that_is_none_leaves_the_value_standing() -> None:
    schedule = Sequence([None, Exponential(0.5), None, None, Constant(0.5)], [2, 5, 7, 9])
    assert schedule.table(10, base=4.0) == [4.0, 4.0, 4.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0]
    assert (schedule.absolute, schedule.has_shift) == (False, False)
    momentum = Sequence([Cyclic(0.95, 0.5, 1), None], [2])
    assert momentum.table(4, base=0.9) == [0.95, 0.5, 0.5, 0.5]
    assert (momentum.absolute, momentum.has_shift) == (True, True)


def test_a_part_that_is_none_stands_at_the_share_where_the_part_before_ended() -> None:
    assert Sequence([Polynomial(8), None], ["25%"]).sized(8).table(4) == [1.0, 0.875, 0.875, 0.875]


@pytest.mark.parametrize(
    ("schedule", "absolute", "has_shift"),
    [
        (Step(2), False, False),
        (Cosine(5), False, False),
        (Cosine(5, 0.1), False, True),
        (WarmRestarts(5), False, False),
        (WarmRestarts(5, eta_min=0.1), False, True),
        (OneCycle(1.0), True, True),
        (OneCycle(1.0).momentum(), True, True),
        (Cosine(5, min_ratio=0.1), False, False),
        (Polynomial(5, end=0.1), False, True),
        (WSD(eta_min=0.1), False, True),
        (WSD(min_ratio=0.1), False, False),
        (Cosine(5, 0.1).skip(2), False, True),
        (OneCycle(1.0).skip(2), True, True),
        (Cyclic(0, 1), True, True),
        (Cyclic(0, 1) * Step(2), True, True),
        (Cosine(5, 0.1) * Step(2), False, True),
        (Cosine(5) * Step(2), False, False),
        (Chain([Cyclic(0, 1), Step(2)]), True, True),
        (Chain([Step(2), Step(3)]), False, False),
        (Chain([Step(2), Cosine(5, 0.1)]), False, True),
        (Cyclic(0, 1).warmup(2), False, True),
        (Cyclic(0, 1).until(5).then(OneCycle(1.0)), True, True),
        (Step(2).warmup(2), False, False),
        (Sequence([None, Cyclic(0, 1)], [3]), False, True),
    ],
    ids=repr,
)
def test_a_composition_knows_whether_it_uses_its_base(schedule: Schedule, absolute: bool, has_shift: bool) -> None:
    assert (schedule.absolute, schedule.has_shift) == (absolute, has_shift)


def test_each_link_of_a_chain_starts_from_the_value_of_the_one_before() -> None:
    chain = Chain([Exponential(0.5), Cosine(2, 0.1)])
    assert chain.table(3) == [1.0, pytest.approx(0.1 + (0.5 - 0.1) / 2), 0.1]
    assert Chain([Exponential(0.5), Linear(0.5, 1.0, 2).then(Exponential(0.5))]).table(4) == [0.5, 0.375, 0.25, 0.0625]
    assert Chain([OneCycle(1.0, 10), Exponential(0.5)])(1) == OneCycle(1.0, 10)(1) / 2


def test_compositions_read_as_they_are_written() -> None:
    names = {cls.__name__: cls for cls in Schedule.__subclasses__()}
    for text in (
        "Linear(0.1, total_iters=5).then(Cosine(eta_min=0.001))",
        "Constant().until('80%').then(Polynomial(power=2.0))",
        "Step(2, gamma=0.5).until(3).then(Step(3)).until(9).then(Linear(0.5, total_iters=5)).then(Cosine())",
        "Linear(0.1, total_iters='5%').then(Step(2).until(3).then(Step(3)))",
        "Cosine() * Step(2) * Step(3)",
        "Cosine() * (Step(2) * Step(3))",
        "(Cosine() * Step(2)).until(3).then(Step(2) * Step(3))",
        "Step(2).until(3).then(Step(3)) * Exponential(0.9)",
        "Chain([Step(2), Cosine(5, after='hold')])",
        "OneCycleMomentum(OneCycle(1.0), base_momentum=0.8)",
        "Sequence([None, Step(2)], [3])",
        "Sequence([Step(2).until(3).then(Step(3)), Step(4)], [5])",
    ):
        assert repr(eval(text, names)) == text
    assert repr(Cosine().warmup("5%")) == "Linear(0.1, total_iters='5%').then(Cosine())"
    assert repr((Cosine() * Step(2)).until(3)) == "(Cosine() * Step(2)).until(3)"
    assert repr(Function(math.sqrt)) == "Function(sqrt)"


# Refusals


@pytest.mark.parametrize(
    ("attempt", "error", "message"),
    [
        (lambda: Step(2).until(0), ValueError, "'end' must be >= 1: 0"),
        (lambda: Step(2).until(2.5), TypeError, "'end' must be an int: 2.5"),  # type: ignore[arg-type]  # refused
        (lambda: Step(2).until(None), TypeError, "'end' must be an int: None"),  # type: ignore[arg-type]  # refused
        (lambda: Step(2).until("0%"), ValueError, "'end' must be a share of the run"),
        (
            lambda: Step(2).until(3).then(Step(2)).until(3).then(Step(2)),
            ValueError,
            r"'milestones' must rise: \[3, 3\]",
        ),
        (
            lambda: Step(2).until("50%").then(Step(2)).until(3).then(Step(2)).until("20%").then(Step(2)),
            ValueError,
            r"'milestones' must rise: \['50%', 3, '20%'\]",
        ),
        (lambda: Step(2).until(3).then(5), TypeError, r"'parts\[1\]' must be a Schedule: 5"),  # type: ignore[arg-type]  # refused
        (lambda: Step(2).warmup(-1), ValueError, "'length' must be >= 0: -1"),
        (lambda: Step(2).warmup(None), TypeError, "'length' must be an int: None"),  # type: ignore[arg-type]  # refused
        (lambda: Step(2).warmup("0%"), ValueError, "'length' must be a share of the run"),
        (lambda: Step(2).warmup(3, start=1.5), ValueError, "'start' must be >= 0 and <= 1: 1.5"),
        (lambda: Step(2) * 3, TypeError, "unsupported operand"),  # type: ignore[operator]  # refused
        (lambda: Step(2) * Step(2).until(3), TypeError, "unsupported operand"),  # type: ignore[operator]  # refused
        (
            lambda: Step(2) * Cosine(5, 0.1),
            ValueError,
            r"'factor' must be a multiple of its base, without a shift: Cosine\(5, eta_min=0.1\)",
        ),
        (lambda: Step(2) * OneCycle(1.0), ValueError, "'factor' must be a multiple of its base"),
        (lambda: (Step(2) * Shifted())(3), ValueError, r"'factor' must be a multiple .*: Shifted\(\) at 3"),
        (lambda: Product(Step(2), 3), TypeError, "'factor' must be a Schedule: 3"),  # type: ignore[arg-type]  # refused
        (lambda: Chain(3), TypeError, "'parts' must be a list of schedules: 3"),  # type: ignore[arg-type]  # refused
        (lambda: Chain([]), ValueError, r"'parts' must hold at least one schedule: \[\]"),
        (lambda: Chain([Step(2), None]), TypeError, r"'parts\[1\]' must be a Schedule: None"),  # type: ignore[list-item]  # refused
        (
            lambda: Chain([Step(2), Cyclic(0, 1)]),
            ValueError,
            r"'parts\[1\]' must depend on its base, or come first: Cyclic",
        ),
        (lambda: Sequence("ab", [1]), TypeError, "'parts' must be a list of schedules: 'ab'"),  # type: ignore[arg-type]  # refused
        (lambda: Sequence([None], []), ValueError, r"'parts' must hold at least one schedule: \[None\]"),
        (lambda: Sequence([Step(2), 3], [1]), TypeError, r"'parts\[1\]' must be a Schedule: 3"),  # type: ignore[list-item]  # refused
        (lambda: Sequence([Step(2)] * 3, 5), TypeError, "'milestones' must be a list of places: 5"),  # type: ignore[arg-type]  # refused
        (lambda: Sequence([Step(2)] * 3, [1]), ValueError, r"'milestones' must be one less than the 3 parts: \[1\]"),
        (lambda: Sequence([Step(2)] * 3, [3, 3]), ValueError, r"'milestones' must rise: \[3, 3\]"),
        (lambda: Sequence([Step(2)] * 3, ["9%", "5%"]), ValueError, r"'milestones' must rise: \['9%', '5%'\]"),
        (lambda: Sequence([Step(2)] * 3, [0, 3]), ValueError, r"'milestones\[0\]' must be >= 1: 0"),
        (lambda: Sequence([Step(2)] * 3, [1, 2.5]), TypeError, r"'milestones\[1\]' must be an int: 2.5"),  # type: ignore[list-item]  # refused
        (
            lambda: Sequence([None, Step(2)], [None]),
            ValueError,
            r"'milestones\[0\]' must be given, as this part does not end by itself: None",
        ),
        (
            lambda: Step(2).until(9).then(Cosine()).sized(9),
            ValueError,
            r"'T_max' of Cosine\(\) must be given: its part begins at 9, ends at 9",
        ),
        (
            lambda: Cosine().warmup("5%").sized(1),
            ValueError,
            r"'T_max' of Cosine\(\) must be given: its part begins at 1, ends at 1",
        ),
        (
            lambda: Step(2).until("50%").then(Step(3)).until(3).then(Step(4)).sized(10),
            ValueError,
            r"Step\(3\) must end after it begins, at 5: 3",
        ),
        (
            lambda: Step(2).until(3).then(Linear(0.1, 1.0, 5)).then(Step(2)).until(8).then(Step(2)),
            ValueError,
            r"Step\(2\) must end after it begins, at 8: 8",
        ),
    ],
)
def test_what_cannot_be_composed_is_refused(attempt: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        attempt()


def test_a_sequence_of_many_parts_finds_its_part_at_once() -> None:
    schedule = Sequence([Constant(1 / (1 + index)) for index in range(2000)], range(1, 2000))
    assert [schedule(t) for t in (0, 1, 999, 1999, 10**9)] == [1.0, 1 / 2, 1 / 1000, 1 / 2000, 1 / 2000]


@pytest.mark.parametrize("cycles", [1, 2, 3])
@pytest.mark.parametrize("T_mult", [1, 1.04, 1.07, 1.09, 1.1, 1.5, 2])
def test_restarts_that_are_over_stay_at_the_lowest_value(T_mult: float, cycles: int) -> None:
    for T_0 in range(1, 40):
        schedule = WarmRestarts(T_0, T_mult, min_ratio=0.25, cycles=cycles)
        end = sum(T_0 * T_mult**descent for descent in range(cycles))
        after = schedule.table(round(end) + 40)[round(end + 0.5 - 1e-9) :]
        assert after == pytest.approx([0.25] * len(after), abs=1e-12)


@pytest.mark.parametrize("T_mult", [1.0001, 1.5, 2])
@pytest.mark.parametrize("cycles", [None, 40])
def test_restarts_asked_for_in_any_order_are_the_same(T_mult: float, cycles: int | None) -> None:
    schedule = WarmRestarts(1, T_mult, cycles=cycles, gamma=0.9)
    forwards = schedule.table(300)
    backwards = WarmRestarts(1, T_mult, cycles=cycles, gamma=0.9)
    assert [backwards(t) for t in range(299, -1, -1)] == forwards[::-1]
    assert schedule.table(300) == forwards
    assert pickle.loads(pickle.dumps(schedule)).table(300) == forwards
    assert pickle.dumps(schedule) == pickle.dumps(WarmRestarts(1, T_mult, cycles=cycles, gamma=0.9))


def test_restarts_in_shares_of_another_run_are_others() -> None:
    schedule = WarmRestarts("10%", 1.5)
    first, second = schedule.sized(20), schedule.sized(40)
    assert first.table(20) == WarmRestarts(2, 1.5).table(20)
    assert second.table(40) == WarmRestarts(4, 1.5).table(40)
