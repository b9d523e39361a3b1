"""A callback of your own that runs torch.profiler over a window of steps, and writes a trace for each.

Needs PyTorch. Open a trace at ui.perfetto.dev or in chrome://tracing.
"""

import json
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import torch
from attrs import define, field
from torch import Tensor, nn

from lucid_train import TRANSIENT, Callback, FitEnd, StepEnd, StepStart, Trainer
from lucid_train.callback import Ranks


@define(eq=False)
class ProfileSteps(Callback):
    """Profile the steps from `first` to `last`, and write what was profiled when the fit ends within them."""

    ranks: ClassVar[Ranks] = "first"  # of many processes; "all" needs a name of its own for each trace

    folder: Path
    first: int = field(kw_only=True)
    last: int = field(kw_only=True)
    _profiler: Any = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _range: Any = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _steps: list[int] = field(factory=list, init=False, repr=False, metadata=TRANSIENT)

    def settings(self) -> dict[str, Any]:
        return {}  # what is profiled does not change the training

    def on_step_start(self, event: StepStart) -> None:
        if not self.first <= event.step <= self.last:
            return
        if self._profiler is None:
            self._profiler, self._steps = torch.profiler.profile(record_shapes=True), []
            self._profiler.start()
        self._steps.append(event.step)
        self._range = torch.profiler.record_function(f"ProfilerStep#{event.step}")  # the name that viewers look for
        self._range.__enter__()

    def on_step_end(self, event: StepEnd) -> None:
        if self._profiler is not None:
            self._range.__exit__(None, None, None)
            self._range = None
            if event.step == self.last:
                self._write()

    def on_fit_end(self, event: FitEnd) -> None:
        if self._profiler is not None:  # the fit ends within the window, by a failure perhaps
            self._write()

    def _write(self) -> None:
        profiler, self._profiler = self._profiler, None
        if self._range is not None:
            self._range.__exit__(None, None, None)
            self._range = None
        profiler.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(self.folder / f"steps-{self._steps[0]}-{self._steps[-1]}.json"))


def main() -> None:
    """Train, and read which steps and how much of what is in the trace."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(batch: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    with tempfile.TemporaryDirectory() as folder:
        profiled = ProfileSteps(Path(folder), first=6, last=8)
        Trainer(step, torch.randn(20, 32, 64), model=model, optimizer=optimizer, callbacks=[profiled]).fit()
        [trace] = Path(folder).iterdir()
        names = [event.get("name", "") for event in json.loads(trace.read_text())["traceEvents"]]
        print(trace.name, sorted({name for name in names if name.startswith("ProfilerStep#")}))
        print({name: names.count(name) for name in ("aten::addmm", "aten::mm", "aten::relu")})


if __name__ == "__main__":
    main()
