"""The same as tests/training/test_survival.py for a PyTorch model and a shuffling DataLoader."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.processes import assert_survives
from tests.support.survival import assert_other_processes_go_on, assert_survives_soaking

PROGRAM = """
import random, sys, time
import numpy, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from lucid_train import Trainer
from lucid_train.callbacks import Checkpoint, EarlyStopping, LRSchedulerCallback
from lucid_train.saving.checkpoint import write_checkpoint
from lucid_train.data import digits

directory, result = sys.argv[1:]
torch.set_num_threads(1)
torch.manual_seed(0)
numpy.random.seed(0)
random.seed(0)
images, labels, test_images, test_labels = (torch.from_numpy(array) for array in digits())
images, labels, test_images = images[:400].float(), labels[:400], test_images.float()
model = nn.Sequential(nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.2), nn.Linear(24, 10))
model.register_buffer("halves", torch.randn(5).bfloat16())
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
data = DataLoader(TensorDataset(images, labels), batch_size=20, shuffle=True)

def step(batch):
    x, y = batch
    model.train()
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    model.halves += loss.detach().bfloat16()
    time.sleep(0.001)
    return loss

def evaluate():
    model.eval()
    with torch.no_grad():
        return {"accuracy": (model(test_images).argmax(dim=1) == test_labels).float().mean()}

trainer = Trainer(
    step=step, data=data, epochs=4, model=model, optimizer=optimizer, evaluate=evaluate,
    callbacks=[
        LRSchedulerCallback(torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=200), interval="step"),
        EarlyStopping("val_accuracy", mode="max", restore_best=False),
        Checkpoint(directory, every=7, interval="step", keep=2),
    ],
)
print("ready", flush=True)
trainer.fit(resume="auto")
write_checkpoint(result, trainer.state_dict())
"""


@pytest.mark.slow
@pytest.mark.timeout(300)  # some twenty processes that import PyTorch
def test_a_run_that_is_killed_twelve_times_ends_as_one_that_is_not(tmp_path: Path) -> None:
    assert torch.__version__
    assert_survives(PROGRAM, tmp_path, kills=12, longest=0.25)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_runs_of_the_table_are_killed_at_random_moments_and_end_as_those_that_are_not() -> None:
    assert_survives_soaking("kills", 40, "torch")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_runs_of_the_table_that_are_asked_to_end_lose_no_step_and_go_on() -> None:
    assert_survives_soaking("signals", 20, "torch")


def test_a_process_that_has_just_begun_goes_on_exactly(tmp_path: Path) -> None:
    names = (
        "shuffled, noise in the step, dropout",
        "2 workers",
        "AdamW, amsgrad, two groups",
        "a GradScaler that skips",
        "two models and two optimizers",
        "callbacks of one family each",
    )
    assert_other_processes_go_on("tests.parity.setups", names, tmp_path)
