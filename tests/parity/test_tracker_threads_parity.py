"""The threads and processes that the trackers' packages keep are those that docs/guides/trackers.md lists."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tracking import mlflow_database

PROGRAM = """
import contextlib, json, os, sys, threading
from lucid_train import StepEnd, Trainer
from lucid_train.callbacks import MLflowLogger, TensorBoardLogger, TrackioLogger, WandbLogger

trackers = {
    "TensorBoardLogger": lambda: TensorBoardLogger("curves", step_every=1, timeout=60),
    "MLflowLogger": lambda: MLflowLogger("digits", tracking_uri=sys.argv[2], step_every=1, timeout=60),
    "TrackioLogger": lambda: TrackioLogger("digits", step_every=1, timeout=60),
    "WandbLogger": lambda: WandbLogger("digits", mode="offline", step_every=1, timeout=60),
}

def alive():
    threads = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    assert all(thread.daemon for thread in threads)  # the interpreter's exit waits for none
    children, me = [], str(os.getpid())
    for each in os.listdir("/proc"):
        with contextlib.suppress(OSError):  # others end meanwhile
            before, _, after = open(f"/proc/{each}/stat").read().rpartition(")")
            children += [before.partition("(")[2]] if after.split()[1] == me else []
    return [sorted(thread.name for thread in threads), sorted(children)]

found = []
trainer = Trainer(lambda batch: batch, [1.0, 2.0], epochs=3, callbacks=[trackers[sys.argv[1]]()])
trainer.on(StepEnd, at=5)(lambda event: found.append(alive()))
streams = (sys.stdout, sys.stderr)
trainer.fit()
assert (sys.stdout, sys.stderr) == streams
print(json.dumps([*found, alive()]))
"""

# Of each tracker, the threads and the processes of its package.
KEPT: dict[str, tuple[list[str], list[str]]] = {
    "TensorBoardLogger": ([], []),
    "MLflowLogger": ([], []),
    "TrackioLogger": ([], []),
    "WandbLogger": (["wandb-AsyncioManager-main", "wandb-ServiceFinalizer"], ["wandb-core"]),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_fit_has_one_thread_of_ours_and_those_that_are_listed_and_none_of_ours_stays(
    name: str, tmp_path: Path
) -> None:
    left_out = ("WANDB_SERVICE", "WANDB_ERROR_REPORTING", "WANDB_MODE", "WANDB_DIR")
    environment = {key: value for key, value in os.environ.items() if key not in left_out}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "TRACKIO_DIR": str(tmp_path / "trackio")}
    command = [sys.executable, "-c", PROGRAM, name, mlflow_database(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    threads, processes = KEPT[name]
    during, after = json.loads(done.stdout)
    assert during == [sorted([f"lucid_train.{name}", *threads]), processes]
    assert after == [threads, processes]


def test_they_are_listed() -> None:
    page = (Path(__file__).parents[2] / "docs/guides/trackers.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page, flags=re.MULTILINE))
    assert rows.keys() == KEPT.keys()
    for name, (threads, processes) in KEPT.items():
        listed = [*threads, *processes]
        assert [each for each in listed if f"`{each}`" not in rows[name]] == []
        assert rows[name].startswith("none") == (not listed)
