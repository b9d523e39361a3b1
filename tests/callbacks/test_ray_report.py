"""RayReport: what it refuses, and what it hands to Ray Train, which a module stands for; `tests.soak ray` runs Ray."""

from __future__ import annotations

import errno
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lucid_train import Saved, Trainer
from lucid_train.callbacks import Checkpoint, RayReport, ray_report
from lucid_train.testing.threads import ThreadGroup, run_in_threads


class Worker(ModuleType):
    """What `ray.train` is to a worker of so many; it copies what is reported, as Ray does, to a folder for each."""

    def __init__(self, size: int | None, storage: Path) -> None:
        super().__init__("ray.train")
        self.size, self.storage = size, storage
        self.reports: list[tuple[dict[str, Any], list[str] | None]] = []
        self.Checkpoint = SimpleNamespace(from_directory=Path)

    def get_context(self) -> Any:
        if self.size is None:
            raise RuntimeError("this is no worker")
        return SimpleNamespace(get_world_size=lambda: self.size)

    def report(self, metrics: dict[str, Any], checkpoint: Path | None = None) -> None:
        names = None
        if checkpoint is not None:
            names = sorted(each.name for each in checkpoint.iterdir())
            shutil.copytree(checkpoint, self.storage / str(sum(files is not None for _, files in self.reports)))
        self.reports.append((metrics, names))


@pytest.fixture
def worker(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Worker:
    worker = Worker(1, tmp_path_factory.mktemp("storage"))
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    monkeypatch.setitem(sys.modules, "ray.train", worker)
    return worker


def trainer(folder: Path, *callbacks: Any, **settings: Any) -> Trainer:
    checkpoint = Checkpoint(folder, weights=False)
    return Trainer(lambda batch: batch, [1.0, 3.0], epochs=2, callbacks=[*callbacks, checkpoint], **settings)


def test_it_reports_the_metrics_of_an_epoch_with_its_checkpoint_alone(tmp_path: Path, worker: Worker) -> None:
    trainer(tmp_path, RayReport()).fit()
    names = ["checkpoint-000001-epoch-1-step-2.safetensors", "checkpoint-000002-epoch-2-step-4.safetensors"]
    assert worker.reports == [
        ({"epoch": 1, "step": 2, "loss": 2.0}, [names[0], "history-000001.jsonl"]),
        ({"epoch": 2, "step": 4, "loss": 2.0}, [names[1], "history-000001.jsonl"]),
    ]


def test_a_checkpoint_within_an_epoch_comes_with_the_epoch_before(tmp_path: Path, worker: Worker) -> None:
    checkpoint = Checkpoint(tmp_path, every=1, interval="step", weights=False)
    Trainer(lambda batch: batch, [1.0, 3.0], epochs=2, callbacks=[RayReport(), checkpoint]).fit()
    assert [metrics for metrics, _ in worker.reports] == [
        {"epoch": 0, "step": 1},
        {"epoch": 0, "step": 2},
        {"epoch": 1, "step": 3, "loss": 2.0},
        {"epoch": 1, "step": 4, "loss": 2.0},
        {"epoch": 2, "step": 4, "loss": 2.0},
    ]


def test_a_checkpoint_that_was_written_behind_comes_with_its_own_metrics(tmp_path: Path, worker: Worker) -> None:
    report, saves = RayReport(), list[Saved]()
    losses = iter([1.0, 3.0, 5.0, 7.0])
    checkpoint = Checkpoint(tmp_path, weights=False)
    trainer = Trainer(lambda batch: next(losses), [1, 2], epochs=2, callbacks=[report, checkpoint])
    trainer.on(Saved)(saves.append)
    trainer.fit()
    report.on_saved(saves[0])  # as if the second epoch had been trained meanwhile
    assert worker.reports[-1][0] == worker.reports[0][0] == {"epoch": 1, "step": 2, "loss": 2.0}
    assert worker.reports[1][0] == {"epoch": 2, "step": 4, "loss": 6.0}


def test_all_workers_report_equally_often_and_the_first_one_has_the_files_of_all(
    tmp_path: Path, worker: Worker
) -> None:
    worker.size = 2

    def run(group: ThreadGroup) -> None:
        trainer(tmp_path, RayReport(), group=group).fit()

    run_in_threads(2, run)
    files = [checkpoint for _, checkpoint in worker.reports if checkpoint is not None]
    assert len(worker.reports) == 4
    assert [len(each) for each in files] == [3, 3]  # the part of the second one too
    assert any("rank-1" in name for name in files[0])


def test_a_run_that_goes_on_reports_what_comes_after(tmp_path: Path, worker: Worker) -> None:
    trainer(tmp_path, RayReport()).fit(1)
    trainer(tmp_path, RayReport()).fit(2, resume="auto")
    assert [metrics["epoch"] for metrics, _ in worker.reports] == [1, 2]


def test_what_was_reported_is_enough_to_go_on_elsewhere(tmp_path: Path, worker: Worker) -> None:
    worker.size = 2

    def begin(group: ThreadGroup) -> None:
        trainer(tmp_path / "here", RayReport(), group=group).fit(1)

    def go_on(group: ThreadGroup) -> list[dict[str, float]]:
        history = trainer(tmp_path / "there", RayReport(), group=group).fit(resume=worker.storage / "0")
        return [dict(record.metrics) for record in history]

    run_in_threads(2, begin)
    shutil.rmtree(tmp_path / "here")
    assert run_in_threads(2, go_on) == [[{"loss": 2.0}, {"loss": 2.0}]] * 2
    assert [metrics["epoch"] for metrics, files in worker.reports if files is not None] == [1, 2]


@pytest.mark.parametrize("refused", [["link"], ["link", "symlink"]])
def test_where_a_file_cannot_be_linked_it_is_reported_all_the_same(
    refused: list[str], tmp_path: Path, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")  # as where temporary files are on another file system

    folder = tmp_path / "run"
    folder.mkdir()
    checkpoint = trainer(folder, RayReport())
    # What the checkpoint itself links is linked: only the temporary folder is elsewhere.
    report, linked = worker.report, list[bool]()

    def look(metrics: dict[str, Any], checkpoint: Path | None = None) -> None:
        assert checkpoint is not None
        linked.extend(each.is_symlink() for each in checkpoint.iterdir())
        report(metrics, checkpoint)

    monkeypatch.setattr(worker, "report", look)
    for name in refused:
        monkeypatch.setattr(ray_report.os, name, refuse)
    checkpoint.fit(1)
    file = "checkpoint-000001-epoch-1-step-2.safetensors"
    assert linked == [refused == ["link"]] * 2
    assert (worker.storage / "0" / file).read_bytes() == (folder / file).read_bytes()
    assert not (worker.storage / "0" / file).is_symlink()


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (None, RuntimeError, "RayReport must be used in a function that Ray Train runs: this is no worker"),
        (4, RuntimeError, "RayReport must be used on all workers of a run: Ray Train has 4, and 1 are connected here"),
    ],
)
def test_it_is_refused_where_it_could_not_report(
    size: int | None, error: type[Exception], message: str, tmp_path: Path, worker: Worker
) -> None:
    worker.size = size
    with pytest.raises(error, match=message):
        trainer(tmp_path, RayReport()).fit()


def test_it_needs_a_checkpoint_beside_it(worker: Worker) -> None:
    with pytest.raises(ValueError, match="'callbacks' must have a Checkpoint beside RayReport"):
        Trainer(lambda batch: batch, [1.0], callbacks=[RayReport()]).fit()


def test_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"RayReport needs Ray Train: pip install 'lucid-train\[ray\]'"):
        trainer(tmp_path, RayReport()).fit()
