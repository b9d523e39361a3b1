"""What SECURITY.md says of event logs from strangers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lucid_train import replay
from lucid_train.cli.main import main
from lucid_train.recording.comparison import compare_logs
from tests.support.hostile_logs import Marked

START = {"event": "FitStart", "time": 1.0, "format": 1, "callbacks": [], "run": {"epochs": 2, "step": 0, "last_lr": []}}


@pytest.mark.parametrize(
    "files", [150, pytest.param(3_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])], ids=str
)
def test_changed_logs_are_refused_or_shown_without_a_traceback(tmp_path: Path, files: int) -> None:
    command = [sys.executable, "-m", "tests.support.hostile_logs", str(tmp_path), str(files), "7"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout)
    assert sum(counts.values()) == files
    assert min(counts.values()) > files // 20


BOMBS: dict[str, Any] = {
    "lists": b"[" + b"[]," * 2_000_000 + b"1]",
    "objects": b"[" + b"{}," * 2_000_000 + b"1]",
    "one hash": json.dumps(
        {
            "event": "Marked",
            "time": 1,
            "module": Marked.__module__,
            "fields": {"!dict": [[k * (2**61 - 1), 0] for k in range(100_000)]},
        }
    ).encode(),
    "depth": b"[" * 3_000_000 + b"]" * 3_000_000,
    "callbacks": json.dumps({**START, "callbacks": [{}] * 200_000}).encode(),
    "metrics": json.dumps(
        {**START, "run": {"history": [{"epoch": 1, "metrics": {f"{k:x}": 1 for k in range(100_000)}}]}}
    ).encode(),
    "numbers": b"[" + b"9" * 4_000_000 + b"]",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_line_takes_memory_that_its_length_bounds(tmp_path: Path, name: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(json.dumps(START).encode() + b"\n" + BOMBS[name] + b"\n")
    tracemalloc.start()
    try:
        if name == "callbacks":  # as many as one likes
            assert replay(path).status == "failed"
        else:
            with pytest.raises(ValueError, match="is not the log of a run: in line 2, "):
                replay(path)
        assert tracemalloc.get_traced_memory()[1] < 30 * len(BOMBS[name]) + (32 << 20)
    finally:
        tracemalloc.stop()


NOTHING: dict[str, Any] = dict.fromkeys(("steps_per_epoch", "evaluate_every", "model", "optimizer"))
SETUP = {"epochs": 1, "world_size": 1, "optimizers": {}, "callbacks": {}, **NOTHING}
DIGESTS = {"event": "digests", "time": 1, "epoch": 1, "step": 1, "lr": [], "scheduled": {}, "metrics": {}, "extras": {}}
TWICE: dict[str, Any] = {
    **{name: BOMBS[name] for name in ("lists", "one hash", "callbacks", "metrics")},
    "setup": json.dumps({**START, "setup": {**SETUP, "callbacks": {f"{k:x}": {} for k in range(30_000)}}}).encode(),
    "groups": json.dumps({**START, "setup": {**SETUP, "optimizers": {"o": [{}] * 100_000}}}).encode(),
    "versions": json.dumps({**START, "versions": {f"{k:x}": "" for k in range(100_000)}}).encode(),
    "digests": json.dumps({**DIGESTS, "random": {f"{k:x}": None for k in range(100_000)}}).encode(),
}


@pytest.mark.parametrize("name", TWICE)
def test_a_comparison_takes_memory_that_two_lines_bound(tmp_path: Path, name: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(json.dumps(START).encode() + b"\n" + TWICE[name] + b"\n")
    tracemalloc.start()
    try:
        with suppress(ValueError):
            assert compare_logs(path, path).agrees
        assert tracemalloc.get_traced_memory()[1] < 2 * (30 * len(TWICE[name]) + (32 << 20))
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("command", ["show", "replay", "watch", "diff"])
@pytest.mark.parametrize("what", ["pipe", "device", "nothing"])
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, what: str
) -> None:
    path = Path("/dev/zero") if what == "device" else tmp_path / what
    if what == "pipe":
        os.mkfifo(path)
    elif what == "nothing":
        with open(path, "wb") as file:
            file.truncate(2**40)
    assert main([command, str(path), *([str(path)] if command == "diff" else [])]) == 2
    why = (
        "it claims 1099511627776 bytes, of which the disk holds next to none"
        if what == "nothing"
        else "it is not a file"
    )
    assert capsys.readouterr().err == f"lucid-train: error: '{path}' is not the log of a run: {why}\n"
