"""What docs/coming_from/lightning.md says. A process of its own runs it: test_coming_from_parity.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning
import torch
from pytorch_lightning.tuner.tuning import Tuner

from lucid_train import Callback, FitEnd, StepEnd, Trainer
from lucid_train.callbacks import Checkpoint, EarlyStopping
from tests.support.coming_from import Page, flat

PAGE = Page(
    "lightning",
    [
        {"trainer": pytorch_lightning.Trainer(logger=False, enable_checkpointing=False), "Tuner": Tuner},
        pytorch_lightning,
        pytorch_lightning.callbacks,
        pytorch_lightning.loggers,
        pytorch_lightning.LightningModule,
        pytorch_lightning.Callback,
    ],
)


def test_the_two_programs_come_to_the_same_losses_and_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    there, here = PAGE.run("There"), PAGE.run("Here")
    assert len(here["losses"]) == 8
    assert here["losses"] == pytest.approx(there["losses"], rel=1e-6)
    assert here["val_losses"] == there["val_losses"]
    assert flat(here["model"]) == flat(there["model"])


def test_what_the_table_names_is_there() -> None:
    assert PAGE.unknown_there() == []


def test_what_the_table_names_is_here() -> None:
    assert PAGE.unknown_here() == []


BATCHES = [(torch.tensor([[float(i)]]), torch.tensor([[1.0]])) for i in range(1, 9)]


class Line(pytorch_lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(1, 1)
        self.validated, self.seen = 0, list[float]()

    def training_step(self, batch: Any, index: int) -> Any:
        self.seen += batch[0].flatten().tolist()
        return torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])

    def validation_step(self, batch: Any, index: int) -> None:
        self.validated += 1

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.001)


class At(pytorch_lightning.Callback):
    """Do something after a step."""

    def __init__(self, step: int, function: Any) -> None:
        self.step, self.function = step, function

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.function(trainer)


class MisspeltThere(pytorch_lightning.Callback):
    def on_train_batch_ends(self, *_: Any) -> None:
        raise AssertionError("this is called")


QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


def fitted(module: Any, *callbacks: Any, loader: Any = None, resume: Any = None, **settings: Any) -> Any:
    trainer = pytorch_lightning.Trainer(accelerator="cpu", callbacks=[*callbacks], **{**QUIET, **settings})
    loader = torch.utils.data.DataLoader(BATCHES, batch_size=None) if loader is None else loader
    trainer.fit(module, loader, torch.utils.data.DataLoader(BATCHES, batch_size=None), ckpt_path=resume)
    return trainer


def raised(error: BaseException) -> Any:
    def function(trainer: Any) -> None:
        raise error

    return function


def test_it_validates_two_batches_before_the_first_step() -> None:
    module, before = Line(), []
    fitted(module, At(1, lambda trainer: before.append(module.validated)), max_epochs=1)
    assert before == [2]


def test_it_writes_what_nobody_has_listed_and_we_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"logger": True, "enable_checkpointing": True, "default_root_dir": tmp_path / "there"}
    fitted(Line(), max_epochs=1, log_every_n_steps=1, **settings)
    assert list((tmp_path / "there").rglob("*.ckpt"))
    assert list((tmp_path / "there").rglob("events.*"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Trainer(lambda batch: 0.5, BATCHES).fit()
    assert list((tmp_path / "here").iterdir()) == []


def test_resumed_it_goes_on_with_batches_of_another_order_and_we_do_not(tmp_path: Path) -> None:
    def shuffled() -> Any:
        torch.manual_seed(5)
        return torch.utils.data.DataLoader(BATCHES, batch_size=None, shuffle=True)

    def save(trainer: Any) -> None:
        trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt")

    whole, within, at_the_end = Line(), Line(), Line()
    fitted(whole, At(8, save), At(11, save), loader=shuffled(), max_epochs=2)
    with pytest.warns(UserWarning, match="your dataloader is not resumable"):
        fitted(within, loader=shuffled(), resume=tmp_path / "11.ckpt", max_epochs=2)
    assert within.seen != whole.seen[11:]
    fitted(at_the_end, loader=shuffled(), resume=tmp_path / "8.ckpt", max_epochs=2)
    assert (len(at_the_end.seen), at_the_end.seen == whole.seen[8:]) == (8, False)

    def ours(directory: str, stop: int | None = None) -> list[float]:
        seen: list[float] = []
        trainer = Trainer(
            lambda batch: seen.extend(batch[0].flatten().tolist()),
            shuffled(),
            epochs=2,
            model=torch.nn.Linear(1, 1),
            callbacks=[Checkpoint(tmp_path / directory)],
        )
        if stop is not None:
            trainer.on(StepEnd, at=stop)(lambda event: event.run.stop("cut"))
        trainer.fit(resume="auto")
        return seen

    assert [*ours("cut", stop=11), *ours("cut")] == ours("whole")


def test_an_interruption_becomes_an_exit_there_and_leaves_as_it_is_here() -> None:
    with pytest.raises(SystemExit) as caught:
        fitted(Line(), At(3, raised(KeyboardInterrupt())), max_epochs=1)
    assert caught.value.code == 1
    trainer, ended = Trainer(lambda batch: 0.5, BATCHES), []
    trainer.on(StepEnd, at=3)(raised(KeyboardInterrupt()))
    trainer.on(FitEnd)(lambda event: ended.append(event.status))
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert ended == ["interrupted"]


def test_a_stop_iteration_is_lost_there_and_leaves_as_it_is_here() -> None:
    module = Line()
    fitted(module, At(3, raised(StopIteration())), max_epochs=1)
    assert len(module.seen) == 3
    trainer = Trainer(lambda batch: 0.5, BATCHES)
    trainer.on(StepEnd, at=3)(raised(StopIteration()))
    with pytest.raises(StopIteration):
        trainer.fit()


def test_early_stopping_looks_for_the_lowest_there_and_by_the_name_here() -> None:
    assert pytorch_lightning.callbacks.EarlyStopping("val_accuracy").mode == "min"
    assert pytorch_lightning.callbacks.EarlyStopping("val_accuracy").check_finite
    assert EarlyStopping("val_accuracy").mode == "max"
    with pytest.raises(ValueError, match="mode"):
        EarlyStopping("val_f1")


def test_a_nan_ends_a_run_there_and_is_no_improvement_here() -> None:
    class NaN(Line):
        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", torch.nan)

    there = fitted(NaN(), pytorch_lightning.callbacks.EarlyStopping("val_loss", patience=3), max_epochs=5)
    assert there.current_epoch == 1
    stopping = EarlyStopping("val_loss", patience=3)
    here = Trainer(lambda batch: 0.5, [1], evaluate=lambda: torch.nan, epochs=5, callbacks=[stopping])
    assert len(here.fit()) == 3


def test_a_hook_with_a_wrong_name_is_refused_here_and_not_called_there() -> None:
    fitted(Line(), MisspeltThere(), max_epochs=1)
    message = r"on_train_batch_end is not a hook; write on_step_end\(self, event\)"
    with pytest.raises(TypeError, match=message):

        class MisspeltHere(Callback):
            def on_train_batch_end(self, event: Any) -> None: ...
