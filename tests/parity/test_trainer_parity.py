import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from lucid_train import EpochEnd, StepEnd, StepResult, Trainer
from lucid_train.callbacks import CosineAnnealingLRCallback, EarlyStopping, ExponentialLRCallback, LRSchedulerCallback
from lucid_train.saving.state import load_optimizer


def training() -> tuple[torch.nn.Module, torch.optim.Optimizer, list[torch.Tensor], Callable[[Any], Any]]:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    data = list(torch.randn(4, 5, 3))

    def step(batch: torch.Tensor) -> Any:
        optimizer.zero_grad()
        loss = ((model(batch) - batch.sum(1, keepdim=True)) ** 2).mean()
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        optimizer.step()
        return loss

    return model, optimizer, data, step


def test_the_step_function_of_a_hand_written_loop_works_unchanged() -> None:
    model, optimizer, data, step = training()
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    means = []
    for _ in range(4):
        means.append(sum(float(step(batch).detach()) for batch in data) / len(data))
        scheduler.step()
    by_hand = [parameter.detach().clone() for parameter in model.parameters()]
    for wrap in (
        lambda optimizer: ExponentialLRCallback(gamma=0.9),
        lambda optimizer: LRSchedulerCallback(torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)),
    ):
        model, optimizer, data, step = training()
        history = Trainer(step, data, epochs=4, model=model, optimizer=optimizer, callbacks=[wrap(optimizer)]).fit()
        assert all(torch.equal(mine, its) for mine, its in zip(model.parameters(), by_hand, strict=True))
        assert history.metric("loss") == pytest.approx(means, rel=1e-12)
        assert [record.lr[0] for record in history] == pytest.approx([0.1 * 0.9**epoch for epoch in range(4)])


def test_nothing_waits_for_the_device_until_somebody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    real = {name: getattr(torch.Tensor, name) for name in ("__float__", "item", "__bool__", "tolist", "numpy")}
    for name, method in real.items():

        def read(self: torch.Tensor, *args: Any, _name: str = name, _method: Any = method) -> Any:
            reads.append(_name)
            return _method(self, *args)

        monkeypatch.setattr(torch.Tensor, name, read)
    _model, optimizer, data, step = training()

    def checked(batch: torch.Tensor) -> Any:
        before = len(reads)
        output = step(batch)
        reads[before:] = []  # what the optimizer itself does is no business of ours
        return {"loss": output, "twice": 2 * output}

    seen: list[int] = []
    trainer = Trainer(checked, data, optimizer=optimizer)
    trainer.on(StepEnd)(lambda event: seen.append(len(reads)))
    trainer.fit()
    fingerprints = ["numpy"] * 3  # of batches 1, 2 and 4, as they are drawn
    assert seen == [1, 2, 2, 3]
    assert reads == [*fingerprints, "__float__", "__float__"]


