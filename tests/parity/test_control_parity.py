"""`lucid-train control` of a run on two processes of torchrun, which connects them by gloo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.launchers import Launched, torchrun
from tests.support.processes import run

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys, time
from pathlib import Path
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from lucid_train import CommandAnswered, Trainer
from lucid_train.callbacks import Checkpoint, EventLog, LRSchedulerCallback
from lucid_train.schedules import Cosine

folder = Path(sys.argv[1])
dist.init_process_group("gloo")
torch.manual_seed(0)
model = DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

def step(batch):
    time.sleep(0.01)
    loss = model(batch).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss

trainer = Trainer(
    step, [torch.randn(8, 4) for _ in range(2000)], model=model, optimizer=optimizer, epochs=50,
    evaluate=lambda: dist.get_rank() + 0.5,
    callbacks=[
        LRSchedulerCallback(Cosine()), Checkpoint(folder / "run", every=None), EventLog(folder / "log", heartbeat=0.1),
    ],
)
answers = []
trainer.on(CommandAnswered)(lambda event: answers.append([event.command, event.step, event.answer]))
status = trainer.fit(resume="auto").status
found = {"status": status, "answers": answers, "lr": optimizer.param_groups[0]["lr"], "step": trainer._run.step}
(folder / f"ended-{dist.get_rank()}.json").write_text(json.dumps(found))
dist.destroy_process_group()
"""


def ended(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"ended-{rank}.json").read_text()) for rank in range(2)]


def test_both_processes_do_what_one_terminal_asks_for_and_go_on_with_it(tmp_path: Path) -> None:
    program, log = tmp_path / "program.py", tmp_path / "log"
    program.write_text(PROGRAM)
    with Launched(torchrun(program, tmp_path), tmp_path / "first") as launched:
        launched.wait_until(lambda: log.exists() and '"event":"EpochStart"' in log.read_text())
        done = [run("control", log, *words.split(), "--wait", 100) for words in ("set lr=0.02", "evaluate", "stop")]
        assert [(each.returncode, each.stderr) for each in done] == [(0, "")] * 3
        assert launched.wait() == 0, launched.errors
    first, second = ended(tmp_path)
    assert first == second
    assert [command for command, _, _ in first["answers"]] == ["set lr=0.02", "evaluate", "stop"]
    assert first["answers"][1][2].endswith("val_loss 1")  # the mean of both
    assert (first["status"], first["lr"]) == ("stopped", 0.02)
    with Launched(torchrun(program, tmp_path), tmp_path / "second") as launched:
        begun = first["step"]
        launched.wait_until(lambda: '"event":"progress"' in "".join(log.read_text().split('"event":"FitStart"')[2:]))
        assert run("control", log, "stop", "--wait", 100).returncode == 0
        assert launched.wait() == 0, launched.errors
    first, second = ended(tmp_path)
    assert first == second
    assert first["step"] > begun
    assert first["lr"] == 0.02
