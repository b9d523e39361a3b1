"""What holds for every schedule: it is a value, it can be called, and what it cannot answer is refused by name."""

import copy
import json
import math
import pickle
from functools import cached_property, partial
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_train.optims.lr_scheduler import LRScheduler
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
    Ramp,
    Rex,
    Schedule,
    Sequence,
    Step,
    WarmRestarts,
)
from lucid_train.schedules.length import Length
from lucid_train.schedules.schedule import check_is_value
from tests.support.optimizers import Bare


def halves(t: float) -> float:
    return 1 / (1 + t)


def slow(t: float) -> float:
    return 1 / (2 + t)


# One of each, and one that differs from it in one setting.
PAIRS: list[tuple[Schedule, Schedule]] = [
    (Step(2), Step(3)),
    (Step("5%"), Step("5%", 0.5)),
    (MultiStep([3, 1]), MultiStep([3, 2])),
    (MultiStep(["5%", 3]), MultiStep(["6%", 3])),
    (Exponential(0.5), Exponential(0.25)),
    (Polynomial(), Polynomial(3)),
    (Cosine(5), Cosine(5, after="hold")),
    (Cosine(), Cosine(eta_min=0.1)),
    (WarmRestarts(2, 2), WarmRestarts(2)),
    (WarmRestarts("5%"), WarmRestarts("6%")),
    (Constant(), Constant(0.5)),
    (Linear(0.1), Linear(0.1, 0.5)),
    (Noam(8, 3), Noam(8)),
    (Cyclic(0.1, 1.0, 3), Cyclic(0.1, 1.0, 3, 2)),
    (Cyclic(0.1, 1.0, 3, scale_fn=halves), Cyclic(0.1, 1.0, 3, scale_fn=slow)),
    (OneCycle(1.0), OneCycle(1.0, three_phase=True)),
    (OneCycle(1.0, 20).momentum(), OneCycle(1.0, 20).momentum(0.8)),
    (OneCycle(1.0).momentum(), OneCycle(1.0, 20).momentum()),
    (Function(halves), Function(slow)),
    (Multiplicative(halves), Multiplicative(slow)),
    (Linear(0.1, 1.0, 5).then(Cosine()), Linear(0.1, 1.0, 5).until(5).then(Cosine())),
    (Sequence([None, Step(2), None], [3, 9]), Sequence([None, Step(2), None], [3, 8])),
    (Chain([OneCycle(1.0), Cosine()]), Chain([OneCycle(1.0), Step(2)])),
    (Step(2.5, 0.5, min_ratio=0.1), Step(2.5, 0.5)),
    (Exponential(0.5, None, 0.1), Exponential(0.5, 5, 0.1)),
    (Polynomial(power=2.0, end=0.1), Polynomial(power=2.0, min_ratio=0.1)),
    (Polynomial("10%", cycle=True), Polynomial("10%")),
    (Cosine(min_ratio=0.1, cycles=1.75, power=2.0), Cosine(min_ratio=0.1, cycles=1.5, power=2.0)),
    (WarmRestarts(5, 1.5, gamma=0.5, cycles=3), WarmRestarts(5, 1.5, gamma=0.5, cycles=2)),
    (WarmRestarts(cycles=7, min_ratio=0.1), WarmRestarts(cycles=6, min_ratio=0.1)),
    (Ramp(0.1, shape="1-sqrt"), Ramp(0.1)),
    (Ramp(0.1, shape="exponential"), Ramp(0.2, shape="exponential")),
    (Rex(), Rex(min_ratio=0.1)),
    (InverseSqrt(5), InverseSqrt("5%")),
    (InverseTime(5, 0.5, staircase=True), InverseTime(5, 0.5)),
    (Piecewise([3, "50%"], [1, 2, 0.5], "cosine"), Piecewise([3, "50%"], [1, 2, 0.5])),
    (WSD(), WSD(shape="linear")),
    (WSD(3, "10%", "cosine", eta_min=0.1, warmup_shape="1-sqrt"), WSD(3, "10%", "cosine", warmup_shape="1-sqrt")),
    (WSD("20%", "30%", stable="50%"), WSD("20%", "30%", stable="50%", start=0.0)),
    (Cosine().skip("10%"), Cosine().skip("5%")),
    (Cosine().warmup(5, 0.1, "cosine").skip(2), Cosine().warmup(5, 0.1, "1-sqrt").skip(2)),
    (Cosine() * Exponential(0.9), Cosine() * Exponential(0.8)),
]
SCHEDULES = [schedule for schedule, _ in PAIRS]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)


