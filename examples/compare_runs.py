"""Find out where two runs part: by their logs, and in lockstep.

The second run differs from the first in one number of one batch. Pass a folder for the logs:
`python compare_runs.py runs`. Then:

    lucid-train diff runs/one.jsonl runs/other.jsonl
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lucid_train import Trainer, nn, optims
from lucid_train.callbacks import EventLog
from lucid_train.data import batches, digits
from lucid_train.testing import first_divergence

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())


def build(log: Path, *, broken: bool) -> Trainer:
    """Return a Trainer; a broken one reads a pixel wrong in its 10th step."""
    images, labels, _, _ = digits(seed=0)
    model = nn.Linear(64, 10, rng=0)
    criterion = nn.CrossEntropyLoss()
    optimizer = optims.Adam(model.parameters(), lr=0.01)

    def step(batch: tuple[NDArray[np.float64], NDArray[np.intp]]) -> float:
        inputs, targets = batch
        if broken and optimizer.step_count == 9:
            inputs = inputs + 1e-6 * np.eye(len(inputs), 64, k=20)
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        model.backward(criterion.backward())
        optimizer.step()
        return loss

    data = batches(images, labels, batch_size=128)
    return Trainer(step, data, epochs=2, model=model, optimizer=optimizer, callbacks=[EventLog(log, digests=5)])


build(folder / "one.jsonl", broken=False).fit()
build(folder / "other.jsonl", broken=True).fit()
print(f"lucid-train diff {folder / 'one.jsonl'} {folder / 'other.jsonl'}")
print(first_divergence(*(partial(build, folder / "again.jsonl", broken=broken) for broken in (False, True))))
