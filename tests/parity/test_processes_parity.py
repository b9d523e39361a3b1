"""Runs of many processes under torchrun and mpirun: one display, one log, one decision; killed, they go on exactly."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from lucid_train import read_checkpoint
from lucid_train.saving.checkpoint.directory import Directory
from lucid_train.testing import diff_states
from tests.support.launchers import ROOT, Launched, completed, mpirun, torchrun
from tests.support.ranks import differences_of_ranks
from tests.support.survival import assert_survives_soaking

pytest.importorskip("torch")
pytest.importorskip("mpi4py")

PROGRAM = ROOT / "tests" / "support" / "programs" / "distributed.py"
EXAMPLES = ROOT / "examples"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def ended(folder: Path, size: int = 2, name: str = "ended") -> list[dict[str, Any]]:
    """Return how a case has ended on each process."""
    return [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(size)]


def assert_decided_together_and_resumed_exactly(folder: Path) -> None:
    stopped = ended(folder / "parts", name="stopped")
    assert stopped == [{"step": 8, "status": "stopped", "reason": "enough for now", "metrics": []}] * 2
    first, second = ended(folder / "parts")
    assert first["status"] == "completed"
    assert first == second == ended(folder / "straight")[0]
    assert differences_of_ranks(folder / "straight", folder / "parts", 2) == []


def test_replicas_write_once_decide_together_and_differ_in_no_bit_when_they_are_resumed(tmp_path: Path) -> None:
    # One launch for all: a second one costs more than these trainings.
    cases = ("replicated", "accumulated", "measured", "different weights")
    shown = completed(torchrun(PROGRAM, tmp_path, *cases)).stdout
    for case in cases[:3]:
        assert_decided_together_and_resumed_exactly(tmp_path / case)

    lines = shown[: shown.index("enough for now")].splitlines()
    assert sum(line.startswith("training 3 epochs") for line in lines) == 2  # the straight one and the first part
    assert [line[:9] for line in lines if line.startswith("epoch ")] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    table = (tmp_path / "replicated" / "parts" / "table").read_text().splitlines()
    assert [line.partition(",")[0] for line in table] == ["epoch", "1", "2", "3"]
    log = (tmp_path / "replicated" / "parts" / "log").read_text()
    assert (log.count('"event":"FitStart"'), log.count('"event":"EpochReport"')) == (2, 3)

    # torchmetrics puts its counts together by itself: they are those of the steps, and of the evaluations.
    for epoch in ended(tmp_path / "measured" / "straight")[1]["metrics"]:
        numbers = {name: float.fromhex(value) for name, value in epoch.items()}
        assert numbers["accuracy"] == pytest.approx(numbers["loss"], rel=1e-6)  # float32's
        assert numbers["val_top3"] == pytest.approx(numbers["val_by_hand"], rel=1e-6)

    for each in ended(tmp_path / "different weights"):
        assert each["error"].startswith("ValueError: 'model' must have the same weights on all processes, as their gr")
        assert "those of rank 1 differ from those of rank 0" in each["error"]


@pytest.mark.parametrize("case", ["accelerated", "fabricated"])
def test_accelerate_and_fabric_train_within_the_step_and_are_resumed_exactly(case: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    pytest.importorskip("lightning_fabric")
    completed(torchrun(PROGRAM, tmp_path, case))
    assert_decided_together_and_resumed_exactly(tmp_path / case)


class Restarted:
    """A slow run that is started again and again, as by a loop around torchrun; it waits in its second step."""

    def __init__(self, folder: Path, size: int = 2) -> None:
        self.folder, self.size, self.starts = folder, size, 0

    def start(self) -> Launched:
        """Start it, and wait until all processes have imported what they need."""
        self.starts += 1
        pids = [self.folder / f"pid-{rank}" for rank in range(self.size)]
        for file in (*pids, self.folder / "goes on"):
            file.unlink(missing_ok=True)
        launched = Launched(torchrun(PROGRAM, self.folder, "slow", size=self.size), self.folder / f"{self.starts}")
        launched.wait_until(lambda: all(pid.exists() and pid.read_text() for pid in pids))
        return launched

    def pid(self, rank: int) -> int:
        return int((self.folder / f"pid-{rank}").read_text())

    def step_saved(self) -> int:
        """Return the step of the newest checkpoint, which its name says."""
        files = Directory(self.folder / "slow" / "checkpoints").files()
        return int(files[-1].stem.rpartition("-")[2]) if files else 0

    def complete(self) -> None:
        """Let it come to its end, and compare with one that was never interrupted."""
        (self.folder / "goes on").touch()
        completed(torchrun(PROGRAM, self.folder, "slow", "straight", size=self.size))
        assert [each["status"] for each in ended(self.folder / "slow", self.size)] == ["completed"] * self.size
        assert ended(self.folder / "slow", self.size) == ended(self.folder / "straight", self.size)
        assert differences_of_ranks(self.folder / "straight", self.folder / "slow", self.size) == []


def test_processes_of_ddp_that_are_killed_at_random_moments_go_on_exactly() -> None:
    # On three or more it is so because DDP finds unused parameters in every step: it then never rebuilds the buckets of
    # the gradients, which it does otherwise after the first step of each process, and adds them up in another order.
    # The soak does that on four.
    assert_survives_soaking("ranks-2", 4, "torch")


def test_a_signal_ends_all_after_the_same_step_and_a_loop_around_torchrun_goes_on_when_one_is_killed(
    tmp_path: Path,
) -> None:
    run = Restarted(tmp_path)
    for number, to_launcher, error in (
        (signal.SIGTERM, True, "SystemExit: 143"),
        (signal.SIGINT, True, "KeyboardInterrupt: "),
        (signal.SIGTERM, False, "SystemExit: 143"),
    ):
        with run.start() as launched:
            before = run.step_saved()
            launched.wait_until(lambda before=before: run.step_saved() > before)  # type: ignore[misc]
            launched.send(number, None if to_launcher else run.pid(1))
            assert launched.wait() != 0
            assert "terminate called" not in launched.errors
            first, second = ended(tmp_path / "slow")
            assert first == second
            assert (first["status"], first["error"]) == ("interrupted", error)
            assert first["step"] == run.step_saved() > 0
    with run.start() as launched:
        launched.run_for(random.Random(13).uniform(0.0, 1.0))
        launched.send(signal.SIGKILL, run.pid(0))
        assert launched.wait() != 0
    run.complete()


def losses(directory: Path) -> list[float]:
    found: list[float] = read_checkpoint(directory)["progress"]["history"]["metrics"]["loss"]["values"]
    return found


@pytest.mark.mpi
def test_the_example_for_one_process_and_for_many_comes_to_the_same_losses(tmp_path: Path) -> None:
    program = EXAMPLES / "many_processes.py"
    completed([sys.executable, str(program), str(tmp_path / "python")])
    completed(torchrun(program, tmp_path / "torchrun"))
    completed(mpirun(program, tmp_path / "mpirun"))
    expected = losses(tmp_path / "python")
    assert len(expected) == 5
    for launcher in ("torchrun", "mpirun"):
        assert losses(tmp_path / launcher) == pytest.approx(expected, rel=1e-9)
        assert Directory(tmp_path / launcher).last().parted.world_size == 2  # type: ignore[union-attr]


def test_the_example_of_ddp_trains_as_many_steps_on_one_process_and_on_two(tmp_path: Path) -> None:
    program = EXAMPLES / "ddp.py"
    completed([sys.executable, str(program), str(tmp_path / "python")])
    completed(torchrun(program, tmp_path / "torchrun"))
    one, two = (read_checkpoint(tmp_path / name)["progress"] for name in ("python", "torchrun"))
    assert one["step"] == two["step"] == 114
    # Not closer: each process drops other units.
    assert losses(tmp_path / "torchrun") == pytest.approx(losses(tmp_path / "python"), rel=0.1)


@pytest.mark.mpi
def test_the_example_goes_on_exactly_when_a_process_of_mpi_is_killed(tmp_path: Path) -> None:
    program = EXAMPLES / "many_processes.py"
    completed(mpirun(program, tmp_path / "straight"))
    for attempt in range(10):
        with Launched(mpirun(program, tmp_path / "killed"), tmp_path / f"output-{attempt}") as launched:
            launched.wait_until((tmp_path / "killed" / "last.safetensors").exists)
            children = Path(f"/proc/{launched.process.pid}/task/{launched.process.pid}/children").read_text().split()
            os.kill(int(children[-1]), signal.SIGKILL)
            if launched.wait() != 0:
                break
        shutil.rmtree(tmp_path / "killed")  # it has ended before it was killed, on a machine that stood still
    step = read_checkpoint(tmp_path / "killed")["progress"]["step"]
    assert 0 < step < 185
    completed(mpirun(program, tmp_path / "killed"))
    straight, other = (read_checkpoint(tmp_path / name) for name in ("straight", "killed"))
    for state in (straight, other):
        del state["progress"]["latest_pass"]["random"]  # the program does not seed Python's and numpy's generators
        del state["progress"]["history"]["seconds"]
    for section in ("model", "optimizer", "progress", "data"):
        assert diff_states(straight[section], other[section]) == []
