"""What docs/coming_from/pytorch.md says. A process of its own runs it: test_coming_from_parity.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.tensorboard

from lucid_train import FitEnd, StepEnd, Trainer, schedules
from lucid_train.callbacks import Checkpoint, LRSchedulerCallback, RichLogger
from tests.support.coming_from import Page, flat

OBJECTS = {
    "model": torch.nn.Module,
    "loss": torch.Tensor,
    "scheduler": torch.optim.lr_scheduler.LRScheduler,
    "torch": torch,
}
PAGE = Page(
    "pytorch", [OBJECTS, torch.nn.parallel, torch.utils.data, torch.utils.tensorboard, torch.nn.Module, torch.Tensor]
)


def test_the_two_programs_come_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    there, here = PAGE.run("There"), PAGE.run("Here")
    assert 3 <= len(here["losses"]) < 12
    for name in ("losses", "val_losses"):
        assert here[name] == there[name]
    assert flat(here["model"]) == flat(there["model"])


def test_what_the_table_names_is_there() -> None:
    assert PAGE.unknown_there() == []


def test_what_the_table_names_is_here() -> None:
    assert PAGE.unknown_here() == []


def training(lr: float = 0.1, epochs: int = 3, batches: Any = None, **others: Any) -> Trainer:
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)

    def step(batch: Any) -> Any:
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    data = torch.utils.data.DataLoader(torch.arange(8.0)[:, None] / 8, batch_size=3, shuffle=True)
    return Trainer(step, data, model=model, optimizer=optimizer, epochs=epochs, **others)


def test_a_record_has_the_rate_that_was_used_and_the_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    callbacks = [LRSchedulerCallback(schedules.Cosine()), RichLogger()]
    history = training(epochs=2, callbacks=callbacks).fit()
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
    optimizer.step()
    scheduler.step()
    assert (history[0].lr, list(history[0].last_lr)) == ((0.1,), pytest.approx(scheduler.get_last_lr()))
    assert "lr 0.1000 -> 0.0500" in capsys.readouterr().out


def test_a_cosine_starts_again_and_pytorchs_climbs() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    rates = []
    for _ in range(8):
        rates += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    assert schedules.Cosine(4, after="mirror").table(8) == pytest.approx(rates, abs=1e-12)
    # At T_max the minimum, then from the start.
    assert schedules.Cosine(4).table(8) == pytest.approx([*rates[:5], *rates[:3]], abs=1e-12)
    assert schedules.Cosine(4, after="hold").table(8)[4:] == [0.0] * 4


def test_another_rate_is_refused_when_it_is_resumed_and_pytorch_overwrites_it(tmp_path: Path) -> None:
    training(callbacks=[Checkpoint(tmp_path)]).fit()
    with pytest.raises(ValueError, match=r"optimizer\.lr"):
        training(lr=0.5, epochs=4, callbacks=[Checkpoint(tmp_path)]).fit(resume="auto")
    trainer = training(lr=0.5, epochs=4, callbacks=[Checkpoint(tmp_path)])
    assert trainer.fit(resume="auto", accept="optimizer.lr")[-1].lr == (0.5,)
    weight = torch.nn.Parameter(torch.ones(1))
    fast, slow = (torch.optim.SGD([weight], lr=lr) for lr in (0.5, 0.1))
    fast.load_state_dict(slow.state_dict())
    assert fast.param_groups[0]["lr"] == 0.1


def test_a_module_that_was_frozen_stays_so() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1))
    model[1].eval()
    seen = []
    trainer = Trainer(lambda batch: 0.5, [1], model=model, evaluate=lambda: float(seen.append(model.training) or 1))
    trainer.fit()
    assert (seen, model.training, model[1].training) == ([False], True, False)


def test_an_exception_leaves_with_its_step_and_all_are_closed() -> None:
    ended: list[str] = []
    trainer = training()
    trainer.on(FitEnd)(lambda event: ended.append(event.status))

    @trainer.on(StepEnd, at=2)
    def fail(event: StepEnd) -> None:
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost") as caught:
        trainer.fit()
    assert ended == ["failed"]
    assert caught.value.__notes__ == ["raised by fail on StepEnd in epoch 1, step 2"]


def test_steps_that_change_nothing_are_named() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.warns(UserWarning, match="no parameter of the SGD has changed in 2 steps"):
        Trainer(lambda batch: 0.5, [1, 2], optimizer=optimizer).fit()
