"""Every result is, to the last bit, what it was when it was frozen; what is meant to differ is listed here."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import pytest
from attrs import field, frozen

from . import results, setups
from .frozen import decode, differing, encode, read
from .results import table, walk


@frozen
class Difference:
    """A result that is no longer the frozen one, deliberately.

    Args:
        reason: Why it is better now.
        rel: How far floats may be from the frozen ones, relatively.
        now: What makes of the frozen result the present one: a function of it, such as
            `lambda state: {**state, "power": 1.0}`.
    """

    reason: str
    rel: float = field(default=0.0, kw_only=True)
    now: Callable[[Any], Any] = field(default=lambda result: result, kw_only=True)


# By a name of `results.table()`, or a pattern of names such as "states: SequentialLR*: loaded after *".
DIFFERENCES: dict[str, Difference] = {
    pattern: Difference("the running product is one of floats, within t ulp, without a compensation", rel=1e-12)
    for pattern in (
        "schedules: MultiplicativeLR*",
        "schedules: SequentialLR, lists of functions: *",
        "states: MultiplicativeLR, one function: loaded after 7",
        "states: MultiplicativeLR, one function: loaded after 29",
        "states: MultiplicativeLR, one function, alternating: loaded after *",
        "states: MultiplicativeLR, a list: loaded after *",
        "states: SequentialLR, lists of functions: loaded after 29",
        "torch: MultiplicativeLR: after *",
    )
}

DIFFERENCES["traces: stopped and gone on"] = Difference(
    "the mean of an epoch is the exact sum of its steps, rounded once, over their number", rel=1e-15
)

# What was frozen again when the schedulers became bindings of values, and why.
FROZEN_AGAIN = {
    "states: Chained*: after *": "the state of a composition is its value's: parts by class, without base rates",
    "states: SequentialLR*: after *": "as above",
    "states: CyclicLR*: after *": "a scheduler of several keys has the settings of each, and base values by key",
    "states: OneCycleLR*: after *": "as above",
    "states: LambdaLR, a list: after *": "a scheduler with one schedule per group has them in a list",
    "states: MultiplicativeLR, a list: after *": "as above",
    "states: ReduceLROnPlateau*: after *": "it multiplies the rates that stand in the groups: there are no base rates",
    "states: SequentialLR, momentum first: loaded after 29": "a momentum left standing is written when loaded",
    "recipes: Constant(0.5): *": "a Constant without a length lasts, it does not end with the run",
    "recipes: Constant(1.0).until('80%').then(Linear(1.0, 0.0)).warmup('5%'): *": "a warm-up shifts all that follows",
    "recipes: MultiStep(['50%', 6]).warmup('5%'): 33": "shares are rounded as places in the run",
    "torch: refused: another step_size_up": "the error names the key",
    "torch: refused: another max_lr": "as above",
    "torch: refused: another pct_start": "as above",
    "torch: refused: fewer phases": "as above",
    "torch: refused: another part": "the error names the part",
    "torch: refused: another class": "states that do not fit are refused in the words of all other states",
    "torch: refused: a chain as a sequence": "as above",
}

RESULTS = table()
FROZEN = {
    name: result
    for kind in dict.fromkeys(name.partition(":")[0] for name in RESULTS)
    for name, result in read(kind).items()
}
# Where sines and powers are rounded otherwise, rates are within their bounds, and not equal to the bit.
ROUNDING = 0.0 if differing(FROZEN["library: sin and pow"], results.library()) == [] else 1e-12


def is_listed(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern.replace("[", "[[]"))


def expected(name: str) -> tuple[Any, float]:
    """Return what a result must be, and how far, relatively, its floats may be from that."""
    result, rel = FROZEN[name], ROUNDING
    for pattern, difference in DIFFERENCES.items():
        if is_listed(name, pattern):
            result, rel = difference.now(result), max(rel, difference.rel)
    return result, rel


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_as_it_was_frozen(name: str) -> None:
    result, rel = expected(name)
    assert differing(result, RESULTS[name](), rel) == []


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", [*setups.SCHEDULES, *setups.PLATEAUS])
def test_fewer_groups_run_as_the_first_of_three(name: str, groups: int) -> None:
    build = {**setups.SCHEDULES, **setups.PLATEAUS}[name]
    result, rel = expected(f"schedules: {name}: walk")
    first = {kind: columns[:groups] for kind, columns in result.items()}
    assert differing(first, walk(build, groups), rel) == []


def test_nothing_is_frozen_that_is_not_looked_at() -> None:
    assert FROZEN.keys() == RESULTS.keys()


@pytest.mark.parametrize("pattern", FROZEN_AGAIN)
def test_what_was_frozen_again_is_there(pattern: str) -> None:
    assert any(is_listed(name, pattern) for name in FROZEN)


def test_every_listed_difference_is_one() -> None:
    listed = {pattern: [name for name in RESULTS if is_listed(name, pattern)] for pattern in DIFFERENCES}
    assert [pattern for pattern, names in listed.items() if not names] == []
    alike = [name for names in listed.values() for name in names if not differing(FROZEN[name], RESULTS[name]())]
    assert alike == []


def test_a_listed_difference_allows_what_it_says_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "one [a]", "two"):
        monkeypatch.setitem(FROZEN, name, {"lr": 1.0})
    monkeypatch.setitem(DIFFERENCES, "one*", Difference("it is rounded better", rel=1e-9))
    monkeypatch.setitem(DIFFERENCES, "one [a]", Difference("it has a name", now=lambda state: {**state, "name": "a"}))
    assert expected("one") == ({"lr": 1.0}, 1e-9)
    assert expected("one [a]") == ({"lr": 1.0, "name": "a"}, 1e-9)
    assert expected("two") == ({"lr": 1.0}, ROUNDING)


@pytest.mark.parametrize(
    "value",
    [
        {"a": [0.1, 0.1, -0.0, 5e-324], "b": [], "c": [1, 0.5], "d": [1.0], "e": None, "f": "cos", "g": True},
        [float("inf"), -float("inf"), 1e300],
        [[0.25, 0.5], ["x"], 1e-300],
    ],
)
def test_the_data_holds_every_bit(value: Any) -> None:
    assert differing(value, decode(encode(value))) == []


@pytest.mark.parametrize(
    ("expected", "found", "rel", "where"),
    [
        ({"a": 0.1}, {"a": 0.1}, 0.0, []),
        ({"a": 0.1}, {"a": 0.1 + 2**-56}, 0.0, ["a: 0.10000000000000002 instead of 0.1"]),
        ({"a": 0.1}, {"a": 0.1 + 2**-56}, 1e-15, []),
        ({"a": 0.1}, {"a": 0.2}, 1e-15, ["a: 0.2 instead of 0.1"]),
        ([0.0], [-0.0], 0.0, ["0: -0.0 instead of 0.0"]),
        ([1], [1.0], 1e-15, ["0: 1.0 instead of 1"]),
        ({"a": [1, 2]}, {"a": [1]}, 0.0, ["a.1: 'nothing' instead of 2"]),
        ({}, {"b": None}, 0.0, ["b: None instead of 'nothing'", ": 'nothing' instead of {}"]),
    ],
)
def test_a_difference_is_found_and_named(expected: Any, found: Any, rel: float, where: list[str]) -> None:
    assert sorted(differing(expected, found, rel)) == sorted(where)
