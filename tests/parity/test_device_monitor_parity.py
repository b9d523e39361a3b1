"""The recipe that samples the process and a GPU, with psutil, and with nvidia-ml-py where there is no such GPU."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pynvml
import pytest

from lucid_train import Callback, FitStart, Trainer, on, replay
from lucid_train.callbacks import Checkpoint, CSVLogger, EventLog
from lucid_train.cli.main import main
from lucid_train.testing import run_in_threads
from tests.support.examples import EXAMPLES, load_example

recipe: Any = load_example("device_monitor")
NO_GPU = 999  # none has this number, on a machine with a driver too


def monitor(*, metrics: bool = False) -> Any:
    return recipe.DeviceMonitor(gpu=NO_GPU, metrics=metrics)


def samples(path: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, path.read_text("utf-8").splitlines())
    return [line["fields"] for line in lines if line["event"] == "DeviceSample"]


def test_the_log_has_a_sample_of_every_fiftieth_step_and_every_end_of_an_epoch(tmp_path: Path) -> None:
    callbacks = [monitor(), EventLog(tmp_path / "run.jsonl")]
    Trainer(lambda batch: 0.5, range(120), epochs=2, callbacks=callbacks).fit()
    found = samples(tmp_path / "run.jsonl")
    assert [each["step"] for each in found] == [50, 100, 120, 150, 200, 240]
    assert {tuple(each["values"]) for each in found} == {("cpu_percent", "rss_gib")}


def test_the_numbers_are_those_of_this_process(tmp_path: Path) -> None:
    def step(batch: int) -> None:  # a core is busy, then none is
        end = time.process_time() + 0.3
        while batch == 0 and time.process_time() < end:
            pass
        time.sleep(0.3 * batch)

    watched = monitor(metrics=True)
    history = Trainer(step, range(1), callbacks=[watched]).fit()
    busy = history[0].metrics
    watched = monitor(metrics=True)
    idle = Trainer(step, [1], callbacks=[watched]).fit()[0].metrics
    assert busy["device_cpu_percent"] > 2 * idle["device_cpu_percent"]
    assert busy["device_rss_gib"] == pytest.approx(psutil.Process().memory_info().rss / 2**30, rel=0.2)


def test_as_a_metric_it_is_in_the_history_and_the_table(tmp_path: Path) -> None:
    watched = monitor(metrics=True)
    callbacks = [watched, CSVLogger(tmp_path / "run.csv")]
    history = Trainer(lambda batch: 0.5, range(3), epochs=2, callbacks=callbacks).fit()
    with (tmp_path / "run.csv").open(encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    for name in ("device_cpu_percent", "device_rss_gib"):
        assert [float(row[name]) for row in rows] == history.metric(name)


def test_two_runs_that_are_watched_do_not_differ_unless_it_is_a_metric(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory: list[bytearray] = []

    def trained(name: str, *, is_metric: bool) -> str:
        watched, path = monitor(metrics=is_metric), tmp_path / name
        memory.append(bytearray(b"1") * (1 << 24))  # so that the second run is another one
        Trainer(lambda batch: 0.5, range(50), callbacks=[watched, EventLog(path)]).fit()
        return str(path)

    assert main(["diff", trained("a", is_metric=False), trained("b", is_metric=False)]) == 0
    assert main(["diff", trained("c", is_metric=True), trained("d", is_metric=True)]) == 1
    assert "device_" in capsys.readouterr().out


def test_a_replay_of_the_log_brings_the_samples_back(tmp_path: Path) -> None:
    Trainer(lambda batch: 0.5, range(50), callbacks=[monitor(), EventLog(tmp_path / "run.jsonl")]).fit()
    received: list[Any] = []

    class Samples(Callback):
        @on(recipe.DeviceSample)
        def keep(self, event: Any) -> None:
            received.append(event)

    replay(tmp_path / "run.jsonl", [Samples()])
    assert [{"step": each.step, "values": each.values} for each in received] == samples(tmp_path / "run.jsonl")


def test_a_run_that_is_resumed_goes_on_in_the_same_log(tmp_path: Path) -> None:
    def trainer(epochs: int) -> Trainer:
        watched = monitor(metrics=True)
        saving = Checkpoint(tmp_path / "run", weights=False)
        callbacks = [watched, saving, EventLog(tmp_path / "run.jsonl")]
        return Trainer(lambda batch: 0.5, range(60), epochs=epochs, callbacks=callbacks)

    trainer(1).fit()
    history = trainer(3).fit(resume="auto")
    assert [each["step"] for each in samples(tmp_path / "run.jsonl")] == [50, 60, 100, 120, 150, 180]
    assert len(history.metric("device_rss_gib")) == 3


def test_without_a_driver_or_the_gpu_the_process_alone_is_sampled_and_the_header_says_why(tmp_path: Path) -> None:
    with pytest.raises(pynvml.NVMLError) as caught:
        recipe.open_gpu(NO_GPU)
    watched = monitor(metrics=True)
    history = Trainer(lambda batch: 0.5, range(2), callbacks=[watched]).fit()
    assert [*history[0].metrics] == ["loss", "device_cpu_percent", "device_rss_gib"]
    why = f"{type(caught.value).__name__}: {caught.value}"
    assert watched.describe() == {"sampling": f"this process, no GPU ({why})"}
    assert re.match("NVMLError_(LibraryNotFound|InvalidArgument|DriverNotLoaded): ", why)


def test_without_the_package_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    watched = monitor()
    Trainer(lambda batch: 0.5, range(2), callbacks=[watched]).fit()
    assert "no GPU (ModuleNotFoundError: import of pynvml" in watched.describe()["sampling"]


def test_a_reading_that_fails_does_not_end_the_training() -> None:
    watched = monitor(metrics=True)

    class Lost(Callback):
        def on_fit_start(self, event: FitStart) -> None:
            watched._readings = {"gpu_percent": lambda: pynvml.nvmlDeviceGetHandleByIndex(NO_GPU)}

    history = Trainer(lambda batch: 0.5, range(2), callbacks=[watched, Lost()]).fit()
    assert [*history[0].metrics] == ["loss", "device_cpu_percent", "device_rss_gib"]


def test_of_many_processes_each_is_sampled_and_the_metric_is_their_mean() -> None:
    def train(group: Any) -> list[float]:
        watched = monitor(metrics=True)
        trainer = Trainer(lambda batch: 0.5, range(2), callbacks=[watched], group=group)
        return trainer.fit().metric("device_rss_gib")

    [one, other] = run_in_threads(2, train)
    assert one == other


def test_the_example_runs_without_a_warning() -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "device_monitor.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("{'step': ") == 6
