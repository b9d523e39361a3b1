"""What docs/coming_from/transformers.md says. A process of its own runs it: test_coming_from_parity.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from lucid_train import FitEnd, StepEnd, Trainer
from lucid_train.callbacks import Checkpoint, TerminateOnNaN
from lucid_train.data import grouped
from tests.support.coming_from import Page, flat

OBJECTS = {"trainer": transformers.Trainer}
PAGE = Page(
    "transformers",
    [OBJECTS, transformers, transformers.Trainer, transformers.TrainerCallback, transformers.TrainingArguments],
)


def test_the_two_programs_come_to_the_same_rates_losses_and_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there, here = PAGE.run("There"), PAGE.run("Here")
    assert 3 <= len(here["losses"]) < 12
    assert here["rates"] == pytest.approx(there["rates"], rel=1e-12)
    for name in ("losses", "val_losses"):
        assert here[name] == pytest.approx(there[name], rel=1e-6)
    assert flat(here["model"]) == flat(there["model"])


def test_what_the_table_names_is_there() -> None:
    assert PAGE.unknown_there() == []


def test_what_the_table_names_is_here() -> None:
    assert PAGE.unknown_here() == []


DATA = [{"inputs": torch.tensor([i / 8]), "labels": torch.tensor([1.0])} for i in range(8)]


class Line(torch.nn.Module):
    """A line whose loss is NaN at its third call, if that is asked for."""

    def __init__(self, nan: bool = False) -> None:
        super().__init__()
        self.layer, self.nan, self.calls = torch.nn.Linear(1, 1), nan, 0

    def forward(self, inputs: Any, labels: Any) -> Any:
        self.calls += 1
        loss = torch.nn.functional.mse_loss(self.layer(inputs), labels)
        return {"loss": loss * torch.nan if self.nan and self.calls == 3 else loss, "logits": inputs}


class At(transformers.TrainerCallback):
    """Do something after a step, and note the rates and the end."""

    def __init__(self, step: int = 0, error: BaseException | None = None) -> None:
        self.step, self.error, self.rates, self.ended, self.epochs = step, error, list[float](), 0, list[float]()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.rates.append(others["optimizer"].param_groups[0]["lr"])

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.epochs.append(state.epoch)
        if state.global_step == self.step and self.error is not None:
            raise self.error

    def on_train_end(self, *_: Any, **others: Any) -> None:
        self.ended += 1


def theirs(folder: Path, *callbacks: Any, model: Any = None, **settings: Any) -> Any:
    quiet = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no", "num_train_epochs": 2}
    settings = {**quiet, "per_device_train_batch_size": 1, "logging_strategy": "epoch", **settings}
    args = transformers.TrainingArguments(str(folder), **settings)
    model = Line() if model is None else model
    return transformers.Trainer(model, args, train_dataset=DATA, callbacks=[*callbacks])


def test_what_is_on_by_default_there(tmp_path: Path) -> None:
    args = transformers.TrainingArguments(str(tmp_path / "args"))
    assert (args.max_grad_norm, args.learning_rate, args.lr_scheduler_type, args.save_strategy, args.save_steps) == (
        1.0,
        5e-5,
        "linear",
        "steps",
        500,
    )
    assert (args.weight_decay, args.optim) == (0.0, "adamw_torch_fused")
    theirs(tmp_path / "saved", save_strategy=args.save_strategy).train()
    assert [each.name for each in (tmp_path / "saved").iterdir()] == ["checkpoint-16"]
    model = Line()
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        theirs(tmp_path, model=model)
        drawn.append(torch.rand(1))
    torch.manual_seed(42)
    assert drawn == [torch.rand(1)] * 2


def test_a_nan_is_left_out_there_and_ends_a_run_here(tmp_path: Path) -> None:
    trainer = theirs(tmp_path, model=Line(nan=True), max_grad_norm=0.0, learning_rate=0.0, num_train_epochs=1)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] > 0
    history = Trainer(lambda loss: loss, [1.0, torch.nan]).fit()
    assert str(history.metric("loss")) == "[nan]"
    assert (
        Trainer(lambda loss: loss, [1.0, torch.nan], epochs=2, callbacks=[TerminateOnNaN()]).fit().status == "stopped"
    )


def test_another_rate_is_overwritten_there_and_refused_here(tmp_path: Path) -> None:
    before, after = At(), At()
    saving = {"save_strategy": "steps", "save_steps": 11}
    theirs(tmp_path / "there", before, learning_rate=0.1, **saving).train()
    resumed = theirs(tmp_path / "there", after, learning_rate=1.0, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "there" / "checkpoint-11"))
    assert after.rates == pytest.approx(before.rates[11:])
    pickles = {"optimizer.pt", "rng_state.pth", "scheduler.pt", "training_args.bin"}
    saved = {each.name for each in (tmp_path / "there" / "checkpoint-11").iterdir()}
    assert saved == {*pickles, "model.safetensors", "trainer_state.json"}

    def ours(lr: float, epochs: int) -> Trainer:
        model = Line()
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)

        def step(batch: Any) -> Any:
            optimizer.zero_grad()
            loss = model(**batch)["loss"]
            loss.backward()
            optimizer.step()
            return loss

        checkpoint = Checkpoint(tmp_path / "here")
        return Trainer(step, DATA, model=model, optimizer=optimizer, epochs=epochs, callbacks=[checkpoint])

    ours(0.1, 1).fit()
    with pytest.raises(ValueError, match=r"optimizer\.lr"):
        ours(1.0, 2).fit(resume="auto")


def test_train_starts_over_and_fit_says_that_nothing_is_left(tmp_path: Path) -> None:
    model, seen = Line(), []
    trainer = theirs(tmp_path, model=model)
    trainer.train()
    trainer.train()
    assert (model.calls, trainer.state.global_step) == (32, 16)
    ours = Trainer(seen.append, range(8), epochs=2)
    ours.fit()
    with pytest.warns(UserWarning, match="nothing left to train"):
        ours.fit()
    assert len(seen) == 16


def test_a_step_is_an_update_there_and_a_batch_here(tmp_path: Path) -> None:
    trainer = theirs(tmp_path, gradient_accumulation_steps=4)
    trainer.train()
    assert trainer.state.global_step == 4
    steps: list[int] = []
    for data in (DATA, grouped(DATA, 4)):
        ours = Trainer(lambda batch: 0.5, data, epochs=2)
        ours.on(FitEnd)(lambda event: steps.append(event.run.step))
        ours.fit()
    assert steps == [16, 4]


def test_an_exception_leaves_as_it_is_and_here_all_are_closed(tmp_path: Path) -> None:
    error, ended = RuntimeError("lost"), []
    at = At(3, error)
    with pytest.raises(RuntimeError, match="lost") as caught:
        theirs(tmp_path, at).train()
    assert (caught.value, at.ended) == (error, 0)
    assert at.epochs == [0.125, 0.25, 0.375]
    trainer = Trainer(lambda batch: 0.5, range(8))
    trainer.on(FitEnd)(lambda event: ended.append(event.status))

    @trainer.on(StepEnd, at=3)
    def fail(event: StepEnd) -> None:
        raise error

    with pytest.raises(RuntimeError, match="lost") as caught:
        trainer.fit()
    assert (caught.value, ended) == (error, ["failed"])
    assert error.__notes__ == ["raised by fail on StepEnd in epoch 1, step 3"]
