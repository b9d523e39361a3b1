"""The recipe for schedule-free optimizers, with those of the package schedulefree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schedulefree
import torch

from lucid_train import Callback, StepEnd, Trainer, load_weights, read_checkpoint
from lucid_train.callbacks import Checkpoint
from lucid_train.testing import assert_resumes_exactly, diff_states
from tests.support.examples import EXAMPLES, load_example

recipe: Any = load_example("schedule_free")
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "AdamW": lambda parameters: schedulefree.AdamWScheduleFree(parameters, lr=0.03, warmup_steps=5),
    "AdamW without foreach": lambda parameters: schedulefree.AdamWScheduleFree(parameters, lr=0.03, foreach=False),
    "RAdam": lambda parameters: schedulefree.RAdamScheduleFree(parameters, lr=0.03),
    "SGD": lambda parameters: schedulefree.SGDScheduleFree(parameters, lr=0.1, momentum=0.8),
}


def build(
    optimizer_of: Callable[[Any], Any] = OPTIMIZERS["AdamW"],
    *others: Callback,
    in_step: Callable[[], object] = lambda: None,
    in_evaluate: Callable[[], object] = lambda: None,
    **more: Any,
) -> Trainer:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    optimizer = optimizer_of(model.parameters())
    rows = torch.randn(24, 3)

    def step(batch: Any) -> torch.Tensor:
        in_step()
        optimizer.zero_grad()
        loss = (model(batch[:, 0]) - batch[:, 0].sum(dim=1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    @torch.no_grad()
    def evaluate() -> torch.Tensor:
        in_evaluate()
        return (model(rows) - rows.sum(dim=1, keepdim=True)).square().mean()

    data = torch.utils.data.DataLoader(rows.unsqueeze(1), batch_size=4, shuffle=True)
    callbacks = [recipe.ScheduleFree(model, optimizer), *others]
    return Trainer(
        step, data, model=model, optimizer=optimizer, evaluate=evaluate, callbacks=callbacks, **{"epochs": 3, **more}
    )


def trained(trainer: Trainer) -> dict[str, Any]:
    """Return weights and optimizer, as they are."""
    model, optimizer = (getattr(trainer, name).state_dict() for name in ("model", "optimizer"))
    return {"model": {name: value.clone() for name, value in model.items()}, "optimizer": optimizer}


def test_a_run_that_is_resumed_is_the_one_that_was_not_interrupted() -> None:
    assert_resumes_exactly(build, cuts=[7])


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_that_is_resumed_after_any_step_is_the_one_that_was_not_interrupted(name: str) -> None:
    assert_resumes_exactly(lambda: build(OPTIMIZERS[name], evaluate_every="4 steps"), cuts="all")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_evaluations_and_checkpoints_do_not_change_the_training_by_a_bit(name: str, tmp_path: Path) -> None:
    bare = build(OPTIMIZERS[name])
    bare.evaluate = None
    bare.fit()
    often = build(OPTIMIZERS[name], Checkpoint(tmp_path, every=1, interval="step"), evaluate_every="1 step")
    often.fit()
    assert diff_states(trained(bare), trained(often)) == []


def test_the_model_has_the_average_while_it_is_evaluated_and_its_own_weights_otherwise() -> None:
    def look() -> None:
        group = trainer.optimizer.param_groups[0]  # type: ignore[union-attr]
        seen.append((group["train_mode"], trainer.model[0].weight.detach().clone()))  # type: ignore[index]

    seen: list[tuple[bool, torch.Tensor]] = []
    stepped: list[torch.Tensor] = []
    trainer = build(in_evaluate=look, epochs=1)
    trainer.on(StepEnd)(lambda event: stepped.append(trainer.model[0].weight.detach().clone()))  # type: ignore[index]
    trainer.fit()
    z = trainer.optimizer.state[trainer.model[0].weight]["z"]  # type: ignore[union-attr, index]
    [(mode, average)] = seen
    assert mode is False
    # In train mode the weights are y = (1 - beta) z + beta x, of the average x.
    torch.testing.assert_close(0.1 * z + 0.9 * average, stepped[-1])
    assert not torch.equal(average, stepped[-1])
    assert torch.equal(trainer.model[0].weight, stepped[-1])  # type: ignore[index]
    assert trainer.optimizer.param_groups[0]["train_mode"] is True  # type: ignore[union-attr]


def test_a_checkpoint_has_the_weights_of_the_train_mode_and_the_average_under_the_callbacks_name(
    tmp_path: Path,
) -> None:
    trainer = build(OPTIMIZERS["AdamW"], Checkpoint(tmp_path, monitor="val_loss"))
    history = trainer.fit()
    state = read_checkpoint(tmp_path, which="last")
    assert state["optimizer"]["param_groups"][0]["train_mode"] is True
    assert diff_states(state["model"], trained(trainer)["model"]) == []
    average = load_weights(tmp_path, "last", name="ScheduleFree")
    trainer.optimizer.eval()  # type: ignore[union-attr]
    assert diff_states(average, trained(trainer)["model"]) == []
    for which, record in (("last", history[-1]), ("best", history.best("val_loss"))):
        trainer.model.load_state_dict(load_weights(tmp_path, which, name="ScheduleFree"))  # type: ignore[union-attr]
        assert float(trainer.evaluate()) == record.metrics["val_loss"]  # type: ignore[misc, arg-type]


@pytest.mark.parametrize("place", ["in_step", "in_evaluate"])
def test_a_run_that_is_interrupted_within_a_step_or_an_evaluation_goes_on_exactly(place: str, tmp_path: Path) -> None:
    calls = 0

    def interrupt() -> None:
        nonlocal calls
        calls += 1
        if calls == (8 if place == "in_step" else 2):  # of 18 steps, or of 3 evaluations
            os.kill(os.getpid(), signal.SIGINT)

    straight = build(OPTIMIZERS["AdamW"], Checkpoint(tmp_path / "straight"))
    expected = straight.fit()
    with pytest.raises(KeyboardInterrupt):
        build(OPTIMIZERS["AdamW"], Checkpoint(tmp_path / "cut"), **{place: interrupt}).fit()  # type: ignore[arg-type]
    assert read_checkpoint(tmp_path / "cut")["progress"]["step"] == (8 if place == "in_step" else 12)
    resumed = build(OPTIMIZERS["AdamW"], Checkpoint(tmp_path / "cut"))
    history = resumed.fit(resume="auto")
    assert [record.metrics for record in history] == [record.metrics for record in expected]
    assert diff_states(trained(resumed), trained(straight)) == []
    names = ("straight", "cut")
    one, other = (load_weights(tmp_path / name, "last", name="ScheduleFree") for name in names)
    assert diff_states(one, other) == []


def test_an_evaluation_that_fails_leaves_the_weights_as_they_were() -> None:
    def fail() -> None:
        raise OSError("no data")

    before = build(epochs=1)
    before.evaluate = None
    before.fit()
    failing = build(in_evaluate=fail, epochs=1)
    with pytest.raises(OSError, match="no data"):
        failing.fit()
    assert diff_states(trained(before), trained(failing)) == []


def test_after_the_fit_the_optimizers_eval_mode_is_the_average_and_a_state_may_be_taken_in_it() -> None:
    trainer = build()
    history = trainer.fit()
    trainer.optimizer.eval()  # type: ignore[union-attr]
    assert float(trainer.evaluate()) == history[-1].metrics["val_loss"]  # type: ignore[misc, arg-type]
    state = trainer.callbacks[0].state_dict()
    assert diff_states(state["weights"], trained(trainer)["model"]) == []
    assert state["averaged"] == 18


def test_an_optimizer_whose_mode_is_not_in_its_state_is_refused() -> None:
    def wrapped(parameters: Any) -> Any:
        return schedulefree.ScheduleFreeWrapper(torch.optim.SGD(parameters, lr=0.1))

    with pytest.raises(TypeError, match=r"'optimizer' must save its mode with its groups.*: ScheduleFreeWrapper"):
        build(wrapped).fit()


def test_the_example_runs_and_is_resumed_exactly(tmp_path: Path) -> None:
    assert_resumes_exactly(lambda: recipe.build(str(tmp_path / "run")), cuts=[50])


@pytest.mark.slow
def test_the_example_evaluates_the_saved_average_as_recorded() -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "schedule_free.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    loss, recorded = done.stdout.splitlines()[-1].removeprefix("their average: loss ").split(", as recorded ")
    assert loss == recorded
