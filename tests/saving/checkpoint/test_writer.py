from __future__ import annotations

import threading

import pytest

from lucid_train.saving.checkpoint.writer import Writer


def fail() -> None:
    raise OSError("disk full")


def test_a_job_runs_in_another_thread_while_the_caller_continues() -> None:
    writer, gate, threads = Writer(), threading.Event(), list[threading.Thread]()

    def job() -> None:
        gate.wait(10)
        threads.append(threading.current_thread())

    assert not writer.busy
    writer.begin(job)
    assert writer.busy
    assert threads == []
    gate.set()
    writer.wait()
    assert not writer.busy
    assert [thread is threading.current_thread() for thread in threads] == [False]


def test_a_job_begins_when_the_previous_one_is_done() -> None:
    writer, done = Writer(), list[int]()
    for number in range(20):
        writer.begin(lambda number=number: done.append(number))  # type: ignore[misc]  # the default binds it
    writer.wait()
    assert done == list(range(20))


def test_waiting_raises_what_the_job_raised_once() -> None:
    writer = Writer()
    writer.begin(fail)
    with pytest.raises(OSError, match="disk full"):
        writer.wait()
    writer.wait()


def test_a_job_after_one_that_failed_is_not_started() -> None:
    writer, done = Writer(), list[str]()
    writer.begin(fail)
    with pytest.raises(OSError, match="disk full"):
        writer.begin(lambda: done.append("second"))
    writer.begin(lambda: done.append("third"))
    writer.wait()
    assert done == ["third"]
