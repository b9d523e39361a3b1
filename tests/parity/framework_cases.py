"""Our schedulers in Lightning, Fabric, Accelerate and transformers, resumed from their checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import accelerate
import lightning_fabric
import pytest
import pytorch_lightning
import torch
import transformers

from lucid_train import schedules
from tests.parity.keras_cases import *  # noqa: F403  # on the backend torch, in this process
from tests.support.pages import names_of

SCHEDULE = schedules.Cosine().warmup("10%").sized(20)
RATES = SCHEDULE.table(20, base=0.1)
torch.manual_seed(0)
BATCHES = [(torch.randn(4, 2), torch.randn(4, 1)) for _ in range(20)]
lightning: dict[str, Any] = names_of("elsewhere.md", "Lightning")


class UsedRates(pytorch_lightning.Callback):
    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])


def lightning_fit(
    module: Any, epochs: int, folder: Path, resume: Path | None = None, batches: Any = None, **settings: Any
) -> tuple[list[float], Any]:
    used = UsedRates()
    trainer = pytorch_lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[used],
        enable_checkpointing=False,
        **settings,
    )
    loader = torch.utils.data.DataLoader(batches or BATCHES[:10], batch_size=None)
    trainer.fit(module, loader, ckpt_path=resume)
    return used.rates, trainer


def weights(module: Any) -> list[Any]:
    return [each.tolist() for each in module.parameters()]


def seeded(kind: str) -> Any:
    torch.manual_seed(3)
    return lightning[kind]()


def test_lightning_trains_at_our_rates_and_saves_where_they_stand(tmp_path: Path) -> None:
    rates, trainer = lightning_fit(seeded("Regression"), 2, tmp_path)
    assert rates == RATES
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    [state] = torch.load(tmp_path / "end.ckpt", weights_only=True)["lr_schedulers"]
    assert state == trainer.lr_scheduler_configs[0].scheduler.state_dict()
    assert state["last_epoch"] == 20


def test_lightning_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    whole = seeded("Regression")
    expected, _ = lightning_fit(whole, 2, tmp_path)
    cut = seeded("Regression")
    saved = tmp_path / "cut.ckpt"

    class Save(pytorch_lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 10:
                trainer.save_checkpoint(saved)

    trainer = pytorch_lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[Save()],
        enable_checkpointing=False,
    )
    trainer.fit(cut, torch.utils.data.DataLoader(BATCHES[:10], batch_size=None))
    resumed = lightning["Regression"]()
    after, _ = lightning_fit(resumed, 2, tmp_path, resume=saved)
    assert after == expected[10:]
    assert weights(resumed) == weights(whole)


def test_lightning_steps_our_plateau_by_its_monitor(tmp_path: Path) -> None:
    # The gradient is 0 from the start: the loss never falls.
    far = [(torch.zeros(4, 2), torch.tensor([1e3, -1e3, 1e3, -1e3])[:, None])]
    module = seeded("OnPlateau")
    torch.nn.init.zeros_(module.layer.bias)
    rates, trainer = lightning_fit(module, 4, tmp_path, batches=far)
    [config] = trainer.lr_scheduler_configs
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.001], rel=1e-12)
    assert (config.reduce_on_plateau, config.scheduler.best) == (True, 1e6)
    trainer.save_checkpoint(tmp_path / "p.ckpt")
    again = seeded("OnPlateau")
    more, _ = lightning_fit(again, 5, tmp_path, resume=tmp_path / "p.ckpt", batches=far)
    assert more == pytest.approx([1e-4], rel=1e-12)


def test_without_the_hook_lightning_refuses_and_names_it(tmp_path: Path) -> None:
    class Unhooked(lightning["Regression"]):  # type: ignore[misc]  # of the page
        lr_scheduler_step = pytorch_lightning.LightningModule.lr_scheduler_step

    with pytest.raises(pytorch_lightning.utilities.exceptions.MisconfigurationException, match="lr_scheduler_step"):
        lightning_fit(Unhooked(), 1, tmp_path)


def test_fabric_trains_at_our_rates_and_resumes(tmp_path: Path) -> None:
    train = names_of("elsewhere.md", "Fabric")["train"]
    fabric = lightning_fabric.Fabric(accelerator="cpu", devices=1)
    assert train(fabric, BATCHES, tmp_path / "whole") == RATES
    before = train(fabric, BATCHES[:7], tmp_path / "cut")
    assert before + train(fabric, BATCHES[7:], tmp_path / "cut", resume=True) == RATES


@pytest.mark.parametrize("accumulated", [1, 2])
def test_accelerate_trains_at_our_rates_and_resumes(tmp_path: Path, accumulated: int) -> None:
    train = names_of("elsewhere.md", "Accelerate")["train"]

    def accelerator() -> Any:
        return accelerate.Accelerator(cpu=True, gradient_accumulation_steps=accumulated)

    updates = 20 // accumulated
    assert train(accelerator(), BATCHES, tmp_path / "whole") == RATES[:updates]
    before = train(accelerator(), BATCHES[:8], tmp_path / "cut")
    assert before + train(accelerator(), BATCHES[8:], tmp_path / "cut", resume=True) == RATES[:updates]


def test_accelerate_hands_our_schedulers_back_as_they_are() -> None:
    from lucid_train.optims.lr_scheduler import LRScheduler

    scheduler = LRScheduler(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1), SCHEDULE)
    assert accelerate.Accelerator(cpu=True).prepare(scheduler) is scheduler


class Line(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, inputs: Any, labels: Any) -> Any:
        found = self.layer(inputs)
        return {"loss": torch.nn.functional.mse_loss(found, labels), "logits": found}


def test_transformers_trains_at_our_rates_and_resumes(tmp_path: Path) -> None:
    made = names_of("elsewhere.md", "transformers")["trainer"]
    data = [{"inputs": inputs[0], "labels": targets[0]} for inputs, targets in BATCHES]

    def run(folder: Path, resume: Any = None) -> tuple[list[float], Any]:
        args = transformers.TrainingArguments(
            output_dir=str(folder),
            num_train_epochs=2,
            per_device_train_batch_size=2,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            save_strategy="steps",
            save_steps=13,
            logging_steps=1,
            save_total_limit=None,
            seed=5,
        )
        trainer = made(Line(), args, data, updates=20)
        trainer.train(resume_from_checkpoint=resume)
        return [each["learning_rate"] for each in trainer.state.log_history if "learning_rate" in each], trainer

    expected, whole = run(tmp_path / "whole")
    assert expected == SCHEDULE.table(20, base=1e-3)
    found, resumed = run(tmp_path / "again", resume=str(tmp_path / "whole" / "checkpoint-13"))
    assert found == expected
    assert resumed.lr_scheduler.last_epoch == 20
    assert weights(resumed.model) == weights(whole.model)
