"""RayReport: a run within Ray Train reports its metrics and its durable checkpoints."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, final

from attrs import define, field

from lucid_train.callback import TRANSIENT, Callback
from lucid_train.events import FitStart, Saved
from lucid_train.saving.checkpoint.directory import Directory


@final
@define(eq=False)
class RayReport(Callback):
    """Report to Ray Train after every checkpoint: the metrics of the last epoch, and the checkpoint.

    It belongs among the callbacks of a Trainer in the function that `ray.train.torch.TorchTrainer` runs, beside a
    Checkpoint with a directory that all workers see. `Saved` reaches all workers equally often, once the checkpoint is
    durable, as `ray.train.report` needs: it waits for all. Reported are

    - `step`, the steps of the checkpoint; `epoch`, the last epoch that it has whole, 0 before the first; and the
      metrics of that epoch;
    - the files of this checkpoint, by the first worker, which Ray copies to its storage.

    Ray keeps metrics with checkpoints alone, so that how often it reports is how often the Checkpoint saves.

    Ray notices a worker that dies, and starts all again: `fit(resume="auto")` then goes on from the directory of the
    Checkpoint. `ray.train.get_checkpoint()` may be older, as Ray loses reports that it has not taken by then; it is for
    another cluster, or a directory that is gone: pass what its `to_directory()` returns as `fit(resume=...)`.

    Ray takes one report every two seconds. A run that saves more often waits for that.

    Ray runs the function outside the main thread, where no signal can be caught.

    Raises:
        ModuleNotFoundError: When the fit starts, if Ray Train is not installed.
        RuntimeError: When the fit starts, if this is no worker of Ray Train, or its processes are not connected.
        ValueError: When the fit starts, if there is no Checkpoint among the callbacks.
    """

    _train: Any = field(default=None, init=False, repr=False, metadata=TRANSIENT)

    def settings(self) -> dict[str, Any]:
        return {}  # what is reported does not change the training

    def on_fit_start(self, event: FitStart) -> None:
        run = event.run
        if not any(callback.checkpoints() is not None for callback in run.callbacks):
            raise ValueError("'callbacks' must have a Checkpoint beside RayReport, which reports when that has saved")
        try:
            self._train = import_module("ray.train")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"RayReport needs Ray Train: pip install 'lucid-train[ray]' ({error})") from error
        try:
            size = self._train.get_context().get_world_size()
        except RuntimeError as error:
            raise RuntimeError(f"RayReport must be used in a function that Ray Train runs: {error}") from error
        if size != run.world_size:
            raise RuntimeError(
                f"RayReport must be used on all workers of a run: Ray Train has {size}, and {run.world_size} are "
                f"connected here; use ray.train.torch.TorchTrainer, which connects them, and no group=Solo()"
            )

    def on_saved(self, event: Saved) -> None:
        metrics = _metrics(event)
        if event.run.rank > 0:
            self._train.report(metrics)
            return
        with tempfile.TemporaryDirectory(prefix="lucid-train-") as name:
            for file in Directory(event.file.parent).files_of(event.file):
                _put(file, Path(name) / file.name)
            self._train.report(metrics, checkpoint=self._train.Checkpoint.from_directory(name))


def _metrics(event: Saved) -> dict[str, float]:
    """Return the last epoch that the checkpoint has whole, with its metrics, and the checkpoint's step."""
    found: dict[str, float] = {"epoch": 0, "step": event.step}
    done = 0
    for record in event.run.history:
        done += record.steps
        if done > event.step:  # it was trained while the checkpoint was written in the background
            break
        found = {"epoch": record.epoch, "step": event.step, **record.metrics}
    return found


def _put(file: Path, place: Path) -> None:
    """Link a file to a place, or copy it where it cannot be linked."""
    # A hard link needs one file system; a copy of a large checkpoint could fill that of temporary files.
    for link in (os.link, os.symlink):
        with suppress(OSError):
            link(file.resolve(), place)
            return
    shutil.copyfile(file, place)