class Inverse(Schedule):
    def affine(self, t: int) -> tuple[float, float]:
        return 1 / (1 + t), 0.0


@attrs.frozen
class HalfLife(Schedule):
    half_life: Length = None
    _half_life: int = attrs.field(init=False, repr=False, eq=False)

    def affine(self, t: int) -> tuple[float, float]:
        return float(0.5 ** (t / self._half_life)), 0.0


@attrs.frozen
class Halved(Schedule):
    of: Schedule

    def affine(self, t: int) -> tuple[float, float]:
        scale, shift = self.of.affine(t)
        return scale / 2, shift / 2


@pytest.mark.parametrize(("schedule", "other"), PAIRS, ids=lambda schedule: repr(schedule))
def test_schedules_are_equal_by_their_settings(schedule: Schedule, other: Schedule) -> None:
    same = copy.deepcopy(schedule)
    assert same is not schedule
    assert (same == schedule, hash(same) == hash(schedule), other != schedule) == (True, True, True)
    assert {schedule: 1}.get(other) is None


@every_schedule
def test_no_setting_can_be_changed(schedule: Schedule) -> None:
    for each in attrs.fields(type(schedule)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(schedule, each.name, 3)


@every_schedule
def test_copies_and_pickles_are_the_same_schedule(schedule: Schedule) -> None:
    sized = schedule.sized(60)
    expected = sized.table(60)
    for again in (copy.copy(schedule), copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert (again, again.is_sized) == (schedule, schedule.is_sized)
        assert again.sized(60).table(60) == expected
    for again in (copy.copy(sized), copy.deepcopy(sized), pickle.loads(pickle.dumps(sized))):
        assert again.table(60) == expected


@every_schedule
def test_sizing_changes_no_setting_and_happens_once(schedule: Schedule) -> None:
    sized = schedule.sized(60)
    assert (sized, sized.settings(), repr(sized)) == (schedule, schedule.settings(), repr(schedule))
    assert sized.is_sized
    assert sized.sized(600) is sized
    assert sized is not schedule  # this one knows no run


@every_schedule
def test_a_schedule_that_needs_the_run_says_so_wherever_it_is_used(schedule: Schedule) -> None:
    if schedule.is_sized:
        schedule.check_sized()
        return
    uses: list[Any] = [
        lambda: schedule(59),
        lambda: schedule.affine(59),
        lambda: schedule.table(60),
        lambda: schedule(np.arange(60)),
        lambda: schedule.with_base(1.0),
        schedule.check_sized,
    ]
    for use in uses:
        with pytest.raises(
            ValueError, match=r"^'\w+(\[\d\])?' of .* needs the length of the run: call .sized\(n\) first"
        ):
            use()


@every_schedule
@given(times=st.lists(st.integers(0, 5000), max_size=20), base=st.floats(0.1, 10))
def test_an_array_is_its_ints_to_the_last_bit(schedule: Schedule, times: list[int], base: float) -> None:
    sized = schedule.sized(60)
    for dtype in (np.int64, np.uint16):
        values = sized(np.array(times, dtype=dtype), base)
        assert (str(values.dtype), values.shape) == ("float64", (len(times),))
        assert values.tolist() == [sized(t, base) for t in times]


@every_schedule
@given(base=st.floats(0.1, 10), t=st.integers(0, 10**5))
def test_the_value_is_the_affine_map_of_the_base(schedule: Schedule, base: float, t: int) -> None:
    sized = schedule.sized(60)
    scale, shift = sized.affine(t)
    value = base * scale + shift
    assert sized(t, base) == sized(t, base=base) == sized.with_base(base)(t) == value
    assert (type(sized(t, base)), type(scale), type(shift)) == (float, float, float)
    assert schedule.has_shift or shift == 0
    assert not schedule.absolute or scale == 0


@every_schedule
def test_a_table_is_the_first_values(schedule: Schedule) -> None:
    sized = schedule.sized(60)
    assert sized.table(70, base=0.3) == [sized(t, base=0.3) for t in range(70)]
    assert sized.table(0) == []


@pytest.mark.parametrize(("schedule", "other"), PAIRS, ids=lambda schedule: repr(schedule))
def test_settings_are_json_and_tell_schedules_of_a_class_apart(schedule: Schedule, other: Schedule) -> None:
    settings = schedule.settings()
    assert json.loads(json.dumps(settings, allow_nan=False)) == settings
    functions_differ = "halves" in repr(schedule)
    assert (settings == other.settings()) == functions_differ


@every_schedule
def test_the_repr_is_the_expression(schedule: Schedule) -> None:
    names = {cls.__name__: cls for cls in Schedule.__subclasses__()} | {"halves": halves, "slow": slow}
    assert eval(repr(schedule), names) == schedule


@every_schedule
def test_every_schedule_is_a_value_that_can_be_bound(schedule: Schedule) -> None:
    check_is_value(schedule)
    assert LRScheduler(Bare(1.0), schedule.sized(100)).schedule == schedule


@pytest.mark.parametrize(
    ("t", "error", "message"),
    [
        (-1, ValueError, "'t' must be >= 0: -1"),
        (True, TypeError, "'t' must be an int: True"),
        (2.0, TypeError, "'t' must be an int: 2.0"),
        ("2", TypeError, "'t' must be an int: '2'"),
        ([0, 1], TypeError, r"'t' must be an int: \[0, 1\]"),
        (np.float64(2), TypeError, "'t' must be an int: "),
        (np.bool_(True), TypeError, "'t' must be an int: "),
        (np.array([0, -1]), ValueError, r"'t' must be >= 0: array\(\[ 0, -1\]\)"),
        (np.array([0.0, 1.0]), TypeError, r"'t' must be an int or an integer array: array\(\[0., 1.\]\)"),
        (np.array([True]), TypeError, r"'t' must be an int or an integer array: array\(\[ True\]\)"),
        (np.array([[0, 1]]), ValueError, r"'t' must be one-dimensional: array\(\[\[0, 1\]\]\)"),
    ],
    ids=repr,
)
def test_a_time_that_is_none_is_refused(t: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        Step(2)(t)


def test_numpy_integers_are_times() -> None:
    two: list[Any] = [np.int32(2), np.array(2)]
    assert [Step(2)(t) for t in two] == [0.1, 0.1]


def test_warm_restarts_take_a_fraction_of_a_time() -> None:
    schedule = WarmRestarts(4, 2)
    assert schedule(2.0) == schedule(2)
    assert schedule(1.0) > schedule(1.5) > schedule(2.0)
    assert schedule(4 + 2.5) == pytest.approx(math.cos(math.pi * 2.5 / 16) ** 2, rel=1e-14)
    for t, error, message in [
        (-0.5, ValueError, "'t' must be >= 0: -0.5"),
        (math.nan, ValueError, "'t' must be >= 0 and finite: nan"),
        (math.inf, ValueError, "'t' must be >= 0 and finite: inf"),
        (True, TypeError, "'t' must be an int: True"),
        ("2", TypeError, "'t' must be a number: '2'"),
        (np.array([0.5]), TypeError, "'t' must be an int or an integer array"),
    ]:
        with pytest.raises(error, match=message):
            schedule(t)  # type: ignore[call-overload]  # refused


@pytest.mark.parametrize("base", ["1", None, math.nan, True])
def test_a_base_that_is_none_is_refused(base: Any) -> None:
    for use in (lambda: Step(2)(0, base), lambda: Step(2).table(1, base), lambda: Step(2).with_base(base)):
        with pytest.raises((TypeError, ValueError), match=r"^'base' must be (a number|finite): "):
            use()


@pytest.mark.parametrize("n", [-1, 2.0, None])
def test_a_count_that_is_none_is_refused(n: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^'n' must be "):
        Step(2).table(n)
    with pytest.raises((TypeError, ValueError), match=r"^'length' must be "):
        Cosine().sized(n)


def test_a_value_beyond_the_floats_is_an_overflow() -> None:
    for schedule in (Exponential(2.0), Function(lambda t: 1e308 * t)):
        for use in (partial(schedule, 5000), partial(schedule.table, 5001), partial(schedule, np.array([0, 5000]))):
            with pytest.raises(OverflowError, match=r"exceeds the largest float at \d+$"):
                use()
    with pytest.raises(OverflowError, match=r"Function\(.*\) exceeds the largest float at 3"):
        Function(lambda t: -math.inf)(3)


def test_a_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Function\(.*\) must be a number at 3: nan"):
        Function(lambda t: math.nan)(3)


def test_a_schedule_of_the_users_own_is_one_method() -> None:
    assert Inverse().table(3, 6.0) == [6.0, 3.0, 2.0]
    assert (Inverse(), hash(Inverse()), repr(Inverse())) == (Inverse(), hash(Inverse()), "Inverse()")
    assert pickle.loads(pickle.dumps(Inverse())) == Inverse()
    assert (Inverse() * Exponential(0.5)).warmup(2, start=0.0).table(5) == [0.0, 0.5, 1.0, 0.25, 1 / 12]
    assert Inverse().settings() == {}
    with pytest.raises(TypeError, match="abstract"):
        Schedule()  # type: ignore[abstract]  # refused


def test_a_length_of_the_users_own_is_sized_like_ours() -> None:
    assert HalfLife(2).table(3) == [1.0, 2**-0.5, 0.5]
    assert HalfLife("20%").sized(10)(2) == HalfLife().sized(2)(2) == 0.5
    assert HalfLife().warmup("20%", start=0.5).sized(10)(10) == 0.5
    assert HalfLife("20%").sized(10) == HalfLife("20%") != HalfLife(2)
    with pytest.raises(ValueError, match=r"'half_life' of HalfLife\(half_life=None\) needs the length of the run"):
        HalfLife()(0)


def test_a_schedule_of_the_users_own_may_end_by_itself() -> None:
    @attrs.frozen
    class Ramp(Schedule):
        duration: ClassVar[str] = "length"
        length: Length = None
        _length: int = attrs.field(init=False, repr=False, eq=False)

        def affine(self, t: int) -> tuple[float, float]:
            return t / self._length, 0.0

    assert Ramp(2).then(Exponential(0.5)).table(4) == [0.0, 0.5, 1.0, 0.5]
    assert Ramp("50%").then(Ramp()).sized(8).table(8) == [0.0, 0.25, 0.5, 0.75] * 2


def test_a_schedule_within_one_of_the_users_own_is_sized_with_it() -> None:
    schedule = Halved(Cosine())
    assert schedule.settings() == {"of": {"class": "Cosine", "T_max": None, "eta_min": 0.0, "after": "restart"}}
    assert schedule.sized(10)(0) == 0.5
    with pytest.raises(ValueError, match=r"'T_max' of Cosine\(\) needs the length of the run"):
        schedule(0)


class Plain(Schedule):
    factor: float = 0.5

    def affine(self, t: int) -> tuple[float, float]:
        return self.factor**t, 0.0


class Assigned(Schedule):
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def affine(self, t: int) -> tuple[float, float]:
        return self.factor**t, 0.0


class Slotted(Assigned):
    __slots__ = ("shift",)


@attrs.define
class Mutable(Schedule):
    factor: float = 0.5

    def affine(self, t: int) -> tuple[float, float]:
        return self.factor**t, 0.0


class Documented(Inverse):
    limit: ClassVar[int] = 3
    note = "class attributes are no settings"

    @cached_property
    def first(self) -> float:
        return self(0)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Plain(), "Plain must be decorated with @attrs.frozen, for its settings factor"),
        (Assigned(0.5), "Assigned must be decorated with @attrs.frozen, for its settings factor"),
        (Slotted(0.5), "Slotted must be decorated with @attrs.frozen, for its settings factor, shift"),
        (Mutable(), r"Mutable must be decorated with @attrs.frozen: Mutable\(factor=0.5\)"),
        (Step, "'schedule' must be a Schedule: <class"),
        (0.1, "'schedule' must be a Schedule: 0.1$"),
        (Step(2).until(3), r"'schedule' must be a Schedule: Step\(2\).until\(3\); say with .then\(...\) what follows"),
    ],
)
def test_what_is_no_value_is_refused_when_it_is_bound(schedule: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        check_is_value(schedule)


def test_a_schedule_without_settings_need_not_be_decorated() -> None:
    schedule = Documented()
    assert schedule.first == 1.0
    check_is_value(schedule)
    check_is_value(HalfLife())


def test_a_part_that_is_no_value_is_refused_when_it_is_composed() -> None:
    for compose in (
        lambda: Sequence([Step(2), Plain()], [3]),
        lambda: Chain([Plain()]),
        lambda: Step(2) * Plain(),
        lambda: Plain() * Step(2),
        lambda: Plain().warmup(3),
        lambda: Plain().until(3).then(Step(2)),
    ):
        with pytest.raises(TypeError, match=r"Plain must be decorated with @attrs.frozen"):
            compose()


def test_nested_settings_bear_the_names_of_their_classes() -> None:
    links = [Cyclic(0.1, 1.0, 3, scale_fn=halves), Function(halves)]
    schedule = Sequence([None, Chain(links)], ["5%"])
    cyclic = {
        "class": "Cyclic",
        "base_lr": 0.1,
        "max_lr": 1.0,
        "step_size_up": 3,
        "step_size_down": 3,
        "mode": "triangular",
        "gamma": 1.0,
        "scale_mode": "cycle",
    }
    chain = {"class": "Chain", "parts": [cyclic, {"class": "Function"}]}
    assert schedule.settings() == {"parts": [None, chain], "milestones": ["5%"]}


def test_settings_that_are_no_json_are_refused() -> None:
    @attrs.frozen
    class Odd(Schedule):
        weights: Any

        def affine(self, t: int) -> tuple[float, float]:
            return 1.0, 0.0

    assert Odd({"a": (1, 2.5)}).settings() == {"weights": {"a": [1, 2.5]}}
    with pytest.raises(TypeError, match=r"'Odd.weights' must be plain JSON, or a function: \{1\}"):
        Odd({1}).settings()


def test_the_floor_is_the_highest_lowest_value_of_the_parts() -> None:
    for schedule in (
        Cosine(5, 0.5),
        WarmRestarts(5, eta_min=0.5),
        WSD(2, 3, eta_min=0.5),
        Cosine(5, 0.5).skip(2),
        Cosine(5, 0.5).warmup(3).then(Cosine(5, 0.25)),
        Chain([Step(2), Cosine(5, 0.5)]),
        Cosine(5, 0.5) * Step(2),
        Sequence([None, Cosine(5, 0.5)], [3]),
    ):
        assert schedule.floor == 0.5
    assert (Step(2).floor, Cosine(5, min_ratio=0.5).floor, Polynomial(5, end=0.5).floor) == (0.0, 0.0, 0.0)
