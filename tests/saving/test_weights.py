"""Weights are not forgotten: a run that trains and saves none is refused when its fit starts."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucid_train import Trainer, nn, optims
from lucid_train.callbacks import Checkpoint

REFUSED = re.escape(
    "'model' must be given to be saved: this run trains, and resumed it would go on with other weights; pass "
    "Trainer(model=...), several models as extras={'generator': ..., ...}, or Checkpoint(..., weights=False) "
    "if there are none to be kept"
)


class Held:
    """Something with a state, which is what it was given."""

    def __init__(self, **state: Any) -> None:
        self.held = state

    def state_dict(self) -> dict[str, Any]:
        return self.held

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.held = state


def sgd(**settings: Any) -> optims.SGD:
    return optims.SGD(nn.Linear(1, 1, rng=0).parameters(), lr=0.1, **settings)


def stepped() -> optims.SGD:
    """Return an optimizer whose state holds arrays."""
    optimizer = sgd(momentum=0.9)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = np.ones(parameter.data.shape)
    optimizer.step()
    return optimizer


FORGETFUL: dict[str, Callable[[], dict[str, Any]]] = {
    "a step": lambda: {"step": lambda batch: 0.5},
    "an optimizer": lambda: {"optimizer": sgd()},
    "a generator": lambda: {"step": lambda batch: 0.5, "extras": {"noise": np.random.default_rng(0)}},
    "a second optimizer": lambda: {"optimizer": sgd(), "extras": {"optimizer": stepped()}},
    "a scaler": lambda: {"step": lambda batch: 0.5, "extras": {"scaler": Held(scale=65536.0, growth=2000)}},
    "a rate as an array": lambda: {"step": lambda batch: 0.5, "extras": {"schedule": Held(rates=[np.array(0.1)])}},
    "counters": lambda: {"step": lambda batch: 0.5, "extras": {"seen": Held(counts=np.arange(3))}},
}
MINDFUL: dict[str, Callable[[], dict[str, Any]]] = {
    "a rehearsal": dict,
    "a model": lambda: {"step": lambda batch: 0.5, "model": nn.Linear(1, 1)},
    "a model without an optimizer": lambda: {"step": lambda batch: 0.5, "model": Held()},
    "two models": lambda: {"optimizer": sgd(), "extras": {"one": nn.Linear(1, 1), "other": nn.Linear(1, 1)}},
    "arrays in a tree": lambda: {"step": lambda batch: 0.5, "extras": {"net": Held(layers=[{"w": np.ones(2)}])}},
}


@pytest.mark.parametrize("made", FORGETFUL.values(), ids=FORGETFUL)
def test_a_run_that_trains_and_has_no_weights_to_save_is_refused_before_the_first_step(
    made: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    trainer = Trainer(**{"epochs": 2, **made()}, callbacks=[Checkpoint(tmp_path)])
    with pytest.raises(ValueError, match=REFUSED):
        trainer.fit(resume="auto")
    assert (list(tmp_path.iterdir()), len(trainer.state_dict()["progress"]["history"]["epoch"])) == ([], 0)


@pytest.mark.parametrize("made", FORGETFUL.values(), ids=FORGETFUL)
def test_it_may_be_meant(made: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    for epochs in (1, 2):
        trainer = Trainer(**made(), epochs=epochs, callbacks=[Checkpoint(tmp_path, weights=False)])
        assert len(trainer.fit(resume="auto", accept="epochs")) == epochs


@pytest.mark.parametrize("made", MINDFUL.values(), ids=MINDFUL)
def test_a_run_that_saves_its_weights_or_has_none_is_not_refused(
    made: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    assert len(Trainer(**made(), callbacks=[Checkpoint(tmp_path)]).fit(resume="auto")) == 1