def test_outputs_are_handed_on_without_their_graph() -> None:
    _model, optimizer, data, step = training()
    graphs: list[Any] = []
    outputs: list[torch.Tensor] = []

    def kept(batch: torch.Tensor) -> Any:
        loss = step(batch)
        graphs.append(weakref.ref(loss))
        return loss

    trainer = Trainer(kept, data, optimizer=optimizer)
    trainer.on(StepEnd)(lambda event: outputs.append(event.output))
    trainer.fit()
    gc.collect()
    assert all(output.grad_fn is None and not output.requires_grad for output in outputs)
    assert all(graph() is None for graph in graphs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_losses_of_every_width_are_averaged_right(dtype: torch.dtype) -> None:
    loss = torch.tensor(0.1, dtype=dtype)
    history = Trainer(lambda batch: loss, range(10_000)).fit()
    assert history[0].metrics["loss"] == pytest.approx(float(loss), rel=1e-9)


def test_counts_and_truths_are_metrics_too_and_may_be_mixed_with_floats() -> None:
    outputs = [
        {"n": torch.tensor(2**30, dtype=torch.int32), "right": torch.tensor(True)},
        {"n": torch.tensor(2**30, dtype=torch.int32), "right": 0.5},
        {"n": torch.tensor(2**30, dtype=torch.int64), "right": torch.tensor(0, dtype=torch.uint8)},
    ]
    history = Trainer(outputs.__getitem__, range(3)).fit()
    assert history[0].metrics == {"n": 2.0**30, "right": 0.5}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tensor_that_the_step_fills_again_was_counted_in_time(dtype: torch.dtype) -> None:
    held = torch.zeros((), dtype=dtype)
    assert Trainer(held.fill_, [1, 2, 6]).fit().metric("loss") == [3.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_computed_in_inference_mode_are_counted(dtype: torch.dtype) -> None:
    @torch.inference_mode()
    def step(batch: float) -> torch.Tensor:
        return torch.tensor(batch, dtype=dtype) + 0.5

    assert Trainer(step, [1.0, 2.0, 6.0]).fit().metric("loss") == [3.5]


def test_a_tensor_of_several_is_refused() -> None:
    with pytest.raises(TypeError, match=r"'loss' has the shape \(2,\)"):
        Trainer(lambda batch: torch.zeros(2), [1]).fit()


class Witness(torch.optim.SGD):
    """Remembers the rates that it read in each step."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.used: list[tuple[float, ...]] = []

    def step(self, closure: Any = None) -> Any:
        self.used.append(tuple(float(group["lr"]) for group in self.param_groups))
        return super().step(closure)


@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("listens", [True, False])
def test_tensor_rates_are_reported_as_the_last_update_read_them(
    interval: Any, dtype: torch.dtype, listens: bool
) -> None:
    parameters = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    rates = [torch.tensor(0.1, dtype=dtype), torch.tensor(0.3, dtype=dtype)]
    groups = [{"params": [p], "lr": rate} for p, rate in zip(parameters, rates, strict=True)]
    optimizer = Witness(groups, lr=torch.tensor(1.0))
    last: list[tuple[float, ...]] = []

    def step(number: int) -> Any:
        if number % 3 == 2:
            return StepResult(updated=False)
        for parameter in parameters:
            parameter.grad = torch.ones(1)
        optimizer.step()
        return None

    callback = CosineAnnealingLRCallback(T_max=5, interval=interval)
    trainer = Trainer(step, range(6), epochs=3, optimizer=optimizer, callbacks=[callback])
    if listens:
        trainer.on(StepEnd)(lambda event: None)
    trainer.on(EpochEnd)(lambda event: last.append(optimizer.used[-1]))
    history = trainer.fit()
    assert [record.lr for record in history] == last
    assert [group["lr"] for group in optimizer.param_groups] == rates
    assert all(group["lr"] is rate for group, rate in zip(optimizer.param_groups, rates, strict=True))


def test_a_scheduler_of_pytorch_that_follows_a_metric() -> None:
    _model, optimizer, data, step = training()
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    callback = LRSchedulerCallback(scheduler, monitor="val_loss")
    history = Trainer(step, data, epochs=4, optimizer=optimizer, evaluate=lambda: 1.0, callbacks=[callback]).fit()
    assert [record.lr[0] for record in history] == [0.1, 0.1, 0.05, 0.025]
    with pytest.raises(TypeError, match="if it follows a metric, name it: monitor='val_loss'"):
        LRSchedulerCallback(scheduler)


def test_a_scheduler_of_pytorch_resumes_and_starts_over() -> None:
    _model, optimizer, data, step = training()
    callback = LRSchedulerCallback(torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5))
    trainer = Trainer(step, data, optimizer=optimizer, epochs=3, callbacks=[callback])
    rates = [record.lr for record in trainer.fit()]
    state = callback.state_dict()
    assert [record.lr for record in trainer.fit(restart=True)] == rates == [(0.1,), (0.1,), (0.05,)]
    assert callback.state_dict()["scheduler"]["last_epoch"] == state["scheduler"]["last_epoch"] == 3


def test_the_best_weights_of_a_module_are_restored() -> None:
    model, optimizer, data, step = training()
    found = iter([1.0, 0.5, 2.0])
    weights: list[Any] = []
    stopper = EarlyStopping(restore_best=True)
    trainer = Trainer(
        step, data, epochs=3, model=model, optimizer=optimizer, evaluate=lambda: next(found), callbacks=[stopper]
    )
    trainer.on(EpochEnd)(lambda event: weights.append([p.detach().clone() for p in model.parameters()]))
    trainer.fit()
    assert all(torch.equal(now, best) for now, best in zip(model.parameters(), weights[1], strict=True))


class Stream(torch.utils.data.IterableDataset[int]):
    def __iter__(self) -> Any:
        return iter(range(5))


def test_a_data_loader_without_a_length() -> None:
    loader = torch.utils.data.DataLoader(Stream(), batch_size=2)
    seen: list[list[int]] = []
    history = Trainer(lambda batch: seen.append(batch.tolist()), loader, epochs=2).fit()
    assert seen == [[0, 1], [2, 3], [4]] * 2
    assert [record.steps for record in history] == [3, 3]


def test_a_run_leaves_nothing_in_the_optimizer_but_where_its_rates_start() -> None:
    _model, optimizer, data, step = training()
    before = set(vars(optimizer)), [{*group, "initial_lr"} for group in optimizer.param_groups]
    hooks = len(optimizer._optimizer_step_post_hooks)
    Trainer(step, data, epochs=3, optimizer=optimizer, callbacks=[ExponentialLRCallback(gamma=0.5)]).fit()
    assert (set(vars(optimizer)), [set(group) for group in optimizer.param_groups]) == before
    assert len(optimizer._optimizer_step_post_hooks) == hooks


def test_tensors_in_an_optimizers_groups_stay_the_objects_that_they_are_when_a_run_is_resumed() -> None:
    def built() -> tuple[torch.optim.Adam, tuple[torch.Tensor, ...], Trainer]:
        model, _optimizer, data, _step = training()
        held = torch.tensor(0.5), torch.tensor(0.9), torch.tensor(0.99)
        optimizer = torch.optim.Adam(model.parameters(), lr=held[0], betas=held[1:], foreach=False)

        def step(batch: torch.Tensor) -> torch.Tensor:
            optimizer.zero_grad()
            loss = model(batch).square().mean()
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            optimizer.step()
            return loss

        callbacks = [ExponentialLRCallback(gamma=0.5)]
        return optimizer, held, Trainer(step, data, epochs=3, model=model, optimizer=optimizer, callbacks=callbacks)

    _optimizer, _held, trainer = built()
    trainer.fit(2)
    state = trainer.state_dict()
    optimizer, held, resumed = built()
    resumed.load_state_dict(state, accept="epochs")
    (group,) = optimizer.param_groups
    assert group["lr"] is held[0]
    assert all(mine is its for mine, its in zip(group["betas"], held[1:], strict=True))
    assert float(held[0]) == 0.125
    resumed.fit()
    assert group["lr"] is held[0]
    assert float(held[0]) == 0.0625


@pytest.mark.parametrize("rate", [0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5, dtype=torch.float64)])
def test_a_rate_of_any_kind_in_a_state_is_resumed_in_a_tensor(rate: Any) -> None:
    weight, held = torch.nn.Parameter(torch.zeros(1)), torch.tensor(0.25)
    optimizer = torch.optim.SGD([weight], lr=held)
    load_optimizer(optimizer, torch.optim.SGD([weight], lr=rate).state_dict())
    (group,) = optimizer.param_groups
    assert (group["lr"] is held, float(held)) == (True, 0.5)


class FailsOnce(Dataset[int]):
    failed = False

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        if index == 5 and not self.failed:
            self.failed = True
            raise OSError("no such shard")
        return index


def test_a_loader_that_failed_gives_every_batch_once() -> None:
    torch.manual_seed(1)
    seen: list[list[int]] = []
    trainer = Trainer(lambda batch: seen.append(batch.tolist()), DataLoader(FailsOnce(), batch_size=2, shuffle=True))
    with pytest.raises(OSError, match="no such shard"):
        trainer.fit()
    assert len(seen) < 4
    trainer.fit()
    assert sorted(number for batch in seen for number in batch) == list(range(8))
