"""The recipe that lets Optuna prune runs, with its pruners and its storage in memory."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.pruners import BasePruner, MedianPruner, NopPruner, ThresholdPruner
from optuna.storages import RetryHeartbeatStaleTrialCallback as Retry
from optuna.trial import TrialState

from lucid_train import Trainer, read_checkpoint
from lucid_train.callbacks import Checkpoint
from lucid_train.testing import run_in_threads
from tests.support.examples import EXAMPLES, load_example

recipe: Any = load_example("optuna_pruning")
COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    yield
    optuna.logging.set_verbosity(before)


def study_of(pruner: BasePruner, *quality: float) -> optuna.Study:
    """Return a study whose first trials have these qualities."""
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for each in quality:
        study.enqueue_trial({"quality": each})
    return study


class Grown:
    """A model that is as good as it has steps behind it."""

    def __init__(self) -> None:
        self.steps = np.zeros(1)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps[...] = state["steps"]


def build(trial: Any, quality: float, folder: Path | None = None, *, fails_in: int = 0, **more: Any) -> tuple[Any, Any]:
    """Return a run of six epochs of four steps, whose accuracy is `quality` times the epoch, and its pruning."""
    model = Grown()

    def step(batch: int) -> None:
        if model.steps[0] == fails_in * 4 - 2:
            raise RuntimeError("the machine is lost")
        model.steps += 1

    pruning = recipe.OptunaPruning(trial, "val_accuracy")
    callbacks = [pruning] if folder is None else [pruning, Checkpoint(folder)]
    return Trainer(
        step,
        range(4),
        epochs=6,
        model=model,
        evaluate=lambda: {"accuracy": quality * float(model.steps[0]) / 4},
        callbacks=callbacks,
        **more,
    ), pruning


def objective(trial: optuna.Trial, folder: Path | None = None, **more: Any) -> float:
    trainer, pruning = build(trial, trial.suggest_float("quality", 0.0, 1.0), folder, **more)
    history = trainer.fit(resume=None if folder is None else "auto")
    if pruning.pruned is not None:
        raise optuna.TrialPruned(pruning.pruned)
    return float(history.metric("val_accuracy")[-1])


def test_optuna_has_the_metric_of_each_epoch_counted_from_0() -> None:
    study = study_of(NopPruner(), 0.5)
    study.optimize(objective, n_trials=1)
    assert study.trials[0].intermediate_values == {epoch: 0.5 * (epoch + 1) for epoch in range(6)}


def test_a_trial_is_pruned_at_the_epoch_at_which_the_pruner_says_so_and_others_complete() -> None:
    study = study_of(MedianPruner(n_startup_trials=2, n_warmup_steps=3), 0.5, 0.6, 0.1, 0.9, 0.4)
    study.optimize(objective, n_trials=5)
    assert [trial.state for trial in study.trials] == [COMPLETE, COMPLETE, PRUNED, COMPLETE, PRUNED]
    # Three epochs are warm-up, and the fourth is the first at which it may be pruned.
    assert [len(trial.intermediate_values) for trial in study.trials] == [6, 6, 4, 6, 4]
    assert study.best_trial.number == 3


def test_the_run_is_stopped_and_its_checkpoint_is_whole(tmp_path: Path) -> None:
    study = study_of(ThresholdPruner(upper=1.1), 0.5)
    trainer, pruning = build(study.ask(), 0.5, tmp_path)
    history = trainer.fit(resume="auto")
    assert (history.status, history.reason) == ("stopped", "pruned by Optuna after epoch 3")
    state = read_checkpoint(tmp_path, which="last")
    assert (state["model"]["steps"][0], pruning.pruned, len(history)) == (12, history.reason, 3)


def test_a_pruned_run_that_is_started_again_is_still_pruned(tmp_path: Path) -> None:
    study = study_of(ThresholdPruner(upper=1.1), 0.5, 0.5)
    study.optimize(lambda trial: objective(trial, tmp_path), n_trials=1)
    with pytest.warns(UserWarning, match="nothing left to train: pruned by Optuna after epoch 3"):
        study.optimize(lambda trial: objective(trial, tmp_path), n_trials=1)
    assert [trial.state for trial in study.trials] == [PRUNED, PRUNED]
    assert study.trials[0].intermediate_values == study.trials[1].intermediate_values


@pytest.mark.parametrize("inherits", [False, True])
def test_a_trial_that_is_tried_again_goes_on_from_its_checkpoint(inherits: bool, tmp_path: Path) -> None:
    study = study_of(NopPruner(), 0.5)
    retry = Retry(inherit_intermediate_values=inherits)
    study.optimize(lambda trial: objective(trial, tmp_path, fails_in=4), n_trials=1, catch=RuntimeError)
    retry(study, study.trials[0])  # as a storage does with a trial whose process is gone
    study.optimize(lambda trial: objective(trial, tmp_path), n_trials=1)
    assert [trial.state for trial in study.trials] == [FAIL, COMPLETE]
    assert study.trials[1].intermediate_values == {epoch: 0.5 * (epoch + 1) for epoch in range(6)}


def test_a_fit_that_is_tried_again_within_its_trial_reports_no_epoch_twice(tmp_path: Path) -> None:
    study = study_of(NopPruner(), 0.5)
    trial = study.ask()
    with pytest.raises(RuntimeError, match="the machine is lost"):
        build(trial, 0.5, tmp_path, fails_in=4)[0].fit(resume="auto")
    build(trial, 0.5, tmp_path)[0].fit(resume="auto")  # Optuna would warn of a second value
    assert len(study.trials[0].intermediate_values) == 6


def test_the_folder_of_a_trial_with_another_rate_is_refused(tmp_path: Path) -> None:
    for lr in (0.1, 0.2):
        study = optuna.create_study(direction="maximize", pruner=NopPruner())
        study.enqueue_trial({"lr": lr, "width": 8})
        if lr == 0.1:
            study.optimize(lambda trial: recipe.objective(trial, tmp_path), n_trials=1)
    with pytest.raises(ValueError, match=r"optimizer\.lr is 0\.2 here and 0\.1 in the checkpoint"):
        study.optimize(lambda trial: recipe.objective(trial, tmp_path), n_trials=1)


def test_an_epoch_that_is_not_evaluated_is_not_reported() -> None:
    study = study_of(NopPruner(), 0.5)
    trainer, _ = build(study.ask(), 0.5, evaluate_every=2)
    trainer.fit()
    assert study.trials[0].intermediate_values == {1: 1.0, 3: 2.0, 5: 3.0}


def test_a_metric_that_is_not_there_is_refused_by_name() -> None:
    study = study_of(NopPruner(), 0.5)
    trainer, pruning = build(study.ask(), 0.5)
    pruning.metric = "val_acuracy"
    with pytest.raises(ValueError, match=r"must be one of the metrics.*'val_acuracy'; did you mean 'val_accuracy'"):
        trainer.fit()


def test_of_many_processes_the_first_asks_and_all_stop_after_the_same_epoch() -> None:
    study = study_of(ThresholdPruner(upper=1.1), 0.5)
    trial = study.ask()

    def train(group: Any) -> tuple[int, str]:
        trainer, _ = build(trial if group.rank == 0 else None, 0.5, group=group)
        history = trainer.fit()
        return len(history), history.reason

    assert run_in_threads(2, train) == [(3, "pruned by Optuna after epoch 3")] * 2


def test_the_example_prunes_some_trials_and_completes_others() -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "optuna_pruning.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = re.findall(r"^\d: (\w+), (\d) epochs", done.stdout, flags=re.M)
    assert len(found) == 10
    assert {state: {int(epochs) for name, epochs in found if name == state} for state in ("complete", "pruned")} == {
        "complete": {8},
        "pruned": {3},
    }
