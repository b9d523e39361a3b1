"""A callback of your own that samples this process and a GPU: events in the log, and metrics for the trackers.

Needs psutil, and for NVIDIA's GPUs nvidia-ml-py; without that, a driver or a GPU it samples the process alone.
"""

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import psutil
from attrs import define, field

from lucid_train import TRANSIENT, Callback, EpochEnd, Event, FitStart, StepEnd, Trainer, on
from lucid_train.callbacks import EventLog, RichLogger

GIB = 2**30


@define(kw_only=True)
class DeviceSample(Event):
    """What a process and its GPU were doing."""

    step: int
    values: dict[str, float]


@define(eq=False)
class DeviceMonitor(Callback):
    """Emit a DeviceSample every 50 steps and at the end of each epoch, which EventLog records.

    With `metrics=True` the samples at the ends of epochs are metrics too.
    """

    gpu: int = field(default=0, kw_only=True)  # as nvidia-smi numbers them
    metrics: bool = field(default=False, kw_only=True)
    _latest: dict[str, float] = field(factory=dict, init=False, repr=False, metadata=TRANSIENT)
    _sampled_at: float = field(default=0.0, init=False, repr=False, metadata=TRANSIENT)
    _process: Any = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _readings: dict[str, Callable[[], float]] = field(factory=dict, init=False, repr=False, metadata=TRANSIENT)
    _missing: str = field(default="", init=False, repr=False, metadata=TRANSIENT)

    def settings(self) -> dict[str, Any]:
        return {}  # what is watched does not change the training

    def on_fit_start(self, event: FitStart) -> None:
        self._process, self._sampled_at = psutil.Process(), 0.0
        self._process.cpu_percent()  # each call returns the share since the one before
        try:
            self._readings = open_gpu(self.gpu)
        except Exception as error:  # of an import, a driver or a GPU that is not there
            self._missing = f"{type(error).__name__}: {error}"

    def describe(self) -> dict[str, str]:
        return {"sampling": "this process, " + (f"no GPU ({self._missing})" if self._missing else f"GPU {self.gpu}")}

    @on(StepEnd, every=50)
    def sample_step(self, event: StepEnd) -> None:
        self.update()
        event.run.emit(DeviceSample(event.run, step=event.step, values=self._latest))

    def on_epoch_end(self, event: EpochEnd) -> None:
        self.update()
        event.run.emit(DeviceSample(event.run, step=event.run.step, values=self._latest))

    def update(self) -> None:
        """Take a sample, unless there is one of this moment: a share of no time is none."""
        if (now := monotonic()) - self._sampled_at < 0.1:
            return
        self._sampled_at = now
        self._latest = {"cpu_percent": self._process.cpu_percent(), "rss_gib": self._process.memory_info().rss / GIB}
        for name, read in self._readings.items():
            with suppress(Exception):  # a driver that does not answer is no reason to end a training
                self._latest[name] = read()

    def epoch_metrics(self) -> dict[str, float]:
        if self.metrics:
            self.update()
        return {f"device_{name}": value for name, value in self._latest.items()} if self.metrics else {}


def open_gpu(number: int) -> dict[str, Callable[[], float]]:
    """Return what can be read of a GPU: a part of one, as MIG makes them, has no utilization."""
    nvml: Any = import_module("pynvml")
    nvml.nvmlInit()
    gpu = nvml.nvmlDeviceGetHandleByIndex(number)
    found: dict[str, Callable[[], float]] = {}
    readings: dict[str, Callable[[], float]] = {
        "gpu_percent": lambda: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
        "gpu_gib": lambda: nvml.nvmlDeviceGetMemoryInfo(gpu).used / GIB,
        "gpu_watts": lambda: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
    }
    for name, read in readings.items():
        with suppress(nvml.NVMLError):
            read()
            found[name] = read
    return found


def main() -> None:
    """Train, and read the samples in the log and in the history."""
    generator = np.random.default_rng(0)

    def step(batch: Any) -> float:
        return float(np.sort(generator.random(400_000))[200_000])

    with tempfile.TemporaryDirectory() as folder:
        monitor, log = DeviceMonitor(metrics=True), Path(folder) / "run.jsonl"
        callbacks = [monitor, EventLog(log), RichLogger()]
        history = Trainer(step, range(100), epochs=2, callbacks=callbacks).fit()
        for event in map(json.loads, log.read_text().splitlines()):
            if event["event"] == "DeviceSample":
                print({name: event["fields"][name] for name in ("step", "values")})
    print("metrics:", *history[-1].metrics)


if __name__ == "__main__":
    main()
