"""PyTorch's training modes around `evaluate`: off while it runs, and afterwards as they were."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import define, field
from torch import nn

from lucid_train import Trainer
from lucid_train.callbacks import Checkpoint

DATA = list(torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0)))
HELD_OUT = torch.randn(32, 3, generator=torch.Generator().manual_seed(1))


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def network() -> nn.Sequential:
    """Return one with a dropout, a batch norm that is trained, and one that is frozen."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4), nn.BatchNorm1d(4))
    model[4].eval().requires_grad_(False)
    return model


@define
class Watched:
    """A training that notes the modes in which its model is trained and evaluated, and changes none.

    Attributes:
        trained: The modes at each step.
        evaluated: The modes at each evaluation.
    """

    model: Any = field(factory=network)
    trained: list[list[bool]] = field(factory=list, init=False)
    evaluated: list[list[bool]] = field(factory=list, init=False)
    during_evaluation: Callable[[], object] = lambda: None

    def step(self, batch: torch.Tensor) -> torch.Tensor:
        self.trained.append(modes(self.model))
        loss: torch.Tensor = self.model(batch).square().mean()
        return loss

    def evaluate(self) -> torch.Tensor:
        self.evaluated.append(modes(self.model))
        self.during_evaluation()
        with torch.no_grad():
            loss: torch.Tensor = self.model(HELD_OUT).square().mean()
            return loss

    def fit(self, **settings: Any) -> Any:
        settings = {"epochs": 3, "model": self.model, **settings}
        return Trainer(self.step, DATA, evaluate=self.evaluate, **settings).fit()


TRAINING, OFF = [True, True, True, True, True, False], [False] * 6


def test_dropout_and_batch_norm_are_off_while_a_model_is_evaluated_and_on_again_afterwards() -> None:
    watched = Watched()
    history = watched.fit()
    assert (watched.trained, watched.evaluated) == ([TRAINING] * 12, [OFF] * 3)
    frozen, trained = watched.model[4], watched.model[1]
    assert (int(trained.num_batches_tracked), int(frozen.num_batches_tracked)) == (12, 0)
    watched.model.eval()
    assert history[-1].metrics["val_loss"] == watched.evaluate().item()


def test_so_they_are_in_evaluations_within_an_epoch() -> None:
    watched = Watched()
    watched.fit(evaluate_every="3 steps")
    assert (watched.trained, watched.evaluated) == ([TRAINING] * 12, [OFF] * 4)


def test_what_evaluate_switches_itself_is_put_back_too() -> None:
    watched = Watched()
    watched.during_evaluation = lambda: watched.model[3].train()
    watched.fit()
    assert (watched.trained, modes(watched.model)) == ([TRAINING] * 12, TRAINING)


def test_modes_are_left_to_evaluate_where_that_is_asked_for_and_put_back_all_the_same() -> None:
    watched = Watched()
    watched.during_evaluation = watched.model.eval
    watched.fit(eval_mode=False)
    assert (watched.trained, watched.evaluated, modes(watched.model)) == ([TRAINING] * 12, [TRAINING] * 3, TRAINING)


def test_they_are_put_back_when_an_evaluation_fails() -> None:
    def fail() -> None:
        raise OSError("no such file")

    watched = Watched()
    watched.during_evaluation = fail
    with pytest.raises(OSError, match="no such file"):
        watched.fit()
    assert (watched.evaluated, modes(watched.model)) == ([OFF], TRAINING)
    watched.during_evaluation = lambda: None
    watched.fit()
    assert (watched.trained, watched.evaluated) == ([TRAINING] * 16, [OFF] * 4)


def test_and_when_the_run_is_stopped_in_one(tmp_path: Path) -> None:
    watched = Watched()
    watched.during_evaluation = lambda: os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        watched.fit(callbacks=[Checkpoint(tmp_path)])
    assert (watched.evaluated, modes(watched.model)) == ([OFF], TRAINING)


class Merging(nn.Linear):
    """A layer that adds a correction to its weights in eval mode and takes it out again, as those of LoRA do."""

    def __init__(self) -> None:
        super().__init__(3, 3, bias=False)
        self.correction, self.merged = nn.Parameter(torch.ones(3, 3)), False

    def train(self, mode: bool = True) -> Merging:
        super().train(mode)
        if self.merged is mode:
            self.weight.data += -self.correction.data if mode else self.correction.data
            self.merged = not mode
        return self

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return super().forward(rows) + (0 if self.merged else rows @ self.correction.T)


def test_a_layer_that_does_more_in_eval_mode_undoes_it() -> None:
    model = nn.Sequential(Merging(), nn.Dropout())
    weight, layer = model[0].weight.detach().clone(), model[0]
    merged: list[bool] = []
    watched = Watched(model, during_evaluation=lambda: merged.append(layer.merged))
    watched.fit(epochs=1)
    assert (merged, layer.merged) == ([True], False)
    torch.testing.assert_close(layer.weight.detach(), weight)


def test_a_module_that_two_others_hold_is_as_before() -> None:
    shared = nn.Dropout()
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 3), shared), nn.Sequential(shared, nn.Linear(3, 3)))
    model[0].train(False)
    model[1].train(True)
    model[1].training = False
    before = modes(model)
    assert before == [True, False, False, True, False, True]
    watched = Watched(model)
    watched.fit()
    assert (watched.evaluated, modes(model)) == ([[False] * 6] * 3, before)


def test_a_compiled_model_is_switched_as_the_one_in_it() -> None:
    watched = Watched(torch.compile(network(), backend="eager"))
    watched.fit(epochs=2)
    assert (watched.trained, watched.evaluated) == ([[True, *TRAINING]] * 8, [[False, *OFF]] * 2)


def test_networks_among_the_extras_are_switched_as_the_model_is() -> None:
    watched = Watched()
    trainer = Trainer(watched.step, DATA, evaluate=watched.evaluate, extras={"critic": watched.model})
    assert "\nevaluation: after extras.critic.eval(); training modes are put back\n" in str(trainer.plan())
    trainer.fit(2)
    assert (watched.trained, watched.evaluated) == ([TRAINING] * 8, [OFF] * 2)
