import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lucid_train.recording.writer import is_gone, this_process
from tests.support.event_logs import fit, lines

KNOWS_STARTS = Path("/proc/self/stat").exists()  # elsewhere it is not known when a process started


def test_this_process_is_there() -> None:
    assert this_process()["pid"] == os.getpid()
    assert not is_gone(this_process())


def test_a_process_that_has_ended_is_gone_whether_or_not_its_exit_code_was_asked_for() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read()  # to its end, which comes when the process has ended or is about to
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    writer = {**this_process(), "pid": process.pid, "started": None}
    assert is_gone(writer)
    process.wait()
    assert is_gone(writer)
    process.stdout.close()


def test_another_process_of_the_same_number_is_not_taken_for_the_writer() -> None:
    writer = this_process()
    assert type(writer["started"]) is (int if KNOWS_STARTS else type(None))
    assert is_gone({**writer, "started": (writer["started"] or 1) - 1}) is KNOWS_STARTS
    del writer["started"]  # of a log that does not say it, the number counts
    assert not is_gone(writer)


@pytest.mark.parametrize(
    "changes",
    [{"host": "elsewhere"}, {"namespace": "pid:[1]"}, {"pid": "1"}, {"pid": 0}, {"pid": 2**31}, {"pid": None}],
)
def test_of_a_process_elsewhere_nothing_is_known(changes: dict[str, Any]) -> None:
    assert not is_gone({**this_process(), "started": 0, **changes})


@pytest.mark.parametrize("writer", [None, 1, "writer", [], {}])
def test_of_what_does_not_describe_a_process_nothing_is_known(writer: Any) -> None:
    assert not is_gone(writer)


def test_each_fit_says_in_the_log_which_process_it_is_in(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    fit(path, 1).fit(2)
    first, second = [line["writer"] for line in lines(path) if line["event"] == "FitStart"]
    assert first == second == this_process()
