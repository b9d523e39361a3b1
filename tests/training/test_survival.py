"""A run that is killed at any moment, started again with the same command, comes to the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.processes import assert_survives
from tests.support.survival import assert_other_processes_go_on, assert_survives_soaking

# The numpy layers on the digits, in a shuffled order; the step draws from numpy's own generator and from Python's.
PROGRAM = """
import random, sys, time
import numpy as np
from lucid_train import Trainer, nn, optims
from lucid_train.callbacks import Checkpoint, CosineAnnealingLRCallback, EarlyStopping
from lucid_train.saving.checkpoint import write_checkpoint
from lucid_train.data import batches, digits

directory, result = sys.argv[1:]
images, labels, test_images, test_labels = digits()
images, labels = images[:600], labels[:600]
model = nn.Sequential(nn.Linear(64, 24, rng=0), nn.ReLU(), nn.Linear(24, 10, rng=1))
criterion = nn.CrossEntropyLoss()
optimizer = optims.Adam(model.parameters(), lr=0.01)
noise = np.random.default_rng(5)
np.random.seed(1)
random.seed(2)

def step(batch):
    x, y = batch
    optimizer.zero_grad()
    x = x + 0.1 * noise.standard_normal(x.shape) + 0.01 * np.random.rand() + 0.01 * random.random()
    loss = criterion(model(x), y)
    model.backward(criterion.backward())
    optimizer.step()
    time.sleep(0.001)
    return loss

def evaluate():
    return {"accuracy": float((model(test_images).argmax(axis=1) == test_labels).mean())}

checkpoint = Checkpoint(directory, every=7, interval="step", keep=2, monitor="val_accuracy", mode="max")
schedule = CosineAnnealingLRCallback(T_max=150, interval="step")
trainer = Trainer(
    step=step, data=batches(images, labels, batch_size=20), epochs=5, model=model, optimizer=optimizer,
    evaluate=evaluate, extras={"noise": noise},
    callbacks=[checkpoint, EarlyStopping("val_accuracy", mode="max"), schedule],
)
print("ready", flush=True)
trainer.fit(resume="auto")
write_checkpoint(result, trainer.state_dict())
"""


@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_at_random_moments_ends_as_one_that_is_not(tmp_path: Path, kills: int) -> None:
    assert_survives(PROGRAM, tmp_path, kills=kills, longest=0.12)


def test_twenty_runs_of_the_table_are_killed_at_random_moments_and_end_as_those_that_are_not() -> None:
    assert_survives_soaking("kills", 20, "numpy")


def test_runs_of_the_table_that_are_asked_to_end_lose_no_step_and_go_on() -> None:
    assert_survives_soaking("signals", 10, "numpy")


def test_a_process_that_has_just_begun_goes_on_exactly(tmp_path: Path) -> None:
    names = ("callbacks of one family each", "own generator as data, evaluated within epochs", "one cycle")
    assert_other_processes_go_on("tests.support.setups", names, tmp_path)
