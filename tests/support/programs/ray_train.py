"""The training of `distributed.py` on two workers of Ray: `ray_train.py FOLDER [STEP]` kills the second once, there.

What Ray has of each report goes to FOLDER/reports.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent.parent


def train(config: dict[str, Any]) -> None:
    """Train on one worker."""
    import torch

    from lucid_train import StepEnd
    from lucid_train.callbacks import RayReport
    from tests.support.programs import distributed

    torch.set_num_threads(1)
    folder, dies_at = Path(config["folder"]), config["dies_at"]
    trainer = distributed.replicated(folder)
    trainer.callbacks = (*trainer.callbacks, RayReport())
    killed = folder / "killed"

    def die(event: StepEnd) -> None:
        if event.run.rank == 1 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    if dies_at is not None:
        trainer.on(StepEnd, at=dies_at)(die)
    distributed.trained(trainer, folder)


def main(folder: str, dies_at: str | None = None) -> None:
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
        train_loop_config={"folder": folder, "dies_at": None if dies_at is None else int(dies_at)},
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(
            name="run", storage_path=f"{folder}/storage", failure_config=FailureConfig(max_failures=2)
        ),
    ).fit()
    reports = []
    for checkpoint, metrics in result.best_checkpoints:
        with checkpoint.as_directory() as place:
            reports.append([metrics, read_checkpoint(place)["progress"]["step"]])
    (Path(folder) / "reports.json").write_text(json.dumps(reports))
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
