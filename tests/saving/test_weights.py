"""Weights are not forgotten: a run that trains and saves none is refused. Those that are saved are found again."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucid_train import CheckpointError, EpochReport, Trainer, load_weights, nn, optims, write_checkpoint
from lucid_train.callbacks import Checkpoint, StepLRCallback
from lucid_train.saving.checkpoint import Directory

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


def test_a_second_optimizer_that_a_callback_schedules_is_not_forgotten(tmp_path: Path) -> None:
    def made(*, checkpoints: bool = True, **extras: Any) -> Trainer:
        model, first, second = nn.Linear(1, 1, rng=0), stepped(), stepped()
        callbacks = [StepLRCallback(1), StepLRCallback(1, optimizer=second)]
        if checkpoints:
            callbacks.insert(0, Checkpoint(tmp_path))

        def step(batch: float) -> None:
            first.step()
            second.step()

        extras = dict.fromkeys(extras, second)
        return Trainer(step, [1.0], model=model, optimizer=first, extras=extras, callbacks=callbacks)

    with pytest.raises(ValueError, match=r"optimizer of StepLRCallback#2 must be saved too: pass it among the extras"):
        made().fit()
    assert made(checkpoints=False).fit().status == made(second=True).fit().status == "completed"


# The weights in a checkpoint.


def trained(directory: Path, **settings: Any) -> dict[int, float]:
    """Train three epochs, of which the second is the best, and return the bias after each."""
    model, losses = nn.Linear(1, 1, rng=0), iter([3.0, 1.0, 2.0])

    def step(batch: float) -> None:
        model.load_state_dict({name: array + batch for name, array in model.state_dict().items()})

    trainer = Trainer(
        step,
        [1.0],
        epochs=3,
        model=model,
        evaluate=lambda: {"val_loss": next(losses)},
        extras={"ema": Held(bias=np.array([7.0])), "noise": np.random.default_rng(0)},
        callbacks=[Checkpoint(directory, **settings)],
    )
    biases: dict[int, float] = {}
    trainer.on(EpochReport)(lambda event: biases.update({event.epoch: float(model.state_dict()["bias"][0])}))
    trainer.fit()
    return biases


def test_the_best_and_the_last_weights_are_found_in_a_directory_and_in_its_files(tmp_path: Path) -> None:
    biases = trained(tmp_path, monitor="val_loss", keep=1)
    found = load_weights(tmp_path), load_weights(str(tmp_path), "last"), load_weights(Directory(tmp_path).files()[0])
    assert [each["bias"].tolist() for each in found] == [[biases[2]], [biases[3]], [biases[2]]]
    assert load_weights(tmp_path, name="ema") == {"bias": np.array([7.0])}
    model = nn.Linear(1, 1)
    model.load_state_dict(load_weights(tmp_path))
    assert model.state_dict()["bias"] == biases[2]


def test_a_fresh_process_takes_them_and_writes_nothing(tmp_path: Path) -> None:
    biases = trained(tmp_path, monitor="val_loss")
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    tmp_path.chmod(0o500)
    program = (
        "import sys\nfrom lucid_train import load_weights, nn\nmodel = nn.Linear(1, 1)\n"
        "model.load_state_dict(load_weights(sys.argv[1]))\nprint(float(model.state_dict()['bias'][0]))\n"
        "print('lucid_train.callbacks' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, timeout=100)
    tmp_path.chmod(0o700)
    assert (done.stdout.split(), done.stderr) == ([str(biases[2]), "False"], "")
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_directory_without_a_monitor_has_no_best_and_says_so(tmp_path: Path) -> None:
    biases = trained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no best .*; Checkpoint\(monitor=...\) keeps the best"):
        load_weights(tmp_path)
    assert load_weights(tmp_path, "last")["bias"] == biases[3]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("noise", "'name' must be one of the run's extras, ['ema'], as it has no extra 'noise': 'noise'"),
        ("model", "'name' must be one of the run's extras, ['ema'], as it has no extra 'model': 'model'"),
    ],
)
def test_an_extra_that_is_not_there_is_named(name: str, message: str, tmp_path: Path) -> None:
    trained(tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_weights(tmp_path, "last", name=name)


def test_what_is_no_checkpoint_of_a_run_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "mine", {"model": 1})
    (tmp_path / "damaged").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="mine is not the checkpoint of a run"):
        load_weights(tmp_path / "mine")
    with pytest.raises(CheckpointError, match="damaged is not a usable checkpoint"):
        load_weights(tmp_path / "damaged")
    with pytest.raises(FileNotFoundError, match="there is no best checkpoint in"):
        load_weights(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_weights(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="'which' must be one of 'last', 'best': 'newest'"):
        load_weights(tmp_path, "newest")  # type: ignore[arg-type]  # that it is refused is the claim


def test_weights_that_do_not_fit_the_model_are_refused_with_what_may_be_done(tmp_path: Path) -> None:
    def fit(size: int) -> None:
        model = nn.Linear(size, 1, rng=0)
        optimizer = optims.SGD(model.parameters(), lr=0.1)
        Trainer(model=model, optimizer=optimizer, epochs=1, callbacks=[Checkpoint(tmp_path)]).fit(resume="auto")

    fit(2)
    with pytest.raises(ValueError, match="'weight'") as caught:
        fit(3)
    assert caught.value.__notes__ == [
        "raised by model.load_state_dict",
        "while a checkpoint was loaded; resume with what it was saved from, or start over with fit(restart=True) or in "
        "another directory",
    ]
