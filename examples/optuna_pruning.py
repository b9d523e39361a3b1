"""Optuna looks for a rate and a width, and prunes the trials that fall behind: the run stops as any other does.

Needs optuna.
"""

import tempfile
from pathlib import Path
from typing import Any, ClassVar

import optuna
from attrs import define, field

from lucid_train import TRANSIENT, Callback, EpochEnd, FitStart, Trainer, nn, optims
from lucid_train.callback import Ranks
from lucid_train.callbacks import Checkpoint
from lucid_train.data import batches, digits


@define(eq=False)
class OptunaPruning(Callback):
    """Report a metric at the end of each epoch, and stop the run for good when Optuna says that it is to be pruned.

    Raise `optuna.TrialPruned` after `fit`, if it is `pruned`: raised within, it would be a failure of the run.
    """

    ranks: ClassVar[Ranks] = "first"  # of many processes one has the trial

    trial: optuna.Trial = field(repr=False)
    metric: str
    pruned: str | None = field(default=None, init=False, repr=False)  # why; state: a pruned run that is resumed knows
    _known: set[int] = field(factory=set, init=False, repr=False, metadata=TRANSIENT)

    def settings(self) -> dict[str, Any]:
        return {"metric": self.metric}  # a run may be resumed for another trial

    def on_fit_start(self, event: FitStart) -> None:
        trials = self.trial.study.get_trials(deepcopy=False)
        self._known = set(trials[self.trial.number].intermediate_values)
        for record in event.run.history:  # of a run that is resumed, what this trial does not know
            if (value := record.metrics.get(self.metric)) is not None:
                self._report(record.epoch, value)

    def on_epoch_end(self, event: EpochEnd) -> None:
        value = event.run.value_of(self.metric, event)
        if value is not None and self._report(event.epoch, value) and self.trial.should_prune():
            self.pruned = f"pruned by Optuna after epoch {event.epoch}"
            event.run.stop(self.pruned, for_good=True)

    def _report(self, epoch: int, value: float) -> bool:
        """Report an epoch, which Optuna counts from 0, unless the trial has it; return whether it was new."""
        is_new = epoch - 1 not in self._known
        if is_new:
            self.trial.report(value, epoch - 1)
            self._known.add(epoch - 1)
        return is_new


def objective(trial: optuna.Trial, folder: Path) -> float:
    """Train with what a trial suggests, and return the best accuracy."""
    lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
    width = trial.suggest_categorical("width", [8, 32])
    images, labels, test_images, test_labels = digits()
    model = nn.Sequential(nn.Linear(64, width, rng=0), nn.ReLU(), nn.Linear(width, 10, rng=1))
    criterion, optimizer = nn.CrossEntropyLoss(), optims.SGD(model.parameters(), lr=lr)

    def step(batch: Any) -> float:
        x, y = batch
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        model.backward(criterion.backward())
        optimizer.step()
        return loss

    def evaluate() -> dict[str, float]:
        right: Any = model(test_images).argmax(axis=1) == test_labels
        return {"accuracy": float(right.mean())}

    pruning = OptunaPruning(trial, "val_accuracy")
    history = Trainer(
        step,
        batches(images, labels, batch_size=64, seed=0),
        epochs=8,
        model=model,
        optimizer=optimizer,
        evaluate=evaluate,
        callbacks=[pruning, Checkpoint(folder / f"trial-{trial.number}")],
    ).fit(resume="auto")
    if pruning.pruned is not None:
        raise optuna.TrialPruned(pruning.pruned)
    return max(history.metric("val_accuracy"))


def main() -> None:
    """Run some trials, and print what has come of each."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=2)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1), pruner=pruner)
    with tempfile.TemporaryDirectory() as folder:
        study.optimize(lambda trial: objective(trial, Path(folder)), n_trials=10)
    for trial in study.trials:
        settings = f"lr {trial.params['lr']:.4f}, width {trial.params['width']}"
        print(f"{trial.number}: {trial.state.name.lower()}, {len(trial.intermediate_values)} epochs, {settings}")
    print(f"best: trial {study.best_trial.number}, {study.best_value:.3f}")


if __name__ == "__main__":
    main()
