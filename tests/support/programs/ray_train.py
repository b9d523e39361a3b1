"""Trainings on two workers of Ray: `ray_train.py FOLDER PROGRAM [DEATH]`.

The programs are "replicated", that of `distributed.py`, and "example", `examples/many_processes.py`, each with a
RayReport. With DEATH the second worker is killed once: after that step, or when the example has written so many
checkpoints.

What Ray has of each report goes to FOLDER/reports.json: the metrics, and the steps and the epochs of the checkpoint. A
line for each start of a worker goes to FOLDER/starts-RANK.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent.parent


def train(config: dict[str, Any]) -> None:
    """Train on one worker."""
    import torch

    torch.set_num_threads(1)
    folder = Path(config["folder"])
    rank = int(os.environ["RANK"])
    with open(folder / f"starts-{rank}", "a") as file:
        file.write("started\n")
    PROGRAMS[config["program"]](folder, rank, config["death"])


def replicated(folder: Path, rank: int, death: int | None) -> None:
    """Train with DDP."""
    from lucid_train import StepEnd
    from lucid_train.callbacks import RayReport
    from tests.support.programs import distributed

    trainer = distributed.replicated(folder)
    trainer.callbacks = (*trainer.callbacks, RayReport())
    if death is not None:
        trainer.on(StepEnd, at=death)(lambda event: die(folder) if rank == 1 else None)
    distributed.trained(trainer, folder)


def example(folder: Path, rank: int, death: int | None) -> None:
    """Train numpy layers, whose gradients are added up."""
    from lucid_train.callbacks import RayReport
    from lucid_train.saving.checkpoint.directory import Directory
    from tests.support.programs import distributed

    checkpoints = Directory(folder / "run")

    def watch() -> None:
        # The run is saved every 10 steps of 37 and once more at its end: this is within an epoch, at some moment.
        while not any(file.name.startswith(f"checkpoint-{death:06d}-") for file in checkpoints.files()):
            time.sleep(0.001)
        die(folder)

    if death is not None and rank == 1:
        threading.Thread(target=watch, daemon=True).start()
    distributed.seed(rank)  # the state of generators that the example leaves alone is compared too
    main = runpy.run_path(str(ROOT / "examples" / "many_processes.py"))["main"]
    main(str(folder / "run"), others=[RayReport()])


def die(folder: Path) -> None:
    """Kill this process, unless that has been done."""
    killed = folder / "killed"
    if not killed.exists():
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)


PROGRAMS = {"replicated": replicated, "example": example}


def main(folder: str, program: str, death: str | None = None) -> None:
    """Train on two workers, which are started again when one has died."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from lucid_train import read_checkpoint

    Path(folder).mkdir(parents=True, exist_ok=True)
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": environment})
    result = TorchTrainer(
        train,
        train_loop_config={"folder": folder, "program": program, "death": None if death is None else int(death)},
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(
            name="run", storage_path=f"{folder}/storage", failure_config=FailureConfig(max_failures=2)
        ),
    ).fit()
    reports = []
    for checkpoint, metrics in result.best_checkpoints:
        with checkpoint.as_directory() as place:
            progress = read_checkpoint(place)["progress"]
            reports.append([metrics, progress["step"], len(progress["history"]["epoch"])])
    (Path(folder) / "reports.json").write_text(json.dumps(reports))
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
