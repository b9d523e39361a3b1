from __future__ import annotations

import copy
import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from lucid_train import CheckpointError, EpochReport, EpochStart, StepEnd, Trainer, read_checkpoint, write_checkpoint
from lucid_train.callbacks import Checkpoint, CosineAnnealingLRCallback, EarlyStopping, LRSchedulerCallback
from lucid_train.testing import assert_resumes_exactly, diff_states

DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.uint16, torch.uint32, torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.complex32, torch.complex64, torch.complex128,
    torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 2)])
def test_tensors_of_every_type_survive_bit_for_bit(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    raw = torch.randint(
        0, 2 if dtype is torch.bool else 256, (dtype.itemsize * int(np.prod(shape)),), dtype=torch.uint8
    )
    tensor = raw.view(dtype).reshape(shape) if raw.numel() else torch.empty(shape, dtype=dtype)
    write_checkpoint(tmp_path / "x", {"tensor": tensor})
    found = read_checkpoint(tmp_path / "x")["tensor"]
    assert (found.dtype, found.shape) == (dtype, tensor.shape)
    assert found.reshape(-1).view(torch.uint8).tolist() == raw.tolist()


def test_views_parameters_and_conjugates_survive(tmp_path: Path) -> None:
    square = torch.arange(9.0).reshape(3, 3)
    tree = {
        "turned": square.t(),
        "part": square[:, 1],
        "parameter": torch.nn.Parameter(square),
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "negative": torch.tensor([1 + 2j]).conj().imag,
    }
    write_checkpoint(tmp_path / "x", tree)
    found = read_checkpoint(tmp_path / "x")
    assert all(torch.equal(found[name], tensor) for name, tensor in tree.items())
    assert not found["parameter"].requires_grad


def test_a_sparse_tensor_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"'model\.x' cannot be saved, only dense tensors can: torch.sparse_coo"):
        write_checkpoint(tmp_path / "x", {"model": {"x": torch.eye(3).to_sparse()}})


def test_a_forged_type_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "x", {"a": torch.zeros(4), "b": 1})
    content = (tmp_path / "x").read_bytes()[:-32]
    for forged in (b"torch.loaddddd", b"torch.float644", b"torch.nn.modul"):
        changed = content.replace(b'"torch.float32"', b'"' + forged[:13] + b'"')
        (tmp_path / "x").write_bytes(changed + hashlib.sha256(changed).digest())
        with pytest.raises(CheckpointError, match=r"is of an unknown type|bytes, not those of shape"):
            read_checkpoint(tmp_path / "x")


def build(
    *, generator: bool = False, workers: int = 0, epochs: int = 3, schedule: str = "ours", **settings: Any
) -> Trainer:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(), torch.nn.Linear(4, 1)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.125, amsgrad=True)
    numbers = torch.Generator().manual_seed(3) if generator else None
    data = DataLoader(
        TensorDataset(torch.arange(36.0).reshape(12, 3)),
        batch_size=3,
        shuffle=True,
        generator=numbers,
        num_workers=workers,
    )

    def step(batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        optimizer.zero_grad()
        loss = (model(batch[0]) ** 2).mean()
        loss.backward()
        optimizer.step()
        return {"loss": loss, "half": loss.detach().bfloat16()}

    schedules = {
        "ours": lambda: CosineAnnealingLRCallback(9, interval="step"),
        "theirs": lambda: LRSchedulerCallback(torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)),
        "plateau": lambda: LRSchedulerCallback(
            torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0), monitor="loss"
        ),
    }
    callbacks = [schedules[schedule](), EarlyStopping("loss", patience=9, restore_best=False)]
    return Trainer(step, data, epochs=epochs, model=model, optimizer=optimizer, callbacks=callbacks, **settings)


@pytest.mark.parametrize(
    ("generator", "schedule"), [(False, "ours"), (True, "ours"), (False, "theirs"), (True, "plateau")]
)
def test_a_shuffling_loader_is_resumed_in_the_middle_of_its_order(generator: bool, schedule: str) -> None:
    assert_resumes_exactly(lambda: build(generator=generator, schedule=schedule), cuts=range(1, 12))


def test_a_loader_with_workers_is_resumed_too() -> None:
    assert_resumes_exactly(lambda: build(workers=1, epochs=2), cuts=[3])


def test_an_epoch_of_a_part_of_the_loader_is_resumed_too() -> None:
    assert_resumes_exactly(lambda: build(steps_per_epoch=3), cuts=range(1, 9))


@pytest.mark.parametrize("at", [EpochStart, StepEnd])
def test_the_epoch_of_a_sampler_is_resumed(at: type[EpochStart | StepEnd]) -> None:
    def made(seen: list[list[int]]) -> Trainer:
        dataset = torch.arange(8)
        sampler = DistributedSampler(dataset, num_replicas=1, rank=0)  # type: ignore[arg-type]  # a tensor is one
        loader = DataLoader(dataset, 2, sampler=sampler)  # type: ignore[arg-type]
        trainer = Trainer(lambda batch: seen.append(batch.tolist()), loader, epochs=3)
        trainer.on(EpochStart)(lambda event: sampler.set_epoch(event.epoch))
        return trainer

    straight: list[list[int]] = []
    made(straight).fit()
    seen: list[list[int]] = []
    first, second = made(seen), made(seen)
    first.on(at, when=lambda event: event.epoch == 2)(lambda event: event.run.stop())
    first.fit()
    second.load_state_dict(first.state_dict())
    second.fit()
    assert seen == straight


def test_the_best_weights_that_early_stopping_keeps_are_saved(tmp_path: Path) -> None:
    trainer = build()
    stopping = EarlyStopping("loss", patience=9, restore_best=True)
    trainer.callbacks = (stopping, Checkpoint(tmp_path))
    taken: list[Any] = []
    trainer.on(EpochReport, at=3)(lambda event: taken.append(copy.deepcopy(stopping.state_dict())))
    trainer.fit()
    found = read_checkpoint(tmp_path)["callbacks"]["EarlyStopping"]
    assert diff_states(found, taken[0]) == []


def test_settings_of_a_foreign_scheduler_are_compared_and_those_here_count_if_accepted() -> None:
    def made(gamma: float) -> Trainer:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma)
        return Trainer(
            lambda batch: optimizer.step(),
            [1],
            epochs=2,
            optimizer=optimizer,
            callbacks=[LRSchedulerCallback(scheduler)],
        )

    first, second = made(0.5), made(0.25)
    first.fit()
    state = first.state_dict()
    with pytest.raises(ValueError, match=r"LRSchedulerCallback\.schedule is .*'gamma': 0.25.* here and .*'gamma': 0.5"):
        second.load_state_dict(state)
    second.load_state_dict(state, accept="LRSchedulerCallback.schedule")
    second.fit(epochs=3)
    assert second.optimizer.param_groups[0]["lr"] == 0.25 * 0.25


def test_a_torch_generator_among_the_extras_goes_on() -> None:
    def made(numbers: torch.Generator) -> Trainer:
        return Trainer(lambda batch: torch.rand(1, generator=numbers)[0], [1, 2], epochs=2, extras={"numbers": numbers})

    straight, first, second = (made(torch.Generator().manual_seed(1)) for _ in range(3))
    expected = straight.fit().metric("loss")
    first.on(StepEnd, at=1)(lambda event: event.run.stop())
    first.fit()
    second.load_state_dict(first.state_dict())
    assert second.fit().metric("loss") == expected
