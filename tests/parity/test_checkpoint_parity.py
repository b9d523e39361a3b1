from __future__ import annotations

import copy
import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from lucid_train import CheckpointError, EpochReport, EpochStart, StepEnd, Trainer, read_checkpoint, write_checkpoint
from lucid_train.callbacks import Checkpoint, CosineAnnealingLRCallback, EarlyStopping, LRSchedulerCallback
from lucid_train.testing import assert_resumes_exactly, diff_states
from tests.support.waiting import until

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


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(2),
        torch.ones(2, requires_grad=True),
        torch.nn.Parameter(torch.ones(2)),
        torch.nn.Parameter(torch.arange(2), requires_grad=False),
    ],
)
def test_a_tensor_comes_back_as_what_it_was(tmp_path: Path, tensor: torch.Tensor) -> None:
    write_checkpoint(tmp_path / "x", [tensor])
    found = read_checkpoint(tmp_path / "x")[0]
    assert (type(found), found.requires_grad, found.tolist()) == (type(tensor), tensor.requires_grad, tensor.tolist())


LAYOUTS = {
    "channels last": torch.arange(120.0).reshape(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "channels last of one channel": torch.ones(2, 1, 4, 5).to(memory_format=torch.channels_last),
    "one of several": torch.ones(2, 1, 4, 5),
    "turned": torch.arange(6).reshape(2, 3).t(),
    "permuted": torch.arange(24, dtype=torch.bfloat16).reshape(2, 3, 4).permute(2, 0, 1),
    "one element": torch.ones(1).as_strided((1, 1), (7, 3)),
    "a number": torch.tensor(1.5),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_tensor_lies_in_memory_as_it_did(tmp_path: Path, name: str) -> None:
    write_checkpoint(tmp_path / "x", [LAYOUTS[name]])
    found = read_checkpoint(tmp_path / "x")[0]
    assert (found.stride(), found.tolist()) == (LAYOUTS[name].stride(), LAYOUTS[name].tolist())


@pytest.mark.parametrize("view", [torch.ones(3).expand(2, 3), torch.arange(9.0).reshape(3, 3)[:, ::2]])
def test_a_view_with_gaps_or_overlaps_comes_back_as_a_clone_of_it(tmp_path: Path, view: torch.Tensor) -> None:
    write_checkpoint(tmp_path / "x", [view])
    found = read_checkpoint(tmp_path / "x")[0]
    assert (found.tolist(), found.is_contiguous()) == (view.tolist(), True)


class Labelled(torch.Tensor):
    pass


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.filterwarnings("ignore:.*quantiz")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.eye(3).to_sparse(), "only dense tensors can: torch.sparse_coo"),
        (lambda: torch.ones(2, device="meta"), "only dense tensors can: meta"),
        (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8), "only dense tensors can: quantized"),
        (lambda: torch.ones(2, requires_grad=True) * 2, "it is part of a graph of gradients, which cannot; detach it"),
        (lambda: torch.ones(2).as_subclass(Labelled), "no subclass of these: .*Labelled"),
        (lambda: torch.Size([2]), r"no subclass of these: torch\.Size"),
        (lambda: torch.float32, r"no subclass of these: torch\.dtype"),
        (lambda: {torch.ones(1): 1}, r"can be keys, or in a set: torch\.Tensor"),
    ],
)
def test_what_of_torch_cannot_be_saved_is_named(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=rf"'model\.x' cannot be saved, .*{message}"):
        write_checkpoint(tmp_path / "x", {"model": {"x": make()}})


class Versioned(torch.nn.Module):
    """Its weight was stored by its square root before version 2."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((1,), 4.0))

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
        if metadata.get("version", 1) < 2:
            state[f"{prefix}weight"] = state[f"{prefix}weight"] ** 2
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_a_module_with_a_version_is_migrated_no_second_time(tmp_path: Path) -> None:
    Trainer(epochs=1, model=Versioned(), callbacks=[Checkpoint(tmp_path)]).fit()
    model = Versioned()
    with pytest.warns(UserWarning, match="nothing left to train"):
        Trainer(epochs=1, model=model, callbacks=[Checkpoint(tmp_path)]).fit(resume="auto")
    assert model.weight.tolist() == [4.0]


def test_a_fused_optimizer_of_a_model_in_channels_last_is_resumed_exactly() -> None:
    def made() -> Trainer:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.LazyLinear(1))
        images = torch.randn(4, 2, 3, 6, 6)
        model(images[0])
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)

        def step(batch: torch.Tensor) -> torch.Tensor:
            optimizer.zero_grad()
            loss = model(batch.contiguous(memory_format=torch.channels_last)).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        return Trainer(step, list(images), epochs=2, model=model, optimizer=optimizer)

    assert_resumes_exactly(made, cuts=range(1, 8))


def test_weights_that_are_tied_stay_so(tmp_path: Path) -> None:
    def made() -> Trainer:
        model = torch.nn.ModuleDict({"one": torch.nn.Linear(2, 2), "other": torch.nn.Linear(2, 2)})
        model["other"].weight = model["one"].weight
        return Trainer(lambda batch: None, [1], model=model, callbacks=[Checkpoint(tmp_path)])

    first, second = made(), made()
    first.fit()
    second.fit(2, resume="auto")
    one, other = second.model["one"], second.model["other"]  # type: ignore[index]
    assert one.weight is other.weight
    assert torch.equal(one.weight, first.model["one"].weight)  # type: ignore[index]


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
        parameter = torch.nn.Parameter(torch.zeros(1))
        parameter.grad = torch.zeros(1)  # or no update would change anything
        optimizer = torch.optim.SGD([parameter], lr=1.0)
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


# Is killed while a worker of its DataLoader sits in a sample, and goes on to do so for ten minutes.
WITH_A_WORKER = """
import os, signal, sys, time
import torch
from torch.utils.data import DataLoader, Dataset
from lucid_train import EpochStart, Trainer
from lucid_train.callbacks import Checkpoint, EventLog

class Slow(Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        if index == 3 and sys.argv[1:]:
            print(os.getpid(), flush=True)
            time.sleep(600)
        return torch.ones(1)

model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def step(batch):
    optimizer.zero_grad()
    loss = model(batch).sum()
    loss.backward()
    optimizer.step()
    return loss

data = DataLoader(Slow(), num_workers=1, prefetch_factor=1)
callbacks = [Checkpoint("saved", every=1, interval="step"), EventLog("run.jsonl")]
trainer = Trainer(step, data, model=model, optimizer=optimizer, callbacks=callbacks)
history = trainer.fit(resume="auto")
print(len(history))
"""


def test_a_worker_that_outlives_a_killed_run_neither_holds_its_directory_nor_its_log(tmp_path: Path) -> None:
    program = [sys.executable, "-c", WITH_A_WORKER]
    killed = subprocess.Popen([*program, "slow"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    worker = int(killed.stdout.readline())
    until(lambda: len(list((tmp_path / "saved").glob("checkpoint-*"))) >= 2)
    killed.kill()
    killed.wait()
    try:
        os.kill(worker, 0)  # it is still there
        done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=100)
        assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    finally:
        os.kill(worker, signal.SIGKILL)
        killed.stdout.close()
