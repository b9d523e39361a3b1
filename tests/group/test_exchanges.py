"""Exchanges carry values or failures, votes are read late, and nobody waits for what a peer cannot have posted."""

from __future__ import annotations

import math
from collections.abc import Callable
from threading import Event, current_thread
from typing import Any

import pytest

from lucid_train.group import exchanges as module
from lucid_train.group.exchanges import Exchanges, RankError, alone
from lucid_train.testing.threads import ThreadGroup, run_in_threads


def texts(world_size: int, function: Callable[[Exchanges], object]) -> list[str]:
    """Run a function on every rank; return what it returns or raises, as text."""

    def run(group: ThreadGroup) -> str:
        try:
            with Exchanges(group) as exchanges:
                return str(function(exchanges))
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            return f"{type(error).__name__}: {error}"

    return run_in_threads(world_size, run)


def test_floats_are_exchanged_exactly() -> None:
    values = [0.1, -0.0, math.inf, 5e-324]

    def run(group: ThreadGroup) -> Any:
        with Exchanges(group) as exchanges:
            return exchanges.exchange("here", values[group.rank])

    found = run_in_threads(4, run)
    assert [list(map(float.hex, each)) for each in found] == [list(map(float.hex, values))] * 4


def test_one_process_exchanges_with_nobody() -> None:
    with alone() as exchanges:
        assert exchanges.exchange("here", object) == [object]
        assert (exchanges.rank, exchanges.world_size, exchanges.is_first) == (0, 1, True)


def test_processes_at_other_places_are_named() -> None:
    found = texts(2, lambda exchanges: exchanges.exchange("here" if exchanges.is_first else "there", None))
    sentence = "the processes of a run must come to the same places in the same order: rank 0 is here, rank 1 is there"
    assert found == [f"RankError: {sentence}"] * 2


def test_what_is_no_json_is_refused() -> None:
    assert (
        texts(2, lambda exchanges: exchanges.exchange("here", {1, 2}))
        == ["TypeError: 'value' must be plain JSON: {1, 2}"] * 2
    )


def test_nothing_is_exchanged_after_a_failure() -> None:
    def run(exchanges: Exchanges) -> Any:
        if not exchanges.is_first:
            raise OSError("no disk")
        with pytest.raises(RankError, match=r"^rank 1 failed: OSError: no disk$"):
            exchanges.exchange("here", None)
        exchanges.exchange("there", None)

    sentence = "nothing can be exchanged any more: the fit has ended, or a process has failed"
    assert texts(2, run) == [f"RankError: {sentence}", "OSError: no disk"]


@pytest.mark.parametrize(
    ("error", "other"),
    [(SystemExit(143), "SystemExit: 143"), (KeyboardInterrupt(), "KeyboardInterrupt: rank 0 was interrupted")],
)
def test_an_interruption_leaves_the_others_as_one(error: BaseException, other: str) -> None:
    def run(exchanges: Exchanges) -> None:
        if exchanges.is_first:
            raise error
        exchanges.exchange("here", None)

    assert texts(2, run)[1] == other


def test_who_waits_for_a_vote_learns_of_a_failure() -> None:
    def run(exchanges: Exchanges) -> None:
        exchanges.begin(0)
        for step in range(1, 40):
            if exchanges.rank == 1 and step == 5:
                raise OSError("no batch")
            if step == exchanges.due:
                exchanges.read()
                exchanges.post(step, [0.0])

    other = "RankError: rank 1 failed: OSError: no batch"
    assert texts(3, run) == [other, "OSError: no batch", other]


def test_votes_that_only_some_have_posted_are_filled_up_before_an_exchange() -> None:
    def run(exchanges: Exchanges) -> Any:
        exchanges.begin(0)
        for step in range(1, 4 if exchanges.is_first else 2):
            exchanges.post(step, [1.0])
        exchanges.exchange("here", None)
        return exchanges.read(), exchanges._posted

    assert texts(2, run) == ["([], 3)"] * 2


def test_a_wish_of_one_is_read_by_all_at_the_next_vote() -> None:
    def run(exchanges: Exchanges) -> Any:
        exchanges.begin(0)
        found = []
        for step in range(1, 40):
            if step == exchanges.due:
                found.append((step, exchanges.read()[:2]))
                exchanges.post(step, [float(exchanges.rank == 1 and step >= 4), 0.0])
        exchanges.exchange("at the end", None)
        return found

    wished = [(step, [float(step > 4), 0.0]) for step in (2, 4, 8, 16, 32)]
    assert texts(3, run) == [str([(1, []), *wished])] * 3


@pytest.mark.parametrize(("slowest", "apart"), [(0.3, 3), (2.0, 1), (0.01, 100)])
def test_votes_become_about_a_second_apart_by_the_slowest(
    slowest: float, apart: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0, 0.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[int(current_thread().name.removeprefix("rank "))])

    def run(group: ThreadGroup) -> list[int]:
        exchanges, due = Exchanges(group), []
        exchanges.begin(0)
        for step in range(1, 1000):
            now[group.rank] += slowest if group.rank else slowest / 10
            if step == exchanges.due:
                exchanges.read()
                exchanges.post(step, [])
                due.append(step)
        exchanges.exchange("at the end", None)
        return due

    one, other = run_in_threads(2, run)
    assert one == other
    assert {later - step for step, later in zip(one[-5:], one[-4:], strict=False)} == {apart}


def test_a_process_that_has_failed_waits_no_longer_than_its_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 0.1)

    leave = Event()

    def run(group: ThreadGroup) -> str:
        if group.rank == 0:
            leave.wait(30)  # inside a step
            return ""
        try:
            with Exchanges(group):
                raise OSError("no disk")
        except OSError as error:
            leave.set()
            return str(error)

    assert run_in_threads(2, run) == ["", "no disk"]
